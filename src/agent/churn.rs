//! How fast one container runs programs and ends processes, and whether that is so fast that nobody hurries after it.
//!
//! Each of these beginnings and each end is read at once, because its files and its cgroup may be gone a moment later: some hundred
//! microseconds of CPU time, which the tenant chooses to cause. A script runs a hundred programs a second at most, and a
//! program that starts forks a few hundred; who goes on beyond that is in a storm, and is read like a stranger until it
//! is over. Pure: the caller tells the time.

/// Beginnings and ends that are followed at once: in one burst, and a second from then on.
const BURST: u64 = 512;
const A_SECOND: u64 = 200;
/// What counts at most: a storm is over when half of the burst is left, some two seconds behind its end.
const MOST: u64 = BURST + BURST / 4;

/// Beginnings and ends of late.
#[derive(Debug, Default)]
pub(super) struct Churn {
    count: u64,
    since_ns: u64,
    is_storm: bool,
}

impl Churn {
    /// A process has begun or ended at `now_ns`.
    pub(super) fn add(&mut self, now_ns: u64) {
        self.forget(now_ns);
        self.count = (self.count + 1).min(MOST);
        self.is_storm |= self.count > BURST;
    }

    /// Whether it is a storm at `now_ns`.
    pub(super) fn is_storm(&mut self, now_ns: u64) -> bool {
        if self.is_storm {
            self.forget(now_ns);
        }
        self.is_storm
    }

    fn forget(&mut self, now_ns: u64) {
        const EACH_NS: u64 = 1_000_000_000 / A_SECOND;
        let forgotten = now_ns.saturating_sub(self.since_ns) / EACH_NS;
        self.since_ns = self.since_ns.saturating_add(forgotten.saturating_mul(EACH_NS));
        self.count = self.count.saturating_sub(forgotten);
        self.is_storm &= self.count > BURST / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Whether it is one with what happens now.
    fn storm_with(churn: &mut Churn, now_ns: u64) -> bool {
        churn.add(now_ns);
        churn.is_storm(now_ns)
    }

    /// In which of `seconds` it was a storm, with so many beginnings and ends a second.
    fn storms(churn: &mut Churn, from: u64, seconds: u64, a_second: u64) -> Vec<bool> {
        let second = |second: u64| {
            let at = |n: u64| (from + second) * SECOND + n * SECOND / a_second;
            (0..a_second).map(|n| storm_with(churn, at(n))).collect::<Vec<_>>().contains(&true)
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn a_script_is_none_nor_a_program_that_starts() {
        let mut churn = Churn::default();
        assert_eq!(storms(&mut churn, 1, 60, A_SECOND), [false; 60]);
        assert!((0..BURST - 1).all(|_| !storm_with(&mut churn, 70 * SECOND)), "it had rested");
    }

    #[test]
    fn who_goes_on_is_in_one_until_two_seconds_behind_its_end() {
        let mut churn = Churn::default();
        assert_eq!(storms(&mut churn, 1, 5, 1_000), [true; 5]);
        assert!(
            (0..6_000).all(|n| storm_with(&mut churn, 6 * SECOND + n * SECOND / 1_000)),
            "not now and then"
        );
        assert!(churn.is_storm(13 * SECOND) && !churn.is_storm(14 * SECOND));
        assert!(!storm_with(&mut churn, 14 * SECOND), "and has to begin again");
    }

    #[test]
    fn a_clock_that_goes_back_or_far_is_survived() {
        let mut churn = Churn::default();
        for now_ns in [u64::MAX, 0, u64::MAX, 7] {
            churn.add(now_ns);
            churn.is_storm(now_ns);
        }
        assert!(!churn.is_storm);
    }
}
