//! From the registers and the copy of a stack to the addresses of its frames.
//!
//! Bounded and defensive: tables, registers and copies are a tenant's. It belongs to one ordinary thread.

use super::process::Mapping;

/// Registers of a thread in user mode, by their DWARF numbers; the last is the instruction pointer.
///
/// x86-64: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip. aarch64: x0 to x30, sp, pc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Their values.
    pub values: [u64; Registers::COUNT],
}

impl Registers {
    /// How many there are.
    pub const COUNT: usize = if cfg!(target_arch = "aarch64") { 33 } else { 17 };
    /// The stack pointer's number.
    pub const SP: usize = if cfg!(target_arch = "aarch64") { 31 } else { 7 };
    /// The frame pointer's number.
    pub const FP: usize = if cfg!(target_arch = "aarch64") { 29 } else { 6 };
    /// The instruction pointer's number.
    pub const IP: usize = Registers::COUNT - 1;
}

/// What a sample carries of its thread in user mode.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// Its registers.
    pub registers: &'a Registers,
    /// Its stack from the stack pointer on, as much as was copied.
    pub stack: &'a [u8],
}

/// A frame that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The leaf's instruction, or a return address. The instruction that a signal interrupted is given as the address
    /// behind it, as if it were a call: what is looked up is one before, whatever it is.
    pub address: u64,
    /// Whether it was found by scanning.
    pub guessed: bool,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the thread's first function.
    Root,
    /// No rule led further.
    Short,
    /// The copy or the limit on frames ended first.
    Truncated,
}

/// Whether what is guessed is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnwindOptions {
    /// Whether code without unwind tables is scanned.
    pub scan: bool,
}

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct UnwindStats {
    /// Walks.
    pub walks: u64,
}

/// Walks stacks.
#[derive(Debug)]
pub struct Unwinder {
    stats: UnwindStats,
}

impl Unwinder {
    /// One that knows nothing yet.
    pub fn new(_options: UnwindOptions) -> Unwinder {
        Unwinder { stats: UnwindStats::default() }
    }

    /// Counts so far.
    pub fn stats(&self) -> UnwindStats {
        self.stats
    }

    /// Walks the user part of a stack, leaf first, into `frames` (cleared before). `mappings` are those of the process
    /// at the time of the sample, sorted by start.
    pub fn unwind(&mut self, mappings: &[Mapping], snapshot: Snapshot<'_>, frames: &mut Vec<Frame>) -> End {
        let _ = (mappings, snapshot);
        frames.clear();
        End::Short
    }
}
