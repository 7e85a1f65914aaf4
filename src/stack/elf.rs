//! What symbols need of an ELF file: executable segments, sections, the build id and function symbols.
//!
//! Parsed by hand over a [`Pinned`] reader, because every number in the file is a tenant's: counts, offsets and
//! sizes are compared with the file's true size before anything is allocated for them. 32 and 64 bit, little-endian.
//! Not here: relocations, debug information, dynamic linking.

use std::ops::Range;

use super::builder::{Candidate, MAX_FUNCTIONS, Rank};
use super::source::{Fields, Pinned, ReadError};
use crate::model::BuildId;

/// Most section headers read.
const MAX_SECTIONS: u64 = 16_384;
/// Most program headers read.
const MAX_PROGRAM_HEADERS: u64 = 1_024;
/// Most executable segments kept, and most loaded ones.
const MAX_SEGMENTS: usize = 64;
/// Largest symbol section read, in bytes.
pub const MAX_SYMBOLS_BYTES: u64 = 128 << 20;
/// Largest string section read, in bytes.
pub const MAX_STRINGS_BYTES: u64 = 128 << 20;
/// Largest note segment searched for a build id, in bytes.
const MAX_NOTES_BYTES: u64 = 64 << 10;

/// An executable `PT_LOAD` segment: what maps offsets of the file to its virtual addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its size in the file, in bytes.
    pub file_bytes: u64,
    /// The virtual address of its begin, as the file was linked.
    pub address: u64,
}

impl Segment {
    /// The addresses it covers.
    pub fn addresses(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.file_bytes)
    }
}

/// A section header.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its name, cut at 64 bytes.
    pub name: Vec<u8>,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// Where it is in memory; empty for what is not loaded.
    pub addresses: Range<u64>,
    /// Where it is in the file. Not checked against the file's size.
    pub range: Range<u64>,
    /// `sh_link`: for symbols, the section of their names.
    pub link: u32,
    /// `sh_entsize`.
    pub entry_bytes: u64,
}

impl Section {
    /// `sh_type` of `.symtab`.
    pub const SYMTAB: u32 = 2;
    /// `sh_type` of string sections.
    pub const STRTAB: u32 = 3;
    /// `sh_type` of sections without bytes in the file.
    pub const NOBITS: u32 = 8;
    /// `sh_type` of `.dynsym`.
    pub const DYNSYM: u32 = 11;

    /// Whether it holds code.
    pub fn is_executable(&self) -> bool {
        self.flags & 4 != 0
    }
}

/// Where symbols and their names are in the file.
#[derive(Debug, Clone)]
pub struct Symbols {
    /// The symbols' records.
    pub records: Range<u64>,
    /// The strings they name themselves by.
    pub names: Range<u64>,
}

/// The headers of an ELF file.
#[derive(Debug)]
pub struct Elf {
    /// 64 bit.
    pub wide: bool,
    /// `e_machine`.
    pub machine: u16,
    /// Where the program begins, `e_entry`.
    pub entry: u64,
    /// Executable segments in the file's order.
    pub segments: Vec<Segment>,
    /// All segments that are loaded, executable or not, in the file's order.
    pub loaded: Vec<Segment>,
    /// `PT_GNU_EH_FRAME`: the sorted table of unwind entries, also where section headers were cut off.
    pub unwind_header: Option<Segment>,
    /// Section headers; none where they were cut off.
    pub sections: Vec<Section>,
    /// The GNU build id the file claims.
    pub build_id: Option<BuildId>,
}

impl Elf {
    /// Reads the headers.
    pub fn read(reader: &mut Pinned<'_>) -> Result<Elf, ReadError> {
        let head = reader.read(&(0..reader.len_bytes().min(64)))?;
        let fields = Fields(&head);
        if !head.starts_with(b"\x7fELF") || fields.u8(5) != Some(1) {
            return Err(ReadError::NotElf);
        }
        let wide = match fields.u8(4) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(ReadError::NotElf),
        };
        let layout = Layout::parse(fields, wide).ok_or(ReadError::OutOfBounds("the ELF header"))?;
        let mut elf = Elf {
            wide,
            machine: layout.machine,
            entry: fields.word(24, wide).unwrap_or(0),
            segments: vec![],
            loaded: vec![],
            unwind_header: None,
            sections: vec![],
            build_id: None,
        };
        elf.read_segments(reader, &layout)?;
        elf.read_sections(reader, &layout)?;
        // Segments of a separate debug file may have no bytes.
        if elf.build_id.is_none()
            && let Some(notes) = elf.bytes_of(reader, ".note.gnu.build-id", MAX_NOTES_BYTES)
        {
            elf.build_id = build_id(&reader.read(&notes.range.clone())?);
        }
        Ok(elf)
    }

    /// The first section called `name`.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    /// The section called `name`, if it has bytes in the file, all of them inside of it and no more than `limit_bytes`.
    pub fn bytes_of(&self, reader: &Pinned<'_>, name: &str, limit_bytes: u64) -> Option<&Section> {
        let section = self.section(name).filter(|section| section.kind != Section::NOBITS)?;
        reader.check(&section.range, limit_bytes, "a section").ok()?;
        Some(section)
    }

    /// Where the byte of `address` stands in the file, and how far its segment goes on there.
    pub fn offset_of(&self, address: u64) -> Option<Range<u64>> {
        let segment = self.loaded.iter().find(|segment| segment.addresses().contains(&address))?;
        let offset = segment.offset.checked_add(address - segment.address)?;
        Some(offset..segment.offset.checked_add(segment.file_bytes)?)
    }

    /// The symbols of kind `kind` and their names, in the file, checked against its size and the limits.
    pub fn symbol_sections(&self, reader: &Pinned<'_>, kind: u32) -> Result<Option<Symbols>, ReadError> {
        let Some(symbols) = self.sections.iter().find(|section| section.kind == kind) else {
            return Ok(None);
        };
        let strings = usize::try_from(symbols.link).ok().and_then(|link| self.sections.get(link));
        let strings = strings.filter(|strings| strings.kind == Section::STRTAB);
        let strings = strings.ok_or(ReadError::Malformed("the link from symbols to their names"))?;
        if symbols.entry_bytes != self.symbol_bytes() {
            return Err(ReadError::Malformed("the symbol section's entry size"));
        }
        reader.check(&symbols.range, MAX_SYMBOLS_BYTES, "the symbol section")?;
        reader.check(&strings.range, MAX_STRINGS_BYTES, "the string section")?;
        Ok(Some(Symbols { records: symbols.range.clone(), names: strings.range.clone() }))
    }

    /// Functions among the symbols at `range`: of type `FUNC` or `GNU_IFUNC`, or without a type but in a section of
    /// code (assembly). Undefined symbols and those outside executable segments are left out. `Candidate::name` is
    /// an offset into the strings.
    pub fn functions(
        &self,
        reader: &mut Pinned<'_>,
        range: &Range<u64>,
    ) -> Result<Vec<Candidate>, ReadError> {
        const ARM: u16 = 40;
        let size = self.symbol_bytes();
        let mut found = Vec::new();
        reader.for_each_piece(range, size, |piece| {
            for record in piece.chunks_exact(usize::try_from(size).unwrap_or(1)) {
                let Some(mut symbol) = Symbol::parse(Fields(record), self.wide) else { continue };
                let Some(rank) = symbol.rank() else { continue };
                if self.machine == ARM && rank != Rank::Untyped {
                    symbol.address &= !1; // Thumb code marks its addresses
                }
                let Some(reach_end) = self.reach_end(&symbol) else { continue };
                if found.len() >= MAX_FUNCTIONS {
                    return Err(ReadError::TooLarge("the number of functions"));
                }
                let sized = symbol.size != 0;
                let size = if sized { symbol.size } else { reach_end - symbol.address };
                found.push(Candidate::new(symbol.address, size, sized, rank, symbol.name));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn symbol_bytes(&self) -> u64 {
        if self.wide { 24 } else { 16 }
    }

    /// How far a symbol without a size may reach: to the end of its section, or of its segment.
    fn reach_end(&self, symbol: &Symbol) -> Option<u64> {
        let segment =
            self.segments.iter().map(Segment::addresses).find(|range| range.contains(&symbol.address))?;
        let section = self.sections.get(usize::from(symbol.section)).map(|section| &section.addresses);
        let section_end = section.filter(|range| range.contains(&symbol.address)).map(|range| range.end);
        Some(section_end.unwrap_or(segment.end).min(segment.end))
    }

    fn read_segments(&mut self, reader: &mut Pinned<'_>, layout: &Layout) -> Result<(), ReadError> {
        const LOAD: u32 = 1;
        const NOTE: u32 = 4;
        const GNU_EH_FRAME: u32 = 0x6474_e550;
        let Some(table) = layout.program_headers(self.wide)? else { return Ok(()) };
        reader.check(&table, u64::MAX, "the program headers")?;
        let headers = reader.read(&table)?;
        for record in headers.chunks_exact(layout.program_entry.into()) {
            let fields = Fields(record);
            let parsed = (|| {
                let (flags, offset, address, file_bytes) = if self.wide {
                    (fields.u32(4)?, fields.u64(8)?, fields.u64(16)?, fields.u64(32)?)
                } else {
                    (fields.u32(24)?, fields.word(4, false)?, fields.word(8, false)?, fields.word(16, false)?)
                };
                Some((fields.u32(0)?, flags, Segment { offset, file_bytes, address }))
            })();
            let Some((kind, flags, segment)) = parsed else { continue };
            let ends = (
                segment.offset.checked_add(segment.file_bytes),
                segment.address.checked_add(segment.file_bytes),
            );
            let ends_somewhere = ends.0.is_some() && ends.1.is_some();
            if kind == LOAD && ends_somewhere && self.loaded.len() < MAX_SEGMENTS {
                self.loaded.push(segment.clone());
            }
            if kind == GNU_EH_FRAME && ends_somewhere {
                self.unwind_header.get_or_insert(segment);
            } else if kind == LOAD && flags & 1 != 0 && ends_somewhere {
                if self.segments.len() >= MAX_SEGMENTS {
                    return Err(ReadError::TooLarge("the number of executable segments"));
                }
                self.segments.push(segment);
            } else if kind == NOTE && self.build_id.is_none() {
                let range = segment.offset..segment.offset.saturating_add(segment.file_bytes);
                if reader.check(&range, MAX_NOTES_BYTES, "the notes").is_ok() {
                    self.build_id = build_id(&reader.read(&range)?);
                }
            }
        }
        Ok(())
    }

    fn read_sections(&mut self, reader: &mut Pinned<'_>, layout: &Layout) -> Result<(), ReadError> {
        let entry = u64::from(layout.section_entry);
        if layout.sections_at == 0 {
            return Ok(());
        }
        if entry != if self.wide { 64 } else { 40 } {
            return Err(ReadError::Malformed("the section headers' entry size"));
        }
        let table =
            |count: u64| layout.sections_at..layout.sections_at.saturating_add(count.saturating_mul(entry));
        let first = reader.read(&table(1))?;
        let (_, first) =
            Section::parse(Fields(&first), self.wide).ok_or(ReadError::Malformed("the first section"))?;
        // More than a u16 counts: the first header holds what did not fit.
        let count = match layout.section_count {
            0 => first.range.end.saturating_sub(first.range.start),
            count => u64::from(count),
        };
        let names = if layout.names_section == u16::MAX { first.link } else { layout.names_section.into() };
        if count > MAX_SECTIONS {
            return Err(ReadError::TooLarge("the number of sections"));
        }
        reader.check(&table(count), u64::MAX, "the section headers")?;
        let headers = reader.read(&table(count))?;
        let parsed: Option<Vec<_>> = headers
            .chunks_exact(usize::from(layout.section_entry))
            .map(|record| Section::parse(Fields(record), self.wide))
            .collect();
        let mut parsed = parsed.ok_or(ReadError::Malformed("a section header"))?;
        let strings = usize::try_from(names).ok().and_then(|at| parsed.get(at)).map(|(_, s)| s.range.clone());
        if let Some(strings) = strings
            && reader.check(&strings, MAX_STRINGS_BYTES, "the section names").is_ok()
        {
            // In the order of their names each page is read once, whatever the headers say.
            let mut by_name: Vec<&mut (u64, Section)> = parsed.iter_mut().collect();
            by_name.sort_unstable_by_key(|(name, _)| *name);
            for (name, section) in by_name {
                reader.read_name(strings.start.saturating_add(*name), strings.end, 64, &mut section.name)?;
            }
        }
        self.sections = parsed.into_iter().map(|(_, section)| section).collect();
        Ok(())
    }
}

/// Where the ELF header says that the tables are.
struct Layout {
    machine: u16,
    program_at: u64,
    program_entry: u16,
    program_count: u16,
    sections_at: u64,
    section_entry: u16,
    section_count: u16,
    names_section: u16,
}

impl Layout {
    fn parse(fields: Fields<'_>, wide: bool) -> Option<Layout> {
        let (program_at, sections_at, rest) = if wide { (32, 40, 54) } else { (28, 32, 42) };
        Some(Layout {
            machine: fields.u16(18)?,
            program_at: fields.word(program_at, wide)?,
            sections_at: fields.word(sections_at, wide)?,
            program_entry: fields.u16(rest)?,
            program_count: fields.u16(rest + 2)?,
            section_entry: fields.u16(rest + 4)?,
            section_count: fields.u16(rest + 6)?,
            names_section: fields.u16(rest + 8)?,
        })
    }

    fn program_headers(&self, wide: bool) -> Result<Option<Range<u64>>, ReadError> {
        if self.program_at == 0 || self.program_count == 0 {
            return Ok(None);
        }
        if self.program_entry != if wide { 56 } else { 32 } {
            return Err(ReadError::Malformed("the program headers' entry size"));
        }
        if u64::from(self.program_count) > MAX_PROGRAM_HEADERS {
            return Err(ReadError::TooLarge("the number of program headers"));
        }
        let bytes = u64::from(self.program_count) * u64::from(self.program_entry);
        Ok(Some(self.program_at..self.program_at.saturating_add(bytes)))
    }
}

impl Section {
    /// A section header without its name, and where that stands in the section names.
    fn parse(fields: Fields<'_>, wide: bool) -> Option<(u64, Section)> {
        let (flags, address, offset, size, link, entry) =
            if wide { (8, 16, 24, 32, 40, 56) } else { (8, 12, 16, 20, 24, 36) };
        let (address, offset) = (fields.word(address, wide)?, fields.word(offset, wide)?);
        let size = fields.word(size, wide)?;
        let loaded = if address == 0 { 0 } else { size };
        let section = Section {
            name: Vec::new(),
            kind: fields.u32(4)?,
            flags: fields.word(flags, wide)?,
            addresses: address..address.saturating_add(loaded),
            range: offset..offset.saturating_add(size),
            link: fields.u32(link)?,
            entry_bytes: fields.word(entry, wide)?,
        };
        Some((u64::from(fields.u32(0)?), section))
    }
}

/// A symbol as the file has it.
struct Symbol {
    name: u32,
    info: u8,
    section: u16,
    address: u64,
    size: u64,
}

impl Symbol {
    fn parse(fields: Fields<'_>, wide: bool) -> Option<Symbol> {
        let (info, section, address, size) = if wide { (4, 6, 8, 16) } else { (12, 14, 4, 8) };
        Some(Symbol {
            name: fields.u32(0)?,
            info: fields.u8(info)?,
            section: fields.u16(section)?,
            address: fields.word(address, wide)?,
            size: fields.word(size, wide)?,
        })
    }

    /// What it is worth as a function's name; none if it names no function defined here.
    fn rank(&self) -> Option<Rank> {
        const UNDEFINED: u16 = 0;
        const ABSOLUTE: u16 = 0xfff1;
        const COMMON: u16 = 0xfff2;
        if self.name == 0 || [UNDEFINED, ABSOLUTE, COMMON].contains(&self.section) {
            return None;
        }
        let local = self.info >> 4 == 0;
        match self.info & 0xf {
            2 | 10 if local => Some(Rank::Local),
            2 | 10 => Some(Rank::Global),
            0 => Some(Rank::Untyped),
            _ => None,
        }
    }
}

/// The GNU build id among `notes`.
fn build_id(notes: &[u8]) -> Option<BuildId> {
    const GNU_BUILD_ID: u32 = 3;
    let mut rest = notes;
    loop {
        let fields = Fields(rest);
        let padded = |at: usize| Some(usize::try_from(fields.u32(at)?).ok()?.checked_add(3)? & !3);
        let (name, payload) = (padded(0)?, padded(4)?);
        let payload_at = name.checked_add(12)?;
        if fields.u32(8)? == GNU_BUILD_ID && rest.get(12..payload_at)? == b"GNU\0" {
            let length = usize::try_from(fields.u32(4)?).ok()?;
            return BuildId::new(rest.get(payload_at..payload_at.checked_add(length)?)?);
        }
        rest = rest.get(payload_at.checked_add(payload)?..)?;
    }
}
