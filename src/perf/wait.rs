//! Waiting for what the rings of one CPU hold.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::time::Timespec;

use super::event::PerfError;

/// What a wait found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether the side-band has something: a new cgroup or, while it is armed, anything of a process.
    pub side_band: bool,
    /// Whether a sample ring is half full.
    pub samples: bool,
    /// Whether nobody is to wait here any more.
    pub ended: bool,
}

/// Which ring it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SideBand = 1,
    Samples = 2,
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
    epoll: OwnedFd,
    end: OwnedFd,
}

impl CpuWait {
    pub(super) fn new(cpu: u32) -> Result<CpuWait, PerfError> {
        let failed =
            |e: rustix::io::Errno| PerfError::Other { what: "create an epoll", cpu, source: e.into() };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        let wait = CpuWait { cpu, epoll, end };
        wait.add(wait.end.as_fd(), ENDED)?;
        Ok(wait)
    }

    /// Waits until there is something to drain, it is ended, or `timeout_ns` have passed, if given.
    pub fn wait(&self, timeout_ns: Option<u64>) -> Ready {
        let mut events = Vec::with_capacity(5);
        let timeout = timeout_ns.map(timespec);
        let mut ready = Ready::default();
        // Interrupted, the caller waits again.
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()).is_ok() {
            for event in &events {
                match event.data.u64() {
                    ENDED => ready.ended = true,
                    kind if kind == Kind::SideBand as u64 => ready.side_band = true,
                    _ => ready.samples = true,
                }
            }
        }
        ready
    }

    /// Ends every wait, now and later.
    pub fn end(&self) {
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
    }

    /// Lets it return when `ring` wakes.
    pub(super) fn hear(&self, ring: BorrowedFd<'_>, kind: Kind) -> Result<(), PerfError> {
        self.add(ring, kind as u64)
    }

    /// No more.
    pub(super) fn leave(&self, ring: BorrowedFd<'_>) -> Result<(), PerfError> {
        let failed = |e: rustix::io::Errno| self.failed("leave a ring", e);
        epoll::delete(&self.epoll, ring).map_err(failed)
    }

    fn add(&self, fd: BorrowedFd<'_>, mark: u64) -> Result<(), PerfError> {
        let failed = |e: rustix::io::Errno| self.failed("watch a ring", e);
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(mark), epoll::EventFlags::IN).map_err(failed)
    }

    fn failed(&self, what: &'static str, error: rustix::io::Errno) -> PerfError {
        PerfError::Other { what, cpu: self.cpu, source: error.into() }
    }
}
