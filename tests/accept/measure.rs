//! What a measurement is: a name, a way to take it, and bars that its figures must reach. The figure that counts is
//! the median of several runs.

use std::panic::catch_unwind;

/// One measurement.
pub struct Measurement {
    /// Its name: `accept-…` or `bench-…`.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// How often it is taken.
    pub runs: usize,
    /// Takes it once. The same bars, in the same order, each time.
    pub run: fn() -> anyhow::Result<Vec<Bar>>,
}

/// A figure and what it must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What the figure is.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it must be.
    pub bound: Bound,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "each measurement uses the kinds of bars it has")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// From the first to the second.
    Within(f64, f64),
    /// Anything: recorded for whoever reads it.
    Recorded,
}

impl Bar {
    /// A bar.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, bound: Bound) -> Bar {
        Bar { what: what.into(), value, unit, bound }
    }

    /// Whether the figure is what it must be; no number never is.
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::AtLeast(low) => self.value >= low,
            Bound::AtMost(high) => self.value <= high,
            Bound::Within(low, high) => low <= self.value && self.value <= high,
            Bound::Recorded => !self.value.is_nan(),
        }
    }
}

/// What came of a measurement.
#[derive(Debug)]
pub struct Outcome {
    /// The measurement's name.
    pub name: &'static str,
    /// Each bar with its median, and the figures of the single runs; or why a run failed.
    pub result: Result<Vec<(Bar, Vec<f64>)>, String>,
}

impl Outcome {
    /// Whether every run was made and every bar holds.
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|bars| !bars.is_empty() && bars.iter().all(|(bar, _)| bar.holds()))
    }
}

impl Measurement {
    /// Takes the measurement `runs` times. The first run that fails ends it.
    pub fn take(&self, runs: usize) -> Outcome {
        let taken = (0..runs).map(|_| self.take_once()).collect::<anyhow::Result<Vec<_>>>();
        Outcome {
            name: self.name,
            result: taken.map_err(|error| format!("{error:#}")).and_then(|runs| medians(&runs)),
        }
    }

    /// What the tests stand on panics where it cannot go on; the other measurements can.
    fn take_once(&self) -> anyhow::Result<Vec<Bar>> {
        catch_unwind(self.run).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(anyhow::anyhow!("{}", text.unwrap_or("it panicked")))
        })
    }
}

/// Each bar of the runs with the median of its figures.
fn medians(runs: &[Vec<Bar>]) -> Result<Vec<(Bar, Vec<f64>)>, String> {
    let Some(first) = runs.first() else { return Ok(Vec::new()) };
    let mut bars = Vec::new();
    for (at, bar) in first.iter().enumerate() {
        let same =
            |run: &Vec<Bar>| run.get(at).filter(|other| other.what == bar.what).map(|other| other.value);
        let figures: Option<Vec<f64>> = runs.iter().map(same).collect();
        let figures = figures.ok_or_else(|| format!("`{}` is not in every run", bar.what))?;
        bars.push((Bar { value: median(&figures), ..bar.clone() }, figures));
    }
    Ok(bars)
}

/// The middle figure, or the mean of the two in the middle; not a number if there is none, or if one is not.
fn median(figures: &[f64]) -> f64 {
    if figures.iter().any(|figure| figure.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => (sorted[middle - 1] + value) / 2.0,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64, bound: Bound) -> Bar {
        Bar::new("share", value, "", bound)
    }

    #[test]
    fn bars_hold_at_their_edges_and_not_beyond() {
        for (bound, inside, outside) in [
            (Bound::AtLeast(0.95), 0.95, 0.949),
            (Bound::AtMost(0.01), 0.01, 0.011),
            (Bound::Within(0.9, 1.1), 1.1, 1.101),
            (Bound::Within(0.9, 1.1), 0.9, f64::NAN),
            (Bound::Recorded, -1.0, f64::NAN),
        ] {
            assert!(bar(inside, bound).holds(), "{inside} {bound:?}");
            assert!(!bar(outside, bound).holds(), "{outside} {bound:?}");
        }
    }

    #[test]
    fn the_median_counts() {
        for (figures, expected) in [(&[3.0][..], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)]
        {
            assert!((median(figures) - expected).abs() < 1e-9, "{figures:?}");
        }
        assert!(median(&[]).is_nan() && median(&[1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn a_run_that_fails_or_tells_something_else_fails_the_measurement() {
        let fails = || anyhow::bail!("no perf events here");
        let outcome = Measurement { name: "accept-x", about: "", runs: 1, run: fails }.take(2);
        assert_eq!(outcome.result.as_ref().unwrap_err(), "no perf events here");
        assert!(!outcome.passed());

        let panics = || panic!("no Docker {}", "here");
        let outcome = Measurement { name: "accept-x", about: "", runs: 1, run: panics }.take(1);
        assert_eq!(outcome.result.as_ref().unwrap_err(), "no Docker here");

        let runs = [vec![bar(1.0, Bound::Recorded)], vec![Bar::new("other", 1.0, "", Bound::Recorded)]];
        assert!(medians(&runs).is_err());

        let none = Measurement { name: "accept-y", about: "", runs: 1, run: || Ok(Vec::new()) }.take(1);
        assert!(!none.passed(), "a measurement that measures nothing proves nothing");
    }
}
