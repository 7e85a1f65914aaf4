//! A configuration file's text as settings: unknown keys, wrong types and wrong TOML are faults with their lines.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::layers::{File, Merged, list, probe_at};
use super::origin::Origin;

/// Faults of TOML that are told; a file that is something else altogether has one in each line.
const MOST_FAULTS: usize = 20;

/// Reads `file` into `merged`.
pub(super) fn read<'t>(file: &'t File, merged: &mut Merged<'t>) {
    let lines = Lines::of(file);
    let (root, errors) = DeTable::parse_recoverable(&file.text);
    for error in errors.iter().take(MOST_FAULTS) {
        merged.fault(lines.at(error.span().unwrap_or_default()), error.message().into());
    }
    // What is left of a table that could not be read would be called wrong for what is missing.
    if errors.is_empty() {
        table(root.into_inner(), &keys::TREE, "", &lines, merged);
    }
}

/// Where lines begin.
struct Lines<'t> {
    file: &'t File,
    ends: Vec<usize>,
}

impl Lines<'_> {
    fn of(file: &File) -> Lines<'_> {
        Lines { file, ends: file.text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    fn at(&self, span: Range<usize>) -> Origin {
        let line = self.ends.partition_point(|end| *end < span.start) + 1;
        Origin::File { path: self.file.path.clone(), line }
    }
}

/// Takes in `table`, which is called `of` and may have the keys `known`.
fn table<'t>(
    table: DeTable<'t>,
    known: &Map<String, Value>,
    of: &str,
    lines: &Lines<'_>,
    merged: &mut Merged<'t>,
) {
    for (name, value) in table {
        let key = keys::joined(of, name.get_ref());
        let at = lines.at(name.span());
        let Some(known_here) = known.get(name.get_ref().as_ref()) else {
            merged.fault(at, keys::unknown(of, name.get_ref(), known));
            continue;
        };
        let Some(inner) = keys::table(known_here) else {
            setting(&key, value, known_here, at, lines, merged);
            continue;
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(within) => self::table(within, inner, &key, lines, merged),
            // `store` alone is its path.
            path @ DeValue::String(_) if keys::STORE_KEY.strip_prefix(&key) == Some(".path") => {
                setting(keys::STORE_KEY, Spanned::new(span, path), &Value::Null, at, lines, merged);
            }
            other => {
                let first = inner.keys().next().map_or("", String::as_str);
                let says = format!(
                    "{key} is a table, no {}; give its keys, such as {key}.{first}",
                    other.type_str()
                );
                merged.fault(at, says);
            }
        }
    }
}

/// Takes in the value of `key`, which stands `at`.
fn setting<'t>(
    key: &str,
    mut value: Spanned<DeValue<'t>>,
    known: &Value,
    at: Origin,
    lines: &Lines<'_>,
    merged: &mut Merged<'t>,
) {
    let mut rows = Vec::new();
    if let (Some(columns), DeValue::Array(array)) = (keys::row(known), value.get_mut()) {
        for (number, row) in array.iter_mut().enumerate() {
            let place = lines.at(row.span());
            let DeValue::Table(row) = row.get_mut() else { continue };
            let fields = std::mem::take(row).into_iter().filter(|(name, _)| {
                let is_known = columns.contains_key(name.get_ref().as_ref());
                if !is_known {
                    merged.fault(lines.at(name.span()), keys::unknown(key, name.get_ref(), columns));
                }
                is_known
            });
            *row = fields.collect();
            let name = row.get("name").and_then(|name| name.get_ref().as_str().map(String::from));
            rows.push((name.unwrap_or_else(|| (number + 1).to_string()), place));
        }
    }
    let mut is_sound = true;
    for piece in pieces(&value) {
        if let Err(error) = probe_at(key, piece) {
            is_sound = false;
            let place =
                error.span().filter(|span| span.start > 0).map_or_else(|| at.clone(), |span| lines.at(span));
            merged.fault(place, format!("{key}: {}", error.message()));
        }
    }
    if is_sound {
        merged.set(key, value.into_inner(), at);
        rows.into_iter().for_each(|(title, place)| merged.row(key, title, place));
    }
}

/// The parts of `value` that are right or wrong by themselves: of a list its elements, of tables in it their keys.
fn pieces<'t>(value: &Spanned<DeValue<'t>>) -> Vec<Spanned<DeValue<'t>>> {
    let DeValue::Array(array) = value.get_ref() else { return vec![value.clone()] };
    let mut pieces = Vec::new();
    let alone = |piece: Spanned<DeValue<'t>>| {
        let mut alone = list(std::iter::empty());
        let span = piece.span();
        alone.push(piece);
        Spanned::new(span, DeValue::Array(alone))
    };
    for element in array.iter() {
        let DeValue::Table(table) = element.get_ref() else {
            pieces.push(alone(element.clone()));
            continue;
        };
        for (name, value) in table {
            let table = DeTable::from_iter([(name.clone(), value.clone())]);
            pieces.push(alone(Spanned::new(value.span(), DeValue::Table(table))));
        }
    }
    pieces
}
