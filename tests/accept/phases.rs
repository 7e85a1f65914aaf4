//! A container's phases against the program's own clocks: what its runtime took before the function's exec, what the
//! function took cold, and what warm.

use anyhow::Context as _;
use serde_json::Value;

use crate::measure::{Bar, Bound, Measurement};
use crate::short::run_and_remove;
use crate::support::Docker;
use crate::watched::{Agent, number, text};

/// Phases of real containers.
pub const PHASES: Measurement = Measurement {
    name: "accept-phases",
    about: "phases of 10 containers of 100 ms and 10 of 1.5 s of CPU time, against their own clocks",
    runs: 1,
    run: phases,
};

const COUNT: usize = 10;
/// CPU time of an instance: one is cold all its life, one becomes warm.
const LIVES_MS: [&str; 2] = ["100", "1500"];

fn phases() -> anyhow::Result<Vec<Bar>> {
    let docker = Docker::new();
    let mut agent = Agent::start(&[]);
    let mut told = Vec::new();
    for _ in 0..COUNT {
        for cpu_ms in LIVES_MS {
            told.push(run_and_remove(&docker, "phased", &["burn", "--cpu-ms", cpu_ms])?);
        }
    }
    agent.stop()?;
    let rows = agent.instances("phased")?;
    let (mut init, mut own, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for (id, truth) in &told {
        let of = |row: &&Value| id.get(..12).is_some_and(|id| text(row, "instance").starts_with(id));
        let row = rows.iter().find(of).context("a container is not in the store")?;
        let cpu_ms = |phase: &str| {
            let phases = row["phases"].as_array().into_iter().flatten();
            let found = phases.filter(|of| text(of, "phase") == phase);
            found.filter_map(|of| number(of, "cpu_seconds")).sum::<f64>() * 1e3
        };
        let clock = |key| number(truth, key).unwrap_or(f64::NAN);
        // From its exec to `main` the program's clock counts what the function's phase has: some milliseconds.
        init.push((cpu_ms("runtime-init") - clock("exec_cpu_ms")).abs());
        own.push((cpu_ms("cold") + cpu_ms("warm") - clock("cpu_ms")).abs());
        let lasted = row["phases"].as_array().into_iter().flatten().find(|of| text(of, "phase") == "cold");
        cold.push(lasted.map_or(f64::NAN, |of| number(of, "samples").unwrap_or(f64::NAN)));
    }
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Bar::new(
            "runtime's CPU time off the program's clock, worst",
            worst(&init),
            "ms",
            Bound::AtMost(20.0),
        ),
        Bar::new(
            "function's CPU time off the program's clock, worst",
            worst(&own),
            "ms",
            Bound::AtMost(20.0),
        ),
        Bar::new("samples of a cold second, most", worst(&cold), "", Bound::Recorded),
    ])
}
