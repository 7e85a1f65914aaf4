//! Waiting for what the rings of one CPU hold.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::time::Timespec;

use super::event::PerfError;

/// What a wait found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether there is a new cgroup.
    pub cgroups: bool,
    /// Whether, while the side-band is armed, anything happened to a process.
    pub processes: bool,
    /// Whether a sample ring is half full.
    pub samples: bool,
    /// Whether nobody is to wait here any more.
    pub ended: bool,
}

impl Ready {
    /// Whether it is processes that have woken who waits, and nothing else.
    pub fn is_of_processes_alone(self) -> bool {
        self == Ready { processes: true, ..Ready::default() }
    }
}

/// Which ring it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cgroups = 1,
    Processes = 2,
    Samples = 3,
}

/// Marks the descriptor that is no ring's.
const ENDED: u64 = 0;

/// So many nanoseconds, as the kernel takes them.
pub fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
    }
}

/// The rings of one CPU, to wait for. The kernel tells of a ring once: one thread waits.
#[derive(Debug)]
pub struct CpuWait {
    /// The CPU.
    pub cpu: u32,
    /// Tells of everything.
    all: OwnedFd,
    /// Tells of what ends a rest.
    urgent: OwnedFd,
    end: OwnedFd,
}

impl CpuWait {
    pub(super) fn new(cpu: u32) -> Result<CpuWait, PerfError> {
        let failed =
            |e: rustix::io::Errno| PerfError::Other { what: "create an epoll", cpu, source: e.into() };
        let create = || epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed);
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        let wait = CpuWait { cpu, all: create()?, urgent: create()?, end };
        for epoll in [&wait.all, &wait.urgent] {
            wait.add(epoll, wait.end.as_fd(), ENDED)?;
        }
        Ok(wait)
    }

    /// Waits until there is something to drain, it is ended, or `timeout_ns` have passed, if given.
    pub fn wait(&self, timeout_ns: Option<u64>) -> Ready {
        ready(&self.all, timeout_ns)
    }

    /// Waits for `rest`, in whole milliseconds at least, or until there is a new cgroup, or it is ended; deaf to everything
    /// else.
    pub fn rest(&self, rest: Duration) -> Ready {
        // Kernels before 5.11 have no finer ones.
        let ms = u64::try_from(rest.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        ready(&self.urgent, Some(ms.saturating_mul(1_000_000)))
    }

    /// Ends every wait, now and later.
    pub fn end(&self) {
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
    }

    /// Lets it return when `ring` wakes.
    pub(super) fn hear(&self, ring: BorrowedFd<'_>, kind: Kind) -> Result<(), PerfError> {
        if kind == Kind::Cgroups {
            // Whichever hears of it first: the other finds nothing left to tell.
            self.add(&self.urgent, ring, kind as u64)?;
        }
        self.add(&self.all, ring, kind as u64)
    }

    /// No more.
    pub(super) fn leave(&self, ring: BorrowedFd<'_>) -> Result<(), PerfError> {
        let failed = |e: rustix::io::Errno| self.failed("leave a ring", e);
        epoll::delete(&self.all, ring).map_err(failed)
    }

    fn add(&self, epoll: &OwnedFd, fd: BorrowedFd<'_>, mark: u64) -> Result<(), PerfError> {
        let failed = |e: rustix::io::Errno| self.failed("watch a ring", e);
        epoll::add(epoll, fd, epoll::EventData::new_u64(mark), epoll::EventFlags::IN).map_err(failed)
    }

    fn failed(&self, what: &'static str, error: rustix::io::Errno) -> PerfError {
        PerfError::Other { what, cpu: self.cpu, source: error.into() }
    }
}

/// What `epoll` tells of until `timeout_ns` have passed, if given.
fn ready(epoll: &OwnedFd, timeout_ns: Option<u64>) -> Ready {
    let mut events = Vec::with_capacity(5);
    let timeout = timeout_ns.map(timespec);
    let mut ready = Ready::default();
    // Interrupted, the caller waits again.
    if epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()).is_ok() {
        for event in &events {
            match event.data.u64() {
                ENDED => ready.ended = true,
                kind if kind == Kind::Cgroups as u64 => ready.cgroups = true,
                kind if kind == Kind::Processes as u64 => ready.processes = true,
                _ => ready.samples = true,
            }
        }
    }
    ready
}
