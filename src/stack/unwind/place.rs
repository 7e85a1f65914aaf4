//! Where an address of a process lies, for unwinding: a file's number and an offset, whatever process it is.

use std::ops::Range;
use std::sync::Arc;

use super::tables::VDSO;
use crate::stack::file::MappedFile;
use crate::stack::space::{Mapped, Mapping};

/// Where code lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Where<'a> {
    /// In a file, or in the vdso.
    Code(Place<'a>),
    /// In memory of no file.
    Anonymous,
}

/// A place in a file or in the vdso.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The file; none for the vdso.
    pub(super) file: Option<&'a Arc<MappedFile>>,
    /// Its number.
    pub(super) id: u64,
    /// The offset in bytes.
    pub(super) offset: u64,
}

impl<'a> Where<'a> {
    /// What is mapped at `address`; none where nothing executable is.
    pub(super) fn find(mappings: &'a [Mapping], address: u64) -> Option<Where<'a>> {
        Where::find_or_gap(mappings, address).ok()
    }

    /// What is mapped at `address`, or the range around it in which nothing is.
    fn find_or_gap(mappings: &'a [Mapping], address: u64) -> Result<Where<'a>, Range<u64>> {
        let after = mappings.partition_point(|mapping| mapping.start <= address);
        let before = after.checked_sub(1).and_then(|before| mappings.get(before));
        let Some(mapping) = before.filter(|mapping| address < mapping.end) else {
            let end = mappings.get(after).map_or(u64::MAX, |mapping| mapping.start);
            return Err(before.map_or(0, |mapping| mapping.end)..end);
        };
        let inside = address.wrapping_sub(mapping.start);
        Ok(match &mapping.what {
            Mapped::File(file) => {
                let offset = mapping.file_offset.wrapping_add(inside);
                Where::Code(Place { file: Some(file), id: file.id, offset })
            }
            Mapped::Vdso => Where::Code(Place { file: None, id: VDSO, offset: inside }),
            Mapped::Anonymous => Where::Anonymous,
        })
    }
}

/// Ranges in which nothing is mapped that words of a stack pointed into. Most are numbers, or pointers to the stack and to
/// the heap, and so in the same few; a tenant may have mapped thousands of files around them.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    known: [Range<u64>; 4],
    /// Which is replaced next.
    oldest: usize,
}

impl Gaps {
    /// As [`Where::find`], always of the same mappings.
    pub(super) fn find<'a>(&mut self, mappings: &'a [Mapping], address: u64) -> Option<Where<'a>> {
        if self.known.iter().any(|gap| gap.contains(&address)) {
            return None;
        }
        let gap = match Where::find_or_gap(mappings, address) {
            Ok(found) => return Some(found),
            Err(gap) => gap,
        };
        if let Some(known) = self.known.get_mut(self.oldest) {
            *known = gap;
        }
        self.oldest = (self.oldest + 1) % self.known.len();
        None
    }
}

impl Place<'_> {
    /// Reads the file from `offset` on, as much as there is and fits. None for the vdso and closed files.
    pub(super) fn read<'b>(&self, offset: u64, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let count = self.file?.read(|fd| rustix::io::pread(&fd, &mut *buffer, offset).ok())??;
        buffer.get(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_remembered_of_gaps_changes_no_answer(
            lengths in prop::collection::vec((0u64..20, 1u64..20), 0..12),
            addresses in prop::collection::vec(0u64..300, 0..200),
        ) {
            let mut end = 0;
            let mappings: Vec<_> = lengths
                .into_iter()
                .map(|(gap, length)| {
                    let start = end + gap;
                    end = start + length;
                    Mapping { start, end, file_offset: 0, what: Mapped::Anonymous }
                })
                .collect();
            let mut gaps = Gaps::default();
            for address in addresses.into_iter().chain([0, u64::MAX - 1, u64::MAX]) {
                let is_mapped = mappings.iter().any(|mapping| (mapping.start..mapping.end).contains(&address));
                prop_assert_eq!(Where::find(&mappings, address).is_some(), is_mapped);
                prop_assert_eq!(gaps.find(&mappings, address).is_some(), is_mapped);
            }
        }
    }
}
