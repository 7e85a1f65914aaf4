//! `fnscope flame`: a flame graph as an SVG.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueHint;

use super::args::{EventArg, FilterArgs, FunctionArg, PhaseArg};
use super::{Outcome, open, output};
use crate::fold::Profile;
use crate::model::Window;
use crate::query::{self, Event, PhaseFilter, Preempted, Scope, Selection, Selector, Stacks, View};
use crate::render::flame::{self, Style};
use crate::render::{folded, time};

/// Arguments of `flame`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Colours: red kernel, yellow native, turquoise inlined, green JIT, blue interpreted, violet guessed, grey without
a name, pink where a stack ends that is not whole. With --event off-cpu the kernel is dark blue, native light blue,
interpreted yellow, and widths are microseconds.

Examples:
  fnscope flame pi -o pi.svg                     open it in a browser: click zooms, Ctrl-F searches
  fnscope flame pi --since 10m --phase cold -o cold.svg
  fnscope flame pi --event off-cpu -o waits.svg  what it waits for
  fnscope flame pi --reverse --inverted -o callers.svg")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    #[command(flatten)]
    phase: PhaseArg,
    #[command(flatten)]
    event: EventArg,
    /// Write to this file, `-` for stdout; without it to stdout, unless that is a terminal
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Put leaves at the root, callers above them
    #[arg(long)]
    reverse: bool,
    /// Put the root on top
    #[arg(long)]
    inverted: bool,
    /// Leave out frames narrower than this, in percent of the whole
    #[arg(long, value_name = "PERCENT", default_value_t = 0.05)]
    min_width: f64,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Draws the graph.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let to_terminal = args.output.is_none() && !args.filter.json && io::stdout().is_terminal();
    if to_terminal {
        bail!("an SVG is not for a terminal; name a file with -o FILE.svg, or redirect stdout");
    }
    let scope = Scope::Samples(std::slice::from_ref(&args.function.function), &args.filter.instance);
    let found =
        open::stacks(&args.filter, scope, &args.event.event()?, &args.function.function, args.phase.phase)?;
    let Some((view, selection, stacks)) = found else { return Ok(Outcome::Nothing) };
    let style = Style {
        title: match view.event() {
            Event::OffCpu(_) => format!("{}, off the CPU", title(view, &args.function.function)),
            Event::Counter(name) => format!("{}, {name}", title(view, &args.function.function)),
            Event::CpuClock => title(view, &args.function.function),
        },
        subtitle: subtitle(view, &selection, &stacks, args.phase.phase),
        reverse: args.reverse,
        inverted: args.inverted,
        min_width_percent: args.min_width.clamp(0.0, 100.0),
    };
    match output::named(args.output.as_deref()) {
        _ if args.filter.json => output::print_json(&folded::json(&stacks.profile))?,
        None => output::stdout(|out| flame::write(&stacks.profile, &style, out))?,
        Some(path) => write_file(path, &stacks, &style)?,
    }
    Ok(Outcome::Done)
}

/// Draws the graph into a file.
pub(super) fn write_file(path: &Path, stacks: &Stacks, style: &Style) -> anyhow::Result<()> {
    output::file(path, |out| flame::write(&stacks.profile, style, out))
}

/// Draws a differential flame graph into a file: what `after` is against `before`.
pub(super) fn write_difference(
    path: &Path,
    title: &str,
    before: &Profile,
    after: &Profile,
) -> anyhow::Result<()> {
    let style = Style {
        title: title.into(),
        subtitle: "widths are those of B; red grew, blue shrank, by shares".into(),
        min_width_percent: 0.05,
        ..Style::default()
    };
    output::file(path, |out| flame::write_difference(before, after, &style, out))
}

/// The function as people write it, its names as they are.
pub(super) fn title(view: &View, selector: &Selector) -> String {
    let Some(id) = view.functions().iter().find(|id| selector.matches(id)) else {
        return selector.to_string();
    };
    let path: Vec<String> =
        [&id.platform, &id.namespace, &id.function].iter().filter_map(|part| part.text()).collect();
    let revision = selector.revision.as_ref().and_then(|part| part.text());
    path.join("/") + &revision.map(|revision| format!("@{revision}")).unwrap_or_default()
}

/// What the graph shows: window, samples, coverage or event, phase.
pub(super) fn subtitle(view: &View, selection: &Selection, stacks: &Stacks, phase: PhaseFilter) -> String {
    let total = stacks.profile.total();
    // Where no window was asked for, what was seen is the one shown.
    let seen = stacks.seen.map(|(from, to)| Window { from, to: to.plus_us(1) });
    let window = match (view.window(), seen) {
        (Window::ALL, Some(seen)) => seen,
        (window, _) => window,
    };
    let (count, length) = (time::count(total.samples), time::length_ns(total.time_ns));
    let what = match view.event() {
        Event::CpuClock => {
            let coverage = query::coverage(view, selection).map_or_else(|| "unknown".into(), time::share);
            format!("{count} samples, {length} CPU · coverage {coverage}")
        }
        Event::Counter(name) => format!("{count} samples of {name}"),
        Event::OffCpu(preempted) => {
            let which = match preempted {
                Preempted::Exclude => "preemption left out",
                Preempted::Include => "preemption counted too",
                Preempted::Only => "preemption alone",
            };
            format!("{length} off the CPU in {count} waits, {which}")
        }
    };
    format!("{} · {what} · phase {phase}", time::window(window))
}
