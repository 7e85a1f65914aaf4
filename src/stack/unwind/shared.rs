//! Equal values, held once. Some engines give each container files of its own: copies of one program have one table.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Weak};

/// So many that may be gone are looked through before there are more.
const MANY: usize = 256;

/// What is held somewhere, to be found by its value. It holds nothing itself.
#[derive(Debug)]
pub(super) struct Shared<T> {
    held: HashMap<u64, Weak<T>>,
    /// Its keys are random: nobody can make values that are hashed alike. They are compared all the same.
    hasher: RandomState,
}

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared { held: HashMap::new(), hasher: RandomState::new() }
    }
}

impl<T: Hash + PartialEq> Shared<T> {
    /// The one that is held already and equals `value`, or `value`, held by nobody else yet.
    pub(super) fn one(&mut self, value: T) -> Arc<T> {
        let key = self.hasher.hash_one(&value);
        let known = self.held.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| **known == value) {
            return known;
        }
        if self.held.len() >= MANY && self.held.len() == self.held.capacity() {
            self.held.retain(|_, held| held.strong_count() > 0);
        }
        let value = Arc::new(value);
        self.held.insert(key, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_while_somebody_holds_it() {
        let mut shared = Shared::default();
        let first = shared.one(vec![1u8, 2]);
        assert!(Arc::ptr_eq(&first, &shared.one(vec![1, 2])));
        assert!(!Arc::ptr_eq(&first, &shared.one(vec![1, 3])));
        drop(first);
        assert_eq!(Arc::strong_count(&shared.one(vec![1, 2])), 1);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut shared = Shared::default();
        for n in 0..100 * MANY {
            shared.one(n);
        }
        assert!(shared.held.len() <= 8 * MANY, "{}", shared.held.len());
    }
}
