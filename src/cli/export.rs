//! `fnscope export`: a function's samples in the format of another tool.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::slice::from_ref;

use anyhow::bail;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, ValueEnum, ValueHint};
use serde_json::json;

use super::args::{EventArg, FilterArgs, FunctionArg, PhaseArg};
use super::{Outcome, flame, open, output};
use crate::exchange::{self, Source};
use crate::model::Window;
use crate::query::{Event, Scope};
use crate::render::{folded, time};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
perf-script has an event for each sample and no period, so that tools count samples; pprof has both, with labels for \
function, revision, instance, phase and host. firefox is held in memory before it is written; the others stream, or \
take memory for distinct stacks alone. With --event off-cpu each wait has its time: folded in microseconds, perf-script \
as the period and pprof in nanoseconds, speedscope in microseconds; firefox has no place for it.

Examples:
  fnscope export pi --format pprof -o pi.pb.gz && go tool pprof -http : pi.pb.gz
  fnscope export pi --format perf-script --since 10m | inferno-collapse-perf | inferno-flamegraph > pi.svg
  fnscope export pi --format speedscope -o pi.speedscope.json     for speedscope.app
  fnscope export pi --format firefox --phase cold -o pi.json      for profiler.firefox.com")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    /// The format
    #[arg(short, long, value_name = "FORMAT")]
    format: Format,
    /// Write to this file, `-` for stdout; without it to stdout
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    phase: PhaseArg,
    #[command(flatten)]
    event: EventArg,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `root;…;leaf count`, as `fnscope folded` prints it
    Folded,
    /// Text of `perf script`: FlameScope, every stackcollapse-perf
    PerfScript,
    /// A gzipped profile for `go tool pprof` and what reads such
    Pprof,
    /// JSON for speedscope
    Speedscope,
    /// JSON for the Firefox profiler
    Firefox,
}

/// Writes the export.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let file = output::named(args.output.as_deref());
    if args.filter.json && file.is_none() {
        let message = "--json prints a summary; name a file for the export with -o FILE";
        return Err(super::Cli::command().error(ErrorKind::MissingRequiredArgument, message).into());
    }
    if args.format == Format::Pprof && args.output.is_none() && io::stdout().is_terminal() {
        bail!("a pprof file is not for a terminal; name one with -o FILE.pb.gz, or redirect stdout");
    }
    if args.format == Format::Firefox && matches!(args.event.event()?, Event::OffCpu(_)) {
        bail!("the Firefox profiler's format has no microseconds for a wait; export pprof or speedscope");
    }
    let scope = Scope::Threads(from_ref(&args.function.function), &args.filter.instance);
    let found =
        open::stacks(&args.filter, scope, &args.event.event()?, &args.function.function, args.phase.phase)?;
    let Some((view, selection, stacks)) = found else { return Ok(Outcome::Nothing) };
    let title = flame::title(view, &args.function.function);
    let source = Source {
        view,
        selection: &selection,
        phases: args.phase.phase,
        title: &title,
        seen: stacks.seen.map(|(from, to)| Window { from, to: to.plus_us(1) }),
    };
    let write = |out: &mut dyn Write| -> anyhow::Result<u64> {
        match args.format {
            Format::Folded => {
                folded::write(&stacks.profile, out)?;
                Ok(stacks.profile.total().samples)
            }
            Format::PerfScript => exchange::perf_script_out::write(&source, out),
            Format::Pprof => exchange::pprof_out::write(&source, out),
            Format::Speedscope => exchange::speedscope_out::write(&source, out),
            Format::Firefox => exchange::firefox_out::write(&source, out),
        }
    };
    let Some(path) = file else {
        output::stdout(write)?;
        return Ok(Outcome::Done);
    };
    let samples = output::file(path, write)?;
    if args.filter.json {
        let format = args.format.to_possible_value().map(|value| value.get_name().to_owned());
        output::print_json(&json!({"file": path, "format": format, "samples": samples}))?;
    } else {
        let what = if matches!(view.event(), Event::OffCpu(_)) { "waits" } else { "samples" };
        output::tell(&format!("fnscope: {} {what} in {}", time::count(samples), path.display()));
    }
    Ok(Outcome::Done)
}
