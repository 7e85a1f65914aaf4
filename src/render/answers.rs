//! Answers as tables for people: which columns, in which words.

use super::table::{Column, table};
use super::time;
use super::{escape, json};
use crate::model::FrameKind;
use crate::query::{FrameRow, FunctionRow, InstanceRow, PhaseRow};

/// What stands for a thing that is not known.
const UNKNOWN: &str = "-";

/// The table of `ls`.
pub fn functions(rows: &[FunctionRow], width: Option<u16>) -> String {
    table(&FUNCTION_COLUMNS, &rows.iter().map(function).collect::<Vec<_>>(), width)
}

/// The table of `ls --by host`.
pub fn functions_by_host(rows: &[(String, FunctionRow)], width: Option<u16>) -> String {
    let columns: Vec<Column> = [Column::text("HOST", 8)].into_iter().chain(FUNCTION_COLUMNS).collect();
    let row = |(host, row): &(String, FunctionRow)| [host.clone()].into_iter().chain(function(row)).collect();
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

const FUNCTION_COLUMNS: [Column; 13] = [
    Column::text("FUNCTION", 12),
    Column::text("REVISION", 8),
    Column::text("NAMESPACE", 6).drops(1),
    Column::text("PLATFORM", 6).drops(5),
    Column::number("INSTANCES").drops(7),
    Column::number("COLD").drops(6),
    Column::number("CPU"),
    Column::number("SAMPLES"),
    Column::number("COVERAGE"),
    Column::number("COMPLETE").drops(2),
    Column::number("NAMED").drops(2),
    Column::number("LOST").drops(3),
    Column::fixed("LAST SEEN").drops(4),
];

fn function(row: &FunctionRow) -> Vec<String> {
    vec![
        or_unknown(row.id.function.text()),
        or_unknown(row.id.revision.text()),
        or_unknown(row.id.namespace.text()),
        or_unknown(row.id.platform.text()),
        time::count(row.instances),
        time::count(row.cold_starts),
        cpu(row.cpu_us),
        time::count(row.samples),
        or_unknown(row.coverage.map(time::share)),
        or_unknown(row.complete().map(time::share)),
        or_unknown(row.named().map(time::share)),
        time::count(row.lost),
        time::second(row.last_seen),
    ]
}

/// The table of `instances`.
pub fn instances(rows: &[InstanceRow], width: Option<u16>) -> String {
    let columns = [
        Column::text("INSTANCE", 12),
        Column::text("FUNCTION", 8),
        Column::fixed("STARTED").drops(3),
        Column::number("LIVED").drops(1),
        Column::number("EXIT").drops(5),
        Column::number("CPU"),
        Column::number("SAMPLES"),
        Column::number("COVERAGE"),
        Column::number("RUNTIME-INIT").drops(2),
        Column::number("FIRST SAMPLE").drops(4),
    ];
    let row = |row: &InstanceRow| {
        let revision = row.id.revision.text().map(|revision| format!("@{revision}")).unwrap_or_default();
        vec![
            row.instance_name.clone().unwrap_or_else(|| row.key.clone()),
            or_unknown(row.id.function.text()) + &revision,
            time::second(row.started_at),
            or_unknown(row.ended_at.map(|ended| time::length(ended.since_us(row.started_at)))),
            or_unknown(row.exit_code.map(|code| code.to_string())),
            cpu(row.cpu_us),
            time::count(row.samples),
            coverage(row),
            or_unknown(row.exec_at.map(|exec| time::length(exec.since_us(row.started_at)))),
            or_unknown(row.first_sample_after_exec_us.map(time::length)),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// One instance in full, a fact a line.
pub fn instance(row: &InstanceRow) -> String {
    let phase = |phase: &PhaseRow| {
        let samples = time::count(phase.samples);
        format!("{}: {samples} samples, {} CPU", phase.phase, cpu(phase.cpu_us))
    };
    let facts = [
        ("instance", row.key.clone()),
        ("name", or_unknown(row.instance_name.clone())),
        ("function", row.id.to_string()),
        ("node", row.node.clone()),
        ("image", or_unknown(row.image.clone())),
        ("handler", or_unknown(row.runtime_handler.clone())),
        ("labels", labels(row)),
        ("started", row.started_at.to_string()),
        ("exec", or_unknown(row.exec_at.map(|time| time.to_string()))),
        ("ended", or_unknown(row.ended_at.map(|time| time.to_string()))),
        ("exit code", or_unknown(row.exit_code.map(|code| code.to_string()))),
        ("CPU", cpu(row.cpu_us)),
        ("sampled", format!("{} in {} samples", time::length_ns(row.sampled_ns), time::count(row.samples))),
        ("coverage", coverage(row)),
        (
            "stacks",
            format!(
                "{} complete, {} named",
                or_unknown(row.complete().map(time::share)),
                or_unknown(row.named().map(time::share))
            ),
        ),
        (
            "first sample",
            or_unknown(row.first_sample_after_exec_us.map(|us| time::length(us) + " after exec")),
        ),
        ("phases", row.phases.iter().map(phase).collect::<Vec<_>>().join("; ")),
    ];
    facts.iter().map(|(name, fact)| format!("{name:<13} {}\n", escape::line(fact))).collect()
}

/// The table of `top`.
pub fn frames(rows: &[FrameRow], width: Option<u16>) -> String {
    let columns = [
        Column::number("SELF"),
        Column::number("TOTAL"),
        Column::number("SELF TIME"),
        Column::number("TOTAL TIME").drops(2),
        Column::fixed("KIND").drops(3),
        Column::text("FRAME", 20),
        Column::text("MODULE", 8),
    ];
    let row = |row: &FrameRow| {
        vec![
            time::share(row.own_share),
            time::share(row.total_share),
            time::length_ns(row.own.time_ns),
            time::length_ns(row.total.time_ns),
            kind(row.kind).into(),
            row.frame.clone(),
            or_unknown(row.module.clone()),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.into())
}

pub(super) fn cpu(us: Option<u64>) -> String {
    or_unknown(us.map(|us| time::length(i64::try_from(us).unwrap_or(i64::MAX))))
}

fn labels(row: &InstanceRow) -> String {
    let labels: Vec<String> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    or_unknown(Some(labels.join(", ")).filter(|text| !text.is_empty()))
}

fn coverage(row: &InstanceRow) -> String {
    match (row.coverage, row.coverage_source) {
        (Some(share), Some(source)) => format!("{} ({})", time::share(share), json::source(source)),
        _ => UNKNOWN.into(),
    }
}

fn kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Native => "native",
        FrameKind::Kernel => "kernel",
        FrameKind::Inlined => "inlined",
        FrameKind::Jit => "jit",
        FrameKind::Interpreted => "interpreted",
        FrameKind::Guessed => "guessed",
        FrameKind::Marker => "marker",
    }
}
