//! Containers that come and go, of both runtimes, each of which tells what it used.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::host::{account_us, clear_container, is_empty, remove_below};
use super::ledger::{Entry, Ledger, Life, now_ns};
use super::random::Random;
use crate::private_docker::FUNCTION_IMAGE;

/// Longest that a container of the churn lives, what is done to it included.
const LIMIT: Duration = Duration::from_secs(120);

/// What every churning thread knows.
pub struct Churn<'a> {
    /// Where lives are written down.
    pub ledger: &'a Ledger,
    /// Chance.
    pub random: &'a Random,
    /// The example function.
    pub program: &'a Path,
    /// The cgroup whose children are containers.
    pub parent: PathBuf,
    /// Docker's socket.
    pub socket: PathBuf,
    /// Set: no new container.
    pub stop: &'a AtomicBool,
    /// Counts containers.
    pub number: &'a AtomicU64,
    /// What runs, for faults to choose from.
    pub alive: Mutex<BTreeMap<String, Alive>>,
}

/// A container that runs.
#[derive(Debug, Clone)]
pub enum Alive {
    /// A cgroup's folder.
    Cgroup(PathBuf),
    /// Docker's id.
    Docker(String),
}

impl Churn<'_> {
    /// Starts containers that are cgroups, one after the other, until it is told to stop.
    pub fn cgroups(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let (function, arguments) = self.draw();
            self.cgroup(function, &arguments, None);
            self.pause();
        }
    }

    /// Starts containers of Docker until it is told to stop.
    pub fn docker(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.container();
            self.pause();
        }
    }

    /// One cgroup with a program in it, some levels down at times, to its end. With `until` it is ended when that is set.
    pub fn cgroup(&self, function: &str, arguments: &[String], until: Option<&AtomicBool>) {
        let name = format!("{function}.{}", self.number.fetch_add(1, Ordering::Relaxed));
        let dir = self.parent.join(&name);
        let depth = if until.is_some() { 0 } else { self.random.below(4) };
        let inner = (0..depth).fold(dir.clone(), |dir, level| dir.join(format!("level-{level}")));
        let begin_ns = now_ns();
        fs::create_dir_all(&inner).expect("make a cgroup");
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(inner.join("cgroup.procs"))
            .arg(self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0);
        let mut child = command.spawn().expect("start a program");
        self.alive.lock().expect("no panic holds it").insert(name.clone(), Alive::Cgroup(dir.clone()));
        if let Some(until) = until {
            while !until.load(Ordering::Relaxed) && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(100));
            }
            let _ = child.kill();
        }
        let truth = told(&mut child);
        let killed = child.wait().is_ok_and(|status| status.code().is_none());
        self.alive.lock().expect("no panic holds it").remove(&name);
        // A fault may have frozen it, or killed its first process alone.
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        wait_until(|| is_empty(&dir));
        let (account_us, end_ns) = (account_us(&dir), now_ns());
        // Whoever removes a cgroup in the millisecond of its end takes the account with it.
        std::thread::sleep(Duration::from_millis(50));
        wait_until(|| remove_below(&dir));
        let (runtime, function) = ("cgroup".into(), function.into());
        self.ledger.write(Entry::Life(Life {
            runtime,
            name,
            function,
            begin_ns,
            end_ns,
            account_us,
            told_us: truth.cpu_us,
            done_ns: truth.done_ns,
            killed,
        }));
    }

    fn container(&self) {
        let (function, arguments) = self.draw();
        let label = format!("--label=fnscope.function={function}");
        let name = format!("soak-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let mut create: Vec<&str> = vec!["create", "--network=none", "--env=TMPDIR=/", "--name", &name];
        create.extend([&label, FUNCTION_IMAGE, "/function"]);
        create.extend(arguments.iter().map(String::as_str));
        let Some(id) = self.ask(&create) else { return self.remove(&name, Instant::now() + LIMIT) };
        let begin_ns = now_ns();
        // A daemon that goes down in the middle may have started it and never have told.
        if self.ask(&["start", &id]).is_none() {
            self.remove(&name, Instant::now() + LIMIT);
            return clear_container(&id);
        }
        self.alive.lock().expect("no panic holds it").insert(id.clone(), Alive::Docker(id.clone()));
        let deadline = Instant::now() + LIMIT;
        let mut state = None;
        while state.is_none() && Instant::now() < deadline {
            // While Docker is away its containers run on.
            self.ask(&["wait", &id]);
            let told = self.ask(&["inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", &id]);
            state = told.filter(|told| told.starts_with("false"));
            if state.is_none() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        let end_ns = now_ns();
        self.alive.lock().expect("no panic holds it").remove(&id);
        let said = self.ask(&["logs", &id]).unwrap_or_default();
        let killed = state.as_deref() != Some("false 0");
        self.remove(&name, deadline);
        clear_container(&id);
        let truth = Truth::of(&said);
        let (runtime, function, account_us) = ("docker".into(), function.into(), None);
        self.ledger.write(Entry::Life(Life {
            runtime,
            name: id,
            function,
            begin_ns,
            end_ns,
            account_us,
            told_us: truth.cpu_us,
            done_ns: truth.done_ns,
            killed,
        }));
    }

    /// Removes the container called `name`, if Docker has made it. One that its end took in the middle of a start has a
    /// cgroup that nobody would ever remove, and whoever watches cgroups would hold files of it for good.
    fn remove(&self, name: &str, deadline: Instant) {
        let filter = format!("name=^/{name}$");
        let is_gone = || self.ask(&["ps", "--all", "--quiet", "--filter", &filter]).as_deref() == Some("");
        while self.ask(&["rm", "--force", name]).is_none() && !is_gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What `docker ARGUMENTS` prints; none where it fails.
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        let output = docker.stdin(Stdio::null()).process_group(0).output().expect("run docker");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn draw(&self) -> (&'static str, Vec<String>) {
        let cpu_ms = 20 + self.random.below(600);
        let functions = ["fib", "burn", "shares", "deep", "spawn", "pulse"];
        let function = *self.random.pick(&functions).expect("there are some");
        let words = match function {
            "spawn" => format!("--count {} --child-cpu-ms 2", 1 + cpu_ms / 20),
            "pulse" => format!("--count {} --cpu-us 3000 --pause-us-max 4000", 1 + cpu_ms / 6),
            _ => format!("--cpu-ms {cpu_ms}"),
        };
        (function, [function].into_iter().chain(words.split(' ')).map(String::from).collect())
    }

    fn pause(&self) {
        std::thread::sleep(Duration::from_millis(20 + self.random.below(400)));
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn told(child: &mut Child) -> Truth {
    let mut said = String::new();
    let read = child.stdout.as_mut().map(|pipe| std::io::Read::read_to_string(pipe, &mut said));
    if let Some(Ok(_)) = read { Truth::of(&said) } else { Truth::default() }
}

/// What a program told of itself on its last line; one that was killed told nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    cpu_us: Option<u64>,
    done_ns: Option<u64>,
}

impl Truth {
    fn of(said: &str) -> Truth {
        let last = said.lines().last().unwrap_or_default();
        let truth: Value = serde_json::from_str(last).unwrap_or_default();
        let number = |key: &str, scale: f64| Some((truth.get(key)?.as_f64()? * scale) as u64);
        Truth { cpu_us: number("cpu_ms", 1e3), done_ns: number("ended_ms", 1e6) }
    }
}
