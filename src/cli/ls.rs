//! `fnscope ls`: which functions are there, and what did each use.

use super::args::FilterArgs;
use super::{Outcome, open, output};
use crate::query::{self, Scope};
use crate::render::{self, time};

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CPU is the cgroups' own account; COVERAGE is how much of it the samples saw; LOST is an estimate.

Examples:
  fnscope ls                                     everything that is stored
  fnscope ls --since 1h                          the last hour
  fnscope ls --json | jq '.[] | select(.coverage < 0.9) | .function'")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists functions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let view = open::view_for(&args.filter, Scope::Counts)?;
    let selection = view.select(None, &args.filter.instance)?;
    let rows = query::functions(&view, &selection);
    if args.filter.json {
        output::print_json(&render::json::functions(&rows))?;
    } else if !rows.is_empty() {
        output::print(&render::functions(&rows, output::terminal_width()))?;
    }
    if rows.is_empty() {
        output::tell(&format!(
            "fnscope: no functions in {} ({})",
            args.filter.store.display(),
            time::window(view.window())
        ));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
