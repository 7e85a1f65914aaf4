//! From symbols as files have them to a [`SymbolTable`]: which of several names wins, and what each one covers.
//!
//! Symbols overlap, share addresses and lack sizes. What is promised:
//! - Of several symbols at one address one wins, always the same: a typed one before an untyped one, one that other
//!   files can see before a local one, then the fewest leading underscores (`write`, not `__write`), then the
//!   shortest, then the first in the file.
//! - A symbol without a size reaches to the next symbol, never past its section or segment.
//! - Of nested functions the inner one wins where it is; behind it the outer one goes on.
//! - Untyped symbols inside a function that has a size are labels and left out.

use std::ops::Range;

use super::elf::Segment;
use super::names::{MAX_NAME_BYTES, NameRef, NameWriter};
use super::source::{Pinned, ReadError};
use super::table::{Piece, SymbolTable};

/// Most functions of one file.
pub const MAX_FUNCTIONS: usize = 1_000_000;

/// What a symbol is worth as a name, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A function that other files can see.
    Global,
    /// A function of this file's own.
    Local,
    /// A symbol without a type: assembly.
    Untyped,
    /// A function's start without a name.
    Unnamed,
}

/// A function that may enter the table.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its virtual address.
    pub address: u64,
    /// Its size in bytes; where it has none, how far it may reach.
    size: u32,
    /// Where its name stands in the strings it came with, then its [`NameRef`].
    name: u32,
    rank: Rank,
    sized: bool,
    underscores: u8,
    length: u16,
}

impl Candidate {
    /// A function at `address`. `size` is its size in bytes if `sized`, else how far it may reach at most; `name` is
    /// an offset into the strings that [`TableBuilder::add`] gets with it.
    pub fn new(address: u64, size: u64, sized: bool, rank: Rank, name: u32) -> Candidate {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Candidate { address, size, name, rank, sized, underscores: 0, length: 0 }
    }

    fn end(&self) -> u64 {
        self.address.saturating_add(self.size.into())
    }
}

/// Collects the functions of one file.
pub struct TableBuilder {
    segments: Vec<Segment>,
    found: Vec<Candidate>,
    names: NameWriter,
}

impl TableBuilder {
    /// For a file with these executable segments: what lies outside of them is left out. No segments: the whole
    /// address space (the kernel).
    pub fn new(segments: Vec<Segment>) -> TableBuilder {
        TableBuilder { segments, found: Vec::new(), names: NameWriter::new() }
    }

    /// How many functions there are so far.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds `candidates`, whose names stand in `strings` of the reader. Those without a name, with a name that only
    /// tools mean (`$x`, `.L…`) are left out.
    pub fn add(
        &mut self,
        reader: &mut Pinned<'_>,
        candidates: Vec<Candidate>,
        strings: &Range<u64>,
    ) -> Result<(), ReadError> {
        self.add_with_suffix(reader, candidates, strings, b"")
    }

    /// Like [`TableBuilder::add`], with `suffix` behind each name.
    pub fn add_with_suffix(
        &mut self,
        reader: &mut Pinned<'_>,
        mut candidates: Vec<Candidate>,
        strings: &Range<u64>,
        suffix: &[u8],
    ) -> Result<(), ReadError> {
        // In the order of their names: the strings are then read once from begin to end.
        candidates.sort_unstable_by_key(|candidate| candidate.name);
        let mut text = Vec::new();
        let mut last: Option<(u32, Option<NameRef>)> = None;
        for candidate in candidates {
            let name = match last {
                Some((offset, name)) if offset == candidate.name => name,
                _ => {
                    let at = strings.start.saturating_add(candidate.name.into());
                    reader.read_name(at, strings.end, MAX_NAME_BYTES, &mut text)?;
                    let named = is_name(&text);
                    text.extend_from_slice(suffix);
                    let name = if named { Some(self.names.push(&text)?) } else { None };
                    last = Some((candidate.name, name));
                    name
                }
            };
            if let Some(name) = name {
                self.keep(candidate, name, &text)?;
            }
        }
        Ok(())
    }

    /// Adds one function called `name`.
    pub fn add_named(&mut self, candidate: Candidate, name: &[u8]) -> Result<(), ReadError> {
        let at = self.names.push(name)?;
        self.keep(candidate, at, name)
    }

    /// Adds a function without a name that covers `addresses`.
    pub fn add_nameless(&mut self, addresses: Range<u64>) -> Result<(), ReadError> {
        let size = addresses.end.saturating_sub(addresses.start);
        self.keep(Candidate::new(addresses.start, size, true, Rank::Unnamed, 0), NameRef::NONE, &[])
    }

    /// Adds function starts that have no name; each reaches to the next function, and to `end` of its range at most.
    pub fn add_unnamed(&mut self, starts: impl Iterator<Item = (u64, u64)>) -> Result<(), ReadError> {
        for (start, end) in starts {
            let candidate = Candidate::new(start, end.saturating_sub(start), false, Rank::Unnamed, 0);
            self.keep(candidate, NameRef::NONE, &[])?;
        }
        Ok(())
    }

    /// The table.
    pub fn finish(mut self) -> Result<SymbolTable, ReadError> {
        let order = |c: &Candidate| (c.address, c.rank, c.underscores, c.length, c.name);
        self.found.sort_unstable_by_key(order);
        self.found.dedup_by(|later, kept| {
            let same = later.address == kept.address;
            if same && later.sized && (!kept.sized || later.size > kept.size) && later.rank <= Rank::Local {
                (kept.size, kept.sized) = (later.size, true);
            }
            same
        });
        let mut covered_to = 0;
        self.found.retain(|candidate| {
            if candidate.sized && candidate.rank <= Rank::Local {
                covered_to = covered_to.max(candidate.end());
            }
            candidate.rank <= Rank::Local || candidate.address >= covered_to
        });
        let mut next = u64::MAX;
        for candidate in self.found.iter_mut().rev() {
            if !candidate.sized {
                candidate.size =
                    u32::try_from(candidate.end().min(next) - candidate.address).unwrap_or(u32::MAX);
            }
            next = candidate.address;
        }
        let pieces = flatten(&self.found);
        drop(self.found);
        SymbolTable::new(self.segments, &pieces, self.names.finish()?)
    }

    fn keep(&mut self, mut candidate: Candidate, name: NameRef, text: &[u8]) -> Result<(), ReadError> {
        if !self.segments.is_empty() {
            let segment =
                self.segments.iter().map(Segment::addresses).find(|range| range.contains(&candidate.address));
            let Some(segment) = segment else { return Ok(()) };
            let most = segment.end - candidate.address;
            candidate.size = u32::try_from(most).unwrap_or(u32::MAX).min(candidate.size);
        }
        if self.found.len() >= MAX_FUNCTIONS {
            return Err(ReadError::TooLarge("the number of functions"));
        }
        candidate.name = name.0;
        let underscores = text.iter().take_while(|byte| **byte == b'_').count();
        candidate.underscores = u8::try_from(underscores).unwrap_or(u8::MAX);
        candidate.length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.found.push(candidate);
        Ok(())
    }
}

/// Whether a person may have given this name: not empty, no mapping symbol of ARM (`$x`), no label of a compiler.
fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && !text.starts_with(b".L") && !matches!(text, [b'$', _] | [b'$', _, b'.', ..])
}

/// Functions, in the order of their addresses, to pieces that do not overlap.
fn flatten(functions: &[Candidate]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(functions.len());
    let mut emit = |start: u64, end: u64, name: u32| {
        if start < end {
            pieces.push(Piece { start, end, name: NameRef(name) });
        }
    };
    let mut open: Vec<(u64, u32)> = Vec::new();
    let mut at = 0;
    for function in functions {
        while let Some((end, name)) = open.pop_if(|(end, _)| *end <= function.address) {
            emit(at, end, name);
            at = at.max(end);
        }
        if let Some((_, name)) = open.last() {
            emit(at, function.address, *name);
        }
        at = function.address;
        open.push((function.end(), function.name));
    }
    while let Some((end, name)) = open.pop() {
        emit(at, end, name);
        at = at.max(end);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(functions: &[(u64, u64, bool, Rank, &str)]) -> SymbolTable {
        let mut builder =
            TableBuilder::new(vec![Segment { offset: 0, file_bytes: 0x10000, address: 0x1000 }]);
        for (address, size, sized, rank, name) in functions {
            builder.add_named(Candidate::new(*address, *size, *sized, *rank, 0), name.as_bytes()).unwrap();
        }
        builder.finish().unwrap()
    }

    fn name_at(table: &SymbolTable, address: u64) -> Option<String> {
        table.lookup(address).map(|(name, _)| String::from_utf8(name).unwrap())
    }

    #[test]
    fn of_several_names_at_one_address_the_nicest_wins_in_any_order() {
        let mut functions = [
            (0x1000, 16, true, Rank::Global, "__libc_write"),
            (0x1000, 16, true, Rank::Global, "write"),
            (0x1000, 16, true, Rank::Local, "a"),
            (0x1000, 0x100, false, Rank::Untyped, "b"),
            (0x1000, 16, true, Rank::Global, "write_alias"),
        ];
        for _ in 0..functions.len() {
            functions.rotate_left(1);
            assert_eq!(name_at(&table(&functions), 0x100f).as_deref(), Some("write"));
        }
    }

    #[test]
    fn sizes_say_what_a_symbol_covers_and_their_lack_reaches_to_the_next() {
        let table = table(&[
            (0x1000, 0x100, true, Rank::Global, "outer"),
            (0x1040, 0x10, true, Rank::Local, "inner"),
            (0x1060, 0x500, false, Rank::Untyped, "label"),
            (0x2000, 0x800, false, Rank::Untyped, "assembly"),
            (0x2100, 0x10, true, Rank::Global, "next"),
            (0x10f00, 0x4000, false, Rank::Global, "last"),
            (0x20000, 0x10, true, Rank::Global, "outside"),
        ]);
        for (address, name) in [
            (0xfff, None),
            (0x1000, Some("outer")),
            (0x1045, Some("inner")),
            (0x1050, Some("outer")),
            (0x1060, Some("outer")),
            (0x10ff, Some("outer")),
            (0x1100, None),
            (0x20ff, Some("assembly")),
            (0x210f, Some("next")),
            (0x2110, None),
            (0x10fff, Some("last")),
            (0x11000, None),
            (0x20000, None),
        ] {
            assert_eq!(name_at(&table, address).as_deref(), name, "{address:x}");
        }
    }
}
