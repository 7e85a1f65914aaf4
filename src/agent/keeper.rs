//! The keeper thread: names the frames of what was captured, and writes it to the store once a second.
//!
//! It may be slow; the capture thread never waits for it. When the store cannot be written, samples of that batch are
//! counted as lost and what happened to instances waits for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::allowance::{Allowances, LEAVES, Part};
use super::budget::Step;
use super::degraded::{Cut, Degraded};
use super::drain::Deadline;
use super::freed::Freed;
use super::own::OwnAccount;
use super::work::{PlacedSample, PlacedWait, Trace, Work, add_stats, dropped, shorten};
use crate::metrics::{Metrics, now_ns};
use crate::model::{Batch, Entry, Fingerprint, InstanceNo, Sample, Stack, Timestamp, Wait};
use crate::perf::Clock;
use crate::stack::{Place, SymbolStats, Symbolizer};
use crate::store::JournalWriter;

/// An hour, and how late samples of the last one may come, in microseconds.
const HOUR_US: i64 = 3_600_000_000;
const LATE_US: i64 = 10_000_000;

/// How long nobody has anything to store before the last hour's journal is closed without being asked.
const LULL: Duration = Duration::from_secs(30);
/// Priority of this thread: behind what is watched.
const NICE: i32 = 10;
/// Samples that are named between two looks at whether there is still time.
const PIECE: usize = 256;
/// How often names that nobody asks for are forgotten, and freed memory is given back that lies between what is still
/// used.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// How often it is given back while containers end: those that come and go leave such holes, and they add up.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(15);
/// So often behind the last batch, too: what is asked for in one such time goes at the end of the next.
const AGES: u8 = 2;
/// What is left of the time for an end when sealing is no longer waited for.
const LAST_MOMENT: Duration = Duration::from_millis(1_000);

/// How keeping went.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeeperStats {
    /// Batches written.
    pub batches: u64,
    /// Samples written.
    pub samples: u64,
    /// Samples lost because the store could not be written.
    pub lost: u64,
    /// Samples let go because the agent had to end before they were named.
    pub let_go: u64,
    /// Times off the CPU lost because the store could not be written.
    pub waits_lost: u64,
    /// Times off the CPU let go because the agent had to end.
    pub waits_let_go: u64,
    /// Written to journals, in bytes.
    pub bytes: u64,
    /// Times that the store could not be written.
    pub errors: u64,
    /// Whether what is made of closed journals was not all made before the end.
    pub left_to_seal: bool,
    /// How naming went.
    pub symbols: SymbolStats,
}

pub(super) struct Keeper {
    pub(super) symbolizer: Symbolizer,
    pub(super) journal: JournalWriter,
    pub(super) batch: Batch,
    pub(super) stats: KeeperStats,
    /// Memory of samples that wait in the queue, in bytes; the capture thread adds.
    queued_bytes: Arc<AtomicUsize>,
    /// The hour of the last write, counted from 1970.
    written_in: Option<i64>,
    failing: bool,
    own: OwnAccount,
    deadline: Arc<Deadline>,
    metrics: Arc<Metrics>,
    allowances: Allowances,
    /// Stacks that the store does not know before the next write: each is counted once.
    fresh: FxHashSet<Fingerprint>,
    degraded: Arc<Degraded>,
    /// Whether little is kept of symbols.
    keeps_less: bool,
    /// What was freed here is told to whoever gives it back.
    pub(super) freed: Arc<Freed>,
    /// When that was last.
    told_at: Instant,
    /// Whether a container has ended since.
    ended: bool,
    aged_at: Instant,
    /// How often there is still something to forget.
    ages: u8,
    period_us: i64,
}

impl Keeper {
    pub(super) fn new(
        symbolizer: Symbolizer,
        journal: JournalWriter,
        queued_bytes: Arc<AtomicUsize>,
        deadline: Arc<Deadline>,
        metrics: Arc<Metrics>,
        degraded: Arc<Degraded>,
        period_ns: u64,
    ) -> Keeper {
        Keeper {
            symbolizer,
            journal,
            batch: Batch::default(),
            stats: KeeperStats::default(),
            queued_bytes,
            written_in: None,
            failing: false,
            own: OwnAccount::default(),
            deadline,
            metrics,
            allowances: Allowances::default(),
            fresh: FxHashSet::default(),
            degraded,
            keeps_less: false,
            freed: Arc::default(),
            told_at: Instant::now(),
            ended: false,
            aged_at: Instant::now(),
            ages: 0,
            period_us: i64::try_from(period_ns / 1_000).unwrap_or(i64::MAX),
        }
    }

    /// Runs until the capture thread has ended, then closes the journal.
    pub(super) fn run(mut self, work: &Receiver<Work>) -> KeeperStats {
        self.deadline.is_kept_here();
        // It has eight seconds for what it does; a function that begins now should not wait for it.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!("the keeper runs at the usual priority: {error}");
        }
        loop {
            self.metrics.keeper.rest();
            let received = work.recv_timeout(LULL);
            self.metrics.keeper.owe(now_ns());
            match received {
                Ok(work) => {
                    self.queued_bytes.fetch_sub(work.bytes, Ordering::Relaxed);
                    self.take(work);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.write(now());
                    self.age();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.write(now());
        self.stats.symbols = self.symbolizer.stats();
        let finished = match self.deadline.left() {
            Some(left) => self.journal.finish_within(left.saturating_sub(LAST_MOMENT)),
            None => self.journal.finish().map(|()| true),
        };
        match finished {
            Ok(all) => self.stats.left_to_seal = !all,
            Err(error) => tracing::error!("close the journal: {error}"),
        }
        self.metrics.keeper.rest();
        self.stats
    }

    fn take(&mut self, work: Work) {
        let less = self.degraded.is_in_force(Step::Symbols);
        if less != std::mem::replace(&mut self.keeps_less, less) {
            self.symbolizer.keep_less(less);
            self.freed.hurry();
        }
        self.ended |= work.entries.iter().any(|entry| matches!(entry, Entry::Ended { .. }));
        self.batch.entries.extend(work.entries);
        let mut samples = work.samples.into_iter();
        while samples.len() > 0 && !self.deadline.is_near() {
            for (no, sample) in samples.by_ref().take(PIECE) {
                self.keep(no, sample);
            }
        }
        let left = samples.map(|(no, sample)| (no, sample.time, sample.count)).collect::<Vec<_>>();
        self.stats.let_go += left.iter().map(|(.., count)| u64::from(*count)).sum::<u64>();
        self.batch.entries.extend(dropped(left.into_iter(), "shutdown"));
        let mut waits = work.waits.into_iter();
        while waits.len() > 0 && !self.deadline.is_near() {
            for (no, PlacedWait { left, ns, preempted }) in waits.by_ref().take(PIECE) {
                let left = self.name(no, left);
                self.batch.waits.push(Wait { left, ns, preempted });
            }
        }
        self.stats.waits_let_go += waits.len() as u64;
        self.batch.unattributed += work.unattributed;
        add_stats(&mut self.batch.cpus, &work.cpus);
        if work.clock_offset_ns != 0 {
            self.batch.clock_offset_ns = work.clock_offset_ns;
        }
        if work.flush {
            self.write(now());
        }
    }

    /// Keeps a sample, for each that it stands for.
    fn keep(&mut self, no: InstanceNo, sample: PlacedSample) {
        let count = i64::from(sample.count);
        let named = self.name(no, sample);
        // Those it stands for came a period apart before it.
        let earlier = (1..count).map(|periods| {
            let time = named.time.plus_us(periods.saturating_mul(self.period_us).saturating_neg());
            Sample { time, ..named.clone() }
        });
        self.batch.samples.extend(earlier);
        self.batch.samples.push(named);
    }

    fn name(&mut self, instance: InstanceNo, sample: PlacedSample) -> Sample {
        let PlacedSample { time, pid, tid, comm, cpu, count: _, trace } = sample;
        let stack = match self.allowances.of(instance, time.0) {
            Part::Whole => {
                let before = self.symbolizer.stats().looked_up;
                let stack = match &trace {
                    Trace::Chain(chain) => self.symbolizer.stack_of(chain),
                    Trace::Places(places) => self.symbolizer.stack(places),
                };
                self.took(instance, before, &stack);
                stack
            }
            part => self.name_less(instance, part, &trace),
        };
        Sample { time, instance, pid, tid, comm, cpu, stack }
    }

    /// The stack of a sample of who has had its share: whole where it is at hand and in the store, else as much of it as
    /// `part` says.
    fn name_less(&mut self, instance: InstanceNo, part: Part, trace: &Trace) -> Arc<Stack> {
        let at_hand = match trace {
            Trace::Chain(chain) => self.symbolizer.known_stack_of(chain),
            Trace::Places(places) => self.symbolizer.known_stack(places),
        };
        if part == Part::Mark && at_hand.is_none() {
            self.degraded.cut(Cut::Names, 1);
            return self.symbolizer.stack(&[Place::Truncated]);
        }
        at_hand.filter(|stack| self.journal.knows(stack)).unwrap_or_else(|| {
            self.degraded.cut(Cut::Stacks, 1);
            let before = self.symbolizer.stats().looked_up;
            let mut leaf = trace.leaf(LEAVES);
            leaf.push(Place::Truncated);
            let stack = self.symbolizer.stack(&leaf);
            self.took(instance, before, &stack);
            stack
        })
    }

    /// `stack` of an instance was made, before which so many places had been looked up.
    fn took(&mut self, instance: InstanceNo, before: u64, stack: &Arc<Stack>) {
        let names = self.symbolizer.stats().looked_up.saturating_sub(before);
        let is_new = !self.journal.knows(stack) && self.fresh.insert(stack.fingerprint());
        self.allowances.take(instance, names, if is_new { stack.frames().len() } else { 0 });
    }

    fn write(&mut self, now: Timestamp) {
        if self.batch.is_empty() {
            self.batch.cpus.clear();
            if let Err(error) = self.journal.sync() {
                self.stats.errors += 1;
                tracing::error!("write the store: {error}; a power failure may take the last seconds");
            }
            self.close_hour(now);
            return;
        }
        // Samples that waited for a name come behind later ones.
        self.batch.samples.sort_by_key(|sample| sample.time);
        self.batch.waits.sort_by_key(|wait| wait.left.time);
        self.batch.own_use = self.batch.own_use.with(self.own.since_last());
        let batch = std::mem::take(&mut self.batch);
        self.fresh.clear();
        self.symbolizer.look_for_files();
        match self.journal.append(&batch) {
            Ok(appended) => {
                self.stats.bytes += appended.bytes;
                self.metrics.last_flush_us.set(u64::try_from(now.0).unwrap_or(0));
                self.written_in = Some(now.0.div_euclid(HOUR_US));
                self.stats.batches += 1;
                self.stats.samples += batch.samples.len() as u64;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store can be written again");
                }
            }
            Err(error) => {
                self.stats.errors += 1;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("write the store: {error}; samples are lost until it can be written");
                }
                self.keep_back(batch);
            }
        }
        self.publish();
        self.ages = AGES;
        self.age();
    }

    /// Forgets what nobody asks for any more, if it is time; and tells of what was freed.
    fn age(&mut self) {
        let of_containers = self.ended && self.told_at.elapsed() >= GIVE_BACK_EVERY;
        if self.journal.was_tidied() || of_containers {
            self.tell_freed();
        }
        if self.ages > 0 && self.aged_at.elapsed() >= AGE_EVERY {
            self.symbolizer.age();
            self.allowances.age(now().0);
            self.tell_freed();
            self.aged_at = Instant::now();
            self.ages -= 1;
        }
    }

    fn tell_freed(&mut self) {
        self.freed.tell(now_ns());
        (self.told_at, self.ended) = (Instant::now(), false);
    }

    /// Tells what was counted.
    fn publish(&self) {
        let (told, stats) = (&self.metrics, &self.stats);
        let symbols = self.symbolizer.stats();
        told.samples_stored.set(stats.samples);
        told.dropped_store.set(stats.lost);
        told.dropped_shutdown.set(stats.let_go);
        told.waits_dropped_store.set(stats.waits_lost);
        told.waits_dropped_shutdown.set(stats.waits_let_go);
        told.store_batches.set(stats.batches);
        told.store_bytes.set(stats.bytes);
        told.store_errors.set(stats.errors);
        told.store_dropped_hours.set(self.journal.dropped_hours());
        told.store_failing.set(self.failing.into());
        told.queued_bytes.set(self.queued_bytes.load(Ordering::Relaxed) as u64);
        told.tables_built.set(symbols.tables_built);
        told.tables_from_cache.set(symbols.tables_from_cache);
        told.symbol_files_unreadable.set(symbols.files_unreadable);
        told.symbol_cache_errors.set(symbols.cache_errors);
    }

    /// The journal begins anew at the hour with what is appended. Where nothing is, the last hour's would stay open, and
    /// its folded files would not be made.
    fn close_hour(&mut self, now: Timestamp) {
        let hour = now.plus_us(-LATE_US).0.div_euclid(HOUR_US);
        if self.written_in.is_none_or(|written_in| written_in >= hour) {
            return;
        }
        match self.journal.rotate() {
            Ok(()) => self.written_in = None,
            Err(error) => {
                self.stats.errors += 1;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("begin a new journal: {error}; the last one stays in use");
                }
                self.publish();
            }
        }
    }

    /// The store cannot be written: samples are counted and let go, all else waits.
    fn keep_back(&mut self, batch: Batch) {
        self.stats.lost += batch.samples.len() as u64;
        self.stats.waits_lost += batch.waits.len() as u64;
        let lost = dropped(batch.samples.iter().map(|sample| (sample.instance, sample.time, 1)), "store");
        self.batch = Batch { samples: Vec::new(), waits: Vec::new(), ..batch };
        self.batch.entries.extend(lost);
        shorten(&mut self.batch.entries);
    }
}

fn now() -> Timestamp {
    Clock::read().wall(Clock::monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CgroupId, CpuStats, InstanceInfo, InstanceKey, WriterInfo};
    use crate::stack::KernelSymbols;
    use crate::store::Store;

    const NO: InstanceNo = InstanceNo(1);
    const NOON: Timestamp = Timestamp(1_700_000_000_000_000 / HOUR_US * HOUR_US);

    fn keeper(dir: &std::path::Path) -> Keeper {
        let info = WriterInfo {
            node: "n".into(),
            boot_id: "b00t1d00".into(),
            writer: "agent".into(),
            version: "0".into(),
            kernel: "6".into(),
            cpu_model: None,
            cpus: 1,
            event: "cpu-clock".into(),
            hz: 199,
            period_ns: 5_025_125,
            started_at: NOON,
        };
        let journal = Store::create(dir).unwrap().journal(info).unwrap();
        let kernel = KernelSymbols::parse("".as_bytes());
        let metrics = Arc::new(Metrics::new(&[]));
        let symbolizer = Symbolizer::with_kernel(None, kernel);
        let (deadline, degraded) = (Arc::default(), Arc::default());
        Keeper::new(symbolizer, journal, Arc::default(), deadline, metrics, degraded, 5_025_125)
    }

    fn declared() -> Entry {
        let info = InstanceInfo {
            key: InstanceKey::new("c", "b00t1d00", CgroupId(1)),
            runtime: None,
            container_id: "c".into(),
            cgroup_path: "/c".into(),
            cgroup_id: CgroupId(1),
            image: None,
            started_at: NOON,
            from_birth: true,
        };
        Entry::Instance { no: NO, info }
    }

    #[test]
    fn who_has_had_its_share_keeps_what_is_stored_and_of_new_stacks_the_leaf() {
        const DEPTH: usize = 127;
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        keeper.batch.entries.push(declared());
        // Functions that a program tells the names of need no file.
        let deep = |first: usize| {
            let place = |n: usize| Place::Jit { name: format!("f{n}").into() };
            let trace = Trace::Places((first..first + DEPTH).map(place).chain([Place::Root]).collect());
            PlacedSample { time: NOON, pid: 1, tid: 1, comm: "c".into(), cpu: 0, count: 1, trace }
        };
        let name = |keeper: &mut Keeper, first: usize| keeper.name(NO, deep(first)).stack.frames().len();
        let cut = (0..).find(|first| name(&mut keeper, *first) != DEPTH).unwrap();
        assert_eq!(cut, 1_000_000_usize.div_ceil(DEPTH));
        assert_eq!(keeper.name(NO, deep(cut)).stack.frames().len(), LEAVES + 1);
        assert_eq!(keeper.degraded.cuts(Cut::Stacks), 2);
        // The last one is at hand, but is it stored?
        assert_eq!(name(&mut keeper, cut - 1), LEAVES + 1);
        let other = InstanceNo(2);
        let stored = keeper.name(other, deep(cut - 1));
        assert_eq!(stored.stack.frames().len(), DEPTH, "others have their own share");
        keeper.batch.samples.push(Sample { instance: NO, ..stored });
        keeper.write(NOON);
        assert_eq!(name(&mut keeper, cut - 1), DEPTH);
        assert_eq!(keeper.degraded.cuts(Cut::Stacks), 3);
    }

    #[test]
    fn an_hour_is_closed_though_nothing_more_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let path = |keeper: &Keeper| keeper.journal.path().to_path_buf();
        let first = path(&keeper);
        keeper.write(NOON);
        keeper.batch.entries.push(declared());
        keeper.write(NOON.plus_us(HOUR_US / 2));
        keeper.write(NOON.plus_us(HOUR_US + LATE_US - 1));
        assert_eq!(path(&keeper), first, "late samples may come");
        keeper.write(NOON.plus_us(HOUR_US + LATE_US));
        let second = path(&keeper);
        assert_ne!(second, first);
        keeper.write(NOON.plus_us(5 * HOUR_US));
        assert_eq!(path(&keeper), second, "an empty journal is good for any hour");
    }

    #[test]
    fn what_tidying_up_freed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        keeper.batch.entries.push(declared());
        keeper.write(NOON);
        assert!(!keeper.freed.take(now_ns(), true));
        keeper.write(NOON.plus_us(HOUR_US + LATE_US));
        let begun = Instant::now();
        while !keeper.freed.take(now_ns(), true) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the closed journal is not tidied up");
            keeper.age();
            std::thread::yield_now();
        }
        assert!(
            keeper.ages > 0 && keeper.aged_at.elapsed() < AGE_EVERY,
            "it is not for names that were forgotten"
        );
    }

    #[test]
    fn what_containers_freed_that_ended_is_told_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let long_ago = Instant::now().checked_sub(GIVE_BACK_EVERY).unwrap();
        let ended = Entry::Ended { no: NO, at: NOON, exit_code: None, oom: false };
        let one = Work { entries: vec![declared(), ended], ..Work::default() };
        let mut told = |work: Work, told_at: Instant| {
            keeper.told_at = told_at;
            keeper.take(work);
            keeper.age();
            keeper.freed.take(now_ns(), true)
        };
        assert!(!told(Work::default(), long_ago), "nothing has ended");
        assert!(!told(one, Instant::now()), "it was told just now");
        assert!(told(Work::default(), long_ago));
        assert!(!told(Work::default(), long_ago), "once");
    }

    #[test]
    fn who_falls_idle_forgets_what_it_had_and_then_rests() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        keeper.batch.entries.push(declared());
        keeper.write(NOON);
        let mut given_back = 0;
        for _ in 0..5 {
            keeper.aged_at = Instant::now().checked_sub(AGE_EVERY).unwrap();
            keeper.age();
            given_back += u8::from(keeper.freed.take(now_ns(), true));
        }
        assert_eq!(given_back, AGES);
    }

    #[test]
    fn what_cannot_be_named_before_the_end_is_counted_and_the_rest_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let metrics = keeper.metrics.clone();
        let placed = || PlacedSample {
            time: NOON,
            pid: 1,
            tid: 1,
            comm: "c".into(),
            cpu: 0,
            count: 1,
            trace: Trace::Places([].into()),
        };
        let samples = |count| (0..count).map(|_| (NO, placed())).collect();
        keeper.take(Work { entries: vec![declared()], samples: samples(3), ..Work::default() });
        assert_eq!((keeper.batch.samples.len(), keeper.stats.let_go), (3, 0), "nobody asks for an end");
        keeper.deadline.begin(Duration::ZERO);
        let wait = || (NO, PlacedWait { left: placed(), ns: 1, preempted: false });
        keeper.take(Work { samples: samples(1_000), waits: vec![wait(), wait()], ..Work::default() });
        let told = |entry: &Entry| matches!(entry, Entry::Dropped { reason, count: 1_000, .. } if reason == "shutdown");
        assert!(keeper.batch.entries.iter().any(told), "{:?}", keeper.batch.entries);
        let (sender, work) = std::sync::mpsc::channel();
        drop(sender);
        let stats = keeper.run(&work);
        assert_eq!((stats.samples, stats.let_go, stats.errors), (3, 1_000, 0));
        assert_eq!((metrics.samples_stored.get(), metrics.dropped_shutdown.get()), (3, 1_000));
        assert_eq!((stats.waits_let_go, metrics.waits_dropped_shutdown.get()), (2, 2));
        assert!(
            stats.bytes > 0 && metrics.store_bytes.get() == stats.bytes && metrics.last_flush_us.get() > 0
        );
    }

    #[test]
    fn what_the_rings_lost_is_told_when_the_store_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let sample = Sample {
            time: NOON,
            instance: NO,
            pid: 1,
            tid: 1,
            comm: "c".into(),
            cpu: 0,
            stack: keeper.symbolizer.stack(&[]),
        };
        let (cpus, unattributed) = (vec![CpuStats { cpu: 0, samples: 9, lost: 4 }], 3);
        let batch = Batch {
            entries: vec![declared()],
            waits: vec![Wait { left: sample.clone(), ns: 1, preempted: false }],
            samples: vec![sample; 2],
            cpus: cpus.clone(),
            unattributed,
            clock_offset_ns: 1,
            ..Batch::default()
        };
        keeper.keep_back(batch);
        assert_eq!((&keeper.batch.cpus, keeper.batch.unattributed), (&cpus, 3));
        assert!(matches!(keeper.batch.entries[..], [_, Entry::Dropped { count: 2, .. }]));
        assert_eq!((keeper.stats.lost, keeper.stats.waits_lost, keeper.batch.waits.len()), (2, 1, 0));
    }
}
