//! Outcomes as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::{Bar, Bound, Outcome};

/// A block of lines for one outcome.
pub fn table(outcome: &Outcome) -> String {
    let mut out = String::new();
    let bars = match &outcome.result {
        Ok(bars) => bars,
        Err(error) => return format!("FAIL  {}: {error}\n", outcome.name),
    };
    for (bar, figures) in bars {
        let runs: Vec<String> = figures.iter().map(|figure| number(*figure)).collect();
        let name = format!("{}: {}", outcome.name, bar.what);
        let value = format!("{} {}", number(bar.value), bar.unit);
        let line =
            format!("{}  {name:<58} {value:>16}  {:<20}  [{}]", mark(bar), bound(bar.bound), runs.join(" "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// An outcome as a table in markdown. Bars that are named `row: column` share a row; a bar that fails says so.
pub fn markdown(outcome: &Outcome) -> String {
    let bars = match &outcome.result {
        Ok(bars) => bars,
        Err(error) => return format!("{}: failed: {error}\n\n", outcome.name),
    };
    let (mut rows, mut columns): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    let mut cells: Vec<(&str, String, String)> = Vec::new();
    for (bar, _) in bars {
        let (row, what) = bar.what.split_once(": ").unwrap_or(("", &bar.what));
        let unit = if bar.unit.is_empty() { String::new() } else { format!(", {}", bar.unit) };
        let column = format!("{what}{unit}");
        let bound = bound(bar.bound);
        let mark = if bar.holds() { String::new() } else { format!(" **{bound}**") };
        if !rows.contains(&row) {
            rows.push(row);
        }
        if !columns.contains(&column) {
            columns.push(column.clone());
        }
        cells.push((row, column, format!("{}{mark}", number(bar.value))));
    }
    let mut out =
        format!("| {} | {} |\n|---|{}\n", outcome.name, columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let cell = |column: &String| {
            let found = cells.iter().find(|(of, what, _)| *of == row && what == column);
            found.map_or("", |(.., text)| text).to_owned()
        };
        let line: Vec<String> = columns.iter().map(cell).collect();
        let _ = writeln!(out, "| {row} | {} |", line.join(" | "));
    }
    out.push('\n');
    out
}

/// All outcomes as a JSON array.
pub fn json(outcomes: &[Outcome]) -> String {
    let values: Vec<Value> = outcomes.iter().map(one).collect();
    format!("{:#}\n", Value::from(values))
}

/// How long each took, the longest first, and all together.
pub fn durations(taken: &[(&str, Duration)]) -> String {
    let mut sorted = taken.to_vec();
    sorted.sort_by_key(|(_, duration)| std::cmp::Reverse(*duration));
    let mut out = String::from("accept: durations\n");
    for (name, duration) in &sorted {
        let _ = writeln!(out, "  {name:<28} {:>6.0} s", duration.as_secs_f64());
    }
    let all = taken.iter().map(|(_, duration)| duration.as_secs_f64()).sum::<f64>();
    let _ = writeln!(out, "  {:<28} {all:>6.0} s, {:.1} minutes", "all", all / 60.0);
    out
}

fn one(outcome: &Outcome) -> Value {
    let bar = |(bar, figures): &(Bar, Vec<f64>)| {
        json!({
            "what": bar.what,
            "median": bar.value,
            "unit": bar.unit,
            "bar": bound(bar.bound),
            "holds": bar.holds(),
            "runs": figures,
        })
    };
    let bars = outcome.result.as_ref().map(|bars| bars.iter().map(bar).collect::<Vec<_>>());
    json!({
        "name": outcome.name,
        "passed": outcome.passed(),
        "error": outcome.result.as_ref().err(),
        "bars": bars.unwrap_or_default(),
    })
}

fn mark(bar: &Bar) -> &'static str {
    match (bar.bound, bar.holds()) {
        (Bound::Recorded, true) => "    ",
        (_, true) => "PASS",
        (_, false) => "FAIL",
    }
}

fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(low) => format!(">= {}", number(low)),
        Bound::AtMost(high) => format!("<= {}", number(high)),
        Bound::Within(low, high) => format!("{} .. {}", number(low), number(high)),
        Bound::Recorded => String::new(),
    }
}

/// Three digits behind the point for what is small, none for what is large.
fn number(value: f64) -> String {
    // Nothing added up is -0.
    let value = value + 0.0;
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_has_a_row_for_what_shares_a_name() {
        let bar = |what: &str, value, bound| (Bar::new(what, value, "", bound), vec![value]);
        let bars = vec![
            bar("c: complete", 0.5, Bound::AtLeast(0.98)),
            bar("c: named", 1.0, Bound::Recorded),
            bar("go: named", 0.25, Bound::Recorded),
        ];
        let text = markdown(&Outcome { name: "accept-stacks", result: Ok(bars) });
        let expected = "| accept-stacks | complete | named |\n|---|---|---|\n\
                        | c | 0.500 **>= 0.980** | 1.000 |\n| go |  | 0.250 |\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn durations_add_up() {
        let seconds = Duration::from_secs;
        let text = durations(&[("accept-x", seconds(30)), ("accept-y", seconds(60))]);
        let lines: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert!(lines[0].starts_with("accept-y") && lines[0].ends_with("60 s"), "{text}");
        assert!(lines[2].starts_with("all") && lines[2].ends_with("90 s, 1.5 minutes"), "{text}");
    }

    #[test]
    fn a_bar_that_fails_says_so_with_every_run() {
        let bar = Bar::new("captured share", 0.9, "", Bound::AtLeast(0.95));
        let outcome = Outcome { name: "accept-capture", result: Ok(vec![(bar, vec![0.8, 0.9, 1.0])]) };
        let line = table(&outcome);
        assert!(line.starts_with("FAIL  accept-capture: captured share"), "{line}");
        assert!(line.contains(">= 0.950") && line.ends_with("[0.800 0.900 1.000]\n"), "{line}");

        let read: Value = serde_json::from_str(&json(&[outcome])).unwrap();
        assert_eq!(read[0]["passed"], false);
        assert_eq!(read[0]["bars"][0]["runs"][2], 1.0);
    }
}
