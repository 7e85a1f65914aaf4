//! What came lately, of so much that not all of it can be remembered.
//!
//! A value lies where its hash says, with one other at most: of those that came there, the two that were asked for last
//! stay. Two, because half as many values as there is room for would otherwise push each other out for ever. Who makes
//! hashes collide makes his own values be forgotten, and some others be made again. What nobody asks for any more goes when
//! it is aged twice: it may hold what is a tenant's, files that are deleted too.

/// Values by hash.
#[derive(Debug)]
pub struct Recent<T> {
    pairs: Vec<[Option<Kept<T>>; 2]>,
    /// How many bits of a hash say where.
    bits: u32,
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    /// Whether it was put or asked for since the last ageing.
    is_young: bool,
}

impl<T> Recent<T> {
    /// None yet; of twice 2^`bits` values at most, which take no memory before the first.
    pub fn new(bits: u32) -> Recent<T> {
        Recent { pairs: Vec::new(), bits }
    }

    /// The value of this `hash` that `is` the one.
    #[inline]
    pub fn find(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let place = self.place(hash);
        let [last, before] = self.pairs.get_mut(place)?;
        let is_it = |kept: &Option<Kept<T>>| kept.as_ref().is_some_and(|kept| is(&kept.value));
        if !is_it(last) {
            if !is_it(before) {
                return None;
            }
            std::mem::swap(last, before);
        }
        let found = last.as_mut()?;
        found.is_young = true;
        Some(&found.value)
    }

    /// Remembers the `value` of this `hash`, which is not there.
    pub fn put(&mut self, hash: u64, value: T) {
        if self.pairs.is_empty() {
            self.pairs.resize_with(1 << self.bits, || [None, None]);
        }
        let place = self.place(hash);
        if let Some([last, before]) = self.pairs.get_mut(place) {
            *before = last.replace(Kept { value, is_young: true });
        }
    }

    /// Forgets those of this `hash` that are `of` a kind.
    pub fn remove(&mut self, hash: u64, of: impl Fn(&T) -> bool) {
        let place = self.place(hash);
        for slot in self.pairs.get_mut(place).into_iter().flatten() {
            slot.take_if(|kept| of(&kept.value));
        }
    }

    /// Forgets what was neither put nor asked for since the last ageing.
    pub fn age(&mut self) {
        for slot in self.pairs.iter_mut().flatten() {
            slot.take_if(|kept| !std::mem::take(&mut kept.is_young));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pairs = Vec::new();
    }

    /// The upper bits: who multiplies to mix has the best ones there.
    fn place(&self, hash: u64) -> usize {
        hash.checked_shr(u64::BITS - self.bits).unwrap_or(0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_two_that_were_asked_for_last_stay() {
        let mut recent = Recent::new(0);
        assert_eq!(recent.find(7, |_| true), None);
        recent.put(1, "a");
        recent.put(2, "b");
        assert_eq!(recent.find(1, |known| *known == "a"), Some(&"a"));
        recent.put(3, "c");
        assert_eq!(recent.find(2, |known| *known == "b"), None, "it was asked for least lately");
        assert_eq!(recent.find(1, |known| *known == "a"), Some(&"a"));
        assert_eq!(recent.find(3, |known| *known == "c"), Some(&"c"));
        recent.remove(0, |known| *known == "a");
        assert_eq!(recent.find(1, |known| *known == "a"), None);
        assert_eq!(recent.find(3, |known| *known == "c"), Some(&"c"));
        recent.clear();
        assert_eq!(recent.find(3, |known| *known == "c"), None);
    }

    #[test]
    fn what_nobody_asks_for_goes_at_the_second_ageing() {
        let mut recent = Recent::new(0);
        recent.put(1, "asked for");
        recent.put(2, "not");
        recent.age();
        assert!(recent.find(1, |known| *known == "asked for").is_some());
        recent.age();
        assert_eq!(recent.find(2, |known| *known == "not"), None);
        assert!(recent.find(1, |known| *known == "asked for").is_some());
        recent.age();
        recent.age();
        assert_eq!(recent.find(1, |known| *known == "asked for"), None);
    }

    proptest! {
        #[test]
        fn what_is_found_was_put_and_what_was_put_last_is_found(
            bits in 0..6u32,
            steps in proptest::collection::vec((any::<bool>(), 0..40u64), 0..200),
        ) {
            let mut recent = Recent::new(bits);
            let hash = |value: u64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut put = std::collections::HashSet::new();
            for (asks, value) in steps {
                let found = recent.find(hash(value), |known| *known == value).copied();
                prop_assert!(found.is_none_or(|found| found == value && put.contains(&value)));
                if !asks && found.is_none() {
                    recent.put(hash(value), value);
                    put.insert(value);
                    prop_assert_eq!(recent.find(hash(value), |known| *known == value), Some(&value));
                }
            }
        }
    }
}
