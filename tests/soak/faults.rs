//! What is done to the host while the agent watches it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal};

use super::churn::{Alive, Churn};
use super::daemon::{Daemon, ask};
use super::host::{ClockOff, CpuOff, Disk};
use super::ledger::{Entry, Fault, now_ns};
use crate::private_docker::PrivateDocker;

/// A fault: its name, and whether it ends the agent, which is done in the first part of a soak only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Whether the agent that runs is another one after it.
    pub ends_agent: bool,
}

const fn kind(name: &'static str) -> Kind {
    Kind { name, ends_agent: false }
}

/// All of them.
pub const KINDS: [Kind; 13] = [
    Kind { name: "agent-term", ends_agent: true },
    Kind { name: "agent-kill", ends_agent: true },
    kind("agent-hangup"),
    kind("docker-term"),
    kind("docker-kill"),
    kind("disk-full"),
    kind(CLOCK_STEP),
    kind(HOUR_TURN),
    kind("cpu-off"),
    kind("kills"),
    kind("freeze"),
    kind("exec-burst"),
    kind("short-lives"),
];

/// The one that everything on the host sees: its wall clock is stepped, and back.
pub const CLOCK_STEP: &str = "clock-step";

/// The same to where the hour after the next one turns: whatever is done at the turn of an hour is done again and again.
pub const HOUR_TURN: &str = "hour-turn";

/// What faults are done with.
pub struct Hands<'a, 'b> {
    /// The agent.
    pub daemon: &'a mut Daemon<'b>,
    /// Docker.
    pub docker: &'a mut PrivateDocker,
    /// The containers.
    pub churn: &'a Churn<'b>,
    /// The store's file system.
    pub disk: &'a Disk,
    /// Where it is noted how far the clock is off.
    pub clock_note: PathBuf,
}

impl Hands<'_, '_> {
    /// Does it, and writes down when.
    pub fn inject(&mut self, kind: Kind) -> anyhow::Result<()> {
        let begin_ns = now_ns();
        let outcome = match kind.name {
            "agent-term" => self.agent_restart(false)?,
            "agent-kill" => self.agent_restart(true)?,
            "agent-hangup" => self.hangup(),
            "docker-term" => self.docker_restart(false),
            "docker-kill" => self.docker_restart(true),
            "disk-full" => self.disk_full(),
            CLOCK_STEP => self.clock_step(),
            HOUR_TURN => self.hour_turn(),
            "cpu-off" => self.cpu_off(),
            "kills" => self.kills(),
            "freeze" => self.freeze(),
            "exec-burst" => self.burst("spawn", &["--count", "300", "--child-cpu-ms", "0"]),
            _ => self.short_lives(),
        };
        let (done, note) = match outcome {
            Ok(note) => (true, note),
            Err(note) => (false, note),
        };
        eprintln!("soak: {}: {}{note}", kind.name, if done { "" } else { "NOT DONE: " });
        let kind = kind.name.into();
        self.churn.ledger.write(Entry::Fault(Fault { kind, begin_ns, end_ns: now_ns(), note, done }));
        Ok(())
    }

    fn some_ms(&self, least: u64, more: u64) -> Duration {
        Duration::from_millis(least + self.churn.random.below(more))
    }

    fn agent_restart(&mut self, kill: bool) -> anyhow::Result<Result<String, String>> {
        if kill {
            self.daemon.kill()?;
        } else {
            self.daemon.stop();
        }
        let mut note = String::from("started again");
        if self.churn.random.below(2) == 0 {
            // What is left of the journal of the one before is then sealed, or stays, as `seal` decides.
            let (code, _, said) = ask(self.daemon.fnscope(), &["seal"])?;
            note = format!("`fnscope seal` ended with {code:?}, then started again");
            if code != Some(0) {
                note = format!("{note}: {}", said.lines().last().unwrap_or_default());
            }
        }
        std::thread::sleep(self.some_ms(0, 1500));
        self.daemon.start();
        Ok(Ok(note))
    }

    fn hangup(&mut self) -> Result<String, String> {
        if !self.daemon.takes_hangup() {
            return Err("this agent ends at SIGHUP".into());
        }
        self.daemon.signal(Signal::HUP);
        std::thread::sleep(Duration::from_secs(1));
        Ok("SIGHUP".into())
    }

    fn docker_restart(&mut self, kill: bool) -> Result<String, String> {
        if kill {
            self.docker.kill();
        } else {
            self.docker.stop();
        }
        std::thread::sleep(self.some_ms(0, 3000));
        self.docker.start();
        Ok(format!("{}, then started again; its containers ran on", if kill { "SIGKILL" } else { "SIGTERM" }))
    }

    fn disk_full(&mut self) -> Result<String, String> {
        if !self.disk.may_be_filled() {
            return Err("the store has no file system of its own: mount failed".into());
        }
        self.disk.fill().map_err(|error| format!("{error:#}"))?;
        std::thread::sleep(self.some_ms(2000, 4000));
        self.disk.free();
        Ok("no byte left, then room again".into())
    }

    fn clock_step(&mut self) -> Result<String, String> {
        let seconds = [-90, -5, 5, 90][self.churn.random.below(4) as usize];
        let off = ClockOff::new(seconds, &self.clock_note).map_err(|error| format!("{error:#}"))?;
        std::thread::sleep(self.some_ms(2000, 3000));
        drop(off);
        Ok(format!("{seconds} s, then back"))
    }

    fn hour_turn(&mut self) -> Result<String, String> {
        // A journal that was turned stays for samples up to an hour late, and so would not turn again in the next one.
        const HOURS: u64 = 2;
        const BEFORE_S: u64 = 3;
        /// Journals turn at the first samples of an hour, and are sealed seconds later.
        const BEHIND_S: u64 = 12;
        let since =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
        let seconds = (HOURS * 3600 - since.as_secs() % 3600).saturating_sub(BEFORE_S);
        let seconds = i64::try_from(seconds).map_err(|error| error.to_string())?;
        let off = ClockOff::new(seconds, &self.clock_note).map_err(|error| format!("{error:#}"))?;
        std::thread::sleep(Duration::from_secs(BEFORE_S + BEHIND_S));
        drop(off);
        Ok(format!("{seconds} s, over the turn of an hour, then back"))
    }

    fn cpu_off(&mut self) -> Result<String, String> {
        let off = CpuOff::new().map_err(|error| format!("{error:#}"))?;
        std::thread::sleep(self.some_ms(500, 3000));
        drop(off);
        Ok("one off, then on".into())
    }

    fn kills(&mut self) -> Result<String, String> {
        let mut killed = 0;
        for _ in 0..6 {
            match self.any_alive() {
                Some(Alive::Cgroup(dir)) => {
                    let all: Vec<i32> = processes(&dir);
                    let chosen = self.churn.random.pick(&all).copied();
                    let gone = chosen
                        .and_then(Pid::from_raw)
                        .map(|pid| rustix::process::kill_process(pid, Signal::KILL));
                    killed += u32::from(gone.is_some_and(|gone| gone.is_ok()));
                }
                Some(Alive::Docker(id)) => killed += u32::from(self.churn.ask(&["kill", &id]).is_some()),
                None => {}
            }
            std::thread::sleep(self.some_ms(50, 400));
        }
        something(killed, format!("{killed} of 6 attempts killed something"))
    }

    fn freeze(&mut self) -> Result<String, String> {
        let mut frozen = 0;
        for _ in 0..3 {
            let time = self.some_ms(300, 1200);
            match self.any_alive() {
                Some(Alive::Cgroup(dir)) => {
                    frozen += u32::from(fs::write(dir.join("cgroup.freeze"), "1").is_ok());
                    std::thread::sleep(time);
                    let _ = fs::write(dir.join("cgroup.freeze"), "0");
                }
                Some(Alive::Docker(id)) => {
                    frozen += u32::from(self.churn.ask(&["pause", &id]).is_some());
                    std::thread::sleep(time);
                    self.churn.ask(&["unpause", &id]);
                }
                None => {}
            }
        }
        something(frozen, format!("{frozen} of 3 attempts froze something"))
    }

    fn burst(&mut self, function: &str, arguments: &[&str]) -> Result<String, String> {
        let words: Vec<String> = [&[function], arguments].concat().into_iter().map(String::from).collect();
        self.churn.cgroup(function, &words, None);
        Ok(words.join(" "))
    }

    /// Cgroups of some milliseconds, as fast as they can be made.
    fn short_lives(&mut self) -> Result<String, String> {
        let words = ["fib", "--cpu-ms", "3"].map(String::from);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..8).for_each(|_| self.churn.cgroup("fib", &words, None)));
            }
        });
        Ok("32 cgroups of 3 ms".into())
    }

    fn any_alive(&self) -> Option<Alive> {
        let alive = self.churn.alive.lock().expect("no panic holds it");
        // The one that lives all the time through stays as it is.
        let all: Vec<&Alive> =
            alive.iter().filter(|(name, _)| !name.starts_with("anchor")).map(|(_, one)| one).collect();
        self.churn.random.pick(&all).map(|one| (*one).clone())
    }
}

/// Attempts of which none came to anything are no fault done.
fn something(times: u32, note: String) -> Result<String, String> {
    if times == 0 { Err(note) } else { Ok(note) }
}

fn processes(dir: &std::path::Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        all.extend(processes(&entry.path()));
    }
    all
}
