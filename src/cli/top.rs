//! `fnscope top`: the frames that took the most time.

use super::args::{FilterArgs, FunctionArg, PhaseArg};
use super::{Outcome, open, output};
use crate::query::{self, Scope};
use crate::render::{self, time};

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SELF is a frame's own share, TOTAL with all it called.

Examples:
  fnscope top pi                                 where all of its time went
  fnscope top demo/pi@2 --since 08:15 --until 08:20
  fnscope top pi --phase cold                    its cold starts alone")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    #[command(flatten)]
    phase: PhaseArg,
    /// Show at most this many frames (default: 40 as a table, all as JSON)
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    filter: FilterArgs,
}

const DEFAULT_LIMIT: usize = 40;

/// Shows frames.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let scope = Scope::Samples(Some(&args.function.function), &args.filter.instance);
    let view = open::view_for(&args.filter, scope)?;
    let found = open::stacks(&view, &args.filter, &args.function.function, args.phase.phase)?;
    let mut rows = found.as_ref().map(|(_, stacks)| query::top(&stacks.profile)).unwrap_or_default();
    let all = rows.len();
    if args.filter.json {
        rows.truncate(args.limit.unwrap_or(usize::MAX));
        output::print_json(&render::json::frames(&rows))?;
    } else if !rows.is_empty() {
        rows.truncate(args.limit.unwrap_or(DEFAULT_LIMIT));
        output::print(&render::frames(&rows, output::terminal_width()))?;
        if rows.len() < all {
            let hidden = time::count((all - rows.len()) as u64);
            output::tell(&format!("fnscope: {hidden} more frames, --limit {all} shows them"));
        }
    }
    Ok(if found.is_some() { Outcome::Done } else { Outcome::Nothing })
}
