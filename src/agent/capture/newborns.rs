//! Processes that have just begun in containers whose function may still change, until their environments are read.
//!
//! The kernel tells of an exec before it has set the new environment: one that is empty is read again, at distances that
//! grow, for half a second. How often a process calls exec is its tenant's choice, and who reads holds all others up. So
//! a process waits once, whatever it does, a container has a small share, and what is refused is counted. Pure: the
//! caller tells the time, and reads.

use crate::attribution::Moment;
use crate::model::{InstanceNo, Pid};

/// Most processes that wait; and most of one instance.
const MAX_NEWBORN: usize = 1_024;
pub(super) const MAX_OF_ONE: usize = 16;
/// How long an environment may stay empty, in nanoseconds, before it is taken for one that is.
const PATIENCE_NS: u64 = 500_000_000;
/// Between two readings of one that is empty: at first, and at most.
const FIRST_REST_NS: u64 = 200_000;
const LONGEST_REST_NS: u64 = 50_000_000;

/// A process that has just begun.
#[derive(Debug)]
pub(super) struct Newborn {
    /// Of which instance.
    pub(super) no: InstanceNo,
    /// Which.
    pub(super) pid: Pid,
    /// When it called exec, or was found.
    pub(super) exec: Moment,
    due_ns: u64,
    rest_ns: u64,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Newborns {
    waiting: Vec<Newborn>,
    refused: u64,
}

impl Newborns {
    /// A process of `no` has called exec. Of one that waits already it is the new environment that is read, when the old
    /// one would have been.
    pub(super) fn add(&mut self, no: InstanceNo, pid: Pid, exec: Moment) {
        if let Some(known) = self.waiting.iter_mut().find(|known| known.pid == pid && known.no == no) {
            known.exec = exec;
            return;
        }
        // The number of one that has gone may be another's.
        self.waiting.retain(|known| known.pid != pid);
        let of_one = self.waiting.iter().filter(|known| known.no == no).count();
        if of_one >= MAX_OF_ONE || self.waiting.len() >= MAX_NEWBORN {
            self.refused += 1;
            return;
        }
        self.waiting.push(Newborn { no, pid, exec, due_ns: 0, rest_ns: FIRST_REST_NS });
    }

    /// Those that are to be read at `now_ns`. They wait no more.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<Newborn> {
        self.waiting.extract_if(.., |newborn| newborn.due_ns <= now_ns).collect()
    }

    /// The environment of one was empty at `now_ns`: it waits again, if it has not waited long enough.
    pub(super) fn still_empty(&mut self, newborn: Newborn, now_ns: u64) {
        if now_ns < newborn.exec.ns.saturating_add(PATIENCE_NS) {
            let due_ns = now_ns.saturating_add(newborn.rest_ns);
            let rest_ns = newborn.rest_ns.saturating_mul(2).min(LONGEST_REST_NS);
            self.waiting.push(Newborn { due_ns, rest_ns, ..newborn });
        }
    }

    /// How many were refused since it was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const MS: u64 = 1_000_000;

    fn at(ns: u64) -> Moment {
        Moment { ns, wall: Timestamp(ns.cast_signed() / 1_000) }
    }

    #[test]
    fn one_that_stays_empty_is_read_ever_less_and_given_up() {
        let mut newborns = Newborns::default();
        newborns.add(InstanceNo(1), Pid(7), at(MS));
        let (mut reads, mut now_ns) = (Vec::new(), MS);
        while now_ns < 2_000 * MS {
            for newborn in newborns.take_due(now_ns) {
                reads.push(now_ns);
                newborns.still_empty(newborn, now_ns);
            }
            now_ns += MS / 10;
        }
        assert_eq!(reads.first(), Some(&MS), "at once");
        assert!((10..25).contains(&reads.len()), "{reads:?}");
        let last = reads.last().unwrap();
        assert!((500 * MS..600 * MS).contains(last), "{reads:?}");
        assert!(newborns.waiting.is_empty());
    }

    #[test]
    fn a_process_that_calls_exec_without_end_is_read_no_more_often() {
        let mut newborns = Newborns::default();
        let mut reads = 0;
        // Two thousand a second, for ten seconds, with an empty environment.
        for step in 0..20_000 {
            let now_ns = step * MS / 2;
            newborns.add(InstanceNo(1), Pid(7), at(now_ns));
            for newborn in newborns.take_due(now_ns) {
                assert_eq!(newborn.exec, at(now_ns), "it is the last that counts");
                reads += 1;
                newborns.still_empty(newborn, now_ns);
            }
            assert_eq!(newborns.waiting.len(), 1);
        }
        assert!((200..=220).contains(&reads), "{reads}");
        assert_eq!(newborns.take_refused(), 0);
    }

    #[test]
    fn a_container_has_its_share_and_no_more() {
        let mut newborns = Newborns::default();
        for pid in 0..5_000 {
            newborns.add(InstanceNo(1), Pid(pid), at(MS));
        }
        newborns.add(InstanceNo(2), Pid(5_000), at(MS));
        assert_eq!(newborns.take_refused(), 5_000 - MAX_OF_ONE as u64);
        let due = newborns.take_due(MS);
        assert_eq!((due.len(), due.last().map(|newborn| newborn.no)), (MAX_OF_ONE + 1, Some(InstanceNo(2))));
        // A number that is another's by now.
        newborns.add(InstanceNo(1), Pid(7), at(MS));
        newborns.add(InstanceNo(2), Pid(7), at(2 * MS));
        let due = newborns.take_due(2 * MS);
        assert_eq!(due.iter().map(|newborn| newborn.no).collect::<Vec<_>>(), [InstanceNo(2)]);
        // All together.
        for no in 0..200 {
            for pid in 0..10 {
                newborns.add(InstanceNo(no), Pid(no * 10 + pid), at(MS));
            }
        }
        assert_eq!(
            (newborns.waiting.len(), newborns.take_refused()),
            (MAX_NEWBORN, 2_000 - MAX_NEWBORN as u64)
        );
    }
}
