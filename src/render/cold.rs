//! The answer of `cold`: a table of starts, what they have in common, JSON.

use serde_json::{Value, json};

use super::answers::{cpu, or_unknown};
use super::json::{phases, seconds, time as rfc3339};
use super::table::{Column, table};
use super::time;
use crate::query::{ColdStart, ColdSummary, Spread};

/// The table of starts.
pub fn starts(rows: &[ColdStart], width: Option<u16>) -> String {
    let columns = [
        Column::text("INSTANCE", 12),
        Column::text("REVISION", 8).drops(5),
        Column::fixed("STARTED").drops(4),
        Column::number("TO EXEC"),
        Column::number("TO READY").drops(2),
        Column::number("FIRST SAMPLE"),
        Column::number("IN ALL"),
        Column::number("INIT CPU").drops(1),
        Column::number("COLD CPU"),
        Column::text("HOST", 6).drops(6),
    ];
    let length = |us: Option<i64>| or_unknown(us.map(time::length));
    let row = |row: &ColdStart| {
        vec![
            row.instance_name.clone().unwrap_or_else(|| row.key.clone()),
            or_unknown(row.id.revision.text()),
            time::second(row.started_at),
            length(row.init_us),
            length(row.ready_us),
            length(row.first_sample_us),
            length(row.total_us),
            cpu(row.init_cpu_us),
            cpu(row.cold_cpu_us),
            row.node.clone(),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The table of what they have in common.
pub fn summary(summary: &ColdSummary, width: Option<u16>) -> String {
    let columns = [
        Column::text("COLD STARTS", 16),
        Column::number("KNOWN OF"),
        Column::number("MEDIAN"),
        Column::number("P95"),
        Column::number("WORST"),
    ];
    let row = |(name, spread): &(&str, Option<Spread>)| {
        let length = |of: fn(Spread) -> i64| or_unknown(spread.map(|spread| time::length(of(spread))));
        vec![
            (*name).to_owned(),
            format!("{} / {}", spread.map_or(0, |spread| spread.count), summary.starts),
            length(|spread| spread.median),
            length(|spread| spread.p95),
            length(|spread| spread.max),
        ]
    };
    let rows = [
        ("start to exec", summary.init),
        ("exec to ready", summary.ready),
        ("exec to first sample", summary.first_sample),
        ("in all", summary.total),
        ("runtime-init CPU", summary.init_cpu),
        ("cold CPU", summary.cold_cpu),
    ];
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// All of it; `frames` as `diff` tells them, null where nobody asked.
pub fn json(rows: &[ColdStart], summary: &ColdSummary, frames: Option<Value>) -> Value {
    json!({
        "summary": {
            "cold_starts": summary.starts,
            "exec_ms": spread(summary.init),
            "ready_ms": spread(summary.ready),
            "first_sample_ms": spread(summary.first_sample),
            "total_ms": spread(summary.total),
            "init_cpu_ms": spread(summary.init_cpu),
            "cold_cpu_ms": spread(summary.cold_cpu),
        },
        "starts": rows.iter().map(start).collect::<Value>(),
        "frames": frames,
    })
}

fn start(row: &ColdStart) -> Value {
    json!({
        "instance": row.key,
        "instance_name": row.instance_name,
        "platform": row.id.platform.text(),
        "namespace": row.id.namespace.text(),
        "function": row.id.function.text(),
        "revision": row.id.revision.text(),
        "node": row.node,
        "started_at": rfc3339(row.started_at),
        "exec_at": row.exec_at.map(rfc3339),
        "ready_at": row.ready_at.map(rfc3339),
        "exec_ms": row.init_us.map(ms),
        "ready_ms": row.ready_us.map(ms),
        "first_sample_ms": row.first_sample_us.map(ms),
        "total_ms": row.total_us.map(ms),
        "init_cpu_seconds": row.init_cpu_us.map(seconds),
        "cold_cpu_seconds": row.cold_cpu_us.map(seconds),
        "phases": phases(&row.phases),
    })
}

fn spread(spread: Option<Spread>) -> Value {
    spread.map_or(Value::Null, |spread| {
        json!({
            "count": spread.count,
            "median": ms(spread.median),
            "p95": ms(spread.p95),
            "max": ms(spread.max),
        })
    })
}

fn ms(us: i64) -> f64 {
    us as f64 / 1e3
}
