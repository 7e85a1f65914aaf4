//! What a shell is told while a person types: commands, options, and what the store on the line knows:
//! functions, instances, hosts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use super::args::STORE_VARIABLE;
use crate::config::DEFAULT_STORE;
pub use crate::config::keys::COMPLETE_VARIABLE as VARIABLE;
use crate::query::{self, View};

/// Answers a shell, if one asks; true if one did.
pub fn answered() -> bool {
    let env = CompleteEnv::with_factory(super::Cli::command).var(VARIABLE);
    let directory = std::env::current_dir().ok();
    // A line that cannot be completed is no reason to write on the person's prompt.
    env.try_complete(std::env::args_os(), directory.as_deref()).unwrap_or(true)
}

/// The functions of the stores that are asked about, as short as they can be told.
pub fn functions() -> Vec<CompletionCandidate> {
    let names: BTreeSet<String> = query::shortest_names(glance().functions()).into_iter().collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Their instances, the newest alone where there are many: keys, and the platform's names of them.
pub fn instances() -> Vec<CompletionCandidate> {
    /// More than this nobody reads.
    const MOST: usize = 1_000;
    let view = glance();
    let known: Vec<(&str, Vec<&str>)> = view.instance_names().collect();
    let newest = known.iter().rev().take(MOST);
    let names: BTreeSet<&str> = newest.flat_map(|(key, names)| names.iter().chain([key])).copied().collect();
    // A name with a blank or a quote in it would not survive the shell.
    let plain = names.into_iter().filter(|name| name.chars().all(|c| c.is_ascii_graphic() && c != '\''));
    plain.map(CompletionCandidate::new).collect()
}

/// Their hosts.
pub fn hosts() -> Vec<CompletionCandidate> {
    let view = glance();
    view.hosts().iter().map(|host| CompletionCandidate::new(&host.label)).collect()
}

/// What the stores know. The process ends with the answer: freeing what a hundred thousand instances take would make a
/// person wait.
fn glance() -> &'static View {
    /// Longer than this nobody waits for a key.
    const PATIENCE: Duration = Duration::from_millis(300);
    Box::leak(Box::new(query::glance(&stores(std::env::args_os()), PATIENCE)))
}

/// The stores that the line being typed names; without one that of the environment, or the default.
fn stores(asked: impl Iterator<Item = OsString>) -> Vec<PathBuf> {
    // The shell's script asks `fnscope -- WORDS`.
    let words: Vec<String> =
        asked.skip_while(|word| word != "--").skip(1).filter_map(|word| word.into_string().ok()).collect();
    let mut stores = Vec::new();
    for (at, word) in words.iter().enumerate() {
        // Bash takes `--store=DIR` for three words.
        let next = words.get(at + 1).filter(|next| *next != "=").or_else(|| words.get(at + 2));
        match word.strip_prefix("--") {
            Some(option) if STORE_OPTIONS.contains(&option) => stores.extend(next.map(|word| unquoted(word))),
            Some(option) => {
                let given = option.split_once('=').filter(|(name, _)| STORE_OPTIONS.contains(name));
                stores.extend(given.map(|(_, value)| unquoted(value)));
            }
            None => {}
        }
    }
    stores.retain(|store| !store.as_os_str().is_empty());
    if stores.is_empty() {
        stores.push(
            std::env::var_os(STORE_VARIABLE)
                .filter(|store| !store.is_empty())
                .map_or_else(|| DEFAULT_STORE.into(), PathBuf::from),
        );
    }
    stores
}

/// Options that name a store.
const STORE_OPTIONS: [&str; 3] = ["store", "a-store", "b-store"];

/// A word as the shell will hand it over: it is completed before its quotes and its `~` are taken away.
fn unquoted(word: &str) -> PathBuf {
    if let Some((rest, home)) = word.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        return PathBuf::from(home).join(rest);
    }
    let bare = |quote: char| word.strip_prefix(quote).map(|rest| rest.strip_suffix(quote).unwrap_or(rest));
    match bare('"').or_else(|| bare('\'')) {
        Some(inner) => inner.into(),
        None => word.replace('\\', "").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_typed_store_is_the_one_asked() {
        for (line, expected) in [
            ("fnscope -- fnscope top --store /a/b ", &["/a/b"][..]),
            ("fnscope -- fnscope top --store=/a/b pi", &["/a/b"]),
            ("fnscope -- fnscope top --store = /a/b pi", &["/a/b"]),
            ("fnscope -- fnscope diff --a-store \"/a\" --b-store '/b pi", &["/a", "/b"]),
            ("fnscope -- fnscope top --store /a --store /x\\y", &["/a", "/xy"]),
        ] {
            let words = line.split(' ').map(OsString::from);
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(stores(words), expected, "{line}");
        }
        // Nothing typed yet: some store is asked all the same.
        assert_eq!(
            stores(["fnscope", "--", "fnscope", "top", "--store"].map(OsString::from).into_iter()).len(),
            1
        );
    }
}
