//! Function names of Go programs, which keep them in `.gopclntab` even when they are stripped.
//!
//! Four layouts exist (Go 1.2, 1.16, 1.18, 1.20 and later); the first four bytes tell which. From 1.26 on the table does
//! not tell where the code begins, see [`super::gomodule`]. What lies in the table is
//! a tenant's: every count and offset is compared with the table's size before it is followed.

use std::ops::Range;

use super::builder::{Candidate, MAX_FUNCTIONS, Rank, TableBuilder};
use super::elf::{Elf, Section, Segment};
use super::gomodule;
use super::source::{Fields, Pinned, ReadError, Source};
use super::table::SymbolTable;

/// Largest table read in bytes.
const MAX_TABLE_BYTES: u64 = 128 << 20;
/// Largest section searched for a table that has none of its own, in bytes.
const MAX_SEARCHED_BYTES: u64 = 64 << 20;
/// Linkers align the table so at least.
const ALIGNMENT: usize = 8;

/// A table in a file.
#[derive(Debug, Clone)]
pub struct GoTable {
    /// Where it is.
    pub range: Range<u64>,
    /// Where the code begins, for tables that do not tell it themselves.
    pub text: Option<u64>,
}

/// The table of the file, if there is one. Programs linked by others than Go's own linker have it somewhere in their read-only
/// data; it is searched there if the file says that it is of Go.
pub fn find(elf: &Elf, reader: &mut Pinned<'_>) -> Result<Option<GoTable>, ReadError> {
    let Some(range) = find_range(elf, reader)? else { return Ok(None) };
    let text = gomodule::text(elf, reader)?;
    Ok(Some(GoTable { range, text }))
}

fn find_range(elf: &Elf, reader: &mut Pinned<'_>) -> Result<Option<Range<u64>>, ReadError> {
    for name in [".gopclntab", ".data.rel.ro.gopclntab"] {
        if let Some(section) = elf.section(name).filter(|section| section.kind != Section::NOBITS) {
            reader.check(&section.range, MAX_TABLE_BYTES, ".gopclntab")?;
            return Ok(Some(section.range.clone()));
        }
    }
    if elf.section(".go.buildinfo").is_none() && elf.section(".note.go.buildid").is_none() {
        return Ok(None);
    }
    for name in [".data.rel.ro", ".rodata"] {
        let Some(section) = elf.section(name).filter(|section| section.kind != Section::NOBITS) else {
            continue;
        };
        if reader.check(&section.range, MAX_SEARCHED_BYTES, "read-only data").is_err() {
            continue;
        }
        let begin = section.range.start.next_multiple_of(ALIGNMENT as u64);
        let mut found = Vec::new();
        let mut at = begin;
        reader.for_each_piece(&(begin..section.range.end), ALIGNMENT as u64, |piece| {
            for (index, start) in piece.chunks_exact(ALIGNMENT).enumerate() {
                if Version::parse(start).is_some() && found.len() < 64 {
                    found.push(at + (index * ALIGNMENT) as u64);
                }
            }
            at += piece.len() as u64;
            Ok(())
        })?;
        for at in found {
            let range = at..section.range.end;
            if Table::read(reader, &range, Some(0)).is_ok() {
                return Ok(Some(range));
            }
        }
    }
    Ok(None)
}

/// Adds the functions of `table`.
pub fn add_functions(
    reader: &mut Pinned<'_>,
    table: &GoTable,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let table = Table::read(reader, &table.range, table.text)?;
    let functions = table.functions(reader)?;
    builder.add(reader, functions, &table.names)
}

/// The symbols of a table in memory whose code begins at `text` unless it says so itself.
pub fn parse(bytes: &[u8], text: u64) -> Result<SymbolTable, ReadError> {
    let mut builder = TableBuilder::new(vec![Segment { offset: 0, file_bytes: u64::MAX, address: 0 }]);
    let mut reader = Pinned::new(Source::Bytes(bytes));
    let table = GoTable { range: 0..bytes.len() as u64, text: Some(text) };
    add_functions(&mut reader, &table, &mut builder)?;
    builder.finish()
}

/// What the first 8 bytes tell.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Version {
    /// 2, 16, 18 or 20: Go 1.x.
    minor: u8,
    wide: bool,
}

impl Version {
    fn parse(head: &[u8]) -> Option<Version> {
        let minor = match Fields(head).u32(0)? {
            0xffff_fffb => 2,
            0xffff_fffa => 16,
            0xffff_fff0 => 18,
            0xffff_fff1 => 20,
            _ => return None,
        };
        let [0, 0, 1 | 2 | 4, pointer @ (4 | 8)] = head.get(4..8)? else { return None };
        Some(Version { minor, wide: *pointer == 8 })
    }

    fn pointer_bytes(self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    /// Size of a number in the list of functions.
    fn entry_bytes(self) -> u64 {
        if self.minor >= 18 { 4 } else { self.pointer_bytes() }
    }
}

/// Where the parts of a table that unwinding needs are in the file.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// Functions in the list.
    pub(super) count: u64,
    /// What addresses in the table are relative to.
    pub(super) text: u64,
    /// The list of functions: start and place of the record, and the end of the code behind the last one.
    pub(super) list: Range<u64>,
    /// What places of records are relative to.
    pub(super) records: Range<u64>,
    /// What places of value tables are relative to.
    pub(super) values: Range<u64>,
    /// What places of names are relative to.
    pub(super) names: Range<u64>,
    /// Bytes of the smallest instruction.
    pub(super) quantum: u8,
    version: Version,
}

impl Layout {
    /// Reads the head of `table`.
    pub(super) fn read(reader: &mut Pinned<'_>, table: &GoTable) -> Result<Layout, ReadError> {
        let read = Table::read(reader, &table.range, table.text)?;
        let Table { version, count, text, list, records, values, names, quantum } = read;
        Ok(Layout { count, text, list, records, values, names, quantum, version })
    }

    /// Bytes of a number in the list and of a record's first field.
    pub(super) fn entry_bytes(&self) -> usize {
        usize::try_from(self.version.entry_bytes()).unwrap_or(8)
    }

    /// Where the flags stand in a record, if it has any. The head cannot tell Go 1.16 from 1.17, nor all older ones:
    /// only records from 1.18 on surely have them.
    pub(super) fn flags_at(&self) -> Option<usize> {
        match self.version.minor {
            18 => Some(37),
            20 => Some(41),
            _ => None,
        }
    }
}

/// A table's head, its parts as ranges of the file.
struct Table {
    version: Version,
    count: u64,
    /// What addresses in the table are relative to.
    text: u64,
    /// The list of functions.
    list: Range<u64>,
    /// What offsets of function records are relative to.
    records: Range<u64>,
    /// What offsets of value tables are relative to.
    values: Range<u64>,
    names: Range<u64>,
    quantum: u8,
}

impl Table {
    const BAD: ReadError = ReadError::Malformed("gopclntab's head");

    fn read(reader: &mut Pinned<'_>, range: &Range<u64>, text: Option<u64>) -> Result<Table, ReadError> {
        let head = reader.read(&(range.start..range.end.min(range.start.saturating_add(80))))?;
        let version = Version::parse(&head).ok_or(Self::BAD)?;
        let wide = version.wide;
        let number = |index: usize| {
            let at = 8 + index * if wide { 8 } else { 4 };
            Fields(&head).word(at, wide).ok_or(Self::BAD)
        };
        let part = |offset: u64| {
            let start =
                range.start.checked_add(offset).filter(|start| *start <= range.end).ok_or(Self::BAD)?;
            Ok::<_, ReadError>(start..range.end)
        };
        let count = number(0)?;
        let (stated_text, names, values, records, list) = match version.minor {
            2 => (0, part(0)?, part(0)?, part(0)?, part(8 + version.pointer_bytes())?),
            16 => (0, part(number(2)?)?, part(number(5)?)?, part(number(6)?)?, part(number(6)?)?),
            _ => (number(2)?, part(number(3)?)?, part(number(6)?)?, part(number(7)?)?, part(number(7)?)?),
        };
        let text = match version.minor {
            18.. if stated_text == 0 => text.ok_or(ReadError::Malformed("the begin of Go's code"))?,
            _ => stated_text,
        };
        let listed = count.checked_mul(2).and_then(|c| c.checked_add(1)?.checked_mul(version.entry_bytes()));
        let listed = listed.filter(|listed| *listed <= list.end - list.start).ok_or(Self::BAD)?;
        if count > MAX_FUNCTIONS as u64 {
            return Err(ReadError::TooLarge("the number of functions"));
        }
        let list = list.start..list.start + listed;
        let quantum = Fields(&head).u8(6).unwrap_or(1);
        Ok(Table { version, count, text, list, records, values, names, quantum })
    }

    fn functions(&self, reader: &mut Pinned<'_>) -> Result<Vec<Candidate>, ReadError> {
        const BAD: ReadError = ReadError::Malformed("gopclntab's list of functions");
        let entry = self.version.entry_bytes();
        let mut numbers = Vec::with_capacity(usize::try_from(self.count).unwrap_or(0) * 2 + 1);
        reader.for_each_piece(&self.list, entry, |piece| {
            let chunks = piece.chunks_exact(usize::try_from(entry).unwrap_or(8));
            numbers.extend(chunks.filter_map(|chunk| Fields(chunk).word(0, entry == 8)));
            Ok(())
        })?;
        let mut listed = Vec::with_capacity(numbers.len() / 2);
        for function in numbers.windows(3).step_by(2) {
            let [start, record, end] = *function else { continue };
            if end < start {
                return Err(BAD);
            }
            // No record: a hole between two sections of code.
            if record != u64::MAX {
                listed.push((record, start, end));
            }
        }
        drop(numbers);
        // In the order of their records each page is read once, whatever a table says.
        listed.sort_unstable();
        let mut functions = Vec::with_capacity(listed.len());
        for (record, start, end) in listed {
            // A record begins with the function's start again, in the same form, and the place of its name.
            let at = self.records.start.checked_add(record).ok_or(BAD)?;
            let bytes = reader.read(&(at..at.checked_add(entry + 4).ok_or(BAD)?))?;
            let bytes = Fields(&bytes);
            if bytes.word(0, entry == 8) != Some(start) {
                return Err(BAD);
            }
            let name = bytes.u32(usize::try_from(entry).unwrap_or(8)).ok_or(BAD)?;
            let address = self.text.checked_add(start).ok_or(BAD)?;
            functions.push(Candidate::new(address, end - start, true, Rank::Local, name));
        }
        Ok(functions)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table as Go's linker lays it out.
    pub(in crate::stack) fn table(
        minor: u8,
        wide: bool,
        text: u64,
        functions: &[(u64, &str)],
        end: u64,
    ) -> Vec<u8> {
        let magic: u32 = [(2, 0xffff_fffb), (16, 0xffff_fffa), (18, 0xffff_fff0), (20, 0xffff_fff1)]
            .into_iter()
            .find(|m| m.0 == minor)
            .unwrap()
            .1;
        let pointer = if wide { 8 } else { 4 };
        let entry = if minor >= 18 { 4 } else { pointer };
        let put = |out: &mut Vec<u8>, number: u64, bytes: usize| {
            out.extend_from_slice(&number.to_le_bytes()[..bytes])
        };
        let mut head = magic.to_le_bytes().to_vec();
        head.extend_from_slice(&[0, 0, 1, pointer as u8]);
        let head_bytes = 8 + pointer
            * match minor {
                2 => 1,
                16 => 7,
                _ => 8,
            };
        let mut names = vec![0];
        let name_offsets: Vec<u64> = functions
            .iter()
            .map(|(_, name)| {
                let at = names.len() as u64;
                names.extend_from_slice(name.as_bytes());
                names.push(0);
                at
            })
            .collect();
        let list_bytes = entry * (functions.len() * 2 + 1);
        let record_bytes = entry + 4;
        let (list_at, names_at, records_base) = if minor == 2 {
            (head_bytes, head_bytes + list_bytes + record_bytes * functions.len(), 0)
        } else {
            (head_bytes + names.len(), head_bytes, head_bytes + names.len())
        };
        put(&mut head, functions.len() as u64, pointer);
        if minor >= 16 {
            put(&mut head, 0, pointer);
            if minor >= 18 {
                put(&mut head, text, pointer);
            }
            put(&mut head, names_at as u64, pointer);
            (0..3).for_each(|_| put(&mut head, 0, pointer));
            put(&mut head, list_at as u64, pointer);
        }
        let shift = |pc: u64| if minor >= 18 { pc - text } else { pc };
        let (mut list, mut records) = (vec![], vec![]);
        for (index, (pc, _)) in functions.iter().enumerate() {
            put(&mut list, shift(*pc), entry);
            put(&mut list, (list_at + list_bytes + records.len() - records_base) as u64, entry);
            put(&mut records, shift(*pc), entry);
            put(&mut records, name_offsets[index] + if minor == 2 { names_at as u64 } else { 0 }, 4);
        }
        put(&mut list, shift(end), entry);
        let parts = if minor == 2 { [head, list, records, names] } else { [head, names, list, records] };
        parts.concat()
    }

    fn name(table: &SymbolTable, address: u64) -> Option<String> {
        table.lookup(address).map(|(name, _)| String::from_utf8(name).unwrap())
    }

    #[test]
    fn every_layout_is_read() {
        let functions =
            [(0x40_1000, "main.main"), (0x40_1100, "main.(*T).leaf"), (0x40_1180, "runtime.rt0_go")];
        for minor in [2, 16, 18, 20] {
            for wide in [true, false] {
                let bytes = table(minor, wide, 0x40_1000, &functions, 0x40_1200);
                let read = parse(&bytes, 0).unwrap();
                for (address, expected) in [
                    (0x40_0fff, None),
                    (0x40_1000, Some("main.main")),
                    (0x40_117f, Some("main.(*T).leaf")),
                    (0x40_11ff, Some("runtime.rt0_go")),
                    (0x40_1200, None),
                ] {
                    assert_eq!(
                        name(&read, address).as_deref(),
                        expected,
                        "go 1.{minor}, wide {wide}, {address:x}"
                    );
                }
                for length in 0..bytes.len() {
                    let _ = parse(&bytes[..length], 0);
                }
            }
        }
    }

    #[test]
    fn a_table_that_counts_more_than_it_has_is_refused() {
        let mut bytes = table(20, true, 0x1000, &[(0x1000, "a")], 0x2000);
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(parse(&bytes, 0).is_err());
        bytes[8..16].copy_from_slice(&1_000_000_000u64.to_le_bytes());
        assert!(parse(&bytes, 0).is_err());
    }

    #[test]
    fn records_in_any_order_are_read_once() {
        // Neighbours in the list have their records three pages apart.
        const COUNT: u64 = 40_000;
        let functions: Vec<(u64, &str)> = (0..COUNT).map(|n| (0x1000 + n * 16, "a")).collect();
        let mut bytes = table(20, true, 0x1000, &functions, 0x1000 + COUNT * 16);
        let list = usize::try_from(u64::from_le_bytes(bytes[64..72].try_into().unwrap())).unwrap();
        let entries = bytes[list..][..COUNT as usize * 8].as_chunks::<8>().0.to_vec();
        let records: Vec<[u8; 8]> = bytes[list + COUNT as usize * 8 + 4..].as_chunks::<8>().0.to_vec();
        for n in 0..COUNT as usize {
            let moved = n % 4 * (COUNT as usize / 4) + n / 4;
            let offset = u32::from_le_bytes(entries[moved][4..].try_into().unwrap());
            bytes[list + n * 8 + 4..][..4].copy_from_slice(&offset.to_le_bytes());
            let mut record = records[moved];
            record[..4].copy_from_slice(&entries[n][..4]);
            bytes[list + offset as usize..][..8].copy_from_slice(&record);
        }
        let begin = std::time::Instant::now();
        assert_eq!(parse(&bytes, 0).unwrap().len() as u64, COUNT);
        assert!(begin.elapsed().as_secs() < 10, "pages were read again and again: {:?}", begin.elapsed());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_table_or_an_error(minor in 0usize..4, wide: bool, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes, 0x1000);
            let mut bytes = [vec![[0xfb, 0xfa, 0xf0, 0xf1][minor], 0xff, 0xff, 0xff, 0, 0, 1, if wide { 8 } else { 4 }], bytes].concat();
            let _ = parse(&bytes, 0x1000);
            bytes.iter_mut().skip(8).for_each(|byte| *byte &= 0x1f);
            let _ = parse(&bytes, 0x1000);
        }

        #[test]
        fn a_bent_table_is_an_error_or_some_table(minor in 0usize..4, at in 8usize..200, value: u8) {
            let functions = [(0x1000, "a.b"), (0x1010, "a.c"), (0x1400, "a.d")];
            let mut bytes = table([2, 16, 18, 20][minor], true, 0x1000, &functions, 0x2000);
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            if let Ok(table) = parse(&bytes, 0) { let _ = table.lookup(0x1010); }
        }
    }
}
