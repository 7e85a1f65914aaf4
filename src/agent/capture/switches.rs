//! Time off the CPU: of which functions switches are watched, and how many are too many.
//!
//! It is the first that the agent gives up when it comes near its budget: who asked for it is told when that was.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Capture, Happening};
use crate::agent::budget::Step;
use crate::config::OffCpu;
use crate::model::{CgroupId, Fact, Identity, InstanceNo};
use crate::perf::{Clock, PerfError, Switch};

/// A second.
const SECOND_NS: u64 = 1_000_000_000;

/// Platform, namespace and name of a function.
type Function = [Option<String>; 3];

/// Cgroups of which switches are, or were, watched, and how often their functions switch: all containers of one together,
/// or what one may cost would grow with them.
#[derive(Debug, Default)]
pub(super) struct Switching {
    cgroups: HashMap<CgroupId, (InstanceNo, Arc<Function>)>,
    counts: HashMap<Arc<Function>, Count>,
}

#[derive(Debug, Default)]
struct Count {
    second_ns: u64,
    switches: u32,
    /// Switched too often, and is watched no more.
    stopped: bool,
}

impl Switching {
    /// Whether it is known already, watched or stopped.
    fn is_known(&self, cgroup: CgroupId) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// Whether `function` has switched too often.
    fn is_stopped(&self, function: &Function) -> bool {
        self.counts.get(function).is_some_and(|count| count.stopped)
    }

    /// A cgroup of `function` is watched from now on.
    fn watch(&mut self, cgroup: CgroupId, no: InstanceNo, function: Function) {
        let known = self.counts.get_key_value(&function).map(|(known, _)| known.clone());
        let function = known.unwrap_or_else(|| Arc::new(function));
        self.counts.entry(function.clone()).or_default();
        self.cgroups.insert(cgroup, (no, function));
    }

    /// Forgets a cgroup, and its function with the last one. Whether it was still watched.
    pub(super) fn forget(&mut self, cgroup: CgroupId) -> bool {
        let Some((_, function)) = self.cgroups.remove(&cgroup) else { return false };
        let watched = !self.is_stopped(&function);
        // Here and in the table: no other cgroup has it.
        if Arc::strong_count(&function) == 2 {
            self.counts.remove(&function);
        }
        watched
    }

    /// Forgets those that switched too often: they may again.
    fn forgive(&mut self) {
        self.counts.retain(|_, count| !count.stopped);
        self.cgroups.retain(|_, (_, function)| self.counts.contains_key(function));
    }

    /// Counts a switch. Of a function with which it is the first too many, all that were watched.
    fn count(&mut self, cgroup: CgroupId, time_ns: u64, most: u32) -> Vec<(CgroupId, InstanceNo)> {
        let Some((_, function)) = self.cgroups.get(&cgroup) else { return Vec::new() };
        let Some(count) = self.counts.get_mut(function).filter(|count| !count.stopped) else {
            return Vec::new();
        };
        if time_ns.saturating_sub(count.second_ns) >= SECOND_NS {
            (count.second_ns, count.switches) = (time_ns, 0);
        }
        count.switches += 1;
        count.stopped = count.switches > most;
        if !count.stopped {
            return Vec::new();
        }
        let its = self.cgroups.iter().filter(|(_, (_, other))| other == function);
        its.map(|(cgroup, (no, _))| (*cgroup, *no)).collect()
    }
}

impl Capture {
    /// What is watched is `off_cpu`'s from now on. Who switched too often for the last one may have room in a larger one.
    pub(super) fn reload_switches(&mut self, off_cpu: &OffCpu) {
        if off_cpu.max_switches_per_second > self.setup.off_cpu.max_switches_per_second {
            self.switching.forgive();
        }
        self.setup.off_cpu = off_cpu.clone();
        self.follow_all_switches();
    }

    /// The same for all that live.
    pub(super) fn follow_all_switches(&mut self) {
        let living: Vec<InstanceNo> = self.setup.attribution.functions().collect();
        living.into_iter().for_each(|no| self.follow_switches(no));
    }

    /// Watches the switches of an instance, or no more, as the configuration asks of what it is now and the budget lets it.
    pub(super) fn follow_switches(&mut self, no: InstanceNo) {
        let join = &self.setup.attribution;
        let asked = join.identity(no).filter(|identity| self.setup.off_cpu.wants(identity));
        let may = !join.is_unseen(no) && !self.governor.is_in_force(Step::Copies);
        let wanted = asked.filter(|_| may).map(function_of);
        let Some((id, path)) = join.living(no).map(|info| (info.cgroup_id, info.cgroup_path.clone())) else {
            return;
        };
        if self.switching.is_known(id) {
            if wanted.is_none() && self.switching.forget(id) {
                self.stop_switches(id);
                self.facts([(no, Fact::OffCpu(false))].into_iter());
            }
            return;
        }
        let Some(function) = wanted.filter(|function| !self.switching.is_stopped(function)) else { return };
        let dir = match self.setup.cgroups.open_dir(&path) {
            Ok(Some(dir)) => dir,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(path, "open its cgroup: {error}; its time off the cpu is not recorded");
                return;
            }
        };
        match self.setup.sampler.watch_switches(id, dir) {
            Ok(()) => {
                self.switching.watch(id, no, function);
                self.facts([(no, Fact::OffCpu(true))].into_iter());
            }
            // Gone already: nothing switches in it.
            Err(PerfError::CgroupGone { .. }) => {}
            Err(error) => tracing::error!(path, "{error}; its time off the cpu is not recorded"),
        }
    }

    /// Takes switches out of their rings.
    pub(super) fn drain_switches(&mut self) {
        let mut switches = Vec::new();
        self.setup.sampler.drain_switches(&mut switches);
        let most = self.setup.off_cpu.max_switches_per_second;
        for switch in switches {
            let time_ns = switch.time_ns;
            let happening = match switch.value {
                Switch::Leaves(sample) if self.is_of_inner(sample.cgroup, sample.pid) => continue,
                Switch::Leaves(sample) => {
                    let stopped = self.switching.count(sample.cgroup, time_ns, most);
                    self.too_many(&stopped, most);
                    Happening::Leaves(sample)
                }
                Switch::Left { tid, preempted } => Happening::Left { tid, preempted },
                Switch::Back { tid } => Happening::Back { tid },
                Switch::Lost(count) => {
                    self.stats.switches_lost = self.stats.switches_lost.saturating_add(count);
                    Happening::SwitchesLost
                }
            };
            self.order.push(time_ns, happening);
        }
    }

    /// Stops all that are watched of a function, if there are any.
    fn too_many(&mut self, watched: &[(CgroupId, InstanceNo)], most: u32) {
        let Some((_, first)) = watched.first() else { return };
        let function =
            self.setup.attribution.identity(*first).and_then(|identity| identity.function.as_deref());
        tracing::warn!(
            function,
            "more than {most} switches a second: its time off the cpu is recorded no more \
             (off_cpu.max_switches_per_second)"
        );
        self.stats.switching_stopped += 1;
        watched.iter().for_each(|(cgroup, _)| self.stop_switches(*cgroup));
        self.facts(watched.iter().map(|(_, no)| (*no, Fact::OffCpu(false))));
    }

    /// Watches no more: what its threads wait for now ends here.
    pub(super) fn stop_switches(&mut self, cgroup: CgroupId) {
        if self.setup.sampler.leave_switches(cgroup) {
            self.order.push(Clock::monotonic_ns(), Happening::Unwatched(cgroup));
        }
    }
}

fn function_of(identity: &Identity) -> Function {
    [&identity.platform, &identity.namespace, &identity.function].map(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        [None, None, Some(name.into())]
    }

    #[test]
    fn a_function_that_switches_too_often_in_a_second_is_stopped_once_with_all_its_containers() {
        let mut switching = Switching::default();
        let (first, second, other) = (CgroupId(1), CgroupId(2), CgroupId(3));
        assert!(switching.count(first, 0, 1).is_empty(), "nobody watches it");
        switching.watch(first, InstanceNo(1), function("a"));
        switching.watch(second, InstanceNo(2), function("a"));
        switching.watch(other, InstanceNo(3), function("b"));
        let mut over = |cgroup, time_ns| {
            let mut stopped = switching.count(cgroup, time_ns, 2);
            stopped.sort_unstable();
            stopped
        };
        let both = vec![(first, InstanceNo(1)), (second, InstanceNo(2))];
        for (cgroup, time_ns, stopped) in [
            (first, 0, vec![]),
            (second, 1, vec![]),
            (first, SECOND_NS, vec![]),
            (second, SECOND_NS + 1, vec![]),
            (second, SECOND_NS + 2, both),
            (first, SECOND_NS + 3, vec![]),
            (other, SECOND_NS + 3, vec![]),
        ] {
            assert_eq!(over(cgroup, time_ns), stopped, "{cgroup:?} at {time_ns}");
        }
        assert!(switching.is_stopped(&function("a")) && !switching.is_stopped(&function("b")));
        assert!(!switching.forget(first), "it was not watched any more");
        assert!(switching.is_stopped(&function("a")), "another container of it is still here");
        switching.forgive();
        assert!(switching.is_known(other) && !switching.is_known(second), "who was stopped begins anew");
        assert!(switching.forget(other));
        assert!(switching.counts.is_empty(), "a function goes with its last container");
    }
}
