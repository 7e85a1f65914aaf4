//! A warm container: many short invocations with pauses between them, out of step with the sampling clock.

use anyhow::Context as _;

use crate::measure::{Bar, Bound, Measurement};
use crate::short::run_and_remove;
use crate::support::Docker;
use crate::watched::{Agent, number};

/// Invocations of 3 ms in one container.
pub const WARM: Measurement = Measurement {
    name: "accept-warm",
    about: "5,000 invocations of 3 ms in a warm container",
    runs: 1,
    run: warm,
};

fn warm() -> anyhow::Result<Vec<Bar>> {
    let docker = Docker::new();
    let mut agent = Agent::start(&[]);
    let pulse = ["pulse", "--count", "5000", "--cpu-us", "3000", "--pause-us-max", "10000"];
    let (_, truth) = run_and_remove(&docker, "pulse", &pulse)?;
    agent.stop()?;
    let rows = agent.instances("pulse")?;
    let row = rows.first().context("the container is not in the store")?;
    let told_ms = number(&truth, "cpu_ms").context("the program tells its CPU time")?;
    let inside: u64 = (agent.folded("pulse", None)?.iter())
        .filter(|(stack, _)| stack.contains("::invoke "))
        .map(|(_, count)| count)
        .sum();
    let samples = number(row, "samples").unwrap_or(f64::NAN);
    let sampled_ms = number(row, "sampled_seconds").unwrap_or(f64::NAN) * 1e3;
    Ok(vec![
        Bar::new("coverage", number(row, "coverage").unwrap_or(f64::NAN), "", Bound::Within(0.93, 1.10)),
        Bar::new("sampled inside of invocations", inside as f64 / samples, "", Bound::Recorded),
        Bar::new("sampled, of what it told of itself", sampled_ms / told_ms, "", Bound::Recorded),
    ])
}
