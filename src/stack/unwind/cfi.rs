//! Call frame information: an index of a section's entries, and the row that holds at an address.
//!
//! Entries are parsed by gimli; their programs run here, because the number of steps of a tenant's program is ours to
//! limit.

use std::hash::{Hash, Hasher};

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, DebugFrame, EhFrame,
    EndianSlice, LittleEndian, UnwindOffset, UnwindSection,
};

use super::Registers;
use super::rule::{Cell, Cfa, Row};
use crate::stack::source::Fields;

/// Most instructions that run for one address.
const MAX_STEPS: u32 = 4_096;
/// Largest entry and largest common part of entries in bytes.
const MAX_ENTRY_BYTES: u32 = 64 << 10;
const MAX_COMMON_BYTES: u32 = 4 << 10;
/// Most states an entry may remember at a time.
const MAX_REMEMBERED: usize = 16;
/// Longest expressions of a row together, in bytes.
const MAX_EXPRESSION_BYTES: usize = 512;
/// Most entries of a sorted table, and of a section without one: its entries are parsed one by one.
const MAX_LISTED: usize = 1 << 20;
const MAX_INDEXED: usize = 1 << 18;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Why there is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// No entry covers the address.
    Uncovered,
    /// Its entry makes no sense.
    Malformed,
    /// Its program takes too many steps, or remembers too much.
    Limited,
    /// The walk has spent its steps.
    Spent,
}

/// `.eh_frame` or `.debug_frame` of one file.
#[derive(Debug, PartialEq)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Whether it is a `.debug_frame`.
    debug: bool,
    bases: BaseAddresses,
    /// What `starts` are relative to.
    first: u64,
    /// First addresses of entries, ascending, and where the entries are.
    starts: Vec<u32>,
    offsets: Vec<u32>,
}

impl Frames {
    /// An `.eh_frame` at `address`, with the sorted table of an `.eh_frame_hdr` and its address where there is one.
    pub(super) fn eh(bytes: Vec<u8>, address: u64, text: u64, header: Option<(&[u8], u64)>) -> Frames {
        let mut bases = BaseAddresses::default().set_eh_frame(address).set_text(text);
        if let Some((_, address)) = header {
            bases = bases.set_eh_frame_hdr(address);
        }
        let mut frames = Frames { bytes, debug: false, bases, first: 0, starts: vec![], offsets: vec![] };
        let listed = header.and_then(|(header, at)| sorted_table(header, at, address));
        let listed = listed.unwrap_or_else(|| index(&frames.eh_section(), &frames.bases, &frames.bytes));
        frames.list(listed);
        frames
    }

    /// A `.debug_frame`.
    pub(super) fn debug(bytes: Vec<u8>) -> Frames {
        let bases = BaseAddresses::default();
        let mut frames = Frames { bytes, debug: true, bases, first: 0, starts: vec![], offsets: vec![] };
        let listed = index(&frames.debug_section(), &frames.bases, &frames.bytes);
        frames.list(listed);
        frames
    }

    /// Memory in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + 4 * (self.starts.capacity() + self.offsets.capacity())
    }

    /// The row that holds at `address`.
    ///
    /// `steps` are what the walk may still spend on programs.
    pub(super) fn row(&self, address: u64, steps: &mut u32) -> Result<Row, Missing> {
        let offset = self.entry(address).ok_or(Missing::Uncovered)?;
        if self.debug {
            run(&self.debug_section(), &self.bases, &self.bytes, offset, (address, steps))
        } else {
            run(&self.eh_section(), &self.bases, &self.bytes, offset, (address, steps))
        }
    }

    fn entry(&self, address: u64) -> Option<usize> {
        let relative = u32::try_from(address.checked_sub(self.first)?).ok()?;
        let at = self.starts.partition_point(|start| *start <= relative).checked_sub(1)?;
        usize::try_from(*self.offsets.get(at)?).ok()
    }

    fn list(&mut self, mut listed: Vec<(u64, u32)>) {
        if !listed.is_sorted() {
            listed.sort_unstable();
        }
        self.first = listed.first().map_or(0, |(start, _)| *start);
        // Those more than 4 GiB behind the first are left out.
        let near = listed.partition_point(|(start, _)| start - self.first <= u64::from(u32::MAX));
        listed.truncate(near);
        let starts = listed.iter().map(|(start, _)| u32::try_from(start - self.first).unwrap_or(u32::MAX));
        self.starts = starts.collect();
        self.offsets = listed.iter().map(|(_, offset)| *offset).collect();
    }

    fn eh_section(&self) -> EhFrame<Bytes<'_>> {
        let mut section = EhFrame::new(&self.bytes, LittleEndian);
        section.set_address_size(8);
        if cfg!(target_arch = "aarch64") {
            section.set_vendor(gimli::Vendor::AArch64);
        }
        section
    }

    fn debug_section(&self) -> DebugFrame<Bytes<'_>> {
        let mut section = DebugFrame::new(&self.bytes, LittleEndian);
        section.set_address_size(8);
        if cfg!(target_arch = "aarch64") {
            section.set_vendor(gimli::Vendor::AArch64);
        }
        section
    }
}

impl Hash for Frames {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// Where `.eh_frame` is, by the head of the `.eh_frame_hdr` at `address`.
pub(super) fn eh_frame_address(header: &[u8], address: u64) -> Option<u64> {
    // Version 1; the pointer as 4 bytes, relative to its own place.
    matches!(header.get(..2), Some([1, 0x1b])).then_some(())?;
    address.checked_add(4)?.checked_add_signed(i64::from(Fields(header).u32(4)?.cast_signed()))
}

/// The table of an `.eh_frame_hdr` in the one encoding that linkers write; none for others.
fn sorted_table(header: &[u8], at: u64, section: u64) -> Option<Vec<(u64, u32)>> {
    let [1, pointer, 0x03, 0x3b] = *header.first_chunk::<4>()? else { return None };
    matches!(pointer & 0xf, 0x3 | 0xb).then_some(())?;
    let count = usize::try_from(Fields(header).u32(8)?).ok()?.min(MAX_LISTED);
    let entries = header.get(12..)?.chunks_exact(8).take(count);
    let mut listed = Vec::with_capacity(entries.len());
    listed.extend(entries.filter_map(|entry| {
        let number = |place| Some(i64::from(Fields(entry).u32(place)?.cast_signed()));
        let start = at.checked_add_signed(number(0)?)?;
        let offset = at.checked_add_signed(number(4)?)?.checked_sub(section)?;
        Some((start, u32::try_from(offset).ok()?))
    }));
    (!listed.is_empty()).then_some(listed)
}

/// The entries of a section that has no table of them.
fn index<'a, S>(section: &S, bases: &BaseAddresses, bytes: &[u8]) -> Vec<(u64, u32)>
where
    S: UnwindSection<Bytes<'a>>,
{
    let mut listed = Vec::new();
    let mut entries = section.entries(bases);
    let mut last_cie = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let offset = partial.offset();
        // Entries stand behind their common part, mostly many behind one: it is parsed once for all of these.
        let cie = partial.parse(|section, bases, at| {
            let place: usize = UnwindOffset::into(at);
            is_within(bytes, place, MAX_COMMON_BYTES).ok_or(gimli::Error::UnsupportedOffset)?;
            match &last_cie {
                Some((known, cie)) if *known == place => Ok(Clone::clone(cie)),
                _ => {
                    let cie = section.cie_from_offset(bases, at)?;
                    last_cie = Some((place, cie.clone()));
                    Ok(cie)
                }
            }
        });
        let Ok(entry) = cie else { continue };
        if listed.len() >= MAX_INDEXED {
            break;
        }
        if let Ok(offset) = u32::try_from(offset)
            && entry.len() != 0
        {
            listed.push((entry.initial_address(), offset));
        }
    }
    listed
}

/// Runs the program of the entry at `offset` up to `address`.
fn run<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    bytes: &[u8],
    offset: usize,
    (address, left): (u64, &mut u32),
) -> Result<Row, Missing>
where
    S: UnwindSection<Bytes<'a>, Offset: From<usize>>,
{
    is_within(bytes, offset, MAX_ENTRY_BYTES).ok_or(Missing::Limited)?;
    let common = |section: &S, bases: &BaseAddresses, at: S::Offset| {
        is_within(bytes, UnwindOffset::into(at), MAX_COMMON_BYTES).ok_or(gimli::Error::UnsupportedOffset)?;
        section.cie_from_offset(bases, at)
    };
    let entry = section.fde_from_offset(bases, offset.into(), common).map_err(|_| Missing::Malformed)?;
    if !entry.contains(address) {
        return Err(Missing::Uncovered);
    }
    let cie = entry.cie();
    let mut program = Program {
        row: Row::new(cie.return_address_register().0, entry.is_signal_trampoline()),
        initial: None,
        remembered: Vec::new(),
        steps: MAX_STEPS.min(*left),
        code_factor: cie.code_alignment_factor(),
        data_factor: cie.data_alignment_factor(),
        location: entry.initial_address(),
    };
    let begun = program.steps;
    let ran = program.run_common(cie.instructions(section, bases)).and_then(|()| {
        program.location = entry.initial_address();
        program.run_own(entry.instructions(section, bases), address)
    });
    *left -= begun - program.steps;
    match ran {
        Err(Missing::Limited) if *left == 0 => Err(Missing::Spent),
        ran => ran.and_then(|()| program.row.take_code(bytes)),
    }
}

/// Whether what begins at `offset` says that it is no longer than `limit_bytes`.
fn is_within(bytes: &[u8], offset: usize, limit_bytes: u32) -> Option<()> {
    (Fields(bytes).u32(offset)? <= limit_bytes).then_some(())
}

/// A program that runs.
struct Program {
    row: Row,
    /// The row that the common part made.
    initial: Option<Row>,
    remembered: Vec<Row>,
    /// Steps it may still take.
    steps: u32,
    code_factor: u64,
    data_factor: i64,
    location: u64,
}

impl Program {
    fn run_common(
        &mut self,
        mut instructions: CallFrameInstructionIter<'_, Bytes<'_>>,
    ) -> Result<(), Missing> {
        while let Some(instruction) = instructions.next().map_err(|_| Missing::Malformed)? {
            self.step(instruction)?;
        }
        self.initial = Some(self.row.clone());
        Ok(())
    }

    /// Runs what comes before code behind `address`.
    fn run_own(
        &mut self,
        mut instructions: CallFrameInstructionIter<'_, Bytes<'_>>,
        address: u64,
    ) -> Result<(), Missing> {
        while let Some(instruction) = instructions.next().map_err(|_| Missing::Malformed)? {
            self.step(instruction)?;
            if self.location > address {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, instruction: CallFrameInstruction<usize>) -> Result<(), Missing> {
        use CallFrameInstruction as I;
        self.steps = self.steps.checked_sub(1).ok_or(Missing::Limited)?;
        let factor = self.data_factor;
        let scaled = |offset: u64| offset.cast_signed().wrapping_mul(factor);
        match instruction {
            I::SetLoc { address } => self.location = address,
            I::AdvanceLoc { delta } => {
                let by = u64::from(delta).wrapping_mul(self.code_factor);
                self.location = self.location.saturating_add(by);
            }
            I::DefCfa { register, offset } => {
                self.row.cfa = Cfa::Register(register.0, offset.cast_signed());
            }
            I::DefCfaSf { register, factored_offset } => {
                self.row.cfa = Cfa::Register(register.0, factored_offset.wrapping_mul(factor));
            }
            I::DefCfaRegister { register } => match &mut self.row.cfa {
                Cfa::Register(number, _) => *number = register.0,
                _ => return Err(Missing::Malformed),
            },
            I::DefCfaOffset { offset } => self.set_cfa_offset(offset.cast_signed())?,
            I::DefCfaOffsetSf { factored_offset } => {
                self.set_cfa_offset(factored_offset.wrapping_mul(factor))?;
            }
            I::DefCfaExpression { expression } => {
                let (begin, end) = range(expression)?;
                self.row.cfa = Cfa::Expression(begin, end);
            }
            I::Undefined { register } => self.set(register, Cell::Undefined),
            I::SameValue { register } => self.set(register, Cell::Same),
            I::Offset { register, factored_offset } => {
                self.set(register, Cell::Offset(scaled(factored_offset)));
            }
            I::OffsetExtendedSf { register, factored_offset } => {
                self.set(register, Cell::Offset(factored_offset.wrapping_mul(factor)));
            }
            I::ValOffset { register, factored_offset } => {
                self.set(register, Cell::Value(scaled(factored_offset)));
            }
            I::ValOffsetSf { register, factored_offset } => {
                self.set(register, Cell::Value(factored_offset.wrapping_mul(factor)));
            }
            I::Register { dest_register, src_register } => {
                self.set(dest_register, Cell::Register(src_register.0));
            }
            I::Expression { register, expression } => {
                let (begin, end) = range(expression)?;
                self.set(register, Cell::Expression(begin, end));
            }
            I::ValExpression { register, expression } => {
                let (begin, end) = range(expression)?;
                self.set(register, Cell::ValueExpression(begin, end));
            }
            I::Restore { register } => {
                let number = usize::from(register.0);
                let initial = self.initial.as_ref().ok_or(Missing::Malformed)?;
                let cell = initial.cells.get(number).copied().unwrap_or(Cell::Same);
                self.set(register, cell);
            }
            I::RememberState => {
                if self.remembered.len() >= MAX_REMEMBERED {
                    return Err(Missing::Limited);
                }
                self.remembered.push(self.row.clone());
            }
            I::RestoreState => self.row = self.remembered.pop().ok_or(Missing::Malformed)?,
            _ => {}
        }
        Ok(())
    }

    fn set_cfa_offset(&mut self, to: i64) -> Result<(), Missing> {
        match &mut self.row.cfa {
            Cfa::Register(_, offset) => *offset = to,
            _ => return Err(Missing::Malformed),
        }
        Ok(())
    }

    /// Registers that are not followed are passed over.
    fn set(&mut self, register: gimli::Register, cell: Cell) {
        if let Some(place) = self.row.cells.get_mut(usize::from(register.0)) {
            *place = cell;
        }
    }
}

/// Where an expression is in its section.
fn range(expression: gimli::UnwindExpression<usize>) -> Result<(u32, u32), Missing> {
    if expression.length > MAX_EXPRESSION_BYTES {
        return Err(Missing::Limited);
    }
    let end = expression.offset.checked_add(expression.length).ok_or(Missing::Malformed)?;
    match (u32::try_from(expression.offset), u32::try_from(end)) {
        (Ok(begin), Ok(end)) => Ok((begin, end)),
        _ => Err(Missing::Malformed),
    }
}

impl Row {
    /// Takes over the expressions that the row points at from its section.
    fn take_code(mut self, section: &[u8]) -> Result<Row, Missing> {
        let mut code = Vec::new();
        let mut take = |begin: &mut u32, end: &mut u32| {
            let from = usize::try_from(*begin).unwrap_or(usize::MAX);
            let to = usize::try_from(*end).unwrap_or(usize::MAX);
            let part = section.get(from..to).ok_or(Missing::Malformed)?;
            *begin = u32::try_from(code.len()).unwrap_or(u32::MAX);
            code.extend_from_slice(part);
            *end = u32::try_from(code.len()).unwrap_or(u32::MAX);
            Ok(())
        };
        if let Cfa::Expression(begin, end) = &mut self.cfa {
            take(begin, end)?;
        }
        debug_assert!(self.cells.len() == Registers::COUNT);
        for cell in &mut self.cells {
            if let Cell::Expression(begin, end) | Cell::ValueExpression(begin, end) = cell {
                take(begin, end)?;
            }
        }
        if code.len() > MAX_EXPRESSION_BYTES {
            return Err(Missing::Limited);
        }
        self.code = code;
        Ok(self)
    }
}
