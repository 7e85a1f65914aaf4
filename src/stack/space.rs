//! What is mapped for execution, and where in it an address lies.

use std::sync::Arc;

use super::file::{MappedFile, Place};

/// Most executable mappings kept of a process, some 64 bytes each.
pub(super) const MAX_MAPPINGS: usize = 4_096;

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

/// What a process has mapped at one moment, for who looks its addresses up later.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    version: u64,
    sorted: Arc<Vec<Mapping>>,
    /// Whether code that is made at run time may lie in one of them, or did.
    has_made: bool,
}

impl AddressSpace {
    /// Of `sorted` mappings, by start and without overlaps; `version` is that of no other, and not 0.
    pub fn new(version: u64, sorted: Vec<Mapping>) -> AddressSpace {
        let has_made = sorted.iter().any(|mapping| mapping.what.may_be_made());
        AddressSpace { version, sorted: Arc::new(sorted), has_made }
    }

    /// A number that stands for what is mapped: as long as it is the same, so is where addresses lie.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is mapped, for one address after the other.
    pub fn mappings(&self) -> Mappings<'_> {
        Mappings::new(&self.sorted)
    }

    /// The same, sorted by start.
    pub fn sorted(&self) -> &[Mapping] {
        &self.sorted
    }

    /// How much is mapped.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether one of `addresses` may be code that is made at run time.
    pub fn has_made(&self, mut addresses: impl Iterator<Item = u64>) -> bool {
        let mut mapped = self.mappings();
        self.has_made
            && addresses.any(|ip| mapped.holding(ip).is_some_and(|mapping| mapping.what.may_be_made()))
    }

    /// Memory in bytes that lives for as long as the first two who have it do.
    pub fn bytes_of_first(&self) -> usize {
        if Arc::strong_count(&self.sorted) > 2 { 0 } else { size_of_val(self.sorted.as_slice()) }
    }

    /// Something was mapped; what lay there before is gone. From now on `version` stands for what is mapped.
    pub(super) fn map(&mut self, mapping: Mapping, version: u64) {
        self.version = version;
        self.has_made |= mapping.what.may_be_made();
        // Samples that wait for their names may have it, too: theirs stays as it was.
        let mappings = Arc::make_mut(&mut self.sorted);
        cut(mappings, mapping.start, mapping.end);
        if mappings.len() < MAX_MAPPINGS {
            let at = mappings.partition_point(|m| m.start < mapping.start);
            mappings.insert(at, mapping);
        }
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
