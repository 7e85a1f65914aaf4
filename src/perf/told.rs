//! Chains as the kernel tells them, each once for as long as it comes again.
//!
//! A program that computes is found at the same few instructions again and again, called the same way: of a busy one nine
//! samples of ten have a chain that came in the seconds before. Those are not copied out of the ring, and who makes
//! something of a chain knows it by its address.

use std::sync::Arc;

/// Chains that are remembered, each where its hash says; a power of two.
const SLOTS: usize = 1_024;

/// Chains that came lately. What came last stays: who makes chains collide has his copied, as any others.
///
/// They are known by a hash of 64 bits with a key of its own. Ten of the bits are the slot's: of a million samples a second,
/// one would be taken for another once in 2^54 / 10^6 s, 570 years. To look at what was told as well is what most of the
/// time would go to: a second later it is in no cache.
#[derive(Debug, Default)]
pub(super) struct Told {
    slots: Vec<(u64, Option<Arc<[u64]>>)>,
    key: ahash::RandomState,
}

impl Told {
    /// The chain of these `bytes`.
    #[inline]
    pub(super) fn chain(&mut self, bytes: &[u8]) -> Arc<[u64]> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, (0, None));
        }
        let hash = self.key.hash_one(bytes);
        let slot = self.slots.get_mut((hash >> (u64::BITS - SLOTS.ilog2())) as usize);
        match slot {
            Some((known, Some(chain))) if *known == hash => Arc::clone(chain),
            Some(slot) => Arc::clone(slot.1.insert({
                slot.0 = hash;
                words(bytes)
            })),
            None => words(bytes),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
    }
}

/// The words in `bytes`.
pub(super) fn words(bytes: &[u8]) -> Arc<[u64]> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_chain_that_comes_again_is_the_same() {
        let mut told = Told::default();
        let first = told.chain(&bytes(&[9, 1, 2]));
        assert_eq!(*first, [9, 1, 2]);
        assert!(Arc::ptr_eq(&told.chain(&bytes(&[9, 1, 2])), &first));
        for other in [&[1, 2][..], &[9, 1], &[9, 2, 1], &[], &[0, 9, 1, 2]] {
            let chain = told.chain(&bytes(other));
            assert_eq!(*chain, *other);
            assert!(!Arc::ptr_eq(&chain, &first));
        }
        told.clear();
        assert!(!Arc::ptr_eq(&told.chain(&bytes(&[9, 1, 2])), &first));
    }

    #[test]
    fn however_many_there_are_few_are_kept_and_none_is_taken_for_another() {
        let mut told = Told::default();
        let chains: Vec<_> = (0..20_000).map(|at| told.chain(&bytes(&[at % 64, at]))).collect();
        for (at, chain) in (0..).zip(&chains) {
            assert_eq!(**chain, [at % 64, at]);
        }
        let kept = chains.iter().filter(|chain| Arc::strong_count(chain) > 1).count();
        // Each is hit by 19.5 of them in the mean: that any of 1,024 is empty has a chance of 1,024 e^-19.5, four in a million.
        assert_eq!(kept, SLOTS);
    }
}
