//! The answers of `top --by module`, `thread` and `phase`: tables and JSON.

use serde_json::{Value, json};

use super::answers::or_unknown;
use super::table::{Column, table};
use super::time;
use crate::query::{ModuleRow, PhaseSum, ThreadRow};

/// The table of `top --by module`.
pub fn modules(rows: &[ModuleRow], width: Option<u16>) -> String {
    let columns = [
        Column::number("SELF"),
        Column::number("TOTAL"),
        Column::number("SELF TIME"),
        Column::number("TOTAL TIME").drops(1),
        Column::text("MODULE", 12),
    ];
    let row = |row: &ModuleRow| {
        vec![
            time::share(row.own_share),
            time::share(row.total_share),
            time::length_ns(row.own.time_ns),
            time::length_ns(row.total.time_ns),
            or_unknown(row.module.clone()),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The table of `top --by thread`.
pub fn threads(rows: &[ThreadRow], width: Option<u16>) -> String {
    let columns = [
        Column::number("SHARE"),
        Column::number("TIME"),
        Column::text("THREAD", 8),
        Column::number("TID"),
        Column::number("PID").drops(2),
        Column::text("INSTANCE", 12),
        Column::text("HOST", 6).drops(1),
    ];
    let row = |row: &ThreadRow| {
        vec![
            time::share(row.share),
            time::length_ns(row.weight.time_ns),
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
    let columns =
        [Column::fixed("PHASE"), Column::number("SHARE"), Column::number("TIME"), Column::number("SAMPLES")];
    let row = |row: &PhaseSum| {
        vec![
            row.phase.to_string(),
            time::share(row.share),
            time::length_ns(row.weight.time_ns),
            time::count(row.weight.samples),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The answer of `top --by module`.
pub fn modules_json(rows: &[ModuleRow]) -> Value {
    let row = |row: &ModuleRow| {
        json!({
            "module": row.module,
            "self_samples": row.own.samples,
            "total_samples": row.total.samples,
            "self_seconds": row.own.seconds(),
            "total_seconds": row.total.seconds(),
            "self_share": row.own_share,
            "total_share": row.total_share,
        })
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
            "samples": row.weight.samples,
            "seconds": row.weight.seconds(),
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
            "samples": row.weight.samples,
            "seconds": row.weight.seconds(),
            "share": row.share,
        })
    };
    rows.iter().map(row).collect()
}
