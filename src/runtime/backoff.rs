//! How long to wait before a runtime is tried again.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Between looks for the sockets of runtimes that are not there and need not be.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First wait.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait for a runtime that answers and breaks off.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest wait for a runtime that is not there: looking for its socket costs nothing, and when it comes up the first
/// containers follow at once.
const LONGEST_ABSENT: Duration = Duration::from_secs(2);

/// How long until the sockets of absent runtimes are looked for again: all at one moment, because it is the waking up that
/// costs and not the look.
pub fn until_next_look() -> Duration {
    static FIRST_LOOK: LazyLock<Instant> = LazyLock::new(Instant::now);
    until_next(FIRST_LOOK.elapsed())
}

/// The rest of the period that has begun after `since`.
fn until_next(since: Duration) -> Duration {
    let gone = since.as_nanos() % LOOK_EVERY.as_nanos();
    LOOK_EVERY.saturating_sub(Duration::from_nanos(u64::try_from(gone).unwrap_or_default()))
}

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
    fn all_look_at_one_moment() {
        for (since_ms, expected_ms) in
            [(0, 2_000), (1, 1_999), (1_999, 1), (2_000, 2_000), (86_400_500, 1_500)]
        {
            let since = Duration::from_millis(since_ms);
            assert_eq!(until_next(since), Duration::from_millis(expected_ms), "{since_ms}");
        }
        assert_eq!(until_next(Duration::MAX), Duration::from_nanos(1));
    }

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
