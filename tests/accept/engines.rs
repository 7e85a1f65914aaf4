//! Engines that know nothing of fnscope count what it sealed: ClickHouse (chdb), Spark and DuckDB, by function,
//! revision and hour, against what was fed in and what `fnscope ls` answers.
//!
//! Installs them where they are missing; that takes minutes the first time.

use crate::ask::{Totals, own_totals, python, totals};
use crate::measure::{Bar, Bound, Measurement};
use crate::store_data::{Making, Shape};
use crate::support::Fnscope;

/// Totals that differ.
pub const ENGINES: Measurement = Measurement {
    name: "accept-engines",
    about: "totals by function, revision and hour, of ClickHouse, Spark and DuckDB on the sealed files",
    runs: 1,
    run: engines,
};

const SHAPE: Shape = Shape {
    seed: 11,
    first: 12,
    hours: 24,
    functions: 20,
    revisions: 2,
    instances: 400,
    samples: 2_500,
    life_us: Some(3 * 3_600_000_000),
    stacks: 100,
    cpus: 4,
    batch_us: 120_000_000,
};

fn engines() -> anyhow::Result<Vec<Bar>> {
    let python = python("all");
    let fnscope = Fnscope::new();
    let mut making = Making::begin(fnscope.store(), SHAPE)?;
    making.write(|_| Ok(()))?;
    making.seal(true)?;
    let hours = SHAPE.first..SHAPE.first + SHAPE.hours;
    let mut bars = Vec::new();
    let mut differ = |what: String, one: &Totals, other: &Totals| {
        let keys = one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key));
        bars.push(Bar::new(what, keys.count() as f64, "totals", Bound::AtMost(0.0)));
    };
    let fed = making.fed.totals.clone();
    differ(
        "sealed and unsealed: fnscope off what was fed in".into(),
        &own_totals(&fnscope, hours.clone()),
        &fed,
    );
    let sealed = totals(&python, "duckdb", fnscope.store());
    let last = sealed.keys().map(|(_, _, hour)| *hour).max().unwrap_or_default();
    anyhow::ensure!(last + 1 < hours.end, "nothing is unsealed");
    let fed_by_then: Totals = fed.into_iter().filter(|((_, _, hour), _)| *hour <= last).collect();
    differ("sealed part alone: DuckDB off what was fed in".into(), &sealed, &fed_by_then);
    let (fed, ..) = making.finish(true)?;
    let own = own_totals(&fnscope, hours);
    differ("all sealed: fnscope off what was fed in".into(), &own, &fed.totals);
    for engine in ["duckdb", "clickhouse", "spark"] {
        let found = totals(&python, engine, fnscope.store());
        differ(format!("all sealed: {engine} off fnscope"), &found, &own);
    }
    bars.push(Bar::new("totals compared", own.len() as f64, "", Bound::AtLeast(500.0)));
    Ok(bars)
}
