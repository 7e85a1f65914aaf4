//! Unwind tables of files: read once, in bounds, kept within a budget, read again when they are needed again. Copies of
//! a file share one table.
//!
//! Looked for: `.eh_frame` by its section or by the program header that stays when sections are stripped,
//! `.debug_frame` (plain or compressed), and Go's table. Function starts from symbols are read when a scan asks.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::cfi::{Frames, Missing, eh_frame_address};
use super::go::GoFrames;
use super::rule::Rule;
use super::shared::Shared;
use crate::model::tables::keep_little;
use crate::stack::apart::Parser;
use crate::stack::elf::{Elf, Section, Segment};
use crate::stack::file::MappedFile;
use crate::stack::gopclntab;
use crate::stack::source::{Pinned, ReadError, Source};

/// Most bytes of one file's tables.
const MAX_FILE_BYTES: usize = 32 << 20;
/// Most bytes of all tables together.
const MAX_ALL_BYTES: usize = 48 << 20;
/// Most bytes of symbols in which function starts are looked for.
const MAX_SYMBOLS_BYTES: u64 = 16 << 20;
/// Most files whose tables, or whose refusal, are known.
const MAX_FILES: usize = 2_048;
/// The ELF number of this machine.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// The number that stands for the vdso among files.
pub(super) const VDSO: u64 = u64::MAX;

/// Tables by file.
#[derive(Debug)]
pub(super) struct Tables {
    parser: Parser,
    known: HashMap<u64, Slot>,
    vdso: Option<Table>,
    tables: Shared<Table>,
    starts: Shared<Vec<u64>>,
    /// Of each table once, whoever shares it.
    bytes: usize,
    max_bytes: usize,
    clock: u64,
    /// Files whose tables could not be read, and tables dropped for others.
    pub(super) refused: u64,
    pub(super) dropped: u64,
    /// How long files were read.
    pub(super) reading_ns: u64,
}

#[derive(Debug)]
struct Slot {
    /// Once it is gone nobody asks: a file that is opened again has another number.
    file: Weak<MappedFile>,
    used: u64,
    /// None where it was refused.
    table: Option<Arc<Table>>,
    /// Starts of functions by symbols, ascending; none before they are asked for.
    starts: Option<Arc<Vec<u64>>>,
}

impl Slot {
    /// Frees it; how many bytes of tables were its alone.
    fn free(self) -> usize {
        let table = self.table.filter(|table| Arc::strong_count(table) == 1);
        let starts = self.starts.filter(|starts| Arc::strong_count(starts) == 1);
        table.map_or(0, |table| table.memory_bytes()) + starts.map_or(0, |starts| starts.capacity() * 8)
    }
}

/// What one file says.
#[derive(Debug, PartialEq)]
pub(super) struct Table {
    segments: Vec<Segment>,
    entry: u64,
    eh: Option<Frames>,
    debug: Option<Frames>,
    go: Option<GoFrames>,
}

/// What a table has for an address.
#[derive(Debug)]
pub(super) struct Found {
    /// The rule.
    pub(super) rule: Rule,
    /// Whether a limit was in the way.
    pub(super) limited: bool,
}

impl Tables {
    /// No tables but the vdso's; those of files are `parser`'s to read.
    pub(super) fn new(vdso: Option<Vec<u8>>, parser: Parser) -> Tables {
        let vdso =
            vdso.and_then(|image| Table::read(&Source::Bytes(&image), || Ok(Source::Bytes(&image))).ok());
        Tables {
            parser,
            known: HashMap::new(),
            vdso,
            tables: Shared::default(),
            starts: Shared::default(),
            bytes: 0,
            max_bytes: MAX_ALL_BYTES,
            clock: 0,
            refused: 0,
            dropped: 0,
            reading_ns: 0,
        }
    }

    /// Bytes of all tables.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.vdso.as_ref().map_or(0, Table::memory_bytes)
    }

    /// Keeps a quarter from now on, or as much as ever.
    pub(super) fn keep_less(&mut self, less: bool) {
        self.max_bytes = if less { MAX_ALL_BYTES / 4 } else { MAX_ALL_BYTES };
        self.make_room(VDSO);
    }

    /// The vdso's.
    pub(super) fn vdso(&self) -> Option<&Table> {
        self.vdso.as_ref()
    }

    /// The tables of `file`. None where it has none; an error where it is closed and nobody knows.
    pub(super) fn of(&mut self, file: &Arc<MappedFile>) -> Result<Option<&Table>, Closed> {
        self.clock += 1;
        if !self.known.contains_key(&file.id) {
            let begun = Instant::now();
            let read = read(file, &self.parser);
            self.reading_ns += nanoseconds(begun);
            let table = read?.inspect_err(|error| {
                tracing::debug!(file = file.name, %error, "no unwind tables");
            });
            self.refused += u64::from(table.is_err());
            self.enter(file, table.ok());
        }
        let slot = self.known.get_mut(&file.id);
        Ok(slot.and_then(|slot| {
            slot.used = self.clock;
            slot.table.as_deref()
        }))
    }

    /// First address of the function at `offset` in `file`, as far as symbols tell, and the address of the offset.
    pub(super) fn function(&mut self, file: &Arc<MappedFile>, offset: u64) -> Option<(u64, u64)> {
        let address = self.of(file).ok()??.address(offset)?;
        self.read_starts(file);
        let slot = self.known.get(&file.id)?;
        let of_go = slot.table.as_ref()?.go.as_ref().and_then(|go| go.function(address));
        let by_symbols = || {
            let starts = slot.starts.as_deref()?;
            starts.get(starts.partition_point(|start| *start <= address).checked_sub(1)?).copied()
        };
        Some((of_go.or_else(by_symbols)?, address))
    }

    /// Reads the function starts of `file` if that was not done yet.
    fn read_starts(&mut self, file: &MappedFile) {
        let Some(slot) = self.known.get_mut(&file.id).filter(|slot| slot.starts.is_none()) else { return };
        let (parser, begun) = (&self.parser, Instant::now());
        let starts = file
            .read(|fd| parser.run(move || symbol_starts(&Source::file(fd).ok()?).ok()).flatten())
            .flatten();
        self.reading_ns += nanoseconds(begun);
        let starts = self.starts.one(starts.unwrap_or_default());
        if Arc::strong_count(&starts) == 1 {
            self.bytes += starts.capacity() * 8;
        }
        slot.starts = Some(starts);
        self.make_room(file.id);
    }

    fn enter(&mut self, file: &Arc<MappedFile>, table: Option<Table>) {
        let table = table.map(|table| self.tables.one(table));
        if let Some(table) = table.as_ref().filter(|table| Arc::strong_count(table) == 1) {
            self.bytes += table.memory_bytes();
        }
        let slot = Slot { file: Arc::downgrade(file), used: self.clock, table, starts: None };
        self.known.insert(file.id, slot);
        self.make_room(file.id);
    }

    /// Drops what was read of files that nobody has any more.
    pub(super) fn forget_gone(&mut self) {
        for (_, slot) in self.known.extract_if(|_, slot| slot.file.strong_count() == 0) {
            self.bytes = self.bytes.saturating_sub(slot.free());
        }
        keep_little(&mut self.known);
    }

    /// Drops what was not used for longest until the rest fits; never `kept`.
    fn make_room(&mut self, kept: u64) {
        while self.bytes > self.max_bytes || self.known.len() > MAX_FILES {
            // By bytes, those without any are no help.
            let crowded = self.known.len() > MAX_FILES;
            let others =
                self.known.iter().filter(|(id, slot)| **id != kept && (crowded || slot.table.is_some()));
            let Some(id) = others.min_by_key(|(_, slot)| slot.used).map(|(id, _)| *id) else { break };
            let Some(slot) = self.known.remove(&id) else { break };
            self.dropped += u64::from(slot.table.is_some());
            self.bytes = self.bytes.saturating_sub(slot.free());
        }
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A file that is closed: nobody can tell what is in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed;

fn read(file: &MappedFile, parser: &Parser) -> Result<Result<Table, ReadError>, Closed> {
    let read = |fd| {
        // Without the thread that parses, the agent is about to end.
        parser.run(move || {
            let open = || Source::file(Arc::clone(&fd));
            open().and_then(|source| Table::read(&source, open))
        })
    };
    file.read(read).flatten().ok_or(Closed)
}

impl Table {
    /// Reads the tables of `source`, with another view of it by `again`.
    pub(super) fn read<'a>(
        source: &Source<'a>,
        again: impl FnOnce() -> Result<Source<'a>, ReadError>,
    ) -> Result<Table, ReadError> {
        let mut reader = Pinned::new(again()?);
        let elf = Elf::read(&mut reader)?;
        if !elf.wide || elf.machine != MACHINE {
            return Err(ReadError::Malformed("the machine"));
        }
        let go = if cfg!(target_arch = "aarch64") {
            None
        } else {
            gopclntab::find(&elf, &mut reader).ok().flatten()
        };
        let mut left = MAX_FILE_BYTES;
        let go = go.and_then(|table| {
            let layout = gopclntab::Layout::read(&mut reader, &table).ok()?;
            GoFrames::read(source, &table, layout, left).ok()
        });
        left = left.saturating_sub(go.as_ref().map_or(0, GoFrames::memory_bytes));
        let eh = eh_frames(&elf, source, left)?;
        left = left.saturating_sub(eh.as_ref().map_or(0, Frames::memory_bytes));
        // Go's programs have one that says what its own table says.
        let debug = if go.is_some() { None } else { debug_frames(&elf, source, left) };
        Ok(Table { segments: elf.segments, entry: elf.entry, eh, debug, go })
    }

    /// Memory in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let frames = |frames: &Option<Frames>| frames.as_ref().map_or(0, Frames::memory_bytes);
        let go = self.go.as_ref().map_or(0, GoFrames::memory_bytes);
        frames(&self.eh)
            + frames(&self.debug)
            + go
            + size_of::<Table>()
            + self.segments.capacity() * size_of::<Segment>()
    }

    /// The virtual address of `offset` in the file.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        let inside =
            |segment: &&Segment| offset.checked_sub(segment.offset).is_some_and(|o| o < segment.file_bytes);
        let segment = self.segments.iter().find(inside)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// Whether all its functions keep frame pointers.
    pub(super) fn keeps_frame_pointers(&self) -> bool {
        self.go.is_some()
    }

    /// The rule at the virtual address `address`; none if `steps`, which the walk may still spend, did not suffice.
    pub(super) fn rule(&self, address: u64, steps: &mut u32) -> Option<Found> {
        if let Some(rule) = self.go.as_ref().and_then(|go| go.rule(address)) {
            return Some(Found { rule, limited: false });
        }
        let mut limited = false;
        for frames in [&self.eh, &self.debug].into_iter().flatten() {
            match frames.row(address, steps) {
                Ok(row) => return Some(Found { rule: row.compact(), limited: false }),
                Err(Missing::Spent) => return None,
                Err(missing) => limited |= missing == Missing::Limited,
            }
        }
        let rule = if (self.entry..self.entry.saturating_add(64)).contains(&address) {
            Rule::Root
        } else {
            Rule::None
        };
        Some(Found { rule, limited })
    }
}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What all the rest is made of.
        (self.entry, &self.eh, &self.debug, &self.go).hash(state);
    }
}

/// The bytes of a range of the file.
fn bytes(
    source: &Source<'_>,
    range: &Range<u64>,
    limit_bytes: usize,
    what: &'static str,
) -> Result<Vec<u8>, ReadError> {
    if range.start > range.end || range.end > source.len_bytes() {
        return Err(ReadError::OutOfBounds(what));
    }
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    if length > limit_bytes {
        return Err(ReadError::TooLarge(what));
    }
    let mut bytes = vec![0; length];
    source.read_at(range.start, &mut bytes)?;
    Ok(bytes)
}

fn eh_frames(elf: &Elf, source: &Source<'_>, limit_bytes: usize) -> Result<Option<Frames>, ReadError> {
    const FRAME: &str = ".eh_frame";
    const HEADER: &str = ".eh_frame_hdr";
    let loaded = |section: &&Section| section.kind != Section::NOBITS;
    let header =
        elf.section(HEADER).filter(loaded).map(|section| (section.range.clone(), section.addresses.start));
    let header = header.or_else(|| {
        let segment = elf.unwind_header.as_ref()?;
        Some((segment.offset..segment.offset.saturating_add(segment.file_bytes), segment.address))
    });
    // A quarter each for the header and what is made of it, half for the frames.
    let header = header
        .and_then(|(range, address)| Some((bytes(source, &range, limit_bytes / 4, HEADER).ok()?, address)));
    let section =
        elf.section(FRAME).filter(loaded).map(|section| (section.range.clone(), section.addresses.start));
    let section = section.or_else(|| {
        let (header, address) = header.as_ref()?;
        let frame = eh_frame_address(header, *address)?;
        let segment = elf.loaded.iter().find(|segment| segment.addresses().contains(&frame))?;
        let begin = segment.offset + (frame - segment.address);
        // Where it ends is not told: it ends by itself.
        let end = segment.offset.saturating_add(segment.file_bytes).min(source.len_bytes());
        Some((begin..end.min(begin.saturating_add(limit_bytes as u64 / 2)), frame))
    });
    let Some((range, address)) = section else { return Ok(None) };
    let content = bytes(source, &range, limit_bytes / 4 * 3, FRAME)?;
    let text = elf.section(".text").map_or(0, |section| section.addresses.start);
    let header = header.as_ref().map(|(header, address)| (header.as_slice(), *address));
    Ok(Some(Frames::eh(content, address, text, header)))
}

fn debug_frames(elf: &Elf, source: &Source<'_>, limit_bytes: usize) -> Option<Frames> {
    const COMPRESSED: u64 = 0x800;
    const HEAD_BYTES: usize = 24;
    let section = elf.section(".debug_frame").filter(|section| section.kind != Section::NOBITS)?;
    let stored = bytes(source, &section.range, limit_bytes / 2, ".debug_frame").ok()?;
    if section.flags & COMPRESSED == 0 {
        return Some(Frames::debug(stored));
    }
    let (head, packed) = stored.split_at_checked(HEAD_BYTES)?;
    let limit = u64::try_from(limit_bytes / 2).ok()?;
    let mut plain = Vec::new();
    match head.first_chunk()? {
        [1, 0, 0, 0] => flate2::read::ZlibDecoder::new(packed).take(limit).read_to_end(&mut plain).ok()?,
        [2, 0, 0, 0] => {
            zstd::stream::read::Decoder::new(packed).ok()?.take(limit).read_to_end(&mut plain).ok()?
        }
        _ => return None,
    };
    Some(Frames::debug(plain))
}

/// Starts of the functions that symbols name, ascending.
fn symbol_starts(source: &Source<'_>) -> Result<Vec<u64>, ReadError> {
    let Source::File { fd, .. } = source else { return Ok(Vec::new()) };
    let mut reader = Pinned::new(Source::file(Arc::clone(fd))?);
    let elf = Elf::read(&mut reader)?;
    for kind in [Section::SYMTAB, Section::DYNSYM] {
        let Some(symbols) = elf.symbol_sections(&reader, kind)? else { continue };
        reader.check(&symbols.records, MAX_SYMBOLS_BYTES, "the symbol section")?;
        let functions = elf.functions(&mut reader, &symbols.records)?;
        let mut starts: Vec<u64> = functions.iter().map(|function| function.address).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.truncate(MAX_FILE_BYTES / 16);
        starts.shrink_to_fit();
        return Ok(starts);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn copies_of_a_file_share_one_table() {
        let folder = tempfile::tempdir().unwrap();
        let copy = |id: u64, of: &str| {
            let path = folder.path().join(id.to_string());
            fs::copy(of, &path).unwrap();
            let file = fs::File::open(path).unwrap();
            Arc::new(MappedFile::new(id, "sh".into(), None, Some(file.into())))
        };
        let mut tables = Tables::new(None, Parser::here());
        let mut read = |file: &Arc<MappedFile>| {
            tables.of(file).unwrap().expect("a table");
            tables.read_starts(file);
            tables.bytes
        };
        let one = read(&copy(1, "/bin/sh"));
        assert!(one > 0);
        assert_eq!((2..40).map(|id| read(&copy(id, "/bin/sh"))).max(), Some(one));
        let other = copy(40, "/bin/cat");
        let two = read(&other);
        assert!(two > one);
        // The last of those that share it frees it.
        tables.max_bytes = two - one;
        tables.make_room(40);
        assert_eq!((tables.bytes, tables.known.len(), tables.dropped), (two - one, 1, 39));
        tables.forget_gone();
        assert_eq!(tables.known.len(), 1);
        drop(other);
        tables.forget_gone();
        assert_eq!((tables.bytes, tables.known.len(), tables.dropped), (0, 0, 39));
    }
}
