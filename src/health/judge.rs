//! What holds and what does not, in plain lines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::metrics::{Metrics, Phase};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about, in a word.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is so, for people. No tenant's name is in it.
    pub says: String,
}

/// All that was looked at for one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The answer, such as `ready` or `not ready`.
    pub answer: &'static str,
    /// Whether it is the good one.
    pub ok: bool,
    /// Why.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(words: [&'static str; 2], checks: Vec<Check>) -> Report {
        let ok = checks.iter().all(|check| check.ok);
        Report { answer: words[usize::from(ok)], ok, checks }
    }

    /// The answer, then a line for each check, those that fail first.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.answer);
        for wanted in [false, true] {
            for check in self.checks.iter().filter(|check| check.ok == wanted) {
                let mark = if check.ok { "ok" } else { "FAILS" };
                let _ = writeln!(text, "{mark}: {}: {}", check.name, check.says);
            }
        }
        text
    }

    /// The same as a JSON object and a line feed.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("words and truth values can be written");
        text.push('\n');
        text
    }
}

/// Whether the threads work, at `now_ns` of the monotonic clock.
pub fn live(metrics: &Metrics, now_ns: u64) -> Report {
    let beats = [("capture", &metrics.capture), ("keeper", &metrics.keeper)];
    let checks = beats.map(|(name, beat)| {
        let late_s = beat.overdue_ns(now_ns).map(|late_ns| late_ns / 1_000_000_000);
        let says = late_s.map_or_else(
            || "its thread keeps its time".into(),
            |late_s| {
                format!(
                    "its thread is {late_s} s late; a restart may mend it, and its log says what it did last"
                )
            },
        );
        Check { name, ok: late_s.is_none(), says }
    });
    Report::new(["not live", "live"], checks.into())
}

/// Whether what functions do is recorded, at `now_ns` of the monotonic clock.
pub fn ready(metrics: &Metrics, now_ns: u64) -> Report {
    let phase = metrics.phase();
    let (ok, says) = match phase {
        Phase::Starting => (false, "it opens what it needs"),
        Phase::Watching => (true, "it watches"),
        Phase::Stopping => (false, "it writes what is left, and ends"),
    };
    let mut checks = vec![Check { name: "agent", ok, says: says.into() }];
    let late = live(metrics, now_ns).checks.into_iter().filter(|check| !check.ok);
    checks.extend(late);
    if phase != Phase::Starting {
        checks.extend([rings(metrics), store(metrics), runtimes(metrics)]);
    }
    Report::new(["not ready", "ready"], checks)
}

fn rings(metrics: &Metrics) -> Check {
    let (cpus, trouble) = (metrics.cpus.get(), metrics.cpu_trouble.get() != 0);
    let says = match (cpus, trouble) {
        (0, _) => "none is open".into(),
        _ if metrics.arm_failing.get() != 0 => "the kernel refuses to sample; the log says why".into(),
        (_, true) => format!("open on {cpus} CPUs, and refused on one that came; the log says why"),
        (_, false) => format!("open on {cpus} CPUs"),
    };
    Check { name: "rings", ok: cpus > 0 && !trouble && metrics.arm_failing.get() == 0, says }
}

fn store(metrics: &Metrics) -> Check {
    let ok = metrics.store_failing.get() == 0;
    let says = if ok {
        "what was last written to it is there"
    } else {
        "it cannot be written, and samples are lost until it can; the log says why"
    };
    Check { name: "store", ok, says: says.into() }
}

/// One that answers is enough: the functions of the others are sampled, and named when those come back.
fn runtimes(metrics: &Metrics) -> Check {
    let all = metrics.runtimes();
    let told: Vec<String> = all
        .iter()
        .filter(|runtime| runtime.is_here())
        .map(|runtime| {
            format!("{} {}", runtime.name, if runtime.is_up() { "answers" } else { "does not answer" })
        })
        .collect();
    let ok = all.is_empty() || all.iter().any(crate::metrics::Runtime::is_up);
    let says = match (all.is_empty(), told.is_empty()) {
        (true, _) => "none is asked".into(),
        (_, true) => "none is here: no usual socket, and none was given".into(),
        (false, false) => told.join(", "),
    };
    Check { name: "runtimes", ok, says }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Metrics {
        let metrics = Metrics::new(&["docker", "cgroup"]);
        metrics.enter(Phase::Watching);
        metrics.cpus.set(2);
        metrics.runtime("cgroup").unwrap().set(true);
        metrics
    }

    #[test]
    fn one_thing_that_fails_is_enough_and_is_named() {
        type Spoil = fn(&Metrics);
        let cases: [(Spoil, &[&str]); 10] = [
            (|_| {}, &[]),
            (|m| m.enter(Phase::Stopping), &["agent"]),
            (|m| m.cpus.set(0), &["rings"]),
            (|m| m.cpu_trouble.set(1), &["rings"]),
            (|m| m.arm_failing.set(1), &["rings"]),
            (|m| m.store_failing.set(1), &["store"]),
            (|m| m.runtimes()[1].set(false), &["runtimes"]),
            (|m| m.capture.owe(0), &["capture"]),
            (|m| m.keeper.owe(0), &["keeper"]),
            (
                |m| {
                    m.store_failing.set(1);
                    m.capture.owe(0);
                },
                &["capture", "store"],
            ),
        ];
        for (at, (spoil, failing)) in cases.into_iter().enumerate() {
            let metrics = well();
            spoil(&metrics);
            let report = ready(&metrics, 3_600_000_000_000);
            let names: Vec<_> =
                report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
            assert_eq!(names, failing, "case {at}");
            assert_eq!(
                (report.ok, report.answer == "ready"),
                (failing.is_empty(), failing.is_empty()),
                "case {at}"
            );
            let dead = failing.iter().any(|name| ["capture", "keeper"].contains(name));
            assert_eq!(live(&metrics, 3_600_000_000_000).ok, !dead, "case {at}");
        }
    }

    #[test]
    fn what_fails_is_told_first() {
        let metrics = well();
        metrics.store_failing.set(1);
        let report = ready(&metrics, 0);
        let text = report.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "not ready");
        assert!(lines[1].starts_with("FAILS: store: it cannot be written"), "{text}");
        assert!(lines[2..].iter().all(|line| line.starts_with("ok: ")), "{text}");
        assert!(text.contains("runtimes: docker does not answer, cgroup answers"), "{text}");
        let told: crate::health::probe::Told = serde_json::from_str(&report.json()).unwrap();
        let line =
            "not ready: store: it cannot be written, and samples are lost until it can; the log says why";
        assert_eq!(told.line(), line);
    }

    #[test]
    fn a_runtime_that_is_not_here_is_not_missed_unless_none_is() {
        let metrics = Metrics::new(&["docker", "containerd"]);
        metrics.enter(Phase::Watching);
        metrics.cpus.set(2);
        metrics.runtime("docker").unwrap().set_absent();
        metrics.runtime("containerd").unwrap().set(true);
        let report = ready(&metrics, 0);
        assert!(report.ok && report.text().contains("runtimes: containerd answers\n"), "{}", report.text());
        metrics.runtime("containerd").unwrap().set_absent();
        let text = ready(&metrics, 0).text();
        assert!(text.starts_with("not ready\nFAILS: runtimes: none is here"), "{text}");
    }

    #[test]
    fn an_agent_that_starts_is_live_and_not_ready() {
        let metrics = Metrics::new(&[]);
        assert!(live(&metrics, u64::MAX).ok);
        assert_eq!(ready(&metrics, u64::MAX).answer, "not ready");
        metrics.enter(Phase::Watching);
        metrics.cpus.set(1);
        assert!(ready(&metrics, u64::MAX).ok, "who asks no runtime waits for none");
    }
}
