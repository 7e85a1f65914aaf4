//! `fnscope hosts`: which hosts are there, how were they sampled, what was lost on them.

use super::args::FilterArgs;
use super::{Outcome, open, output};
use crate::query;
use crate::query::Scope;
use crate::render::{self, escape, time};

/// Arguments of `hosts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
RING LOST is what the kernel could not write, of functions and strangers together, BY CPU where; UNATTRIBUTED are
samples of containers that could be given to no instance; CLOCK STEPS are jumps of the wall clock, the largest in
brackets.

Examples:
  fnscope hosts                                  every host of the store
  fnscope hosts --store a --store b --since 1d   of two stores, the last day
  fnscope hosts --json | jq '.[] | select(.ring_lost > 0) | .by_cpu'")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists hosts.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let view = open::view_for(&args.filter, Scope::Counts)?;
    let selection = open::select(&view, &args.filter, None)?;
    let rows = query::hosts(&view, &selection);
    for row in rows.iter().filter(|row| row.at_once) {
        output::tell(&format!(
            "fnscope: warning: {} is two machines: its boots {} were seen at the same time; counts are right, but not \
             which machine's; give each a name of its own (`node` in the configuration)",
            escape::line(&row.host),
            row.boots.join(", "),
        ));
    }
    if args.filter.json {
        output::print_json(&render::hosts::json(&rows))?;
    } else if !rows.is_empty() {
        output::print(&render::hosts::hosts(&rows, output::terminal_width()))?;
    }
    if rows.is_empty() {
        output::tell(&format!("fnscope: no hosts ({})", time::window(view.window())));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
