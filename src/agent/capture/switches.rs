//! Time off the CPU: of which functions switches are watched, and how many are too many.

use std::collections::HashMap;

use super::{Capture, Happening};
use crate::config::OffCpu;
use crate::model::{CgroupId, Fact, InstanceNo};
use crate::perf::{Clock, PerfError, Switch};

/// A second.
const SECOND_NS: u64 = 1_000_000_000;

/// Cgroups of which switches are, or were, watched.
#[derive(Debug, Default)]
pub(super) struct Switching {
    counts: HashMap<CgroupId, Count>,
}

#[derive(Debug)]
struct Count {
    no: InstanceNo,
    second_ns: u64,
    switches: u32,
    /// Switched too often, and is watched no more.
    stopped: bool,
}

impl Switching {
    /// Forgets a cgroup.
    pub(super) fn forget(&mut self, cgroup: CgroupId) {
        self.counts.remove(&cgroup);
    }

    /// Forgets those that switched too often: they may again.
    fn forgive(&mut self) {
        self.counts.retain(|_, count| !count.stopped);
    }

    /// Counts a switch. True if it is the first that is too many.
    fn count(&mut self, cgroup: CgroupId, time_ns: u64, most: u32) -> bool {
        let Some(count) = self.counts.get_mut(&cgroup).filter(|count| !count.stopped) else { return false };
        if time_ns.saturating_sub(count.second_ns) >= SECOND_NS {
            (count.second_ns, count.switches) = (time_ns, 0);
        }
        count.switches += 1;
        count.stopped = count.switches > most;
        count.stopped
    }
}

impl Capture {
    /// What is watched is `off_cpu`'s from now on. Who switched too often for the last one may have room in a larger one.
    pub(super) fn reload_switches(&mut self, off_cpu: &OffCpu) {
        if off_cpu.max_switches_per_second > self.setup.off_cpu.max_switches_per_second {
            self.switching.forgive();
        }
        self.setup.off_cpu = off_cpu.clone();
        let living: Vec<InstanceNo> = self.setup.attribution.functions().collect();
        living.into_iter().for_each(|no| self.follow_switches(no));
    }

    /// Watches the switches of an instance, or no more, as the configuration asks of what it is now.
    pub(super) fn follow_switches(&mut self, no: InstanceNo) {
        let join = &self.setup.attribution;
        let asked = join.identity(no).is_some_and(|identity| self.setup.off_cpu.wants(identity));
        let wanted = asked && !join.is_unseen(no);
        let Some((id, path)) = join.living(no).map(|info| (info.cgroup_id, info.cgroup_path.clone())) else {
            return;
        };
        let watched = self.switching.counts.contains_key(&id);
        if watched && !wanted {
            self.stop_switches(id);
            self.switching.forget(id);
            self.facts([(no, Fact::OffCpu(false))].into_iter());
        }
        if watched || !wanted {
            return;
        }
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
                let count = Count { no, second_ns: 0, switches: 0, stopped: false };
                self.switching.counts.insert(id, count);
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
                    if self.switching.count(sample.cgroup, time_ns, most) {
                        self.too_many(sample.cgroup, most);
                    }
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

    fn too_many(&mut self, cgroup: CgroupId, most: u32) {
        let Some(no) = self.switching.counts.get(&cgroup).map(|count| count.no) else { return };
        let path = self.setup.attribution.living(no).map(|info| info.cgroup_path.clone());
        tracing::warn!(
            path,
            "more than {most} switches a second: its time off the cpu is recorded no more \
             (off_cpu.max_switches_per_second)"
        );
        self.stats.switching_stopped += 1;
        self.stop_switches(cgroup);
        self.facts([(no, Fact::OffCpu(false))].into_iter());
    }

    /// Watches no more: what its threads wait for now ends here.
    pub(super) fn stop_switches(&mut self, cgroup: CgroupId) {
        if self.setup.sampler.leave_switches(cgroup) {
            self.order.push(Clock::monotonic_ns(), Happening::Unwatched(cgroup));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_switches_too_often_in_a_second_is_stopped_once() {
        let mut switching = Switching::default();
        let cgroup = CgroupId(1);
        assert!(!switching.count(cgroup, 0, 1), "nobody watches it");
        let count = Count { no: InstanceNo(1), second_ns: 0, switches: 0, stopped: false };
        switching.counts.insert(cgroup, count);
        let over: Vec<bool> = [0, 1, SECOND_NS, SECOND_NS + 1, SECOND_NS + 2, SECOND_NS + 3]
            .map(|time_ns| switching.count(cgroup, time_ns, 2))
            .into();
        assert_eq!(over, [false, false, false, false, true, false]);
        let other = Count { no: InstanceNo(2), second_ns: 0, switches: 0, stopped: false };
        switching.counts.insert(CgroupId(2), other);
        switching.forgive();
        assert_eq!(
            switching.counts.keys().collect::<Vec<_>>(),
            [&CgroupId(2)],
            "who was stopped begins anew"
        );
    }
}
