//! A configuration as it came out, with where each value comes from: as TOML that can be read again, and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys;
use super::layers::Resolved;
use super::origin::{Origin, told};

/// Where comments begin, unless what stands before them is longer.
const COMMENT_COLUMN: usize = 44;

/// `resolved` as TOML, with a comment behind each value. What is not given at all is a comment of its own.
///
/// # Errors
/// A path is not UTF-8.
pub fn as_toml(resolved: &Resolved) -> Result<String, serde_json::Error> {
    let values = keys::values(&resolved.config)?;
    let mut out = String::new();
    let of = |key: &str| key.rsplit_once('.').map_or(String::new(), |(table, _)| table.into());
    let tables = values.iter().map(|(key, _)| of(key)).filter(|table| !table.is_empty());
    let mut tables: Vec<String> = std::iter::once(String::new()).chain(tables).collect();
    // Keys without a table have to stand before all tables.
    tables.dedup();
    for table in tables {
        if !table.is_empty() {
            let _ = writeln!(out, "\n[{table}]");
        }
        for (key, value) in values.iter().filter(|(key, _)| of(key) == table) {
            let name = key.rsplit('.').next().unwrap_or(key);
            let from = from(resolved.origins(key));
            let line = match text_of(value) {
                Some(text) => format!("{name} = {text}"),
                None => format!("# {name} is not given"),
            };
            let _ = writeln!(out, "{line:<COMMENT_COLUMN$} # {from}");
        }
    }
    Ok(out)
}

/// `resolved` as an object: for each key its value and where that comes from.
///
/// # Errors
/// A path is not UTF-8.
pub fn as_json(resolved: &Resolved) -> Result<Value, serde_json::Error> {
    let rows = keys::values(&resolved.config)?.into_iter().map(|(key, value)| {
        let origins: Vec<Value> = resolved.origins(&key).iter().map(origin).collect();
        let origins = if origins.is_empty() { vec![json!({"kind": "default"})] } else { origins };
        (key, json!({"value": value, "origins": origins}))
    });
    Ok(Value::Object(rows.collect::<Map<_, _>>()))
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::File { path, line } => {
            json!({"kind": "file", "file": path.to_string_lossy(), "line": line})
        }
        Origin::Variable(name) => json!({"kind": "variable", "name": name}),
        Origin::Flag(name) => json!({"kind": "flag", "name": name}),
    }
}

/// Where a value comes from, in a line's rest.
fn from(origins: &[Origin]) -> String {
    if origins.is_empty() {
        return "default".into();
    }
    // A file's name may hold anything; a comment ends with its line.
    let plain = |c: char| if c.is_control() { '?' } else { c };
    told(origins).chars().map(plain).collect()
}

/// A value as TOML; none where there is none.
pub fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) => quoted(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let rows: String = items.iter().filter_map(text_of).map(|row| format!("  {row},\n")).collect();
            format!("[\n{rows}]")
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().filter_map(text_of).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
            let given = fields.iter().filter(|(_, value)| !empty(value));
            let fields =
                given.filter_map(|(name, value)| Some(format!("{} = {}", named(name), text_of(value)?)));
            let fields = fields.collect::<Vec<_>>().join(", ");
            if fields.is_empty() { "{}".into() } else { format!("{{ {fields} }}") }
        }
    })
}

/// A key as it is, or quoted.
fn named(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(plain) { name.into() } else { quoted(name) }
}

/// A string of TOML. JSON escapes the same, but for the one control character that it lets pass.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::layers::{File, Flag, Given, Layers, resolve};

    const FILE: &str = r#"hz = 99
store = "/srv/\u007f\u001b\n\"x"
[identity]
env = ["A"]
[[identity.rules]]
labels = { kind = "*", "a.b/c" = "1" }
function = "${name}"
[[identity.rules]]
name = "two"
image = "x"
function = "f"
[cost]
per_cpu_hour = 0.04
[isolation.handlers]
plain = "gvisor"
"a.b" = "none"
"#;

    fn layers(text: &str) -> Layers {
        let flag =
            Flag { name: "--cgroup-parent", key: "cgroup.parents", value: Given::More(vec!["/a".into()]) };
        let file = File { path: "odd\nname.toml".into(), text: text.into() };
        let variables = vec![("FNSCOPE_STACK_UNWIND".into(), "fp".into())];
        Layers { file: Some(file), variables, flags: vec![flag] }
    }

    #[test]
    fn what_is_written_reads_back_and_tells_where_it_came_from() {
        let resolved = resolve(&layers(FILE)).unwrap();
        let text = as_toml(&resolved).unwrap();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let lines: Vec<String> = lines.collect();
        let handlers =
            lines.iter().any(|line| line.starts_with(r#"handlers = { "a.b" = "none", plain = "gvisor" }"#));
        assert!(handlers, "{text}");
        for line in [
            "# node is not given # default",
            "hz = 99 # odd?name.toml:1",
            "[store]",
            r#"path = "/srv/\u007f\u001b\n\"x" # odd?name.toml:2"#,
            r#"{ labels = { "a.b/c" = "1", kind = "*" }, function = "${name}" },"#,
            r#"{ name = "two", image = "x", function = "f" },"#,
            "] # odd?name.toml:5",
            r#"unwind = "fp" # variable FNSCOPE_STACK_UNWIND"#,
            r#"parents = ["/a"] # flag --cgroup-parent"#,
            "per_cpu_hour = 0.04 # odd?name.toml:13",
        ] {
            assert!(lines.iter().any(|told| told == line), "{line} in {text}");
        }
        let again =
            resolve(&Layers { file: Some(File { path: "b".into(), text }), ..Layers::default() }).unwrap();
        assert_eq!(again.config, resolved.config);
    }

    #[test]
    fn as_json_it_tells_the_same() {
        let json = as_json(&resolve(&layers(FILE)).unwrap()).unwrap();
        for (key, value, origins) in [
            ("max_hz", json!(1000), json!([{"kind": "default"}])),
            ("hz", json!(99), json!([{"kind": "file", "file": "odd\nname.toml", "line": 1}])),
            ("node", json!(null), json!([{"kind": "default"}])),
            ("stack.unwind", json!("fp"), json!([{"kind": "variable", "name": "FNSCOPE_STACK_UNWIND"}])),
            ("cgroup.parents", json!(["/a"]), json!([{"kind": "flag", "name": "--cgroup-parent"}])),
        ] {
            assert_eq!(json[key], json!({"value": value, "origins": origins}), "{key}");
        }
        assert_eq!(json.as_object().map(Map::len), Some(keys::all().count()));
    }

    /// The first two cells of each row of the table of keys.
    fn documented() -> Vec<(Vec<&'static str>, &'static str)> {
        let document = include_str!("../../deploy/README.md");
        let (_, section) = document.split_once("\n## Configuration\n").expect("the section is there");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split('|').map(str::trim).skip(1));
        let code = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
        cells.map(|mut cells| (code(cells.next().unwrap_or("")), cells.next().unwrap_or(""))).collect()
    }

    #[test]
    fn the_document_has_every_key_once_with_its_default_and_no_other() {
        let rows = documented();
        let mut told: Vec<&str> = rows.iter().flat_map(|(keys, _)| keys.clone()).collect();
        told.sort_unstable();
        let mut known: Vec<&str> = keys::all().collect();
        known.sort_unstable();
        assert_eq!(told, known);
        for (key, value) in keys::values(&Config::default()).unwrap() {
            let (_, default) = rows.iter().find(|(keys, _)| keys.contains(&key.as_str())).unwrap();
            match text_of(&value) {
                Some(text) if key != "identity.rules" => assert_eq!(*default, format!("`{text}`"), "{key}"),
                _ => assert!(!default.contains('`'), "{key}: {default}"),
            }
        }
    }
}
