//! `fnscope throttled`: which functions were held back, by a quota, by others, by a freezer.

use super::args::{AnyFunctionArg, FilterArgs, RowsArg};
use super::{Outcome, open, output};
use crate::query::{self, Scope};
use crate::render::{throttled, time};

/// Arguments of `throttled`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
THROTTLED is the time that a CPU quota stopped a function's instances, TIMES in how many of its periods; PRESSURE is \
time in which something of them waited for a CPU; FROZEN is time they were paused. All of it within the window.

Examples:
  fnscope throttled                              every function, the longest throttled first
  fnscope throttled pi --since 1h                one of them, the last hour
  fnscope throttled --json | jq '.[] | select(.throttled_seconds > 1) | .function'")]
pub struct Args {
    #[command(flatten)]
    function: AnyFunctionArg,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists functions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (view, selection) = open::asked(&args.filter, Scope::Counts, args.function.function.as_ref())?;
    let rows = query::throttled(view, &selection);
    let nothing = format!("no word of throttling, pressure or freezing ({})", time::window(view.window()));
    let listing =
        output::Listing { rows: args.rows, as_json: args.filter.json, what: "functions", nothing: &nothing };
    listing.answer(&rows, throttled::json, throttled::throttled)
}
