//! Whether a profile says what ran: shares of named functions against what they took by their own clock, and two
//! containers at once that must not mix.

use std::thread;

use anyhow::Context as _;

use crate::measure::{Bar, Bound, Measurement};
use crate::short::run_and_remove;
use crate::support::Docker;
use crate::watched::{Agent, number};

/// Three functions at 60, 30 and 10 %, beside another container.
pub const SHARES: Measurement = Measurement {
    name: "accept-shares",
    about: "functions at 60, 30 and 10 % against their own clock, two containers at once",
    runs: 1,
    run: shares,
};

/// The program's functions, by share.
pub const NAMES: [&str; 3] = ["spend_sixty", "spend_thirty", "spend_ten"];
const CPU_MS: &str = "8000";

fn shares() -> anyhow::Result<Vec<Bar>> {
    let docker = Docker::new();
    let mut agent = Agent::start(&["--hz", "997"]);
    let truth = thread::scope(|scope| {
        let other = scope.spawn(|| run_and_remove(&docker, "fib", &["fib", "--cpu-ms", CPU_MS]));
        let ours = run_and_remove(&docker, "shares", &["shares", "--cpu-ms", CPU_MS]);
        other.join().map_err(|_| anyhow::anyhow!("the other container panicked"))??;
        ours.map(|(_, truth)| truth)
    })?;
    agent.stop()?;

    let stacks = agent.folded("shares", None)?;
    let samples = count(&stacks, |_| true);
    let mut bars = vec![Bar::new("samples of the shares", samples, "", Bound::AtLeast(5000.0))];
    let told = |name| number(&truth, name).with_context(|| format!("no `{name}` in {truth}"));
    let total = NAMES.iter().map(|name| told(name)).sum::<anyhow::Result<f64>>()?;
    for name in NAMES {
        let seen = count(&stacks, |stack| stack.contains(&format!("::{name} "))) / samples;
        let off = (seen - told(name)? / total).abs() * 100.0;
        bars.push(Bar::new(format!("{name}, off the truth"), off, "points", Bound::AtMost(3.0)));
    }
    let others = agent.folded("fib", None)?;
    bars.push(Bar::new(
        "samples of the other container",
        count(&others, |_| true),
        "",
        Bound::AtLeast(5000.0),
    ));
    let strange = count(&stacks, |stack| stack.contains("fib"))
        + count(&others, |stack| stack.contains("spend") || stack.contains("shares"));
    bars.push(Bar::new("samples with the other container's frames", strange, "", Bound::AtMost(0.0)));
    Ok(bars)
}

/// Samples whose stack is one of those `wanted`.
pub fn count(stacks: &[(String, u64)], wanted: impl Fn(&str) -> bool) -> f64 {
    stacks.iter().filter(|(stack, _)| wanted(stack)).map(|(_, count)| *count as f64).sum()
}
