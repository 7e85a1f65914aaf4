//! What is given up now, as the agent's threads and its metrics look at it: the level of the [`Governor`](super::budget),
//! and counts of what was cut of tenants that want more than their share.
//!
//! Shared by reference; nobody waits for anybody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::budget::Step;

/// What is given up now, and what was cut so far.
#[derive(Debug, Default)]
pub struct Degraded {
    level: AtomicUsize,
    cuts: [AtomicU64; Cut::ALL.len()],
}

/// What was cut of a container that wants more than its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Processes that are not followed: their samples count, their frames have no names.
    Processes,
    /// Files that were not opened: their functions have no names.
    Files,
    /// Mappings that were not kept.
    Mappings,
    /// Cgroups below a container's own whose samples are not told apart from strangers'.
    Cgroups,
    /// Samples whose stacks were cut to their leaf.
    Stacks,
    /// Samples whose frames were not looked up.
    Names,
    /// Processes whose environment was not read: what they could tell of the container's function stays unknown.
    Environments,
    /// Samples whose stacks are the kernel's chains: reading unwind tables for them took too long already.
    Walks,
}

impl Cut {
    /// Every one.
    pub const ALL: [Cut; 8] = [
        Cut::Processes,
        Cut::Files,
        Cut::Mappings,
        Cut::Cgroups,
        Cut::Stacks,
        Cut::Names,
        Cut::Environments,
        Cut::Walks,
    ];
}

impl Degraded {
    /// Whether `step` is in force.
    pub fn is_in_force(&self, step: Step) -> bool {
        step.index() < self.level.load(Ordering::Relaxed)
    }

    /// How much of `cut` there was so far.
    pub fn cuts(&self, cut: Cut) -> u64 {
        self.cuts.get(cut as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The first `level` steps are in force from now on.
    pub(super) fn set_level(&self, level: usize) {
        self.level.store(level, Ordering::Relaxed);
    }

    /// Counts what was cut.
    pub(super) fn cut(&self, cut: Cut, count: u64) {
        if let Some(sum) = self.cuts.get(cut as usize).filter(|_| count > 0) {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_force_up_to_the_level_and_cuts_are_counted_each_in_its_place() {
        let degraded = Degraded::default();
        assert_eq!(Step::ALL.map(|step| degraded.is_in_force(step)), [false; 4]);
        degraded.set_level(3);
        assert_eq!(Step::ALL.map(|step| degraded.is_in_force(step)), [true, true, true, false]);
        for (at, cut) in Cut::ALL.into_iter().enumerate() {
            degraded.cut(cut, at as u64);
        }
        assert_eq!(Cut::ALL.map(|cut| degraded.cuts(cut)), [0, 1, 2, 3, 4, 5, 6, 7]);
        let names = Cut::ALL.map(|cut| format!("{cut:?}").to_lowercase());
        assert_eq!(names, crate::metrics::CUTS, "as metrics call them");
    }
}
