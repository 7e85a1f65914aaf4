//! The agent under soak: the built program as a daemon, watched all its life.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fnscope::model::{Timestamp, Window};
use fnscope::query::{self, PhaseFilter};
use rustix::process::Signal;

use super::ledger::{AgentLife, Broken, Entry, Ledger, Loss, Reading, now_ns};
use crate::support::{Fnscope, Running, catches};

/// What is asked of it on the command line, beside its store.
pub struct Arguments {
    /// Its configuration file.
    pub config: PathBuf,
    /// Docker's socket.
    pub socket: PathBuf,
    /// The cgroup whose children are containers.
    pub parent: String,
}

/// Agents, one after the other, on one store.
pub struct Daemon<'a> {
    fnscope: Fnscope,
    arguments: Arguments,
    ledger: &'a Ledger,
    running: Option<Running>,
    number: u32,
    begin_ns: u64,
    /// The process of the one that runs, for whoever reads its figures; 0 for none.
    pub process: Arc<AtomicU32>,
}

impl<'a> Daemon<'a> {
    /// None runs yet. `before` have run on this store.
    pub fn new(store: &Path, arguments: Arguments, ledger: &'a Ledger, before: u32) -> Daemon<'a> {
        let fnscope = Fnscope::on(store.into());
        let process = Arc::default();
        Daemon { fnscope, arguments, ledger, running: None, number: before, begin_ns: 0, process }
    }

    /// The command line on its store.
    pub fn fnscope(&self) -> &Fnscope {
        &self.fnscope
    }

    /// Counted from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Starts one and waits until it watches.
    pub fn start(&mut self) {
        let plain =
            self.fnscope.command(["agent", "--cgroup-parent", &self.arguments.parent, "--docker-socket"]);
        // It ends with this program, however that ends: the next soak needs its store.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(plain.get_program()).args(plain.get_args());
        command.arg(&self.arguments.socket).arg("--config").arg(&self.arguments.config);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut running = Running::start(command.stdin(std::process::Stdio::null()).process_group(0));
        running.wait_for(" watching ");
        (self.number, self.begin_ns) = (self.number + 1, now_ns());
        self.process.store(running.pid(), Ordering::Relaxed);
        self.running = Some(running);
    }

    /// Sends it `signal` and goes on.
    pub fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    /// Whether it takes SIGHUP as more than its end.
    pub fn takes_hangup(&self) -> bool {
        catches(self.process.load(Ordering::Relaxed), Signal::HUP)
    }

    /// Ends it in order; a second of its life may still be on its way to the store.
    pub fn stop(&mut self) {
        self.end("TERM", Signal::TERM);
    }

    /// Kills it; what its last seconds cost is written down.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let (wall, at_ns) = (wall_now(), now_ns());
        self.end("KILL", Signal::KILL);
        // Each store is read by itself, a journal without an end too.
        let window = Window { from: wall.plus_us(-20_000_000), to: wall.plus_us(1_000_000) };
        let view = query::open(self.fnscope.store(), window, |_, _| {})?;
        let seen = query::stacks(&view, &view.select(None, &[])?, PhaseFilter::All).seen;
        let lost_us = seen.map_or(20_000_000, |(_, last)| wall.since_us(last).max(0));
        self.ledger.write(Entry::Loss(Loss { at_ns, lost_ms: lost_us.unsigned_abs() / 1000 }));
        Ok(())
    }

    /// Writes down what it held, if it runs; starts another one if it has ended by itself, which is wrong.
    pub fn check(&mut self) {
        let pid = self.process.load(Ordering::Relaxed);
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = state.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
        if self.running.is_some() && ended {
            self.end("itself", Signal::CONT);
            let seen = format!("agent {} ended by itself", self.number);
            self.ledger.write(Entry::Broken(Broken {
                at_ns: now_ns(),
                invariant: "an agent ends when it is told to".into(),
                seen,
            }));
            self.start();
        }
    }

    fn end(&mut self, how: &str, signal: Signal) {
        let Some(running) = self.running.take() else { return };
        self.process.store(0, Ordering::Relaxed);
        let (end_ns, began) = (now_ns(), Instant::now());
        running.signal(signal);
        let (_, said) = running.wait();
        let loud = |line: &&str| [" WARN ", " ERROR ", "panicked"].iter().any(|mark| line.contains(mark));
        self.ledger.write(Entry::Agent(AgentLife {
            number: self.number,
            begin_ns: self.begin_ns,
            end_ns,
            how: how.into(),
            drain_ms: began.elapsed().as_millis() as u64,
            log: said.lines().filter(loud).map(String::from).collect(),
        }));
    }
}

fn wall_now() -> Timestamp {
    let clock = fnscope::perf::Clock::read();
    clock.wall(now_ns())
}

/// What process `pid` holds; none if it has gone.
pub fn reading(pid: u32, agent: u32) -> Option<Reading> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let memory_kib = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    let mut kinds = BTreeMap::new();
    for file in std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let link = std::fs::read_link(file.path()).unwrap_or_default();
        *kinds.entry(kind(&link.to_string_lossy())).or_default() += 1;
    }
    Some(Reading { agent, at_ns: now_ns(), memory_kib, files: kinds.values().sum(), kinds })
}

/// What an open file is, by its link: the folder at the root where it lies, or what the kernel calls it.
fn kind(link: &str) -> String {
    match link.strip_prefix('/') {
        Some(path) => path.split('/').next().unwrap_or_default().into(),
        // `socket:[4711]`, `anon_inode:[perf_event]`.
        None => link.trim_end_matches(|c: char| c == ']' || c.is_ascii_digit()).into(),
    }
}

/// A command that fnscope answers, with a limit in time.
pub fn ask(fnscope: &Fnscope, question: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let mut command = Command::new("timeout");
    let plain = fnscope.command(question);
    command.arg(LIMIT.as_secs().to_string()).arg(plain.get_program()).args(plain.get_args());
    command.env("FNSCOPE_STORE", fnscope.store()).stdin(std::process::Stdio::null());
    let output = command.process_group(0).output().context("run fnscope")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

/// Longest that an answer may take on a busy host.
const LIMIT: Duration = Duration::from_secs(60);
