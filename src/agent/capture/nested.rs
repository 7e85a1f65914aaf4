//! Containers that lie in the cgroup of another, where events are scoped by cgroups.
//!
//! The kernel tells what happens in the inner one twice: by its own event, and by the outer one's. What the outer one's
//! tells of a process is dropped where that is in the inner one; which it is in, `/proc` is asked, once a second at most.

use std::collections::HashMap;

use super::Capture;
use crate::model::{CgroupId, InstanceNo, Pid};

/// Most processes of which that is remembered.
const MAX_ASKED: usize = 4_096;

/// Of which instance processes are, of those that may be of an inner one.
#[derive(Debug, Default)]
pub(super) struct Nested {
    asked: HashMap<Pid, Option<InstanceNo>>,
}

impl Nested {
    /// A process may be in another cgroup now.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.asked.remove(&pid);
    }

    /// Any may.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
    }
}

impl Capture {
    /// Whether what an event of `cgroup` tells of `pid` is told by that of a container within as well.
    pub(super) fn is_of_inner(&mut self, cgroup: CgroupId, pid: Pid) -> bool {
        let join = &self.setup.attribution;
        let Some(outer) = join.instance_of(cgroup).filter(|no| join.has_inner(*no)) else { return false };
        if self.nested.asked.len() >= MAX_ASKED {
            self.nested.clear();
        }
        let cgroups = &self.setup.cgroups;
        let ask = || join.instance_at(&cgroups.of_process(pid).ok()?);
        let of = *self.nested.asked.entry(pid).or_insert_with(ask);
        of.is_some_and(|of| of != outer && join.is_wanted(of))
    }
}
