//! What leads from a frame to its caller, in the forms that are kept: small, and without the file it was read from.

use std::sync::Arc;

use super::Registers;
use super::expression::evaluate;
use super::memory::{Memory, State, Stop};

/// The DWARF number of the return address, a bit for each register that calls leave as they are, and the bits that
/// a return address has (pointer authentication uses the others).
#[cfg(not(target_arch = "aarch64"))]
mod machine {
    pub(crate) const RETURN: usize = 16;
    pub(crate) const KEPT: u64 = 1 << 3 | 1 << 6 | 1 << 7 | 0xf000;
    pub(crate) const CODE_BITS: u64 = u64::MAX;
}
#[cfg(target_arch = "aarch64")]
mod machine {
    pub(crate) const RETURN: usize = 30;
    pub(crate) const KEPT: u64 = 0x3ff8_0000 | 1 << 31;
    pub(crate) const CODE_BITS: u64 = 0x0000_ffff_ffff_ffff;
}
pub(super) use machine::RETURN;
use machine::{CODE_BITS, KEPT};

/// What is known of a place in code.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// Nothing.
    None,
    /// Nothing called this.
    Root,
    /// Nearly every rule of a compiler.
    Plain(Plain),
    /// Any other rule of unwind tables.
    Full(Arc<Row>),
    /// Go code: the stack pointer stands this far below the return address.
    Go(u32),
    /// Go code that moves to another stack: only the frame pointer tells.
    GoSwitch,
    /// Code that returns from a signal, known by its instructions.
    SignalReturn,
}

/// Registers saved at offsets from a frame's address, which is a register and an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain {
    cfa_offset: i32,
    cfa_register: u8,
    count: u8,
    registers: [u8; 8],
    offsets: [i16; 8],
}

/// Where the address of a frame comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cfa {
    /// Not defined.
    Unknown,
    /// A register and an offset.
    Register(u16, i64),
    /// An expression, as a range of [`Row::code`].
    Expression(u32, u32),
}

/// Where a register of the caller comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// It was not changed.
    Same,
    /// It is lost.
    Undefined,
    /// Saved at this offset from the frame's address.
    Offset(i64),
    /// The frame's address and this.
    Value(i64),
    /// In another register.
    Register(u16),
    /// Saved where an expression says.
    Expression(u32, u32),
    /// What an expression says.
    ValueExpression(u32, u32),
}

/// A row of an unwind table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The frame's address.
    pub(super) cfa: Cfa,
    /// The caller's registers.
    pub(super) cells: [Cell; Registers::COUNT],
    /// The return address's number.
    pub(super) return_register: u16,
    /// Whether the caller was interrupted by a signal.
    pub(super) signal: bool,
    /// The expressions.
    pub(super) code: Vec<u8>,
}

impl Row {
    /// A row that says nothing yet.
    pub(super) fn new(return_register: u16, signal: bool) -> Row {
        Row {
            cfa: Cfa::Unknown,
            cells: [Cell::Same; Registers::COUNT],
            return_register,
            signal,
            code: Vec::new(),
        }
    }

    /// The smallest form of it.
    pub(super) fn compact(self) -> Rule {
        let returns = self.cells.get(usize::from(self.return_register));
        if returns == Some(&Cell::Undefined) {
            return Rule::Root;
        }
        if usize::from(self.return_register) == RETURN
            && !self.signal
            && let Some(plain) = self.plain()
        {
            return Rule::Plain(plain);
        }
        Rule::Full(Arc::new(self))
    }

    fn plain(&self) -> Option<Plain> {
        let Cfa::Register(register, offset) = self.cfa else { return None };
        let mut plain = Plain {
            cfa_offset: i32::try_from(offset).ok()?,
            cfa_register: u8::try_from(register).ok()?,
            count: 0,
            registers: [0; 8],
            offsets: [0; 8],
        };
        let changed = self.cells.iter().enumerate().filter(|(_, cell)| **cell != Cell::Same);
        for (register, cell) in changed {
            let Cell::Offset(offset) = *cell else { return None };
            let at = usize::from(plain.count);
            *plain.registers.get_mut(at)? = u8::try_from(register).ok()?;
            *plain.offsets.get_mut(at)? = i16::try_from(offset).ok()?;
            plain.count += 1;
        }
        Some(plain)
    }

    /// The caller's state. Returns it with whether it was interrupted by a signal.
    pub(super) fn apply(&self, state: &State, memory: &Memory<'_>) -> Result<State, Stop> {
        let code = |begin: u32, end: u32| {
            let range = usize::try_from(begin).ok()?..usize::try_from(end).ok()?;
            self.code.get(range)
        };
        let run =
            |begin, end, initial| evaluate(code(begin, end).ok_or(Stop::NoRule)?, initial, state, memory);
        let cfa = match self.cfa {
            Cfa::Unknown => return Err(Stop::NoRule),
            Cfa::Register(register, offset) => {
                state.get(usize::from(register))?.checked_add_signed(offset).ok_or(Stop::NoRule)?
            }
            Cfa::Expression(begin, end) => run(begin, end, None)?,
        };
        let mut next = *state;
        next.keep(KEPT);
        next.set(Registers::SP, cfa);
        for (register, cell) in self.cells.iter().enumerate() {
            let value = match *cell {
                Cell::Same => continue,
                Cell::Undefined => Err(Stop::NoRule),
                Cell::Offset(offset) => match cfa.wrapping_add_signed(offset) {
                    place if is_popped(state, place) => continue,
                    place => memory.word(place),
                },
                Cell::Value(offset) => Ok(cfa.wrapping_add_signed(offset)),
                Cell::Register(other) => state.get(usize::from(other)),
                Cell::Expression(begin, end) => {
                    run(begin, end, Some(cfa)).and_then(|address| memory.word(address))
                }
                Cell::ValueExpression(begin, end) => run(begin, end, Some(cfa)),
            };
            match value {
                Ok(value) => next.set(register, value),
                // Only what is needed later is missed.
                Err(_) if register != usize::from(self.return_register) => next.forget(register),
                Err(stop) => return Err(stop),
            }
        }
        let return_register = usize::from(self.return_register);
        let address = match self.cells.get(return_register) {
            Some(Cell::Same) => same_return(state, return_register)?,
            Some(Cell::Offset(offset)) if is_popped(state, cfa.wrapping_add_signed(*offset)) => {
                same_return(state, return_register)?
            }
            _ => next.get(return_register)?,
        };
        finish(&mut next, address, self.signal);
        Ok(next)
    }
}

impl Plain {
    /// The caller's state.
    pub(super) fn apply(&self, state: &State, memory: &Memory<'_>) -> Result<State, Stop> {
        let cfa = state.get(usize::from(self.cfa_register))?;
        let cfa = cfa.checked_add_signed(i64::from(self.cfa_offset)).ok_or(Stop::NoRule)?;
        let mut next = *state;
        next.keep(KEPT);
        next.set(Registers::SP, cfa);
        let mut address = None;
        let count = usize::from(self.count);
        for (register, offset) in self.registers.iter().zip(&self.offsets).take(count) {
            let place = cfa.wrapping_add_signed(i64::from(*offset));
            if is_popped(state, place) {
                continue;
            }
            let value = memory.word(place);
            if usize::from(*register) == RETURN {
                address = Some(value?);
            } else {
                match value {
                    Ok(value) => next.set(usize::from(*register), value),
                    Err(_) => next.forget(usize::from(*register)),
                }
            }
        }
        let address = address.map_or_else(|| same_return(state, RETURN), Ok)?;
        finish(&mut next, address, false);
        Ok(next)
    }
}

/// Whether a register that was saved at `place` has its old value again: at the end of a function tables still tell
/// where it was saved, although that lies below the stack pointer, and in no copy.
fn is_popped(state: &State, place: u64) -> bool {
    state.exact && place < state.sp()
}

/// Where no rule tells of the return address: it is where the call put it, if that is a register.
fn same_return(state: &State, register: usize) -> Result<u64, Stop> {
    if register == Registers::IP { Err(Stop::NoRule) } else { state.get(register) }
}

fn finish(next: &mut State, address: u64, signal: bool) {
    if !signal && RETURN != Registers::IP {
        next.forget(RETURN); // the call that is under way has overwritten it
    }
    next.set(Registers::IP, address & CODE_BITS);
    next.exact = signal;
}

/// The caller of Go code whose return address stands `delta` bytes above the stack pointer.
pub(super) fn apply_go(delta: u32, state: &State, memory: &Memory<'_>) -> Result<State, Stop> {
    let at = state.sp().checked_add(u64::from(delta)).ok_or(Stop::NoRule)?;
    let address = memory.word(at)?;
    let mut next = *state;
    next.keep(1 << Registers::SP | 1 << Registers::FP);
    // Established: the caller's is saved below the return address.
    if let Ok(pointer) = state.get(Registers::FP)
        && delta >= 8
        && pointer == at.wrapping_sub(8)
    {
        match memory.word(pointer) {
            Ok(saved) => next.set(Registers::FP, saved),
            Err(_) => next.forget(Registers::FP),
        }
    }
    next.set(Registers::SP, at.wrapping_add(8));
    finish(&mut next, address, false);
    Ok(next)
}

/// The caller by the frame pointer.
pub(super) fn apply_frame_pointer(state: &State, memory: &Memory<'_>) -> Result<State, Stop> {
    let pointer = state.get(Registers::FP)?;
    if !pointer.is_multiple_of(8) || pointer < state.sp() {
        return Err(Stop::NoRule);
    }
    let (saved, address) = (memory.word(pointer)?, memory.word(pointer.wrapping_add(8))?);
    let mut next = *state;
    next.keep(0);
    next.set(Registers::FP, saved);
    next.set(Registers::SP, pointer.wrapping_add(16));
    finish(&mut next, address, false);
    Ok(next)
}

/// The state that a signal interrupted, from the kernel's frame that the stack pointer points at (x86-64).
pub(super) fn apply_signal_return(state: &State, memory: &Memory<'_>) -> Result<State, Stop> {
    /// `uc_mcontext` in `ucontext_t`.
    const CONTEXT: u64 = 40;
    /// DWARF numbers in the order of the kernel's `sigcontext`.
    const ORDER: [usize; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    let mut next = *state;
    next.keep(0);
    for (index, register) in ORDER.into_iter().enumerate() {
        let at = state.sp().wrapping_add(CONTEXT + 8 * index as u64);
        next.set(register, memory.word(at)?);
    }
    next.exact = true;
    Ok(next)
}
