//! Chance that is the same for the same seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A row of numbers; several threads may draw from it.
pub struct Random(AtomicU64);

impl Random {
    /// The row of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// From 0 to `limit - 1`: SplitMix64.
    pub fn below(&self, limit: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    /// One of `all`.
    pub fn pick<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len() as u64) as usize)
    }

    /// `all` in another order.
    pub fn shuffled<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let mut rest = all.to_vec();
        (0..all.len()).map(|_| rest.swap_remove(self.below(rest.len() as u64) as usize)).collect()
    }
}
