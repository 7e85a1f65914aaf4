//! The events fnscope opens on every CPU, why an open failed in words, and the clock they share.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::record::{COPIED_FIELDS, Layout, REGISTER_MASK, SAMPLE_TYPE, SCOPED_TYPE, SIDE_BAND_TYPE};
use crate::model::SampledEvent;
use crate::sys::{self, Target, perf_bindings as abi};

/// A perf event could not be opened, mapped or switched.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The kernel or a security module refuses: rights are missing.
    #[error(
        "open perf event on cpu {cpu}: permission denied; needs root with CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), \
         or kernel.perf_event_paranoid below 1 (it is {paranoid})"
    )]
    Denied {
        /// The CPU.
        cpu: u32,
        /// `kernel.perf_event_paranoid` as it reads.
        paranoid: String,
    },
    /// A seccomp profile stops the call before the kernel sees it.
    #[error(
        "open perf event on cpu {cpu}: operation not permitted; a seccomp profile forbids perf_event_open \
         (profiles of container runtimes allow it to who has CAP_PERFMON, older ones to CAP_SYS_ADMIN alone: give that, or \
         the agent's own profile, see seccomp/README.md), or the user is not root"
    )]
    Forbidden {
        /// The CPU.
        cpu: u32,
    },
    /// The kernel lacks something we ask for.
    #[error(
        "open perf event on cpu {cpu}: this kernel ({kernel}) lacks cgroup ids in samples; Linux 5.7 or newer is needed, or attach = \"per-cgroup\""
    )]
    TooOld {
        /// The CPU.
        cpu: u32,
        /// The kernel's release.
        kernel: String,
    },
    /// The kernel was built without perf events.
    #[error("open perf event on cpu {cpu}: this kernel has no perf events (CONFIG_PERF_EVENTS)")]
    Missing {
        /// The CPU.
        cpu: u32,
    },
    /// The CPU has no such counter.
    #[error(
        "open perf event on cpu {cpu}: this machine has no hardware counter for {event} (virtual machines often hide them); \
         use event = \"cpu-clock\""
    )]
    NoCounter {
        /// The CPU.
        cpu: u32,
        /// What was to be counted.
        event: &'static str,
    },
    /// The CPU has gone since it was listed.
    #[error("open perf event on cpu {cpu}: it is not online any more")]
    Gone {
        /// The CPU.
        cpu: u32,
    },
    /// The cgroup that the event is scoped by has been removed: nothing runs in it.
    #[error("open perf event on cpu {cpu}: its cgroup has been removed")]
    CgroupGone {
        /// The CPU.
        cpu: u32,
    },
    /// The ring could not be mapped.
    #[error(
        "map a perf ring of {bytes} bytes on cpu {cpu}: {source}; needs CAP_IPC_LOCK or a larger kernel.perf_event_mlock_kb"
    )]
    Map {
        /// The CPU.
        cpu: u32,
        /// Size of its data.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else.
    #[error("{what} on cpu {cpu}: {source}")]
    Other {
        /// What was tried.
        what: &'static str,
        /// The CPU.
        cpu: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The list of CPUs cannot be read.
    #[error("read the list of online cpus: {0}")]
    Cpus(io::Error),
}

/// Nanoseconds that one sample stands for at `hz` samples a second, as the kernel itself divides.
pub fn period_ns(hz: u32) -> u64 {
    1_000_000_000 / u64::from(hz.max(1))
}

/// Opens the event of `cpu` that reports every cgroup that is made, waking its reader for each.
///
/// Apart from what happens to processes, so that a host without functions is woken by containers alone.
pub(super) fn open_cgroups(cpu: u32) -> Result<OwnedFd, PerfError> {
    let mut attr = side_band();
    attr.set_cgroup(1);
    // The kernel tells side-band records to events that ask for one of an older kind, and has forgotten cgroups in that
    // list (is_sb_event). This one tells nothing by itself without `comm`.
    attr.set_comm_exec(1);
    sys::perf_event_open(&attr, Target::Cpu(cpu)).map_err(|error| explain(cpu, error))
}

/// Opens the side-band event of `cpu`: a dummy that reports what happens to every process.
///
/// It wakes its reader at every record, because files must be opened while the process that mapped them lives.
pub(super) fn open_side_band(cpu: u32) -> Result<OwnedFd, PerfError> {
    let mut attr = side_band();
    attr.set_mmap(1);
    attr.set_mmap2(1);
    attr.set_comm(1);
    attr.set_comm_exec(1);
    attr.set_task(1);
    attr.set_build_id(1);
    sys::perf_event_open(&attr, Target::Cpu(cpu))
        .or_else(|error| {
            if !is_invalid(&error) {
                return Err(error);
            }
            // Build ids in MMAP2 came with 5.12; inodes serve before.
            attr.set_build_id(0);
            sys::perf_event_open(&attr, Target::Cpu(cpu))
        })
        .map_err(|error| explain(cpu, error))
}

/// What is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampling {
    /// What makes a sample.
    pub(super) event: SampledEvent,
    /// Samples a second of busy time.
    pub(super) hz: u32,
    /// How much of the user's stack is copied, where it is.
    pub(super) copy_bytes: u32,
    /// How a sample is laid out.
    pub(super) layout: Layout,
}

/// Opens the sampling event of `cpu`, stopped, waking its reader when `wakeup_bytes` are waiting: of the whole host, or of
/// the cgroup of directory `scope`. The flag says whether the kernel also counts what it lost (Linux 6.0).
pub(super) fn open_sampling(
    cpu: u32,
    sampling: &Sampling,
    wakeup_bytes: u32,
    scope: Option<BorrowedFd<'_>>,
) -> Result<(OwnedFd, bool), PerfError> {
    let mut attr = sampling_attr(sampling, wakeup_bytes);
    let target = scope.map_or(Target::Cpu(cpu), |dir| Target::Cgroup { dir, cpu });
    let is_counter = sampling.event != SampledEvent::CpuClock;
    let explain = |error| match (explain(cpu, error), scope) {
        // The same answer for no such counter and no such cgroup.
        (PerfError::Missing { cpu }, Some(dir)) if !is_counter || is_removed(dir) => {
            PerfError::CgroupGone { cpu }
        }
        (PerfError::Missing { cpu }, _) if is_counter => {
            PerfError::NoCounter { cpu, event: sampling.event.name() }
        }
        (error, _) => error,
    };
    match sys::perf_event_open(&attr, target) {
        Ok(fd) => Ok((fd, true)),
        Err(error) if is_invalid(&error) => {
            attr.read_format = 0;
            sys::perf_event_open(&attr, target).map(|fd| (fd, false)).map_err(explain)
        }
        Err(error) => Err(explain(error)),
    }
}

/// How the kernel is asked for samples.
fn sampling_attr(sampling: &Sampling, wakeup_bytes: u32) -> abi::perf_event_attr {
    let Sampling { event, hz, copy_bytes, layout } = *sampling;
    let counter = match event {
        SampledEvent::CpuClock => None,
        SampledEvent::Cycles => Some(abi::PERF_COUNT_HW_CPU_CYCLES),
        SampledEvent::Instructions => Some(abi::PERF_COUNT_HW_INSTRUCTIONS),
        SampledEvent::CacheMisses => Some(abi::PERF_COUNT_HW_CACHE_MISSES),
        SampledEvent::BranchMisses => Some(abi::PERF_COUNT_HW_BRANCH_MISSES),
    };
    let mut attr = software(abi::PERF_COUNT_SW_CPU_CLOCK.into());
    if let Some(counter) = counter {
        (attr.type_, attr.config) = (abi::PERF_TYPE_HARDWARE, counter.into());
    }
    let (by_frequency, rate) = rate(event, hz);
    attr.set_freq(by_frequency.into());
    attr.__bindgen_anon_1.sample_period = rate;
    attr.sample_type = if layout.scoped { SCOPED_TYPE } else { SAMPLE_TYPE };
    if layout.copies {
        copy(&mut attr, copy_bytes);
    }
    attr.read_format = abi::PERF_FORMAT_LOST.into();
    attr.set_disabled(1);
    attr.set_exclude_idle(1);
    watermark(&mut attr, wakeup_bytes);
    attr
}

/// Whether the kernel is to find the period by itself, because what is counted comes at no steady rate; and the frequency
/// or, where it is not, the period.
fn rate(event: SampledEvent, hz: u32) -> (bool, u64) {
    if event == SampledEvent::CpuClock { (false, period_ns(hz)) } else { (true, hz.into()) }
}

/// Opens the event that tells of every switch of the cgroup of directory `scope` on `cpu`, stopped: a sample where a
/// thread leaves, with `copy_bytes` of its stack if any are wanted, and a record when it has left and when it is back.
pub(super) fn open_switches(
    cpu: u32,
    copy_bytes: Option<u32>,
    scope: BorrowedFd<'_>,
) -> Result<OwnedFd, PerfError> {
    let mut attr = software(abi::PERF_COUNT_SW_CONTEXT_SWITCHES.into());
    attr.__bindgen_anon_1.sample_period = 1;
    attr.sample_type = SCOPED_TYPE;
    if let Some(bytes) = copy_bytes {
        copy(&mut attr, bytes);
    }
    attr.set_sample_id_all(1);
    attr.set_context_switch(1);
    attr.set_disabled(1);
    sys::perf_event_open(&attr, Target::Cgroup { dir: scope, cpu }).map_err(|error| {
        match explain(cpu, error) {
            PerfError::Missing { cpu } => PerfError::CgroupGone { cpu },
            error => error,
        }
    })
}

/// Whether the cgroup of directory `dir` is no more.
fn is_removed(dir: BorrowedFd<'_>) -> bool {
    let found = rustix::fs::statat(dir, "cgroup.procs", rustix::fs::AtFlags::empty());
    matches!(found, Err(Errno::NOENT | Errno::NODEV))
}

/// Opens an event of `cpu` that counts nothing: the ring it is mapped for is others' to write into. Its reader is woken when
/// `wakeup_bytes` are waiting.
pub(super) fn open_owner(cpu: u32, wakeup_bytes: u32) -> Result<OwnedFd, PerfError> {
    let mut attr = software(abi::PERF_COUNT_SW_DUMMY.into());
    attr.sample_type = SCOPED_TYPE;
    watermark(&mut attr, wakeup_bytes);
    sys::perf_event_open(&attr, Target::Cpu(cpu)).map_err(|error| explain(cpu, error))
}

fn copy(attr: &mut abi::perf_event_attr, bytes: u32) {
    attr.sample_type |= COPIED_FIELDS;
    (attr.sample_regs_user, attr.sample_stack_user) = (REGISTER_MASK, bytes);
}

fn watermark(attr: &mut abi::perf_event_attr, wakeup_bytes: u32) {
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = wakeup_bytes;
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// A dummy whose records carry time and thread, and wake its reader one by one.
fn side_band() -> abi::perf_event_attr {
    let mut attr = software(abi::PERF_COUNT_SW_DUMMY.into());
    attr.sample_type = SIDE_BAND_TYPE;
    attr.set_sample_id_all(1);
    // wakeup_events counts samples, and a dummy has none; one byte of anything is the way to be woken by it.
    watermark(&mut attr, 1);
    attr
}

fn software(config: u64) -> abi::perf_event_attr {
    let mut attr = abi::perf_event_attr { type_: abi::PERF_TYPE_SOFTWARE, config, ..Default::default() };
    attr.set_use_clockid(1);
    attr.clockid = ClockId::Monotonic as i32;
    attr
}

fn explain(cpu: u32, error: io::Error) -> PerfError {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS) => {
            PerfError::Denied { cpu, paranoid: read("/proc/sys/kernel/perf_event_paranoid") }
        }
        Some(Errno::PERM) => PerfError::Forbidden { cpu },
        Some(Errno::INVAL) => PerfError::TooOld { cpu, kernel: read("/proc/sys/kernel/osrelease") },
        Some(Errno::NODEV) => PerfError::Gone { cpu },
        Some(Errno::OPNOTSUPP) => PerfError::Missing { cpu },
        Some(Errno::NOENT | Errno::NOSYS) => PerfError::Missing { cpu },
        _ => PerfError::Other { what: "open perf event", cpu, source: error },
    }
}

/// The wall clock beside the monotonic one that stamps every record.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Realtime minus monotonic in nanoseconds.
    pub offset_ns: i64,
}

impl Clock {
    /// Reads both clocks; the realtime reading lies between two monotonic ones, tens of nanoseconds apart. Of several
    /// tries the nearest counts: one that was preempted would look like a step of the wall clock.
    pub fn read() -> Clock {
        const TRIES: usize = 3;
        let between = || {
            let before = Clock::monotonic_ns();
            let real = nanoseconds(clock_gettime(ClockId::Realtime));
            (Clock::monotonic_ns().saturating_sub(before), before, real)
        };
        let nearest = std::iter::repeat_with(between).take(TRIES).min_by_key(|(apart, ..)| *apart);
        let (apart, before, real) = nearest.unwrap_or_default();
        let middle = before.saturating_add(apart / 2);
        Clock { offset_ns: i64::try_from(i128::from(real) - i128::from(middle)).unwrap_or(0) }
    }

    /// The monotonic clock now, in nanoseconds.
    pub fn monotonic_ns() -> u64 {
        nanoseconds(clock_gettime(ClockId::Monotonic))
    }

    /// The wall-clock time of a monotonic one.
    pub fn wall(&self, monotonic_ns: u64) -> crate::model::Timestamp {
        let ns = i64::try_from(monotonic_ns).unwrap_or(i64::MAX).saturating_add(self.offset_ns);
        crate::model::Timestamp(ns.div_euclid(1000))
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let (seconds, rest) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_the_kernels() {
        assert_eq!(period_ns(199), 5_025_125);
        assert_eq!(period_ns(0), 1_000_000_000);
    }

    /// What `perf record -vv` prints of the attribute that it asks for; what is not there is 0.
    fn recorded(event: SampledEvent) -> impl Fn(&str) -> u64 {
        let path = format!("{}/tests/fixtures/perf_attrs/{}.txt", env!("CARGO_MANIFEST_DIR"), event.name());
        let text = std::fs::read_to_string(path).unwrap();
        move |name| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(name));
            let value = value.map_or("0", str::trim);
            value.strip_prefix("0x").map_or(value.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
        }
    }

    #[test]
    fn counters_are_asked_for_as_perf_asks_for_them() {
        for event in SampledEvent::ALL {
            let recorded = recorded(event);
            let sampling = Sampling { event, hz: 199, copy_bytes: 0, layout: Layout::default() };
            let attr = sampling_attr(&sampling, 4096);
            assert_eq!(u64::from(attr.type_), recorded("type"), "{event:?}");
            assert_eq!(attr.config, recorded("config"), "{event:?}");
            assert_eq!(attr.freq(), recorded("freq"), "{event:?}");
            assert_eq!(rate(event, 199).1, recorded("{ sample_period, sample_freq }"), "{event:?}");
            assert_eq!((attr.use_clockid(), attr.clockid), (1, recorded("clockid") as i32), "{event:?}");
            assert_eq!((attr.disabled(), attr.inherit()), (1, 0), "{event:?}");
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (errno, hint) in [
            (Errno::ACCESS, "CAP_PERFMON"),
            (Errno::PERM, "seccomp"),
            (Errno::INVAL, "5.7"),
            (Errno::NOSYS, "CONFIG_PERF_EVENTS"),
            (Errno::NODEV, "not online"),
            (Errno::MFILE, "cpu 3"),
        ] {
            let text = explain(3, errno.into()).to_string();
            assert!(text.contains(hint), "{text}");
        }
    }
}
