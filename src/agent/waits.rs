//! Switches of threads to the times that they were away: who left, who is back, how long it took.
//!
//! Pure. `S` is where a thread was when it left. What is not known is not told: of a thread that was away already when it
//! was first looked at, and of those whose records were lost, there is nothing.

use std::collections::{HashMap, HashSet};

use crate::model::Pid;

/// Most threads that are away at a time; of more, the rest is not told.
const MAX_AWAY: usize = 65_536;

/// Threads that are away.
#[derive(Debug)]
pub(super) struct Waits<S> {
    away: HashMap<Pid, Away<S>>,
    /// Threads that have ended and are yet to leave for the last time.
    ended: HashSet<Pid>,
}

#[derive(Debug)]
struct Away<S> {
    since_ns: u64,
    place: S,
    preempted: bool,
}

/// A time away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waited<S> {
    pub(super) place: S,
    /// When it began (monotonic clock).
    pub(super) since_ns: u64,
    pub(super) ns: u64,
    pub(super) preempted: bool,
}

impl<S> Default for Waits<S> {
    fn default() -> Waits<S> {
        Waits { away: HashMap::new(), ended: HashSet::new() }
    }
}

impl<S: Clone> Waits<S> {
    /// A thread leaves its CPU at `place`.
    pub(super) fn leaves(&mut self, tid: Pid, time_ns: u64, place: S) {
        if !self.ended.remove(&tid) && self.away.len() < MAX_AWAY {
            self.away.insert(tid, Away { since_ns: time_ns, place, preempted: false });
        }
    }

    /// It has left; whether it was preempted.
    pub(super) fn left(&mut self, tid: Pid, preempted: bool) {
        if let Some(away) = self.away.get_mut(&tid) {
            away.preempted = preempted;
        }
    }

    /// It is back.
    pub(super) fn back(&mut self, tid: Pid, time_ns: u64) -> Option<Waited<S>> {
        // A thread of that number that ended long ago is another one.
        self.ended.remove(&tid);
        self.away.remove(&tid).map(|away| away.until(time_ns))
    }

    /// It is about to end: it leaves once more, and does not come back.
    pub(super) fn ends(&mut self, tid: Pid) {
        if !self.away.is_empty() && self.ended.len() < MAX_AWAY {
            self.ended.insert(tid);
        }
    }

    /// Records were lost: nobody knows who is away.
    pub(super) fn lost(&mut self) {
        self.away.clear();
        self.ended.clear();
    }

    /// Those for whom it `is` so are watched no more; what they have waited until `time_ns`.
    pub(super) fn leave(&mut self, time_ns: u64, is: impl Fn(&S) -> bool) -> Vec<Waited<S>> {
        self.away.extract_if(|_, away| is(&away.place)).map(|(_, away)| away.until(time_ns)).collect()
    }

    /// Those that are away since `longest_ns` or more: what they have waited until `time_ns`. They wait on, from there.
    /// One that is not `there` any more is forgotten.
    pub(super) fn cut(
        &mut self,
        time_ns: u64,
        longest_ns: u64,
        there: impl Fn(Pid) -> bool,
    ) -> Vec<Waited<S>> {
        let mut cut = Vec::new();
        self.away.retain(|tid, away| {
            if time_ns.saturating_sub(away.since_ns) < longest_ns {
                return true;
            }
            if !there(*tid) {
                return false;
            }
            let Away { since_ns, place, preempted } = away;
            let (place, preempted) = (place.clone(), *preempted);
            cut.push(Away { since_ns: *since_ns, place, preempted }.until(time_ns));
            *since_ns = time_ns;
            true
        });
        cut
    }
}

impl<S> Away<S> {
    fn until(self, time_ns: u64) -> Waited<S> {
        let Away { since_ns, place, preempted } = self;
        Waited { place, since_ns, ns: time_ns.saturating_sub(since_ns), preempted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: Pid = Pid(1);

    fn waited(place: char, since_ns: u64, ns: u64, preempted: bool) -> Waited<char> {
        Waited { place, since_ns, ns, preempted }
    }

    #[test]
    fn a_thread_waits_from_where_it_leaves_until_it_is_back() {
        let mut waits = Waits::default();
        assert_eq!(waits.back(ONE, 5), None, "away before anybody looked");
        waits.leaves(ONE, 10, 'a');
        waits.left(ONE, false);
        waits.leaves(Pid(2), 11, 'b');
        waits.left(Pid(2), true);
        assert_eq!(waits.back(Pid(2), 15), Some(waited('b', 11, 4, true)));
        assert_eq!(waits.back(ONE, 30), Some(waited('a', 10, 20, false)));
        assert_eq!(waits.back(ONE, 31), None);
        waits.leaves(ONE, 40, 'c');
        waits.leaves(ONE, 50, 'd');
        assert_eq!(waits.back(ONE, 60), Some(waited('d', 50, 10, false)), "in between it was back");
        waits.leaves(ONE, 70, 'e');
        waits.lost();
        assert_eq!(waits.back(ONE, 80), None, "who knows");
    }

    #[test]
    fn the_last_leaving_of_a_thread_is_no_wait() {
        let mut waits = Waits::default();
        waits.leaves(Pid(2), 1, 'x');
        waits.ends(ONE);
        waits.leaves(ONE, 10, 'a');
        assert_eq!(waits.back(ONE, 20), None);
        waits.leaves(ONE, 30, 'b');
        assert_eq!(waits.back(ONE, 31), Some(waited('b', 30, 1, false)), "a new thread of that number");
    }

    #[test]
    fn long_waits_are_told_in_pieces() {
        let mut waits = Waits::default();
        waits.leaves(ONE, 10, 'a');
        waits.leaves(Pid(2), 60, 'b');
        waits.leaves(Pid(3), 10, 'c');
        assert_eq!(waits.cut(100, 50, |tid| tid != Pid(3)), [waited('a', 10, 90, false)]);
        assert_eq!(waits.cut(120, 50, |_| true), [waited('b', 60, 60, false)]);
        assert_eq!(waits.leave(130, |place| *place == 'a'), [waited('a', 100, 30, false)]);
        assert_eq!((waits.back(ONE, 140), waits.back(Pid(3), 140)), (None, None));
        assert_eq!(waits.back(Pid(2), 140), Some(waited('b', 120, 20, false)));
    }

    proptest! {
        #[test]
        fn what_is_told_never_overlaps(steps in proptest::collection::vec((0u8..5, 0u32..3, 0u64..5), 0..200)) {
            let mut waits = Waits::default();
            let (mut now, mut told) = (0, Vec::new());
            for (step, tid, later) in steps {
                now += later;
                let pid = Pid(tid);
                match step {
                    0 => waits.leaves(pid, now, tid),
                    1 => told.extend(waits.back(pid, now)),
                    2 => waits.ends(pid),
                    3 => told.extend(waits.cut(now, 7, |_| true)),
                    _ => told.extend(waits.leave(now, |of| *of == tid)),
                }
            }
            for tid in 0..3 {
                let mut own: Vec<_> = told.iter().filter(|w| w.place == tid).map(|w| (w.since_ns, w.since_ns + w.ns)).collect();
                own.sort_unstable();
                prop_assert!(own.windows(2).all(|two| two[0].1 <= two[1].0), "{:?}", own);
            }
        }
    }
}
