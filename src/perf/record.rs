//! The bytes of a perf record to values. Own parser: none that is published knows `PERF_SAMPLE_CGROUP`.
//!
//! Pure and bounded: any bytes give a record or none, never a panic, and no length inside them is believed.

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
    pub chain: Vec<u64>,
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

/// Where in a sample record (header included) its cgroup id stands, told from the chain's length field; none if that
/// lies outside the record.
pub(super) fn cgroup_offset(record_bytes: usize, chain_len: u64) -> Option<usize> {
    let chain_bytes = usize::try_from(chain_len).ok()?.checked_mul(8)?;
    let offset = (CHAIN_LEN_OFFSET + 8).checked_add(chain_bytes)?;
    (offset.checked_add(8)? <= record_bytes).then_some(offset)
}

/// Where in a sample record (header included) its time stands: behind identifier, pid and tid.
pub(super) const TIME_OFFSET: usize = HEADER_BYTES + 16;
/// Where in a sample record (header included) its chain's length stands.
pub(super) const CHAIN_LEN_OFFSET: usize = HEADER_BYTES + SAMPLE_FIXED_BYTES;

/// Reads a record of the sample ring: `bytes` is the whole record with its header.
pub fn parse_sample(bytes: &[u8]) -> Option<Record> {
    let mut at = Reader { rest: bytes };
    let (kind, _misc, _size) = header(at.array()?);
    match kind {
        abi::PERF_RECORD_SAMPLE => {
            let _identifier = at.u64()?;
            let (pid, tid) = (at.u32()?, at.u32()?);
            let time_ns = at.u64()?;
            let (cpu, _reserved) = (at.u32()?, at.u32()?);
            let period_ns = at.u64()?;
            let chain_len = usize::try_from(at.u64()?).ok()?;
            let chain_bytes = at.take(chain_len.checked_mul(8)?)?;
            let chain = chain_bytes.chunks_exact(8).filter_map(|ip| Reader { rest: ip }.u64()).collect();
            let cgroup = CgroupId(at.u64()?);
            let (pid, tid) = (Pid(pid), Pid(tid));
            Some(Record::Sample(RawSample { time_ns, cpu, pid, tid, period_ns, cgroup, chain }))
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

/// Reads a record of the side-band ring. None for kinds that are of no interest here and for what does not parse.
pub fn parse_side_band(bytes: &[u8]) -> Option<Stamped<SideBand>> {
    let body_len = bytes.len().checked_sub(TRAILER_BYTES).filter(|len| *len >= HEADER_BYTES)?;
    let (body, trailer) = bytes.split_at_checked(body_len)?;
    let mut trailer = Reader { rest: trailer };
    let _pid_tid = trailer.u64()?;
    let time_ns = trailer.u64()?;
    let cpu = trailer.u32()?;
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(u16::try_from(misc).unwrap().to_ne_bytes());
        bytes.extend(u16::try_from(body.len() + HEADER_BYTES).unwrap().to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn words(values: &[u64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    fn trailer() -> Vec<u8> {
        words(&[0x0000_0002_0000_0001, 77, 3, 0])
    }

    #[test]
    fn a_sample_is_read_field_by_field() {
        let pid_tid = u64::from(11u32) | (u64::from(12u32) << 32);
        let body = words(&[9, pid_tid, 1_000, 1, 5_025_125, 3, abi::PERF_CONTEXT_USER, 0x10, 0x20, 4242]);
        let bytes = record(abi::PERF_RECORD_SAMPLE, 2, &body);
        let Some(Record::Sample(sample)) = parse_sample(&bytes) else { panic!("no sample") };
        assert_eq!((sample.pid, sample.tid, sample.cpu), (Pid(11), Pid(12), 1));
        assert_eq!((sample.time_ns, sample.period_ns, sample.cgroup), (1_000, 5_025_125, CgroupId(4242)));
        assert_eq!(sample.chain, [abi::PERF_CONTEXT_USER, 0x10, 0x20]);
        assert_eq!(cgroup_offset(bytes.len(), 3), Some(bytes.len() - 8));
        assert_eq!(cgroup_offset(bytes.len(), 4), None);
        assert_eq!(cgroup_offset(bytes.len(), u64::MAX), None);
    }

    #[test]
    fn a_chain_longer_than_its_record_is_no_sample() {
        for lie in [4, 1 << 20, u64::MAX / 8, u64::MAX] {
            let body = words(&[9, 0, 0, 0, 0, lie, 1, 2, 3]);
            assert_eq!(parse_sample(&record(abi::PERF_RECORD_SAMPLE, 0, &body)), None, "{lie}");
        }
    }

    #[test]
    fn side_band_records_are_read() {
        let mut body = words(&[4711]);
        body.extend(b"/docker/abc\0\0\0\0\0");
        body.extend(trailer());
        let read = parse_side_band(&record(abi::PERF_RECORD_CGROUP, 0, &body));
        let value = SideBand::Cgroup { id: CgroupId(4711), path: "/docker/abc".into() };
        assert_eq!(read, Some(Stamped { time_ns: 77, cpu: 3, value }));

        let mut body = words(&[0x0000_0006_0000_0005]);
        body.extend(b"runc\0\0\0\0");
        body.extend(trailer());
        let read = parse_side_band(&record(abi::PERF_RECORD_COMM, abi::PERF_RECORD_MISC_COMM_EXEC, &body));
        let value = SideBand::Comm { pid: Pid(5), tid: Pid(6), exec: true, comm: "runc".into() };
        assert_eq!(read.map(|r| r.value), Some(value));
    }

    #[test]
    fn a_build_id_is_believed_only_within_its_bounds() {
        for (size, expected) in [(0u8, None), (20, BuildId::new(&[7; 20])), (21, None), (255, None)] {
            let mut body = words(&[5, 0x1000, 0x2000, 0]);
            body.extend([size, 0, 0, 0]);
            body.extend([7; 20]);
            body.extend([0; 8]);
            body.extend(b"/bin/x\0\0");
            body.extend(trailer());
            let read =
                parse_side_band(&record(abi::PERF_RECORD_MMAP2, abi::PERF_RECORD_MISC_MMAP_BUILD_ID, &body));
            let Some(SideBand::Mmap { build_id, path, .. }) = read.map(|r| r.value) else {
                panic!("no mmap")
            };
            assert_eq!((build_id, path.as_str()), (expected, "/bin/x"), "{size}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_sample(&bytes);
            let _ = parse_side_band(&bytes);
        }

        #[test]
        fn any_body_of_any_kind_gives_a_record_or_none(
            kind in 0u32..24, misc in 0u32..0x10000, body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = record(kind, misc, &body);
            let _ = parse_sample(&bytes);
            let _ = parse_side_band(&bytes);
        }
    }
}
