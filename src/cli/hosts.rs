//! `fnscope hosts`: which hosts are there, how were they sampled, what was lost on them.

use super::args::{FilterArgs, RowsArg};
use super::{Outcome, open, output};
use crate::query::{self, Scope};
use crate::render::{escape, hosts, time};

/// Arguments of `hosts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SAMPLES are those of the CPU clock; RING LOST is what the kernel could not write, of functions and strangers together, BY CPU where; UNATTRIBUTED are \
samples of containers that could be given to no instance; CLOCK STEPS are jumps of the wall clock, the largest in \
brackets; AGENT CPU is what those who sampled used themselves, AGENT MEMORY the most that one of them held.

Examples:
  fnscope hosts                                  every host of the store
  fnscope hosts --store a --store b --since 1d   of two stores, the last day
  fnscope hosts --json | jq '.[] | select(.ring_lost > 0) | .by_cpu'")]
pub struct Args {
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists hosts.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (view, selection) = open::asked(&args.filter, Scope::Counts, None)?;
    let rows = query::hosts(view, &selection);
    for row in rows.iter().filter(|row| row.at_once) {
        output::tell(&format!(
            "fnscope: warning: {} is two machines: its boots {} were seen at the same time; counts are right, but not \
             which machine's; give each a name of its own (`node` in the configuration)",
            escape::line(&row.host),
            row.boots.join(", "),
        ));
    }
    let nothing = format!("no hosts ({})", time::window(view.window()));
    let listing =
        output::Listing { rows: args.rows, as_json: args.filter.json, what: "hosts", nothing: &nothing };
    listing.answer(&rows, hosts::json, hosts::hosts)
}
