//! What a shell is told while a person types: commands, options, and the functions of the store.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use super::args::STORE_VARIABLE;
use crate::config::DEFAULT_STORE;
use crate::query;

/// The environment variable by which the script of `fnscope completions` asks.
pub const VARIABLE: &str = "FNSCOPE_COMPLETE";

/// Answers a shell, if one asks; true if one did.
pub fn answered() -> bool {
    let env = CompleteEnv::with_factory(super::Cli::command).var(VARIABLE);
    let directory = std::env::current_dir().ok();
    // A line that cannot be completed is no reason to write on the person's prompt.
    env.try_complete(std::env::args_os(), directory.as_deref()).unwrap_or(true)
}

/// The functions of the store that `FNSCOPE_STORE` names, as short as they can be told.
pub fn functions() -> Vec<CompletionCandidate> {
    /// Longer than this nobody waits for a key.
    const PATIENCE: Duration = Duration::from_millis(300);
    let store = std::env::var_os(STORE_VARIABLE).map_or_else(|| PathBuf::from(DEFAULT_STORE), PathBuf::from);
    let known = query::names(&store, PATIENCE);
    let names: BTreeSet<String> = known.iter().map(|id| query::shortest(id, &known)).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}
