//! Which functions were inlined at an address, from DWARF.
//!
//! One walk over the units of a file tells which addresses each covers; where a place is asked for, the functions of
//! its unit are listed, and the one that covers it is walked for inlined calls. Nothing else is kept, and lines are not
//! read. Debug information is a tenant's, and a few bytes of it can stand for any amount of work: steps are counted,
//! and a file that used up its own is given up. This is why an index is made here, by `gimli`'s parsers, and not by a library for the
//! purpose, none of which can be stopped.
//!
//! Sections of files take [`MAX_SECTIONS_BYTES`] together at most, or one file's alone; lists of functions
//! [`MAX_LISTED`] entries a file.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gimli::{AttributeValue, DebugInfo, DebugInfoOffset, LittleEndian, UnitOffset, constants};

use super::demangle::demangle;
use super::dwarf::Sections;
use super::entries::{Bytes, Known, Steps, Stop, Tables, View, info_offset};
use super::memo::Memo;
use super::source::Source;

/// What the sections of all files kept may take, in bytes; one file alone may take [`super::dwarf::MAX_BYTES`].
pub const MAX_SECTIONS_BYTES: usize = 96 << 20;
/// Most entries in lists of functions, for each file.
pub const MAX_LISTED: usize = 400_000;
/// Most units of a file.
const MAX_UNITS: usize = 1 << 17;
/// Most ranges of all units of a file.
const MAX_RANGES: usize = 1 << 20;
/// Most inlined functions at one address.
const MAX_DEPTH: usize = 48;
/// Longest way from a call to a name.
const MAX_HOPS: usize = 12;
/// How many overlapping ranges are looked through.
const MAX_OVERLAP: usize = 32;
/// Steps for a file; one is some 5 ns.
const FILE_STEPS: u64 = 600_000_000;
/// Steps for one look-up, and for finding a file's units.
const CALL_STEPS: u64 = 60_000_000;
/// What is remembered of files without debug information, in bytes.
const WITHOUT_BYTES: usize = 256 << 10;

/// Tells inlined functions, file by file.
#[derive(Debug)]
pub struct Inliner {
    /// The one used last comes last.
    files: Vec<(u64, File)>,
    without: Memo<u64, ()>,
    failed: u64,
}

impl Inliner {
    /// One that knows no file.
    pub fn new() -> Inliner {
        Inliner { files: Vec::new(), without: Memo::new(WITHOUT_BYTES), failed: 0 }
    }

    /// Names of the functions inlined at `address` of the file `id`, the innermost first; none where there is none or
    /// nothing tells. `open` gives the files that may have the debug information, the likelier one first.
    pub fn names(
        &mut self,
        id: u64,
        address: u64,
        open: impl FnOnce() -> Vec<Source<'static>>,
    ) -> Vec<String> {
        if self.without.get(&id).is_some() {
            return Vec::new();
        }
        let known = self.files.iter().position(|(known, _)| *known == id);
        let Some(mut file) = known.map(|at| self.files.remove(at).1).or_else(|| self.load(id, open)) else {
            return Vec::new();
        };
        // The parsers are meant never to panic, whatever they read; if one does, it costs this file and not the agent.
        // What it may have left half done goes with it.
        let names = catch_unwind(AssertUnwindSafe(|| file.names(address)));
        match names {
            Ok(Ok(names)) => {
                self.keep(id, file);
                names
            }
            Ok(Err(Stop::Malformed)) => {
                self.keep(id, file);
                Vec::new()
            }
            Ok(Err(Stop::Spent)) | Err(_) => {
                self.failed += 1;
                self.without.insert(id, (), 0);
                Vec::new()
            }
        }
    }

    /// Forgets what is known of the file `id`.
    pub fn forget(&mut self, id: u64) {
        self.files.retain(|(known, _)| *known != id);
        self.without.remove(&id);
    }

    /// Files whose debug information was given up.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Size of all that is kept, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.files.iter().map(|(_, file)| file.memory_bytes()).sum::<usize>() + self.without.memory_bytes()
    }

    fn load(&mut self, id: u64, open: impl FnOnce() -> Vec<Source<'static>>) -> Option<File> {
        let sources = open();
        if sources.is_empty() {
            return None; // for now: it may be mapped again
        }
        for source in sources {
            // Guarded like above.
            match catch_unwind(AssertUnwindSafe(|| File::read(source))) {
                Ok(Ok(Some(file))) => return Some(file),
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => self.failed += 1,
            }
        }
        self.without.insert(id, (), 0);
        None
    }

    fn keep(&mut self, id: u64, file: File) {
        self.files.push((id, file));
        while self.files.len() > 1
            && self.files.iter().map(|(_, file)| file.memory_bytes()).sum::<usize>() > MAX_SECTIONS_BYTES
        {
            self.files.remove(0);
        }
    }
}

impl Default for Inliner {
    fn default() -> Inliner {
        Inliner::new()
    }
}

/// Names of the functions inlined at each of `addresses` of the ELF file in `bytes`, the innermost first.
pub fn names_in(bytes: &[u8], addresses: &[u64]) -> Vec<Vec<String>> {
    let Ok(Some(mut file)) = File::read(Source::Bytes(bytes)) else { return Vec::new() };
    addresses.iter().map(|address| file.names(*address).unwrap_or_default()).collect()
}

/// Code and where the entry of its function is in the unit.
#[derive(Debug, Clone, Copy)]
struct Listed {
    begin: u64,
    end: u64,
    entry: usize,
}

/// A file's debug information.
#[derive(Debug)]
struct File {
    sections: Sections,
    units: Vec<Known>,
    /// Which addresses are of which unit, by their begins.
    ranges: Vec<(Range<u64>, u32)>,
    functions: HashMap<u32, Arc<[Listed]>>,
    listed: usize,
    tables: Tables,
    steps: u64,
}

impl File {
    fn read(source: Source<'_>) -> Result<Option<File>, Stop> {
        let Some(sections) = Sections::read(source).map_err(|_| Stop::Malformed)? else { return Ok(None) };
        let mut file = File {
            sections,
            units: Vec::new(),
            ranges: Vec::new(),
            functions: HashMap::new(),
            listed: 0,
            tables: HashMap::new(),
            steps: FILE_STEPS,
        };
        file.find_units()?;
        Ok(Some(file))
    }

    fn memory_bytes(&self) -> usize {
        self.sections.memory_bytes()
            + self.units.capacity() * size_of::<Known>()
            + self.ranges.capacity() * size_of::<(Range<u64>, u32)>()
            + self.listed * size_of::<Listed>()
    }

    fn names(&mut self, address: u64) -> Result<Vec<String>, Stop> {
        let mut steps = Steps(CALL_STEPS.min(self.steps));
        let before = steps.0;
        let names = self.names_within(address, &mut steps);
        self.steps = self.steps.saturating_sub(before - steps.0);
        match names {
            // One place that takes too much is none; a file that did so over and over is given up.
            Err(Stop::Spent) if self.steps > 0 => Ok(Vec::new()),
            names => names,
        }
    }

    fn names_within(&mut self, address: u64, steps: &mut Steps) -> Result<Vec<String>, Stop> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= address);
        let candidates = self.ranges.get(..after).unwrap_or_default().iter().rev().take(MAX_OVERLAP);
        let units: Vec<u32> =
            candidates.filter(|(range, _)| range.contains(&address)).map(|(_, unit)| *unit).collect();
        for unit in units {
            let functions = self.functions_of(unit, steps)?;
            let after = functions.partition_point(|function| function.begin <= address);
            let function = functions.get(..after).unwrap_or_default().iter().rev().take(MAX_OVERLAP);
            if let Some(function) = function.clone().find(|function| address < function.end) {
                return self.calls(unit, function.entry, address, steps);
            }
        }
        Ok(Vec::new())
    }

    /// Which addresses each unit covers.
    fn find_units(&mut self) -> Result<(), Stop> {
        let mut steps = Steps(CALL_STEPS);
        let mut units = Vec::new();
        let mut ranges: Vec<(Range<u64>, u32)> = Vec::new();
        let mut tables = std::mem::take(&mut self.tables);
        let view = View { sections: &self.sections };
        let info = DebugInfo::new(&self.sections.info, LittleEndian);
        let mut headers = info.units();
        // What stands behind a unit that makes no sense cannot be found.
        while let Ok(Some(header)) = headers.next() {
            let Some(DebugInfoOffset(offset)) = header.debug_info_offset() else { break };
            steps.take(40)?;
            if units.len() >= MAX_UNITS || ranges.len() >= MAX_RANGES {
                break;
            }
            let number = u32::try_from(units.len()).map_err(|_| Stop::Spent)?;
            match view.unit(&header, offset, &mut tables, &mut steps) {
                Ok((known, found)) => {
                    units.push(known);
                    ranges.extend(found.into_iter().map(|range| (range, number)));
                }
                Err(Stop::Malformed) => {
                    let (addr_base, rnglists_base, str_offsets_base) = (0, 0, 0);
                    units.push(Known { offset, base: 0, addr_base, rnglists_base, str_offsets_base });
                }
                Err(Stop::Spent) => return Err(Stop::Spent),
            }
        }
        ranges.sort_unstable_by_key(|(range, unit)| (range.start, range.end, *unit));
        (self.units, self.ranges, self.tables) = (units, ranges, tables);
        Ok(())
    }

    /// The functions of a unit, by their begins.
    fn functions_of(&mut self, number: u32, steps: &mut Steps) -> Result<Arc<[Listed]>, Stop> {
        if let Some(functions) = self.functions.get(&number) {
            return Ok(Arc::clone(functions));
        }
        let view = View { sections: &self.sections };
        let known = *self.known(number)?;
        let header = view.header(known.offset)?;
        let table = view.table(&header, &mut self.tables, steps)?;
        let mut entries = header.entries_raw(&table, None)?;
        let mut functions = Vec::new();
        let mut attributes = Vec::new();
        while !entries.is_empty() {
            let UnitOffset(entry) = entries.next_offset();
            let Some(kind) = entries.read_abbreviation()? else {
                steps.take(1)?;
                continue;
            };
            steps.take(1 + kind.attributes().len())?;
            if kind.tag() != constants::DW_TAG_subprogram {
                entries.skip_attributes(kind.attributes())?;
                continue;
            }
            entries.read_attributes(kind.attributes(), &mut attributes)?;
            view.ranges(&header, &known, &attributes, steps, |range| {
                functions.push(Listed { begin: range.start, end: range.end, entry });
            })?;
            if functions.len() > MAX_LISTED {
                return Err(Stop::Malformed);
            }
        }
        functions.sort_unstable_by_key(|function| (function.begin, std::cmp::Reverse(function.end)));
        let functions: Arc<[Listed]> = functions.into();
        if self.listed + functions.len() > MAX_LISTED {
            self.functions.clear();
            self.listed = 0;
        }
        self.listed += functions.len();
        self.functions.insert(number, Arc::clone(&functions));
        Ok(functions)
    }

    /// The inlined calls around `address` in the function at `entry` of the unit, the innermost first.
    fn calls(
        &mut self,
        number: u32,
        entry: usize,
        address: u64,
        steps: &mut Steps,
    ) -> Result<Vec<String>, Stop> {
        let view = View { sections: &self.sections };
        let known = *self.known(number)?;
        let header = view.header(known.offset)?;
        let table = view.table(&header, &mut self.tables, steps)?;
        let mut entries = header.entries_raw(&table, Some(UnitOffset(entry)))?;
        let mut origins: Vec<(isize, AttributeValue<Bytes<'_>>)> = Vec::new();
        let mut attributes = Vec::new();
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let kind = entries.read_abbreviation()?;
            steps.take(1 + kind.map_or(0, |kind| kind.attributes().len()))?;
            if let Some(kind) = kind {
                let inlined = kind.tag() == constants::DW_TAG_inlined_subroutine;
                if inlined && origins.last().is_none_or(|(outer, _)| *outer < depth) {
                    entries.read_attributes(kind.attributes(), &mut attributes)?;
                    let mut inside = false;
                    view.ranges(&header, &known, &attributes, steps, |range| {
                        inside |= range.contains(&address);
                    })?;
                    let origin = attributes.iter().find(|a| a.name() == constants::DW_AT_abstract_origin);
                    if let (true, Some(origin)) = (inside, origin) {
                        origins.push((depth, origin.value()));
                    }
                } else {
                    entries.skip_attributes(kind.attributes())?;
                }
            }
            if entries.next_depth() <= 0 || origins.len() >= MAX_DEPTH {
                break;
            }
        }
        let origins: Vec<Option<usize>> =
            origins.iter().rev().map(|(_, origin)| info_offset(known.offset, origin)).collect();
        let mut names = Vec::with_capacity(origins.len());
        for origin in origins.into_iter().flatten() {
            // A name that cannot be read is left out: none is made up.
            match self.name_of(origin, steps) {
                Ok(name) => names.extend(name),
                Err(Stop::Malformed) => {}
                Err(Stop::Spent) => return Err(Stop::Spent),
            }
        }
        Ok(names)
    }

    /// The name of the function whose entry is at `offset` of `.debug_info`, or at what it refers to.
    fn name_of(&mut self, mut offset: usize, steps: &mut Steps) -> Result<Option<String>, Stop> {
        let view = View { sections: &self.sections };
        let mut attributes = Vec::new();
        let mut plain: Option<String> = None;
        for _ in 0..MAX_HOPS {
            let after = self.units.partition_point(|unit| unit.offset <= offset);
            let known = after.checked_sub(1).and_then(|at| self.units.get(at)).ok_or(Stop::Malformed)?;
            let header = view.header(known.offset)?;
            let table = view.table(&header, &mut self.tables, steps)?;
            let mut entries = header.entries_raw(&table, Some(UnitOffset(offset - known.offset)))?;
            let kind = entries.read_abbreviation()?.ok_or(Stop::Malformed)?;
            steps.take(1 + kind.attributes().len())?;
            entries.read_attributes(kind.attributes(), &mut attributes)?;
            let named = |name| {
                let attribute = attributes.iter().find(|attribute| attribute.name() == name)?;
                view.text(&header, known, &attribute.value())
            };
            let linkage =
                named(constants::DW_AT_linkage_name).or_else(|| named(constants::DW_AT_MIPS_linkage_name));
            if let Some(linkage) = linkage {
                let name = demangle(linkage);
                // Constructors of no single kind are mangled in ways that nothing takes apart.
                if name.as_bytes() != linkage || !linkage.starts_with(b"_Z") {
                    return Ok(Some(name));
                }
            }
            plain = plain.or_else(|| named(constants::DW_AT_name).map(demangle));
            let next = attributes.iter().find(|attribute| {
                matches!(attribute.name(), constants::DW_AT_abstract_origin | constants::DW_AT_specification)
            });
            match next.and_then(|next| info_offset(known.offset, &next.value())) {
                Some(next) => offset = next,
                None => break,
            }
        }
        Ok(plain.filter(|name| !name.is_empty()))
    }

    fn known(&self, number: u32) -> Result<&Known, Stop> {
        usize::try_from(number).ok().and_then(|at| self.units.get(at)).ok_or(Stop::Malformed)
    }
}
