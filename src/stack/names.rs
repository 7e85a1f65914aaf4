//! Symbol names in memory and on disk: compressed in small blocks, one of which is unpacked to read a name.
//!
//! Names are most of a symbol table (20 MB for a compiler) and shrink to a fifth or less. A frame's text is made once and
//! remembered, so unpacking 16 KiB for it costs nothing that shows.

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use super::source::ReadError;

/// Where a name stands: number of the block, and place in the unpacked block in the low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameRef(pub u32);

impl NameRef {
    /// Stands for: no name.
    pub const NONE: NameRef = NameRef(u32::MAX);
    const PLACE_BITS: u32 = 15;
}

/// Longest name kept in bytes; what is longer is cut.
pub const MAX_NAME_BYTES: usize = 8 << 10;
/// A block is closed at this many bytes; it holds one name more at most, and so stays below 2^15.
const BLOCK_BYTES: usize = 16 << 10;
/// Most names before compression, in bytes.
const MAX_RAW_BYTES: usize = 128 << 20;
/// Most names after compression, in bytes.
const MAX_PACKED_BYTES: usize = 12 << 20;
/// The first of zstd's quick ones: of the kernel's names it makes 0.74 MB and not 0.62, in two thirds of the time.
const LEVEL: i32 = -1;

/// Names that can be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Ends of the blocks in `packed`, ascending.
    pub(super) ends: Vec<u32>,
    /// The compressed blocks.
    pub(super) packed: Vec<u8>,
}

impl Names {
    /// The name at `name`; none where nothing can be read there.
    pub fn get(&self, name: NameRef) -> Option<Vec<u8>> {
        let block = usize::try_from(name.0 >> NameRef::PLACE_BITS).ok()?;
        let place = usize::try_from(name.0 & ((1 << NameRef::PLACE_BITS) - 1)).ok()?;
        let end = usize::try_from(*self.ends.get(block)?).ok()?;
        let begin = match block.checked_sub(1) {
            Some(previous) => usize::try_from(*self.ends.get(previous)?).ok()?,
            None => 0,
        };
        unpacked(self.packed.get(begin..end)?, |block| {
            let rest = block.get(place..)?;
            let length = rest.iter().position(|byte| *byte == 0)?;
            rest.get(..length).map(<[u8]>::to_vec)
        })
    }

    /// Size in memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.packed.len() + self.ends.len() * 4
    }
}

/// What `of` finds in the block that is `packed`.
fn unpacked<T>(packed: &[u8], of: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    // Making a decompressor and room for a block takes longer than unpacking one.
    type Tools = Option<(Decompressor<'static>, Vec<u8>)>;
    thread_local!(static TOOLS: RefCell<Tools> = const { RefCell::new(None) });
    TOOLS.with_borrow_mut(|tools| {
        let (decompressor, block) = match tools {
            Some(tools) => tools,
            none => none.insert((Decompressor::new().ok()?, Vec::with_capacity(1 << NameRef::PLACE_BITS))),
        };
        block.clear();
        decompressor.decompress_to_buffer(packed, block).ok()?;
        of(block)
    })
}

/// Packs names.
pub struct NameWriter {
    names: Names,
    block: Vec<u8>,
    raw_bytes: usize,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl NameWriter {
    /// A writer without names.
    pub fn new() -> NameWriter {
        NameWriter { names: Names::default(), block: Vec::new(), raw_bytes: 0, compressor: None }
    }

    /// Adds `name`, cut at its first NUL and at [`MAX_NAME_BYTES`].
    pub fn push(&mut self, name: &[u8]) -> Result<NameRef, ReadError> {
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len()).min(MAX_NAME_BYTES);
        let name = name.get(..length).unwrap_or_default();
        self.raw_bytes += name.len() + 1;
        if self.raw_bytes > MAX_RAW_BYTES {
            return Err(ReadError::TooLarge("the sum of all names"));
        }
        if self.block.len() >= BLOCK_BYTES {
            self.close_block()?;
        }
        let too_many = |_| ReadError::TooLarge("the sum of all names");
        let block = u32::try_from(self.names.ends.len()).map_err(too_many)?;
        let place = u32::try_from(self.block.len()).map_err(too_many)?;
        self.block.extend_from_slice(name);
        self.block.push(0);
        Ok(NameRef(block << NameRef::PLACE_BITS | place))
    }

    /// The names, ready to be read.
    pub fn finish(mut self) -> Result<Names, ReadError> {
        if !self.block.is_empty() {
            self.close_block()?;
        }
        self.names.packed.shrink_to_fit();
        self.names.ends.shrink_to_fit();
        Ok(self.names)
    }

    fn close_block(&mut self) -> Result<(), ReadError> {
        let failed = |_| ReadError::Malformed("a block of names, which could not be compressed and");
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            empty => empty.insert(zstd::bulk::Compressor::new(LEVEL).map_err(failed)?),
        };
        let packed = compressor.compress(&self.block).map_err(failed)?;
        self.names.packed.extend_from_slice(&packed);
        if self.names.packed.len() > MAX_PACKED_BYTES {
            return Err(ReadError::TooLarge("the sum of all names"));
        }
        let end = u32::try_from(self.names.packed.len()).unwrap_or(u32::MAX);
        self.names.ends.push(end);
        self.block.clear();
        Ok(())
    }
}

impl Default for NameWriter {
    fn default() -> NameWriter {
        NameWriter::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_names_than_the_limit_are_refused() {
        let mut writer = NameWriter::new();
        let name = [b'x'; MAX_NAME_BYTES];
        let refused = (0..=MAX_RAW_BYTES / MAX_NAME_BYTES).find_map(|_| writer.push(&name).err());
        assert!(matches!(refused, Some(ReadError::TooLarge(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_packed_is_read(names in prop::collection::vec(prop::collection::vec(1u8..255, 0..3000), 0..60)) {
            let mut writer = NameWriter::new();
            let refs: Vec<NameRef> = names.iter().map(|name| writer.push(name).unwrap()).collect();
            let packed = writer.finish().unwrap();
            for (at, name) in refs.iter().zip(&names) {
                let got = packed.get(*at);
                prop_assert_eq!(got.as_ref(), Some(name));
            }
            prop_assert_eq!(packed.get(NameRef::NONE), None);
        }
    }
}
