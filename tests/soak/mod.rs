//! A soak: the agent beside containers that come and go, while its host goes wrong in every way that can be made here,
//! and whether what it promises holds all the same.
//!
//! | file | what |
//! |---|---|
//! | `options` | what is asked of a soak |
//! | `ledger` | what was started, done and read; outlives the program |
//! | `churn` | containers, each of which tells what it used |
//! | `faults`, `host` | what is done to the host, and how it is put back |
//! | `deck` | which fault's turn it is, and whether all had theirs: pure |
//! | `daemon` | the agent that is soaked |
//! | `judge`, `trend` | the invariants: pure |
//! | `report` | the verdict |
//!
//! In its first third agents are ended and started again; the last of them lives on to the end, and its memory is what
//! is judged. Chance is the seed's; what the host does with it is not.
//!
//! Ctrl-C is for the soak alone, which ends everything in order: what it starts is of other groups of processes.

mod churn;
mod daemon;
mod deck;
mod faults;
pub mod host;
mod judge;
mod ledger;
pub mod options;
mod random;
mod report;
mod trend;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use fnscope::model::Window;
use fnscope::query::{self, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, Function};
use churn::Churn;
use daemon::{Arguments, Daemon, ask, reading};
use faults::{HOUR_TURN, Hands, Kind};
use host::{ClockOff, Disk, Parent};
use judge::{Answers, Told};
use ledger::{Entry, Ledger, Question, now_ns};
use options::Options;
use random::Random;

/// How a soak ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every invariant holds.
    Holds,
    /// One does not; the report says which.
    Broken,
    /// By a signal: the same command goes on with it.
    Interrupted,
}

/// What is known of a soak that is not over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    boot_id: String,
    seed: u64,
    seconds_done: u64,
    sessions: u32,
    agents: u32,
    containers: u64,
    docker: Option<PathBuf>,
    /// Faults whose turn is still to come; who goes on goes on with them.
    #[serde(default)]
    deck: Vec<String>,
}

/// Goes on with the soak in its folder, or begins one, and judges it when it is over.
///
/// # Errors
/// Where the host lacks what a soak needs.
pub fn run(options: &Options) -> anyhow::Result<Ended> {
    fs::create_dir_all(&options.folder).with_context(|| format!("make {}", options.folder.display()))?;
    let folder = options.folder.canonicalize().context("look for the soak's folder")?;
    let path = |name: &str| folder.join(name);
    ClockOff::mend(&path("clock-off"))?;
    let disk = Disk::at(&path("disk"))?;
    let mut state = begin(options, &folder, &disk)?;
    state.sessions += 1;
    let ledger = Ledger::open(&path("ledger.jsonl"))?;
    eprintln!(
        "soak: seed {}, {} of {} s done, in {}",
        state.seed,
        state.seconds_done,
        options.seconds,
        folder.display()
    );
    let interrupted = interruptions()?;
    soak(options, &mut state, &folder, &disk, &ledger, interrupted)?;
    if state.seconds_done < options.seconds {
        eprintln!("soak: interrupted after {} s; run it again to go on", state.seconds_done);
        return Ok(Ended::Interrupted);
    }
    let holds = verdict(options, &state, &folder, &Fnscope::on(disk.store()))?;
    let _ = fs::remove_file(path("state.json"));
    if holds {
        disk.remove();
    } else {
        eprintln!("soak: the store stays in {} until the next soak begins", disk.store().display());
    }
    Ok(if holds { Ended::Holds } else { Ended::Broken })
}

/// The state of the soak that is to go on, or of a new one.
fn begin(options: &Options, folder: &Path, disk: &Disk) -> anyhow::Result<State> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    let file = folder.join("state.json");
    let left = fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<State>(&text).ok());
    if let Some(docker) = left.as_ref().and_then(|state| state.docker.as_ref()) {
        host::end_docker_of(docker);
    }
    // The store and the clock of the ledger end with the machine.
    let goes_on = left.filter(|state| state.boot_id == boot_id.trim() && disk.store().exists());
    if let Some(state) = goes_on.filter(|state| state.seconds_done < options.seconds) {
        return Ok(state);
    }
    for old in ["ledger.jsonl", "report.md", "report.json"] {
        let _ = fs::remove_file(folder.join(old));
    }
    let _ = fs::remove_dir_all(disk.store());
    let by_clock =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = options.seed.unwrap_or_else(by_clock);
    let boot_id = boot_id.trim().into();
    Ok(State {
        boot_id,
        seed,
        seconds_done: 0,
        sessions: 0,
        agents: 0,
        containers: 0,
        docker: None,
        deck: vec![],
    })
}

/// Whole or not at all: a soak may be killed at any moment.
fn save(state: &State, folder: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(state).context("write down the state")?;
    let next = folder.join("state.json.next");
    fs::write(&next, text)
        .and_then(|()| fs::rename(&next, folder.join("state.json")))
        .context("keep the state")
}

/// Set at SIGINT and SIGTERM.
fn interruptions() -> anyhow::Result<&'static AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let reactor =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a reactor")?;
    std::thread::spawn(move || {
        reactor.block_on(async {
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
    Ok(&INTERRUPTED)
}

/// One session: until the time is over, or it is interrupted.
fn soak(
    options: &Options,
    state: &mut State,
    folder: &Path,
    disk: &Disk,
    ledger: &Ledger,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    let parent = Parent::new()?;
    let mut docker = PrivateDocker::that_is_not_interrupted();
    state.docker = docker.socket().parent().map(Path::to_path_buf);
    save(state, folder)?;
    let function = Function::new();
    // Another row of chance for each session, and the same again for the same one.
    let random = Random::new(state.seed.wrapping_add(u64::from(state.sessions) << 32));
    let (stop, anchor_stop, number) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(state.containers));
    let churn = Churn {
        ledger,
        random: &random,
        program: function.path(),
        parent: parent.dir(),
        socket: docker.socket(),
        stop: &stop,
        number: &number,
        alive: Mutex::default(),
    };
    let config = folder.join("agent.toml");
    fs::write(&config, CONFIG).context("write the agent's configuration")?;
    let arguments = Arguments { config, socket: docker.socket(), parent: parent.kernel_path().into() };
    let mut daemon = Daemon::new(&disk.store(), arguments, ledger, state.agents);
    daemon.start();
    let process = daemon.process.clone();
    let agent_number = AtomicU32::new(daemon.number());
    let asker = Fnscope::on(disk.store());

    let outcome = std::thread::scope(|scope| {
        // Lives all the time through, so that a kill's cost can be seen at any moment.
        let pulse = ["pulse", "--count", "100000000", "--cpu-us", "3000", "--pause-us-max", "10000"]
            .map(String::from);
        let (churn, agent_number, stop, anchor_stop) = (&churn, &agent_number, &stop, &anchor_stop);
        let anchor = scope.spawn(move || churn.cgroup("anchor", &pulse, Some(anchor_stop)));
        let churning = [
            scope.spawn(|| churn.cgroups()),
            scope.spawn(|| churn.cgroups()),
            scope.spawn(|| churn.docker()),
            scope.spawn(|| questions(&asker, ledger, &random, stop)),
        ];
        let readings = scope.spawn(move || {
            while !anchor_stop.load(Ordering::Relaxed) {
                let pid = process.load(Ordering::Relaxed);
                if let Some(reading) = reading(pid, agent_number.load(Ordering::Relaxed)) {
                    ledger.write(Entry::Reading(reading));
                }
                wait(READING_EVERY, anchor_stop);
            }
        });
        let mut hands = Hands {
            daemon: &mut daemon,
            docker: &mut docker,
            churn,
            disk,
            clock_note: folder.join("clock-off"),
        };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            rounds(options, state, folder, &mut hands, agent_number, interrupted)
        }));
        // Whatever came of it, all threads end.
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<bool> = churning.into_iter().map(|thread| thread.join().is_ok()).collect();
        anchor_stop.store(true, Ordering::Relaxed);
        let ended = [ended, vec![anchor.join().is_ok(), readings.join().is_ok()]].concat();
        let done = done.map_err(|_| anyhow::anyhow!("a fault could not be done"));
        done.and_then(|done| done).and_then(|()| {
            ensure!(ended.iter().all(|ended| *ended), "a thread of the soak panicked");
            Ok(())
        })
    });
    // The last readings of what has just ended.
    std::thread::sleep(Duration::from_secs(2));
    daemon.stop();
    state.agents = daemon.number();
    state.containers = number.load(Ordering::Relaxed);
    parent.clear()?;
    drop(docker);
    state.docker = None;
    save(state, folder)?;
    outcome
}

/// Its file system is smaller than what is kept free of one by default, for which an agent drops old hours.
const CONFIG: &str = "[store]\nmin_free_bytes = \"0\"\n";
/// What the agent holds is read so often.
const READING_EVERY: Duration = Duration::from_secs(5);

/// Fault after fault, each in its turn of a shuffled deck, until the time is over.
fn rounds(
    options: &Options,
    state: &mut State,
    folder: &Path,
    hands: &mut Hands<'_, '_>,
    agent_number: &AtomicU32,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let before = state.seconds_done;
    let asked = deck::asked(options);
    let mut turned = false;
    loop {
        // So that what a fault touches and what it does not can be told apart.
        wait(options.between, interrupted);
        hands.daemon.check();
        state.seconds_done = before + began.elapsed().as_secs();
        save(state, folder)?;
        if state.seconds_done >= options.seconds || interrupted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let first_third = state.seconds_done * 3 < options.seconds;
        let kinds: Vec<Kind> = asked.iter().filter(|kind| first_third || !kind.ends_agent).copied().collect();
        let find = |name: &str| kinds.iter().find(|kind| kind.name == name).copied();
        state.deck.retain(|name| find(name).is_some());
        if state.deck.is_empty() {
            state.deck = hands.churn.random.shuffled(&deck::whole(&kinds));
        }
        // Whoever lives on from here has its size when it has sealed an hour: that is a part of its warm-up.
        if !first_third && !std::mem::replace(&mut turned, true) {
            state.deck.extend(find(HOUR_TURN).map(|kind| kind.name.into()));
        }
        let Some(kind) = state.deck.pop().and_then(|name| find(&name)) else { continue };
        hands.inject(kind)?;
        state.agents = hands.daemon.number();
        agent_number.store(state.agents, Ordering::Relaxed);
    }
}

fn wait(length: Duration, unless: &AtomicBool) {
    let deadline = Instant::now() + length;
    while Instant::now() < deadline && !unless.load(Ordering::Relaxed) {
        std::thread::sleep(
            Duration::from_millis(100).min(deadline.saturating_duration_since(Instant::now())),
        );
    }
}

/// Asks the store one question after the other.
fn questions(fnscope: &Fnscope, ledger: &Ledger, random: &Random, stop: &AtomicBool) {
    let all: [&[&str]; 9] = [
        &["ls", "--json"],
        &["instances", "--json"],
        &["top", "fib", "--json"],
        &["flame", "shares", "-o", "/dev/null"],
        &["folded", "burn"],
        &["hosts", "--json"],
        &["cold", "fib", "--json"],
        &["throttled", "--json"],
        &["doctor", "anchor"],
    ];
    while !stop.load(Ordering::Relaxed) {
        let question = random.pick(&all).expect("there are some");
        let (at_ns, began) = (now_ns(), Instant::now());
        let wrong = match ask(fnscope, question) {
            Err(error) => Some(format!("{error:#}")),
            // 1: nothing found; before the first batch there is no such function.
            Ok((Some(0 | 1), stdout, _)) => {
                let is_json = !question.contains(&"--json") || stdout.is_empty();
                let read = if is_json { Ok(Value::Null) } else { serde_json::from_str::<Value>(&stdout) };
                read.err().map(|error| format!("{error}: {}", stdout.get(..200).unwrap_or(&stdout)))
            }
            Ok((code, _, stderr)) => Some(format!("{code:?}: {}", stderr.trim())),
        };
        let (asked, took_ms) = (question.join(" "), began.elapsed().as_millis() as u64);
        ledger.write(Entry::Question(Question { asked, at_ns, took_ms, wrong }));
        wait(Duration::from_secs(1), stop);
    }
}

/// Judges the ledger and the store, and writes the report; whether every invariant holds.
fn verdict(options: &Options, state: &State, folder: &Path, fnscope: &Fnscope) -> anyhow::Result<bool> {
    let told = Told::of(Ledger::read(&folder.join("ledger.jsonl"))?);
    let verdicts = judge::judge(options, &told, &answers(fnscope)?);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let about = report::About {
        seed: state.seed,
        seconds: state.seconds_done,
        interrupted: state.sessions.saturating_sub(1),
        on: format!("fnscope {}, Linux {}", env!("CARGO_PKG_VERSION"), kernel.trim()),
    };
    for (name, text) in [
        ("report.md", report::markdown(&about, &verdicts, told.faults())),
        ("report.json", report::json(&about, &verdicts, told.faults())),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    for verdict in &verdicts {
        eprintln!("soak: {:<9} {}: {}", report::mark(verdict), verdict.invariant, verdict.figures);
        verdict.broken.iter().take(10).for_each(|line| eprintln!("soak:             {line}"));
    }
    eprintln!("soak: the report is {}", folder.join("report.md").display());
    Ok(verdicts.iter().all(|verdict| verdict.holds != Some(false)))
}

/// Everything that the store has.
fn answers(fnscope: &Fnscope) -> anyhow::Result<Answers> {
    let rows = |question: &str| -> anyhow::Result<Vec<Value>> {
        let (code, stdout, stderr) = ask(fnscope, &[question, "--json"])?;
        ensure!(code == Some(0), "`fnscope {question}` ended with {code:?}: {stderr}");
        Ok(serde_json::from_str(&stdout)?)
    };
    let (functions, instances, hosts) = (rows("ls")?, rows("instances")?, rows("hosts")?);
    let mut folded = BTreeMap::new();
    for row in &functions {
        let Some(function) = row["function"].as_str() else { continue };
        let (_, stdout, _) = ask(fnscope, &["folded", function, "--phase", "all"])?;
        folded.insert(function.to_owned(), stdout);
    }
    let view = query::open_for(&[fnscope.store()], Window::ALL, Scope::All, |_, _| {})?;
    let told = view.damage().iter().map(|damage| {
        // A set tells so of the journal that it was made from.
        let torn = damage.torn_end || damage.what.contains("ends without its closing frame");
        (format!("{}: at byte {}: {}", damage.file.display(), damage.offset, damage.what), torn)
    });
    let damage = told.collect();
    Ok(Answers { instances, functions, hosts, folded, damage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_soak_left_is_gone_on_with() {
        let left = r#"{"boot_id": "b", "seed": 7, "seconds_done": 60, "sessions": 1, "agents": 2, "containers": 90, "docker": null}"#;
        let state: State = serde_json::from_str(left).expect("a state without a deck");
        assert_eq!((state.seconds_done, state.deck.len()), (60, 0));
        let fault = r#"{"what":"fault","kind":"freeze","begin_ns":1,"end_ns":2,"note":"","done":true}"#;
        let read: Entry = serde_json::from_str(fault).expect("a line of its ledger");
        assert!(matches!(read, Entry::Fault(fault) if fault.done && fault.kind == "freeze"));
    }
}
