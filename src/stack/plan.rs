//! What to read of a file for its symbol table, decided and fingerprinted before the table is made.
//!
//! In order: `.symtab` together with `.dynsym`; without `.symtab`, `.dynsym` together with Go's `.gopclntab` and, for
//! what neither names, the function starts of `.eh_frame_hdr`. The plan's [`Key`] covers every byte the table can be made
//! from, so a table kept under it may be used instead of making it.

use std::ops::Range;

use super::builder::TableBuilder;
use super::elf::{Elf, Section, Symbols};
use super::source::{Key, Pinned, ReadError, Source};
use super::table::SymbolTable;
use super::{
    ehframe,
    gopclntab::{self, GoTable},
};
use crate::model::BuildId;

/// A file whose content is pinned.
pub struct Plan<'a> {
    reader: Pinned<'a>,
    elf: Elf,
    symbols: Vec<Symbols>,
    go: Option<GoTable>,
    starts: Option<Range<u64>>,
    key: Key,
}

impl<'a> Plan<'a> {
    /// Looks through the headers of `source` and pins what will be read. `build_id` is what the kernel told of it.
    pub fn new(source: Source<'a>, build_id: Option<BuildId>) -> Result<Plan<'a>, ReadError> {
        let mut reader = Pinned::new(source);
        let elf = Elf::read(&mut reader)?;
        let mut symbols = Vec::new();
        let full = elf.symbol_sections(&reader, Section::SYMTAB)?;
        let stripped = full.is_none();
        symbols.extend(full);
        symbols.extend(elf.symbol_sections(&reader, Section::DYNSYM)?);
        let go = if stripped { gopclntab::find(&elf, &mut reader)? } else { None };
        let starts = if stripped { ehframe::find(&elf, &reader) } else { None };
        let parts = symbols.iter().flat_map(|symbols| [&symbols.records, &symbols.names]);
        for range in parts.chain(go.as_ref().map(|go| &go.range)).chain(&starts) {
            reader.pin(range)?;
        }
        let key = reader.seal(SymbolTable::VERSION, build_id.or(elf.build_id));
        Ok(Plan { reader, elf, symbols, go, starts, key })
    }

    /// Stands for all that [`Plan::build`] reads.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Makes the table. A file without symbols gives an empty one.
    pub fn build(mut self) -> Result<SymbolTable, ReadError> {
        let mut builder = TableBuilder::new(self.elf.segments.clone());
        if self.elf.segments.is_empty() {
            return builder.finish();
        }
        for symbols in &self.symbols {
            let functions = self.elf.functions(&mut self.reader, &symbols.records)?;
            builder.add(&mut self.reader, functions, &symbols.names)?;
        }
        if let Some(table) = &self.go {
            match gopclntab::add_functions(&mut self.reader, table, &mut builder) {
                // A version to come: what else the file has is still worth reading.
                Err(ReadError::Malformed(_)) => {}
                other => other?,
            }
        }
        if let Some(range) = &self.starts {
            ehframe::add_starts(&mut self.reader, &self.elf, range, &mut builder)?;
        }
        builder.finish()
    }
}
