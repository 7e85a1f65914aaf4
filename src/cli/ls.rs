//! `fnscope ls`: which functions are there, and what did each use.

use clap::ValueEnum;

use super::args::{EventArg, FilterArgs, RowsArg};
use super::{Outcome, open, output};
use crate::query;
use crate::render::{self, json, time};

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CPU is the cgroups' own account; COVERAGE is how much of it the samples saw; COMPLETE is the share of samples whose
stack reaches the thread's root, NAMED of those whose every frame has a symbol (`fnscope doctor FUNCTION` says why
others have not); LOST is an estimate. OFF-CPU is time off the CPU, preemption too, where it was recorded. COVERAGE is
`no clock` where samples are of a counter and stand for no time, `unseen` where the function runs in a sandbox (gVisor,
a virtual machine): CPU is then the sandbox's, and stacks cannot be seen from the host.

Examples:
  fnscope ls                                     everything that is stored
  fnscope ls --since 1h                          the last hour
  fnscope ls --store a --store b --by host       two stores, a row for each function on each host
  fnscope ls --json | jq '.[] | select(.coverage < 0.9) | .function'")]
pub struct Args {
    /// What a row is
    #[arg(long, value_name = "WHAT", default_value = "function")]
    by: By,
    #[command(flatten)]
    event: EventArg,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A function's revision
    Function,
    /// A function's revision on a host
    Host,
}

/// Lists functions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (view, selection) = open::listed(&args.filter, &args.event, None)?;
    let stores: Vec<String> = args.filter.stores().iter().map(|store| store.display().to_string()).collect();
    let nothing = format!("no functions in {} ({})", stores.join(", "), time::window(view.window()));
    let listing =
        output::Listing { rows: args.rows, as_json: args.filter.json, what: "functions", nothing: &nothing };
    let outcome = match args.by {
        By::Function => {
            let rows = query::functions(view, &selection);
            listing.answer(&rows, json::functions, render::functions)
        }
        By::Host => {
            let rows = query::functions_by_host(view, &selection);
            listing.answer(&rows, json::functions_by_host, render::functions_by_host)
        }
    }?;
    if !args.filter.json {
        open::tell_unseen(view, &selection);
    }
    Ok(outcome)
}
