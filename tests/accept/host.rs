//! The machine itself, without fnscope: how quiet it is, and what an exec costs on it. Other figures are read beside
//! these.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::measure::{Bar, Bound, Measurement};

/// The host without fnscope.
pub const QUIET: Measurement = Measurement {
    name: "bench-host",
    about: "the machine without fnscope: time taken by others, cost of an exec",
    runs: 5,
    run: quiet,
};

fn quiet() -> anyhow::Result<Vec<Bar>> {
    let begin = Instant::now();
    let burnt = function(&["burn", "--cpu-ms", "500"])?;
    let elapsed_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let cpu_ms = number(&burnt, "cpu_ms")? + number(&burnt, "exec_cpu_ms")?;

    let spawned = function(&["spawn", "--count", "300", "--child-cpu-ms", "0"])?;
    let exec_us = number(&spawned, "children_cpu_ms")? * 1000.0 / number(&spawned, "count")?;
    let rate = number(&spawned, "count")? / number(&spawned, "seconds")?;
    Ok(vec![
        Bar::new("wall time of 500 ms of CPU time", elapsed_ms / cpu_ms, "x", Bound::Recorded),
        Bar::new("CPU time of fork and exec of a static program", exec_us, "us", Bound::Recorded),
        Bar::new("execs one after the other", rate, "1/s", Bound::Recorded),
    ])
}

/// Runs the example function on the host; what it tells of itself.
fn function(arguments: &[&str]) -> anyhow::Result<Value> {
    let dir = tempfile::tempdir()?;
    let program = fnscope::functions::install(dir.path()).context("install the example function")?;
    let output = Command::new(program).args(arguments).output().context("run the example function")?;
    ensure!(output.status.success(), "function {arguments:?} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(truth: &Value, key: &str) -> anyhow::Result<f64> {
    truth.get(key).and_then(Value::as_f64).with_context(|| format!("no number `{key}` in {truth}"))
}
