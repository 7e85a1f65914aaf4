//! `fnscope top`: the frames that took the most time, or the modules, threads or phases.

use std::slice::from_ref;

use clap::ValueEnum;
use serde_json::Value;

use super::args::{EventArg, FilterArgs, FunctionArg, PhaseArg, TopArg};
use super::{Outcome, open, output};
use crate::query::{self, PhaseFilter, Scope};
use crate::render::{self, groups};

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SELF is a frame's own share, TOTAL with all it called. With --event off-cpu both are of time off the CPU, that of all
threads together, and WAITS is how often; the frame that waits is the last of the program's own, above it the kernel's.

Examples:
  fnscope top pi                                 where all of its time went
  fnscope top demo/pi@2 --since 08:15 --until 08:20
  fnscope top pi --phase cold                    its cold starts alone
  fnscope top pi --event off-cpu                 what it waits for
  fnscope top pi --by thread                     which of its threads ran")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    #[command(flatten)]
    phase: PhaseArg,
    #[command(flatten)]
    event: EventArg,
    /// What a row is
    #[arg(long, value_name = "WHAT", default_value = "frame")]
    by: By,
    #[command(flatten)]
    limit: TopArg,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A frame
    Frame,
    /// The file that frames are in
    Module,
    /// A thread: its name, its id as the host sees it
    Thread,
    /// A phase of instances' lives; all of them, whatever --phase says
    Phase,
}

impl By {
    fn plural(self) -> &'static str {
        match self {
            By::Frame => "frames",
            By::Module => "modules",
            By::Thread => "threads",
            By::Phase => "phases",
        }
    }
}

/// Shows rows.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (function, instances) = (from_ref(&args.function.function), args.filter.instance.as_slice());
    let scope = match args.by {
        By::Thread => Scope::Threads(function, instances),
        By::Frame | By::Module | By::Phase => Scope::Samples(function, instances),
    };
    let phases = if args.by == By::Phase { PhaseFilter::All } else { args.phase.phase };
    let found = open::stacks(&args.filter, scope, &args.event.event()?, &args.function.function, phases)?;
    let Some((view, selection, stacks)) = found else {
        if args.filter.json {
            output::print_json(&Value::Array(Vec::new()))?;
        }
        return Ok(Outcome::Nothing);
    };
    match args.by {
        By::Frame => {
            let rows = open::patiently("adding up frames", || query::top(&stacks.profile));
            answer(args, &rows, render::json::frames, render::frames)?;
        }
        By::Module => {
            let rows = open::patiently("adding up modules", || query::by_module(&stacks.profile));
            answer(args, &rows, groups::modules_json, groups::modules)?;
        }
        By::Thread => {
            let rows = open::patiently("adding up threads", || query::by_thread(view, &selection, phases));
            answer(args, &rows, groups::threads_json, groups::threads)?;
        }
        By::Phase => {
            let rows = query::by_phase(view, &selection);
            answer(args, &rows, groups::phases_json, groups::phases)?;
        }
    }
    Ok(Outcome::Done)
}

fn answer<R>(
    args: &Args,
    rows: &[R],
    json: impl Fn(&[R]) -> Value,
    table: impl Fn(&[R], Option<u16>) -> String,
) -> anyhow::Result<()> {
    let shown = args.limit.of(rows, args.filter.json);
    if args.filter.json {
        return output::print_json(&json(shown));
    }
    output::print(&table(shown, output::terminal_width()))?;
    output::tell_hidden(rows.len(), shown.len(), args.by.plural());
    Ok(())
}
