//! Memory that was freed between what is still used, to be given back to the system: who freed it tells, and the capture
//! thread does it.
//!
//! Giving back holds the allocator's locks for milliseconds, and readers and the capture thread allocate from the same
//! heaps: the keeper, which runs behind all others, would have them wait for as long as it is kept from its CPU. So the
//! capture thread does it itself, in a calm moment if one comes soon.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long a calm moment is waited for.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Whether there is something to give back.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// Since when (monotonic clock); 0 for nothing.
    since_ns: AtomicU64,
}

impl Freed {
    /// Something was freed, at `now_ns`.
    pub(super) fn tell(&self, now_ns: u64) {
        let _ = self.since_ns.compare_exchange(0, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Something was freed so that memory is given back now.
    pub(super) fn hurry(&self) {
        self.since_ns.store(1, Ordering::Relaxed);
    }

    /// Whether it is time to give it back, which is taken for done then.
    pub(super) fn take(&self, now_ns: u64, calm: bool) -> bool {
        let since_ns = self.since_ns.load(Ordering::Relaxed);
        let due = since_ns != 0 && (calm || since_ns == 1 || now_ns.saturating_sub(since_ns) >= PATIENCE_NS);
        if due {
            self.since_ns.store(0, Ordering::Relaxed);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_moment_is_waited_for_and_not_for_ever() {
        let freed = Freed::default();
        assert!(!freed.take(5, true), "nothing was");
        freed.tell(10);
        assert!(!freed.take(20, false));
        assert!(freed.take(30, true) && !freed.take(40, true), "once");
        freed.tell(50);
        freed.tell(60);
        assert!(!freed.take(49 + PATIENCE_NS, false) && freed.take(50 + PATIENCE_NS, false));
        freed.hurry();
        assert!(freed.take(2, false));
    }
}
