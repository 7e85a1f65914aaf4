//! The bytes of a perf record to values. Own parser: none that is published knows `PERF_SAMPLE_CGROUP`.
//!
//! Pure and bounded: any bytes give a record or none, never a panic, and no length inside them is believed.

use std::sync::Arc;

use super::told::words;
use crate::model::{BuildId, CgroupId, Pid};
use crate::sys::perf_bindings as abi;

/// A value with the time (monotonic clock, nanoseconds) and CPU it happened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped<T> {
    /// Monotonic clock in nanoseconds.
    pub time_ns: u64,
    /// The CPU whose ring it came from.
    pub cpu: u32,
    /// What happened.
    pub value: T,
}

/// What happens to processes and cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideBand {
    /// A process mapped a file for execution.
    Mmap {
        /// Process.
        pid: Pid,
        /// First address.
        start: u64,
        /// Length in bytes.
        len: u64,
        /// Offset in the file in bytes.
        file_offset: u64,
        /// Inode of the file; 0 where the kernel gave a build id instead.
        inode: u64,
        /// Build id, where the kernel found one and we asked.
        build_id: Option<BuildId>,
        /// Path as the process sees it, or `[vdso]`, `//anon` and the like.
        path: String,
    },
    /// A thread got a name.
    Comm {
        /// Process.
        pid: Pid,
        /// Thread.
        tid: Pid,
        /// Whether by `execve`.
        exec: bool,
        /// The name.
        comm: String,
    },
    /// A process or thread began.
    Fork {
        /// Process.
        pid: Pid,
        /// Its parent process; the same for a new thread.
        parent: Pid,
        /// Thread.
        tid: Pid,
    },
    /// A thread ended; the process with it where `pid == tid`.
    Exit {
        /// Process.
        pid: Pid,
        /// Thread.
        tid: Pid,
    },
    /// A cgroup was made.
    Cgroup {
        /// Its id.
        id: CgroupId,
        /// Its path from the hierarchy's root.
        path: String,
    },
    /// Records the kernel could not write.
    Lost {
        /// How many.
        count: u64,
    },
}

/// One sample, as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSample {
    /// Monotonic clock in nanoseconds.
    pub time_ns: u64,
    /// The CPU.
    pub cpu: u32,
    /// Process.
    pub pid: Pid,
    /// Thread.
    pub tid: Pid,
    /// Time it stands for in nanoseconds.
    pub period_ns: u64,
    /// The cgroup it ran in: the leaf.
    pub cgroup: CgroupId,
    /// Instruction pointers, leaf first, with the kernel's context markers between them (see [`context`]).
    pub chain: Arc<[u64]>,
    /// The thread in user mode, where the event copies it.
    pub user: Option<Box<UserState>>,
}

/// Registers that are copied, by their DWARF numbers; the last is the instruction pointer.
#[cfg(not(target_arch = "aarch64"))]
pub const REGISTERS: usize = 17;
/// Registers that are copied, by their DWARF numbers; the last is the instruction pointer.
#[cfg(target_arch = "aarch64")]
pub const REGISTERS: usize = 33;

/// A thread of 64 bits as it was in user mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserState {
    /// x86-64: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip. aarch64: x0 to x30, sp, pc.
    pub registers: [u64; REGISTERS],
    /// Its stack from the stack pointer on, as much as was asked for and could be read.
    pub stack: Vec<u8>,
}

/// A record of the sample ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A sample.
    Sample(RawSample),
    /// Samples the kernel could not write.
    Lost(u64),
    /// The kernel held the event back because it fired too often.
    Throttled,
    /// Something else, skipped.
    Other,
}

/// How a sample is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// With registers and a copy of the stack.
    pub copies: bool,
    /// Of an event that is scoped by a cgroup: the event's identifier tells which, no field of the sample does.
    pub scoped: bool,
}

/// A thread leaves a CPU, or comes back to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// It leaves: where it is. What it is scoped by is as in a scoped sample.
    Leaves(RawSample),
    /// It has left; whether it would have gone on.
    Left {
        /// Thread.
        tid: Pid,
        /// Whether it was preempted.
        preempted: bool,
    },
    /// It runs again.
    Back {
        /// Thread.
        tid: Pid,
    },
    /// Records the kernel could not write.
    Lost(u64),
}

/// What part of the chain follows a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Kernel addresses.
    Kernel,
    /// User addresses.
    User,
    /// Something else (hypervisor, guest): its addresses are not ours to name.
    Foreign,
}

/// What the chain's entry `ip` marks, if it is a marker.
pub fn context(ip: u64) -> Option<Context> {
    match ip {
        abi::PERF_CONTEXT_KERNEL => Some(Context::Kernel),
        abi::PERF_CONTEXT_USER => Some(Context::User),
        ip if ip >= abi::PERF_CONTEXT_MAX => Some(Context::Foreign),
        _ => None,
    }
}

/// `sample_type` of the sampling event; [`parse_sample`] reads exactly this.
pub(super) const SAMPLE_TYPE: u64 = (abi::PERF_SAMPLE_IDENTIFIER
    | abi::PERF_SAMPLE_TID
    | abi::PERF_SAMPLE_TIME
    | abi::PERF_SAMPLE_CPU
    | abi::PERF_SAMPLE_PERIOD
    | abi::PERF_SAMPLE_CALLCHAIN
    | abi::PERF_SAMPLE_CGROUP) as u64;

/// `sample_type` of an event that is scoped by a cgroup: the identifier tells which. Kernels before 5.7 have no other.
pub(super) const SCOPED_TYPE: u64 = SAMPLE_TYPE & !(abi::PERF_SAMPLE_CGROUP as u64);

/// What a copy of the stack adds to a sample, before its cgroup.
pub(super) const COPIED_FIELDS: u64 = (abi::PERF_SAMPLE_REGS_USER | abi::PERF_SAMPLE_STACK_USER) as u64;

/// `sample_regs_user`: a bit for each register, in the kernel's numbers.
#[cfg(not(target_arch = "aarch64"))]
pub(super) const REGISTER_MASK: u64 = 0x00ff_01ff;
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTER_MASK: u64 = (1 << REGISTERS) - 1;

/// The DWARF numbers of what the kernel writes, in its order: ax, bx, cx, dx, si, di, bp, sp, ip, r8 to r15.
#[cfg(not(target_arch = "aarch64"))]
const DWARF_NUMBERS: [usize; REGISTERS] = [0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15];

/// `sample_type` of the side-band event; with `sample_id_all` each record ends in these fields.
pub(super) const SIDE_BAND_TYPE: u64 =
    (abi::PERF_SAMPLE_IDENTIFIER | abi::PERF_SAMPLE_TID | abi::PERF_SAMPLE_TIME | abi::PERF_SAMPLE_CPU)
        as u64;

/// Bytes of a record's header: type, misc, size.
pub(super) const HEADER_BYTES: usize = 8;
/// Bytes of a sample before the chain's length: identifier, pid+tid, time, cpu+reserved, period.
const SAMPLE_FIXED_BYTES: usize = 40;
/// Bytes of the fields that `sample_id_all` puts behind every other record: pid+tid, time, cpu+reserved, identifier.
const TRAILER_BYTES: usize = 32;

/// Type, misc and size of the record that begins with `header`.
pub(super) fn header(header: [u8; HEADER_BYTES]) -> (u32, u16, usize) {
    let [t0, t1, t2, t3, m0, m1, s0, s1] = header;
    (
        u32::from_ne_bytes([t0, t1, t2, t3]),
        u16::from_ne_bytes([m0, m1]),
        usize::from(u16::from_ne_bytes([s0, s1])),
    )
}

/// Where in a sample record (header included) what tells its cgroup stands: its id at the end or, of a scoped event, the
/// identifier in front. None if the record is too short.
pub(super) fn cgroup_offset(record_bytes: usize, layout: Layout) -> Option<usize> {
    let at_end = record_bytes.checked_sub(8).filter(|offset| *offset >= CHAIN_LEN_OFFSET + 8)?;
    Some(if layout.scoped { HEADER_BYTES } else { at_end })
}

/// What of a sample that copies stacks is worth reading: its bytes up to the copied stack, how much of that was really
/// copied, and where it goes on behind it. `word` reads a word of the record. None if it is not laid out so.
pub(super) fn copied_parts(
    record_bytes: usize,
    word: impl Fn(usize) -> Option<u64>,
) -> Option<(usize, usize, usize)> {
    let chain_bytes = usize::try_from(word(CHAIN_LEN_OFFSET)?).ok()?.checked_mul(8)?;
    let abi_at = (CHAIN_LEN_OFFSET + 8).checked_add(chain_bytes)?;
    let registers =
        if word(abi_at)? == u64::from(abi::PERF_SAMPLE_REGS_ABI_NONE) { 0 } else { REGISTERS * 8 };
    let size_at = abi_at.checked_add(8 + registers)?;
    let size = usize::try_from(word(size_at)?).ok().filter(|size| *size > 0)?;
    let (begin, end) = (size_at + 8, (size_at + 8).checked_add(size)?);
    let copied = usize::try_from(word(end)?).ok()?;
    (copied <= size && end <= record_bytes).then_some((begin, copied, end))
}

/// Where in a sample record (header included) its time stands: behind identifier, pid and tid.
pub(super) const TIME_OFFSET: usize = HEADER_BYTES + 16;
/// Where in a sample record (header included) its chain's length stands.
const CHAIN_LEN_OFFSET: usize = HEADER_BYTES + SAMPLE_FIXED_BYTES;

/// Reads a record of a sample ring: `bytes` is the whole record with its header. The cgroup of a scoped sample is the
/// identifier of its event, for the caller to translate.
pub fn parse_sample(bytes: &[u8], layout: Layout) -> Option<Record> {
    parse_sample_by(bytes, layout, words)
}

/// The same; `chain_of` has the bytes of a chain.
pub(super) fn parse_sample_by(
    bytes: &[u8],
    layout: Layout,
    chain_of: impl FnOnce(&[u8]) -> Arc<[u64]>,
) -> Option<Record> {
    let mut at = Reader { rest: bytes };
    let (kind, _misc, _size) = header(at.array()?);
    match kind {
        abi::PERF_RECORD_SAMPLE => {
            let identifier = at.u64()?;
            let (pid, tid) = (at.u32()?, at.u32()?);
            let time_ns = at.u64()?;
            let (cpu, _reserved) = (at.u32()?, at.u32()?);
            let period_ns = at.u64()?;
            let chain_len = usize::try_from(at.u64()?).ok()?;
            let chain_bytes = at.take(chain_len.checked_mul(8)?)?;
            let chain = chain_of(chain_bytes);
            let user = if layout.copies { parse_user(&mut at)? } else { None };
            let cgroup = CgroupId(if layout.scoped { identifier } else { at.u64()? });
            let (pid, tid) = (Pid(pid), Pid(tid));
            Some(Record::Sample(RawSample { time_ns, cpu, pid, tid, period_ns, cgroup, chain, user }))
        }
        abi::PERF_RECORD_LOST => {
            let _id = at.u64()?;
            Some(Record::Lost(at.u64()?))
        }
        abi::PERF_RECORD_LOST_SAMPLES => Some(Record::Lost(at.u64()?)),
        abi::PERF_RECORD_THROTTLE => Some(Record::Throttled),
        _ => Some(Record::Other),
    }
}

/// Reads registers and stack. None inside where there is no user mode, or one of 32 bits.
fn parse_user(at: &mut Reader<'_>) -> Option<Option<Box<UserState>>> {
    let abi = at.u64()?;
    let values = if abi == u64::from(abi::PERF_SAMPLE_REGS_ABI_NONE) { &[] } else { at.take(REGISTERS * 8)? };
    let size = usize::try_from(at.u64()?).ok()?;
    let (mut stack, mut copied) = (&[][..], 0);
    if size > 0 {
        stack = at.take(size)?;
        copied = usize::try_from(at.u64()?).ok()?;
    }
    if abi != u64::from(abi::PERF_SAMPLE_REGS_ABI_64) {
        return Some(None);
    }
    let mut registers = [0; REGISTERS];
    let mut values = Reader { rest: values };
    for number in 0..REGISTERS {
        #[cfg(not(target_arch = "aarch64"))]
        let number = *DWARF_NUMBERS.get(number)?;
        *registers.get_mut(number)? = values.u64()?;
    }
    Some(Some(Box::new(UserState { registers, stack: stack.get(..copied)?.to_vec() })))
}

/// Reads a record of a ring of switches, whose samples are scoped. None for kinds that are of no interest.
pub fn parse_switch(bytes: &[u8], copies: bool) -> Option<Stamped<Switch>> {
    let mut at = Reader { rest: bytes };
    let (kind, misc, _size) = header(at.array()?);
    match kind {
        abi::PERF_RECORD_SAMPLE => match parse_sample(bytes, Layout { copies, scoped: true })? {
            Record::Sample(sample) => {
                let (time_ns, cpu) = (sample.time_ns, sample.cpu);
                Some(Stamped { time_ns, cpu, value: Switch::Leaves(sample) })
            }
            Record::Lost(_) | Record::Throttled | Record::Other => None,
        },
        abi::PERF_RECORD_SWITCH | abi::PERF_RECORD_SWITCH_CPU_WIDE => {
            let (pid_tid, time_ns, cpu) = trailer(bytes)?;
            let tid = Pid((pid_tid >> 32) as u32);
            let misc = u32::from(misc);
            let value = match misc & abi::PERF_RECORD_MISC_SWITCH_OUT {
                0 => Switch::Back { tid },
                _ => Switch::Left { tid, preempted: misc & abi::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT != 0 },
            };
            Some(Stamped { time_ns, cpu, value })
        }
        abi::PERF_RECORD_LOST => {
            let _id = at.u64()?;
            let lost = at.u64()?;
            let (_, time_ns, cpu) = trailer(bytes)?;
            Some(Stamped { time_ns, cpu, value: Switch::Lost(lost) })
        }
        _ => None,
    }
}

/// Thread and process, time and CPU of a record that is no sample.
fn trailer(bytes: &[u8]) -> Option<(u64, u64, u32)> {
    let at = bytes.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES)?;
    let mut trailer = Reader { rest: bytes.get(at..)? };
    Some((pid_tid(&mut trailer)?, trailer.u64()?, trailer.u32()?))
}

/// Process in the low half, thread in the high one, whatever the order of bytes.
fn pid_tid(at: &mut Reader<'_>) -> Option<u64> {
    let (pid, tid) = (at.u32()?, at.u32()?);
    Some(u64::from(pid) | u64::from(tid) << 32)
}

/// Reads a record of the side-band ring. None for kinds that are of no interest here and for what does not parse.
pub fn parse_side_band(bytes: &[u8]) -> Option<Stamped<SideBand>> {
    let (_, time_ns, cpu) = trailer(bytes)?;
    let body = bytes.get(..bytes.len() - TRAILER_BYTES)?;
    let mut at = Reader { rest: body };
    let (kind, misc, _size) = header(at.array()?);
    let misc = u32::from(misc);
    let value = match kind {
        abi::PERF_RECORD_MMAP2 => {
            let (pid, _tid) = (Pid(at.u32()?), at.u32()?);
            let (start, len, file_offset) = (at.u64()?, at.u64()?, at.u64()?);
            let mut ident = Reader { rest: at.take(24)? };
            let (_prot, _flags) = (at.u32()?, at.u32()?);
            // Another tool's event can make the kernel set this bit on ours; ours always asks, and the size is checked.
            let (inode, build_id) = if misc & abi::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
                let [size, _, _, _] = ident.array()?;
                (0, ident.rest.get(..usize::from(size)).and_then(BuildId::new))
            } else {
                let (_major, _minor) = (ident.u32()?, ident.u32()?);
                (ident.u64()?, None)
            };
            SideBand::Mmap { pid, start, len, file_offset, inode, build_id, path: at.text() }
        }
        abi::PERF_RECORD_COMM => {
            let (pid, tid) = (Pid(at.u32()?), Pid(at.u32()?));
            SideBand::Comm { pid, tid, exec: misc & abi::PERF_RECORD_MISC_COMM_EXEC != 0, comm: at.text() }
        }
        abi::PERF_RECORD_FORK | abi::PERF_RECORD_EXIT => {
            let (pid, parent) = (Pid(at.u32()?), Pid(at.u32()?));
            let tid = Pid(at.u32()?);
            if kind == abi::PERF_RECORD_FORK {
                SideBand::Fork { pid, parent, tid }
            } else {
                SideBand::Exit { pid, tid }
            }
        }
        abi::PERF_RECORD_CGROUP => SideBand::Cgroup { id: CgroupId(at.u64()?), path: at.text() },
        abi::PERF_RECORD_LOST => {
            let _id = at.u64()?;
            SideBand::Lost { count: at.u64()? }
        }
        _ => return None,
    };
    Some(Stamped { time_ns, cpu, value })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    /// The rest up to its first NUL.
    fn text(&mut self) -> String {
        let end = self.rest.iter().position(|b| *b == 0).unwrap_or(self.rest.len());
        String::from_utf8_lossy(self.rest.get(..end).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests;
