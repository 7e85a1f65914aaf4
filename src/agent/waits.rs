//! Switches of threads to the times that they were away: who left, who is back, how long it took.
//!
//! Pure. `S` is where a thread was when it left. What is not known is not told: of a thread that was away already when it
//! was first looked at, and of those whose records were lost, there is nothing. What is kept is bounded, in all and for
//! each cgroup; what is over that is refused and counted.

use std::collections::HashMap;

use crate::model::{CgroupId, IdMap, Pid};

/// Most threads that are away at a time, and most memory of where they are, in bytes. Of each a cgroup has a quarter at
/// most, so that one with threads without number leaves others theirs.
const MAX_AWAY: Held = Held { threads: 65_536, bytes: 32 << 20 };
/// The share of one cgroup.
const SHARE: usize = 4;
/// How long after its end a thread may leave for the last time: it has a few instructions to go.
const LAST_LEAVING_NS: u64 = 1_000_000_000;
/// Most ends that are remembered for that long.
const MAX_ENDED: usize = 65_536;

/// Threads that are away.
#[derive(Debug)]
pub(super) struct Waits<S> {
    away: HashMap<Pid, Away<S>>,
    /// What is kept of each cgroup, and of all.
    held: IdMap<CgroupId, Held>,
    all: Held,
    /// Threads that have ended and are yet to leave for the last time, and when they ended.
    ended: HashMap<Pid, u64>,
    refused: u64,
}

/// What is kept of threads that are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Held {
    threads: usize,
    bytes: usize,
}

impl Held {
    /// With one thread of `bytes` more.
    fn and(self, bytes: usize) -> Held {
        Held { threads: self.threads + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    fn without(self, bytes: usize) -> Held {
        Held { threads: self.threads.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// Whether it is more than one part in `parts` of the most.
    fn is_over(self, parts: usize) -> bool {
        self.threads > MAX_AWAY.threads / parts || self.bytes > MAX_AWAY.bytes / parts
    }
}

#[derive(Debug)]
struct Away<S> {
    cgroup: CgroupId,
    bytes: usize,
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
        Waits {
            away: HashMap::new(),
            held: IdMap::default(),
            all: Held::default(),
            ended: HashMap::new(),
            refused: 0,
        }
    }
}

impl<S: Clone> Waits<S> {
    /// A thread of `cgroup` leaves its CPU at `place`, which takes some `bytes` of memory.
    pub(super) fn leaves(&mut self, tid: Pid, time_ns: u64, cgroup: CgroupId, bytes: usize, place: S) {
        // It was back, and nobody told.
        self.take(tid);
        if self.ended.remove(&tid).is_some() {
            return;
        }
        let own = self.held.get(&cgroup).copied().unwrap_or_default().and(bytes);
        let all = self.all.and(bytes);
        if own.is_over(SHARE) || all.is_over(1) {
            self.refused += 1;
            return;
        }
        self.held.insert(cgroup, own);
        self.all = all;
        self.away.insert(tid, Away { cgroup, bytes, since_ns: time_ns, place, preempted: false });
    }

    /// Times off the CPU that were refused since this was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn take(&mut self, tid: Pid) -> Option<Away<S>> {
        let away = self.away.remove(&tid)?;
        self.let_go(away.cgroup, away.bytes);
        Some(away)
    }

    fn let_go(&mut self, cgroup: CgroupId, bytes: usize) {
        self.all = self.all.without(bytes);
        let left = self.held.get(&cgroup).copied().unwrap_or_default().without(bytes);
        match left.threads {
            0 => self.held.remove(&cgroup),
            _ => self.held.insert(cgroup, left),
        };
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
        self.take(tid).map(|away| away.until(time_ns))
    }

    /// It is about to end: it leaves once more, and does not come back.
    pub(super) fn ends(&mut self, tid: Pid, time_ns: u64) {
        if !self.away.is_empty() && self.ended.len() < MAX_ENDED {
            self.ended.insert(tid, time_ns);
        }
    }

    /// Records were lost: nobody knows who is away.
    pub(super) fn lost(&mut self) {
        self.away.clear();
        self.held.clear();
        self.all = Held::default();
        self.ended.clear();
    }

    /// Those of `cgroup` are watched no more; what they have waited until `time_ns`.
    pub(super) fn leave(&mut self, time_ns: u64, cgroup: CgroupId) -> Vec<Waited<S>> {
        let own = self.away.extract_if(|_, away| away.cgroup == cgroup);
        let own: Vec<_> = own.map(|(_, away)| away).collect();
        own.iter().for_each(|away| self.let_go(cgroup, away.bytes));
        own.into_iter().map(|away| away.until(time_ns)).collect()
    }

    /// Those that are away since `longest_ns` or more: what they have waited until `time_ns`. They wait on, from there.
    /// One that is not `there` any more is forgotten.
    pub(super) fn cut(
        &mut self,
        time_ns: u64,
        longest_ns: u64,
        there: impl Fn(Pid) -> bool,
    ) -> Vec<Waited<S>> {
        // Most ends are of threads that nobody watches, and that leave unseen.
        self.ended.retain(|_, ended_ns| time_ns.saturating_sub(*ended_ns) < LAST_LEAVING_NS);
        let (mut cut, mut gone) = (Vec::new(), Vec::new());
        self.away.retain(|tid, away| {
            if time_ns.saturating_sub(away.since_ns) < longest_ns {
                return true;
            }
            if !there(*tid) {
                gone.push((away.cgroup, away.bytes));
                return false;
            }
            let Away { since_ns, place, preempted, .. } = away;
            let ns = time_ns.saturating_sub(*since_ns);
            cut.push(Waited { place: place.clone(), since_ns: *since_ns, ns, preempted: *preempted });
            *since_ns = time_ns;
            true
        });
        gone.into_iter().for_each(|(cgroup, bytes)| self.let_go(cgroup, bytes));
        cut
    }
}

impl<S> Away<S> {
    fn until(self, time_ns: u64) -> Waited<S> {
        let Away { since_ns, place, preempted, .. } = self;
        Waited { place, since_ns, ns: time_ns.saturating_sub(since_ns), preempted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: Pid = Pid(1);
    const OF: CgroupId = CgroupId(7);
    const OTHER: CgroupId = CgroupId(8);

    fn waited(place: char, since_ns: u64, ns: u64, preempted: bool) -> Waited<char> {
        Waited { place, since_ns, ns, preempted }
    }

    #[test]
    fn a_thread_waits_from_where_it_leaves_until_it_is_back() {
        let mut waits = Waits::default();
        assert_eq!(waits.back(ONE, 5), None, "away before anybody looked");
        waits.leaves(ONE, 10, OF, 1, 'a');
        waits.left(ONE, false);
        waits.leaves(Pid(2), 11, OF, 1, 'b');
        waits.left(Pid(2), true);
        assert_eq!(waits.back(Pid(2), 15), Some(waited('b', 11, 4, true)));
        assert_eq!(waits.back(ONE, 30), Some(waited('a', 10, 20, false)));
        assert_eq!(waits.back(ONE, 31), None);
        waits.leaves(ONE, 40, OF, 1, 'c');
        waits.leaves(ONE, 50, OF, 1, 'd');
        assert_eq!(waits.back(ONE, 60), Some(waited('d', 50, 10, false)), "in between it was back");
        waits.leaves(ONE, 70, OF, 1, 'e');
        waits.lost();
        assert_eq!(waits.back(ONE, 80), None, "who knows");
    }

    #[test]
    fn the_last_leaving_of_a_thread_is_no_wait() {
        let mut waits = Waits::default();
        waits.leaves(Pid(2), 1, OF, 1, 'x');
        waits.ends(ONE, 9);
        waits.leaves(ONE, 10, OF, 1, 'a');
        assert_eq!(waits.back(ONE, 20), None);
        waits.leaves(ONE, 30, OF, 1, 'b');
        assert_eq!(waits.back(ONE, 31), Some(waited('b', 30, 1, false)), "a new thread of that number");
    }

    #[test]
    fn long_waits_are_told_in_pieces() {
        let mut waits = Waits::default();
        waits.leaves(ONE, 10, OF, 1, 'a');
        waits.leaves(Pid(2), 60, OTHER, 1, 'b');
        waits.leaves(Pid(3), 10, OF, 1, 'c');
        assert_eq!(waits.cut(100, 50, |tid| tid != Pid(3)), [waited('a', 10, 90, false)]);
        assert_eq!(waits.cut(120, 50, |_| true), [waited('b', 60, 60, false)]);
        assert_eq!(waits.leave(130, CgroupId(9)), []);
        assert_eq!(waits.leave(130, OF), [waited('a', 100, 30, false)]);
        assert_eq!((waits.back(ONE, 140), waits.back(Pid(3), 140)), (None, None));
        assert_eq!(waits.back(Pid(2), 140), Some(waited('b', 120, 20, false)));
    }

    #[test]
    fn ends_of_threads_that_nobody_watches_are_forgotten() {
        let mut waits = Waits::default();
        waits.leaves(ONE, 1, OF, 1, 'a');
        (2..1_000).for_each(|tid| waits.ends(Pid(tid), 5));
        assert_eq!((waits.cut(6, u64::MAX, |_| true), waits.ended.len()), (vec![], 998));
        assert_eq!((waits.cut(5 + LAST_LEAVING_NS, u64::MAX, |_| true), waits.ended.len()), (vec![], 0));
    }

    #[test]
    fn one_cgroup_has_its_share_and_leaves_others_theirs() {
        let mut waits = Waits::default();
        let most = u32::try_from(MAX_AWAY.threads / SHARE).unwrap();
        (0..most + 10).for_each(|tid| waits.leaves(Pid(tid), 1, OF, 1, 'a'));
        assert_eq!((waits.away.len(), waits.take_refused(), waits.take_refused()), (most as usize, 10, 0));
        waits.leaves(Pid(most + 20), 1, OTHER, 1, 'b');
        assert_eq!(
            (waits.take_refused(), waits.back(Pid(most + 20), 2)),
            (0, Some(waited('b', 1, 1, false)))
        );
        assert!(waits.back(Pid(0), 2).is_some());
        waits.leaves(Pid(0), 3, OF, 1, 'c');
        assert_eq!(waits.take_refused(), 0, "who is back leaves room");
        waits.leave(4, OF);
        assert_eq!((waits.all, waits.held.len()), (Held::default(), 0));
        // And of memory.
        let piece = MAX_AWAY.bytes / SHARE / 2;
        (0..3).for_each(|tid| waits.leaves(Pid(tid), 5, OF, piece, 'a'));
        assert_eq!((waits.away.len(), waits.take_refused()), (2, 1));
        let more = |n: u64| CgroupId(100 + n);
        (0..8).for_each(|n| waits.leaves(Pid(100 + n as u32), 6, more(n), piece, 'b'));
        assert_eq!((waits.away.len(), waits.take_refused()), (8, 2), "all together too");
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
                    0 => waits.leaves(pid, now, CgroupId(tid.into()), 1 + tid as usize, tid),
                    1 => told.extend(waits.back(pid, now)),
                    2 => waits.ends(pid, now),
                    3 => told.extend(waits.cut(now, 7, |_| true)),
                    _ => told.extend(waits.leave(now, CgroupId(tid.into()))),
                }
                let bytes = waits.away.values().map(|away| away.bytes).sum();
                prop_assert_eq!(waits.all, Held { threads: waits.away.len(), bytes });
                prop_assert_eq!(waits.held.values().map(|held| held.bytes).sum::<usize>(), bytes);
            }
            for tid in 0..3 {
                let mut own: Vec<_> = told.iter().filter(|w| w.place == tid).map(|w| (w.since_ns, w.since_ns + w.ns)).collect();
                own.sort_unstable();
                prop_assert!(own.windows(2).all(|two| two[0].1 <= two[1].0), "{:?}", own);
            }
        }
    }
}
