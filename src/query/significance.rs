//! Whether two shares of samples differ, or two sums of CPU time, and by how much at least. Pure arithmetic.
//!
//! Method. A frame's share is `p = x / n`: of `n` samples it stands in `x`. Samples of one instance resemble each
//! other (it took one path, had one input), so `n` samples of `k` instances tell less than `n` independent ones. With
//! `x_i` of `n_i` samples in instance `i` the variance of a ratio over clusters is
//!
//! ```text
//! v = k / (k - 1) * sum((x_i - p * n_i)^2) / n^2
//! ```
//!
//! and the design effect is `d = v / (p * (1 - p) / n)`, at least 1, and 1 for a single instance, which shows nothing
//! of how instances differ. Of waits `x` and `n` are times, and `d` is at least `sum(t^2) / sum(t)` over the waits' times
//! `t`, Kish's effect of unequal weights: one long wait tells no more than a short one. The samples count as `n' = n / d`. Then the two-proportion z test with the pooled share
//! `p = (pA * n'A + pB * n'B) / (n'A + n'B)`:
//!
//! ```text
//! z = (pB - pA) / sqrt(p * (1 - p) * (1 / n'A + 1 / n'B))
//! ```
//!
//! Intervals hold at 95 %, two-sided: Wilson's of each share, Newcombe's of their difference, which are sound for
//! shares near 0 too, where the plain `p ± 1.96 s` is not. With few instances `v` itself is uncertain: instead of 1.96
//! stands the quantile of Student's t, its degrees of freedom by Welch and Satterthwaite. Promises: a difference with
//! itself is 0, and swapping the sides swaps signs.

/// 97.5 % quantile of the normal distribution.
const NORMAL: f64 = 1.959_964;
/// 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// What one side's samples say of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Samples that count.
    pub samples: u64,
    /// Samples in all.
    pub of: u64,
    /// Instances these came from.
    pub instances: u64,
    /// Sum over instances of the squares of the samples that count, of their products with all, and of the squares
    /// of all.
    pub squares: [f64; 3],
    /// The design effect is no less than this: 1 for samples, which weigh the same.
    pub least_effect: f64,
}

/// A value with the interval it lies in, at 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// As measured.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The comparison of two shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Share of B less that of A.
    pub delta: Estimate,
    /// The test's z; 0 where there is nothing to test.
    pub z: f64,
    /// Whether that is more than chance does in 5 of 100 cases.
    pub significant: bool,
}

impl Share {
    /// Of no sample.
    pub const NONE: Share = Share { samples: 0, of: 0, instances: 0, squares: [0.0; 3], least_effect: 1.0 };

    /// Of instances with so many samples each: those that count, and all.
    pub fn of_instances(instances: impl IntoIterator<Item = (u64, u64)>) -> Share {
        let mut share = Share::NONE;
        for (samples, of) in instances {
            let (x, n) = (samples as f64, of as f64);
            share.samples = share.samples.saturating_add(samples);
            share.of = share.of.saturating_add(of);
            share.instances += u64::from(of > 0);
            for (sum, term) in share.squares.iter_mut().zip([x * x, x * n, n * n]) {
                *sum += term;
            }
        }
        share
    }

    /// The share itself; 0 of no samples.
    pub fn value(&self) -> f64 {
        self.samples as f64 / self.of.max(1) as f64
    }

    /// By how much the variance exceeds that of independent samples; at least 1.
    pub fn design_effect(&self) -> f64 {
        let (p, n, k) = (self.value(), self.of as f64, self.instances as f64);
        let [xx, xn, nn] = self.squares;
        let binomial = p * (1.0 - p) * n;
        if self.instances < 2 || binomial <= 0.0 {
            return self.least_effect;
        }
        // sum((x_i - p n_i)^2), from the sums of squares that were kept.
        let spread = (xx - 2.0 * p * xn + p * p * nn).max(0.0);
        (k / (k - 1.0) * spread / binomial).max(self.least_effect)
    }

    /// The share with the interval it lies in.
    pub fn estimate(&self) -> Estimate {
        let (low, high) = self.wilson(quantile(self.freedom()));
        Estimate { value: self.value(), low, high }
    }

    /// Samples that independent ones would do the work of.
    fn effective(&self) -> f64 {
        self.of as f64 / self.design_effect()
    }

    /// Degrees of freedom of its variance; without end for a single instance, whose variance is the binomial one.
    fn freedom(&self) -> f64 {
        if self.instances < 2 { f64::INFINITY } else { (self.instances - 1) as f64 }
    }

    /// Its variance, with half a sample of either kind added so that it is never 0.
    fn variance(&self) -> f64 {
        let p = (self.samples as f64 + 0.5) / (self.of as f64 + 1.0);
        p * (1.0 - p) / self.effective().max(1.0)
    }

    fn wilson(&self, quantile: f64) -> (f64, f64) {
        let (p, n) = (self.value(), self.effective());
        if n <= 0.0 {
            return (0.0, 1.0);
        }
        let q2 = quantile * quantile / n;
        let centre = (p + q2 / 2.0) / (1.0 + q2);
        let half = (quantile / (1.0 + q2)) * (p * (1.0 - p) / n + q2 / (4.0 * n)).sqrt();
        // Rounding must not put the share itself outside.
        ((centre - half).clamp(0.0, p), (centre + half).clamp(p, 1.0))
    }
}

/// How `b` differs from `a`.
pub fn difference(a: &Share, b: &Share) -> Difference {
    let value = b.value() - a.value();
    if a.of == 0 || b.of == 0 {
        return Difference { delta: Estimate { value, low: -1.0, high: 1.0 }, z: 0.0, significant: false };
    }
    let quantile = quantile(welch([(a.variance(), a.freedom()), (b.variance(), b.freedom())]));
    let ((low_a, high_a), (low_b, high_b)) = (a.wilson(quantile), b.wilson(quantile));
    let low = value - (b.value() - low_b).hypot(high_a - a.value());
    let high = value + (high_b - b.value()).hypot(a.value() - low_a);
    let (na, nb) = (a.effective(), b.effective());
    let pooled = (a.value() * na + b.value() * nb) / (na + nb);
    let error = (pooled * (1.0 - pooled) * (1.0 / na + 1.0 / nb)).sqrt();
    let z = if error > 0.0 { value / error } else { 0.0 };
    Difference { delta: Estimate { value, low, high }, z, significant: z.abs() >= quantile }
}

/// CPU time of one side: that of each instance, in microseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CpuTimes {
    /// Of each instance.
    pub each_us: Vec<f64>,
    /// Whether all of it is the kernel's own account; if not, some is estimated from samples.
    pub accounted: bool,
    /// Samples there are of it.
    pub samples: u64,
}

impl CpuTimes {
    /// The sum in microseconds.
    pub fn total_us(&self) -> f64 {
        self.each_us.iter().sum()
    }

    /// The mean in microseconds; none of no instance.
    pub fn mean_us(&self) -> Option<f64> {
        (!self.each_us.is_empty()).then(|| self.total_us() / self.each_us.len() as f64)
    }

    /// Variance of the mean over the mean's square. Between instances where there are several; what sampling adds
    /// where it was the measure, or where one instance shows nothing of how they differ.
    fn relative_variance(&self) -> Option<f64> {
        let (k, mean) = (self.each_us.len() as f64, self.mean_us().filter(|mean| *mean > 0.0)?);
        let sampling = 1.0 / self.samples.max(1) as f64;
        if self.each_us.len() < 2 {
            return Some(sampling);
        }
        let squares: f64 = self.each_us.iter().map(|cpu| (cpu - mean) * (cpu - mean)).sum();
        let between = squares / (k - 1.0) / k / (mean * mean);
        Some(if self.accounted { between } else { between.max(sampling) })
    }

    fn freedom(&self) -> f64 {
        if self.each_us.len() < 2 { f64::INFINITY } else { (self.each_us.len() - 1) as f64 }
    }
}

/// By which part the CPU time of `b` exceeds that of `a`: of all instances together where `total`, else of the mean
/// one. None where either has none. The ratio's logarithm has the relative variances' sum for its variance.
pub fn growth(a: &CpuTimes, b: &CpuTimes, total: bool) -> Option<Estimate> {
    let (va, vb) = (a.relative_variance()?, b.relative_variance()?);
    let ratio = if total { b.total_us() / a.total_us() } else { b.mean_us()? / a.mean_us()? };
    let error = (va + vb).sqrt() * quantile(welch([(va, a.freedom()), (vb, b.freedom())]));
    Some(Estimate { value: ratio - 1.0, low: ratio * (-error).exp() - 1.0, high: ratio * error.exp() - 1.0 })
}

/// Degrees of freedom of a sum of two variances, each with its own.
fn welch(parts: [(f64, f64); 2]) -> f64 {
    let sum: f64 = parts.iter().map(|(variance, _)| variance).sum();
    let weighted: f64 = parts.iter().map(|(variance, freedom)| variance * variance / freedom).sum();
    if weighted > 0.0 { sum * sum / weighted } else { f64::INFINITY }
}

/// 97.5 % quantile of Student's t.
fn quantile(freedom: f64) -> f64 {
    if freedom.is_nan() || freedom > 1e6 {
        return NORMAL;
    }
    let whole = freedom.max(1.0).floor();
    if let Some(value) = STUDENT.get(whole as usize - 1) {
        return *value;
    }
    // The first terms of the Cornish-Fisher expansion; right to 0.001 from 10 degrees of freedom on.
    let z = NORMAL;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / whole + second / (whole * whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers that are the same in every run (xorshift), uniform in 0..1.
    struct Dice(u64);

    impl Dice {
        fn throw(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// `instances` of `n` samples each whose own share is `p`, give or take `spread`.
        fn share(&mut self, instances: u64, n: u64, p: f64, spread: f64) -> Share {
            let counts: Vec<(u64, u64)> = (0..instances)
                .map(|_| {
                    let own = (p + spread * (2.0 * self.throw() - 1.0)).clamp(0.0, 1.0);
                    ((0..n).map(|_| u64::from(self.throw() < own)).sum(), n)
                })
                .collect();
            Share::of_instances(counts)
        }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1.0, 12.706), (5.5, 2.571), (10.0, 2.228), (15.0, 2.131), (30.0, 2.042), (f64::INFINITY, 1.960)]
        {
            assert!((quantile(freedom) - expected).abs() < 0.002, "{freedom}: {}", quantile(freedom));
        }
    }

    #[test]
    fn shares_are_compared_as_a_book_would() {
        // Two groups of 100: 45 and 60. z = 0.15 / sqrt(0.525 * 0.475 * 0.02) = 2.124.
        let (a, b) = (Share::of_instances([(45, 100)]), Share::of_instances([(60, 100)]));
        let found = difference(&a, &b);
        assert!((found.z - 2.124).abs() < 0.001, "{found:?}");
        // Newcombe's method 10 for 56/70 and 48/80: 0.0524 to 0.3339.
        let found = difference(&Share::of_instances([(48, 80)]), &Share::of_instances([(56, 70)]));
        assert!((found.delta.low - 0.0524).abs() < 0.0005, "{found:?}");
        assert!((found.delta.high - 0.3339).abs() < 0.0005, "{found:?}");
        // Nothing of much, and all of little.
        let rare = Share::of_instances([(0, 20)]).estimate();
        assert!(rare.low == 0.0 && (rare.high - 0.161).abs() < 0.001, "{rare:?}");
        assert_eq!(Share::NONE.estimate(), Estimate { value: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn instances_that_differ_count_for_less() {
        let alike = Share::of_instances([(20, 100); 10]);
        assert_eq!(alike.design_effect(), 1.0);
        // All or nothing: ten instances are ten samples, or so.
        let torn = Share::of_instances((0..10).map(|at| (if at < 2 { 100 } else { 0 }, 100)));
        assert!((torn.design_effect() - 100.0 * 10.0 / 9.0).abs() < 1e-6, "{}", torn.design_effect());
        let other = Share::of_instances((0..10).map(|at| (if at < 3 { 100 } else { 0 }, 100)));
        assert!(!difference(&torn, &other).significant);
        assert!(
            difference(&Share::of_instances([(200, 1000)]), &Share::of_instances([(300, 1000)])).significant
        );
    }

    #[test]
    fn chance_alone_is_called_significant_as_often_as_it_should_be() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for (instances, n, p, spread) in
            [(1, 2_000, 0.2, 0.0), (10, 100, 0.2, 0.1), (20, 50, 0.05, 0.05), (3, 300, 0.3, 0.1)]
        {
            let mut found = 0;
            for _ in 0..400 {
                let (a, b) = (dice.share(instances, n, p, spread), dice.share(instances, n, p, spread));
                found += u32::from(difference(&a, &b).significant);
            }
            // 5 % of 400 are 20; 40 would be chance once in 20,000 times.
            assert!(found < 40, "{found} of 400 with {instances} instances of {n} samples");
        }
    }

    #[test]
    fn growth_is_certain_as_far_as_instances_agree() {
        let times = |each: &[f64]| CpuTimes { each_us: each.to_vec(), accounted: true, samples: 1_000 };
        let steady = times(&[100.0, 101.0, 99.0, 100.0]);
        let grown = times(&[130.0, 131.0, 129.0, 130.0]);
        let found = growth(&steady, &grown, false).unwrap();
        assert!((found.value - 0.3).abs() < 1e-9 && found.low > 0.28, "{found:?}");
        let wild = times(&[10.0, 250.0, 60.0, 200.0]);
        let found = growth(&steady, &wild, false).unwrap();
        assert!(found.value > 0.25 && found.low < 0.0, "{found:?}");
        let one = growth(&times(&[100.0]), &times(&[150.0]), true).unwrap();
        assert!(one.low > 0.3 && one.high < 0.7, "{one:?}");
        assert_eq!(growth(&CpuTimes::default(), &steady, true), None);
    }

    proptest! {
        #[test]
        fn any_counts_have_an_answer(
            a in proptest::collection::vec((0u64..50, 0u64..50), 0..6),
            b in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..6),
        ) {
            let a = Share::of_instances(a.into_iter().map(|(x, rest)| (x, x + rest)));
            let b = Share::of_instances(b.into_iter().map(|(x, y)| (x.min(y).into(), x.max(y).into())));
            for (one, other) in [(a, b), (b, a), (a, a)] {
                let there = difference(&one, &other);
                let back = difference(&other, &one);
                prop_assert!(there.delta.low <= there.delta.value && there.delta.value <= there.delta.high);
                prop_assert!(there.z.is_finite());
                prop_assert_eq!(there.delta.value, -back.delta.value);
                prop_assert!((there.z + back.z).abs() <= 1e-9 * (1.0 + there.z.abs()));
                prop_assert_eq!(there.significant, back.significant);
            }
            prop_assert_eq!(difference(&a, &a).z, 0.0);
        }
    }
}
