//! A bounded map that forgets what was not asked for lately.
//!
//! Two generations: what is asked for moves to the young one; when that is half full, the old one is dropped and the
//! young one becomes old. Cheaper than a true LRU and as good here. It never holds more than its limit and one entry.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Tenants choose keys: the hash has a key of its own.
type Generation<K, V> = HashMap<K, (V, usize), ahash::RandomState>;

/// A map bounded by the bytes its entries are said to take.
#[derive(Debug)]
pub struct Memo<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    young_bytes: usize,
    old_bytes: usize,
    limit_bytes: usize,
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    /// Hash tables keep about half their places free.
    const ENTRY_BYTES: usize = 2 * size_of::<(K, V, usize)>();

    /// An empty map for `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Memo<K, V> {
        Memo {
            young: Generation::default(),
            old: Generation::default(),
            young_bytes: 0,
            old_bytes: 0,
            limit_bytes,
        }
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
        if let Some((value, _)) = self.young.get(key) {
            return Some(of(value));
        }
        let (key, (value, bytes)) = self.old.remove_entry(key)?;
        self.old_bytes = self.old_bytes.saturating_sub(bytes);
        let read = of(&value);
        self.put(key, value, bytes);
        Some(read)
    }

    /// Keeps `value`, which takes `bytes` beside the places of key and value themselves.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) {
        if let Some((_, bytes)) = self.old.remove(&key) {
            self.old_bytes = self.old_bytes.saturating_sub(bytes);
        }
        self.put(key, value, bytes.saturating_add(Self::ENTRY_BYTES));
    }

    /// Forgets what was kept for `key`.
    pub fn remove(&mut self, key: &K) {
        if let Some((_, bytes)) = self.young.remove(key) {
            self.young_bytes = self.young_bytes.saturating_sub(bytes);
        }
        if let Some((_, bytes)) = self.old.remove(key) {
            self.old_bytes = self.old_bytes.saturating_sub(bytes);
        }
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
        self.old = std::mem::take(&mut self.young);
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

    fn put(&mut self, key: K, value: V, bytes: usize) {
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        if let Some((_, replaced)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes = self.young_bytes.saturating_sub(replaced);
        }
        if self.young_bytes >= self.limit_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
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
