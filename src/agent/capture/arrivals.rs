//! Who is moved into a cgroup that was just made.
//!
//! That leaves no record. A runtime moves its own child there, milliseconds after the cgroup's making, and what that
//! becomes is the function, which may be over before anybody asks where it was. So a cgroup is looked into soon after its
//! making, at distances that grow, until somebody was found there twice: descendants of processes that are known are told
//! by the kernel, but for those that were made between two readings.

use super::Capture;
use crate::model::InstanceNo;
use crate::perf::Clock;

/// Most cgroups that are looked into, and processes that are taken of one.
const MAX_WAITING: usize = 256;
const MAX_OF_ONE: usize = 64;
/// The first look, and the longest rest between two: who has not come in half a second is asked for at its exec.
const FIRST_REST_NS: u64 = 1_000_000;
const LONGEST_REST_NS: u64 = 256_000_000;

/// Cgroups that wait for their processes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: Vec<Arrival>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arrival {
    no: InstanceNo,
    due_ns: u64,
    rest_ns: u64,
    /// Whether somebody was there.
    met: bool,
}

impl Arrivals {
    /// The cgroup of `no` was made at `now_ns`.
    fn add(&mut self, no: InstanceNo, now_ns: u64) {
        if self.waiting.len() < MAX_WAITING {
            let due_ns = now_ns.saturating_add(FIRST_REST_NS);
            self.waiting.push(Arrival { no, due_ns, rest_ns: FIRST_REST_NS, met: false });
        }
    }

    /// When the next look is due.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.waiting.iter().map(|arrival| arrival.due_ns).min()
    }

    /// Those that are due, until they are put back.
    fn take_due(&mut self, now_ns: u64) -> Vec<Arrival> {
        self.waiting.extract_if(.., |arrival| arrival.due_ns <= now_ns).collect()
    }

    /// It was looked at, and somebody was there or not: it waits again where that may change.
    fn looked(&mut self, arrival: Arrival, met: bool, now_ns: u64) {
        let rest_ns = arrival.rest_ns.saturating_mul(2);
        if !(arrival.met && met) && rest_ns <= LONGEST_REST_NS {
            let due_ns = now_ns.saturating_add(rest_ns);
            self.waiting.push(Arrival { due_ns, rest_ns, met: arrival.met || met, ..arrival });
        }
    }
}

impl Capture {
    /// The cgroup of `no` was just made, and its first process is still to come.
    pub(super) fn await_arrival(&mut self, no: InstanceNo) {
        self.arrivals.add(no, Clock::monotonic_ns());
    }

    /// Looks into the cgroups whose time has come.
    pub(super) fn look_for_arrivals(&mut self, now_ns: u64) {
        if self.arrivals.due_ns().is_none_or(|due_ns| due_ns > now_ns) {
            return;
        }
        // A process that is told to have begun later than this would be taken for a stranger's again.
        self.take_side_band();
        for arrival in self.arrivals.take_due(now_ns) {
            // It may have been found to be no function's, or to be over.
            let join = &self.setup.attribution;
            if !join.is_sampled(arrival.no) {
                continue;
            }
            let Some(info) = join.living(arrival.no) else { continue };
            let Ok(pids) = self.setup.cgroups.processes(&info.cgroup_path) else { continue };
            let met = !pids.is_empty();
            self.adopt(arrival.no, pids.into_iter().take(MAX_OF_ONE));
            self.arrivals.looked(arrival, met, now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: InstanceNo = InstanceNo(3);

    /// When it was looked at, if somebody is there from `from_ms` on.
    fn looks(from_ms: u64) -> Vec<u64> {
        let mut arrivals = Arrivals::default();
        arrivals.add(NO, 0);
        let mut looks = Vec::new();
        while let Some(now_ns) = arrivals.due_ns() {
            for arrival in arrivals.take_due(now_ns) {
                let now_ms = now_ns / 1_000_000;
                looks.push(now_ms);
                arrivals.looked(arrival, now_ms >= from_ms, now_ns);
            }
        }
        looks
    }

    #[test]
    fn a_cgroup_is_looked_into_until_somebody_was_there_twice() {
        assert_eq!(looks(0), [1, 3]);
        assert_eq!(looks(5), [1, 3, 7, 15]);
        assert_eq!(looks(10_000), [1, 3, 7, 15, 31, 63, 127, 255, 511]);
    }

    #[test]
    fn who_makes_cgroups_without_end_is_looked_at_no_more_than_others() {
        let mut arrivals = Arrivals::default();
        (0..5_000).for_each(|no| arrivals.add(InstanceNo(no), 0));
        assert_eq!(arrivals.take_due(u64::MAX).len(), MAX_WAITING);
        assert_eq!(arrivals.due_ns(), None);
    }
}
