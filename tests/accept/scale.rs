//! One, ten, a hundred and a thousand containers that live at once, of which few run: what the agent takes of the host
//! while they wait, for each start, and while two run; its memory and open files; how long a question takes meanwhile.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function, Running};
use crate::watched::{Agent, Watch};

/// Up to a thousand.
pub const SCALE: Measurement = Measurement {
    name: "accept-scale",
    about: "1, 10, 100 and 1,000 living containers (`cgroup` runtime): CPU time, memory, open files, `ls`",
    runs: 1,
    run: || scale(&[1, 10, 100, 1000], Duration::from_secs(10)),
};
/// Quick: up to a hundred.
pub const QUICK: Measurement = Measurement {
    name: "bench-scale",
    about: "1, 10 and 100 living containers, as accept-scale",
    runs: 1,
    run: || scale(&[1, 10, 100], Duration::from_secs(3)),
};

/// What a start takes is over then.
const SETTLED: Duration = Duration::from_secs(3);
/// Functions, which instances beyond share.
const FUNCTIONS: usize = 100;
/// Most memory besides the rings, in MiB, by containers.
const MOST_MIB: [(usize, f64); 2] = [(100, 64.0), (1000, 128.0)];

/// A container with a process that waits; no pipe to it, or a thousand would be too many for us.
struct Waiting {
    process: Child,
    _cgroup: Cgroup,
}

impl Waiting {
    fn start(function: &Function, cgroup: Cgroup) -> anyhow::Result<Waiting> {
        let mut command = cgroup.command(function.path(), &["idle"]);
        let process = command.stdout(Stdio::null()).spawn().context("start a function")?;
        Ok(Waiting { process, _cgroup: cgroup })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scale(counts: &[usize], length: Duration) -> anyhow::Result<Vec<Bar>> {
    let function = Function::new();
    let parent = Cgroup::new();
    let path = parent.kernel_path();
    let mut agent = Agent::start(&["--no-docker", "--cgroup-parent", &path, "--unwind", "fp"]);
    let process = agent.process();
    let mut all: Vec<Waiting> = Vec::new();
    let mut bars = Vec::new();
    for &count in counts {
        let watch = Watch::start(process);
        let (before, before_ns) = (all.len(), process.cpu_ns()?);
        while all.len() < count {
            let number = all.len();
            let cgroup = parent.child(&format!("waiting-{:02}.{number}", number % FUNCTIONS));
            all.push(Waiting::start(&function, cgroup)?);
        }
        std::thread::sleep(SETTLED);
        let started_us = process.cpu_ns()?.saturating_sub(before_ns) as f64 / 1e3;
        let idle = process.cpu_percent(length)?;
        let busy = {
            let cgroups = [1, 2].map(|number| parent.child(&format!("running-{count}.{number}")));
            let burn = |cgroup: &Cgroup| {
                Running::start(&mut cgroup.command(function.path(), &["burn", "--cpu-ms", "86400000"]))
            };
            let _running = [burn(&cgroups[0]), burn(&cgroups[1])];
            process.cpu_percent(length)?
        };
        let begin = Instant::now();
        let listed = agent.fnscope().run(["ls"]);
        let ls_ms = begin.elapsed().as_secs_f64() * 1e3;
        ensure!(listed.code == Some(0), "ls: {listed:?}");
        let states = watch.finish()?;
        let mut bar = |what: &str, value, unit, bound| {
            bars.push(Bar::new(format!("{count}: {what}"), value, unit, bound));
        };
        let most_mib = MOST_MIB.iter().find(|(containers, _)| *containers == count);
        let memory = states.iter().map(|state| state.memory_mib).fold(0.0, f64::max);
        bar(
            "memory besides the rings, most",
            memory,
            "MiB",
            most_mib.map_or(Bound::Recorded, |(_, most)| Bound::AtMost(*most)),
        );
        let files = states.iter().map(|state| state.files).max().unwrap_or_default();
        bar("open files, most", files as f64, "", Bound::Recorded);
        bar("CPU time while all wait", idle, "%", Bound::Recorded);
        bar("CPU time while two run", busy, "%", Bound::Recorded);
        bar(
            "CPU time for a start, with 3 s of waiting",
            started_us / (count - before) as f64,
            "us",
            Bound::Recorded,
        );
        bar("`ls`", ls_ms, "ms", Bound::Recorded);
    }
    let rows: usize = (0..FUNCTIONS.min(all.len()))
        .map(|number| agent.instances(&format!("waiting-{number:02}")).map(|rows| rows.len()))
        .sum::<anyhow::Result<usize>>()?;
    bars.push(Bar::new("instances missing", all.len() as f64 - rows as f64, "", Bound::AtMost(0.0)));
    drop(all);
    agent.stop()?;
    Ok(bars)
}
