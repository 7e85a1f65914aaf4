//! Why the default is 199 Hz: how far shares of functions are off the truth in windows of ten seconds of CPU time at
//! each of five rates, and what the agent takes meanwhile, drawn as `docs/rates.svg`.
//!
//! The truth is the programs' own clocks. Two CPUs are busy: two windows at a time.
//! `ACCEPT_RATES_ROUNDS=2` makes it shorter, and its percentile rougher.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::rates_plot::{Point, svg, theory_points};
use crate::shares::{NAMES, count};
use crate::support::{Cgroup, Function, Running, truth};
use crate::watched::{Agent, number};

/// Five rates and their picture.
pub const RATES: Measurement = Measurement {
    name: "bench-rates",
    about: "error of functions' shares and the agent's CPU time at five rates; writes docs/rates.svg",
    runs: 1,
    run: rates,
};

const HZ: [u32; 5] = [49, 99, 199, 499, 997];
/// CPU time of a window, in seconds.
const WINDOW_S: f64 = 10.0;
/// Windows at a time.
const AT_ONCE: usize = 2;
const ROUNDS: usize = 8;
/// What the program's functions take of its time.
const SHARES: [f64; 3] = [0.6, 0.3, 0.1];

fn rates() -> anyhow::Result<Vec<Bar>> {
    let rounds = match std::env::var("ACCEPT_RATES_ROUNDS") {
        Ok(text) => text
            .parse::<usize>()
            .ok()
            .filter(|rounds| *rounds > 0)
            .context("ACCEPT_RATES_ROUNDS is a number")?,
        Err(_) => ROUNDS,
    };
    let mut points = Vec::new();
    for hz in HZ {
        points.push(at_rate(hz, rounds)?);
        eprintln!("bench-rates: {:?}", points.last());
    }
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rates.svg");
    fs::write(&picture, svg(&points, WINDOW_S)).with_context(|| format!("write {}", picture.display()))?;
    let mut bars = Vec::new();
    for point in points {
        let mut bar = |what: &str, value, unit| {
            bars.push(Bar::new(format!("{} Hz: {what}", point.hz), value, unit, Bound::Recorded));
        };
        bar("error of a share, p95", point.error_points, "points");
        bar(
            "the same, of independent samples",
            theory_points(&SHARES, f64::from(point.hz) * WINDOW_S),
            "points",
        );
        bar("agent's CPU time", point.cpu_percent, "%");
    }
    Ok(bars)
}

fn at_rate(hz: u32, rounds: usize) -> anyhow::Result<Point> {
    let (function, parent) = (Function::new(), Cgroup::new());
    let path = parent.kernel_path();
    let hz_text = hz.to_string();
    let mut agent =
        Agent::start(&["--no-docker", "--cgroup-parent", &path, "--unwind", "fp", "--hz", &hz_text]);
    let cpu_ms = (WINDOW_S * 1e3).to_string();
    let (mut told, mut used_ns, mut lasted) = (Vec::new(), 0, std::time::Duration::ZERO);
    for round in 0..rounds {
        let windows: Vec<String> =
            (0..AT_ONCE).map(|at| format!("window-{}", round * AT_ONCE + at)).collect();
        let cgroups: Vec<Cgroup> = windows.iter().map(|name| parent.child(name)).collect();
        let (begin, before_ns) = (std::time::Instant::now(), agent.process().cpu_ns()?);
        let start = |cgroup: &Cgroup| {
            Running::start(&mut cgroup.command(function.path(), &["shares", "--cpu-ms", &cpu_ms]))
        };
        let running: Vec<Running> = cgroups.iter().map(start).collect();
        for (name, running) in windows.into_iter().zip(running) {
            let (code, said) = running.wait();
            ensure!(code == Some(0), "the function ended with {code:?}: {said}");
            told.push((name, truth(&said)));
        }
        used_ns += agent.process().cpu_ns()?.saturating_sub(before_ns);
        lasted += begin.elapsed();
    }
    agent.stop()?;
    let mut errors = Vec::new();
    for (window, truth) in &told {
        let stacks = agent.folded(window, None)?;
        let seen = NAMES.map(|name| count(&stacks, |stack| stack.contains(&format!("::{name} "))));
        let told = NAMES.map(|name| number(truth, name).unwrap_or(f64::NAN));
        // Of what the three took together on both sides: what lies between them is nobody's share.
        let (all_seen, all_told) = (seen.iter().sum::<f64>(), told.iter().sum::<f64>());
        ensure!(all_seen > 0.0, "{window} has no samples");
        errors.extend((0..NAMES.len()).map(|at| (seen[at] / all_seen - told[at] / all_told).abs() * 100.0));
    }
    errors.sort_by(f64::total_cmp);
    let rank = (errors.len() * 95).div_ceil(100).max(1);
    let error_points = errors.get(rank - 1).copied().unwrap_or(f64::NAN);
    Ok(Point { hz, error_points, cpu_percent: used_ns as f64 / lasted.as_nanos() as f64 * 100.0 })
}
