//! The answer of `diff`, and of `cold --frames`: a table of frames, JSON, a line for each condition.

use serde_json::{Value, json};

use super::answers::or_unknown;
use super::json::samples;
use super::table::{Column, table};
use super::time;
use crate::fold::Measure;
use crate::query::significance::{Difference, Estimate, Share};
use crate::query::{Condition, DiffRow, Quantity, Side, Verdict, VerdictOutcome};

/// What the two sides are called, and what a frame's CPU time is told for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Shares of A.
    pub a: [&'static str; 2],
    /// Shares of B.
    pub b: [&'static str; 2],
    /// CPU time of A and B.
    pub cpu: [&'static str; 2],
    /// Whether that is for each cold start, or for each instance.
    pub per_start: bool,
}

impl Words {
    /// Of `diff`, for each instance.
    pub const DIFF: Words = Words {
        a: ["SELF A", "TOTAL A"],
        b: ["SELF B", "TOTAL B"],
        cpu: ["A/INSTANCE", "B/INSTANCE"],
        per_start: false,
    };
    /// Of `diff`, for each cold start.
    pub const STARTS: Words = Words { cpu: ["A/START", "B/START"], per_start: true, ..Words::DIFF };
    /// Of `cold --frames`: A is warm, B is cold.
    pub const COLD: Words = Words {
        a: ["WARM SELF", "WARM TOTAL"],
        b: ["COLD SELF", "COLD TOTAL"],
        cpu: ["WARM/INSTANCE", "COLD/START"],
        per_start: true,
    };
}

/// The table of frames.
pub fn table_of(rows: &[DiffRow], words: Words, width: Option<u16>) -> String {
    let columns = [
        Column::number(words.a[0]).drops(3),
        Column::number(words.b[0]).drops(3),
        Column::number("+/- SELF"),
        Column::number(words.a[1]).drops(5),
        Column::number(words.b[1]).drops(4),
        Column::number("+/- TOTAL"),
        Column::number(words.cpu[0]).drops(7),
        Column::number(words.cpu[1]).drops(6),
        Column::number("Z").drops(2),
        Column::text("FRAME", 20),
        Column::text("MODULE", 8).drops(1),
    ];
    let row = |row: &DiffRow| {
        let [a_us, b_us] = cpu_of(row, words);
        let cpu = |us: Option<f64>| or_unknown(us.map(|us| time::length(us.round() as i64)));
        vec![
            time::share(row.own[0].value()),
            time::share(row.own[1].value()),
            marked(&row.own_difference),
            time::share(row.total[0].value()),
            time::share(row.total[1].value()),
            marked(&row.total_difference),
            cpu(a_us),
            cpu(b_us),
            format!("{:+.1}", strongest(row).z),
            row.key.frame.clone(),
            or_unknown(row.key.module.clone()),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>(), width)
}

fn cpu_of(row: &DiffRow, words: Words) -> [Option<f64>; 2] {
    let [a_instance, b_instance] = row.us_per_instance;
    let [a_start, b_start] = row.us_per_start;
    match words {
        Words::COLD => [a_instance, b_start],
        _ if words.per_start => [a_start, b_start],
        _ => [a_instance, b_instance],
    }
}

/// The difference of the two that is the surer one.
fn strongest(row: &DiffRow) -> &Difference {
    let (own, total) = (&row.own_difference, &row.total_difference);
    if own.z.abs() > total.z.abs() { own } else { total }
}

/// `+5.1pt*`, the star where chance does not explain it.
fn marked(difference: &Difference) -> String {
    let star = if difference.significant { "*" } else { " " };
    format!("{}{star}", points(difference.delta.value))
}

fn points(share: f64) -> String {
    // No `-0.0`.
    format!("{:+.1}pt", (share * 1000.0).round() / 10.0 + 0.0)
}

fn percent(part: f64) -> String {
    format!("{:+.1} %", (part * 1000.0).round() / 10.0 + 0.0)
}

/// What a side is, for JSON.
pub fn side_json(side: &Side, name: &str) -> Value {
    let seconds = |us: Option<f64>| us.map(|us| us / 1e6);
    let time = if side.measure == Measure::Waits { "off_cpu_seconds" } else { "cpu_seconds" };
    json!({
        "name": name,
        samples(side.measure): side.samples,
        "instances": side.cpu.each_us.len(),
        "cold_starts": side.starts.each_us.len(),
        time: side.cpu.total_us() / 1e6,
        format!("{time}_per_instance"): seconds(side.cpu.mean_us()),
        format!("{time}_per_start"): seconds(side.starts.mean_us()),
        "accounted": side.cpu.accounted,
    })
}

/// The frames.
pub fn rows_json(rows: &[DiffRow]) -> Value {
    let row = |row: &DiffRow| {
        let seconds = |us: [Option<f64>; 2]| us.map(|us| us.map(|us| us / 1e6));
        let shares = |shares: &[Share; 2]| shares.map(|share| share.value());
        let amounts = |shares: &[Share; 2]| {
            let of = |share: &Share| match row.measure {
                Measure::Waits => json!(share.samples as f64 / 1e9),
                Measure::Clock | Measure::Counter => json!(share.samples),
            };
            [of(&shares[0]), of(&shares[1])]
        };
        let (what, time) = match row.measure {
            Measure::Waits => ("seconds", "off_cpu_seconds"),
            Measure::Clock | Measure::Counter => ("samples", "cpu_seconds"),
        };
        json!({
            "frame": row.key.frame,
            "module": row.key.module,
            "kind": row.kind,
            format!("self_{what}"): amounts(&row.own),
            format!("total_{what}"): amounts(&row.total),
            "self_share": shares(&row.own),
            "total_share": shares(&row.total),
            "self_delta": difference_json(&row.own_difference),
            "total_delta": difference_json(&row.total_difference),
            "design_effect": row.total.map(|share| share.design_effect()),
            format!("{time}_per_instance"): seconds(row.us_per_instance),
            format!("{time}_per_start"): seconds(row.us_per_start),
        })
    };
    rows.iter().map(row).collect()
}

fn difference_json(difference: &Difference) -> Value {
    json!({
        "points": difference.delta.value * 100.0,
        "low": difference.delta.low * 100.0,
        "high": difference.delta.high * 100.0,
        "z": difference.z,
        "significant": difference.significant,
    })
}

/// The conditions.
pub fn verdicts_json(verdicts: &[Verdict]) -> Value {
    let row = |verdict: &Verdict| {
        let (outcome, estimate) = match &verdict.outcome {
            VerdictOutcome::Held(estimate) => ("held", Some(*estimate)),
            VerdictOutcome::Uncertain(estimate) => ("uncertain", Some(*estimate)),
            VerdictOutcome::NotHeld(estimate) => ("not-held", Some(*estimate)),
            VerdictOutcome::Unknown(_) => ("unknown", None),
        };
        json!({
            "condition": verdict.condition.to_string(),
            "outcome": outcome,
            "bar": verdict.condition.bar,
            "value": estimate.map(|estimate| estimate.value),
            "low": estimate.map(|estimate| estimate.low),
            "high": estimate.map(|estimate| estimate.high),
        })
    };
    verdicts.iter().map(row).collect()
}

/// A condition and what became of it, in a line: which, and by how much.
pub fn verdict_line(verdict: &Verdict) -> String {
    let condition = &verdict.condition;
    match &verdict.outcome {
        VerdictOutcome::Held(estimate) => format!("failed: {condition}: {}", measured(verdict, estimate)),
        VerdictOutcome::Uncertain(estimate) => {
            format!(
                "not certain: {condition}: {}: not above the bar for certain",
                measured(verdict, estimate)
            )
        }
        VerdictOutcome::NotHeld(estimate) => format!("passed: {condition}: {}", measured(verdict, estimate)),
        VerdictOutcome::Unknown(why) => format!("not measured: {condition}: {why}"),
    }
}

fn measured(verdict: &Verdict, estimate: &Estimate) -> String {
    let Condition { quantity, .. } = &verdict.condition;
    let written = |value: f64| match quantity {
        Quantity::Share(_) => time::share(value),
        Quantity::ShareDelta(_) => points(value),
        Quantity::CpuDelta(_) => percent(value),
    };
    let seconds = |seconds: f64| time::length((seconds * 1e6).round() as i64);
    let sides = match (quantity, verdict.sides) {
        (Quantity::CpuDelta(_), Some([a, b])) => format!("from {} to {}, ", seconds(a), seconds(b)),
        (_, Some([a, b])) => format!("from {} to {}, ", time::share(a), time::share(b)),
        (_, None) => String::new(),
    };
    let (value, low) = (written(estimate.value), written(estimate.low));
    format!("{sides}{value}, at least {low} (95 % interval to {})", written(estimate.high))
}
