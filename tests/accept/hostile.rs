//! Hostile tenants of full size: whether the agent stays within its budget, and what the tenant beside them is told.

use std::time::Instant;

use crate::hostile_program::{Hostile, MODES, Mode, SPENDERS, good, seen};
use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function};
use crate::watched::{Agent, Watch};

/// Each of them, with both kinds of stacks.
pub const HOSTILE: Measurement = Measurement {
    name: "accept-hostile",
    about: "forks, execs, mappings, cgroups, names, stacks, symbols, perf maps of one tenant beside another",
    runs: 1,
    run: hostile,
};

/// How long execs last, and how long the others: as long as the tenant beside them works, and its end.
const EXECS_SECONDS: u32 = 20;
const SECONDS: u32 = 12;
/// At 997 Hz these are some ten thousand samples, whose shares are right to a point and a half.
const GOOD_MS: u32 = 10_000;

fn hostile() -> anyhow::Result<Vec<Bar>> {
    let (hostile, function) = (Hostile::new(), Function::new());
    let mut bars = Vec::new();
    for unwind in ["fp", "auto"] {
        for mode in &MODES {
            bars.extend(beside(&hostile, &function, mode, unwind)?);
        }
    }
    Ok(bars)
}

fn beside(hostile: &Hostile, function: &Function, mode: &Mode, unwind: &str) -> anyhow::Result<Vec<Bar>> {
    let parent = Cgroup::new();
    let path = parent.kernel_path();
    let budget = ["--budget-cpu", "2%", "--budget-memory", "256MiB"];
    let common = ["--no-docker", "--hz", "997", "--unwind", unwind, "--cgroup-parent", &path];
    let mut agent = Agent::start(&[&common[..], &budget].concat());
    let (bad, beside) = (parent.child("bad"), parent.child("good"));
    let (watch, before_ns, begin) =
        (Watch::start(agent.process()), agent.process().cpu_ns()?, Instant::now());
    let seconds = if mode.name == "execs" { EXECS_SECONDS } else { SECONDS };
    let busy = hostile.start(&bad, mode, mode.many, seconds);
    let truth = good(function, &beside, GOOD_MS);
    let (code, said) = busy.wait();
    anyhow::ensure!(code == Some(0), "{}: {said}", mode.name);
    bad.wait_until_empty();
    let used_ns = agent.process().cpu_ns()?.saturating_sub(before_ns) as f64;
    let cpus = std::thread::available_parallelism()?.get() as f64;
    let percent = used_ns / begin.elapsed().as_nanos() as f64 / cpus * 100.0;
    let memory = watch.finish()?.iter().map(|state| state.memory_mib).fold(0.0, f64::max);
    agent.stop()?;
    let (samples, shares) = seen(&agent.fnscope().folded("good"));
    let off = shares.iter().zip(truth).map(|(seen, told)| (seen - told).abs() * 100.0).fold(0.0, f64::max);
    let name = |what: &str| format!("{} ({unwind}): {what}", mode.name);
    Ok(vec![
        Bar::new(name("memory, most"), memory, "MiB", Bound::AtMost(256.0)),
        Bar::new(name("CPU time of all CPUs"), percent, "%", Bound::AtMost(2.0)),
        Bar::new(
            name(&format!("the other's {} shares, off", SPENDERS.len())),
            off,
            "points",
            Bound::AtMost(3.0),
        ),
        Bar::new(name("the other's samples"), samples as f64, "", Bound::AtLeast(5_000.0)),
    ])
}
