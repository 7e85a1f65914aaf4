//! The queries of `docs/queries.md`, run by DuckDB on a sealed store, against what was fed in and what fnscope itself
//! answers. Installs DuckDB where it is missing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ask::{self, ask, file, own_totals, python};
use crate::store_data::{Fed, Making, Shape};
use crate::support::Fnscope;

/// Instances that live for 25 minutes, over hours and a midnight.
const SMALL: Shape = Shape {
    seed: 7,
    first: 20,
    hours: 6,
    functions: 3,
    revisions: 2,
    instances: 60,
    samples: 500,
    life_us: Some(25 * 60_000_000),
    stacks: 40,
    cpus: 2,
    batch_us: 600_000_000,
};

/// Its hours since the first midnight.
const HOURS: std::ops::Range<i64> = 20..26;
const FIRST_DAY: [&str; 4] = ["--since", "2026-11-23", "--until", "2026-11-24"];
const SECOND_DAY: [&str; 4] = ["--since", "2026-11-24", "--until", "2026-11-25"];

/// The document's answers, each looked at once.
struct Answers {
    rows: BTreeMap<String, Vec<Value>>,
}

impl Answers {
    fn take(&mut self, heading: &str) -> Vec<Value> {
        let rows = self.rows.remove(heading);
        let rows = rows.unwrap_or_else(|| panic!("no `{heading}` in docs/queries.md"));
        assert!(!rows.is_empty(), "`{heading}` answers nothing");
        rows
    }
}

fn sealed(shape: Shape) -> (Fnscope, Fed) {
    let fnscope = Fnscope::new();
    let mut making = Making::begin(fnscope.store(), shape).expect("begin a store");
    making.wait_every = Some(7);
    making.write(|_| Ok(())).expect("write it");
    let (fed, tidied, _) = making.finish(false).expect("seal it");
    assert_eq!((fed.samples, tidied.sealed.samples), (shape.all(), shape.all()));
    (fnscope, fed)
}

/// `keys` of each row, ordered; numbers that are whole are whole, whatever they were written as.
fn picked(rows: &[Value], keys: &[&str]) -> Vec<String> {
    let pick = |row: &Value| keys.iter().map(|key| plain(&row[*key])).collect::<Vec<_>>().join(" ");
    let mut picked: Vec<String> = rows.iter().map(pick).collect();
    picked.sort();
    picked
}

fn plain(value: &Value) -> String {
    match value.as_f64() {
        // Six digits are microseconds; sums of fractions differ behind them by the order they are added up in.
        Some(number) => format!("{number:.6}"),
        None => value.to_string(),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A sum by name, and what a row adds to it.
type Sum<'a> = (&'a str, &'a dyn Fn(&Value) -> f64);

/// Rows summed by `keys`: each of `sums` of a row is a number.
fn summed(rows: &[Value], keys: &[&str], sums: &[Sum<'_>]) -> Vec<Value> {
    let mut by: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let key: Vec<&Value> = keys.iter().map(|key| &row[*key]).collect();
        let sum = by.entry(json!(key).to_string()).or_insert_with(|| {
            let names = keys.iter().map(|key| (key.to_string(), row[*key].clone()));
            names.chain(sums.iter().map(|(name, _)| (name.to_string(), json!(0.0)))).collect()
        });
        for (name, value) in sums {
            sum[*name] = json!(number(&sum[*name]) + value(row));
        }
    }
    by.into_values().collect()
}

fn of_phase(row: &Value, phase: &str, key: &str) -> f64 {
    let phases = row["phases"].as_array().expect("a list");
    let found = phases.iter().find(|of| of["phase"] == phase);
    found.map_or(0.0, |of| of[key].as_f64().unwrap_or(0.0))
}

/// A row of `top` in the words of a stored frame.
fn frame(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let suffix = if text("kind") == "kernel" { "_[k]" } else { "" };
    match text("frame") {
        name if name.contains("+0x") => format!("{name}{suffix}"),
        name => format!("{name} [{}]{suffix}", text("module")),
    }
}

#[test]
fn every_query_of_the_document_answers_what_fnscope_answers() {
    let python = python("duckdb");
    let (fnscope, fed) = sealed(SMALL);
    let rows = ask(&python, "document", fnscope.store(), &[&file("docs/queries.md")]);
    let mut answers = Answers { rows: serde_json::from_value(rows).expect("rows by heading") };

    let mut days = Vec::new();
    for (date, window) in [("2026-11-23", FIRST_DAY), ("2026-11-24", SECOND_DAY)] {
        let rows = fnscope.rows(&[&["ls"], &window[..]].concat());
        let sums: [Sum<'_>; 3] = [
            ("cpu_seconds", &|row| number(&row["cpu_seconds"])),
            ("samples", &|row| number(&row["samples"])),
            ("instances", &|row| number(&row["instances"])),
        ];
        for mut row in summed(&rows, &["namespace", "function"], &sums) {
            row["date"] = json!(date);
            days.push(row);
        }
    }
    let keys = ["date", "namespace", "function", "cpu_seconds", "samples", "instances"];
    assert_eq!(picked(&answers.take("Cost per function and day"), &keys), picked(&days, &keys));

    let listed = fnscope.rows(&["ls"]);
    let found = answers.take("Regressions between revisions");
    let keys = ["namespace", "function", "revision", "instances", "cpu_seconds"];
    assert_eq!(picked(&found, &keys), picked(&listed, &keys));
    for pair in found.windows(2).filter(|pair| pair[0]["function"] == pair[1]["function"]) {
        let times = number(&pair[1]["cpu_seconds_each"]) / number(&pair[0]["cpu_seconds_each"]);
        assert_eq!(plain(&json!(times)), plain(&pair[1]["times_before"]), "{pair:#?}");
    }

    let found = answers.take("Coverage, loss and stacks per function");
    let keys = [
        "namespace",
        "function",
        "revision",
        "samples",
        "coverage",
        "complete",
        "named",
        "lost",
        "truncated",
        "unsymbolized",
    ];
    assert_eq!(picked(&found, &keys), picked(&listed, &keys));

    let instances = fnscope.rows(&["instances"]);
    let found = answers.take("Cost of cold starts");
    let count = |phase: &'static str, key: &'static str| move |row: &Value| of_phase(row, phase, key);
    let sums: [Sum<'_>; 6] = [
        ("instances", &|_| 1.0),
        ("runtime_init_samples", &count("runtime-init", "samples")),
        ("cold_samples", &count("cold", "samples")),
        ("warm_samples", &count("warm", "samples")),
        ("runtime_init_cpu_seconds", &count("runtime-init", "cpu_seconds")),
        ("cold_cpu_seconds", &count("cold", "cpu_seconds")),
    ];
    let expected = summed(&instances, &["namespace", "function"], &sums);
    let keys = ["namespace", "function"].into_iter().chain(sums.iter().map(|(name, _)| *name));
    let keys: Vec<&str> = keys.collect();
    assert_eq!(picked(&found, &keys), picked(&expected, &keys));

    let found = answers.take("Most throttled");
    let expected = fed
        .throttled
        .iter()
        .map(|(function, (times, us))| json!({ "function": function, "times": times, "stood_us": us }));
    let keys = ["function", "times", "stood_us"];
    assert_eq!(picked(&found, &keys), picked(&expected.collect::<Vec<_>>(), &keys));

    let mut top = fnscope.top("fn-001");
    top.retain(|row| row["self_samples"] != 0);
    let modules = summed(&top, &["module"], &[("self_samples", &|row| number(&row["self_samples"]))]);
    top.iter_mut().for_each(|row| row["frame"] = json!(frame(row)));
    let found = answers.take("Hottest frames of a function");
    let keys = ["frame", "self_samples", "self_seconds"];
    assert_eq!(picked(&found, &keys), picked(&top, &keys));
    let found = answers.take("Hottest modules");
    let keys = ["module", "self_samples"];
    assert_eq!(picked(&found, &keys), picked(&modules, &keys));

    let found = answers.take("What a function waits for");
    let ended = fnscope.run(["top", "fn-001", "--event", "off-cpu", "--json"]);
    let mut top: Vec<Value> = serde_json::from_str(&ended.stdout).expect("rows");
    top.retain(|row| row["self_waits"] != 0);
    top.iter_mut().for_each(|row| row["frame"] = json!(frame(row)));
    let keys = ["frame", "self_waits", "self_seconds"];
    assert_eq!(picked(&found, &keys), picked(&top, &keys));
    let found = answers.take("Time off the CPU per function");
    let expected: Vec<Value> = listed.iter().filter(|row| !row["waits"].is_null()).cloned().collect();
    let keys = ["namespace", "function", "revision", "waits", "off_cpu_seconds", "preempted_seconds"];
    assert_eq!(picked(&found, &keys), picked(&expected, &keys));

    let found = answers.take("Heatmap of a minute");
    let minute = ["ls", "--since", "2026-11-23T22:05:00Z", "--until", "2026-11-23T22:06:00Z"];
    let samples = |rows: &[Value]| rows.iter().map(|row| number(&row["samples"])).sum::<f64>();
    assert_eq!(samples(&found), samples(&fnscope.rows(&minute)));
    assert!(found.iter().all(|cell| (0.0..50.0).contains(&number(&cell["row"]))), "{found:#?}");
    let cell = &found[found.len() / 2];
    let second =
        cell["second"].as_str().expect("a time").split('+').next().expect("a part").replace(' ', "T");
    let edge = |row: f64| format!("{second}.{:03}Z", (row * 20.0) as u32);
    let until = match number(&cell["row"]) {
        49.0 => format!("{second}.999999Z"),
        row => edge(row + 1.0),
    };
    let of_cell = fnscope.rows(&["ls", "--since", &edge(number(&cell["row"])), "--until", &until]);
    assert_eq!(number(&cell["samples"]), samples(&of_cell), "{cell}");

    let found = answers.take("Instances that died for want of memory");
    let named = |row: &&Value| fed.oom.iter().any(|name| row["instance_name"] == **name);
    let expected: Vec<Value> = instances.iter().filter(named).cloned().collect();
    assert_eq!(expected.len(), fed.oom.len());
    let keys = ["namespace", "function", "revision", "instance_name", "node", "exit_code"];
    assert_eq!(picked(&found, &keys), picked(&expected, &keys));

    let found = answers.take("Losses of hosts");
    let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
    for ((_, _, hour), samples) in &fed.totals {
        *hours.entry(*hour).or_default() += samples;
    }
    let lost: f64 = found.iter().map(|row| number(&row["ring_lost"])).sum();
    assert_eq!(lost, fed.ring_lost as f64);
    let told = found.iter().map(|row| {
        let day = if row["date"] == "2026-11-23" { 0 } else { 24 };
        (day + row["hour"].as_i64().expect("an hour"), row["samples"].as_u64().expect("a count"))
    });
    assert_eq!(told.filter(|(_, samples)| *samples > 0).collect::<BTreeMap<_, _>>(), hours);

    assert!(answers.rows.is_empty(), "nothing looks at {:?}", answers.rows.keys());
}

#[test]
fn sealed_and_unsealed_together_are_what_was_fed_in() {
    let python = python("duckdb");
    let fnscope = Fnscope::new();
    let mut making = Making::begin(fnscope.store(), Shape { seed: 8, ..SMALL }).expect("begin a store");
    making.write(|_| Ok(())).expect("write it");
    making.seal(false).expect("seal all but the last journal");
    let fed = making.fed.totals.clone();
    let sealed = ask::totals(&python, "duckdb", fnscope.store());
    let is_sealed = |of: &(String, String, i64)| sealed.contains_key(of);
    assert!(fed.keys().any(is_sealed) && !fed.keys().all(is_sealed), "some are sealed and some are not");
    assert!(sealed.iter().all(|(of, samples)| fed.get(of) == Some(samples)), "{sealed:?}");
    assert_eq!(own_totals(&fnscope, HOURS), fed);
    let (fed, ..) = making.finish(true).expect("seal the rest");
    assert_eq!(ask::totals(&python, "duckdb", fnscope.store()), fed.totals);
    assert_eq!(own_totals(&fnscope, HOURS), fed.totals);
}
