//! Functions behind a kernel of their own: they live and use CPU time, and what the host samples of them is not theirs.
//!
//! Their samples are counted and go no further. Those in a virtual machine may have no cgroup here: then their runtime
//! alone tells when they begin and end.

use super::{Attribution, Candidate, Fate, Moment};
use crate::model::{CgroupId, ContainerId, InstanceNo, Timestamp};

/// What the number begins with that stands in a key for the cgroup's id of an instance without a cgroup.
const APART: u64 = 1 << 63;

impl<S> Attribution<S> {
    /// Counts a sample of `cgroup`, which stands for `count`, where it is a sandbox's and so no function's. False if it
    /// is none such.
    pub fn hide(&mut self, cgroup: CgroupId, count: u64) -> bool {
        let Some(&no) = self.by_cgroup.get(&cgroup) else { return false };
        let unseen = self.instances.get_mut(&no).filter(|instance| instance.fate == Fate::Unseen);
        let Some(instance) = unseen else { return false };
        instance.hide(count);
        self.restless.insert(no);
        true
    }

    /// Whether the instance is a function whose stacks cannot be seen.
    pub fn is_unseen(&self, no: InstanceNo) -> bool {
        self.instances.get(&no).is_some_and(|i| i.fate == Fate::Unseen)
    }

    /// A container runs, since `at`, that has no cgroup of its own here, as behind a virtual machine's monitor. Returns its
    /// instance, if its runtime has said that it is such a one and that it is a function.
    pub fn began_apart(&mut self, container: &ContainerId, at: Moment) -> Option<InstanceNo> {
        let claim = self.claims.get(container)?;
        if self.has_instance(container) || !claim.is_unseen() || !claim.identity.function_container {
            return None;
        }
        // Its start stands for the cgroup's id, where no cgroup has one.
        let id = CgroupId(APART | at.wall.0.unsigned_abs());
        let candidate = Candidate { container: container.clone(), claim: None, owner: None };
        Some(self.begin(id, "", candidate, at, false))
    }

    /// What of the container had no cgroup of its own has ended, where there was such a thing.
    pub fn apart_gone(&mut self, container: &ContainerId, ended: Timestamp, at: Moment) {
        let no = self.by_container.get(container).copied();
        let is_apart =
            |no: &InstanceNo| self.instances.get(no).is_some_and(|i| i.info.cgroup_path.is_empty());
        if let Some(no) = no.filter(is_apart) {
            self.cgroup_gone(no, ended, at);
        }
    }

    /// Whether anything lives that is or may be a function: then the host must be sampled, if only to hear at once of the
    /// ends of its processes, at which its account is read.
    pub fn should_sample(&self) -> bool {
        self.live_wanted > 0
    }

    /// How many live that are or may be functions whose stacks can be seen.
    pub fn live_sampled(&self) -> usize {
        self.live_sampled
    }

    /// Whether the instance is or may be a function whose stacks can be seen.
    pub fn is_sampled(&self, no: InstanceNo) -> bool {
        self.instances.get(&no).is_some_and(|i| i.fate.is_sampled())
    }

    /// One more that lives with `fate`, or one less.
    pub(super) fn count_live(&mut self, fate: Fate, more: bool) {
        let step = |count: usize| if more { count + 1 } else { count.saturating_sub(1) };
        if fate.is_wanted() {
            self.live_wanted = step(self.live_wanted);
        }
        if fate.is_sampled() {
            self.live_sampled = step(self.live_sampled);
        }
    }
}
