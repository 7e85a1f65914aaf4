//! `fnscope cost`: CPU seconds of functions, and what they cost.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};

use super::args::{self, AnyFunctionArg, FilterArgs, RowsArg};
use super::{Outcome, open, output};
use crate::config::Sources;
use crate::config::keys::CONFIG_VARIABLE;
use crate::query::{self, CostBy, CostRow, Scope};
use crate::render::cost::{self, Price};
use crate::render::time;

/// Arguments of `cost`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CPU SECONDS are the cgroups' own account; an instance without one counts with its samples. SAMPLED is a check. A price \
is given with --per-cpu-hour, or in the configuration file: `[cost]`, `per_cpu_hour = 0.04`, `currency = \"EUR\"`.

Examples:
  fnscope cost                                   CPU seconds by function
  fnscope cost --by day,revision --since 7d      by day and revision, the last week
  fnscope cost --per-cpu-hour 0.04 --currency EUR
  fnscope cost --json | jq 'map(.cost) | add'")]
pub struct Args {
    #[command(flatten)]
    function: AnyFunctionArg,
    /// What a row is; several, parted by commas, tell rows apart by all of them
    #[arg(long, value_name = "WHAT", default_value = "function", value_delimiter = ',')]
    by: Vec<CostBy>,
    /// What one CPU costs an hour
    #[arg(long, value_name = "PRICE")]
    per_cpu_hour: Option<f64>,
    /// The currency of the price
    #[arg(long, value_name = "NAME")]
    currency: Option<String>,
    /// Configuration file (TOML) with the price
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(flatten)]
    rows: RowsArg,
    #[command(flatten)]
    filter: FilterArgs,
}

impl ValueEnum for CostBy {
    fn value_variants<'a>() -> &'a [CostBy] {
        &[CostBy::Day, CostBy::Function, CostBy::Revision, CostBy::Host]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let name = match self {
            CostBy::Day => "day",
            CostBy::Function => "function",
            CostBy::Revision => "revision",
            CostBy::Host => "host",
        };
        Some(clap::builder::PossibleValue::new(name))
    }
}

/// Lists what was used.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let price = price(args)?;
    let function = args.function.function.as_ref();
    let scope = if args.by.contains(&CostBy::Day) {
        Scope::Samples(args.function.function.as_slice(), &args.filter.instance)
    } else {
        Scope::Counts
    };
    let (view, selection) = open::asked(&args.filter, scope, function)?;
    let rows = open::patiently("adding up", || query::cost(view, &selection, &args.by));
    let table = |rows: &[CostRow], width| cost::cost(rows, &args.by, price.as_ref(), width);
    let nothing = format!("no CPU time of functions ({})", time::window(view.window()));
    let listing =
        output::Listing { rows: args.rows, as_json: args.filter.json, what: "rows", nothing: &nothing };
    let outcome = listing.answer(&rows, |rows| cost::json(rows, &args.by, price.as_ref()), table)?;
    let unaccounted: u64 = rows.iter().map(|row| row.unaccounted_ns).sum();
    if unaccounted > 0 && !args.filter.json {
        let length = time::length_ns(unaccounted);
        output::tell(&format!("fnscope: {length} of it are of instances without an account: from samples"));
    }
    Ok(outcome)
}

/// The price of the command line, or of the configuration.
fn price(args: &Args) -> anyhow::Result<Option<Price>> {
    let config = Sources { file: args.config.clone(), flags: Vec::new() }.load()?.config.cost;
    let Some(per_cpu_hour) = args.per_cpu_hour.or(config.per_cpu_hour.map(|price| price.value())) else {
        return Ok(None);
    };
    if !per_cpu_hour.is_finite() || per_cpu_hour < 0.0 {
        return Err(args::wrong_usage("--per-cpu-hour is no price: give a number such as 0.04".into()).into());
    }
    let currency = args.currency.clone().or(config.currency).unwrap_or_default();
    Ok(Some(Price { per_cpu_hour, currency }))
}
