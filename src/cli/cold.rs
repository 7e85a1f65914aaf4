//! `fnscope cold`: a function's cold starts, and which frames cost there that do not when it is warm.

use std::slice::from_ref;

use super::args::{FilterArgs, FunctionArg, TopArg};
use super::{Outcome, open, output};
use crate::query::{self, Phase, PhaseFilter, Scope, Selection, View};
use crate::render::{cold, diff, time};

/// Arguments of `cold`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TO EXEC is the time from the container's start to the function's own exec (runtime-init), TO READY from there until its \
platform says that it answers, FIRST SAMPLE from there to the first sample. IN ALL ends with readiness, else with the \
first sample. The cold phase ends with readiness, else a second after the exec. The longest starts come first.

Examples:
  fnscope cold pi                                every cold start of `pi`, and their median
  fnscope cold pi@2 --since 1h --frames          and what it does at a start that it does not later
  fnscope cold pi --json | jq .summary.total_ms.p95")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    /// Compare the frames of the cold phase with those of the warm one
    #[arg(long)]
    frames: bool,
    #[command(flatten)]
    limit: TopArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Shows cold starts.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let function = &args.function.function;
    let scope = Scope::Samples(from_ref(function), &args.filter.instance);
    let (view, selection) = open::asked(&args.filter, scope, Some(function))?;
    let starts = open::patiently("looking at starts", || query::cold_starts(view, &selection));
    let summary = query::summary(&starts);
    let shown = args.limit.of(&starts, args.filter.json);
    let limit = args.limit.count(args.filter.json);
    let frames = (args.frames && !starts.is_empty()).then(|| frames(view, &selection, limit));
    if args.filter.json {
        let frames = frames.as_deref().map(diff::rows_json);
        output::print_json(&cold::json(shown, &summary, frames))?;
    } else if !starts.is_empty() {
        let width = output::terminal_width();
        output::print(&format!("{}\n{}", cold::summary(&summary, width), cold::starts(shown, width)))?;
        if let Some(rows) = &frames {
            output::print(&format!("\n{}", diff::table_of(rows, diff::Words::COLD, width)))?;
        }
        output::tell_hidden(starts.len(), shown.len(), "starts");
    }
    if starts.is_empty() {
        let window = time::window(view.window());
        output::tell(&format!(
            "fnscope: no cold start of `{function}` ({window}): only instances that were watched from birth show theirs"
        ));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}

/// The frames that weigh more when cold, then the others, at most `limit`.
fn frames(view: &View, selection: &Selection, limit: usize) -> Vec<query::DiffRow> {
    let side = |phase| query::side(view, selection, PhaseFilter::Only(phase));
    let (warm, cold) = open::patiently("comparing", || (side(Phase::Warm), side(Phase::Cold)));
    if cold.samples == 0 {
        output::tell("fnscope: no samples of the cold phase");
    } else if warm.samples == 0 {
        output::tell("fnscope: no samples of the warm phase: nothing to compare the cold one with");
    }
    let mut rows = query::diff(&warm, &cold);
    // Stable: what is surest and largest stays first.
    rows.sort_by_key(|row| row.total_difference.delta.value <= 0.0 && row.own_difference.delta.value <= 0.0);
    rows.truncate(limit);
    rows
}
