//! Where an address of a process lies, for unwinding: a file's number and an offset, whatever process it is.

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
        let after = mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = mappings.get(after.checked_sub(1)?).filter(|mapping| address < mapping.end)?;
        let inside = address.wrapping_sub(mapping.start);
        Some(match &mapping.what {
            Mapped::File(file) => {
                let offset = mapping.file_offset.wrapping_add(inside);
                Where::Code(Place { file: Some(file), id: file.id, offset })
            }
            Mapped::Vdso => Where::Code(Place { file: None, id: VDSO, offset: inside }),
            Mapped::Anonymous => Where::Anonymous,
        })
    }
}

impl Place<'_> {
    /// Reads the file from `offset` on, as much as there is and fits. None for the vdso and closed files.
    pub(super) fn read<'b>(&self, offset: u64, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let fd = self.file?.fd()?;
        let count = rustix::io::pread(&fd, &mut *buffer, offset).ok()?;
        buffer.get(..count)
    }
}
