//! Defaults, then a file, then variables of the environment, then flags, to one [`Config`]. Pure.
//!
//! Promises: a value of a later layer goes over one of an earlier layer, key by key; a list goes over a list as a
//! whole, but where a flag adds to it. Every layer is checked whole, also where another goes over it, and all faults
//! are told at once. No text and no variables panic.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::origin::{Fault, Faults, Origin};
use super::{Config, file, variables};

/// Everything that a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file, if there is one.
    pub file: Option<File>,
    /// Names and values of variables. Those whose name does not begin with `FNSCOPE_` are left alone.
    pub variables: Vec<(String, String)>,
    /// What the command line says.
    pub flags: Vec<Flag>,
}

/// A configuration file.
#[derive(Debug, Clone)]
pub struct File {
    /// As it was asked for.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// A flag that stands for a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As it is written, such as `--hz`.
    pub name: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: Given,
}

/// The value of a flag.
#[derive(Debug, Clone)]
pub enum Given {
    /// Text, taken as it is.
    Text(String),
    /// A value as TOML has it: a number, or whether.
    Toml(String),
    /// What is added to a list.
    More(Vec<String>),
}

/// A configuration without a fault, and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    origins: BTreeMap<String, Vec<Origin>>,
}

impl Resolved {
    /// Where the value of `key` comes from; nowhere if it is the default. Lists may come from several places.
    pub fn origins(&self, key: &str) -> &[Origin] {
        self.origins.get(key).map_or(&[], Vec::as_slice)
    }
}

/// Puts `layers` together.
///
/// # Errors
/// Everything that is wrong, in order of the layers, each with its line, its variable or its flag.
pub fn resolve(layers: &Layers) -> Result<Resolved, Faults> {
    let mut merged = Merged::default();
    if let Some(file) = &layers.file {
        file::read(file, &mut merged);
    }
    for (name, text) in &layers.variables {
        variables::read(name, text, &mut merged);
    }
    for flag in &layers.flags {
        take_flag(flag, &mut merged);
    }
    merged.finish()
}

fn take_flag<'t>(flag: &'t Flag, merged: &mut Merged<'t>) {
    let text = |text: &'t str| DeValue::String(text.into());
    let value = match &flag.value {
        Given::Text(given) => text(given),
        Given::Toml(given) => DeValue::parse(given).map_or_else(|_| text(given), Spanned::into_inner),
        Given::More(more) => {
            let more = list(more.iter().map(|item| text(item)));
            return merged.add(flag.key, more, Origin::Flag(flag.name));
        }
    };
    match probe(flag.key, value.clone()) {
        Ok(()) => merged.set(flag.key, value, Origin::Flag(flag.name)),
        Err(error) => merged.fault(Origin::Flag(flag.name), format!("{}: {}", flag.key, error.message())),
    }
}

/// What the layers have come to so far.
#[derive(Debug, Default)]
pub(super) struct Merged<'t> {
    settings: BTreeMap<String, Setting<'t>>,
    /// Rows of arrays of tables: the key, the name by which faults call a row, and where it is.
    rows: Vec<(String, String, Origin)>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Setting<'t> {
    value: DeValue<'t>,
    origins: Vec<Origin>,
}

impl<'t> Merged<'t> {
    /// Sets `key` to `value`, which is of the right type.
    pub(super) fn set(&mut self, key: &str, value: DeValue<'t>, origin: Origin) {
        self.rows.retain(|(of, ..)| of != key);
        self.settings.insert(key.into(), Setting { value, origins: vec![origin] });
    }

    /// Adds to the list at `key`.
    fn add(&mut self, key: &str, more: DeArray<'t>, origin: Origin) {
        match self.settings.get_mut(key) {
            Some(Setting { value: DeValue::Array(list), origins }) => {
                more.iter().for_each(|item| list.push(item.clone()));
                origins.push(origin);
            }
            _ => self.set(key, DeValue::Array(more), origin),
        }
    }

    /// Remembers where a row of the array at `key` is; faults call it `title`.
    pub(super) fn row(&mut self, key: &str, title: String, origin: Origin) {
        self.rows.push((key.into(), title, origin));
    }

    /// Something is wrong at `origin`.
    pub(super) fn fault(&mut self, origin: Origin, says: String) {
        self.faults.push(Fault { origins: vec![origin], says });
    }

    fn finish(mut self) -> Result<Resolved, Faults> {
        let mut tree = DeTable::new();
        for (key, setting) in &self.settings {
            insert(&mut tree, key, unplaced(setting.value.clone()));
        }
        let config = read(tree).unwrap_or_else(|error| {
            // Each value was read by itself before; this is for what nobody has thought of.
            self.faults.push(Fault { origins: Vec::new(), says: error.message().into() });
            Config::default()
        });
        for says in config.faults() {
            let origins = self.origins_of(&says);
            self.faults.push(Fault { origins, says });
        }
        if !self.faults.is_empty() {
            self.faults.sort();
            return Err(Faults(self.faults));
        }
        let origins = self.settings.into_iter().map(|(key, setting)| (key, setting.origins)).collect();
        Ok(Resolved { config, origins })
    }

    /// Where the value is that a fault of [`Config::faults`] is about: it begins with the key, and behind that with the
    /// row's name where the key is an array of tables.
    fn origins_of(&self, says: &str) -> Vec<Origin> {
        let key = says.split(' ').next().unwrap_or_default();
        let of_row = self.rows.iter().find(|(of, title, _)| {
            of == key && says.strip_prefix(&format!("{of} {title}")).is_some_and(|rest| rest.starts_with(':'))
        });
        if let Some((.., origin)) = of_row {
            return vec![origin.clone()];
        }
        self.settings.get(key).map(|setting| setting.origins.clone()).unwrap_or_default()
    }
}

/// Whether `value` is of the type that `key` asks for.
pub(super) fn probe(key: &str, value: DeValue<'_>) -> Result<(), toml::de::Error> {
    probe_at(key, unplaced(value))
}

/// The same; an error knows where in the text it is.
pub(super) fn probe_at(key: &str, value: Spanned<DeValue<'_>>) -> Result<(), toml::de::Error> {
    let mut tree = DeTable::new();
    insert(&mut tree, key, value);
    read(tree).map(drop)
}

fn read(tree: DeTable<'_>) -> Result<Config, toml::de::Error> {
    Config::deserialize(Deserializer::from(Spanned::new(NOWHERE, tree)))
}

const NOWHERE: Range<usize> = 0..0;

pub(super) fn unplaced(value: DeValue<'_>) -> Spanned<DeValue<'_>> {
    Spanned::new(NOWHERE, value)
}

/// A list of `items`.
pub(super) fn list<'t>(items: impl Iterator<Item = DeValue<'t>>) -> DeArray<'t> {
    let mut list = DeArray::new();
    items.for_each(|item| list.push(unplaced(item)));
    list
}

/// Puts `value` at the dotted `key` of `tree`.
fn insert<'t>(tree: &mut DeTable<'t>, key: &str, value: Spanned<DeValue<'t>>) {
    let name = |name: &str| Spanned::new(NOWHERE, name.to_owned().into());
    let Some((first, rest)) = key.split_once('.') else {
        tree.insert(name(key), value);
        return;
    };
    if !tree.contains_key(first) {
        tree.insert(name(first), unplaced(DeValue::Table(DeTable::new())));
    }
    if let Some(DeValue::Table(inner)) = tree.get_mut(first).map(Spanned::get_mut) {
        insert(inner, rest, value);
    }
}
