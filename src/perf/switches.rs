//! Switches of the threads of some cgroups on one CPU: where each leaves, and when it is back.
//!
//! Every event here is scoped by a cgroup, so that nobody else's switches cost more than a look at whose they are; it
//! takes a sample with each switch, and records when a thread has left (and whether it was preempted) and is back.

use std::os::fd::BorrowedFd;

use super::event::{PerfError, open_owner, open_switches};
use super::record::{Layout, Stamped, Switch, parse_switch};
use super::ring::Ring;
use super::scoped::Scoped;
use crate::model::CgroupId;

/// The ring of switches of a CPU.
pub(super) struct SwitchRing {
    ring: Ring,
    scoped: Scoped,
    copy_bytes: Option<u32>,
}

impl SwitchRing {
    /// Maps `bytes` for what is to be watched on `cpu`; with copies of `copy_bytes` of each stack, or without.
    pub(super) fn open(cpu: u32, bytes: usize, copy_bytes: Option<u32>) -> Result<SwitchRing, PerfError> {
        let half = u32::try_from(bytes / 2).unwrap_or(u32::MAX);
        let layout = Layout { copies: copy_bytes.is_some(), scoped: true };
        let map = |source| PerfError::Map { cpu, bytes, source };
        let ring = Ring::new(open_owner(cpu, half)?, bytes, layout).map_err(map)?;
        Ok(SwitchRing { ring, scoped: Scoped::default(), copy_bytes })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }

    /// Watches the cgroup of directory `dir` too.
    pub(super) fn attach(
        &mut self,
        cpu: u32,
        cgroup: CgroupId,
        dir: BorrowedFd<'_>,
    ) -> Result<(), PerfError> {
        let event = open_switches(cpu, self.copy_bytes, dir)?;
        let failed = |source| PerfError::Other { what: "scope an event by a cgroup", cpu, source };
        self.scoped.add(cgroup, event, self.ring.fd(), true).map_err(failed)
    }

    /// No more.
    pub(super) fn detach(&mut self, cgroup: CgroupId) {
        self.scoped.remove(cgroup);
    }

    /// Everything that is in the ring, unordered over CPUs.
    pub(super) fn drain(&mut self, out: &mut Vec<Stamped<Switch>>) {
        let SwitchRing { ring, scoped, copy_bytes } = self;
        ring.drain_samples(
            |identifier, _| scoped.cgroup(identifier).is_some(),
            |bytes| {
                let Some(mut switch) = parse_switch(bytes, copy_bytes.is_some()) else { return };
                if let Switch::Leaves(sample) = &mut switch.value {
                    let Some(cgroup) = scoped.cgroup(sample.cgroup.0) else { return };
                    sample.cgroup = cgroup;
                }
                out.push(switch);
            },
        );
        scoped.settle();
    }
}
