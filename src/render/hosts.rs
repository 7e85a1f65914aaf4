//! The answer of `hosts`: a table, JSON.

use serde::Serialize;
use serde_json::{Value, json};

use super::answers::{cpu, or_unknown};
use super::json::{Rows, seconds, time as rfc3339};
use super::table::{Column, table};
use super::time;
use crate::query::HostRow;

/// The table.
pub fn hosts(rows: &[HostRow], width: Option<u16>) -> String {
    let columns = [
        Column::text("HOST", 10),
        Column::text("KERNEL", 8).drops(3),
        Column::number("CPUS").drops(4),
        Column::text("CPU MODEL", 8).drops(11),
        Column::text("RATE", 6),
        Column::text("EVENT", 6).drops(6),
        Column::number("INSTANCES").drops(7),
        Column::number("SAMPLES"),
        Column::number("RING LOST"),
        Column::text("BY CPU", 8).drops(8),
        Column::number("UNATTRIBUTED").drops(2),
        Column::text("CLOCK STEPS", 6).drops(5),
        Column::number("AGENT CPU").drops(10),
        Column::number("AGENT MEMORY").drops(10),
        Column::fixed("FIRST").drops(9),
        Column::fixed("LAST").drops(1),
    ];
    let row = |row: &HostRow| {
        let rates: Vec<String> = row.hz.iter().map(|hz| format!("{hz} Hz")).collect();
        let lossy = row.by_cpu.iter().filter(|cpu| cpu.lost > 0);
        let by_cpu: Vec<String> =
            lossy.map(|cpu| format!("{}: {}", cpu.cpu, time::count(cpu.lost))).collect();
        let largest = row.clock_steps.iter().map(|(_, step)| *step).max_by_key(|step| step.unsigned_abs());
        let steps = match largest {
            None => "0".into(),
            Some(step) => format!("{} (to {})", row.clock_steps.len(), time::length(step / 1_000)),
        };
        vec![
            row.host.clone(),
            row.kernels.join(", "),
            row.cpus.to_string(),
            or_unknown(Some(row.cpu_models.join(", ")).filter(|models| !models.is_empty())),
            rates.join(", "),
            row.events.join(", "),
            time::count(row.instances),
            time::count(row.samples),
            time::count(row.lost),
            by_cpu.join(", "),
            time::count(row.unattributed),
            steps,
            cpu(row.own_use.map(|own_use| own_use.cpu_us)),
            or_unknown(row.own_use.map(|own_use| format!("{} MiB", own_use.memory_bytes >> 20))),
            or_unknown(row.seen.map(|(first, _)| time::second(first))),
            or_unknown(row.seen.map(|(_, last)| time::second(last))),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The same for programs.
pub fn json(rows: &[HostRow]) -> impl Serialize {
    let row = |row: &HostRow| {
        let steps = row.clock_steps.iter();
        let cpus = row.by_cpu.iter();
        json!({
            "host": row.host,
            "node": row.node,
            "boots": row.boots,
            "kernels": row.kernels,
            "cpu_models": row.cpu_models,
            "cpus": row.cpus,
            "hz": row.hz,
            "events": row.events,
            "journals": row.journals,
            "instances": row.instances,
            "samples": row.samples,
            "ring_samples": row.read,
            "ring_lost": row.lost,
            "by_cpu": cpus
                .map(|cpu| json!({"cpu": cpu.cpu, "samples": cpu.samples, "lost": cpu.lost}))
                .collect::<Value>(),
            "unattributed": row.unattributed,
            "clock_steps": steps
                .map(|(at, ns)| json!({"at": rfc3339(*at), "seconds": *ns as f64 / 1e9}))
                .collect::<Value>(),
            "agent_cpu_seconds": row.own_use.map(|own_use| seconds(own_use.cpu_us)),
            "agent_memory_bytes": row.own_use.map(|own_use| own_use.memory_bytes),
            "first_seen": row.seen.map(|(first, _)| rfc3339(first)),
            "last_seen": row.seen.map(|(_, last)| rfc3339(last)),
        })
    };
    Rows(rows, row)
}
