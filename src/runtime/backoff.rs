//! How long to wait before a runtime is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Between looks for the socket of a runtime that is not there and need not be.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First wait.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait for a runtime that answers and breaks off.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest wait for a runtime that is not there: looking for its socket costs nothing, and when it comes up the first
/// containers follow at once.
const LONGEST_ABSENT: Duration = Duration::from_secs(2);

/// Waits that double, each with a random part so that many agents do not come back at the same time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure; `absent` where nobody listened.
    pub fn next(&mut self, absent: bool) -> Duration {
        let random = RandomState::new().hash_one(self.failures) % 1000;
        let wait = wait(self.failures, absent, random);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half and the whole of the doubled wait; `per_mille` of the half is random.
fn wait(failures: u32, absent: bool, per_mille: u64) -> Duration {
    let longest = if absent { LONGEST_ABSENT } else { LONGEST };
    let whole = FIRST.saturating_mul(1 << failures.min(16)).min(longest);
    let half = whole / 2;
    half + half.mul_f64(per_mille as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, absent, least_ms, most_ms) in [
            (0, false, 50, 100),
            (1, false, 100, 200),
            (5, false, 1600, 3200),
            (5, true, 1000, 2000),
            (20, false, 5000, 10_000),
            (u32::MAX, true, 1000, 2000),
        ] {
            assert_eq!(wait(failures, absent, 0), Duration::from_millis(least_ms), "{failures}");
            let most = wait(failures, absent, 999);
            assert!(
                most > wait(failures, absent, 0) && most <= Duration::from_millis(most_ms),
                "{failures}: {most:?}"
            );
        }
    }
}
