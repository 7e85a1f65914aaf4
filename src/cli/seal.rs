//! `fnscope seal`: what the agent does by itself after each hour, done now.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::STORE_VARIABLE;
use super::{Outcome, output};
use crate::config::{DEFAULT_STORE, StoreConfig};
use crate::render::time;
use crate::store::Store;
use crate::store::archive::{Retention, Tidied, TidyOptions};

/// Arguments of `seal`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running agent seals by itself, and holds the lock that this needs. Journals that are being written are left alone.

Examples:
  fnscope seal                                   every closed journal of the default store
  fnscope seal --max-age 7d --max-bytes 20GiB    and keep no more than that
  duckdb -c \"SELECT function, sum(count) FROM '/var/lib/fnscope/samples/**/*.parquet' GROUP BY 1\"")]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, default_value = DEFAULT_STORE)]
    store: PathBuf,
    /// Drop hours that are older, such as 7d or 12h; without it none is too old
    #[arg(long, value_name = "AGE")]
    max_age: Option<String>,
    /// Drop the oldest hours until all take no more, such as 20GiB; without it there is no limit
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
    /// Drop the oldest hours until so much of the file system is free, such as 1GiB
    #[arg(long, value_name = "SIZE")]
    min_free_bytes: Option<String>,
    /// Write no folded files
    #[arg(long)]
    no_folded: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Seals what is closed.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let options = options(args)?;
    Store::open(&args.store)?;
    let store = Store::create(&args.store)?;
    let lock = store.lock().context("seal; a running agent seals by itself")?;
    let bar = std::io::stderr().is_terminal().then(new_bar);
    let tidied = store.tidy(&lock, &options, |done, all| {
        if let Some(bar) = &bar {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let tidied = tidied?;
    if args.json {
        output::print_json(&summary(&tidied))?;
    } else {
        tell(&tidied);
    }
    Ok(if tidied.sealed.failed > 0 { Outcome::Nothing } else { Outcome::Done })
}

fn options(args: &Args) -> anyhow::Result<TidyOptions> {
    let none = || "0".to_owned();
    let limits = StoreConfig {
        max_age: args.max_age.clone().unwrap_or_else(none),
        max_bytes: args.max_bytes.clone().unwrap_or_else(none),
        min_free_bytes: args.min_free_bytes.clone().unwrap_or_else(none),
        ..StoreConfig::default()
    };
    let fault = anyhow::Error::msg;
    let retention = Retention {
        max_age: limits.max_age().map_err(fault)?,
        max_bytes: limits.max_bytes().map_err(fault)?,
        min_free_bytes: limits.min_free_bytes().map_err(fault)?,
    };
    Ok(TidyOptions { folded: !args.no_folded, retention, ..TidyOptions::default() })
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("sealing {pos}/{len} journals {wide_bar} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn summary(tidied: &Tidied) -> serde_json::Value {
    let Tidied { sealed, dropped, left } = tidied;
    json!({
        "journals": sealed.journals,
        "samples": sealed.samples,
        "sets": sealed.sets,
        "bytes": sealed.bytes,
        "journal_bytes": sealed.journal_bytes,
        "folded_files": sealed.folded_files,
        "failed": sealed.failed,
        "left": left,
        "dropped_hours": dropped.hours,
        "dropped_samples": dropped.samples,
        "dropped_bytes": dropped.bytes,
    })
}

fn tell(tidied: &Tidied) {
    let Tidied { sealed, dropped, .. } = tidied;
    let samples = time::count(sealed.samples);
    let mut text = format!(
        "fnscope: sealed {} journals with {samples} samples: {} bytes, {} as journals",
        time::count(sealed.journals),
        time::count(sealed.bytes),
        time::count(sealed.journal_bytes)
    );
    if dropped.hours > 0 {
        let (hours, samples) = (time::count(dropped.hours), time::count(dropped.samples));
        text +=
            &format!("; dropped {hours} hours with {samples} samples, {} bytes", time::count(dropped.bytes));
    }
    if sealed.failed > 0 {
        text += &format!("; {} journals could not be sealed and stay", time::count(sealed.failed));
    }
    output::tell(&text);
}
