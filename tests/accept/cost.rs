//! What profiling costs: the agent against `perf record`, `perf script` and a collapse of what that prints, and against
//! bpftrace, on the same load at the same rate, each from its start to its end, named stage by stage. Bars for a sample are on
//! whole lives: start, naming, storing and end are part of what an agent takes; what it takes without its start is recorded
//! beside them. Beside perf it is the other way round: an agent starts once for as long as its host runs, in a turn of two
//! minutes its start would be a quarter of all that it takes, while perf's pipeline is paid whole for each profile.
//!
//! Not here: time that the kernel spends on taking a sample in whatever runs: `slowdown.rs` has that.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::{Folder, Options};
use rustix::time::{ClockId, clock_gettime};

use crate::bpftrace;
use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function, Running};
use crate::watched::{Agent, number};

/// Quick: CPU time of profiling two busy CPUs.
pub const QUICK: Measurement = Measurement {
    name: "bench-cost",
    about: "CPU time of the agent (frame pointers) while two CPUs are busy, against perf on the same load",
    runs: 1,
    run: quick,
};
/// At the rate that is the default.
pub const AT_199: Measurement = Measurement {
    name: "accept-cost-199",
    about: "CPU time of the agent's whole life for a sample, two CPUs busy, 130 s each at 199 Hz",
    runs: 1,
    run: || lives("199", [Duration::from_secs(130); 2], 8.0),
};
/// At a high rate.
pub const AT_997: Measurement = Measurement {
    name: "accept-cost-997",
    about: "CPU time of the agent's whole life for a sample, two CPUs busy, 90 s and 30 s at 997 Hz",
    runs: 1,
    run: || lives("997", [Duration::from_secs(90), Duration::from_secs(30)], 2.5),
};
/// Beside the other tools.
pub const BESIDE: Measurement = Measurement {
    name: "accept-cost-beside",
    about: "the agent for 120 s and the perf pipeline for 40 s, `auto` 10 s, bpftrace 2 s, in turns at 997 Hz, for a sample",
    runs: 5,
    run: beside,
};

/// How long each of them watches in the quick version.
const SHORT: Duration = Duration::from_secs(8);
/// How long the agent watches beside perf, and how long perf. What the agent's end takes depends little on how long it
/// lived, 45 ms after one minute as after two, and it ends as seldom as it starts; what perf's pipeline takes for a sample
/// does not depend on it at all.
const TURN: Duration = Duration::from_secs(120);
const PERF_TURN: Duration = Duration::from_secs(40);
/// How long those that no bar is on: the agent as it is by default, and bpftrace, which takes longer to print every stack
/// than to watch, in step with its samples.
const AUTO_TURN: Duration = Duration::from_secs(10);
const BPFTRACE_TURN: Duration = Duration::from_secs(2);
/// After the start, before the steady pace of the agent is measured.
const SETTLED: Duration = Duration::from_secs(2);
const ENOUGH_SAMPLES: f64 = 50_000.0;
/// How walks are made: as asked for in budgets, and as they are by default.
const UNWIND: [&str; 2] = ["fp", "auto"];

/// What one of them took.
pub struct Cost {
    /// CPU time by stage in microseconds, in the order of the stages.
    pub stages: Vec<(&'static str, f64)>,
    /// How long it watched.
    pub seconds: f64,
    /// Samples in its answer.
    pub samples: f64,
}

impl Cost {
    /// CPU time for a sample, in microseconds.
    pub fn us_a_sample(&self) -> f64 {
        self.cpu_us() / self.samples
    }

    fn cpu_us(&self) -> f64 {
        self.stages.iter().map(|(_, us)| us).sum()
    }

    fn us_a_second(&self) -> f64 {
        self.cpu_us() / self.seconds
    }

    /// CPU time for a sample without what happens once, however long it watches, in microseconds.
    fn us_a_sample_without_start(&self) -> f64 {
        let started = |(stage, us): &(&str, f64)| if *stage == START { 0.0 } else { *us };
        self.stages.iter().map(started).sum::<f64>() / self.samples
    }
}

/// The stage in which a tool is made ready, before it watches.
pub const START: &str = "start";

/// Two busy functions, until this is dropped.
struct Load {
    _running: [Running; 2],
    _children: [Cgroup; 2],
    parent: Cgroup,
    _function: Function,
}

impl Load {
    fn start() -> Load {
        let function = Function::new();
        let parent = Cgroup::new();
        let children = [parent.child("fib.1"), parent.child("shares.1")];
        let busy = |cgroup: &Cgroup, what| {
            Running::start(&mut cgroup.command(function.path(), &[what, "--cpu-ms", "86400000"]))
        };
        let _running = [busy(&children[0], "fib"), busy(&children[1], "shares")];
        Load { _running, _children: children, parent, _function: function }
    }
}

fn quick() -> anyhow::Result<Vec<Bar>> {
    let load = Load::start();
    let has_perf = Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_perf {
        eprintln!("bench-cost: there is no perf here to compare with");
    }
    let mut bars = Vec::new();
    for hz in ["199", "997"] {
        let (ours, steady_us) = agent(&load.parent, hz, &["--unwind", "fp"], SHORT)?;
        let mut record = |what: &str, value, unit| {
            bars.push(Bar::new(format!("{hz} Hz: {what}"), value, unit, Bound::Recorded));
        };
        record("agent, for a sample", ours.us_a_sample(), "us");
        record("agent without its start, for a sample", ours.us_a_sample_without_start(), "us");
        record("agent, for a second once it runs", steady_us, "us");
        if has_perf {
            let theirs = perf(hz, &["-g"], &[], SHORT)?;
            record("perf, for a sample", theirs.us_a_sample(), "us");
            record("perf over agent, for a sample", theirs.us_a_sample() / ours.us_a_sample(), "x");
            let without_start = ours.us_a_sample_without_start();
            record("perf over agent without its start", theirs.us_a_sample() / without_start, "x");
        }
    }
    Ok(bars)
}

/// Whole lives of the agent at `hz`, for each way to walk as long as `lengths` says. `most_us` is the bar with frame
/// pointers: start, naming, storing and the end included.
fn lives(hz: &str, lengths: [Duration; 2], most_us: f64) -> anyhow::Result<Vec<Bar>> {
    let load = Load::start();
    let mut bars = Vec::new();
    for (unwind, length) in UNWIND.into_iter().zip(lengths) {
        let (life, _) = agent(&load.parent, hz, &["--unwind", unwind], length)?;
        let barred = |bound| if unwind == "fp" { bound } else { Bound::Recorded };
        let mut bar = |what: &str, value, unit, bound| {
            bars.push(Bar::new(format!("{unwind}: {what}"), value, unit, bound));
        };
        bar("samples", life.samples, "", Bound::AtLeast(ENOUGH_SAMPLES));
        bar("whole life, for a sample", life.us_a_sample(), "us", barred(Bound::AtMost(most_us)));
        bar("without its start, for a sample", life.us_a_sample_without_start(), "us", Bound::Recorded);
        let of_a_core = life.us_a_second() / 1e4;
        // At 997 Hz five times the samples: the bar is the default's.
        let core = if hz == "199" { barred(Bound::AtMost(0.6)) } else { Bound::Recorded };
        bar("whole life, of a core", of_a_core, "%", core);
        for (stage, us) in &life.stages {
            bar(stage, us / 1e3, "ms", Bound::Recorded);
        }
    }
    Ok(bars)
}

/// One round: each of the tools has a turn on the same load, a different one first in each run.
fn beside() -> anyhow::Result<Vec<Bar>> {
    let load = Load::start();
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let first = FIRST.fetch_add(1, Ordering::Relaxed);
    let has_bpftrace = bpftrace::runs();
    let mut costs: [Option<Cost>; 4] = [const { None }; 4];
    let mut kernel_us = f64::NAN;
    for turn in 0..costs.len() {
        let tool = (turn + first) % costs.len();
        costs[tool] = match tool {
            0 | 1 => {
                Some(agent(&load.parent, "997", &["--unwind", UNWIND[tool]], [TURN, AUTO_TURN][tool])?.0)
            }
            2 => Some(perf("997", &["-g"], &[], PERF_TURN)?),
            _ if has_bpftrace => {
                let (cost, kernel) = bpftrace::cost("997", BPFTRACE_TURN)?;
                kernel_us = kernel;
                Some(cost)
            }
            _ => None,
        };
    }
    let [Some(fp), Some(auto), Some(perf), bpftrace] = costs else {
        unreachable!("three have had their turn")
    };
    let mut bars = Vec::new();
    let tools = [
        ("agent fp", Some(&fp)),
        ("agent auto", Some(&auto)),
        ("perf -a -g", Some(&perf)),
        ("bpftrace", bpftrace.as_ref()),
    ];
    for (tool, cost) in tools {
        let Some(cost) = cost else { continue };
        let mut bar = |what: &str, value, unit| {
            bars.push(Bar::new(format!("{tool}: {what}"), value, unit, Bound::Recorded));
        };
        bar("for a sample", cost.us_a_sample(), "us");
        for (stage, us) in &cost.stages {
            bar(stage, us / cost.samples, "us");
        }
        bar("samples", cost.samples, "");
    }
    if bpftrace.is_some() {
        let what = "bpftrace: its program in the kernel";
        bars.push(Bar::new(what, kernel_us, "us", Bound::Recorded));
    }
    let times = |ours: f64, theirs: &Cost| theirs.us_a_sample() / ours;
    bars.push(Bar::new(
        "perf over agent fp, whole lives",
        times(fp.us_a_sample(), &perf),
        "x",
        Bound::Recorded,
    ));
    bars.push(Bar::new(
        "perf over agent fp without its start",
        times(fp.us_a_sample_without_start(), &perf),
        "x",
        Bound::AtLeast(20.0),
    ));
    bars.push(Bar::new(
        "perf over agent auto, whole lives",
        times(auto.us_a_sample(), &perf),
        "x",
        Bound::Recorded,
    ));
    if let Some(bpftrace) = &bpftrace {
        bars.push(Bar::new(
            "bpftrace over agent fp, whole lives",
            times(fp.us_a_sample(), bpftrace),
            "x",
            Bound::Recorded,
        ));
    }
    Ok(bars)
}

/// The agent from start to end, with `options` of its own, and microseconds a second of its steady pace.
pub fn agent(parent: &Cgroup, hz: &str, options: &[&str], length: Duration) -> anyhow::Result<(Cost, f64)> {
    let cgroup = Cgroup::new();
    let path = parent.kernel_path();
    let arguments = [&["--no-docker", "--cgroup-parent", &path, "--hz", hz], options].concat();
    let mut agent = Agent::start_in(&cgroup, &arguments);
    let (begin, started_us) = (Instant::now(), cgroup.cpu_us() as f64);
    std::thread::sleep(SETTLED);
    let steady_us = agent.process().cpu_percent(length.saturating_sub(SETTLED))? * 1e4;
    let (seconds, watched_us) = (begin.elapsed().as_secs_f64(), cgroup.cpu_us() as f64);
    agent.stop()?;
    let ended_us = cgroup.cpu_us() as f64;
    let samples = agent.functions()?.iter().filter_map(|row| number(row, "samples")).sum();
    let stages =
        vec![(START, started_us), ("watching", watched_us - started_us), ("end", ended_us - watched_us)];
    Ok((Cost { stages, seconds, samples }, steady_us))
}

/// perf from its start to folded stacks, recorded and printed with these options.
pub fn perf(hz: &str, recorded: &[&str], printed: &[&str], length: Duration) -> anyhow::Result<Cost> {
    let dir = tempfile::tempdir()?;
    let (data, script, folded) =
        (dir.path().join("data"), dir.path().join("script"), dir.path().join("folded"));
    let data_text = data.to_string_lossy();
    let cgroup = Cgroup::new();
    let run = |arguments: &[&str], stdout: Stdio| {
        let before_us = cgroup.cpu_us();
        let mut command = cgroup.command("perf".as_ref(), arguments);
        let output = command.stdout(stdout).stderr(Stdio::piped()).output().context("run perf")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "perf {arguments:?}: {}: {complaint}", output.status);
        anyhow::Ok((cgroup.cpu_us() - before_us) as f64)
    };
    let begin = Instant::now();
    let seconds = length.as_secs().to_string();
    let record =
        ["record", "-e", "cpu-clock", "-F", hz, "-a", "--clockid", "CLOCK_MONOTONIC", "-o", &data_text];
    let record_us = run(&[&record[..], recorded, &["--", "sleep", &seconds]].concat(), Stdio::null())?;
    let seconds = begin.elapsed().as_secs_f64();
    let script_us = run(&[&["script", "-i", &data_text], printed].concat(), File::create(&script)?.into())?;

    let before_us = thread_cpu_us();
    let mut out = io::BufWriter::new(File::create(&folded)?);
    Folder::from(Options::default()).collapse(BufReader::new(File::open(&script)?), &mut out)?;
    out.flush()?;
    let collapse_us = thread_cpu_us() - before_us;
    // A sample is a line with its frames indented below.
    let lines = BufReader::new(File::open(&script)?).split(b'\n');
    let is_sample = |line: &Vec<u8>| line.first().is_some_and(|first| !first.is_ascii_whitespace());
    let samples = lines.map_while(Result::ok).filter(is_sample).count() as f64;
    let stages = vec![("record", record_us), ("script", script_us), ("collapse", collapse_us)];
    Ok(Cost { stages, seconds, samples })
}

/// CPU time of this thread in microseconds.
fn thread_cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
