//! Events of one CPU that are scoped by cgroups and write into one ring, and which of them is whose.
//!
//! The kernel counts only what runs in the cgroup or below it. A removed cgroup is kept alive by its events: they are
//! closed when its container has ended.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::model::CgroupId;
use crate::sys;

/// The events that write into a ring.
#[derive(Debug, Default)]
pub(super) struct Scoped {
    events: HashMap<CgroupId, (OwnedFd, u64)>,
    cgroups: HashMap<u64, CgroupId>,
    /// Identifiers of closed events, of which the ring may still hold samples.
    closed: Vec<u64>,
}

impl Scoped {
    /// Lets `event`, of `cgroup`, write into the ring of `ring`, and starts it if it is to be `on`.
    ///
    /// # Errors
    /// `ioctl(2)`'s.
    pub(super) fn add(
        &mut self,
        cgroup: CgroupId,
        event: OwnedFd,
        ring: BorrowedFd<'_>,
        on: bool,
    ) -> io::Result<()> {
        sys::perf_event_redirect(event.as_fd(), ring)?;
        let id = sys::perf_event_id(event.as_fd())?;
        if on {
            sys::perf_event_enable(event.as_fd(), true)?;
        }
        self.remove(cgroup);
        self.cgroups.insert(id, cgroup);
        self.events.insert(cgroup, (event, id));
        Ok(())
    }

    /// Closes the event of `cgroup`; what it has written is told apart until [`Scoped::settle`].
    pub(super) fn remove(&mut self, cgroup: CgroupId) {
        self.closed.extend(self.events.remove(&cgroup).map(|(_, id)| id));
    }

    /// The ring has been read: what closed events had written is out.
    pub(super) fn settle(&mut self) {
        for id in self.closed.drain(..) {
            self.cgroups.remove(&id);
        }
    }

    /// The cgroup of a sample by the identifier of its event.
    pub(super) fn cgroup(&self, identifier: u64) -> Option<CgroupId> {
        self.cgroups.get(&identifier).copied()
    }

    /// Starts or stops all of them.
    ///
    /// # Errors
    /// That of the first that refused; the others are switched all the same.
    pub(super) fn enable(&self, on: bool) -> io::Result<()> {
        let switched = self.events.values().map(|(event, _)| sys::perf_event_enable(event.as_fd(), on));
        switched.fold(Ok(()), Result::and)
    }
}
