//! Many short instances: whether any is missing from the store, and whether the agent's memory and open files stay
//! where they are.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::short::run_and_remove;
use crate::support::{Cgroup, Docker, Function};
use crate::watched::{Agent, Process, State, Watch, number, quarters};

/// Cgroups made, used once and removed.
pub const CGROUPS: Measurement = Measurement {
    name: "accept-storm-cgroup",
    about: "300 starts a second for 20 s, each in a cgroup of its own that goes with it",
    runs: 1,
    run: cgroups,
};

/// Containers.
pub const DOCKER: Measurement = Measurement {
    name: "accept-storm-docker",
    about: "150 `docker run --rm` in 60 s, several at a time",
    runs: 1,
    run: docker,
};

/// Names that the instances of a storm share.
const FUNCTIONS: [&str; 3] = ["storm-a", "storm-b", "storm-c"];

/// Starts at a fixed pace.
struct Pace {
    count: usize,
    a_second: f64,
    clients: usize,
}

fn cgroups() -> anyhow::Result<Vec<Bar>> {
    let pace = Pace { count: 6000, a_second: 300.0, clients: 8 };
    let function = Function::new();
    let parent = Cgroup::new();
    let mut agent =
        Agent::start(&["--unwind", "fp", "--no-docker", "--cgroup-parent", &parent.kernel_path()]);
    let storm = pace.run(agent.process(), |number| {
        let cgroup = parent.child(&format!("{}.{number}", name(number)));
        let mut command = cgroup.command(function.path(), &["burn", "--cpu-ms", "1"]);
        let status = command.stdout(Stdio::null()).status().context("start a shell")?;
        ensure!(status.success(), "start {number} ended with {status}");
        Ok(())
    })?;
    agent.stop()?;
    let mut bars =
        vec![Bar::new("starts a second", storm.a_second, "1/s", Bound::AtLeast(0.99 * pace.a_second))];
    bars.extend(storm.bars(&agent)?);
    Ok(bars)
}

fn docker() -> anyhow::Result<Vec<Bar>> {
    let pace = Pace { count: 160, a_second: 160.0 / 58.0, clients: 4 };
    let docker = Docker::new();
    let mut agent = Agent::start(&["--unwind", "fp"]);
    let storm = pace.run(agent.process(), |number| {
        run_and_remove(&docker, name(number), &["burn", "--cpu-ms", "20"]).map(|_| ())
    })?;
    agent.stop()?;
    let in_a_minute = storm.a_second * 60.0;
    let mut bars = vec![Bar::new("starts in a minute", in_a_minute, "", Bound::AtLeast(150.0))];
    bars.extend(storm.bars(&agent)?);
    Ok(bars)
}

fn name(number: usize) -> &'static str {
    FUNCTIONS[number % FUNCTIONS.len()]
}

/// A storm that is over.
struct Storm {
    started: usize,
    /// Ended, not only begun.
    a_second: f64,
    states: Vec<State>,
    agent_cpu_us: f64,
}

impl Pace {
    /// Calls `start` for each number when its time has come, from several threads, while `agent` is watched.
    fn run(
        &self,
        agent: Process,
        start: impl Fn(usize) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<Storm> {
        let (watch, before_ns) = (Watch::start(agent), agent.cpu_ns()?);
        let (next, begin) = (AtomicUsize::new(0), Instant::now());
        let client = || -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.count {
                    return Ok(());
                }
                let due = begin + Duration::from_secs_f64(number as f64 / self.a_second);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                start(number)?;
            }
        };
        let clients = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join()).collect::<Vec<_>>()
        });
        for client in clients {
            client.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let a_second = self.count as f64 / begin.elapsed().as_secs_f64();
        let agent_cpu_us = agent.cpu_ns()?.saturating_sub(before_ns) as f64 / 1e3;
        Ok(Storm { started: self.count, a_second, states: watch.finish()?, agent_cpu_us })
    }
}

impl Storm {
    fn bars(&self, agent: &Agent) -> anyhow::Result<Vec<Bar>> {
        let listed: f64 = agent.functions()?.iter().filter_map(|row| number(row, "instances")).sum();
        let mut rows = Vec::new();
        for function in FUNCTIONS {
            rows.extend(agent.instances(function)?);
        }
        let missing = self.started as f64 - listed.min(rows.len() as f64);
        let share = |test: &dyn Fn(&serde_json::Value) -> bool| {
            rows.iter().filter(|row| test(row)).count() as f64 / self.started as f64
        };
        let known = share(&|row| number(row, "coverage").is_some());
        let ended = share(&|row| row.get("ended_at").is_some_and(|at| !at.is_null()));
        let [.., memory_2, _, memory_4] = quarters(&self.states, |state| state.memory_mib);
        let [.., files_2, _, files_4] = quarters(&self.states, |state| state.files as f64);
        let most = |of: fn(&State) -> f64| self.states.iter().map(of).fold(0.0, f64::max);
        Ok(vec![
            Bar::new("instances missing", missing, "", Bound::AtMost(0.0)),
            Bar::new("memory, most", most(|state| state.memory_mib), "MiB", Bound::AtMost(64.0)),
            Bar::new("memory, growth after half time", memory_4 - memory_2, "MiB", Bound::AtMost(2.0)),
            Bar::new("open files, most", most(|state| state.files as f64), "", Bound::AtMost(512.0)),
            Bar::new("open files, growth after half time", files_4 - files_2, "", Bound::AtMost(32.0)),
            Bar::new("instances whose coverage is known", known, "", Bound::Recorded),
            Bar::new("instances whose end is known", ended, "", Bound::Recorded),
            Bar::new(
                "agent's CPU time for a start",
                self.agent_cpu_us / self.started as f64,
                "us",
                Bound::Recorded,
            ),
        ])
    }
}
