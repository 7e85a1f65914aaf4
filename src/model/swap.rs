//! A value that is replaced while others read it: what a reload of the configuration changes under running threads.
//!
//! Promises: a reader sees one whole value, old or new, and never waits for longer than it takes to copy a pointer.

use std::sync::{Arc, PoisonError, RwLock};

/// The value. Cheap to clone; all clones are one.
#[derive(Debug)]
pub struct Swap<T>(Arc<RwLock<Arc<T>>>);

impl<T> Swap<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Swap<T> {
        Swap(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// What it holds now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds `value` from now on, in every clone.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Swap<T> {
    fn clone(&self) -> Swap<T> {
        Swap(self.0.clone())
    }
}

impl<T: Default> Default for Swap<T> {
    fn default() -> Swap<T> {
        Swap::new(T::default())
    }
}

impl<T> From<T> for Swap<T> {
    fn from(value: T) -> Swap<T> {
        Swap::new(value)
    }
}

/// By what they hold now.
impl<T: PartialEq> PartialEq for Swap<T> {
    fn eq(&self, other: &Swap<T>) -> bool {
        *self.get() == *other.get()
    }
}

impl<T: Eq> Eq for Swap<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_are_one() {
        let first = Swap::new(1);
        let (second, before) = (first.clone(), first.get());
        second.set(2);
        assert_eq!((*before, *first.get(), *second.get()), (1, 2, 2));
        assert!(first == second && first != Swap::from(1));
    }
}
