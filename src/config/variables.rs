//! Variables of the environment as settings: `FNSCOPE_STACK_UNWIND=fp` is `stack.unwind = "fp"`.
//!
//! A value is read as TOML where that is what the key asks for, else as text; a list may be parted by commas. An empty
//! variable is as good as none.

use toml::Spanned;
use toml::de::DeValue;

use super::keys::{self, Variable};
use super::layers::{Merged, list, probe};
use super::origin::Origin;

/// Reads the variable `name` into `merged`, if it is one of ours.
pub(super) fn read<'t>(name: &str, text: &'t str, merged: &mut Merged<'t>) {
    if !name.starts_with(keys::PREFIX) {
        return;
    }
    let origin = || Origin::Variable(name.into());
    let key = match keys::variable_named(name, text) {
        Variable::Of(key) => key,
        Variable::Other => return,
        Variable::Unknown(says) => return merged.fault(origin(), says),
    };
    if text.is_empty() {
        return;
    }
    let mut errors = Vec::new();
    for value in readings(key, text) {
        match probe(key, value.clone()) {
            Ok(()) => return merged.set(key, value, origin()),
            Err(error) => errors.push(error),
        }
    }
    // Where text is asked for, what is wrong with it is wrong as text.
    let wants_text = keys::known(key).is_some_and(serde_json::Value::is_string);
    let told = if wants_text { errors.last() } else { errors.first() };
    if let Some(error) = told {
        merged.fault(origin(), format!("{key}: {}", error.message()));
    }
}

/// What `text` may mean, the likeliest first.
fn readings<'t>(key: &str, text: &'t str) -> Vec<DeValue<'t>> {
    let as_it_is = DeValue::String(text.into());
    if key == keys::STORE_KEY {
        // Every other command takes it as it is.
        return vec![as_it_is];
    }
    let toml = DeValue::parse(text).ok().map(Spanned::into_inner);
    let is_list = keys::known(key).is_some_and(serde_json::Value::is_array);
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let parted = is_list.then(|| DeValue::Array(list(items().map(|item| DeValue::String(item.into())))));
    toml.into_iter().chain(parted).chain([as_it_is]).collect()
}
