//! Hash tables keep the room of the most that was ever in them. A burst of containers would be paid for until the end.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// A table that has room for no more than so many is left as it is.
const KEPT: usize = 256;

/// Gives back what `table` once needed and does not need any more: so much that it has room to double.
pub fn keep_little<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > KEPT && table.len() < table.capacity() / 4 {
        table.shrink_to(2 * table.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_large_as_what_is_in_it() {
        let mut table: HashMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let full = table.capacity();
        keep_little(&mut table);
        assert_eq!(table.capacity(), full, "all of it is used");
        table.retain(|n, _| *n < 1_000);
        keep_little(&mut table);
        assert!((2_000..=full / 4).contains(&table.capacity()), "{}", table.capacity());
        assert!((0..1_000).all(|n| table.get(&n) == Some(&n)));
        let mut small: HashMap<u32, u32> = HashMap::with_capacity(KEPT / 2);
        let before = small.capacity();
        keep_little(&mut small);
        assert_eq!(small.capacity(), before, "it takes little as it is");
    }
}
