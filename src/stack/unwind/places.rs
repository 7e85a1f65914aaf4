//! A table of fixed size from places in files to what was learned of them.
//!
//! Not the [`Memo`](crate::stack::memo::Memo): a walk asks it twenty times, so a look must take nanoseconds, and a warm
//! walk must not allocate. A place has two slots; what is newest stays. A tenant can push out others' places, which
//! costs time and changes nothing.

/// What was learned of places: a file's number and an offset.
#[derive(Debug)]
pub(super) struct Places<V> {
    slots: Box<[Option<(u64, u64, V)>]>,
    mask: usize,
}

impl<V: Clone> Places<V> {
    /// A table for `1 << bits` places.
    pub(super) fn new(bits: u32) -> Places<V> {
        let count = 1_usize << bits.clamp(1, 24);
        Places { slots: vec![None; count].into_boxed_slice(), mask: count - 1 }
    }

    /// What was learned of the place.
    pub(super) fn get(&self, file: u64, offset: u64) -> Option<&V> {
        let at = self.slot(file, offset);
        [at, at ^ 1].into_iter().find_map(|at| match self.slots.get(at) {
            Some(Some((f, o, value))) if (*f, *o) == (file, offset) => Some(value),
            _ => None,
        })
    }

    /// Keeps what was learned of the place.
    pub(super) fn put(&mut self, file: u64, offset: u64, value: V) {
        let at = self.slot(file, offset);
        let older = self.slots.get_mut(at).and_then(Option::take);
        if let Some(place) = self.slots.get_mut(at ^ 1)
            && older.is_some()
        {
            *place = older;
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some((file, offset, value));
        }
    }

    /// Memory in bytes, but for what values point at.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.len() * size_of::<Option<(u64, u64, V)>>()
    }

    /// Places that something is known of.
    pub(super) fn count(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn slot(&self, file: u64, offset: u64) -> usize {
        let mixed = (offset ^ file.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        usize::try_from(mixed >> 40).unwrap_or(0) & self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_last_is_there_and_the_table_does_not_grow() {
        let mut places = Places::new(6);
        let bytes = places.memory_bytes();
        for n in 0..10_000_u64 {
            places.put(n % 7, n, n);
            assert_eq!(places.get(n % 7, n), Some(&n));
            assert_eq!(places.get(n % 7 + 1, n), None);
        }
        assert_eq!(places.memory_bytes(), bytes);
        assert!((0..9_000).filter(|n| places.get(n % 7, *n).is_some()).count() < 64);
    }
}
