//! Waits in a view: as what a question about time off the CPU counts, and as totals beside what others count.
//!
//! A wait counts when it is over, whole: in the window, the phase and under the name of that moment. So sums of
//! adjoining windows add up, and what is stored of an hour never changes what was told of the one before.

use super::event::Preempted;
use super::view::{Life, span_at};
use crate::fold::Weight;
use crate::model::{Timestamp, Window};
use crate::store::StoredWait;
use crate::store::archive::SealedWaits;

/// Waits of an instance, one or all of a sealed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Position in [`super::merge::Merged::instances`].
    pub instance: u32,
    /// When the first was over.
    pub at: Timestamp,
    /// What they come to.
    pub time: OffCpu,
}

/// Time off the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OffCpu {
    /// Waits.
    pub waits: u64,
    /// How long they took together, in nanoseconds.
    pub ns: u64,
    /// What of it was preemption, in nanoseconds.
    pub preempted_ns: u64,
}

impl OffCpu {
    /// Of one wait.
    pub(super) fn of(ns: u64, preempted: bool) -> OffCpu {
        OffCpu { waits: 1, ns, preempted_ns: if preempted { ns } else { 0 } }
    }

    /// Of what was counted at a seal.
    pub(super) fn of_sealed(row: &SealedWaits) -> OffCpu {
        let ns = |us: u64| us.saturating_mul(1_000);
        OffCpu { waits: row.count, ns: ns(row.us), preempted_ns: ns(row.preempted_us) }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: OffCpu) {
        self.waits = self.waits.saturating_add(other.waits);
        self.ns = self.ns.saturating_add(other.ns);
        self.preempted_ns = self.preempted_ns.saturating_add(other.preempted_ns);
    }

    /// It, where there was any.
    pub(super) fn some(self) -> Option<OffCpu> {
        (self.waits > 0).then_some(self)
    }
}

/// How long waits took that stand as one sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Length {
    /// In nanoseconds.
    pub ns: u64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Length {
    /// Of one wait.
    pub(super) fn of(ns: u64) -> Length {
        Length { ns, squares: ns as f64 * ns as f64 }
    }

    /// Adds `other`.
    pub(super) fn add(&mut self, other: Length) {
        self.ns = self.ns.saturating_add(other.ns);
        self.squares += other.squares;
    }
}

/// Those of `waits` that `wanted` takes, and the weight of the others by instance.
pub(super) fn chosen<'a>(
    waits: impl Iterator<Item = &'a StoredWait>,
    wanted: Preempted,
    mut left_out: impl FnMut(&StoredWait, Weight),
) -> Vec<&'a StoredWait> {
    waits
        .filter(|wait| {
            let taken = wanted.takes(wait.preempted);
            if !taken {
                left_out(wait, Weight { samples: 1, time_ns: wait.ns });
            }
            taken
        })
        .collect()
}

/// Whether the totals of `row` tell as much as its waits: nothing of them lies beyond `window`, nor under another name.
pub(super) fn is_enough(row: &SealedWaits, life: &Life, window: Window) -> bool {
    let places = [row.first, row.last].map(|time| span_at(&life.spans, time));
    let spans = life.spans.get(places[0]..=places[1].max(places[0])).unwrap_or_default();
    let same = spans.windows(2).all(|pair| matches!(pair, [a, b] if a.function == b.function));
    window.contains(row.first) && window.contains(row.last) && same
}
