//! The answer of `throttled`: a table, JSON.

use serde::Serialize;
use serde_json::json;

use super::answers::{cpu, or_unknown};
use super::json::{Rows, seconds};
use super::table::{Column, table};
use super::time;
use crate::query::ThrottledRow;

/// The table.
pub fn throttled(rows: &[ThrottledRow], width: Option<u16>) -> String {
    let columns = [
        Column::text("FUNCTION", 12),
        Column::text("REVISION", 8),
        Column::text("NAMESPACE", 6).drops(4),
        Column::text("PLATFORM", 6).drops(5),
        Column::number("THROTTLED"),
        Column::number("TIMES"),
        Column::number("INSTANCES").drops(3),
        Column::number("PRESSURE"),
        Column::number("FROZEN").drops(1),
        Column::number("CPU").drops(2),
    ];
    let count = |count: Option<u64>| or_unknown(count.map(time::count));
    let row = |row: &ThrottledRow| {
        vec![
            or_unknown(row.id.function.text()),
            or_unknown(row.id.revision.text()),
            or_unknown(row.id.namespace.text()),
            or_unknown(row.id.platform.text()),
            cpu(row.throttled_us),
            count(row.throttled_count),
            format!("{} / {}", row.throttled_instances, row.instances),
            cpu(row.pressure_us),
            cpu(row.frozen_us),
            cpu(row.cpu_us),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The same for programs.
pub fn json(rows: &[ThrottledRow]) -> impl Serialize {
    let row = |row: &ThrottledRow| {
        json!({
            "platform": row.id.platform.text(),
            "namespace": row.id.namespace.text(),
            "function": row.id.function.text(),
            "revision": row.id.revision.text(),
            "instances": row.instances,
            "throttled_instances": row.throttled_instances,
            "throttled_seconds": row.throttled_us.map(seconds),
            "throttled_count": row.throttled_count,
            "pressure_seconds": row.pressure_us.map(seconds),
            "frozen_seconds": row.frozen_us.map(seconds),
            "frozen_count": row.frozen_count,
            "cpu_seconds": row.cpu_us.map(seconds),
        })
    };
    Rows(rows, row)
}
