//! Whether readings rise: the slope of a line through them, with its 95 % interval.

/// Readings before this share of a life are left out: caches fill, allocators find their size.
const WARM_UP: f64 = 0.25;
/// Points that the line goes through.
const BLOCKS: usize = 12;
/// Student's t for 95 %, two-sided, with `BLOCKS - 2` degrees of freedom.
const T: f64 = 2.228;

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
    ///   slope = Σ (x - x̄)(y - ȳ) / Σ (x - x̄)²
    ///   s² = Σ (y - ŷ)² / (12 - 2),  standard error = s / sqrt(Σ (x - x̄)²),  interval = ± 2.228 standard errors
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
        let off: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
        let error = (off / (count - 2.0) / spread).sqrt();
        Some(Slope { per_hour: slope * 3600.0, interval: T * error * 3600.0, readings: warm.len() })
    }

    /// Whether it is surely above zero.
    pub fn rises(self) -> bool {
        self.per_hour - self.interval > 0.0
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
}
