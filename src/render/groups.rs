//! The answers of `top --by module`, `thread` and `phase`: tables and JSON.

use serde_json::{Value, json};

use super::answers::{amount, amount_titles, or_unknown, waits_column};
use super::json::{self, amounts};
use super::table::{Column, table};
use super::time;
use crate::fold::Measure;
use crate::query::{ModuleRow, PhaseSum, ThreadRow};

/// The table of `top --by module`.
pub fn modules(rows: &[ModuleRow], width: Option<u16>) -> String {
    let measure = rows.first().map_or(Measure::Clock, |row| row.measure);
    let [own, total] = amount_titles(measure);
    let mut columns = vec![
        Column::number("SELF"),
        Column::number("TOTAL"),
        Column::number(own),
        Column::number(total).drops(1),
    ];
    columns.extend(waits_column(measure));
    columns.push(Column::text("MODULE", 12));
    let row = |row: &ModuleRow| {
        let mut cells = vec![
            time::share(row.own_share),
            time::share(row.total_share),
            amount(measure, row.own),
            amount(measure, row.total),
        ];
        cells.extend(waits_column(measure).map(|_| time::count(row.total.samples)));
        cells.push(or_unknown(row.module.clone()));
        cells
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The table of `top --by thread`.
pub fn threads(rows: &[ThreadRow], width: Option<u16>) -> String {
    let measure = rows.first().map_or(Measure::Clock, |row| row.measure);
    let columns = [
        Column::number("SHARE"),
        Column::number(if measure == Measure::Counter { "SAMPLES" } else { "TIME" }),
        Column::text("THREAD", 8),
        Column::number("TID"),
        Column::number("PID").drops(2),
        Column::text("INSTANCE", 12),
        Column::text("HOST", 6).drops(1),
    ];
    let row = |row: &ThreadRow| {
        vec![
            time::share(row.share),
            amount(measure, row.weight),
            row.task.comm.to_string(),
            row.task.tid.to_string(),
            row.task.pid.to_string(),
            row.instance.clone(),
            row.host.clone(),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The table of `top --by phase`.
pub fn phases(rows: &[PhaseSum], width: Option<u16>) -> String {
    let measure = rows.first().map_or(Measure::Clock, |row| row.measure);
    let timed = measure != Measure::Counter;
    let mut columns = vec![Column::fixed("PHASE"), Column::number("SHARE")];
    columns.extend(timed.then(|| Column::number("TIME")));
    columns.push(Column::number(if measure == Measure::Waits { "WAITS" } else { "SAMPLES" }));
    let row = |row: &PhaseSum| {
        let mut cells = vec![row.phase.to_string(), time::share(row.share)];
        cells.extend(timed.then(|| time::length_ns(row.weight.time_ns)));
        cells.push(time::count(row.weight.samples));
        cells
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The answer of `top --by module`.
pub fn modules_json(rows: &[ModuleRow]) -> Value {
    let row = |row: &ModuleRow| {
        amounts(
            json!({ "module": row.module }),
            row.measure,
            [row.own, row.total],
            [row.own_share, row.total_share],
        )
    };
    rows.iter().map(row).collect()
}

/// The answer of `top --by thread`.
pub fn threads_json(rows: &[ThreadRow]) -> Value {
    let row = |row: &ThreadRow| {
        json!({
            "thread": &*row.task.comm,
            "tid": row.task.tid,
            "pid": row.task.pid,
            "instance": row.instance,
            "node": row.host,
            json::samples(row.measure): row.weight.samples,
            "seconds": row.measure.seconds(row.weight),
            "share": row.share,
        })
    };
    rows.iter().map(row).collect()
}

/// The answer of `top --by phase`.
pub fn phases_json(rows: &[PhaseSum]) -> Value {
    let row = |row: &PhaseSum| {
        json!({
            "phase": row.phase.name(),
            json::samples(row.measure): row.weight.samples,
            "seconds": row.measure.seconds(row.weight),
            "share": row.share,
        })
    };
    rows.iter().map(row).collect()
}
