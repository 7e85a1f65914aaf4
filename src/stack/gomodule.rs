//! Where a Go program's code begins, for tables that leave it to the loader (Go 1.26 and later).
//!
//! The runtime keeps it in its module data, a section of its own from that version on; in position-independent
//! programs the word there may be filled in by a relocation. Never guessed: without an answer there are no names.

use super::elf::{Elf, Section};
use super::source::{Fields, Pinned, ReadError};

/// Words of the module data before the one that tells where code begins.
const TEXT_WORD: u64 = 22;
/// Largest relocation section searched, in bytes.
const MAX_RELOCATIONS_BYTES: u64 = 64 << 20;

/// The address that function offsets of the table are relative to, where the module data tells it.
pub fn text(elf: &Elf, reader: &mut Pinned<'_>) -> Result<Option<u64>, ReadError> {
    let names = [".go.module", ".data.rel.ro.go.module"];
    let module = names.into_iter().find_map(|name| elf.section(name));
    let Some(module) = module.filter(|section| section.kind != Section::NOBITS) else { return Ok(None) };
    let word_bytes = if elf.wide { 8 } else { 4 };
    let at = TEXT_WORD * word_bytes;
    let word = module.range.start.saturating_add(at)..module.range.start.saturating_add(at + word_bytes);
    if word.end > module.range.end {
        return Err(ReadError::Malformed("Go's module data"));
    }
    let stored = Fields(&reader.read(&word)?).word(0, elf.wide).filter(|text| *text != 0);
    let text = match stored {
        Some(text) => Some(text),
        None => relocated(elf, reader, module.addresses.start.saturating_add(at))?,
    };
    Ok(text.filter(|text| elf.segments.iter().any(|segment| segment.addresses().contains(text))))
}

/// What the loader puts at `address`, for 64-bit programs.
fn relocated(elf: &Elf, reader: &mut Pinned<'_>, address: u64) -> Result<Option<u64>, ReadError> {
    const ENTRY_BYTES: u64 = 24;
    let Some(section) = elf.section(".rela.dyn").filter(|_| elf.wide) else { return Ok(None) };
    reader.check(&section.range, MAX_RELOCATIONS_BYTES, ".rela.dyn")?;
    let mut found = None;
    reader.for_each_piece(&section.range, ENTRY_BYTES, |piece| {
        let mut entries = piece.chunks_exact(24).map(Fields);
        found = found.or_else(|| entries.find(|entry| entry.u64(0) == Some(address))?.u64(16));
        Ok(())
    })?;
    Ok(found)
}
