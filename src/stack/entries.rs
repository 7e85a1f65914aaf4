//! Entries of debug information, read by `gimli`'s parsers with every step counted.
//!
//! A few bytes of it can stand for any amount of work: a thousand units may share one table of a megabyte. So each
//! entry, attribute, range and byte of a table costs a step, and who asks says how many there are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugAddr, DebugAddrBase,
    DebugInfo, DebugInfoOffset, DebugLineStr, DebugRanges, DebugRngLists, DebugRngListsBase, DebugStr,
    DebugStrOffsets, DebugStrOffsetsBase, EndianSlice, LittleEndian, RangeLists, RangeListsOffset,
    UnitHeader, UnitOffset, constants,
};

use super::dwarf::Sections;

/// Most tables of abbreviations kept for each file.
const MAX_TABLES: usize = 64;

/// Bytes of a section.
pub type Bytes<'a> = EndianSlice<'a, LittleEndian>;
/// The head of a unit.
pub type Unit<'a> = UnitHeader<Bytes<'a>>;
/// Tables of abbreviations by where they begin.
pub type Tables = HashMap<usize, Arc<Abbreviations>>;

/// Why there is no answer.
#[derive(Debug)]
pub enum Stop {
    /// It contradicts its format.
    Malformed,
    /// It takes too much work.
    Spent,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Stop {
        Stop::Malformed
    }
}

/// What is kept of a unit; offsets are those of sections.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Where it begins in `.debug_info`.
    pub offset: usize,
    /// What addresses in its lists of ranges are relative to.
    pub base: u64,
    /// Where its part of `.debug_addr` begins.
    pub addr_base: usize,
    /// Where its part of `.debug_rnglists` begins.
    pub rnglists_base: usize,
    /// Where its part of `.debug_str_offsets` begins.
    pub str_offsets_base: usize,
}

/// Counts what one call may do.
pub struct Steps(pub u64);

impl Steps {
    /// Takes `count` of them.
    pub fn take(&mut self, count: usize) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(count as u64).ok_or(Stop::Spent)?;
        Ok(())
    }
}

/// Where in `.debug_info` a reference leads, out of the unit at `unit`.
pub fn info_offset(unit: usize, reference: &AttributeValue<Bytes<'_>>) -> Option<usize> {
    match reference {
        AttributeValue::UnitRef(UnitOffset(offset)) => unit.checked_add(*offset),
        AttributeValue::DebugInfoRef(DebugInfoOffset(offset)) => Some(*offset),
        _ => None,
    }
}

/// The sections, as the parsers want them.
pub struct View<'a> {
    /// They.
    pub sections: &'a Sections,
}

impl<'a> View<'a> {
    /// The head of the unit at `offset`.
    pub fn header(&self, offset: usize) -> Result<Unit<'a>, Stop> {
        let info = DebugInfo::new(&self.sections.info, LittleEndian);
        Ok(info.header_from_offset(DebugInfoOffset(offset))?)
    }

    /// The unit's abbreviations. Every byte of the table is a step: many units may name one table.
    pub fn table(
        &self,
        header: &Unit<'a>,
        tables: &mut Tables,
        steps: &mut Steps,
    ) -> Result<Arc<Abbreviations>, Stop> {
        let DebugAbbrevOffset(offset) = header.debug_abbrev_offset();
        if let Some(table) = tables.get(&offset) {
            return Ok(Arc::clone(table));
        }
        let rest = self.sections.abbrev.get(offset..).ok_or(Stop::Malformed)?;
        let length = table_length(rest, steps).ok_or(Stop::Malformed)?;
        let table = DebugAbbrev::new(rest.get(..length).unwrap_or(rest), LittleEndian);
        let table = Arc::new(table.abbreviations(DebugAbbrevOffset(0))?);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(offset, Arc::clone(&table));
        Ok(table)
    }

    /// What its first entry tells of a unit: its bases and its code.
    pub fn unit(
        &self,
        header: &Unit<'a>,
        offset: usize,
        tables: &mut Tables,
        steps: &mut Steps,
    ) -> Result<(Known, Vec<Range<u64>>), Stop> {
        let table = self.table(header, tables, steps)?;
        let mut entries = header.entries_raw(&table, None)?;
        let kind = entries.read_abbreviation()?.ok_or(Stop::Malformed)?;
        steps.take(kind.attributes().len())?;
        let mut attributes = Vec::new();
        entries.read_attributes(kind.attributes(), &mut attributes)?;
        let head = header_bytes(header);
        let mut known = Known { offset, base: 0, addr_base: 8, rnglists_base: head, str_offsets_base: 8 };
        for attribute in &attributes {
            match attribute.value() {
                AttributeValue::DebugAddrBase(base) => known.addr_base = base.0,
                AttributeValue::DebugRngListsBase(base) => known.rnglists_base = base.0,
                AttributeValue::DebugStrOffsetsBase(base) => known.str_offsets_base = base.0,
                _ => {}
            }
        }
        let low = attributes.iter().find(|attribute| attribute.name() == constants::DW_AT_low_pc);
        known.base = low.and_then(|low| self.address(header, &known, &low.value())).unwrap_or(0);
        let mut ranges = Vec::new();
        self.ranges(header, &known, &attributes, steps, |range| ranges.push(range))?;
        Ok((known, ranges))
    }

    /// Calls `each` with the code that `attributes` claim for their entry.
    pub fn ranges(
        &self,
        header: &Unit<'a>,
        known: &Known,
        attributes: &[Attribute<Bytes<'a>>],
        steps: &mut Steps,
        mut each: impl FnMut(Range<u64>),
    ) -> Result<(), Stop> {
        let value = |name| attributes.iter().find(|attribute| attribute.name() == name).map(Attribute::value);
        let lists = RangeLists::new(
            DebugRanges::new(&self.sections.ranges, LittleEndian),
            DebugRngLists::new(&self.sections.rnglists, LittleEndian),
        );
        let list = match value(constants::DW_AT_ranges) {
            Some(AttributeValue::RangeListsRef(offset)) => Some(RangeListsOffset(offset.0)),
            Some(AttributeValue::DebugRngListsIndex(index)) => {
                let base = DebugRngListsBase(known.rnglists_base);
                Some(lists.get_offset(header.encoding(), base, index)?)
            }
            _ => None,
        };
        if let Some(list) = list {
            let addr = DebugAddr::from(EndianSlice::new(&self.sections.addr, LittleEndian));
            let base = DebugAddrBase(known.addr_base);
            let mut list = lists.ranges(list, header.encoding(), known.base, &addr, base)?;
            while let Some(raw) = list.next_raw()? {
                // Also those that are no range of code but a new base, or empty.
                steps.take(1)?;
                if let Some(range) = list.convert_raw(raw)?
                    && range.begin < range.end
                {
                    each(range.begin..range.end);
                }
            }
            return Ok(());
        }
        let Some(begin) = value(constants::DW_AT_low_pc).and_then(|low| self.address(header, known, &low))
        else {
            return Ok(());
        };
        let end = value(constants::DW_AT_high_pc).and_then(|high| match high.udata_value() {
            Some(length) => begin.checked_add(length),
            None => self.address(header, known, &high),
        });
        // Code that the linker left out is at 0.
        if let Some(end) = end.filter(|end| begin != 0 && begin < *end) {
            each(begin..end);
        }
        Ok(())
    }

    /// The address that the attribute `value` stands for.
    fn address(&self, header: &Unit<'a>, known: &Known, value: &AttributeValue<Bytes<'a>>) -> Option<u64> {
        match value {
            AttributeValue::Addr(address) => Some(*address),
            AttributeValue::DebugAddrIndex(index) => {
                let addr = DebugAddr::from(EndianSlice::new(&self.sections.addr, LittleEndian));
                addr.get_address(header.address_size(), DebugAddrBase(known.addr_base), *index).ok()
            }
            _ => None,
        }
    }

    /// The text that the attribute `value` stands for.
    pub fn text(
        &self,
        header: &Unit<'a>,
        known: &Known,
        value: &AttributeValue<Bytes<'a>>,
    ) -> Option<&'a [u8]> {
        let strings = DebugStr::new(&self.sections.str, LittleEndian);
        let text = match value {
            AttributeValue::String(text) => *text,
            AttributeValue::DebugStrRef(offset) => strings.get_str(*offset).ok()?,
            AttributeValue::DebugLineStrRef(offset) => {
                DebugLineStr::new(&self.sections.line_str, LittleEndian).get_str(*offset).ok()?
            }
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let offsets =
                    DebugStrOffsets::from(EndianSlice::new(&self.sections.str_offsets, LittleEndian));
                let base = DebugStrOffsetsBase(known.str_offsets_base);
                strings.get_str(offsets.get_str_offset(header.format(), base, *index).ok()?).ok()?
            }
            _ => return None,
        };
        Some(text.slice())
    }
}

/// Size of the head of a table of range lists.
fn header_bytes(header: &Unit<'_>) -> usize {
    if header.format() == gimli::Format::Dwarf64 { 20 } else { 12 }
}

/// How long the table of abbreviations at the begin of `bytes` is. Each byte is a step.
fn table_length(bytes: &[u8], steps: &mut Steps) -> Option<usize> {
    const IMPLICIT_CONST: u64 = 0x21;
    let mut rest = bytes;
    let mut number = || -> Option<u64> {
        let length = rest.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
        let (text, tail) = rest.split_at_checked(length)?;
        rest = tail;
        steps.take(length).ok()?;
        Some(text.iter().rev().fold(0, |number: u64, byte| number << 7 | u64::from(byte & 0x7f)))
    };
    while number()? != 0 {
        number()?; // tag
        number()?; // whether it has children
        loop {
            let (name, form) = (number()?, number()?);
            if form == IMPLICIT_CONST {
                number()?;
            }
            if name == 0 && form == 0 {
                break;
            }
        }
    }
    Some(bytes.len() - rest.len())
}
