//! A file's functions, small enough to keep: 12 bytes each and packed names.
//!
//! Answers for addresses and, by the executable segments it remembers, for offsets of the file after the file is
//! gone. Names are as the file has them (mangled). Bytes made by [`SymbolTable::to_bytes`] are read back only if they
//! are whole and consistent.

use super::elf::Segment;
use super::names::{NameRef, Names};
use super::source::{Fields, ReadError, Source};

/// The functions of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct SymbolTable {
    segments: Vec<Segment>,
    /// What the addresses of the pieces are relative to.
    base: u64,
    /// Starts of the pieces, ascending; the pieces do not overlap.
    starts: Vec<u32>,
    sizes: Vec<u32>,
    name_refs: Vec<u32>,
    names: Names,
}

/// Part of the code that one name covers; a function that another one interrupts has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// Its name, or [`NameRef::NONE`] where only the start is known.
    pub name: NameRef,
}

impl SymbolTable {
    /// Stands for how tables are made and written; a table of another version is made anew.
    pub const VERSION: u32 = 2;
    /// Largest written table in bytes.
    pub const MAX_BYTES: usize = 32 << 20;
    const MAGIC: &'static [u8; 8] = b"fnssymbl";
    const HEAD_BYTES: usize = 36;
    const SEGMENT_BYTES: usize = 24;

    /// A table of `pieces`, ascending and without overlap. Those more than 4 GiB behind the first are left out.
    pub(super) fn new(
        segments: Vec<Segment>,
        pieces: &[Piece],
        names: Names,
    ) -> Result<SymbolTable, ReadError> {
        let base = pieces.first().map_or(0, |piece| piece.start);
        let mut table = SymbolTable {
            segments,
            base,
            starts: Vec::with_capacity(pieces.len()),
            sizes: Vec::with_capacity(pieces.len()),
            name_refs: Vec::with_capacity(pieces.len()),
            names,
        };
        for piece in pieces {
            let Ok(start) = u32::try_from(piece.start.saturating_sub(base)) else { break };
            table.starts.push(start);
            table.sizes.push(u32::try_from(piece.end.saturating_sub(piece.start)).unwrap_or(u32::MAX));
            table.name_refs.push(piece.name.0);
        }
        if table.written_bytes() > Self::MAX_BYTES {
            return Err(ReadError::TooLarge("the symbol table"));
        }
        Ok(table)
    }

    /// The table of an ELF file in memory, with everything that is looked for in files.
    pub fn from_elf_bytes(bytes: &[u8]) -> Result<SymbolTable, ReadError> {
        super::plan::Plan::new(Source::Bytes(bytes), None)?.build()
    }

    /// The virtual address of `offset` in the file; none outside its executable segments.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let segment =
            self.segments.iter().find(|s| offset.checked_sub(s.offset).is_some_and(|o| o < s.file_bytes))?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// What covers `address`.
    pub fn piece(&self, address: u64) -> Option<Piece> {
        let relative = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let index = self.starts.partition_point(|start| *start <= relative).checked_sub(1)?;
        let (start, size, name) =
            (self.starts.get(index)?, self.sizes.get(index)?, self.name_refs.get(index)?);
        (relative - start < *size).then(|| {
            let start = self.base + u64::from(*start);
            Piece { start, end: start.saturating_add(u64::from(*size)), name: NameRef(*name) }
        })
    }

    /// The name that [`Piece::name`] stands for, as the file has it.
    pub fn name(&self, name: NameRef) -> Option<Vec<u8>> {
        self.names.get(name)
    }

    /// Name of the function that covers `address`, as the file has it, and where the piece of it begins.
    pub fn lookup(&self, address: u64) -> Option<(Vec<u8>, u64)> {
        let piece = self.piece(address)?;
        Some((self.name(piece.name)?, piece.start))
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Size in memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.starts.len() * 12
            + self.names.memory_bytes()
            + self.segments.len() * Self::SEGMENT_BYTES
            + size_of::<SymbolTable>()
    }

    /// The table as bytes, little-endian, with a checksum at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.written_bytes());
        out.extend_from_slice(Self::MAGIC);
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&Self::VERSION.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        for count in [self.segments.len(), self.starts.len(), self.names.ends.len(), self.names.packed.len()]
        {
            out.extend_from_slice(&length(count));
        }
        for segment in &self.segments {
            for number in [segment.offset, segment.file_bytes, segment.address] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for number in [&self.starts, &self.sizes, &self.name_refs, &self.names.ends].into_iter().flatten() {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.names.packed);
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads what [`SymbolTable::to_bytes`] wrote. Any other bytes are an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<SymbolTable, ReadError> {
        const BAD: ReadError = ReadError::Malformed("a cached symbol table");
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(BAD)?;
        let head = Fields(body);
        let sound = bytes.len() <= Self::MAX_BYTES
            && body.starts_with(Self::MAGIC)
            && head.u32(8) == Some(Self::VERSION)
            && crc32fast::hash(body) == u32::from_le_bytes(*checksum);
        if !sound {
            return Err(BAD);
        }
        let count = |at| head.u32(at).and_then(|count| usize::try_from(count).ok()).ok_or(BAD);
        let (segments, functions, blocks, packed) = (count(20)?, count(24)?, count(28)?, count(32)?);
        let mut rest = body.get(Self::HEAD_BYTES..).ok_or(BAD)?;
        let mut take = |count: usize, unit: usize| {
            let (part, tail) =
                count.checked_mul(unit).and_then(|length| rest.split_at_checked(length)).ok_or(BAD)?;
            rest = tail;
            Ok::<_, ReadError>(part)
        };
        let segments = take(segments, Self::SEGMENT_BYTES)?;
        let (starts, sizes, name_refs) = (take(functions, 4)?, take(functions, 4)?, take(functions, 4)?);
        let (ends, packed) = (take(blocks, 4)?, take(packed, 1)?);
        if !rest.is_empty() {
            return Err(BAD);
        }
        let table = SymbolTable {
            segments: segments
                .chunks_exact(Self::SEGMENT_BYTES)
                .filter_map(|record| {
                    let record = Fields(record);
                    Some(Segment {
                        offset: record.u64(0)?,
                        file_bytes: record.u64(8)?,
                        address: record.u64(16)?,
                    })
                })
                .collect(),
            base: head.u64(12).ok_or(BAD)?,
            starts: numbers(starts),
            sizes: numbers(sizes),
            name_refs: numbers(name_refs),
            names: Names { ends: numbers(ends), packed: packed.to_vec() },
        };
        if table.is_consistent() { Ok(table) } else { Err(BAD) }
    }

    fn written_bytes(&self) -> usize {
        Self::HEAD_BYTES
            + self.segments.len() * Self::SEGMENT_BYTES
            + self.starts.len() * 12
            + self.names.ends.len() * 4
            + self.names.packed.len()
            + 4
    }

    /// Whether addresses can be computed without overflow and are in order.
    fn is_consistent(&self) -> bool {
        let last = self.starts.last().copied().unwrap_or(0);
        let reach = u64::from(last) + u64::from(self.sizes.last().copied().unwrap_or(0));
        let ordered = self.starts.iter().zip(&self.sizes).zip(self.starts.iter().skip(1).chain([&u32::MAX]));
        self.base.checked_add(reach).is_some()
            && ordered.clone().all(|((start, size), next)| {
                let end = u64::from(*start) + u64::from(*size);
                *size > 0 && (start == &last || end <= u64::from(*next))
            })
            && self.starts.is_sorted_by(|a, b| a < b)
            && self.names.ends.is_sorted()
            && self.names.ends.last().copied().unwrap_or(0) as usize == self.names.packed.len()
            && self.segments.iter().all(|s| {
                s.offset.checked_add(s.file_bytes).is_some() && s.address.checked_add(s.file_bytes).is_some()
            })
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::builder::{Candidate, Rank, TableBuilder};
    use proptest::prelude::*;

    fn table(functions: &[(u64, u64, bool, String)]) -> SymbolTable {
        let segment = Segment { offset: 0x1000, file_bytes: 0x10_0000, address: 0x40_1000 };
        let mut builder = TableBuilder::new(vec![segment]);
        for (address, size, sized, name) in functions {
            let candidate = Candidate::new(0x40_1000 + address, *size, *sized, Rank::Global, 0);
            builder.add_named(candidate, name.as_bytes()).unwrap();
        }
        builder.finish().unwrap()
    }

    fn functions() -> impl Strategy<Value = Vec<(u64, u64, bool, String)>> {
        prop::collection::vec((0u64..0x2000, 1u64..0x400, any::<bool>(), "[a-z_]{1,12}"), 0..60)
    }

    #[test]
    fn a_table_that_reaches_beyond_all_addresses_is_refused() {
        let sound = table(&[(0, 16, true, "a".into()), (32, 16, true, "b".into())]).to_bytes();
        for (base, refused) in [(u64::MAX - 48, false), (u64::MAX - 47, true), (u64::MAX, true)] {
            let mut bytes = sound.clone();
            bytes.truncate(bytes.len() - 4);
            bytes[12..20].copy_from_slice(&base.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            assert_eq!(SymbolTable::from_bytes(&bytes).is_err(), refused, "{base:x}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(functions in functions()) {
            let table = table(&functions);
            prop_assert_eq!(SymbolTable::from_bytes(&table.to_bytes()).unwrap(), table);
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SymbolTable::from_bytes(&bytes).is_err());
        }

        /// Changed bytes under a checksum that fits: an error, or a table that answers.
        #[test]
        fn a_forged_table_does_no_harm(functions in functions(), at in 12usize..400, value: u8) {
            let mut bytes = table(&functions).to_bytes();
            bytes.truncate(bytes.len() - 4);
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            let checksum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            if let Ok(table) = SymbolTable::from_bytes(&bytes) {
                for offset in (0..0x12_0000).step_by(0x333) {
                    let _ = table.address(offset).and_then(|address| table.lookup(address));
                    let _ = table.lookup(u64::MAX - offset);
                }
            }
        }

        #[test]
        fn every_function_with_a_size_is_found_at_its_start(functions in functions()) {
            let table = table(&functions);
            for (address, ..) in &functions {
                let (name, start) = table.lookup(0x40_1000 + address).unwrap();
                let name = String::from_utf8(name).unwrap();
                prop_assert_eq!(start, 0x40_1000 + address);
                prop_assert!(functions.iter().any(|f| f.0 == *address && f.3 == name));
            }
        }
    }
}
