//! Time off the CPU: of which functions switches are watched, and how many are too many.
//!
//! It is the first that the agent gives up when it comes near its budget. What was given up of a container is not taken up
//! again before its end, or before the configuration is read again: so the word on when that was stays the last one.

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
    cgroups: HashMap<CgroupId, Followed>,
    counts: HashMap<Arc<Function>, Count>,
}

#[derive(Debug)]
struct Followed {
    no: InstanceNo,
    function: Arc<Function>,
    /// For the budget.
    given_up: bool,
}

#[derive(Debug, Default)]
struct Count {
    second_ns: u64,
    switches: u32,
    /// Switched too often, and is watched no more.
    stopped: bool,
}

impl Switching {
    /// As what a cgroup is followed, whether it still is watched or not.
    fn function(&self, cgroup: CgroupId) -> Option<&Function> {
        self.cgroups.get(&cgroup).map(|followed| &*followed.function)
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
        self.cgroups.insert(cgroup, Followed { no, function, given_up: false });
    }

    /// A cgroup is watched no more, for the budget. Whether it was until now.
    fn give_up(&mut self, cgroup: CgroupId) -> bool {
        if self.function(cgroup).is_none_or(|function| self.is_stopped(function)) {
            return false;
        }
        let followed = self.cgroups.get_mut(&cgroup);
        followed.is_some_and(|followed| !std::mem::replace(&mut followed.given_up, true))
    }

    /// Forgets a cgroup, and its function with the last one. Whether it was still watched.
    pub(super) fn forget(&mut self, cgroup: CgroupId) -> bool {
        let Some(Followed { function, given_up, .. }) = self.cgroups.remove(&cgroup) else { return false };
        let watched = !given_up && !self.is_stopped(&function);
        // Here and in the table: no other cgroup has it.
        if Arc::strong_count(&function) == 2 {
            self.counts.remove(&function);
        }
        watched
    }

    /// Forgets those that were given up; where `more` is allowed than before, those that switched too often as well.
    fn forgive(&mut self, more: bool) {
        self.cgroups.retain(|_, followed| !followed.given_up);
        self.counts.retain(|function, count| Arc::strong_count(function) > 1 && !(more && count.stopped));
        self.cgroups.retain(|_, followed| self.counts.contains_key(&followed.function));
    }

    /// Counts a switch. Of a function with which it is the first too many, all that were watched.
    fn count(&mut self, cgroup: CgroupId, time_ns: u64, most: u32) -> Vec<(CgroupId, InstanceNo)> {
        let followed = self.cgroups.get(&cgroup).filter(|followed| !followed.given_up);
        let Some(Followed { function, .. }) = followed else { return Vec::new() };
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
        let its = self.cgroups.iter().filter(|(_, other)| !other.given_up && other.function == *function);
        its.map(|(cgroup, followed)| (*cgroup, followed.no)).collect()
    }
}

impl Capture {
    /// What is watched is `off_cpu`'s from now on. Who switched too often for the last one may have room in a larger one.
    pub(super) fn reload_switches(&mut self, off_cpu: &OffCpu) {
        let more = off_cpu.max_switches_per_second > self.setup.off_cpu.max_switches_per_second;
        self.switching.forgive(more);
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
        let wanted = asked.filter(|_| !join.is_unseen(no)).map(function_of);
        let may = !self.governor.is_in_force(Step::Copies);
        let Some((id, path)) = join.living(no).map(|info| (info.cgroup_id, info.cgroup_path.clone())) else {
            return;
        };
        if let Some(known) = self.switching.function(id) {
            let goes_on = wanted.as_ref() == Some(known);
            // Another function's now, it counts for that one.
            let ends = if goes_on { !may && self.switching.give_up(id) } else { self.switching.forget(id) };
            if ends {
                self.stop_switches(id);
                self.facts([(no, Fact::OffCpu(false))].into_iter());
            }
            if goes_on {
                return;
            }
        }
        let wanted = wanted.filter(|function| may && !self.switching.is_stopped(function));
        let Some(function) = wanted else { return };
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
        // They come CPU after CPU, and are counted by the second.
        switches.sort_by_key(|switch| switch.time_ns);
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
        assert!(!switching.give_up(second), "nor is this one");
        switching.forgive(false);
        assert!(switching.is_stopped(&function("a")), "it may not switch more often than before");
        switching.forgive(true);
        assert_eq!(switching.function(other), Some(&function("b")));
        assert_eq!(switching.function(second), None, "who was stopped begins anew");
        assert!(switching.forget(other));
        assert!(switching.counts.is_empty(), "a function goes with its last container");
    }

    #[test]
    fn what_is_given_up_for_the_budget_counts_no_more_and_is_not_stopped_with_the_others() {
        let mut switching = Switching::default();
        let (given_up, other) = (CgroupId(1), CgroupId(2));
        switching.watch(given_up, InstanceNo(1), function("a"));
        assert!(switching.give_up(given_up) && !switching.give_up(given_up), "once");
        switching.watch(other, InstanceNo(2), function("a"));
        assert!(switching.count(given_up, 0, 0).is_empty());
        assert_eq!(switching.count(other, 0, 0), [(other, InstanceNo(2))]);
        assert!(!switching.forget(given_up));
        switching.watch(given_up, InstanceNo(1), function("b"));
        switching.give_up(given_up);
        switching.forgive(false);
        assert_eq!(switching.function(given_up), None, "it may be watched again");
        assert_eq!(switching.counts.len(), 1, "nobody is of its function any more");
    }
}
