//! Every key that there is, by the names of [`Config`]'s own fields: nobody keeps a list of them beside it.
//!
//! A key is written with dots, as in TOML: `stack.unwind`. In the environment it is a variable: `FNSCOPE_STACK_UNWIND`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Config;
use crate::identity::{IdentityConfig, UserRule};

/// What the names of all variables begin with.
pub const PREFIX: &str = "FNSCOPE_";
/// Where profiles are stored: the one key whose variable has a name of its own, which every command reads.
pub const STORE_KEY: &str = "store.path";
/// Its variable.
pub const STORE_VARIABLE: &str = "FNSCOPE_STORE";
/// Which file to read.
pub const CONFIG_VARIABLE: &str = "FNSCOPE_CONFIG";
/// What is logged.
pub const LOG_VARIABLE: &str = "FNSCOPE_LOG";
/// By which the script of `fnscope completions` asks.
pub const COMPLETE_VARIABLE: &str = "FNSCOPE_COMPLETE";
/// Variables that are fnscope's and no key.
const NO_KEYS: [&str; 3] = [CONFIG_VARIABLE, LOG_VARIABLE, COMPLETE_VARIABLE];

/// The tree of keys. Objects are tables; an object in an array is what a row of that array may have; an object without
/// keys may have any.
pub(super) static TREE: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let identity = IdentityConfig { rules: vec![UserRule::default()], ..IdentityConfig::default() };
    tree(&Config { identity, ..Config::default() }).expect("defaults are text and numbers")
});

fn tree(config: &Config) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(config)? {
        Value::Object(tree) => Ok(tree),
        _ => Ok(Map::new()),
    }
}

/// The keys of the table that `known` is; none where it is none.
pub(super) fn table(known: &Value) -> Option<&Map<String, Value>> {
    known.as_object().filter(|keys| !keys.is_empty())
}

/// The keys of a row, where `known` is an array of tables.
pub(super) fn row(known: &Value) -> Option<&Map<String, Value>> {
    known.as_array().and_then(|rows| rows.first()).and_then(table)
}

/// Every key with its value in `config`, as the fields are in order.
///
/// # Errors
/// A path is not UTF-8.
pub fn values(config: &Config) -> Result<Vec<(String, Value)>, serde_json::Error> {
    let mut leaves = Vec::new();
    gather(tree(config)?, &TREE, "", &mut leaves);
    Ok(leaves)
}

/// The configuration of such values.
pub(super) fn assembled(values: impl Iterator<Item = (String, Value)>) -> Result<Config, serde_json::Error> {
    let mut tree = Value::Object(Map::new());
    for (key, value) in values {
        let place = key.split('.').fold(&mut tree, |table, name| &mut table[name]);
        *place = value;
    }
    serde_json::from_value(tree)
}

fn gather(values: Map<String, Value>, known: &Map<String, Value>, of: &str, into: &mut Vec<(String, Value)>) {
    for (name, value) in values {
        let key = joined(of, &name);
        match (known.get(&name).and_then(table), value) {
            (Some(known), Value::Object(inner)) => gather(inner, known, &key, into),
            (_, value) => into.push((key, value)),
        }
    }
}

/// Every key.
pub fn all() -> impl Iterator<Item = &'static str> {
    static ALL: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut leaves = Vec::new();
        gather(TREE.clone(), &TREE, "", &mut leaves);
        leaves.into_iter().map(|(key, _)| key).collect()
    });
    ALL.iter().map(String::as_str)
}

/// What `key`, which is one of [`all`], is unless given.
pub(super) fn known(key: &str) -> Option<&'static Value> {
    let mut parts = key.split('.');
    let first = TREE.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// `name` in the table `of`.
pub(super) fn joined(of: &str, name: &str) -> String {
    if of.is_empty() { name.into() } else { format!("{of}.{name}") }
}

/// The variable of `key`.
pub fn variable(key: &str) -> String {
    if key == STORE_KEY { STORE_VARIABLE.into() } else { regular(key) }
}

fn regular(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

/// What a variable whose name begins with [`PREFIX`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// That of a key.
    Of(&'static str),
    /// One that is no key, and none of this room's business.
    Other,
    /// None that anybody knows: what to say.
    Unknown(String),
}

/// What the variable `name` with the value `text` is.
pub(super) fn variable_named(name: &str, text: &str) -> Variable {
    if let Some(key) = all().find(|key| variable(key) == name) {
        return Variable::Of(key);
    }
    if NO_KEYS.contains(&name) || is_of_a_service(name, text) {
        return Variable::Other;
    }
    let shadowed = all().find(|key| regular(key) == name).map(variable);
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let names = all().map(variable).chain(NO_KEYS.map(String::from));
    let near = shadowed.or_else(|| nearest(rest, names, |known| known.strip_prefix(PREFIX).unwrap_or(known)));
    Variable::Unknown(match near {
        Some(near) => format!("no variable of fnscope; did you mean {near}?"),
        None => {
            "no variable of fnscope; `fnscope config check` tells the keys, FNSCOPE_STACK_UNWIND is that of \
                 stack.unwind"
                .into()
        }
    })
}

/// Kubernetes and linked containers of Docker set variables for a service called `fnscope`, unasked.
fn is_of_a_service(name: &str, text: &str) -> bool {
    let port_of = |name: &str| {
        let (_, rest) = name.split_once("_PORT_")?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(())
    };
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || port_of(name).is_some()
        || name.ends_with("_PORT") && is_url
}

/// What to say of `name`, which is no key of the table `of` with the keys `known`.
pub(super) fn unknown(of: &str, name: &str, known: &Map<String, Value>) -> String {
    let asked = joined(of, name);
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    // A key of that very name in another table is what was meant.
    let near = all().find(|key| last(key) == plain(name)).map(String::from);
    let near = near.or_else(|| nearest(&asked, known.keys().map(|key| joined(of, key)), |known| known));
    let near = near.or_else(|| nearest(&asked, all().map(String::from), |known| known));
    match near {
        Some(near) => format!("`{asked}` is no key; did you mean `{near}`?"),
        None => {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("`{asked}` is no key; known here are {}", names.join(", "))
        }
    }
}

/// As keys are written.
fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// The one of `names` that is most like `asked`, compared by what `part` takes of it; none if none is like it.
fn nearest(asked: &str, names: impl Iterator<Item = String>, part: impl Fn(&str) -> &str) -> Option<String> {
    /// Longer than any key: comparing costs the product of the lengths.
    const MOST: usize = 64;
    let asked = plain(asked);
    if asked.len() > MOST {
        return None;
    }
    let distances = names.filter_map(|name| {
        let known = plain(part(&name));
        let distance = strsim::damerau_levenshtein(&asked, &known);
        let behind = known.strip_suffix(asked.as_str()).is_some_and(|front| front.ends_with('_'));
        let distance = if behind { 1 } else { distance };
        let last = asked.rsplit('.').next().unwrap_or(&asked).len();
        (distance <= 1 + last / 4 && distance < last).then_some((distance, name))
    });
    distances.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_fields_and_each_has_its_variable() {
        let keys: Vec<&str> = all().collect();
        for key in
            ["store.path", "node", "hz", "identity.rules", "stack.unwind", "cost.per_cpu_hour", "log.format"]
        {
            assert!(keys.contains(&key), "{key} in {keys:?}");
        }
        let mut variables: Vec<String> = keys.iter().map(|key| variable(key)).collect();
        variables.extend(NO_KEYS.map(String::from));
        variables.sort();
        let count = variables.len();
        variables.dedup();
        assert_eq!((variables.len(), keys.len() + NO_KEYS.len()), (count, count), "no two share a variable");
        for key in keys {
            assert_eq!(variable_named(&variable(key), ""), Variable::Of(key));
            assert!(known(key).is_some());
        }
        assert_eq!(values(&Config::default()).unwrap().len(), all().count());
    }

    #[test]
    fn the_nearest_key_is_told() {
        for (of, name, expected) in [
            ("", "herz", "`herz` is no key; did you mean `hz`?"),
            ("", "max-hz", "did you mean `max_hz`?"),
            ("", "stak", "did you mean `stack`?"),
            ("", "max_age", "did you mean `store.max_age`?"),
            ("", "unwind", "did you mean `stack.unwind`?"),
            ("stack", "unwnd", "`stack.unwnd` is no key; did you mean `stack.unwind`?"),
            ("stack", "parents", "did you mean `cgroup.parents`?"),
            ("log", "colour", "known here are format"),
            ("", &"x".repeat(100_000), "known here are store, node, hz"),
        ] {
            let table = if of.is_empty() { &TREE } else { table(&TREE[of]).unwrap() };
            let says = unknown(of, name, table);
            assert!(says.contains(expected), "{expected} in {says:.200}");
        }
    }

    #[test]
    fn the_nearest_variable_is_told_and_those_of_others_are_left_alone() {
        for (name, expected) in [
            ("FNSCOPE_HZZ", "FNSCOPE_HZ?"),
            ("FNSCOPE_STORE_PATH", "FNSCOPE_STORE?"),
            ("FNSCOPE_MAX_AGE", "FNSCOPE_STORE_MAX_AGE?"),
            ("FNSCOPE_UNWIND", "FNSCOPE_STACK_UNWIND?"),
            ("FNSCOPE_LOGS", "FNSCOPE_LOG?"),
            ("FNSCOPE_LISTEN_PORT", "no variable of fnscope"),
            ("FNSCOPE_", "no variable of fnscope"),
        ] {
            let Variable::Unknown(says) = variable_named(name, "9878") else { panic!("{name}") };
            assert!(says.contains(expected), "{name}: {says}");
        }
        for (name, text) in [
            ("FNSCOPE_COMPLETE", "bash"),
            ("FNSCOPE_LOG", "debug"),
            ("FNSCOPE_SERVICE_HOST", "10.0.0.1"),
            ("FNSCOPE_SERVICE_PORT_METRICS", "9878"),
            ("FNSCOPE_AGENT_PORT", "tcp://10.0.0.1:9878"),
            ("FNSCOPE_PORT_9878_TCP_ADDR", "10.0.0.1"),
        ] {
            assert_eq!(variable_named(name, text), Variable::Other, "{name}");
        }
    }
}
