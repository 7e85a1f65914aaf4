//! `fnscope import`: what another tool sampled, into the store.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::{ValueEnum, ValueHint};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::args::{STORE_VARIABLE, now};
use super::{Outcome, output};
use crate::config::{DEFAULT_HZ, DEFAULT_STORE};
use crate::exchange::recorder::Target;
use crate::exchange::{self, Imported, Options, Skipped};
use crate::model::Timestamp;
use crate::query::When;
use crate::render::{escape, time};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events stand at their own times. Folded text has none and stands at the file's time; so does the first event of a \
clock that began with the host, as perf's does. Zipped input is unzipped. What is not understood is counted and left \
out.

Examples:
  perf script | fnscope import - --name pi
  fnscope import old.folded.gz --name pi --revision 1 --hz 99
  fnscope import cpu.pb.gz --name api --namespace shop --node web-3
  fnscope import out.perf --name pi --at 2026-11-23T08:00:00Z --json

Exit codes: 1 if there is no event in it, 2 error, 64 wrong usage.")]
pub struct Args {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Its format
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    format: Format,
    /// The function it is of
    #[arg(long, value_name = "FUNCTION", value_parser = name)]
    name: String,
    /// The function's namespace
    #[arg(long, value_name = "NAMESPACE", value_parser = name)]
    namespace: Option<String>,
    /// The function's revision
    #[arg(long, value_name = "REVISION", value_parser = name)]
    revision: Option<String>,
    /// The platform it is filed under
    #[arg(long, value_name = "PLATFORM", default_value = "imported", value_parser = name)]
    platform: String,
    /// The host it was sampled on
    #[arg(long, value_name = "NODE", default_value = "imported", value_parser = name)]
    node: String,
    /// Samples a second and busy CPU, if the file does not say or is wrong [default: the file's, else 199]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), conflicts_with = "period")]
    hz: Option<u64>,
    /// The same as the time one sample stands for, in nanoseconds
    #[arg(long, value_name = "NS", value_parser = clap::value_parser!(u64).range(1..))]
    period: Option<u64>,
    /// When the first event was, instead of what the file says
    #[arg(long, value_name = "TIME")]
    at: Option<When>,
    /// Most samples that counts of folded text or pprof may stand for
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    max_samples: u64,
    /// The store's directory; an agent may be writing to it
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, default_value = DEFAULT_STORE)]
    store: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What its content says
    Auto,
    /// Text of `perf script`
    PerfScript,
    /// `root;…;leaf count`
    Folded,
    /// pprof's protobuf
    Pprof,
}

/// How long a person is left alone before a line tells of progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Imports the file and says what came of it.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let shown = if args.file == Path::new("-") { "stdin".into() } else { args.file.display().to_string() };
    let source = open(&args.file).with_context(|| format!("read {shown}"))?;
    let options = options(args, &source);
    let bar = progress();
    let begin = Instant::now();
    let imported = exchange::import(source.bytes, &options, &mut |bytes, samples| {
        if begin.elapsed() > PATIENCE {
            bar.set_message(format!("{} MiB read, {} samples", bytes >> 20, time::count(samples)));
            bar.tick();
        }
    });
    bar.finish_and_clear();
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) if error.is_nothing() => {
            output::tell(&escape::lines(&format!("fnscope: import {shown}: {error}")));
            return Ok(Outcome::Nothing);
        }
        Err(error) => return Err(anyhow!("import {shown}: {error}")),
    };
    if args.json {
        output::print_json(&summary(args, &imported))?;
    } else {
        output::tell(&escape::lines(&words(args, &shown, &imported)));
    }
    Ok(Outcome::Done)
}

struct Opened {
    bytes: Box<dyn Read>,
    modified: Option<SystemTime>,
}

fn open(file: &Path) -> std::io::Result<Opened> {
    if file == Path::new("-") {
        return Ok(Opened { bytes: Box::new(std::io::stdin()), modified: None });
    }
    let opened = File::open(file)?;
    let about = opened.metadata()?;
    // A pipe or a device has no time of its own.
    let modified = about.is_file().then(|| about.modified().ok()).flatten();
    Ok(Opened { bytes: Box::new(opened), modified })
}

fn options(args: &Args, source: &Opened) -> Options {
    let now = now();
    let modified = source.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.and_then(|since| i64::try_from(since.as_micros()).ok()).map(Timestamp);
    Options {
        format: match args.format {
            Format::Auto => None,
            Format::PerfScript => Some(exchange::Format::PerfScript),
            Format::Folded => Some(exchange::Format::Folded),
            Format::Pprof => Some(exchange::Format::Pprof),
        },
        target: Target {
            store: args.store.clone(),
            name: args.name.clone(),
            namespace: args.namespace.clone(),
            revision: args.revision.clone(),
            platform: args.platform.clone(),
            node: args.node.clone(),
            period_ns: args.period.or(args.hz.map(|hz| 1_000_000_000 / hz)),
            default_period_ns: 1_000_000_000 / u64::from(DEFAULT_HZ),
            at: args.at.map(|at| at.at(now)),
            default_at: modified.unwrap_or(now),
            max_counted: args.max_samples,
        },
    }
}

fn progress() -> ProgressBar {
    if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner().with_prefix("importing")
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    }
}

fn name(text: &str) -> Result<String, String> {
    match text.len() {
        1..=253 => Ok(text.into()),
        _ => Err("give 1 to 253 bytes".into()),
    }
}

fn summary(args: &Args, imported: &Imported) -> Value {
    let recorded = &imported.recorded;
    let skipped = |skipped: &Skipped| -> Value {
        skipped
            .iter()
            .map(|(reason, count, first)| json!({"reason": reason.name(), "count": count, "first": first}))
            .collect()
    };
    json!({
        "format": imported.format.name(),
        "bytes": imported.bytes,
        "events": recorded.events,
        "samples": recorded.samples,
        "sampled_seconds": recorded.time_ns as f64 / 1e9,
        "period_assumed": recorded.assumed_period,
        "first": recorded.seen.map(|(first, _)| first.to_string()),
        "last": recorded.seen.map(|(_, last)| last.to_string()),
        "moved_from": recorded.moved_from.map(|time| time.to_string()),
        "skipped": skipped(&imported.skipped),
        "platform": args.platform,
        "namespace": args.namespace,
        "function": args.name,
        "revision": args.revision,
    })
}

fn words(args: &Args, shown: &str, imported: &Imported) -> String {
    let recorded = &imported.recorded;
    let revision = args.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
    let mut text = format!(
        "fnscope: {} samples of {} events of {shown} ({}), {} of CPU, are function `{}{revision}` in {}",
        time::count(recorded.samples),
        time::count(recorded.events),
        imported.format,
        time::length_ns(recorded.time_ns),
        args.name,
        args.store.display(),
    );
    if recorded.assumed_period {
        text +=
            &format!("\n  each stands for 1/{DEFAULT_HZ} s: the file does not say; --hz or --period does");
    }
    if let (Some(_), Some((first, last))) = (recorded.moved_from, recorded.seen) {
        text += &format!("\n  its clock is no wall clock; moved to {first} … {last}; --at says otherwise");
    }
    for (reason, count, first) in imported.skipped.iter() {
        text += &format!("\n  left out: {} {reason} (the first at {first})", time::count(count));
    }
    text
}
