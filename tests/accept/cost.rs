//! What profiling costs: the agent against `perf record`, `perf script` and a collapse of what that prints, on the
//! same load at the same rate, each from its start to its end.
//!
//! Not here: time that the kernel spends on taking a sample, which is the same for both and nobody's account.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::{Folder, Options};
use rustix::time::{ClockId, clock_gettime};

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function, Running};
use crate::watched::{Agent, number};

/// CPU time of profiling two busy CPUs.
pub const COST: Measurement = Measurement {
    name: "bench-cost",
    about: "CPU time of the agent while two CPUs are busy, against perf on the same load",
    runs: 3,
    run: cost,
};

/// How long each of them watches.
const LENGTH: Duration = Duration::from_secs(10);
/// After the start, before the steady pace of the agent is measured.
const SETTLED: Duration = Duration::from_secs(2);

/// What one of them took.
pub struct Cost {
    cpu_us: f64,
    seconds: f64,
    /// Samples in its answer.
    pub samples: f64,
}

impl Cost {
    /// CPU time for a sample, in microseconds.
    pub fn us_a_sample(&self) -> f64 {
        self.cpu_us / self.samples
    }

    fn us_a_second(&self) -> f64 {
        self.cpu_us / self.seconds
    }
}

fn cost() -> anyhow::Result<Vec<Bar>> {
    let function = Function::new();
    let parent = Cgroup::new();
    let (one, two) = (parent.child("fib.1"), parent.child("shares.1"));
    let day = ["--cpu-ms", "86400000"];
    let busy = |cgroup: &Cgroup, what| {
        Running::start(&mut cgroup.command(function.path(), &[&[what], &day[..]].concat()))
    };
    let _load = (busy(&one, "fib"), busy(&two, "shares"));
    let has_perf = Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_perf {
        eprintln!("bench-cost: there is no perf here to compare with");
    }
    let mut bars = Vec::new();
    for hz in ["199", "997"] {
        let (ours, steady_us) = agent(&parent, hz, &[], LENGTH)?;
        let mut record = |what: &str, value, unit| {
            bars.push(Bar::new(format!("{hz} Hz: {what}"), value, unit, Bound::Recorded));
        };
        record("agent, for a sample", ours.us_a_sample(), "us");
        record("agent, for a second of the host", ours.us_a_second(), "us");
        record("agent, for a second once it runs", steady_us, "us");
        if has_perf {
            let theirs = perf(hz, &["-g"], &[], LENGTH)?;
            record("perf, for a sample", theirs.us_a_sample(), "us");
            record("perf, for a second of the host", theirs.us_a_second(), "us");
            record("agent over perf, for a sample", ours.us_a_sample() / theirs.us_a_sample(), "x");
            record("agent over perf, for a second", ours.us_a_second() / theirs.us_a_second(), "x");
        }
    }
    Ok(bars)
}

/// The agent from start to end, with `options` of its own, and microseconds a second of its steady pace.
pub fn agent(parent: &Cgroup, hz: &str, options: &[&str], length: Duration) -> anyhow::Result<(Cost, f64)> {
    let cgroup = Cgroup::new();
    let begin = Instant::now();
    let path = parent.kernel_path();
    let arguments = [&["--no-docker", "--cgroup-parent", &path, "--hz", hz], options].concat();
    let mut agent = Agent::start_in(&cgroup, &arguments);
    std::thread::sleep(SETTLED);
    let steady_us = agent.process().cpu_percent(length.saturating_sub(SETTLED))? * 1e4;
    agent.stop()?;
    let seconds = begin.elapsed().as_secs_f64();
    let samples = agent.functions()?.iter().filter_map(|row| number(row, "samples")).sum();
    Ok((Cost { cpu_us: cgroup.cpu_us() as f64, seconds, samples }, steady_us))
}

/// perf from its start to folded stacks, recorded and printed with these options.
pub fn perf(hz: &str, recorded: &[&str], printed: &[&str], length: Duration) -> anyhow::Result<Cost> {
    let dir = tempfile::tempdir()?;
    let (data, script, folded) =
        (dir.path().join("data"), dir.path().join("script"), dir.path().join("folded"));
    let data_text = data.to_string_lossy();
    let cgroup = Cgroup::new();
    let run = |arguments: &[&str], stdout: Stdio| {
        let mut command = cgroup.command("perf".as_ref(), arguments);
        let output = command.stdout(stdout).stderr(Stdio::piped()).output().context("run perf")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "perf {arguments:?}: {}: {complaint}", output.status);
        anyhow::Ok(())
    };
    let begin = Instant::now();
    let seconds = length.as_secs().to_string();
    let record =
        ["record", "-e", "cpu-clock", "-F", hz, "-a", "--clockid", "CLOCK_MONOTONIC", "-o", &data_text];
    run(&[&record[..], recorded, &["--", "sleep", &seconds]].concat(), Stdio::null())?;
    let seconds = begin.elapsed().as_secs_f64();
    run(&[&["script", "-i", &data_text], printed].concat(), File::create(&script)?.into())?;

    let before_us = thread_cpu_us();
    let mut out = io::BufWriter::new(File::create(&folded)?);
    Folder::from(Options::default()).collapse(BufReader::new(File::open(&script)?), &mut out)?;
    out.flush()?;
    let collapse_us = thread_cpu_us() - before_us;
    // A sample is a line with its frames indented below.
    let lines = BufReader::new(File::open(&script)?).split(b'\n');
    let is_sample = |line: &Vec<u8>| line.first().is_some_and(|first| !first.is_ascii_whitespace());
    let samples = lines.map_while(Result::ok).filter(is_sample).count() as f64;
    Ok(Cost { cpu_us: cgroup.cpu_us() as f64 + collapse_us, seconds, samples })
}

/// CPU time of this thread in microseconds.
fn thread_cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
