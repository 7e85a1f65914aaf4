//! Chains as the kernel tells them, each once for as long as it comes again.
//!
//! A program that computes is found at the same few instructions again and again, called the same way: of a busy one nine
//! samples of ten have a chain that came in the seconds before. Those are not copied out of the ring, and who makes
//! something of a chain knows it by its address.

use std::sync::Arc;

use crate::model::Recent;

/// The bits of how many pairs of chains are remembered. A program that recurses is found in a thousand ways.
const BITS: u32 = 10;

/// Chains that came lately. Who makes chains collide has his copied, as any others.
///
/// They are known by a hash of 64 bits with a key of its own. Ten of the bits are the place's: of a million samples a
/// second, one would be taken for another of two once in 2^53 / 10^6 s, 285 years. To look at what was told as well is what
/// most of the time would go to: a second later it is in no cache.
#[derive(Debug)]
pub(super) struct Told {
    chains: Recent<(u64, Arc<[u64]>)>,
    key: ahash::RandomState,
}

impl Default for Told {
    fn default() -> Told {
        Told { chains: Recent::new(BITS), key: ahash::RandomState::default() }
    }
}

impl Told {
    /// The chain of these `bytes`.
    #[inline]
    pub(super) fn chain(&mut self, bytes: &[u8]) -> Arc<[u64]> {
        let hash = self.key.hash_one(bytes);
        if let Some((_, chain)) = self.chains.find(hash, |(known, _)| *known == hash) {
            return Arc::clone(chain);
        }
        let chain = words(bytes);
        self.chains.put(hash, (hash, Arc::clone(&chain)));
        chain
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.chains.clear();
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
        let chains: Vec<_> = (0..24_000).map(|at| told.chain(&bytes(&[at % 64, at]))).collect();
        for (at, chain) in (0..).zip(&chains) {
            assert_eq!(**chain, [at % 64, at]);
        }
        let kept = chains.iter().filter(|chain| Arc::strong_count(chain) > 1).count();
        // Each place is hit by 23.4 of them in the mean: that any of 1,024 has fewer than two has a chance of
        // 1,024 * 24.4 e^-23.4, two in a million.
        assert_eq!(kept, 2 << BITS);
    }
}
