//! Who may tell what a container is, and what counts as long as nobody has.

use super::{Attribution, Claim, Moment, RuntimeState};
use crate::model::{ContainerId, InstanceInfo, InstanceNo, Timestamp};

impl<S> Attribution<S> {
    /// A runtime answers or does not. True if it was not heard of before, and answers: what was none of anybody's may be
    /// its own.
    pub fn runtime(&mut self, runtime: &'static str, state: RuntimeState, at: Moment) -> bool {
        self.runtimes.set(runtime, state, at.ns)
    }

    /// Whether a runtime may claim a container that a path says is `owner`'s.
    pub fn may_own(&self, owner: Option<&str>) -> bool {
        self.runtimes.may_own(owner)
    }

    /// Whether a runtime of the kind `owner` is here, whether it answers or not.
    pub fn is_here(&self, owner: &str) -> bool {
        self.runtimes.is_here(owner)
    }

    /// Whether one of the runtimes that may own such a container answers (`Some(true)`), or is not known to be down or
    /// not here.
    pub fn answers(&self, owner: Option<&str>) -> Option<bool> {
        self.runtimes.best_of(owner)
    }

    /// Whether a runtime may still say what such a container is: one that is down will be back.
    pub fn may_be_told(&self, owner: Option<&str>) -> bool {
        self.runtimes.may_tell(owner)
    }

    /// What was found out of an instance without a runtime: believed as long as none has claimed it. True if it is.
    pub fn discovered(&mut self, no: InstanceNo, claim: Claim, at: Moment) -> bool {
        if self.unclaimed(no).is_none_or(|info| *info.container_id != *claim.container.0) {
            return false;
        }
        self.discovered.insert(claim.container.clone());
        // Nobody says when its container is forgotten.
        let claim = Claim { since: None, forgotten: Some(Timestamp::MAX), ..claim };
        self.claims.insert(claim.container.clone(), claim);
        self.settle(no, at);
        if let Some(instance) = self.instances.get_mut(&no) {
            instance.is_discovered = true;
        }
        true
    }

    /// What an instance is that no runtime has claimed, and the latest of its container.
    pub fn unclaimed(&self, no: InstanceNo) -> Option<&InstanceInfo> {
        let info = &self.instances.get(&no)?.info;
        let container = ContainerId(info.container_id.as_str().into());
        let is_latest = self.by_container.get(&container) == Some(&no);
        let is_claimed = self.claims.contains_key(&container) && !self.discovered.contains(&container);
        (is_latest && !is_claimed).then_some(info)
    }
}
