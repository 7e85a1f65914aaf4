//! `fnscope instances`: the instances of a function.

use super::args::{AnyFunctionArg, EventArg, FilterArgs, RowsArg};
use super::{Outcome, open, output};
use crate::query::{self, InstanceRow};
use crate::render::{self, time};

/// Arguments of `instances`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
RUNTIME-INIT is the time from the container's start to the function's own exec, FIRST SAMPLE from there to its \
first sample, OFF-CPU the time its threads were off the CPU, preemption too, where it was recorded.

Examples:
  fnscope instances pi                           every instance of `pi`
  fnscope instances --since 10m                  every instance that lived in the last ten minutes
  fnscope instances pi --instance 559aead08264   one of them in full")]
pub struct Args {
    #[command(flatten)]
    function: AnyFunctionArg,
    #[command(flatten)]
    event: EventArg,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists instances.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (view, selection) = open::listed(&args.filter, &args.event, args.function.function.as_ref())?;
    let rows = query::instances(view, &selection);
    let table = |rows: &[InstanceRow], width| match rows {
        [row] if !args.filter.instance.is_empty() => render::instance(row),
        rows => render::instances(rows, width),
    };
    let nothing = format!("no such instances ({})", time::window(view.window()));
    let listing =
        output::Listing { rows: args.rows, as_json: args.filter.json, what: "instances", nothing: &nothing };
    let outcome = listing.answer(&rows, render::json::instances, table)?;
    if !args.filter.json && rows.len() > 1 {
        open::tell_unseen(view, &selection);
    }
    Ok(outcome)
}
