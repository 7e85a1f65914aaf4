//! What fnscope answers, taken apart and judged: rows of `--json`, their keys, and what must hold of every one.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fnscope::model::Timestamp;
use serde_json::Value;

use crate::support::four_sigma;

/// Keys of a row of `instances --json`, in order.
pub const INSTANCE_KEYS: [&str; 30] = [
    "instance",
    "instance_name",
    "platform",
    "namespace",
    "function",
    "revision",
    "confidence",
    "node",
    "image",
    "runtime_handler",
    "unseen",
    "unseen_why",
    "labels",
    "started_at",
    "exec_at",
    "ended_at",
    "exit_code",
    "cpu_seconds",
    "sampled_seconds",
    "coverage",
    "coverage_source",
    "off_cpu_seconds",
    "preempted_seconds",
    "waits",
    "off_cpu_until",
    "samples",
    "complete",
    "named",
    "first_sample_after_exec_ms",
    "phases",
];

/// Keys of a row of `ls --json`, in order.
pub const FUNCTION_KEYS: [&str; 23] = [
    "platform",
    "namespace",
    "function",
    "revision",
    "instances",
    "unseen_instances",
    "unseen",
    "samples",
    "cpu_seconds",
    "sampled_seconds",
    "coverage",
    "coverage_source",
    "off_cpu_seconds",
    "preempted_seconds",
    "waits",
    "complete",
    "named",
    "lost",
    "truncated",
    "unsymbolized",
    "cold_starts",
    "first_seen",
    "last_seen",
];

/// The one row of `rows` whose function is `function`.
pub fn row<'a>(rows: &'a [Value], function: &str) -> &'a Value {
    let found: Vec<&Value> = rows.iter().filter(|row| row["function"] == *function).collect();
    assert_eq!(found.len(), 1, "one row of {function} in {rows:#?}");
    found[0]
}

/// The keys of `row`, in order.
pub fn keys(row: &Value) -> Vec<&str> {
    row.as_object().expect("a row is an object").keys().map(String::as_str).collect()
}

/// The number at `key` of `row`.
pub fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {row:#}"))
}

/// The text at `key` of `row`.
pub fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {row:#}"))
}

/// Whether the samples of `row` cover its CPU time: by the count alone to four sigma; a tenth more, because a virtual
/// machine's CPU clock counts what the hypervisor takes and the kernel's account does not.
pub fn assert_covered(row: &Value) {
    let samples = row["samples"].as_u64().expect("a count");
    let bound = four_sigma(samples) + 0.1;
    let coverage = number(row, "coverage");
    assert!((coverage - 1.0).abs() < bound, "coverage {coverage}, bound {bound}: {row:#}");
}

/// Whether the phases of `row` are its life, one after the other, and add up to it.
pub fn assert_phases(row: &Value, names: &[&str]) {
    let phases = row["phases"].as_array().expect("a list");
    let found: Vec<&str> = phases.iter().map(|phase| text(phase, "phase")).collect();
    // A second after its exec a function is warm: on a busy machine that may be before its end.
    let late = found.strip_suffix(&["warm"]).unwrap_or(&found);
    assert!(found == names || late == names, "{found:?}, expected {names:?}: {row:#}");
    assert_eq!(phases[0]["from"], row["started_at"], "{row:#}");
    assert_eq!(phases[phases.len() - 1]["to"], row["ended_at"], "{row:#}");
    for pair in phases.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{row:#}");
    }
    let samples: u64 = phases.iter().filter_map(|phase| phase["samples"].as_u64()).sum();
    assert_eq!(Some(samples), row["samples"].as_u64(), "{row:#}");
    let cpu: f64 = phases.iter().map(|phase| number(phase, "cpu_seconds")).sum();
    // Between the end of the last process and the last reading of the account lies a moment of no phase.
    let whole = number(row, "cpu_seconds");
    assert!((cpu - whole).abs() < 0.001 + 0.02 * whole, "{row:#}");
}

/// Now, as `--since` reads it.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_micros()).expect("before 292277")).to_string()
}

/// Every file below `folder`.
pub fn walk(folder: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let paths = listing.flatten().map(|file| file.path());
    paths
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

/// Microseconds since 1970 of a time in an answer.
pub fn us(time: &str) -> i64 {
    let time: fnscope::query::When = time.parse().expect("a time");
    time.at(fnscope::model::Timestamp(0)).0
}
