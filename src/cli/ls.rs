//! `fnscope ls`: which functions are there, and what did each use.

use clap::ValueEnum;

use super::args::{FilterArgs, RowsArg};
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
  fnscope ls --store a --store b --by host       two stores, a row for each function on each host
  fnscope ls --json | jq '.[] | select(.coverage < 0.9) | .function'")]
pub struct Args {
    /// What a row is
    #[arg(long, value_name = "WHAT", default_value = "function")]
    by: By,
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

enum Answer {
    Json(serde_json::Value),
    Table(String),
}

/// Lists functions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let view = open::view_for(&args.filter, Scope::Counts)?;
    let selection = open::select(&view, &args.filter, None)?;
    let (width, as_json) = (output::terminal_width(), args.filter.json);
    let (answer, shown, all) = match args.by {
        By::Function => {
            let rows = query::functions(&view, &selection);
            let shown = args.rows.of(&rows, as_json);
            let answer = match as_json {
                true => Answer::Json(render::json::functions(shown)),
                false => Answer::Table(render::functions(shown, width)),
            };
            (answer, shown.len(), rows.len())
        }
        By::Host => {
            let rows = query::functions_by_host(&view, &selection);
            let shown = args.rows.of(&rows, as_json);
            let answer = match as_json {
                true => Answer::Json(render::json::functions_by_host(shown)),
                false => Answer::Table(render::functions_by_host(shown, width)),
            };
            (answer, shown.len(), rows.len())
        }
    };
    match answer {
        Answer::Json(json) => output::print_json(&json)?,
        Answer::Table(table) if all > 0 => {
            output::print(&table)?;
            output::tell_hidden(shown, all, "functions");
        }
        Answer::Table(_) => {}
    }
    if all == 0 {
        let stores: Vec<String> = args.filter.store.iter().map(|store| store.display().to_string()).collect();
        let window = time::window(view.window());
        output::tell(&format!("fnscope: no functions in {} ({window})", stores.join(", ")));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
