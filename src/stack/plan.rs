//! What to read of a file for its symbol table, decided and fingerprinted before the table is made.
//!
//! In order: `.symtab` together with `.dynsym`; without `.symtab`, `.dynsym` together with the symbols of a separate
//! debug file, those packed in `.gnu_debugdata`, Go's `.gopclntab` and, for what none of them names, the functions of
//! the unwind tables. PLT stubs are named in every case. The plan's [`Key`] covers every byte the table can be made
//! from, of both files, so a table kept under it may be used instead of making it.
//!
//! What a file has beside its symbols may be damaged: it is left out then, and the rest is still read.

use std::ops::Range;

use super::builder::TableBuilder;
use super::ehframe::Unwinding;
use super::elf::{Elf, Section, Symbols};
use super::plt::Plt;
use super::source::{Key, Pinned, ReadError, Source};
use super::table::SymbolTable;
use super::{
    debugdata, ehframe,
    gopclntab::{self, GoTable},
    plt,
};
use crate::model::BuildId;

/// A file whose content is pinned.
pub struct Plan<'a> {
    reader: Pinned<'a>,
    elf: Elf,
    full: Option<Symbols>,
    dynamic: Option<Symbols>,
    packed: Option<Range<u64>>,
    go: Option<GoTable>,
    unwinding: Unwinding,
    plt: Plt,
    key: Key,
    debug: Option<Debug>,
}

/// A separate debug file whose symbols are pinned.
struct Debug {
    reader: Pinned<'static>,
    elf: Elf,
    symbols: Symbols,
    key: Key,
}

impl<'a> Plan<'a> {
    /// Looks through the headers of `source` and pins what will be read. `build_id` is what the kernel told of it.
    pub fn new(source: Source<'a>, build_id: Option<BuildId>) -> Result<Plan<'a>, ReadError> {
        let mut reader = Pinned::new(source);
        let elf = Elf::read(&mut reader)?;
        let full = elf.symbol_sections(&reader, Section::SYMTAB)?;
        let dynamic = elf.symbol_sections(&reader, Section::DYNSYM)?;
        let stripped = full.is_none();
        let go = if stripped { gopclntab::find(&elf, &mut reader)? } else { None };
        let packed = debugdata::find(&elf, &reader).filter(|_| stripped);
        let unwinding = if stripped { ehframe::find(&elf, &mut reader)? } else { Unwinding::default() };
        let plt = if dynamic.is_some() { plt::find(&elf, &reader) } else { Plt::default() };
        let symbols = full.iter().chain(&dynamic).flat_map(|symbols| [&symbols.records, &symbols.names]);
        let parts = symbols.chain(go.as_ref().map(|go| &go.range)).chain(&packed);
        for range in parts.chain(unwinding.ranges()).chain(plt.ranges()) {
            reader.pin(range)?;
        }
        let key = reader.seal(SymbolTable::VERSION, build_id.or(elf.build_id));
        Ok(Plan { reader, elf, full, dynamic, packed, go, unwinding, plt, key, debug: None })
    }

    /// The build id that the file claims.
    pub fn build_id(&self) -> Option<BuildId> {
        self.elf.build_id
    }

    /// Whether a debug file could name more of it.
    pub fn is_stripped(&self) -> bool {
        self.full.is_none()
    }

    /// Whether it has debug information of its own.
    pub fn has_dwarf(&self) -> bool {
        let has = |name| self.elf.section(name).is_some_and(|section| section.kind != Section::NOBITS);
        has(".debug_info") || has(".zdebug_info")
    }

    /// Takes the symbols of the debug file `source` too. An error leaves the plan as it was.
    pub fn add_debug_file(&mut self, source: Source<'static>) -> Result<(), ReadError> {
        let mut reader = Pinned::new(source);
        let mut elf = Elf::read(&mut reader)?;
        let Some(symbols) = elf.symbol_sections(&reader, Section::SYMTAB)? else { return Ok(()) };
        reader.pin(&symbols.records)?;
        reader.pin(&symbols.names)?;
        let key = reader.seal(SymbolTable::VERSION, elf.build_id);
        // Its own segments have no bytes.
        elf.segments.clone_from(&self.elf.segments);
        self.debug = Some(Debug { reader, elf, symbols, key });
        Ok(())
    }

    /// Stands for all that [`Plan::build`] reads.
    pub fn key(&self) -> Key {
        self.debug.as_ref().map_or(self.key, |debug| self.key.with(debug.key))
    }

    /// Makes the table. A file without symbols gives an empty one.
    pub fn build(mut self) -> Result<SymbolTable, ReadError> {
        let mut builder = TableBuilder::new(self.elf.segments.clone());
        if self.elf.segments.is_empty() {
            return builder.finish();
        }
        for symbols in self.full.iter().chain(&self.dynamic) {
            add_symbols(&mut self.reader, &self.elf, symbols, &mut builder)?;
        }
        if let Some(Debug { reader, elf, symbols, .. }) = &mut self.debug {
            bearable(add_symbols(reader, elf, symbols, &mut builder))?;
        }
        if let Some(range) = &self.packed {
            bearable(add_packed(&mut self.reader, range, &self.elf, &mut builder))?;
        }
        if let Some(table) = &self.go {
            bearable(gopclntab::add_functions(&mut self.reader, table, &mut builder))?;
        }
        if let Some(imports) = &self.dynamic {
            bearable(plt::add_stubs(&mut self.reader, &self.elf, &self.plt, imports, &mut builder))?;
        }
        bearable(ehframe::add_functions(&mut self.reader, &self.elf, &self.unwinding, &mut builder))?;
        builder.finish()
    }
}

/// Adds the symbols of the file that is packed at `range` of `outer`.
fn add_packed(
    reader: &mut Pinned<'_>,
    range: &Range<u64>,
    outer: &Elf,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let bytes = debugdata::unpack(reader, range)?;
    let mut reader = Pinned::new(Source::Bytes(&bytes));
    let mut elf = Elf::read(&mut reader)?;
    // Its own segments have no bytes.
    elf.segments.clone_from(&outer.segments);
    let Some(symbols) = elf.symbol_sections(&reader, Section::SYMTAB)? else { return Ok(()) };
    add_symbols(&mut reader, &elf, &symbols, builder)
}

fn add_symbols(
    reader: &mut Pinned<'_>,
    elf: &Elf,
    symbols: &Symbols,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let functions = elf.functions(reader, &symbols.records)?;
    builder.add(reader, functions, &symbols.names)
}

/// What else the file has is still worth reading where one part contradicts its format, or is one of a version to
/// come. A file that changes meanwhile, or cannot be read, is no such case.
fn bearable(result: Result<(), ReadError>) -> Result<(), ReadError> {
    match result {
        Err(
            ReadError::Malformed(_) | ReadError::OutOfBounds(_) | ReadError::TooLarge(_) | ReadError::NotElf,
        ) => Ok(()),
        other => other,
    }
}
