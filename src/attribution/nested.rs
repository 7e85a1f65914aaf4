//! Cgroups below an instance's own: the instance's, until a runtime says that one of them is a container.

use std::collections::HashSet;

use super::{Attribution, Instance};
use crate::model::{CgroupId, InstanceInfo, InstanceNo};

impl<S> Attribution<S> {
    /// Whether another instance lives in the cgroup of this one.
    pub fn has_inner(&self, no: InstanceNo) -> bool {
        let Some(instance) = self.instances.get(&no) else { return false };
        let below = format!("{}/", instance.info.cgroup_path);
        self.by_path.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// Instances with more than `count` cgroups below their own, which nobody tells us the end of.
    pub fn overgrown(&self, count: usize) -> impl Iterator<Item = (InstanceNo, &InstanceInfo)> {
        let many = move |instance: &&Instance<S>| instance.nested.len() > count && !instance.gone;
        self.instances.values().filter(many).map(|instance| (instance.no, &instance.info))
    }

    /// Forgets the cgroups below the instance's own that are not among `there`.
    pub fn keep_nested(&mut self, no: InstanceNo, there: &HashSet<CgroupId>) {
        let Some(instance) = self.instances.get_mut(&no) else { return };
        let gone = |id: &mut CgroupId| !there.contains(id);
        instance.nested.extract_if(.., gone).for_each(|id| {
            self.by_cgroup.remove(&id);
        });
        instance.nested.shrink_to_fit();
    }

    pub(super) fn ancestor(&self, path: &str) -> Option<InstanceNo> {
        let mut end = path.len();
        while let Some(slash) = path.get(..end)?.rfind('/') {
            end = slash;
            if let Some(no) = self.by_path.get(path.get(..end)?) {
                return Some(*no);
            }
        }
        None
    }

    /// Takes `cgroup` from those below the instance's own: it is a container after all. False if it is none of them.
    pub(super) fn take_nested(&mut self, no: InstanceNo, cgroup: CgroupId) -> bool {
        let Some(instance) = self.instances.get_mut(&no) else { return false };
        let before = instance.nested.len();
        instance.nested.retain(|nested| *nested != cgroup);
        instance.nested.len() < before
    }
}
