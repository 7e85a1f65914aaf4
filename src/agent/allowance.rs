//! What naming the stacks of one container may cost: how many frames of new stacks of it enter the store, and how many
//! places are looked up for it.
//!
//! A program may have as many stacks as it is sampled, and as many functions as fit a file; each frame of a new stack
//! takes disk and work, now and when its hour is sealed, each new place work. So an instance may have many at once, as
//! a program that starts does, and few for ever. Beyond that its samples are kept whole in number, with less of a
//! stack. Pure: the caller tells the time.

use crate::model::{IdMap, InstanceNo, tables};

/// Frames of new stacks of an instance: at once, and a second from then on. Programs have some thousand stacks of thirty
/// frames in an hour; at seven bytes a frame this is 7 MB and then 15 MB an hour.
const FRAMES: Tap = Tap { at_once: 1_000_000, a_second: 600 };
/// Places looked up of an instance, in the same way. One takes up to 30 us, of the keeper's time alone; reading a file
/// for it counts for as many as that takes: 1.8 s at once.
const NAMES: Tap = Tap { at_once: 60_000, a_second: 400 };
/// Frames that stay of a stack beyond the allowance, at the leaf.
pub(super) const LEAVES: usize = 4;
/// Instances of which it is remembered what they took, before those that took little are forgotten.
const MAX_INSTANCES: usize = 4_096;

struct Tap {
    at_once: u32,
    a_second: u32,
}

/// What one instance has left.
#[derive(Debug)]
struct Left {
    frames: u32,
    names: u32,
    filled_us: i64,
}

impl Left {
    /// Frames and names it has at `now_us`.
    fn at(&self, now_us: i64) -> (u32, u32) {
        let seconds =
            u32::try_from(now_us.saturating_sub(self.filled_us).max(0) / 1_000_000).unwrap_or(u32::MAX);
        let fill =
            |has: u32, tap: &Tap| has.saturating_add(tap.a_second.saturating_mul(seconds)).min(tap.at_once);
        (fill(self.frames, &FRAMES), fill(self.names, &NAMES))
    }
}

/// Allowances by instance.
#[derive(Debug, Default)]
pub(super) struct Allowances {
    left: IdMap<InstanceNo, Left>,
}

/// How much of a stack is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// [`LEAVES`] frames, unless it is at hand.
    Leaf,
    /// What is at hand, else that it was there.
    Mark,
}

impl Allowances {
    /// How much of the next stack of `no` is looked at, at `now_us`, a time that may go back.
    pub(super) fn of(&mut self, no: InstanceNo, now_us: i64) -> Part {
        if self.left.len() >= MAX_INSTANCES && !self.left.contains_key(&no) {
            self.left.retain(|_, left| left.names < NAMES.at_once / 2 || left.frames < FRAMES.at_once / 2);
            if self.left.len() >= MAX_INSTANCES {
                self.left.clear();
            }
        }
        let fresh = Left { frames: FRAMES.at_once, names: NAMES.at_once, filled_us: now_us };
        let left = self.left.entry(no).or_insert(fresh);
        if now_us < left.filled_us || now_us.saturating_sub(left.filled_us) >= 1_000_000 {
            (left.frames, left.names) = left.at(now_us);
            left.filled_us = now_us;
        }
        match (left.names, left.frames) {
            (0, _) => Part::Mark,
            (_, 0) => Part::Leaf,
            _ => Part::Whole,
        }
    }

    /// Forgets who has had little for so long that it would have all of it again: who begins anew has no more.
    pub(super) fn age(&mut self, now_us: i64) {
        self.left.retain(|_, left| left.at(now_us) != (FRAMES.at_once, NAMES.at_once));
        tables::keep_little(&mut self.left);
    }

    /// A stack of `no` took `names` places that were looked up; so many `frames` it has that is new to the store.
    pub(super) fn take(&mut self, no: InstanceNo, names: u64, frames: usize) {
        if let Some(left) = self.left.get_mut(&no) {
            left.names = left.names.saturating_sub(u32::try_from(names).unwrap_or(u32::MAX));
            left.frames = left.frames.saturating_sub(u32::try_from(frames).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    #[test]
    fn one_may_have_much_at_once_and_little_for_ever_and_others_do_not_notice() {
        let (mut allowances, hostile, other) = (Allowances::default(), InstanceNo(1), InstanceNo(2));
        let mut now_us = 0;
        let (mut whole, mut leaves) = (0, 0);
        for _ in 0..100 {
            for _ in 0..1_000 {
                match allowances.of(hostile, now_us) {
                    Part::Whole => whole += 1,
                    Part::Leaf => leaves += 1,
                    Part::Mark => unreachable!("no places were looked up"),
                }
                allowances.take(hostile, 0, 30);
            }
            assert_eq!(allowances.of(other, now_us), Part::Whole);
            now_us += SECOND_US;
        }
        // The last of a second may take more than is left.
        let most = (1_000_000 + 99 * 600) / 30;
        assert!((most..most + 100).contains(&whole), "{whole}");
        assert_eq!(whole + leaves, 100_000);
        assert_eq!(allowances.of(hostile, now_us - SECOND_US / 2), Part::Leaf);
    }

    #[test]
    fn places_that_are_looked_up_are_counted_alone() {
        let (mut allowances, no) = (Allowances::default(), InstanceNo(1));
        assert_eq!(allowances.of(no, 0), Part::Whole);
        allowances.take(no, 59_999, 0);
        assert_eq!(allowances.of(no, 0), Part::Whole);
        allowances.take(no, 1_000_000, 0);
        assert_eq!(allowances.of(no, SECOND_US - 1), Part::Mark);
        assert_eq!(allowances.of(no, SECOND_US), Part::Whole);
        assert_eq!(allowances.of(no, -SECOND_US), Part::Whole, "a clock that was set back");
    }

    #[test]
    fn who_would_have_all_of_it_again_is_forgotten() {
        let (mut allowances, little, much) = (Allowances::default(), InstanceNo(1), InstanceNo(2));
        for (no, names) in [(little, 400), (much, 401)] {
            allowances.of(no, 0);
            allowances.take(no, names, 0);
        }
        let known = |allowances: &Allowances| [little, much].map(|no| allowances.left.contains_key(&no));
        allowances.age(SECOND_US - 1);
        assert_eq!(known(&allowances), [true, true]);
        allowances.age(SECOND_US);
        assert_eq!(known(&allowances), [false, true]);
        allowances.take(much, 1_000_000, 0);
        allowances.age(2 * SECOND_US);
        assert_eq!(allowances.of(much, 0), Part::Mark);
    }

    #[test]
    fn what_is_remembered_of_instances_is_bounded() {
        let mut allowances = Allowances::default();
        for no in 0..20_000 {
            allowances.of(InstanceNo(no), 0);
            allowances.take(InstanceNo(no), u64::from(no % 2) * 1_000_000, 0);
        }
        assert!(allowances.left.len() <= MAX_INSTANCES);
    }
}
