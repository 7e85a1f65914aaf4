//! A running agent under measurement: the built release binary with a store of its own, what it takes of the machine,
//! and what its store answers.
//!
//! Figures of the process come from `/proc`: CPU time from the scheduler's own account in nanoseconds, memory without
//! the rings it shares with the kernel, open files.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::support::{Cgroup, Fnscope, Running};

/// The agent and its store.
pub struct Agent {
    fnscope: Fnscope,
    running: Option<Running>,
}

impl Agent {
    /// Starts it with `arguments` and waits until it watches, Docker included unless it is told not to ask it.
    pub fn start(arguments: &[&str]) -> Agent {
        let mut agent = Agent { fnscope: Fnscope::new(), running: None };
        agent.start_again(arguments);
        agent
    }

    /// Starts it on one runtime alone, that of the key `runtimes.NAME` at `socket`, and waits until that answers.
    pub fn start_on(name: &str, socket: &Path, arguments: &[&str]) -> Agent {
        let fnscope = Fnscope::new();
        let mut command = fnscope.command([&["agent", "--no-docker"], arguments].concat());
        command.env(format!("FNSCOPE_RUNTIMES_{}", name.to_uppercase()), socket);
        let mut running = Running::start(&mut command);
        running.wait_for_all(&[" watching ", "runtime answers"]);
        Agent { fnscope, running: Some(running) }
    }

    /// Starts it inside `cgroup`, whose account then has all it ever takes.
    pub fn start_in(cgroup: &Cgroup, arguments: &[&str]) -> Agent {
        let mut agent = Agent { fnscope: Fnscope::new(), running: None };
        let plain = agent.fnscope.command(["agent"]);
        let mut command = cgroup.command(Path::new(plain.get_program()), &[&["agent"], arguments].concat());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        agent.watch(Running::start(&mut command), arguments);
        agent
    }

    /// Starts another one on the same store; the one before has ended.
    pub fn start_again(&mut self, arguments: &[&str]) {
        let running = self.fnscope.start(["agent"].iter().chain(arguments));
        self.watch(running, arguments);
    }

    fn watch(&mut self, mut running: Running, arguments: &[&str]) {
        let mut wanted = vec!["watching"];
        if !arguments.contains(&"--no-docker") {
            wanted.push("runtime answers");
        }
        // They come in any order.
        while !wanted.is_empty() {
            let line = running.wait_for("");
            wanted.retain(|text| !line.contains(text));
        }
        self.running = Some(running);
    }

    /// Its process, for readings.
    pub fn process(&self) -> Process {
        Process(self.running.as_ref().map_or(0, Running::pid))
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(rustix::process::Signal::KILL);
            running.wait();
        }
    }

    /// Ends it in order, so that all it knows is stored; the last line that it said.
    pub fn stop(&mut self) -> anyhow::Result<String> {
        let running = self.running.take().context("the agent runs")?;
        let (code, said) = running.stop();
        let last = said.lines().last().unwrap_or_default();
        eprintln!("{last}");
        ensure!(code == Some(0), "the agent ended with {code:?}:\n{said}");
        Ok(last.into())
    }

    /// The store's directory and the commands that read it.
    pub fn fnscope(&self) -> &Fnscope {
        &self.fnscope
    }

    /// Rows of `instances FUNCTION`; none where the store knows no such function.
    pub fn instances(&self, function: &str) -> anyhow::Result<Vec<Value>> {
        self.rows(&["instances", function])
    }

    /// Rows of `ls`.
    pub fn functions(&self) -> anyhow::Result<Vec<Value>> {
        self.rows(&["ls"])
    }

    fn rows(&self, question: &[&str]) -> anyhow::Result<Vec<Value>> {
        let ended = self.fnscope.run(question.iter().chain(&["--json"]));
        if ended.code == Some(1) {
            return Ok(Vec::new());
        }
        ensure!(ended.code == Some(0), "{question:?}: {ended:?}");
        Ok(serde_json::from_str(&ended.stdout)?)
    }

    /// Stacks with their counts, of one instance or of all of them.
    pub fn folded(&self, function: &str, instance: Option<&str>) -> anyhow::Result<Vec<(String, u64)>> {
        let mut question = vec!["folded", function];
        question.extend(instance.iter().flat_map(|key| ["--instance", *key]));
        let ended = self.fnscope.run(&question);
        ensure!(matches!(ended.code, Some(0 | 1)), "{question:?}: {ended:?}");
        let line = |line: &str| {
            let (stack, count) = line.rsplit_once(' ').context("a line is a stack and a count")?;
            anyhow::Ok((stack.to_owned(), count.parse()?))
        };
        ended.stdout.lines().map(line).collect()
    }
}

/// A number in a row of an answer; none where it is null.
pub fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

/// A text in a row of an answer; empty where it is null.
pub fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Readings of a process.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// CPU time of its threads that live, in nanoseconds.
    pub fn cpu_ns(self) -> anyhow::Result<u64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).context("list the agent's threads")?;
        let mut sum = 0;
        for thread in threads {
            // One that has just ended is none that lives.
            let account = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            sum += account.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }

    /// CPU time over `length`, as a share of one CPU in per cent.
    pub fn cpu_percent(self, length: Duration) -> anyhow::Result<f64> {
        let (begin, before) = (Instant::now(), self.cpu_ns()?);
        std::thread::sleep(length);
        let used_ns = self.cpu_ns()?.saturating_sub(before);
        Ok(used_ns as f64 / begin.elapsed().as_nanos() as f64 * 100.0)
    }

    fn state(self) -> anyhow::Result<State> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.0)).context("read the agent's status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: Option<f64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        let files = fs::read_dir(format!("/proc/{}/fd", self.0)).context("list the agent's open files")?;
        Ok(State {
            memory_mib: kib.context("no RssAnon in the agent's status")? / 1024.0,
            files: files.count(),
        })
    }
}

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct State {
    /// Memory of its own: without its program's pages and without the rings it shares with the kernel.
    pub memory_mib: f64,
    /// Open files.
    pub files: usize,
}

/// Reads a process's state ten times a second, on a thread of its own, until it is asked for the answer.
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<Vec<State>>>,
}

impl Watch {
    /// Begins.
    pub fn start(process: Process) -> Watch {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut states = Vec::new();
            while stopped.recv_timeout(Duration::from_millis(100)).is_err() {
                states.push(process.state()?);
            }
            Ok(states)
        });
        Watch { stop, thread }
    }

    /// Ends; what was read.
    pub fn finish(self) -> anyhow::Result<Vec<State>> {
        self.stop.send(()).ok();
        self.thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
    }
}

/// The most of what `of` finds in each quarter of `states`.
pub fn quarters(states: &[State], of: impl Fn(&State) -> f64) -> [f64; 4] {
    let part = states.len().div_ceil(4).max(1);
    let mut most = [f64::NAN; 4];
    for (most, quarter) in most.iter_mut().zip(states.chunks(part)) {
        *most = quarter.iter().map(&of).fold(f64::NEG_INFINITY, f64::max);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_the_most_of_each() {
        let states: Vec<State> =
            [1, 9, 2, 3, 8, 4, 5, 6].map(|files| State { files, memory_mib: 0.0 }).into_iter().collect();
        assert_eq!(quarters(&states, |state| state.files as f64), [9.0, 3.0, 8.0, 6.0]);
        assert!(quarters(&[], |state| state.memory_mib).iter().all(|most| most.is_nan()));
    }

    #[test]
    fn this_process_is_read() {
        let own = Process(std::process::id());
        let before = own.cpu_ns().unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(5) {
            std::hint::black_box(0);
        }
        assert!(own.cpu_ns().unwrap() > before);
        let state = own.state().unwrap();
        assert!(state.files >= 3 && state.memory_mib > 0.1, "{state:?}");
    }
}
