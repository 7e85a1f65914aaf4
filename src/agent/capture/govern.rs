//! The budget at the rim: readings for the governor, and what its steps do to sampling.

use std::sync::atomic::Ordering;

use super::Capture;
use crate::agent::budget::{Reading, Step};
use crate::agent::degraded::Cut;
use crate::agent::own;
use crate::model::{CgroupId, IdMap};

/// Most memory of samples that wait for the keeper, in bytes, and the least that a small budget leaves.
const MAX_QUEUED_BYTES: usize = 128 << 20;
const MIN_QUEUED_BYTES: usize = 8 << 20;
/// Between two ticks while the agent uses so much that it may have to do less.
const PRESSED_TICK_NS: u64 = 500_000_000;
/// Most cgroups of which it is remembered which of their samples is next.
const MAX_THINNED: usize = 65_536;

/// Which samples are looked at while the rate is lower: of each cgroup one in so many, which counts for all of them.
///
/// Samples are thinned here and not by the events' period: a period belongs to the whole host and to all that is in the
/// rings, and a journal tells one. So every second that is told stays a second, and coverage what it is. Where a cgroup
/// begins to count is its own: what it has more or less for that is nothing in the mean.
#[derive(Debug, Default)]
pub(super) struct Thinning {
    is_on: bool,
    seen: IdMap<CgroupId, u32>,
}

impl Thinning {
    /// How many samples one of `cgroup` counts for; none where another one counts for it.
    pub(super) fn counts_for(&mut self, cgroup: CgroupId) -> Option<u32> {
        if !self.is_on {
            return Some(1);
        }
        if self.seen.len() >= MAX_THINNED {
            self.seen.clear();
        }
        // The high bits of a product are as good as drawn.
        let begin = u32::try_from(cgroup.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48).unwrap_or(0);
        let seen = self.seen.entry(cgroup).or_insert(begin);
        *seen = seen.wrapping_add(1);
        seen.is_multiple_of(Step::THINNED).then_some(Step::THINNED)
    }

    fn set(&mut self, is_on: bool) {
        if self.is_on != is_on {
            *self = Thinning { is_on, seen: IdMap::default() };
        }
    }
}

impl Capture {
    /// How long until the next tick; soon where much is used, so that less is done soon.
    pub(super) fn tick_ns(&mut self, full: u64, armed: bool, now_ns: u64) -> u64 {
        let planned_ns = self.pace.tick_ns(full, armed, now_ns);
        if self.governor.is_pressed(self.cpus()) { planned_ns.min(PRESSED_TICK_NS) } else { planned_ns }
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.setup.sampler.cpu_count()).unwrap_or(u32::MAX)
    }

    /// Asks the governor, where something happens or something was given up: an idle agent reads nothing of itself. With
    /// each flush, and between two where ticks come that soon.
    pub(super) fn govern(&mut self, now_ns: u64) {
        self.setup.degraded.cut(Cut::Cgroups, self.setup.attribution.take_refused_cgroups());
        if self.pace.is_calm(now_ns) && self.governor.level() == 0 {
            return;
        }
        self.governed_ns = now_ns;
        let queued = self.setup.queued_bytes.load(Ordering::Relaxed);
        let cpu_us = own::cpu_us();
        let reading = Reading {
            at_ns: now_ns,
            cpu_us,
            cpus: self.cpus(),
            memory_bytes: own::private_bytes(cpu_us).unwrap_or(0),
            queue_percent: (queued.saturating_mul(100) / self.most_queued_bytes()) as u64,
        };
        let Some(change) = self.governor.read(reading) else { return };
        let (step, because) = (change.step.name(), change.cause.to_string());
        let steps = &self.setup.metrics.steps;
        match change.taken {
            true => steps.take(step, now_ns),
            false => steps.take_back(step, now_ns),
        }
        self.setup.degraded.set_level(self.governor.level());
        self.thinning.set(self.governor.is_in_force(Step::Rate));
        self.follow_demand();
        if change.step == Step::Copies {
            self.follow_all_switches();
        }
        if change.step == Step::Symbols {
            // The threads that keep tables give them up with their next work.
            crate::sys::release_freed_memory();
        }
        // Told once it is so: who reads the line and asks for the metrics finds them so.
        if change.taken {
            tracing::warn!(step, because, "near the budget: the agent does less");
        } else {
            tracing::info!(step, because, "far from the budget: the agent does more again");
        }
    }

    /// How much memory of samples may wait for the keeper, in bytes.
    pub(super) fn most_queued_bytes(&self) -> usize {
        let quarter = self.governor.limits().memory_bytes.map(|bytes| bytes / 4);
        let quarter = quarter.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(MAX_QUEUED_BYTES);
        quarter.clamp(MIN_QUEUED_BYTES, MAX_QUEUED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_what_was_sampled_in_the_mean() {
        let mut thinning = Thinning::default();
        assert_eq!(thinning.counts_for(CgroupId(1)), Some(1));
        thinning.set(true);
        let (mut counted, mut sampled) = (0, 0);
        for cgroup in 0..4_000 {
            let own = cgroup % 23;
            let count: u32 = (0..own).filter_map(|_| thinning.counts_for(CgroupId(cgroup))).sum();
            let own = u32::try_from(own).unwrap();
            assert!(count.abs_diff(own) < Step::THINNED, "{count} of {own}");
            (counted, sampled) = (counted + count, sampled + own);
        }
        // Each is off by less than 4, so their sum by less than 4 * sqrt(4000) * 4 in nearly every choice of begins.
        assert!(counted.abs_diff(sampled) < 1_012, "{counted} and {sampled}");
        for cgroup in 0..200_000 {
            let _ = thinning.counts_for(CgroupId(cgroup));
        }
        assert!(thinning.seen.len() <= MAX_THINNED);
        thinning.set(false);
        assert_eq!((thinning.counts_for(CgroupId(7)), thinning.seen.len()), (Some(1), 0));
    }
}
