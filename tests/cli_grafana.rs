//! deploy/grafana: a panel asks for metrics and labels that there are, and every metric is shown by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use fnscope::metrics::documented;
use serde_json::Value;

/// Labels that a Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

fn dashboard() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/fnscope.json");
    serde_json::from_str(&fs::read_to_string(path).expect("read it")).expect("JSON")
}

/// Every metric with its labels.
fn metrics() -> BTreeMap<String, Vec<String>> {
    let parted = |name: &str| {
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(String::from).collect())
    };
    documented().map(|metric| parted(&metric.name)).collect()
}

/// Panels, those of rows among them.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let list = |value: &'_ Value| value.as_array().map_or(0, Vec::len);
    let panels = dashboard["panels"].as_array().expect("a list");
    assert!(
        panels.iter().all(|panel| panel["type"] != "row" || list(&panel["panels"]) == 0),
        "rows are open"
    );
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// The words of an expression: letters, digits and `_`, and those in braces behind `{{`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn every_metric_is_shown_and_nothing_else_is_asked_for() {
    let (dashboard, metrics) = (dashboard(), metrics());
    let mut shown = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}: what is it?");
        for target in panel["targets"].as_array().expect("a list") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            let asked: Vec<&str> = words(expression).filter(|word| word.starts_with("fnscope_")).collect();
            assert!(!asked.is_empty(), "{title}: {expression}");
            let mut labels: BTreeSet<&str> = ADDED.into();
            for name in asked {
                let known = metrics.get(name).unwrap_or_else(|| panic!("{title}: there is no {name}"));
                labels.extend(known.iter().map(String::as_str));
                shown.insert(name);
                // A counter alone says nothing.
                if name.ends_with("_total") {
                    let range =
                        ["rate(", "increase("].iter().any(|f| expression.contains(&format!("{f}{name}")));
                    assert!(range, "{title}: {expression}");
                }
            }
            let by = expression.split(" by (").skip(1).filter_map(|rest| rest.split(')').next());
            for label in by.flat_map(words) {
                assert!(labels.contains(label), "{title}: by {label}: {expression}");
            }
            let legend = target["legendFormat"].as_str().expect("a legend");
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(labels.contains(label), "{title}: {legend}");
                assert!(expression.contains(label), "{title}: {label} is summed away: {expression}");
            }
        }
    }
    let missing: Vec<_> = metrics.keys().filter(|name| !shown.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn it_can_be_taken_into_any_grafana() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, [Some("datasource"), Some("instance")]);
    assert!(dashboard["id"].is_null() && dashboard["uid"] == "fnscope-agents", "no id of one Grafana's own");
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("a list") {
        assert!(ids.insert(panel["id"].as_u64()), "an id twice: {}", panel["title"]);
        let place = &panel["gridPos"];
        let at = |key: &str| place[key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
    }
}
