//! `fnscope throttled`: which functions were held back, by a quota, by others, by a freezer.

use clap_complete::engine::ArgValueCandidates;

use super::args::{FilterArgs, RowsArg};
use super::{Outcome, complete, open, output};
use crate::query::Scope;
use crate::query::{self, Selector};
use crate::render::{self, time};

/// Arguments of `throttled`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
THROTTLED is the time that a CPU quota stopped a function's instances, TIMES in how many of its periods; PRESSURE is
time in which something of them waited for a CPU; FROZEN is time they were paused. All of it within the window.

Examples:
  fnscope throttled                              every function, the longest throttled first
  fnscope throttled pi --since 1h                one of them, the last hour
  fnscope throttled --json | jq '.[] | select(.throttled_seconds > 1) | .function'")]
pub struct Args {
    /// The function: `platform/namespace/function@revision` or any end of that; without it all of them
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    function: Option<Selector>,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists functions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let view = open::view_for(&args.filter, Scope::Counts)?;
    let selection = open::select(&view, &args.filter, args.function.as_ref())?;
    let rows = query::throttled(&view, &selection);
    let shown = args.rows.of(&rows, args.filter.json);
    if args.filter.json {
        output::print_json(&render::throttled::json(shown))?;
    } else if !rows.is_empty() {
        output::print(&render::throttled::throttled(shown, output::terminal_width()))?;
        output::tell_hidden(shown.len(), rows.len(), "functions");
    }
    if rows.is_empty() {
        let window = time::window(view.window());
        output::tell(&format!("fnscope: no word of throttling, pressure or freezing ({window})"));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
