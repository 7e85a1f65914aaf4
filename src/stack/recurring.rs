//! What was made of chains that came lately, so that of one that comes again nothing is made.
//!
//! The kernel's chains are known by their addresses where they come again ([`crate::perf::RawSample::chain`]); what is
//! made of one depends on that and on what its process has mapped. And who names chains finds the stack on the chain
//! ([`super::Symbolizer::stack_of`]).

use std::sync::Arc;

use super::chain::Chain;
use crate::model::Recent;

/// The bits of how many pairs of chains are remembered: as many as those who tell them apart remember.
const BITS: u32 = 10;

/// Chains by what the kernel told.
#[derive(Debug)]
pub struct Recurring(Recent<Known>);

impl Default for Recurring {
    fn default() -> Recurring {
        Recurring(Recent::new(BITS))
    }
}

#[derive(Debug)]
struct Known {
    /// Held, so that nothing else can come to lie there.
    told: Arc<[u64]>,
    /// Of which version the space is.
    version: u64,
    chain: Arc<Chain>,
}

impl Recurring {
    /// What was made of `told` in the space of this `version`.
    #[inline]
    pub fn get(&mut self, version: u64, told: &Arc<[u64]>) -> Option<&Arc<Chain>> {
        let is = |known: &Known| known.version == version && Arc::ptr_eq(&known.told, told);
        self.0.find(hash(told), is).map(|known| &known.chain)
    }

    /// `chain` was made of `told`.
    pub fn put(&mut self, told: Arc<[u64]>, chain: &Arc<Chain>) {
        let hash = hash(&told);
        // Of a space of the past nothing comes any more.
        self.0.remove(hash, |known| Arc::ptr_eq(&known.told, &told));
        self.0.put(hash, Known { version: chain.space().version(), chain: Arc::clone(chain), told });
    }

    /// Forgets what did not come since this was called last: with a process that has ended, its space and the files in it.
    pub fn age(&mut self) {
        self.0.age();
    }

    /// Forgets everything: the spaces of past samples, too.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn hash(told: &Arc<[u64]>) -> u64 {
    (told.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::AddressSpace;

    fn chain(version: u64, addresses: &[u64]) -> Arc<Chain> {
        let space = Arc::new(AddressSpace::new(version, Vec::new()));
        Arc::new(Chain::new(addresses.to_vec(), 0, space, false))
    }

    #[test]
    fn a_chain_is_found_again_by_what_was_told_and_by_what_was_mapped() {
        let mut recurring = Recurring::default();
        let (told, first): (Arc<[u64]>, _) = ([9, 1, 2].into(), chain(7, &[1, 2]));
        assert!(recurring.get(7, &told).is_none());
        recurring.put(Arc::clone(&told), &first);
        assert!(recurring.get(7, &told).is_some_and(|found| Arc::ptr_eq(found, &first)));
        assert!(recurring.get(8, &told).is_none());
        assert!(recurring.get(7, &[9, 1, 2].into()).is_none(), "it did not come again");
        let later = chain(8, &[1, 2]);
        recurring.put(Arc::clone(&told), &later);
        assert!(recurring.get(8, &told).is_some_and(|found| Arc::ptr_eq(found, &later)));
        assert_eq!(Arc::strong_count(&first), 1, "the space of the past is given back");
        recurring.clear();
        assert!(recurring.get(8, &told).is_none());
        assert_eq!((Arc::strong_count(&later), Arc::strong_count(&told)), (1, 1));
    }

    #[test]
    fn however_many_there_are_few_are_kept() {
        let mut recurring = Recurring::default();
        let mut made = Vec::new();
        for at in 0..20_000_u64 {
            let (told, chain): (Arc<[u64]>, _) = ([at].into(), chain(1 + at % 3, &[at]));
            recurring.put(Arc::clone(&told), &chain);
            assert!(recurring.get(1 + at % 3, &told).is_some_and(|found| Arc::ptr_eq(found, &chain)));
            made.push((told, chain));
        }
        let kept = made.iter().filter(|(_, chain)| Arc::strong_count(chain) > 1).count();
        assert!((1 << BITS..=2 << BITS).contains(&kept), "{kept}");
    }
}
