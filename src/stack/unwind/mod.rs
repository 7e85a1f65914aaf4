//! From the registers and the copy of a stack to the addresses of its frames.
//!
//! Unwind tables of files become small rules, kept by their place in the file, so that all processes of a program share
//! them. No crate does this for hostile programs: frames are never invented (what is guessed is marked), expressions
//! read the copy alone, and every program, walk and table has a limit.
//!
//! | file | what |
//! |---|---|
//! | `walk` | one walk, frame by frame |
//! | `scan` | what is tried where no rule leads on |
//! | `rule`, `memory`, `expression` | a rule, and how it makes the caller of a frame |
//! | `places`, `place` | what was learned of places in files |
//! | `tables`, `cfi`, `go` | rules from files |
//! | `shared` | equal tables, held once |
//! | `code` | what a few bytes of code tell |
//!
//! It belongs to one ordinary thread. A walk over known places allocates nothing.

use std::sync::Arc;

mod cfi;
mod code;
mod expression;
mod go;
mod memory;
mod place;
mod places;
mod rule;
mod scan;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

use self::code::Call;
use self::memory::State;
use self::places::Places;
use self::rule::{Row, Rule};
use self::scan::Choice;
use self::tables::Tables;
use self::walk::Walk;
use super::apart::Parser;
use super::space::Mapping;
use super::vdso;

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

/// How stacks are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnwindOptions {
    /// Whether code without rules is passed by searching the copy for return addresses.
    pub scan: bool,
}

impl Default for UnwindOptions {
    fn default() -> UnwindOptions {
        UnwindOptions { scan: true }
    }
}

/// How unwinding went so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnwindStats {
    /// Stacks walked.
    pub walks: u64,
    /// Those that reached the thread's first function.
    pub roots: u64,
    /// Those that no rule led further.
    pub short: u64,
    /// Those that reached the end of the copy or the limit on frames.
    pub truncated: u64,
    /// Those with at least one guessed frame.
    pub guessed: u64,
    /// Walks given up after too many attempts.
    pub steps_limited: u64,
    /// Places without a rule because an entry was too large or its program took too many steps.
    pub rules_limited: u64,
    /// Files whose tables make no sense, or are larger than the limit.
    pub tables_refused: u64,
    /// Tables dropped for others.
    pub tables_dropped: u64,
    /// Size of the tables that are kept, in bytes.
    pub table_bytes: u64,
}

/// Walks stacks.
#[derive(Debug)]
pub struct Unwinder {
    parts: Parts,
}

/// What an unwinder keeps from one walk to the next.
#[derive(Debug)]
struct Parts {
    options: UnwindOptions,
    tables: Tables,
    /// Small rules. Full ones may take a kilobyte each, and are few: they have a small table.
    rules: Places<Rule>,
    rows: Places<Arc<Row>>,
    /// How the code before a return address calls, by the place of the latter.
    calls: Places<Call>,
    /// How far from a function's begin another one lies, and whether the first jumps there.
    jumps: Places<(u64, bool)>,
    choices: Vec<Choice>,
    /// Words of the copy that point into code, by where they are.
    pointers: Vec<(u64, u64)>,
    stats: UnwindStats,
}

impl Default for Unwinder {
    fn default() -> Unwinder {
        Unwinder::new(UnwindOptions::default(), Parser::here())
    }
}

impl Unwinder {
    /// An unwinder that knows nothing but the vdso, and has files read by `parser`.
    pub fn new(options: UnwindOptions, parser: Parser) -> Unwinder {
        let parts = Parts {
            options,
            tables: Tables::new(vdso::image(), parser),
            rules: Places::new(15),
            rows: Places::new(11),
            calls: Places::new(13),
            jumps: Places::new(10),
            choices: Vec::with_capacity(16),
            pointers: Vec::new(),
            stats: UnwindStats::default(),
        };
        Unwinder { parts }
    }

    /// Walks the user part of a stack, leaf first, into `frames` (cleared before). `mappings` are those of the process
    /// at the time of the sample, sorted by start.
    pub fn unwind(&mut self, mappings: &[Mapping], snapshot: Snapshot<'_>, frames: &mut Vec<Frame>) -> End {
        let end = Walk::new(&mut self.parts, mappings, &snapshot, frames).run(State::new(snapshot.registers));
        let stats = &mut self.parts.stats;
        stats.walks += 1;
        stats.guessed += u64::from(frames.iter().any(|frame| frame.guessed));
        match end {
            End::Root => stats.roots += 1,
            End::Short => stats.short += 1,
            End::Truncated => stats.truncated += 1,
        }
        end
    }

    /// The return address of the leaf by its rule alone; none where there is no rule, or nothing called it. It mends
    /// chains of frame pointers, which lose the caller of a leaf without a frame.
    pub fn first_caller(&mut self, mappings: &[Mapping], snapshot: Snapshot<'_>) -> Option<u64> {
        let mut frames = Vec::new();
        let mut walk = Walk::new(&mut self.parts, mappings, &snapshot, &mut frames);
        let next = walk.caller(&State::new(snapshot.registers)).ok()?;
        Some(next.ip().wrapping_add(u64::from(next.exact)))
    }

    /// How long tables were read so far, in nanoseconds.
    pub fn reading_ns(&self) -> u64 {
        self.parts.tables.reading_ns
    }

    /// Keeps a quarter of the tables from now on (`true`), or as much as ever.
    pub fn keep_less(&mut self, less: bool) {
        self.parts.tables.keep_less(less);
    }

    /// Forgets tables of files that nobody has any more.
    pub fn forget_gone(&mut self) {
        self.parts.tables.forget_gone();
    }

    /// How unwinding went so far.
    pub fn stats(&self) -> UnwindStats {
        let tables = &self.parts.tables;
        UnwindStats {
            tables_refused: tables.refused,
            tables_dropped: tables.dropped,
            table_bytes: tables.memory_bytes() as u64,
            ..self.parts.stats
        }
    }

    /// Memory of tables and of what was learned, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let Parts { tables, rules, rows, calls, jumps, .. } = &self.parts;
        let full = rows.memory_bytes() + rows.count() * size_of::<Row>();
        tables.memory_bytes() + rules.memory_bytes() + full + calls.memory_bytes() + jumps.memory_bytes()
    }
}
