//! What `/metrics` tells, read as strictly as OpenMetrics is written: each family once, with its type and help text,
//! each series once and of a declared family, and the end at the end.

use std::collections::{BTreeMap, HashMap};

/// Every series by its name and labels, as it is written.
pub type Series = BTreeMap<String, f64>;

/// Reads an exposition.
///
/// # Errors
/// The first line that breaks the format, and how.
pub fn read(text: &str) -> Result<Series, String> {
    let (mut families, mut helped, mut series) = (HashMap::new(), HashMap::new(), Series::new());
    let mut present: Option<(String, String)> = None;
    let body = text.strip_suffix("# EOF\n").ok_or("no end, or something behind it")?;
    for line in body.split_terminator('\n') {
        let fault = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return fault("no help text") };
            if help.is_empty() || helped.insert(name.to_owned(), help.to_owned()).is_some() {
                return fault("help told twice, or empty");
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return fault("no type") };
            if !["counter", "gauge", "info"].contains(&kind) || !helped.contains_key(name) {
                return fault("an unknown type, or a family without help");
            }
            if families.insert(name.to_owned(), kind.to_owned()).is_some() {
                return fault("a family twice");
            }
            present = Some((name.into(), kind.into()));
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let unit = rest.split_once(' ');
            if !unit.is_some_and(|(name, unit)| {
                name.ends_with(&format!("_{unit}")) && families.contains_key(name)
            }) {
                return fault("a unit that is not the end of its family's name");
            }
        } else {
            let Some((name, kind)) = &present else { return fault("a series before any family") };
            let suffix = if kind == "counter" {
                "_total"
            } else if kind == "info" {
                "_info"
            } else {
                ""
            };
            let Some((key, value)) = line.rsplit_once(' ') else { return fault("no value") };
            let (bare, labels) = key.split_once('{').map_or((key, ""), |(bare, rest)| (bare, rest));
            if bare != format!("{name}{suffix}") {
                return fault("a series of another family than the one above it");
            }
            if !labels.is_empty() && !are_labels(labels) {
                return fault("labels that make no sense");
            }
            let Ok(value) = value.parse::<f64>() else { return fault("no number") };
            if kind == "counter" && (value < 0.0 || value.is_nan()) {
                return fault("a counter that is none");
            }
            if series.insert(key.into(), value).is_some() {
                return fault("a series twice");
            }
        }
    }
    Ok(series)
}

/// `name="value",…}` with plain values.
fn are_labels(text: &str) -> bool {
    let name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.strip_suffix('}').is_some_and(|text| {
        text.split(',').all(|label| {
            label.split_once('=').is_some_and(|(key, value)| {
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                name(key) && value.is_some_and(|value| !value.contains(['"', '\\', '\n']))
            })
        })
    })
}

#[test]
fn what_breaks_the_format_is_found() {
    let head = "# HELP a_bytes A.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n";
    let good = format!("{head}a_bytes_total{{x=\"y\",z=\"\"}} 1\na_bytes_total 2.5\n# EOF\n");
    assert_eq!(read(&good).expect("it is right").len(), 2);
    for (text, fault) in [
        (format!("{head}a_bytes_total 1\n"), "no end"),
        (format!("{head}# EOF\nx"), "no end"),
        (format!("{head}a_bytes 1\n# EOF\n"), "another family"),
        (format!("{head}a_bytes_total 1\na_bytes_total 1\n# EOF\n"), "a series twice"),
        (format!("{head}{head}# EOF\n"), "help told twice"),
        ("# TYPE a counter\n# EOF\n".into(), "without help"),
        (format!("{head}a_bytes_total -1\n# EOF\n"), "a counter that is none"),
        (format!("{head}a_bytes_total{{x=y}} 1\n# EOF\n"), "labels"),
        (format!("{head}a_bytes_total x\n# EOF\n"), "no number"),
        ("# HELP a A.\n# TYPE a gauge\n# UNIT a bytes\n# EOF\n".into(), "a unit"),
        ("a 1\n# EOF\n".into(), "before any family"),
    ] {
        let found = read(&text).expect_err(&text);
        assert!(found.contains(fault), "{text}: {found}");
    }
}
