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
    about: "a full disk at 200 moments, 2,000 flipped bits, a cut at every byte: what is told wrong",
    runs: 1,
    run: damage,
};

const SEED: u64 = 20_261_123;

fn damage() -> anyhow::Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for (what, tried, told, report) in [
        ("full disk", "moments", "refused something", store_faults::full_disk(200, SEED)),
        ("flipped bits", "tried", "named", store_faults::flips(2_000, SEED)),
        ("cuts", "tried", "named", store_faults::cuts(1)),
    ] {
        let Report { wrong, .. } = &report;
        wrong.iter().for_each(|line| eprintln!("{what}: {line}"));
        bars.push(Bar::new(format!("{what}: {tried}"), report.tried as f64, "", Bound::Recorded));
        bars.push(Bar::new(format!("{what}: {told}"), report.told as f64, "", Bound::Recorded));
        bars.push(Bar::new(format!("{what}: wrong answers"), wrong.len() as f64, "", Bound::AtMost(0.0)));
    }
    let peak = sealing_peak_mib()?;
    bars.push(Bar::new("sealing an hour of 5 million samples: peak", peak, "MiB", Bound::Recorded));
    Ok(bars)
}

/// The most memory that `fnscope seal` takes for an hour of 5 million samples of 10 functions: some journals, one after
/// the other.
fn sealing_peak_mib() -> anyhow::Result<f64> {
    let fnscope = Fnscope::new();
    let mut making = Making::begin(fnscope.store(), Shape { hours: 1, ..A })?;
    making.write(|_| Ok(()))?;
    drop(making);
    peak_mib(&mut fnscope.command(["seal"]))
}
