//! Go's own unwind table: for each instruction of a function, how far the stack pointer has moved since its entry.

use std::hash::{Hash, Hasher};

use super::rule::Rule;
use crate::stack::gopclntab::{GoTable, Layout};
use crate::stack::source::{Fields, ReadError, Source};

/// Most steps of one function's table.
const MAX_STEPS: usize = 65_536;
/// Most functions that change stacks.
const MAX_SWITCHING: usize = 256;
/// Nothing calls a function with this flag: its frame is a stack's outermost.
const TOP_FRAME: u8 = 1;
/// A function with this flag moves to another stack.
const WRITES_STACK_POINTER: u8 = 2;

/// The part of a `.gopclntab` that unwinding needs.
#[derive(Debug, PartialEq)]
pub(super) struct GoFrames {
    layout: Layout,
    /// What stands in the file from `begin` on.
    bytes: Vec<u8>,
    begin: u64,
    /// First addresses of functions that leave a goroutine for good: what they call stands on the thread's own stack.
    leaving: Vec<u64>,
}

impl Hash for GoFrames {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl GoFrames {
    /// Reads it. At most `limit_bytes` are read.
    pub(super) fn read(
        source: &Source<'_>,
        table: &GoTable,
        layout: Layout,
        limit_bytes: usize,
    ) -> Result<GoFrames, ReadError> {
        let begin = layout.values.start.min(layout.list.start).min(layout.records.start);
        let length = usize::try_from(table.range.end.saturating_sub(begin)).unwrap_or(usize::MAX);
        if length > limit_bytes {
            return Err(ReadError::TooLarge("gopclntab"));
        }
        let mut bytes = vec![0; length];
        source.read_at(begin, &mut bytes)?;
        let mut frames = GoFrames { layout, bytes, begin, leaving: Vec::new() };
        frames.leaving = frames
            .switching()
            .filter(|(_, record)| frames.is_leaving(source, *record))
            .map(|f| f.0)
            .collect();
        Ok(frames)
    }

    /// Memory in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// First address of the function at `address`.
    pub(super) fn function(&self, address: u64) -> Option<u64> {
        self.find(address).map(|(start, _)| start)
    }

    /// The rule at `address`, if a function of Go covers it.
    pub(super) fn rule(&self, address: u64) -> Option<Rule> {
        let (start, record) = self.find(address)?;
        let entry = self.layout.entry_bytes();
        let record = Fields(self.bytes.get(record..)?);
        if let Some(flags_at) = self.layout.flags_at() {
            let flags = record.u8(flags_at)?;
            if flags & TOP_FRAME != 0 {
                return Some(Rule::Root);
            }
            if flags & WRITES_STACK_POINTER != 0 {
                return Some(if self.leaving.contains(&start) { Rule::Root } else { Rule::GoSwitch });
            }
        }
        let values = u64::from(record.u32(entry + 12)?);
        let delta = (values != 0).then(|| self.delta(values, address - start)).flatten();
        Some(delta.map_or(Rule::None, Rule::Go))
    }

    /// Functions that change stacks, by first address and record; a few dozen.
    fn switching(&self) -> impl Iterator<Item = (u64, usize)> {
        let entry = self.layout.entry_bytes();
        let list = self.at(self.layout.list.start).and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let functions = list.chunks_exact(2 * entry).take(usize::try_from(self.layout.count).unwrap_or(0));
        functions
            .filter_map(move |function| {
                let start = Fields(function).word(0, entry == 8)?;
                let record = Fields(function).word(entry, entry == 8)?;
                let record = self.at(self.layout.records.start.checked_add(record)?)?;
                let flags = Fields(self.bytes.get(record..)?).u8(self.layout.flags_at()?)?;
                (flags & WRITES_STACK_POINTER != 0).then_some((self.layout.text.checked_add(start)?, record))
            })
            .take(MAX_SWITCHING)
    }

    fn is_leaving(&self, source: &Source<'_>, record: usize) -> bool {
        const NAME: &[u8] = b"runtime.mcall\0";
        let at = self.bytes.get(record..).and_then(|record| Fields(record).u32(self.layout.entry_bytes()));
        let at = at.and_then(|at| self.layout.names.start.checked_add(u64::from(at)));
        let mut name = [0; NAME.len()];
        at.is_some_and(|at| source.read_at(at, &mut name).is_ok()) && name == NAME
    }

    /// A function's first address and its record.
    fn find(&self, address: u64) -> Option<(u64, usize)> {
        let entry = self.layout.entry_bytes();
        let list = self.bytes.get(self.at(self.layout.list.start)?..self.at(self.layout.list.end)?)?;
        let count = usize::try_from(self.layout.count).ok()?;
        let number = |index: usize| Fields(list).word(index.checked_mul(entry)?, entry == 8);
        let relative = address.checked_sub(self.layout.text)?;
        // Pairs of start and record, and behind the last one the end of the code.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if number(2 * middle)? <= relative { low = middle + 1 } else { high = middle }
        }
        let at = low.checked_sub(1)?;
        let (start, record, end) = (number(2 * at)?, number(2 * at + 1)?, number(2 * at + 2)?);
        if relative >= end || relative < start {
            return None;
        }
        let record = self.at(self.layout.records.start.checked_add(record)?)?;
        let again = Fields(self.bytes.get(record..)?).word(0, entry == 8)?;
        (again == start).then_some((self.layout.text + start, record))
    }

    /// The value that holds `inside` bytes behind a function's start: pairs of a signed step of the value and how
    /// many instructions it holds for, both as varints.
    fn delta(&self, values: u64, inside: u64) -> Option<u32> {
        let at = self.at(self.layout.values.start.checked_add(values)?)?;
        let mut rest = self.bytes.get(at..)?;
        let (mut value, mut pc) = (-1_i64, 0_u64);
        for step in 0..MAX_STEPS {
            let by = varint(&mut rest)?;
            if by == 0 && step > 0 {
                return None;
            }
            let by = i64::from(by);
            value = value.wrapping_add(by >> 1 ^ -(by & 1));
            pc = pc.wrapping_add(u64::from(varint(&mut rest)?).wrapping_mul(u64::from(self.layout.quantum)));
            if inside < pc {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    fn at(&self, place: u64) -> Option<usize> {
        usize::try_from(place.checked_sub(self.begin)?).ok().filter(|at| *at <= self.bytes.len())
    }
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
