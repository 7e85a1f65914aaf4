//! What is mapped for execution, and where in it an address lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::file::{MappedFile, Place};

/// Most executable mappings kept of a process, some 64 bytes each.
pub(super) const MAX_MAPPINGS: usize = 4_096;
/// What a file takes that nobody has mapped any more, in bytes, estimated.
const FILE_BYTES: usize = 256;

/// An executable mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset in the file in bytes.
    pub file_offset: u64,
    /// What is mapped.
    pub what: Mapped,
}

/// What lies in a mapping.
#[derive(Debug, Clone)]
pub enum Mapped {
    /// A file.
    File(Arc<MappedFile>),
    /// The kernel's vdso.
    Vdso,
    /// Memory of no file.
    Anonymous,
}

impl Mapped {
    /// Whether code that is made at run time may lie there, whose names its program may tell.
    pub fn may_be_made(&self) -> bool {
        match self {
            Mapped::File(file) => file.is_made(),
            Mapped::Vdso => false,
            Mapped::Anonymous => true,
        }
    }
}

/// What a process has mapped now.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    version: u64,
    sorted: Arc<Vec<Mapping>>,
    /// Whether code that is made at run time may lie in one of them, or did.
    has_made: bool,
}

impl Table {
    /// Sorted by start, without overlaps.
    pub(super) fn sorted(&self) -> &[Mapping] {
        &self.sorted
    }

    /// A number that stands for what is mapped: as long as it is the same, so is where addresses lie. 0 while nothing ever
    /// was.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether one of `addresses` may be code that is made at run time.
    pub(super) fn has_made(&self, mut addresses: impl Iterator<Item = u64>) -> bool {
        let mut mapped = Mappings::new(&self.sorted);
        self.has_made
            && addresses.any(|ip| mapped.holding(ip).is_some_and(|mapping| mapping.what.may_be_made()))
    }

    /// Something was mapped; what lay there before is gone. From now on `version` stands for what is mapped.
    pub(super) fn map(&mut self, mapping: Mapping, version: u64) {
        self.version = version;
        self.has_made |= mapping.what.may_be_made();
        // Samples that wait for their names may have it, too: theirs stays as it was.
        let sorted = Arc::make_mut(&mut self.sorted);
        cut(sorted, mapping.start, mapping.end);
        if sorted.len() < MAX_MAPPINGS {
            let at = sorted.partition_point(|m| m.start < mapping.start);
            sorted.insert(at, mapping);
        }
    }

    /// The same for as long as somebody has it, whatever is mapped then. What it takes is added to `lent` until then.
    pub(super) fn lend(&self, lent: &LentBytes) -> AddressSpace {
        AddressSpace::charged(self.version, Arc::clone(&self.sorted), lent)
    }
}

/// What a process had mapped in one moment, for who looks its addresses up later.
#[derive(Debug)]
pub struct AddressSpace {
    version: u64,
    sorted: Arc<Vec<Mapping>>,
    bytes: usize,
    lent: LentBytes,
}

/// Memory of all address spaces that somebody has, in bytes, estimated: all of them may be of the past.
#[derive(Debug, Clone, Default)]
pub struct LentBytes(Arc<AtomicUsize>);

impl LentBytes {
    /// How much it is now.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl AddressSpace {
    /// Of `sorted` mappings, by start and without overlaps; `version` is that of no other, and not 0.
    pub fn new(version: u64, sorted: Vec<Mapping>) -> AddressSpace {
        AddressSpace::charged(version, Arc::new(sorted), &LentBytes::default())
    }

    fn charged(version: u64, sorted: Arc<Vec<Mapping>>, lent: &LentBytes) -> AddressSpace {
        let bytes = sorted.capacity() * (size_of::<Mapping>() + FILE_BYTES);
        lent.0.fetch_add(bytes, Ordering::Relaxed);
        AddressSpace { version, sorted, bytes, lent: lent.clone() }
    }

    /// A number that stands for what is mapped: as long as it is the same, so is where addresses lie.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is mapped, for one address after the other.
    pub fn mappings(&self) -> Mappings<'_> {
        Mappings::new(&self.sorted)
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.lent.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a process has mapped, for one address after the other: frames that call each other lie in one file mostly.
#[derive(Debug)]
pub struct Mappings<'a> {
    sorted: &'a [Mapping],
    last: Option<&'a Mapping>,
}

impl<'a> Mappings<'a> {
    /// Of `sorted` mappings, by start and without overlaps.
    pub fn new(sorted: &'a [Mapping]) -> Mappings<'a> {
        Mappings { sorted, last: None }
    }

    /// Where address `ip` lies.
    #[inline]
    pub fn place(&mut self, ip: u64) -> Place {
        let Some(mapping) = self.holding(ip) else { return Place::Unknown(ip) };
        let inside = ip - mapping.start;
        match &mapping.what {
            Mapped::File(file) => {
                Place::File { file: file.clone(), offset: mapping.file_offset.wrapping_add(inside) }
            }
            Mapped::Vdso => Place::Vdso(inside),
            Mapped::Anonymous => Place::Anonymous(ip),
        }
    }

    /// The mapping that address `ip` lies in.
    #[inline]
    fn holding(&mut self, ip: u64) -> Option<&'a Mapping> {
        let holds = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&ip);
        let found = self.last.filter(holds).or_else(|| {
            let after = self.sorted.partition_point(|mapping| mapping.start <= ip);
            after.checked_sub(1).and_then(|at| self.sorted.get(at)).filter(holds)
        })?;
        self.last = Some(found);
        Some(found)
    }
}

/// Takes `start..end` out of the mappings, splitting one that reaches over it.
fn cut(mappings: &mut Vec<Mapping>, start: u64, end: u64) {
    let first = mappings.partition_point(|m| m.end <= start);
    let last = mappings.partition_point(|m| m.start < end);
    if first >= last {
        return;
    }
    let mut kept = Vec::new();
    for old in mappings.drain(first..last) {
        if old.start < start {
            kept.push(Mapping { end: start, ..old.clone() });
        }
        if old.end > end {
            let file_offset = old.file_offset.wrapping_add(end - old.start);
            kept.push(Mapping { start: end, file_offset, ..old });
        }
    }
    mappings.splice(first..first, kept);
}
