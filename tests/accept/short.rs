//! Functions that live for 50 to 300 ms: whether each is seen, whole and by name.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Docker, truth};
use crate::watched::{Agent, number, text};

/// Containers that live for 50 to 300 ms.
pub const SHORT: Measurement = Measurement {
    name: "accept-short",
    about: "25 `docker run --rm` each of 50, 100 and 300 ms of CPU time",
    runs: 3,
    run: || short(&[], &KINDS).map(|(_, bars)| bars),
};

/// The same where the kernel holds the scope; for lives of 300 ms and more.
pub const PER_CGROUP: Measurement = Measurement {
    name: "accept-per-cgroup",
    about: "25 `docker run --rm` of 300 ms of CPU time, events scoped by cgroups",
    runs: 1,
    run: || short(&["--attach", "per-cgroup"], &KINDS[2..]).map(|(_, bars)| bars),
};

/// And where the time off the CPU is recorded as well.
pub const OFF_CPU: Measurement = Measurement {
    name: "accept-off-cpu",
    about: "25 `docker run --rm` of 300 ms of CPU time, whose time off the CPU is recorded",
    runs: 1,
    run: || {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("fnscope.toml");
        std::fs::write(&config, "[off_cpu]\nfunctions = [\"burn300\"]\n").context("write a configuration")?;
        let config = config.to_str().context("a plain path")?;
        let (agent, mut bars) = short(&["--config", config], &KINDS[2..])?;
        let rows = agent.instances("burn300")?;
        let known = rows.iter().filter(|row| number(row, "off_cpu_seconds").is_some()).count();
        let known = known as f64 / COUNT as f64;
        bars.push(Bar::new("instances whose time off the CPU is known", known, "", Bound::AtLeast(0.95)));
        Ok(bars)
    },
};

/// Containers of each kind.
pub const COUNT: usize = 25;

/// A kind of container.
pub struct Kind {
    /// Its function.
    pub function: &'static str,
    /// The CPU time that it takes.
    pub cpu_ms: &'static str,
    coverage: Bound,
    /// Whether it lives long enough to be seen in its own code for sure.
    named: bool,
}

/// Lives of 50, 100 and 300 ms.
pub const KINDS: [Kind; 3] = [
    Kind { function: "burn50", cpu_ms: "50", coverage: Bound::Within(0.93, 1.10), named: false },
    Kind { function: "burn100", cpu_ms: "100", coverage: Bound::Within(0.95, 1.08), named: true },
    Kind { function: "burn300", cpu_ms: "300", coverage: Bound::Within(0.95, 1.08), named: true },
];

/// An agent with `options` that has watched `kinds`, and how good what it has stored is.
fn short(options: &[&str], kinds: &[Kind]) -> anyhow::Result<(Agent, Vec<Bar>)> {
    let docker = Docker::new();
    let mut agent = Agent::start(options);
    let mut started: Vec<(usize, String, Value)> = Vec::new();
    for _ in 0..COUNT {
        for (at, kind) in kinds.iter().enumerate() {
            let (id, truth) = run_and_remove(&docker, kind.function, &["burn", "--cpu-ms", kind.cpu_ms])?;
            started.push((at, id, truth));
        }
    }
    agent.stop()?;

    // A scoped event begins a whole period with each container.
    let first = if options.is_empty() { Bound::AtMost(10.0) } else { Bound::Recorded };
    let stored = Bound::AtLeast(COUNT as f64);
    let bars = judge(&agent, &started, &Judged { kinds, stored, first, by_id: true })?;
    Ok((agent, bars))
}

/// What stored lives are held against.
pub struct Judged<'a> {
    /// The kinds that were started, [`COUNT`] of each.
    pub kinds: &'a [Kind],
    /// How many of each kind are stored.
    pub stored: Bound,
    /// From the exec to the first sample.
    pub first: Bound,
    /// Whether an instance's name begins as its container's id does: else they are counted.
    pub by_id: bool,
}

/// The bars of lives that the agent has stored: each was started as its kind, with an id, and has told of itself.
pub fn judge(agent: &Agent, started: &[(usize, String, Value)], judged: &Judged) -> anyhow::Result<Vec<Bar>> {
    let Judged { kinds, stored, first, by_id } = *judged;
    let mut bars = Vec::new();
    let mut all = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let started: Vec<_> = started.iter().filter(|(kind, ..)| *kind == at).collect();
        let rows = agent.instances(kind.function)?;
        let has_row = |id: &str| {
            rows.iter().any(|row| id.get(..12).is_some_and(|id| text(row, "instance").starts_with(id)))
        };
        let missed = match by_id {
            true => started.iter().filter(|(_, id, _)| !has_row(id)).count(),
            false => COUNT.saturating_sub(rows.len()),
        };
        let name = kind.function;
        bars.push(Bar::new(format!("{name} instances stored"), rows.len() as f64, "", stored));
        bars.push(Bar::new(format!("{name} instances missed"), missed as f64, "", Bound::AtMost(0.0)));
        bars.push(Bar::new(format!("{name} coverage"), coverage(&rows), "", kind.coverage));
        let told_ms: f64 = started.iter().map(|(.., truth)| told_ms(truth)).sum();
        let sampled_ms: f64 = rows.iter().filter_map(|row| number(row, "sampled_seconds")).sum::<f64>() * 1e3;
        bars.push(Bar::new(
            format!("{name} sampled, of what it told of itself"),
            sampled_ms / told_ms,
            "",
            Bound::Recorded,
        ));
        if kind.named {
            let unnamed = unnamed(agent, kind.function, &rows)?;
            bars.push(Bar::new(
                format!("{name} instances without its own function's name"),
                unnamed as f64,
                "",
                Bound::AtMost(0.0),
            ));
        }
        all.extend(rows);
    }
    let known = all.iter().filter(|row| number(row, "coverage").is_some()).count();
    let known = known as f64 / (kinds.len() * COUNT) as f64;
    bars.push(Bar::new("instances whose coverage is known", known, "", Bound::AtLeast(0.95)));
    let waited: Vec<f64> =
        all.iter().map(|row| number(row, "first_sample_after_exec_ms").unwrap_or(f64::INFINITY)).collect();
    bars.push(Bar::new("exec to first sample, p95", percentile(&waited, 95), "ms", first));
    Ok(bars)
}

/// Runs a container of the example function to its end, as a person would: its id and its truth.
pub fn run_and_remove(
    docker: &Docker,
    function: &str,
    arguments: &[&str],
) -> anyhow::Result<(String, Value)> {
    let dir = tempfile::tempdir()?;
    let id_file = dir.path().join("id");
    let output = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--label", &format!("fnscope.function={function}")])
        .arg("--cidfile")
        .arg(&id_file)
        .arg(docker.image())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run docker")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker run: {}: {complaint}", output.status);
    let id = std::fs::read_to_string(&id_file).context("read the container's id")?;
    Ok((id.trim().into(), truth(&String::from_utf8_lossy(&output.stdout))))
}

/// CPU time of the whole process, the runtime's part of it included.
fn told_ms(truth: &Value) -> f64 {
    number(truth, "cpu_ms").unwrap_or(f64::NAN) + number(truth, "exec_cpu_ms").unwrap_or(f64::NAN)
}

/// Sampled over accounted CPU time of those rows together whose account is known.
fn coverage(rows: &[Value]) -> f64 {
    let known = || rows.iter().filter(|row| number(row, "coverage").is_some());
    let sum = |key| known().filter_map(|row| number(row, key)).sum::<f64>();
    sum("sampled_seconds") / sum("cpu_seconds")
}

/// Instances that no sample shows in `burn`, the program's own function.
fn unnamed(agent: &Agent, function: &str, rows: &[Value]) -> anyhow::Result<usize> {
    let mut count = 0;
    for row in rows {
        let stacks = agent.folded(function, Some(text(row, "instance")))?;
        count += usize::from(!stacks.iter().any(|(stack, _)| stack.contains("::burn ")));
    }
    Ok(count)
}

/// The figure that `percent` of the figures do not exceed.
fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        let figures: Vec<f64> = (1..=75).rev().map(f64::from).collect();
        assert_eq!((percentile(&figures, 95), percentile(&figures, 100)), (72.0, 75.0));
        assert!(percentile(&[], 95).is_nan());
    }

    #[test]
    fn what_is_not_known_is_not_covered() {
        let row = |sampled: f64, cpu: f64, known: Value| json!({"sampled_seconds": sampled, "cpu_seconds": cpu, "coverage": known});
        let rows = [row(0.9, 1.0, json!(0.9)), row(5.0, 0.0, Value::Null), row(1.1, 1.0, json!(1.1))];
        assert!((coverage(&rows) - 1.0).abs() < 1e-9);
    }
}
