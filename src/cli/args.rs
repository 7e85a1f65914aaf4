//! Arguments that every question has: which store, which window, which instances.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::complete;
use crate::config::DEFAULT_STORE;
use crate::model::{Timestamp, Window};
use crate::query::{Phase, PhaseFilter, Selector, When};

/// The environment variable that names the store.
pub const STORE_VARIABLE: &str = "FNSCOPE_STORE";

/// What part of which store a question is about.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// The store's directory
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, default_value = DEFAULT_STORE)]
    pub store: PathBuf,
    /// Only what happened at this time or later: `2026-11-23T08:00:00Z`, `08:15` (today, UTC), `10m`, `2h`, `1d` (ago)
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Only this instance: its key, the begin of it or of the container's id, or its name; may be repeated
    #[arg(long, value_name = "KEY")]
    pub instance: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl FilterArgs {
    /// The window asked for; an empty one is wrong usage.
    pub fn window(&self) -> Result<Window, clap::Error> {
        let now = now();
        let window = Window {
            from: self.since.map_or(Timestamp::MIN, |when| when.at(now)),
            to: self.until.map_or(Timestamp::MAX, |when| when.at(now)),
        };
        if window.from < window.to {
            return Ok(window);
        }
        let message = format!("--until {} is not later than --since {}", window.to, window.from);
        Err(super::Cli::command().error(ErrorKind::ValueValidation, message))
    }
}

/// Which function, as an argument.
#[derive(Debug, Clone, clap::Args)]
pub struct FunctionArg {
    /// The function: `platform/namespace/function@revision` or any end of that; without a revision all of them
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    pub function: Selector,
}

/// Which phases, as an option.
#[derive(Debug, Clone, clap::Args)]
pub struct PhaseArg {
    /// Which phases of an instance's life
    #[arg(long, value_name = "PHASE", default_value = "function")]
    pub phase: PhaseFilter,
}

impl ValueEnum for PhaseFilter {
    fn value_variants<'a>() -> &'a [PhaseFilter] {
        &[
            PhaseFilter::Function,
            PhaseFilter::All,
            PhaseFilter::Only(Phase::RuntimeInit),
            PhaseFilter::Only(Phase::Cold),
            PhaseFilter::Only(Phase::Warm),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            PhaseFilter::Function => ("function", "the function's own time: cold and warm"),
            PhaseFilter::All => ("all", "everything"),
            PhaseFilter::Only(Phase::RuntimeInit) => {
                ("runtime-init", "the container runtime's, before the function's own exec")
            }
            PhaseFilter::Only(Phase::Cold) => ("cold", "the first second from the exec on"),
            PhaseFilter::Only(Phase::Warm) => ("warm", "after that"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
