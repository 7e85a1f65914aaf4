//! The store under faults, the long form: a full disk at 200 moments, 2,000 flipped bits, a cut at every byte. The seed
//! stands in each line that tells what was wrong.

use crate::measure::{Bar, Bound, Measurement};
use crate::store::peak_mib;
use crate::store_data::{A, Making, Shape};
use crate::store_faults::{self, Report};
use crate::support::Fnscope;

/// Damage and faults.
pub const DAMAGE: Measurement = Measurement {
    name: "accept-damage",
    about: "a full disk at 200 moments and 2,000 flipped bits: what is told wrong",
    runs: 1,
    run: damage,
};

/// Ends that are cut off.
pub const CUTS: Measurement = Measurement {
    name: "accept-damage-cuts",
    about: "every file of a small store cut at every byte: what is told wrong",
    runs: 1,
    run: cuts,
};

/// What sealing much at once takes.
pub const SEALING: Measurement = Measurement {
    name: "accept-damage-sealing",
    about: "memory to seal an hour of 5 million samples",
    runs: 1,
    run: sealing,
};

const SEED: u64 = 20_261_123;

fn damage() -> anyhow::Result<Vec<Bar>> {
    let disk = bars("full disk", "points that refused something", &store_faults::full_disk(200, SEED));
    Ok([disk, bars("flipped bits", "flips named", &store_faults::flips(2_000, SEED))].concat())
}

fn cuts() -> anyhow::Result<Vec<Bar>> {
    Ok(bars("cuts", "cuts named", &store_faults::cuts(1)))
}

fn bars(what: &str, told: &str, report: &Report) -> Vec<Bar> {
    report.wrong.iter().for_each(|line| eprintln!("{what}: {line}"));
    let bar = |name: &str, value: f64, bound| Bar::new(format!("{what}: {name}"), value, "", bound);
    vec![
        bar("tried", report.tried as f64, Bound::Recorded),
        bar(told, report.told as f64, Bound::Recorded),
        bar("samples told as missing", report.samples as f64, Bound::Recorded),
        bar("wrong answers", report.wrong.len() as f64, Bound::AtMost(0.0)),
    ]
}

/// Of 10 functions: some journals, one after the other.
fn sealing() -> anyhow::Result<Vec<Bar>> {
    let fnscope = Fnscope::new();
    let mut making = Making::begin(fnscope.store(), Shape { hours: 1, ..A })?;
    making.write(|_| Ok(()))?;
    drop(making);
    let peak = peak_mib(&mut fnscope.command(["seal"]))?;
    Ok(vec![Bar::new("peak", peak, "MiB", Bound::Recorded)])
}
