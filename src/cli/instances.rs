//! `fnscope instances`: the instances of a function.

use clap_complete::engine::ArgValueCandidates;

use super::args::{FilterArgs, RowsArg};
use super::{Outcome, complete, open, output};
use crate::query::{self, Scope, Selector};
use crate::render::{self, time};

/// Arguments of `instances`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
RUNTIME-INIT is the time from the container's start to the function's own exec, FIRST SAMPLE from there to its
first sample.

Examples:
  fnscope instances pi                           every instance of `pi`
  fnscope instances --since 10m                  every instance that lived in the last ten minutes
  fnscope instances pi --instance 559aead08264   one of them in full")]
pub struct Args {
    /// The function: `platform/namespace/function@revision` or any end of that; without it all of them
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    function: Option<Selector>,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists instances.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let view = open::view_for(&args.filter, Scope::Counts)?;
    let selection = open::select(&view, &args.filter, args.function.as_ref())?;
    let rows = query::instances(&view, &selection);
    let shown = args.rows.of(&rows, args.filter.json);
    if args.filter.json {
        output::print_json(&render::json::instances(shown))?;
    } else {
        match shown {
            [] => {}
            [row] if !args.filter.instance.is_empty() => output::print(&render::instance(row))?,
            shown => output::print(&render::instances(shown, output::terminal_width()))?,
        }
        output::tell_hidden(shown.len(), rows.len(), "instances");
    }
    if rows.is_empty() {
        output::tell(&format!("fnscope: no such instances ({})", time::window(view.window())));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
