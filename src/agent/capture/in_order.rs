//! What is done in order of time: processes and what they have mapped, and samples with what was mapped in their moment.
//!
//! Belongs to the capture thread. Walking a stack takes microseconds and, of a file seen for the first time, a read of
//! its unwind tables: the lock is not held meanwhile.

use super::{Capture, Happening, SETTLE_NS, Setup, Shared, is_gone};
use crate::agent::budget::Step;
use crate::agent::degraded::Cut;
use crate::agent::places::Places;
use crate::agent::verdicts::Verdicts;
use crate::agent::waits::{Waited, Waits};
use crate::agent::work::{PlacedSample, PlacedWait};
use crate::config::Unwind;
use crate::model::{CgroupId, Pid};
use crate::perf::{Clock, RawSample, keep_little};
use crate::stack::Processes;

/// A time off the CPU that is not over is told in pieces of this length, or who waits for an hour would not be seen in it.
const LONG_WAIT_NS: u64 = 60_000_000_000;
/// Samples that are handed on at a time.
const PIECE: usize = 256;

pub(super) struct InOrder {
    processes: Processes,
    places: Places,
    verdicts: Verdicts,
    /// Whether what is learned of programs decides anything.
    learns: bool,
    clock: Clock,
    /// What is in order now.
    ready: Vec<(u64, Happening)>,
    placed: Vec<Placed>,
    /// Threads that are off the CPU: of which cgroup, where.
    waits: Waits<(CgroupId, PlacedSample)>,
    waited: Vec<Waited<(CgroupId, PlacedSample)>>,
    /// Whether little is kept of symbols and unwind tables.
    keeps_less: bool,
}

/// How long a sample waits for its names.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// A second or two.
    Shortly,
    /// Until its thread is back.
    ForLong,
}

/// A sample that is to be attributed.
struct Placed {
    cgroup: CgroupId,
    time_ns: u64,
    /// A process that was taken for ended.
    revived: Option<Pid>,
    sample: PlacedSample,
}

impl InOrder {
    pub(super) fn new(setup: &Setup) -> InOrder {
        InOrder {
            processes: Processes::default(),
            places: Places::new(setup.max_stack, setup.scan, setup.perf_maps, setup.parser.clone()),
            verdicts: Verdicts::new(setup.cache_dir.as_deref()),
            learns: setup.unwind == Unwind::Auto,
            clock: Clock::read(),
            ready: Vec::new(),
            placed: Vec::with_capacity(PIECE),
            waits: Waits::default(),
            waited: Vec::new(),
            keeps_less: false,
        }
    }

    /// Does what is in order. Returns how full the fullest side-band ring was, in percent.
    pub(super) fn tick(&mut self, shared: &Shared, now_ns: u64, last: bool) -> u64 {
        let mut capture = shared.lock();
        // What happened to processes before the samples, or a sample could meet a process nobody has heard of.
        let (_, full) = capture.take_side_band();
        if last {
            capture.look_at_accounts(u64::MAX);
        }
        capture.drain_samples(None);
        let horizon = if last { u64::MAX } else { now_ns.saturating_sub(SETTLE_NS) };
        let mut ready = std::mem::take(&mut self.ready);
        capture.order.take_before(horizon, &mut ready);
        self.clock = capture.clock;
        drop(capture);
        for (time_ns, happening) in ready.drain(..) {
            self.apply(time_ns, happening, shared);
        }
        keep_little(&mut ready);
        self.ready = ready;
        let longest_ns = if last { 0 } else { LONG_WAIT_NS };
        self.waited.extend(self.waits.cut(now_ns, longest_ns, |tid| !is_gone(tid)));
        let mut capture = shared.lock();
        self.hand_on(&mut capture);
        capture.stats.waits_refused += self.waits.take_refused();
        if self.learns {
            self.judge(&mut capture, now_ns);
        }
        (capture.stats.walks, capture.stats.perf_maps) = self.places.stats();
        if !capture.settle(now_ns, last) {
            return full;
        }
        let refused = self.processes.take_refused();
        let not_followed = capture.lineage.take_refused();
        capture.setup.degraded.cut(Cut::Processes, refused.processes + not_followed);
        capture.setup.degraded.cut(Cut::Mappings, refused.mappings);
        capture.setup.degraded.cut(Cut::Walks, self.places.take_refused());
        self.places.read_less(capture.governor.is_in_force(Step::Reads));
        let less = capture.governor.is_in_force(Step::Symbols);
        if less != std::mem::replace(&mut self.keeps_less, less) {
            self.places.keep_less(less);
        }
        self.processes.keep(|pid| capture.lineage.contains_key(&pid), now_ns);
        self.places.keep(&self.processes, now_ns);
        capture.stats.peak_processes = capture.stats.peak_processes.max(self.processes.len());
        self.processes.expire(now_ns);
        if std::mem::take(&mut capture.rescan) {
            // Members may have ended, forked and become other programs meanwhile.
            capture.lineage.clear();
            self.processes.doubt();
            capture.scan();
        }
        full
    }

    fn apply(&mut self, time_ns: u64, happening: Happening, shared: &Shared) {
        if let Happening::Fork { pid, .. } | Happening::Exec { pid, .. } = happening {
            self.places.forget(pid);
        }
        match happening {
            Happening::Fork { pid, parent } => self.processes.fork(pid, parent),
            Happening::Exec { pid, no, comm } => self.processes.exec(pid, no, &comm),
            Happening::Name { pid, tid, comm } => self.processes.name(pid, tid, &comm),
            Happening::Mmap { pid, mapping } => self.processes.mmap(pid, mapping),
            Happening::Exit { pid } => {
                self.waits.ends(pid, time_ns);
                self.processes.exit(pid, time_ns);
            }
            Happening::ThreadExit { pid, tid } => {
                self.waits.ends(tid, time_ns);
                self.processes.thread_exit(pid, tid);
            }
            Happening::Sample { sample, count } => self.sample(sample, count, shared),
            Happening::Leaves(sample) => {
                let (tid, cgroup) = (sample.tid, sample.cgroup);
                let (placed, _) = self.place(sample, 1, Kept::ForLong, shared);
                self.waits.leaves(tid, time_ns, cgroup, placed.bytes(), (cgroup, placed));
            }
            Happening::Left { tid, preempted } => self.waits.left(tid, preempted),
            Happening::Back { tid } => self.waited.extend(self.waits.back(tid, time_ns)),
            Happening::SwitchesLost => self.waits.lost(),
            Happening::Unwatched(cgroup) => {
                self.waited.extend(self.waits.leave(time_ns, cgroup));
            }
        }
    }

    fn sample(&mut self, sample: RawSample, count: u32, shared: &Shared) {
        let (cgroup, time_ns) = (sample.cgroup, sample.time_ns);
        let (placed, revived) = self.place(sample, count, Kept::Shortly, shared);
        self.placed.push(Placed { cgroup, time_ns, revived, sample: placed });
        if self.placed.len() >= PIECE {
            self.hand_on(&mut shared.lock());
        }
    }

    /// Where a sample is, which counts for `count`; and its process if that was taken for ended.
    fn place(
        &mut self,
        sample: RawSample,
        count: u32,
        kept: Kept,
        shared: &Shared,
    ) -> (PlacedSample, Option<Pid>) {
        let RawSample { pid, tid, time_ns, cgroup, cpu, .. } = sample;
        if !self.processes.knows(pid) {
            let (no, found) = shared.lock().find_process(pid, cgroup);
            match found {
                Some((comm, mappings)) => self.processes.found(pid, no, &comm, mappings),
                None => self.processes.missed(pid, no, time_ns),
            }
        }
        let revived = self.processes.ran(pid, tid, time_ns).then_some(pid);
        let (trace, agrees) = match kept {
            Kept::Shortly => self.places.of(&mut self.processes, sample),
            Kept::ForLong => self.places.for_long(&self.processes, sample),
        };
        if let (true, Some(agrees), Some(main)) = (self.learns, agrees, self.processes.main(pid)) {
            self.verdicts.compared(main, agrees, time_ns);
        }
        let placed = PlacedSample {
            time: self.clock.wall(time_ns),
            pid: pid.0,
            tid: tid.0,
            comm: self.processes.comm(pid, tid),
            cpu,
            count,
            trace,
        };
        (placed, revived)
    }

    fn hand_on(&mut self, capture: &mut Capture) {
        for Placed { cgroup, time_ns, revived, sample } in self.placed.drain(..) {
            let no = capture.setup.attribution.instance_of(cgroup);
            if let (Some(pid), Some(no)) = (revived, no) {
                capture.lineage.insert(pid, no);
            }
            capture.stats.samples += u64::from(sample.count);
            capture.pace.worked(time_ns);
            if let Some(no) = no {
                capture.accounts.stir(no);
            }
            let (time, bytes, count) = (sample.time, sample.bytes(), u64::from(sample.count));
            if !capture.setup.attribution.offer(cgroup, time, bytes, count, sample) {
                capture.pending.unattributed += count;
                capture.stats.unattributed += count;
            }
        }
        for Waited { place: (cgroup, left), since_ns, ns, preempted } in self.waited.drain(..) {
            let left = PlacedSample { time: self.clock.wall(since_ns), ..left };
            // Whose it was is known for a while behind its end.
            let join = &capture.setup.attribution;
            if let Some(no) = join.instance_of(cgroup).filter(|no| !join.is_unseen(*no)) {
                capture.pending.waits.push((no, PlacedWait { left, ns, preempted }));
            }
        }
    }

    /// Which instances need no copies: those of which all programs are known to do without.
    fn judge(&mut self, capture: &mut Capture, now_ns: u64) {
        self.verdicts.expire(now_ns);
        capture.plain.clear();
        if self.verdicts.none_suffices() {
            return;
        }
        let Capture { lineage, plain, .. } = capture;
        plain.extend(lineage.iter().map(|(_, no)| *no));
        for (pid, no) in lineage.iter() {
            let main = self.processes.main(*pid);
            if !main.is_some_and(|main| self.verdicts.suffices(main)) {
                plain.remove(no);
            }
        }
        let Capture { setup, plain, .. } = capture;
        plain.retain(|no| setup.attribution.living(*no).is_some() && setup.attribution.is_sampled(*no));
    }
}
