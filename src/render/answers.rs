//! Answers as tables for people: which columns, in which words.

use super::table::{Column, table};
use super::time;
use super::{escape, json, unseen};
use crate::fold::{Measure, Weight};
use crate::model::{Confidence, FrameKind};
use crate::query::{FrameRow, FunctionRow, InstanceRow, OffCpu, PhaseRow};

/// What stands for a thing that is not known.
const UNKNOWN: &str = "-";
/// What stands for a coverage that cannot be: samples of a counter stand for no time.
const NO_CLOCK: &str = "no clock";
/// The same where what the host samples is a sandbox's.
const UNSEEN: &str = "unseen";

/// The table of `ls`.
pub fn functions(rows: &[FunctionRow], width: Option<u16>) -> String {
    let waits = rows.iter().any(|row| row.off_cpu.is_some());
    let row = |row| with_off_cpu(function(row), row.off_cpu, waits, FUNCTION_OFF_CPU);
    table(&function_columns(waits), &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The columns of a function, with one for time off the CPU where any was recorded.
fn function_columns(waits: bool) -> Vec<Column> {
    let mut columns = FUNCTION_COLUMNS.to_vec();
    if waits {
        columns.insert(FUNCTION_OFF_CPU, Column::number("OFF-CPU").drops(4));
    }
    columns
}

/// `cells` with `off_cpu` at `at`, where there is a column for it.
fn with_off_cpu(mut cells: Vec<String>, off_cpu: Option<OffCpu>, waits: bool, at: usize) -> Vec<String> {
    if waits && at <= cells.len() {
        cells.insert(at, or_unknown(off_cpu.map(|off_cpu| time::length_ns(off_cpu.ns))));
    }
    cells
}

/// The table of `ls --by host`.
pub fn functions_by_host(rows: &[(String, FunctionRow)], width: Option<u16>) -> String {
    let waits = rows.iter().any(|(_, row)| row.off_cpu.is_some());
    let columns: Vec<Column> = [Column::text("HOST", 8)].into_iter().chain(function_columns(waits)).collect();
    let row = |(host, row): &(String, FunctionRow)| {
        let cells = with_off_cpu(function(row), row.off_cpu, waits, FUNCTION_OFF_CPU);
        [host.clone()].into_iter().chain(cells).collect()
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// Behind CPU.
const FUNCTION_OFF_CPU: usize = 7;

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
        function_coverage(row),
        or_unknown(row.complete().map(time::share)),
        or_unknown(row.named().map(time::share)),
        time::count(row.lost),
        time::second(row.last_seen),
    ]
}

/// The table of `instances`.
pub fn instances(rows: &[InstanceRow], width: Option<u16>) -> String {
    let waits = rows.iter().any(|row| row.off_cpu.is_some());
    let mut columns = vec![
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
    const OFF_CPU: usize = 6;
    if waits {
        columns.insert(OFF_CPU, Column::number("OFF-CPU").drops(2));
    }
    let row = |row: &InstanceRow| {
        let revision = row.id.revision.text().map(|revision| format!("@{revision}")).unwrap_or_default();
        let cells = vec![
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
        ];
        with_off_cpu(cells, row.off_cpu, waits, OFF_CPU)
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// How sure a name is, in words.
fn sure(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "by its platform",
        Confidence::Lossy => "by a name that has lost characters",
        Confidence::IdsOnly => "by ids, not by the names that people gave",
        Confidence::AppLevel => "as its application: which of its functions ran is not known",
        Confidence::Guessed => "by a guess, not by its platform's word",
        Confidence::Prewarm => "as a pool: it waits for its function",
        Confidence::Fallback => "because every container counts",
        Confidence::None => "by no rule",
        Confidence::Ambiguous => "as nobody's: it serves several functions at a time",
    }
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
        ("named", or_unknown(row.confidence.map(|confidence| sure(confidence).into()))),
        ("node", row.node.clone()),
        ("image", or_unknown(row.image.clone())),
        ("handler", or_unknown(row.runtime_handler.clone())),
        (
            "stacks seen",
            row.unseen
                .map_or_else(|| "yes".into(), |isolation| format!("no: {}", unseen::in_full(isolation))),
        ),
        ("labels", labels(row)),
        ("started", row.started_at.to_string()),
        ("exec", or_unknown(row.exec_at.map(|time| time.to_string()))),
        ("ended", or_unknown(row.ended_at.map(|time| time.to_string()))),
        ("exit code", or_unknown(row.exit_code.map(|code| code.to_string()))),
        ("CPU", cpu(row.cpu_us)),
        ("sampled", sampled(row)),
        ("off CPU", off_cpu(row)),
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
    let measure = rows.first().map_or(Measure::Clock, |row| row.measure);
    let [own, total] = amount_titles(measure);
    let mut columns = vec![
        Column::number("SELF"),
        Column::number("TOTAL"),
        Column::number(own),
        Column::number(total).drops(2),
    ];
    columns.extend(waits_column(measure));
    columns.extend([Column::fixed("KIND").drops(3), Column::text("FRAME", 20), Column::text("MODULE", 8)]);
    let row = |row: &FrameRow| {
        let mut cells = vec![
            time::share(row.own_share),
            time::share(row.total_share),
            amount(measure, row.own),
            amount(measure, row.total),
        ];
        cells.extend(waits_column(measure).map(|_| time::count(row.total.samples)));
        cells.extend([kind(row.kind).into(), row.frame.clone(), or_unknown(row.module.clone())]);
        cells
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.into())
}

pub(super) fn cpu(us: Option<u64>) -> String {
    or_unknown(us.map(|us| time::length(i64::try_from(us).unwrap_or(i64::MAX))))
}

fn sampled(row: &InstanceRow) -> String {
    match row.no_clock {
        true => format!("{} samples", time::count(row.samples)),
        false => format!("{} in {} samples", time::length_ns(row.sampled_ns), time::count(row.samples)),
    }
}

fn off_cpu(row: &InstanceRow) -> String {
    let told = |off_cpu: OffCpu| {
        let (all, preempted) = (time::length_ns(off_cpu.ns), time::length_ns(off_cpu.preempted_ns));
        format!("{all} in {} waits, {preempted} of it preempted", time::count(off_cpu.waits))
    };
    let until = row.off_cpu_until.map(|at| format!("; not recorded after {at}")).unwrap_or_default();
    or_unknown(row.off_cpu.map(told)) + &until
}

fn function_coverage(row: &FunctionRow) -> String {
    let unseen = row.unseen_instances();
    let share = match row.no_clock {
        _ if unseen > 0 && unseen == row.instances => return UNSEEN.into(),
        true => NO_CLOCK.into(),
        false => or_unknown(row.coverage.map(time::share)),
    };
    if unseen > 0 { format!("{share} ({} {UNSEEN})", time::count(unseen)) } else { share }
}

/// What a weight comes to: a time, or samples where those stand for none.
pub(super) fn amount(measure: Measure, weight: Weight) -> String {
    match measure {
        Measure::Clock | Measure::Waits => time::length_ns(weight.time_ns),
        Measure::Counter => time::count(weight.samples),
    }
}

/// Titles of the columns with what is a row's own, and with all of it.
pub(super) fn amount_titles(measure: Measure) -> [&'static str; 2] {
    match measure {
        Measure::Clock | Measure::Waits => ["SELF TIME", "TOTAL TIME"],
        Measure::Counter => ["SELF SAMPLES", "TOTAL SAMPLES"],
    }
}

/// The column with the number of waits, where waits are what is counted.
pub(super) fn waits_column(measure: Measure) -> Option<Column> {
    (measure == Measure::Waits).then(|| Column::number("WAITS").drops(3))
}

fn labels(row: &InstanceRow) -> String {
    let labels: Vec<String> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    or_unknown(Some(labels.join(", ")).filter(|text| !text.is_empty()))
}

fn coverage(row: &InstanceRow) -> String {
    match (row.coverage, row.coverage_source) {
        _ if row.unseen.is_some() => UNSEEN.into(),
        _ if row.no_clock => NO_CLOCK.into(),
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
