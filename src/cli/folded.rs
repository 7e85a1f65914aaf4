//! `fnscope folded`: stacks as text, for every other tool.

use super::args::{EventArg, FilterArgs, FunctionArg, PhaseArg};
use super::{Outcome, open, output};
use crate::query::Scope;
use crate::render;

/// Arguments of `folded`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A line is `root;…;leaf count`. A frame is `symbol [module]` and ends in _[k] for the kernel, _[i] inlined, _[j] JIT, \
_[p] interpreted, _[g] guessed. Counts are of samples; with --event off-cpu they are microseconds of waits, each \
line's sum to the nearest.

Examples:
  fnscope folded pi | flamegraph.pl > pi.svg
  fnscope folded pi --since 1h | grep -c '_\\[k\\]'")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    #[command(flatten)]
    phase: PhaseArg,
    #[command(flatten)]
    event: EventArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Prints folded text.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let scope = Scope::Samples(std::slice::from_ref(&args.function.function), &args.filter.instance);
    let found =
        open::stacks(&args.filter, scope, &args.event.event()?, &args.function.function, args.phase.phase)?;
    let outcome = if found.is_some() { Outcome::Done } else { Outcome::Nothing };
    let profile = found.map(|(_, _, stacks)| stacks.profile).unwrap_or_default();
    if args.filter.json {
        output::print_json(&render::folded::json(&profile))?;
    } else {
        output::stdout(|out| render::folded::write(&profile, out))?;
    }
    Ok(outcome)
}
