//! The verdict as a page and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::judge::Verdict;
use super::ledger::Fault;

/// What a report tells beside the verdicts.
pub struct About {
    /// The seed of all chance.
    pub seed: u64,
    /// How long the soak ran.
    pub seconds: u64,
    /// How often it was interrupted.
    pub interrupted: u32,
    /// Version and kernel.
    pub on: String,
}

/// As a page.
pub fn markdown(about: &About, verdicts: &[Verdict], faults: &[Fault]) -> String {
    let mut out = format!(
        "# Soak\n\n{} s, seed {}, interrupted {} times, on {}.\n\n| | invariant | figures |\n|---|---|---|\n",
        about.seconds, about.seed, about.interrupted, about.on
    );
    for verdict in verdicts {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            mark(verdict),
            verdict.invariant,
            verdict.figures.replace('|', "/")
        );
    }
    for verdict in verdicts.iter().filter(|verdict| !verdict.broken.is_empty()) {
        let _ = writeln!(out, "\n## {}\n", verdict.invariant);
        for line in verdict.broken.iter().take(40) {
            let _ = writeln!(out, "- {line}");
        }
    }
    let first_ns = faults.iter().map(|fault| fault.begin_ns).min().unwrap_or(0);
    out.push_str("\n## What was done\n\nSeconds since the first, and how long it took.\n\n| at | took | fault | |\n|---|---|---|---|\n");
    for fault in faults {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let note = if fault.done { fault.note.clone() } else { format!("**not done**: {}", fault.note) };
        let (at, took) =
            (seconds(fault.begin_ns - first_ns), seconds(fault.end_ns.saturating_sub(fault.begin_ns)));
        let _ = writeln!(out, "| {at:.1} | {took:.1} | {} | {} |", fault.kind, note.replace('|', "/"));
    }
    out
}

/// As JSON.
pub fn json(about: &About, verdicts: &[Verdict], faults: &[Fault]) -> String {
    let verdict = |verdict: &Verdict| -> Value {
        json!({
            "invariant": verdict.invariant,
            "holds": verdict.holds,
            "figures": verdict.figures,
            "broken": verdict.broken,
        })
    };
    let all = json!({
        "seed": about.seed,
        "seconds": about.seconds,
        "interrupted": about.interrupted,
        "on": about.on,
        "holds": verdicts.iter().all(|verdict| verdict.holds != Some(false)),
        "invariants": verdicts.iter().map(verdict).collect::<Vec<_>>(),
        "faults": faults,
    });
    format!("{all:#}\n")
}

/// A word for a verdict.
pub fn mark(verdict: &Verdict) -> &'static str {
    match verdict.holds {
        Some(true) => "holds",
        Some(false) => "BROKEN",
        None => "too short",
    }
}
