//! Whole numbers in as few bytes as they need (LEB128, zigzag for signed ones), as journals and Parquet files have them.
//!
//! Promises: reading never goes beyond the slice and refuses what no writer writes (over 64 bits).

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed `value`, small ones of either sign short.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes a number off the front of `bytes`.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a signed number off the front of `bytes`.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Takes a number that fits 32 bits off the front of `bytes`.
pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken(values in proptest::collection::vec(any::<i64>(), 0..20)) {
            let mut out = Vec::new();
            values.iter().for_each(|value| { put_signed(&mut out, *value); put(&mut out, *value as u64) });
            let mut rest = out.as_slice();
            for value in values {
                prop_assert_eq!(take_signed(&mut rest), Some(value));
                prop_assert_eq!(take(&mut rest), Some(value as u64));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut rest = bytes.as_slice();
            while take_signed(&mut rest).is_some() {}
        }
    }

    #[test]
    fn more_than_64_bits_is_refused() {
        for bytes in [&[0xff; 11][..], &[0x80; 9], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert_eq!(take(&mut &*bytes), None);
        }
    }
}
