//! A bounded map that forgets what was not asked for lately.
//!
//! Two generations: what is asked for becomes young; when the young ones take half the room, the old ones are dropped and
//! the young ones become old. Cheaper than a true LRU and as good here. It never holds more than its limit and one entry.
//! Both stand in one table, which stays where it is: one that is made anew for each generation leaves holes of all sizes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::model::tables;

/// A map bounded by the bytes its entries are said to take.
#[derive(Debug)]
pub struct Memo<K, V> {
    /// Tenants choose keys: the hash has a key of its own.
    kept: HashMap<K, Kept<V>, ahash::RandomState>,
    young_bytes: usize,
    old_bytes: usize,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    bytes: u32,
    is_young: bool,
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    /// Hash tables keep about half their places free.
    const ENTRY_BYTES: usize = 2 * size_of::<(K, Kept<V>)>();

    /// An empty map for `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Memo<K, V> {
        Memo { kept: HashMap::default(), young_bytes: 0, old_bytes: 0, limit_bytes }
    }

    /// What was kept for `key`.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.read(key, V::clone)
    }

    /// What `of` makes of what was kept for `key`.
    pub fn read<Q: Hash + Eq + ?Sized, R>(&mut self, key: &Q, of: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
    {
        let kept = self.kept.get_mut(key)?;
        let read = of(&kept.value);
        if !std::mem::replace(&mut kept.is_young, true) {
            let bytes = kept.bytes as usize;
            self.old_bytes = self.old_bytes.saturating_sub(bytes);
            self.grow(bytes);
        }
        Some(read)
    }

    /// Keeps `value`, which takes `bytes` beside the places of key and value themselves.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) {
        let bytes = u32::try_from(bytes.saturating_add(Self::ENTRY_BYTES)).unwrap_or(u32::MAX);
        let replaced = self.kept.insert(key, Kept { value, bytes, is_young: true });
        self.leave(replaced);
        self.grow(bytes as usize);
    }

    /// Forgets what was kept for `key`.
    pub fn remove(&mut self, key: &K) {
        let removed = self.kept.remove(key);
        self.leave(removed);
    }

    /// From now on it is for `limit_bytes`. What it held goes if that is less.
    pub fn limit(&mut self, limit_bytes: usize) {
        let shrinks = limit_bytes < self.limit_bytes;
        self.limit_bytes = limit_bytes;
        if shrinks {
            self.clear();
        }
    }

    /// Forgets what was not asked for since this was called last: it is to be called at the pace at which that is little.
    pub fn age(&mut self) {
        self.kept.retain(|_, kept| std::mem::take(&mut kept.is_young));
        tables::keep_little(&mut self.kept);
        self.old_bytes = std::mem::take(&mut self.young_bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Memo::new(self.limit_bytes);
    }

    /// Bytes its entries are said to take.
    pub fn memory_bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// The young ones take so many `bytes` more.
    fn grow(&mut self, bytes: usize) {
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        if self.young_bytes >= self.limit_bytes / 2 {
            self.age();
        }
    }

    fn leave(&mut self, left: Option<Kept<V>>) {
        let Some(Kept { bytes, is_young, .. }) = left else { return };
        let taken = if is_young { &mut self.young_bytes } else { &mut self.old_bytes };
        *taken = taken.saturating_sub(bytes as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_grows_old() {
        let mut memo: Memo<u64, u64> = Memo::new(100_000);
        (0..2).for_each(|key| memo.insert(key, key, 100));
        memo.age();
        assert_eq!(memo.get(&0), Some(0));
        memo.age();
        assert_eq!((memo.get(&0), memo.get(&1)), (Some(0), None));
        memo.age();
        memo.age();
        assert_eq!((memo.get(&0), memo.memory_bytes()), (None, 0));
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut memo: Memo<u64, u64> = Memo::new(100_000);
        for key in 0..10_000 {
            memo.insert(key, key, 1000);
            assert_eq!(memo.get(&0), Some(0), "after {key}");
            assert!(memo.memory_bytes() <= 102_000, "{}", memo.memory_bytes());
        }
        assert_eq!(memo.get(&1), None);
        assert_eq!(memo.get(&9_999), Some(9_999));
    }

    #[test]
    fn a_lower_limit_holds_at_once() {
        let mut memo: Memo<u64, u64> = Memo::new(100_000);
        (0..50).for_each(|key| memo.insert(key, key, 1000));
        memo.limit(10_000);
        assert_eq!(memo.memory_bytes(), 0);
        (0..50).for_each(|key| memo.insert(key, key, 1000));
        assert!(memo.memory_bytes() <= 12_000, "{}", memo.memory_bytes());
        memo.limit(100_000);
        assert!(memo.memory_bytes() > 0);
    }

    #[test]
    fn one_entry_larger_than_the_limit_is_kept_until_the_next() {
        let mut memo: Memo<u64, u64> = Memo::new(1000);
        memo.insert(1, 1, 5000);
        assert_eq!(memo.get(&1), Some(1));
        memo.insert(2, 2, 5000);
        assert_eq!((memo.get(&1), memo.get(&2)), (None, Some(2)));
    }
}
