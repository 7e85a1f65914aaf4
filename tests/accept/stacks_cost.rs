//! What native stacks cost: the whole agent for a sample, beside perf doing the same; the agent's memory with many
//! containers of many binaries.
//!
//! Copies are always on here (`stack.unwind = "dwarf"`). Not here: what they cost the function: `slowdown.rs`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cost;
use crate::measure::{Bar, Bound, Measurement};
use crate::stacks::{C_USUAL, CPP_USUAL, GO_USUAL, RUST_USUAL};
use crate::stacks_opinion::DWARF;
use crate::support::{Cgroup, Running};
use crate::truth::programs::{Build, Program};
use crate::watched::{Agent, Watch};

/// Cost of a sample.
pub const COST: Measurement = Measurement {
    name: "accept-stacks-cost",
    about: "CPU time of the whole agent for a sample with its stack's copy, against perf on the same load",
    runs: 3,
    run: a_sample,
};
/// The agent's memory.
pub const MEMORY: Measurement = Measurement {
    name: "accept-stacks-memory",
    about: "memory of the agent, rings apart, with 100 containers of 20 binaries",
    runs: 1,
    run: memory,
};

/// How long the agent watches at 199 Hz, and each of the two at 997 Hz.
const SLOW: Duration = Duration::from_secs(20);
const FAST: Duration = Duration::from_secs(10);
/// Busy CPUs, each with as many samples a second as the rate says.
const BUSY: f64 = 2.0;
const DAY_MS: &str = "86400000";
const COPIES: &str = "[stack]\nunwind = \"dwarf\"\n";

/// A configuration file that turns copies on.
struct Config {
    path: String,
    _dir: tempfile::TempDir,
}

impl Config {
    fn new() -> anyhow::Result<Config> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fnscope.toml");
        fs::write(&path, COPIES)?;
        Ok(Config { path: path.to_str().context("a plain path")?.into(), _dir: dir })
    }
}

fn a_sample() -> anyhow::Result<Vec<Bar>> {
    let (program, config) = (Program::make(C_USUAL)?, Config::new()?);
    let _plugin = HostPlugin::install(&program)?;
    let parent = Cgroup::new();
    let (one, two) = (parent.child("truth.1"), parent.child("truth.2"));
    let busy = |cgroup: &Cgroup| Running::start(&mut cgroup.command(&program.path(), &["calls", DAY_MS]));
    let _load = (busy(&one), busy(&two));
    let options = ["--config", &config.path];
    let (slow, slow_us) = cost::agent(&parent, "199", &options, SLOW)?;
    let (fast, fast_us) = cost::agent(&parent, "997", &options, FAST)?;
    // Inlined functions would cost perf many times as much; fnscope shows none unasked.
    let perf = cost::perf("997", &["--call-graph", DWARF, "-m", "4096"], &["--no-inline"], FAST)?;
    let steady = |us_a_second: f64, hz: f64| us_a_second / (BUSY * hz);
    let times = |agent_us: f64| perf.us_a_sample() / agent_us;
    Ok(vec![
        // The start (the kernel's symbols) is once in an agent's life and so apart.
        Bar::new(
            "199 Hz: agent once it runs, for a sample",
            steady(slow_us, 199.0),
            "us",
            Bound::AtMost(30.0),
        ),
        Bar::new("199 Hz: agent with its start, for a sample", slow.us_a_sample(), "us", Bound::Recorded),
        Bar::new("199 Hz: samples", slow.samples, "", Bound::Recorded),
        Bar::new(
            "997 Hz: agent once it runs, for a sample",
            steady(fast_us, 997.0),
            "us",
            Bound::AtMost(15.0),
        ),
        Bar::new("997 Hz: agent with its start, for a sample", fast.us_a_sample(), "us", Bound::Recorded),
        Bar::new("997 Hz: samples", fast.samples, "", Bound::Recorded),
        Bar::new("997 Hz: perf, for a sample", perf.us_a_sample(), "us", Bound::Recorded),
        Bar::new("997 Hz: samples of perf", perf.samples, "", Bound::Recorded),
        Bar::new("997 Hz: perf over agent with its start", times(fast.us_a_sample()), "x", Bound::Recorded),
        Bar::new(
            "997 Hz: perf over agent once it runs",
            times(steady(fast_us, 997.0)),
            "x",
            Bound::AtLeast(10.0),
        ),
    ])
}

/// The program's library where it looks for it, on the host; removed when dropped.
struct HostPlugin(Option<std::path::PathBuf>);

impl HostPlugin {
    fn install(program: &Program) -> anyhow::Result<HostPlugin> {
        let to = Path::new("/libtruth.so");
        ensure!(!to.exists(), "{} is here already; remove it", to.display());
        let from = program.path().with_file_name("libtruth.so");
        fs::copy(from, to).with_context(|| format!("copy to {}", to.display()))?;
        Ok(HostPlugin(Some(to.into())))
    }
}

impl Drop for HostPlugin {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_file(path);
        }
    }
}

const CONTAINERS: usize = 100;
/// Builds of each language.
const VARIANTS: u32 = 5;

fn memory() -> anyhow::Result<Vec<Bar>> {
    let mut programs = Vec::new();
    for variant in 1..=VARIANTS {
        for build in [C_USUAL, CPP_USUAL, RUST_USUAL, GO_USUAL] {
            programs.push(Program::make(Build { variant, ..build })?);
        }
    }
    let config = Config::new()?;
    let mut agent = Agent::start(&["--hz", "199", "--config", &config.path]);
    let watch = Watch::start(agent.process());
    let mut all = Containers(Vec::new());
    for program in programs.iter().cycle().take(CONTAINERS) {
        all.start(program)?;
    }
    // The last ones have work to do.
    std::thread::sleep(Duration::from_secs(10));
    let states = watch.finish()?;
    let functions = agent.functions()?;
    drop(all);
    agent.stop()?;
    let most = states.iter().map(|state| state.memory_mib).fold(0.0, f64::max);
    let files = states.iter().map(|state| state.files as f64).fold(0.0, f64::max);
    Ok(vec![
        Bar::new("binaries", functions.len() as f64, "", Bound::AtLeast(programs.len() as f64)),
        Bar::new("memory, most", most, "MiB", Bound::AtMost(120.0)),
        Bar::new("open files, most", files, "", Bound::Recorded),
    ])
}

/// Containers that stay; removed when dropped.
struct Containers(Vec<String>);

impl Containers {
    fn start(&mut self, program: &Program) -> anyhow::Result<()> {
        let label = format!("fnscope.function={}-{}", program.build.name, program.build.variant);
        let output = Command::new("docker")
            .args(["run", "--detach", "--network", "none", "--label", &label, &program.image])
            .args(["all", "300", "stay"])
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "docker run: {}", String::from_utf8_lossy(&output.stderr));
        self.0.push(String::from_utf8_lossy(&output.stdout).trim().into());
        Ok(())
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let removed = Command::new("docker").args(["rm", "--force"]).args(&self.0).output();
        if let Err(error) = removed {
            eprintln!("remove containers: {error}");
        }
    }
}
