//! Conditions compared by runs that take turns, and intervals for what they differ by.
//!
//! Not here: what is measured.

use crate::student_t::student_t;

/// Takes each of `C` conditions once in each of `rounds` rounds, and gives the `W` figures of each. Which comes first
/// changes from round to round, so that a drift of the machine is in all of them.
pub fn interleaved<const C: usize, const W: usize>(
    rounds: usize,
    mut take: impl FnMut(usize) -> anyhow::Result<[f64; W]>,
) -> anyhow::Result<Vec<[[f64; W]; C]>> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut figures = [[f64::NAN; W]; C];
        for turn in 0..C {
            let condition = (turn + round) % C;
            figures[condition] = take(condition)?;
        }
        all.push(figures);
    }
    Ok(all)
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// The figure.
    pub middle: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// The same in another unit.
    pub fn map(self, change: impl Fn(f64) -> f64) -> Interval {
        Interval { low: change(self.low), middle: change(self.middle), high: change(self.high) }
    }

    /// From its lower to its upper end.
    pub fn width(self) -> f64 {
        self.high - self.low
    }

    /// How far this one and `other` are apart; nothing where they overlap.
    pub fn gap(self, other: Interval) -> f64 {
        (self.low.max(other.low) - self.high.min(other.high)).max(0.0)
    }
}

/// How much slower, in per cent, something is that was taken beside something else: `logs` are ln(with / without), and this
/// is their mean, with the interval by Student's t: mean ± t(n - 1) · s / √n, s² being the sum of squared differences from
/// the mean over n - 1. Logarithms, because a ratio and its inverse are then equally far from nothing.
pub fn slower_percent(logs: impl Iterator<Item = f64>) -> Interval {
    let logs: Vec<f64> = logs.collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    let reach = student_t(logs.len().saturating_sub(1)) * (squares / (n - 1.0) / n).sqrt();
    let logs = Interval { low: mean - reach, middle: mean, high: mean + reach };
    logs.map(|log| log.exp_m1() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_turn_first() {
        let mut order = Vec::new();
        let rounds = interleaved::<3, 1>(3, |condition| {
            order.push(condition);
            Ok([condition as f64])
        });
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert_eq!(rounds.unwrap(), [[[0.0], [1.0], [2.0]]; 3]);
        assert!(interleaved::<2, 1>(1, |_| anyhow::bail!("no perf events")).is_err());
    }

    #[test]
    fn the_interval_of_pairs_is_students() {
        // ln 1.01 and ln 1.03 alternating, four times: mean .019754, s .011320, t(3) 3.182, half .018010.
        let found = slower_percent([1.01, 1.03, 1.01, 1.03].into_iter().map(f64::ln));
        for (value, expected) in [(found.low, 0.1746), (found.middle, 1.9951), (found.high, 3.8486)] {
            assert!((value - expected).abs() < 0.01, "{found:?}");
        }
        assert!(slower_percent([0.0].into_iter()).width().is_nan(), "one pair tells no interval");
    }

    #[test]
    fn intervals_that_overlap_are_not_apart() {
        let from = |low, high| Interval { low, middle: (low + high) / 2.0, high };
        assert_eq!(from(0.0, 1.0).gap(from(0.5, 3.0)), 0.0);
        assert_eq!(from(4.0, 5.0).gap(from(1.0, 3.0)), 1.0);
    }
}
