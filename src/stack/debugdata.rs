//! `.gnu_debugdata`: a small ELF file with the symbols that `strip` took, packed by xz inside the stripped one, as
//! Fedora ships its programs.
//!
//! Packed and unpacked size are bounded, and so is the dictionary, which a header may claim to be 4 GiB. It is unpacked
//! in memory, once for each table that is made.

use std::io::Read;
use std::ops::Range;

use super::elf::Elf;
use super::source::{Pinned, ReadError};

/// Largest packed section read, in bytes.
const MAX_PACKED_BYTES: u64 = 16 << 20;
/// Most that is unpacked of it, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Largest dictionary of the packing, in KiB; xz takes 8 MiB unless told otherwise, 64 MiB at most.
const MAX_DICTIONARY_KIB: u32 = 66 << 10;
/// How much is read of a file at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// Where the section is in the file.
pub fn find(elf: &Elf, reader: &Pinned<'_>) -> Option<Range<u64>> {
    elf.bytes_of(reader, ".gnu_debugdata", MAX_PACKED_BYTES).map(|section| section.range.clone())
}

/// The bytes of the file that is packed at `range`.
pub fn unpack(reader: &mut Pinned<'_>, range: &Range<u64>) -> Result<Vec<u8>, ReadError> {
    let mut packed = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + PIECE_BYTES);
        packed.extend_from_slice(&reader.read(&(at..end))?);
        at = end;
    }
    unpack_bytes(&packed, MAX_BYTES)
}

/// What `packed` unpacks to; an error if it is more than `limit_bytes` or no sound xz stream.
pub fn unpack_bytes(packed: &[u8], limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let reader = lzma_rust2::XzReader::new_mem_limit(packed, false, MAX_DICTIONARY_KIB);
    let mut out = Vec::new();
    let read = reader.take(limit_bytes.saturating_add(1)).read_to_end(&mut out);
    if out.len() as u64 > limit_bytes {
        return Err(ReadError::TooLarge(".gnu_debugdata, unpacked,"));
    }
    read.map_err(|_| ReadError::Malformed(".gnu_debugdata"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `printf 'hello, symbols' | xz --check=crc32`
    const HELLO: &[u8] = include_bytes!("testdata/hello.xz");

    #[test]
    fn what_was_packed_is_unpacked_within_its_limit() {
        assert_eq!(unpack_bytes(HELLO, 14).unwrap(), b"hello, symbols");
        assert!(matches!(unpack_bytes(HELLO, 13), Err(ReadError::TooLarge(_))));
        for length in 0..HELLO.len() {
            assert!(unpack_bytes(&HELLO[..length], 100).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_dictionary_of_4_gib_is_refused() {
        let mut greedy = HELLO.to_vec();
        // The block header: size, flags, filter 0x21 with one byte of properties, which is the dictionary's size.
        assert_eq!(greedy[14..16], [0x21, 1]);
        greedy[16] = 40;
        let checksum = crc32fast::hash(&greedy[12..20]);
        greedy[20..24].copy_from_slice(&checksum.to_le_bytes());
        assert!(unpack_bytes(&greedy, 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let _ = unpack_bytes(&bytes, 1 << 16);
            let mut bent = HELLO.to_vec();
            for (at, byte) in flips {
                let at = at.index(bent.len());
                bent[at] = byte;
            }
            let _ = unpack_bytes(&bent, 1 << 16);
        }
    }
}
