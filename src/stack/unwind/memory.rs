//! The state of a walk: registers that are known and the copy of the stack, the only memory there is.

use super::{Registers, Snapshot};

/// How far behind the end of a copy an address may still belong to the same stack, in bytes.
const SAME_STACK_BYTES: u64 = 256 << 20;

/// Why a walk goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Here the thread began.
    Root,
    /// There is no rule, or it asks for what is not known.
    NoRule,
    /// What is needed lies behind the end of the copy.
    Truncated,
}

/// The copy of a stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory<'a> {
    base: u64,
    bytes: &'a [u8],
}

impl<'a> Memory<'a> {
    /// The copy that a sample carries.
    pub(super) fn new(snapshot: &Snapshot<'a>) -> Memory<'a> {
        Memory { base: snapshot.registers.values[Registers::SP], bytes: snapshot.stack }
    }

    /// The first address behind the copy.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(self.bytes.len() as u64)
    }

    /// The word at `address`.
    pub(super) fn word(&self, address: u64) -> Result<u64, Stop> {
        self.read(address, 8)
    }

    /// Every whole word at an address that is a multiple of eight, and that address.
    pub(super) fn words(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let skipped = self.base.wrapping_neg() % 8;
        let aligned = usize::try_from(skipped).ok().and_then(|skipped| self.bytes.get(skipped..));
        let words = aligned.unwrap_or_default().as_chunks().0;
        let first = self.base.wrapping_add(skipped);
        (0..).zip(words).map(move |(n, word)| (first.wrapping_add(8 * n), u64::from_le_bytes(*word)))
    }

    /// The little-endian number of `size` bytes, 8 at most, at `address`.
    pub(super) fn read(&self, address: u64, size: u8) -> Result<u64, Stop> {
        let at = address.checked_sub(self.base).ok_or(Stop::NoRule)?;
        let part = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)?.get(..usize::from(size)));
        let Some(part) = part else {
            let near = at.saturating_sub(self.bytes.len() as u64) < SAME_STACK_BYTES;
            return Err(if near { Stop::Truncated } else { Stop::NoRule });
        };
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        Ok(u64::from_le_bytes(word))
    }
}

/// Registers of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    values: [u64; Registers::COUNT],
    /// A bit for each register that is known.
    known: u64,
    /// Whether the instruction pointer is that of an instruction that was interrupted, not a return address.
    pub(super) exact: bool,
}

impl State {
    /// What a sample carries.
    pub(super) fn new(registers: &Registers) -> State {
        State { values: registers.values, known: u64::MAX, exact: true }
    }

    /// The instruction pointer.
    pub(super) fn ip(&self) -> u64 {
        self.values[Registers::IP]
    }

    /// The stack pointer.
    pub(super) fn sp(&self) -> u64 {
        self.values[Registers::SP]
    }

    /// The address whose rule applies: the instruction itself, or the call before the return address.
    pub(super) fn lookup(&self) -> u64 {
        self.ip().wrapping_sub(u64::from(!self.exact))
    }

    /// A register, if it is known.
    pub(super) fn get(&self, register: usize) -> Result<u64, Stop> {
        let value = self.values.get(register).copied().ok_or(Stop::NoRule)?;
        if self.known >> register & 1 == 1 { Ok(value) } else { Err(Stop::NoRule) }
    }

    /// Sets a register.
    pub(super) fn set(&mut self, register: usize, value: u64) {
        if let Some(place) = self.values.get_mut(register) {
            *place = value;
            self.known |= 1 << register;
        }
    }

    /// Forgets a register.
    pub(super) fn forget(&mut self, register: usize) {
        self.known &= !(1_u64.checked_shl(u32::try_from(register).unwrap_or(64)).unwrap_or(0));
    }

    /// Forgets what a called function may have changed, or all but those in the mask `kept`.
    pub(super) fn keep(&mut self, kept: u64) {
        self.known &= kept;
    }
}
