//! `fnscope doctor FUNCTION`: what makes that function's stacks poor, and what would mend it.

use std::slice::from_ref;

use super::args::{FilterArgs, PhaseArg};
use super::{Outcome, open, output};
use crate::query::{self, Scope, Selector};
use crate::render::{stack_faults, time};

/// Prints how the stacks of `function` are. A fault is an answer, not a failure.
pub(super) fn run(function: &Selector, phase: &PhaseArg, filter: &FilterArgs) -> anyhow::Result<Outcome> {
    let phases = phase.phase;
    let (view, selection) =
        open::asked(filter, Scope::Threads(from_ref(function), &filter.instance), Some(function))?;
    let faults = open::patiently("adding up stacks", || query::stack_faults(view, &selection, phases));
    if filter.json {
        output::print_json(&stack_faults::json(&faults))?;
    } else if faults.samples > 0 {
        let title = format!("{function}, {}, phase {phases}", time::window(view.window()));
        output::print(&stack_faults::text(&title, &faults))?;
    }
    if faults.samples == 0 {
        let window = time::window(view.window());
        let elsewhere = open::elsewhere(view, &selection);
        output::tell(&format!("fnscope: no samples of `{function}` in phase {phases}, {window}{elsewhere}"));
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Done)
}
