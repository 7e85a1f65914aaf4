//! Answers as JSON for programs: every field is always there, null where it is not known, times in RFC 3339 UTC.
//!
//! The names of the fields are an interface. Here are those of `ls`, `instances` and `top`; those of a question with a file
//! of its own stand beside its table. Where waits are counted, `waits` stands in a name for `samples`; seconds are null
//! where samples stand for no time.

use serde_json::{Map, Value, json};

use super::unseen;
use crate::fold::{Measure, Weight};
use crate::model::{CpuSource, Isolation, Timestamp};
use crate::query::{FrameRow, FunctionRow, InstanceRow, PhaseRow};

/// What `coverage_source` says where samples stand for no time.
const NO_CLOCK: &str = "no-clock";

/// The answer of `ls`.
pub fn functions(rows: &[FunctionRow]) -> Value {
    rows.iter().map(function).collect()
}

/// The answer of `ls --by host`: the same fields, and `host` before them.
pub fn functions_by_host(rows: &[(String, FunctionRow)]) -> Value {
    let row = |(host, row): &(String, FunctionRow)| {
        let mut fields = Map::from_iter([("host".into(), Value::from(host.as_str()))]);
        if let Value::Object(of_function) = function(row) {
            fields.extend(of_function);
        }
        Value::Object(fields)
    };
    rows.iter().map(row).collect()
}

fn function(row: &FunctionRow) -> Value {
    json!({
        "platform": row.id.platform.text(),
        "namespace": row.id.namespace.text(),
        "function": row.id.function.text(),
        "revision": row.id.revision.text(),
        "instances": row.instances,
        "unseen_instances": row.unseen_instances(),
        "unseen": row.unseen.keys().map(|isolation| isolation.name()).collect::<Vec<_>>(),
        "samples": row.samples,
        "cpu_seconds": row.cpu_us.map(seconds),
        "sampled_seconds": sampled(row.sampled_ns, row.no_clock),
        "coverage": row.coverage,
        "coverage_source": row.no_clock.then_some(NO_CLOCK),
        "off_cpu_seconds": row.off_cpu.map(|off_cpu| seconds_of_ns(off_cpu.ns)),
        "preempted_seconds": row.off_cpu.map(|off_cpu| seconds_of_ns(off_cpu.preempted_ns)),
        "waits": row.off_cpu.map(|off_cpu| off_cpu.waits),
        "complete": row.complete(),
        "named": row.named(),
        "lost": row.lost,
        "truncated": row.quality.truncated,
        "unsymbolized": row.quality.unsymbolized,
        "cold_starts": row.cold_starts,
        "first_seen": time(row.first_seen),
        "last_seen": time(row.last_seen),
    })
}

/// The answer of `instances`.
pub fn instances(rows: &[InstanceRow]) -> Value {
    let row = |row: &InstanceRow| {
        json!({
            "instance": row.key,
            "instance_name": row.instance_name,
            "platform": row.id.platform.text(),
            "namespace": row.id.namespace.text(),
            "function": row.id.function.text(),
            "revision": row.id.revision.text(),
            "confidence": row.confidence,
            "node": row.node,
            "image": row.image,
            "runtime_handler": row.runtime_handler,
            "unseen": row.unseen.map(Isolation::name),
            "unseen_why": row.unseen.map(unseen::in_full),
            "labels": row.labels.iter().cloned().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>(),
            "started_at": time(row.started_at),
            "exec_at": row.exec_at.map(time),
            "ended_at": row.ended_at.map(time),
            "exit_code": row.exit_code,
            "cpu_seconds": row.cpu_us.map(seconds),
            "sampled_seconds": sampled(row.sampled_ns, row.no_clock),
            "coverage": row.coverage,
            "coverage_source": if row.no_clock { Some(NO_CLOCK) } else { row.coverage_source.map(source) },
            "off_cpu_seconds": row.off_cpu.map(|off_cpu| seconds_of_ns(off_cpu.ns)),
            "preempted_seconds": row.off_cpu.map(|off_cpu| seconds_of_ns(off_cpu.preempted_ns)),
            "waits": row.off_cpu.map(|off_cpu| off_cpu.waits),
            "off_cpu_until": row.off_cpu_until.map(time),
            "samples": row.samples,
            "complete": row.complete(),
            "named": row.named(),
            "first_sample_after_exec_ms": row.first_sample_after_exec_us.map(|us| us as f64 / 1e3),
            "phases": row.phases.iter().map(phase).collect::<Value>(),
        })
    };
    rows.iter().map(row).collect()
}

/// The answer of `top`.
pub fn frames(rows: &[FrameRow]) -> Value {
    let row = |row: &FrameRow| {
        let fields = json!({ "frame": row.frame, "module": row.module, "kind": row.kind });
        amounts(fields, row.measure, [row.own, row.total], [row.own_share, row.total_share])
    };
    rows.iter().map(row).collect()
}

/// `fields`, and what a row comes to: its own part and all of it.
pub(super) fn amounts(
    mut fields: Value,
    measure: Measure,
    [own, total]: [Weight; 2],
    [own_share, total_share]: [f64; 2],
) -> Value {
    if let Value::Object(fields) = &mut fields {
        fields.extend([
            (format!("self_{}", samples(measure)), own.samples.into()),
            (format!("total_{}", samples(measure)), total.samples.into()),
            ("self_seconds".into(), measure.seconds(own).into()),
            ("total_seconds".into(), measure.seconds(total).into()),
            ("self_share".into(), own_share.into()),
            ("total_share".into(), total_share.into()),
        ]);
    }
    fields
}

/// What is counted.
pub(super) fn samples(measure: Measure) -> &'static str {
    if measure == Measure::Waits { "waits" } else { "samples" }
}

fn sampled(ns: u64, no_clock: bool) -> Option<f64> {
    (!no_clock).then(|| seconds_of_ns(ns))
}

pub(super) fn phase(row: &PhaseRow) -> Value {
    json!({
        "phase": row.phase.name(),
        "from": time(row.from),
        "to": row.to.map(time),
        "samples": row.samples,
        "cpu_seconds": row.cpu_us.map(seconds),
    })
}

/// How `source` is told, in JSON and to people.
pub fn source(source: CpuSource) -> &'static str {
    match source {
        CpuSource::Final => "final",
        CpuSource::Exit => "exit",
        CpuSource::Running => "running",
    }
}

pub(super) fn time(time: Timestamp) -> String {
    time.to_string()
}

pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

pub(super) fn seconds_of_ns(ns: u64) -> f64 {
    ns as f64 / 1e9
}
