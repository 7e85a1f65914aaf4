//! Whether readings rise: the slope of a line through them, with its 95 % interval.

use crate::student_t::student_t;

/// Readings before this share of a life are left out: caches fill, allocators find their size.
const WARM_UP: f64 = 0.25;
/// Points that the line goes through.
const BLOCKS: usize = 12;

/// A slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// What the readings rise by in an hour.
    pub per_hour: f64,
    /// Half of the width of its 95 % interval.
    pub interval: f64,
    /// How many readings it is made of.
    pub readings: usize,
}

impl Slope {
    /// Of `readings`: seconds, and what was read; none where there are too few to tell.
    ///
    /// Readings seconds apart are not independent (a burst of containers lifts some in a row), so an interval from all of
    /// them would be far too narrow. They are parted into 12 blocks of one length, minutes each in a soak; of each the
    /// median counts, y(i) at its middle time x(i). Then, by least squares:
    ///
    ///   slope = Σ (x - x̄)(y - ȳ) / Σ (x - x̄)²,  e = y - ŷ
    ///
    /// Blocks are not independent either: what an allocator took for a burst stays for minutes. They count for as many as
    /// their residuals' correlation with the next one's leaves (Santer et al. 2000, J. Geophys. Res. 105, 7337):
    ///
    ///   r = max(0, Σ e(i) e(i + 1) / Σ e²),  n = 12 (1 - r) / (1 + r)
    ///   s² = Σ e² / (n - 2),  standard error = s / sqrt(Σ (x - x̄)²),  interval = ± t(n - 2) standard errors
    pub fn of(readings: &[(f64, f64)]) -> Option<Slope> {
        let warm = readings.get((readings.len() as f64 * WARM_UP) as usize..)?;
        let length = warm.len() / BLOCKS;
        // Three make a median that one burst does not move.
        if length < 3 {
            return None;
        }
        let points: Vec<(f64, f64)> = warm.chunks_exact(length).take(BLOCKS).map(middle).collect();
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let off: Vec<f64> = points.iter().map(|point| point.1 - y - slope * (point.0 - x)).collect();
        let squares: f64 = off.iter().map(|off| off * off).sum();
        let interval = half_interval(&off, squares, count) / spread.sqrt();
        Some(Slope { per_hour: slope * 3600.0, interval: interval * 3600.0, readings: warm.len() })
    }

    /// Whether it is surely above zero.
    pub fn rises(self) -> bool {
        self.per_hour - self.interval > 0.0
    }
}

/// t times s of residuals `off`, whose squares sum up to `squares`; infinite where they tell nothing.
fn half_interval(off: &[f64], squares: f64, count: f64) -> f64 {
    if squares == 0.0 {
        return 0.0;
    }
    let with_next: f64 = off.windows(2).map(|two| two.iter().product::<f64>()).sum();
    let correlation = (with_next / squares).max(0.0);
    let freedom = count * (1.0 - correlation) / (1.0 + correlation) - 2.0;
    // Of a fraction the lower one: the wider interval.
    match freedom.floor() as usize {
        0 => f64::INFINITY,
        whole => student_t(whole) * (squares / freedom).sqrt(),
    }
}

fn middle(block: &[(f64, f64)]) -> (f64, f64) {
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = block.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    (median(|reading| reading.0), median(|reading| reading.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(count: usize, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|n| n as f64 * 5.0).map(|at| (at, value(at))).collect()
    }

    #[test]
    fn what_rises_is_told_from_what_goes_up_and_down() {
        // Up and down by 300 with bursts, as memory under churn does.
        let noise = |at: f64| (at * 0.7).sin() * 150.0 + (at * 0.013).cos() * 150.0;
        let flat = Slope::of(&readings(240, |at| 20_000.0 + noise(at))).unwrap();
        assert!(!flat.rises(), "{flat:?}");
        // A KiB a second.
        let leak = Slope::of(&readings(240, |at| 20_000.0 + at + noise(at))).unwrap();
        assert!(leak.rises() && (leak.per_hour - 3600.0).abs() < leak.interval, "{leak:?}");
        let falls = Slope::of(&readings(240, |at| 20_000.0 - at)).unwrap();
        assert!(!falls.rises() && (falls.per_hour + 3600.0).abs() < 1.0, "{falls:?}");
        let warming = Slope::of(&readings(240, |at| if at < 250.0 { at } else { 250.0 })).unwrap();
        assert!(!warming.rises(), "a warm-up is no leak: {warming:?}");
        assert_eq!(Slope::of(&readings(40, |at| at)), None, "too few");
    }

    /// Of a thousand without a trend, each block half of the one before and half by chance, how many rise. By the interval
    /// of independent blocks 113 would; a fair one has 25, this one 69 as it knows the correlation from 12 blocks alone.
    #[test]
    fn what_stays_for_minutes_seldom_passes_for_a_trend() {
        let random = super::super::random::Random::new(7);
        // Of twelve even chances, less their mean: normal enough, with a variance of one.
        let chance = || (0..12).map(|_| random.below(1001) as f64 / 1000.0).sum::<f64>() - 6.0;
        let mut rise = 0;
        for _ in 0..1000 {
            let mut level = chance() / 0.75f64.sqrt();
            let mut next = || {
                level = level * 0.5 + chance();
                level
            };
            let blocks: Vec<f64> = (0..16).map(|_| next()).collect();
            // Three readings a block; a quarter goes with the warm-up.
            let rows: Vec<(f64, f64)> = (0..48).map(|n| (n as f64 * 5.0, blocks[n / 3])).collect();
            rise += u32::from(Slope::of(&rows).unwrap().rises());
        }
        // By the same seed always the same; 69 more or less four sigma (8) would be by any.
        assert!((37..=101).contains(&rise), "{rise}");
    }
}
