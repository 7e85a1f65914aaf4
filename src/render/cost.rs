//! The answer of `cost`: a table, JSON. A price is what a CPU costs an hour.

use serde::Serialize;
use serde_json::json;

use super::answers::{cpu, or_unknown};
use super::json::{Rows, seconds, seconds_of_ns, time as rfc3339};
use super::table::{Column, table};
use super::time;
use crate::query::{CostBy, CostRow};

/// What a CPU costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// An hour of one CPU.
    pub per_cpu_hour: f64,
    /// In this currency.
    pub currency: String,
}

impl Price {
    fn of(&self, row: &CostRow) -> f64 {
        row.charged_us() as f64 / 3.6e9 * self.per_cpu_hour
    }
}

/// The table, and a line for the sum where there are several rows.
pub fn cost(rows: &[CostRow], by: &[CostBy], price: Option<&Price>, width: Option<u16>) -> String {
    let has = |what| by.contains(&what);
    let functions = has(CostBy::Function) || has(CostBy::Revision);
    let columns: Vec<(bool, Column)> = vec![
        (has(CostBy::Day), Column::fixed("DAY")),
        (functions, Column::text("FUNCTION", 8)),
        (has(CostBy::Revision), Column::text("REVISION", 8)),
        (functions, Column::text("NAMESPACE", 6).drops(4)),
        (functions, Column::text("PLATFORM", 6).drops(5)),
        (has(CostBy::Host), Column::text("HOST", 8)),
        (true, Column::number("INSTANCES").drops(3)),
        (true, Column::number("CPU SECONDS")),
        (true, Column::number("SAMPLED").drops(2)),
        (true, Column::number("COVERAGE").drops(1)),
        (price.is_some(), Column::number("COST")),
    ];
    let id = |row: &CostRow, of: fn(&crate::query::FunctionId) -> Option<String>| {
        or_unknown(row.id.as_ref().and_then(of))
    };
    let row = |row: &CostRow| {
        let day = row.day.map(|day| time::second(day).chars().take(10).collect());
        let cost = price.map(|price| format!("{:.6} {}", price.of(row), price.currency));
        let cells = vec![
            or_unknown(day),
            id(row, |id| id.function.text()),
            id(row, |id| id.revision.text()),
            id(row, |id| id.namespace.text()),
            id(row, |id| id.platform.text()),
            or_unknown(row.host.clone()),
            time::count(row.instances),
            format!("{:.3}", row.charged_us() as f64 / 1e6),
            cpu(Some(row.sampled_ns / 1_000)),
            or_unknown(row.coverage.map(time::share)),
            or_unknown(cost),
        ];
        let shown = cells.into_iter().zip(&columns).filter(|(_, (shown, _))| *shown);
        shown.map(|(cell, _)| cell).collect()
    };
    let cells: Vec<Vec<String>> = rows.iter().map(row).collect();
    let shown: Vec<Column> = columns.iter().filter(|(shown, _)| *shown).map(|(_, column)| *column).collect();
    table(&shown, &cells, width)
}

/// The same for programs.
pub fn json(rows: &[CostRow], by: &[CostBy], price: Option<&Price>) -> impl Serialize {
    let row = move |row: &CostRow| {
        let revision = row.id.as_ref().filter(|_| by.contains(&CostBy::Revision));
        let id = row.id.as_ref();
        json!({
            "day": row.day.map(|day| rfc3339(day).chars().take(10).collect::<String>()),
            "platform": id.and_then(|id| id.platform.text()),
            "namespace": id.and_then(|id| id.namespace.text()),
            "function": id.and_then(|id| id.function.text()),
            "revision": revision.and_then(|id| id.revision.text()),
            "host": row.host,
            "instances": row.instances,
            "cpu_seconds": seconds(row.cpu_us),
            "sampled_seconds": seconds_of_ns(row.sampled_ns),
            "unaccounted_seconds": seconds_of_ns(row.unaccounted_ns),
            "coverage": row.coverage,
            "cost": price.map(|price| price.of(row)),
            "currency": price.map(|price| price.currency.as_str()),
        })
    };
    Rows(rows, row)
}
