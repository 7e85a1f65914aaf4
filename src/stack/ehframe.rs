//! Function starts of a stripped file, from the sorted table in `.eh_frame_hdr`.
//!
//! They carry no names, but they turn a thousand addresses into the one function that holds them. Only the encoding
//! that every linker writes (4-byte offsets from the section) is read; another one gives no starts.

use std::ops::Range;

use super::builder::{MAX_FUNCTIONS, TableBuilder};
use super::elf::{Elf, Section};
use super::source::{Fields, Pinned, ReadError};

const HEAD_BYTES: u64 = 12;
const ENTRY_BYTES: u64 = 8;

/// Where the section is in the file, if there is one and it lies inside.
pub fn find(elf: &Elf, reader: &Pinned<'_>) -> Option<Range<u64>> {
    let section = elf.section(".eh_frame_hdr").filter(|section| section.kind != Section::NOBITS)?;
    let limit = HEAD_BYTES + ENTRY_BYTES * MAX_FUNCTIONS as u64;
    reader.check(&section.range, limit, ".eh_frame_hdr").ok()?;
    Some(section.range.clone())
}

/// Adds the starts that `range` lists.
pub fn add_starts(
    reader: &mut Pinned<'_>,
    elf: &Elf,
    range: &Range<u64>,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let Some(base) = elf.section(".eh_frame_hdr").map(|section| section.addresses.start) else {
        return Ok(());
    };
    let head = reader.read(&(range.start..range.end.min(range.start + HEAD_BYTES)))?;
    // Version 1; the pointer to .eh_frame in 4 bytes; the count as udata4; the table as datarel | sdata4.
    let usual = matches!(head.get(..4), Some([1, pointer, 0x03, 0x3b]) if matches!(pointer & 0xf, 0x3 | 0xb));
    let Some(count) = Fields(&head).u32(8).filter(|_| usual) else { return Ok(()) };
    let begin = range.start + HEAD_BYTES;
    let end = begin.saturating_add(u64::from(count) * ENTRY_BYTES).min(range.end);
    let mut code: Vec<Range<u64>> =
        elf.sections.iter().filter(|section| section.is_executable()).map(|s| s.addresses.clone()).collect();
    // A hostile file has as many sections as starts; searching one for the other must not be their product.
    code.sort_unstable_by_key(|range| (range.start, range.end));
    let section_of = |start: u64| {
        let after = code.partition_point(|range| range.start <= start);
        code.get(after.checked_sub(1)?).filter(|range| range.contains(&start))
    };
    reader.for_each_piece(&(begin..end), ENTRY_BYTES, |piece| {
        let starts = piece.chunks_exact(8).filter_map(|entry| {
            let start = base.checked_add_signed(i64::from(Fields(entry).u32(0)?.cast_signed()))?;
            Some((start, section_of(start)?.end))
        });
        builder.add_unnamed(starts)
    })
}
