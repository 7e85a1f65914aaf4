//! Answers as JSON for programs: every field is always there, null where it is not known, times in RFC 3339 UTC.
//!
//! The names of the fields are an interface. Here are those of `ls`, `instances` and `top`; those of a question with a file
//! of its own stand beside its table. Where waits are counted, `waits` stands in a name for `samples`; seconds are null
//! where samples stand for no time.

use std::fmt::Display;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value, json};

use super::unseen;
use crate::fold::{Measure, Weight};
use crate::model::{CpuSource, Isolation, Timestamp};
use crate::query::{FrameRow, FunctionRow, InstanceRow, PhaseRow};

/// What `coverage_source` says where samples stand for no time.
const NO_CLOCK: &str = "no-clock";

/// An array of `rows`, each as `J` makes it when its turn to be written comes: a hundred thousand at once as values would
/// take a gigabyte.
pub(super) struct Rows<'a, R, J>(pub(super) &'a [R], pub(super) J);

impl<'a, R, J: Fn(&'a R) -> W, W: Serialize> Serialize for Rows<'a, R, J> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Rows(rows, json) = self;
        serializer.collect_seq(rows.iter().map(json))
    }
}

/// What is told as its text.
struct AsText<T>(T);

impl<T: Display> Serialize for AsText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The answer of `ls`.
pub fn functions(rows: &[FunctionRow]) -> impl Serialize {
    Rows(rows, function)
}

/// The answer of `ls --by host`: the same fields, and `host` before them.
pub fn functions_by_host(rows: &[(String, FunctionRow)]) -> impl Serialize {
    Rows(rows, function_of_host)
}

fn function(row: &FunctionRow) -> Function<'_> {
    Function { host: None, row }
}

fn function_of_host((host, row): &(String, FunctionRow)) -> Function<'_> {
    Function { host: Some(host), row }
}

/// Written field by field, as there may be a hundred thousand.
struct Function<'a> {
    host: Option<&'a str>,
    row: &'a FunctionRow,
}

impl Serialize for Function<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Function { host, row } = self;
        let unseen: Vec<&str> = row.unseen.keys().map(|isolation| isolation.name()).collect();
        let mut fields = serializer.serialize_map(None)?;
        if let Some(host) = host {
            fields.serialize_entry("host", host)?;
        }
        fields.serialize_entry("platform", &row.id.platform.text())?;
        fields.serialize_entry("namespace", &row.id.namespace.text())?;
        fields.serialize_entry("function", &row.id.function.text())?;
        fields.serialize_entry("revision", &row.id.revision.text())?;
        fields.serialize_entry("instances", &row.instances)?;
        fields.serialize_entry("unseen_instances", &row.unseen_instances())?;
        fields.serialize_entry("unseen", &unseen)?;
        fields.serialize_entry("samples", &row.samples)?;
        fields.serialize_entry("cpu_seconds", &row.cpu_us.map(seconds))?;
        fields.serialize_entry("sampled_seconds", &sampled(row.sampled_ns, row.no_clock))?;
        fields.serialize_entry("coverage", &row.coverage)?;
        fields.serialize_entry("coverage_source", &row.no_clock.then_some(NO_CLOCK))?;
        fields.serialize_entry("off_cpu_seconds", &row.off_cpu.map(|it| seconds_of_ns(it.ns)))?;
        fields.serialize_entry("preempted_seconds", &row.off_cpu.map(|it| seconds_of_ns(it.preempted_ns)))?;
        fields.serialize_entry("waits", &row.off_cpu.map(|it| it.waits))?;
        fields.serialize_entry("complete", &row.complete())?;
        fields.serialize_entry("named", &row.named())?;
        fields.serialize_entry("lost", &row.lost)?;
        fields.serialize_entry("truncated", &row.quality.truncated)?;
        fields.serialize_entry("unsymbolized", &row.quality.unsymbolized)?;
        fields.serialize_entry("cold_starts", &row.cold_starts)?;
        fields.serialize_entry("first_seen", &AsText(row.first_seen))?;
        fields.serialize_entry("last_seen", &AsText(row.last_seen))?;
        fields.end()
    }
}

/// The answer of `instances`.
pub fn instances(rows: &[InstanceRow]) -> impl Serialize {
    Rows(rows, Instance)
}

/// Written like [`Function`].
struct Instance<'a>(&'a InstanceRow);

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Instance(row) = self;
        let source = if row.no_clock { Some(NO_CLOCK) } else { row.coverage_source.map(source) };
        // A journal of strangers may tell one twice, and an object has each name once.
        let labels: Map<String, Value> =
            row.labels.iter().cloned().map(|(name, value)| (name, value.into())).collect();
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("instance", &row.key)?;
        fields.serialize_entry("instance_name", &row.instance_name)?;
        fields.serialize_entry("platform", &row.id.platform.text())?;
        fields.serialize_entry("namespace", &row.id.namespace.text())?;
        fields.serialize_entry("function", &row.id.function.text())?;
        fields.serialize_entry("revision", &row.id.revision.text())?;
        fields.serialize_entry("confidence", &row.confidence)?;
        fields.serialize_entry("node", &row.node)?;
        fields.serialize_entry("image", &row.image)?;
        fields.serialize_entry("runtime_handler", &row.runtime_handler)?;
        fields.serialize_entry("unseen", &row.unseen.map(Isolation::name))?;
        fields.serialize_entry("unseen_why", &row.unseen.map(unseen::in_full))?;
        fields.serialize_entry("labels", &labels)?;
        fields.serialize_entry("started_at", &AsText(row.started_at))?;
        fields.serialize_entry("exec_at", &row.exec_at.map(AsText))?;
        fields.serialize_entry("ended_at", &row.ended_at.map(AsText))?;
        fields.serialize_entry("exit_code", &row.exit_code)?;
        fields.serialize_entry("cpu_seconds", &row.cpu_us.map(seconds))?;
        fields.serialize_entry("sampled_seconds", &sampled(row.sampled_ns, row.no_clock))?;
        fields.serialize_entry("coverage", &row.coverage)?;
        fields.serialize_entry("coverage_source", &source)?;
        fields.serialize_entry("off_cpu_seconds", &row.off_cpu.map(|it| seconds_of_ns(it.ns)))?;
        fields.serialize_entry("preempted_seconds", &row.off_cpu.map(|it| seconds_of_ns(it.preempted_ns)))?;
        fields.serialize_entry("waits", &row.off_cpu.map(|it| it.waits))?;
        fields.serialize_entry("off_cpu_until", &row.off_cpu_until.map(AsText))?;
        fields.serialize_entry("samples", &row.samples)?;
        fields.serialize_entry("complete", &row.complete())?;
        fields.serialize_entry("named", &row.named())?;
        fields.serialize_entry(
            "first_sample_after_exec_ms",
            &row.first_sample_after_exec_us.map(|us| us as f64 / 1e3),
        )?;
        fields.serialize_entry("phases", &phases(&row.phases))?;
        fields.end()
    }
}

/// The phases of an instance.
pub(super) fn phases(rows: &[PhaseRow]) -> impl Serialize {
    Rows(rows, PhaseOf)
}

struct PhaseOf<'a>(&'a PhaseRow);

impl Serialize for PhaseOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PhaseOf(row) = self;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("phase", row.phase.name())?;
        fields.serialize_entry("from", &AsText(row.from))?;
        fields.serialize_entry("to", &row.to.map(AsText))?;
        fields.serialize_entry("samples", &row.samples)?;
        fields.serialize_entry("cpu_seconds", &row.cpu_us.map(seconds))?;
        fields.end()
    }
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
