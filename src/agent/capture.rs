//! Capture: drains the rings, opens files while their processes live, and joins samples with instances.
//!
//! Two paces, two kinds of threads. *At once*, on a reader thread of the CPU where it happened ([`readers`]): which
//! process belongs to which instance (by descent, and by `/proc/PID/cgroup` at an exec), files of theirs are opened, CPU
//! accounts read. *In order*, on the capture thread at each tick (see `pace`): all of it and the samples, merged over
//! CPUs by time, so that an address is looked up in what was mapped when it was sampled, and stacks walked
//! ([`in_order`]). What both need is [`Capture`], behind a lock that is held for as long as a reading takes and never
//! while a stack is walked. Never waits for the keeper: what does not fit its queue is counted and dropped.

mod containers;
mod in_order;
mod later;
mod readers;
mod side_band;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tokio::sync::Notify;

use super::AgentStats;
use super::accounts::{Accounts, Reading};
use super::control::Command;
use super::pace::{News, Pace, is_due};
use super::work::{PlacedSample, Work, add_stats, dropped, shorten};
use crate::attribution::{Attribution, Moment};
use crate::cgroup::Cgroups;
use crate::config::{Realtime, Unwind};
use crate::identity::IdentityConfig;
use crate::model::{CgroupId, Fact, InstanceNo, Pid};
use crate::perf::{Clock, Mode, Order, PerfError, RawSample, Sampler, SideBand, Stamped};
use crate::stack::{Files, Mapping};
pub(super) use containers::container_id;
use in_order::InOrder;
use readers::Readers;

/// Most memory of samples that wait for the keeper, in bytes.
const MAX_QUEUED_BYTES: usize = 128 << 20;
/// Between writes: a second's worth is lost at worst, and another on its way through the keeper.
const FLUSH_NS: u64 = 1_000_000_000;
/// Between looks at everything while nothing happens to functions. A page touched after seconds of rest costs ten
/// microseconds where memory is the host's of a virtual machine: a tick that need not look does not.
const CALM_FLUSH_NS: u64 = 4_000_000_000;
/// Between what is handed to the keeper: ticks may be 10 ms apart, and its queue is to hold seconds.
const HAND_OVER_NS: u64 = 250_000_000;
/// Between looks for containers that are no functions and have gone: half a minute.
const SWEEP_NS: u64 = 30_000_000_000;
/// Priority of these threads: ahead of what they watch.
const NICE: i32 = -15;
/// How much earlier than the drain a record must be to have no earlier one still on its way into another ring.
const SETTLE_NS: u64 = 1_000_000;

/// What the capture thread is given.
pub(super) struct Setup {
    pub(super) sampler: Sampler,
    pub(super) cgroups: Cgroups,
    pub(super) attribution: Attribution<PlacedSample>,
    /// Parents of the `cgroup` runtime, and the name that runtime has here.
    pub(super) parents: Vec<String>,
    pub(super) parents_runtime: &'static str,
    pub(super) identity: IdentityConfig,
    /// Whether a runtime with an API may claim cgroups that carry a container's id.
    pub(super) by_container_id: bool,
    pub(super) max_stack: usize,
    pub(super) unwind: Unwind,
    /// Whether code without unwind tables is scanned.
    pub(super) scan: bool,
    /// Whether names that programs tell of code made at run time are wanted.
    pub(super) perf_maps: bool,
    /// Where it is remembered of which programs chains suffice.
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) realtime: Realtime,
    pub(super) commands: Receiver<Command>,
    pub(super) keeper: SyncSender<Work>,
    /// Memory of samples in that queue, in bytes; the keeper subtracts.
    pub(super) queued_bytes: Arc<AtomicUsize>,
}

/// What readers and the capture thread share.
pub(super) struct Shared {
    capture: Mutex<Capture>,
    /// Wakes the capture thread.
    wake: OwnedFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Capture> {
        // A reader that panicked is told, and ends the agent; until then the others go on.
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Waits until it is woken, or the time has come.
    fn wait_until(&self, due_ns: u64) {
        let ns = due_ns.saturating_sub(Clock::monotonic_ns());
        let timeout = Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        };
        // Interrupted, it looks at everything anyway.
        if poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0) {
            let mut counter = [0; 8];
            let _ = rustix::io::read(self.wake.as_fd(), &mut counter);
        }
    }
}

pub(super) struct Capture {
    setup: Setup,
    clock: Clock,
    pace: Pace,
    accounts: Accounts,
    files: Files,
    /// Instances of which all programs are known to need no copies of their stacks.
    plain: HashSet<InstanceNo>,
    /// Processes of instances, as far as the side-band has been read.
    lineage: HashMap<Pid, InstanceNo>,
    order: Order<Happening>,
    side_band: Vec<Stamped<SideBand>>,
    /// When the side-band was read last: cgroups that were made before are known.
    side_band_read_ns: u64,
    /// Instances of which processes have ended in what is being read of the side-band, and when the last one did:
    /// one reading for all of them.
    ended: HashMap<InstanceNo, Moment>,
    /// Processes whose environment may name another function.
    newborns: Vec<later::Newborn>,
    /// Files opened of instances since the last flush.
    opened: HashMap<InstanceNo, u32>,
    /// What the keeper could not take yet.
    pending: Work,
    /// Whether something was handed over since the keeper was last asked to write.
    unwritten: bool,
    next_tick_ns: u64,
    /// What the capture thread waits for.
    awaited_ns: u64,
    last_flush_ns: u64,
    next_hand_over_ns: u64,
    next_sweep_ns: u64,
    rescan: bool,
    /// Why a CPU is not sampled.
    cpu_trouble: Option<String>,
    stats: AgentStats,
}

/// What is applied in order of time.
enum Happening {
    Fork { pid: Pid, parent: Pid },
    Exec { pid: Pid, comm: String },
    Name { pid: Pid, tid: Pid, comm: String },
    Mmap { pid: Pid, mapping: Mapping },
    Exit { pid: Pid },
    ThreadExit { pid: Pid, tid: Pid },
    Sample(RawSample),
}

/// Runs until it is told to stop; `wake` wakes it. The end of a reader that was not told to is told to `broken`.
pub(super) fn run(setup: Setup, wake: OwnedFd, broken: &Arc<Notify>) -> AgentStats {
    // Late by a scheduler's round, the files of a short process are gone; its own work is a percent of a core.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("capture runs at the usual priority: {error}");
    }
    let mut in_order = InOrder::new(&setup);
    let mut readers = Readers::new(setup.realtime, broken.clone());
    let shared = Arc::new(Shared { capture: Mutex::new(Capture::new(setup)), wake });
    {
        let mut capture = shared.lock();
        capture.scan();
        capture.follow_demand();
        capture.next_tick_ns = Clock::monotonic_ns();
    }
    loop {
        readers.follow(&shared);
        let awaited_ns = {
            let mut capture = shared.lock();
            capture.awaited_ns = capture.due_ns(Clock::monotonic_ns());
            capture.awaited_ns
        };
        shared.wait_until(awaited_ns);
        let mut capture = shared.lock();
        let last = capture.commands();
        let now = Clock::monotonic_ns();
        capture.look_around(now);
        let tick = last || now >= capture.next_tick_ns;
        drop(capture);
        if tick {
            let full = in_order.tick(&shared, now, last);
            let mut capture = shared.lock();
            let armed = capture.setup.sampler.mode() != Mode::Off;
            capture.next_tick_ns = now + capture.pace.tick_ns(full, armed, now);
        }
        if last {
            readers.end();
            break;
        }
    }
    let shared = Arc::into_inner(shared).expect("the readers have ended, and nobody else holds it");
    shared.capture.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
}

impl Capture {
    fn new(setup: Setup) -> Capture {
        Capture {
            setup,
            clock: Clock::read(),
            pace: Pace::default(),
            accounts: Accounts::default(),
            files: Files::default(),
            plain: HashSet::new(),
            lineage: HashMap::new(),
            order: Order::default(),
            side_band: Vec::new(),
            side_band_read_ns: 0,
            ended: HashMap::new(),
            newborns: Vec::new(),
            opened: HashMap::new(),
            pending: Work::default(),
            unwritten: false,
            next_tick_ns: 0,
            awaited_ns: 0,
            last_flush_ns: 0,
            next_hand_over_ns: 0,
            next_sweep_ns: 0,
            rescan: false,
            cpu_trouble: None,
            stats: AgentStats::default(),
        }
    }

    /// Does what the agent's other threads ask for. True if that was to end.
    fn commands(&mut self) -> bool {
        let mut last = false;
        while let Ok(command) = self.setup.commands.try_recv() {
            let now = self.moment(Clock::monotonic_ns());
            self.pace.heard(News::Ours, now.ns);
            let join = &mut self.setup.attribution;
            match command {
                Command::Claim(claim) => {
                    if let Some(no) = join.claim(*claim, now) {
                        self.claimed(no);
                    }
                }
                Command::Runtime(runtime, state) => join.runtime(runtime, state, now),
                Command::Started { container, pid } => self.started(&container, pid),
                Command::Fact { container, at, fact } => join.fact_of(&container, at, fact),
                Command::Exited { container, exit_code, oom, at } => {
                    join.exited(&container, exit_code, oom, at.unwrap_or(now.wall));
                }
                Command::Forgotten(container) => join.forgotten(&container),
                Command::Watching { path, reply } => {
                    self.take_side_band();
                    self.follow_demand();
                    let watched = self.setup.attribution.instance_at(&path).is_some();
                    let _ = reply.send(watched && self.setup.sampler.mode() != Mode::Off);
                }
                Command::Reload { config, done } => {
                    // Whoever follows another part of it takes that here.
                    self.setup.identity = config.identity();
                    let _ = done.send(());
                }
                Command::Finish => last = true,
            }
        }
        last
    }

    fn look_at_accounts(&mut self, now_ns: u64) {
        for (no, reading) in self.accounts.look(now_ns, &self.setup.cgroups) {
            self.reading(no, Some(reading));
            let facts = self.accounts.counters(no, now_ns);
            self.facts(facts.into_iter().map(|fact| (no, fact)));
        }
    }

    fn reading(&mut self, no: InstanceNo, reading: Option<Reading>) {
        let now = self.moment(Clock::monotonic_ns());
        match reading {
            Some(Reading::Cpu { cpu_us, source }) => {
                self.setup.attribution.usage(no, now.wall, cpu_us, source)
            }
            Some(Reading::Gone { last_exit }) => {
                let ended = last_exit.map_or(now.wall, |exit| exit.wall);
                self.setup.attribution.cgroup_gone(no, ended, now);
                self.accounts.close(no);
                self.plain.remove(&no);
            }
            Some(Reading::Unreadable) | None => {}
        }
    }

    fn facts(&mut self, facts: impl Iterator<Item = (InstanceNo, Fact)>) {
        let now = self.moment(Clock::monotonic_ns());
        for (no, fact) in facts {
            self.setup.attribution.fact(no, now.wall, fact);
        }
    }

    /// When the capture thread has something to do, unless it is woken before.
    fn due_ns(&mut self, now_ns: u64) -> u64 {
        // Brought forward once, not again with every moment that passes.
        self.next_tick_ns = self.pace.tick_by(self.next_tick_ns, now_ns);
        self.accounts.next_look_ns().map_or(self.next_tick_ns, |look| look.min(self.next_tick_ns))
    }

    /// What is looked at whenever anything has woken anybody.
    fn look_around(&mut self, now_ns: u64) {
        self.read_newborns();
        self.look_at_accounts(now_ns);
        self.follow_demand();
    }

    /// Samples the host while something lives that is or may be a function, and copies stacks while one of them needs
    /// it, or may.
    fn follow_demand(&mut self) {
        let join = &self.setup.attribution;
        let mode = match self.setup.unwind {
            _ if !join.should_sample() => Mode::Off,
            Unwind::Fp => Mode::Chains,
            Unwind::Auto if join.live_wanted() <= self.plain.len() => Mode::Chains,
            Unwind::Auto | Unwind::Dwarf => Mode::Copies,
        };
        let was = self.setup.sampler.mode();
        if mode == was {
            return;
        }
        if let Err(error) = self.setup.sampler.arm(mode) {
            tracing::error!("{error}");
        }
        if was == Mode::Off {
            // What came before it was heard wakes nobody.
            self.take_side_band();
        }
    }

    /// What a tick does once the samples are in order. False if there was nothing to do but that.
    fn settle(&mut self, now_ns: u64, last: bool) -> bool {
        let calm = !last && self.pace.is_calm(now_ns);
        let flush_ns = self.last_flush_ns.saturating_add(if calm { CALM_FLUSH_NS } else { FLUSH_NS });
        let flush = last || is_due(flush_ns, now_ns);
        if calm && !flush {
            return false;
        }
        if flush {
            self.last_flush_ns = now_ns;
            self.flush(now_ns, last);
        }
        let now = self.moment(now_ns);
        for no in self.setup.attribution.tick(now) {
            self.accounts.close(no);
        }
        if last {
            self.setup.attribution.give_up(now);
        }
        if !last && (flush || now_ns >= self.next_hand_over_ns) {
            self.next_hand_over_ns = now_ns.saturating_add(HAND_OVER_NS);
            self.hand_over(flush);
        }
        flush
    }

    /// Takes samples out of the rings, of one CPU or of all, that somebody wants now. Read the side-band before it.
    fn drain_samples(&mut self, cpu: Option<u32>) {
        let Capture { setup, side_band_read_ns, .. } = self;
        let (join, mut taken) = (&setup.attribution, Vec::new());
        let wanted = |id, time_ns| join.wants(id) || time_ns >= *side_band_read_ns;
        let each = |sample| taken.push(sample);
        match cpu {
            Some(cpu) => setup.sampler.drain_samples_of(cpu, wanted, each),
            None => setup.sampler.drain_samples(wanted, each),
        }
        // Of a stranger, or of a cgroup that was made since.
        if taken.iter().any(|sample| !join.wants(sample.cgroup)) {
            self.take_side_band();
        }
        let join = &self.setup.attribution;
        for sample in taken.into_iter().filter(|sample| join.wants(sample.cgroup)) {
            self.order.push(sample.time_ns, Happening::Sample(sample));
        }
    }

    /// A process that was there before us, or was moved into the cgroup: its name and mappings as they are now.
    fn find_process(&mut self, pid: Pid, cgroup: CgroupId) -> Option<(String, Vec<Mapping>)> {
        // An empty list is that of a process on its way out.
        let mappings = self.files.mappings_of(pid).ok().filter(|mappings| !mappings.is_empty())?;
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "?".into());
        if let Some(no) = self.setup.attribution.instance_of(cgroup) {
            self.lineage.insert(pid, no);
        }
        Some((comm.trim_end().into(), mappings))
    }

    /// Once a second, seldom while nothing happens: readings of what runs, ring statistics, clocks, CPUs.
    fn flush(&mut self, now_ns: u64, last: bool) {
        let due_ns = if last { u64::MAX } else { now_ns };
        let readings = self.accounts.read_due(due_ns, &self.setup.cgroups);
        let read: Vec<InstanceNo> = readings.iter().map(|(no, _)| *no).collect();
        for (no, reading) in readings {
            self.reading(no, Some(reading));
        }
        let facts = self.accounts.facts(&read, now_ns);
        self.facts(facts.into_iter());
        let Capture { setup, order, .. } = self;
        let join = &setup.attribution;
        let followed = setup
            .sampler
            .follow_cpus(|id, _| join.wants(id), |s| order.push(s.time_ns, Happening::Sample(s)));
        let trouble = followed.as_ref().err().map(ToString::to_string);
        match (followed, &trouble) {
            (Ok(true), _) => {
                tracing::info!(cpus = self.setup.sampler.cpu_count(), "cpus came or went");
                // What one that came did before it was followed, nobody told.
                self.rescan = true;
            }
            // It is tried again each second, and told once.
            (Err(error), trouble) if *trouble != self.cpu_trouble => tracing::warn!("{error}"),
            (Ok(false) | Err(_), _) => {}
        }
        self.cpu_trouble = trouble;
        let stats = self.setup.sampler.take_stats();
        self.stats.lost += stats.iter().map(|cpu| cpu.lost).sum::<u64>();
        let stats: Vec<_> = stats.into_iter().filter(|cpu| cpu.samples + cpu.lost > 0).collect();
        add_stats(&mut self.pending.cpus, &stats);
        self.opened.clear();
        self.clock = Clock::read();
        self.pending.clock_offset_ns = self.clock.offset_ns;
        let sweep = now_ns >= self.next_sweep_ns;
        if sweep {
            self.next_sweep_ns = now_ns.saturating_add(SWEEP_NS);
            self.sweep();
        }
        // Descent from processes nobody wants any more. Those that ended went with their exit, but where the rings of
        // two CPUs told the exit before the fork, or a record was lost.
        let join = &self.setup.attribution;
        self.lineage.retain(|pid, no| join.is_wanted(*no) && !(sweep && is_gone(*pid)));
    }

    fn hand_over(&mut self, flush: bool) {
        let settled = self.setup.attribution.take();
        self.pending.entries.extend(settled.entries);
        self.pending.samples.extend(settled.samples);
        let something = self.pending.has_something();
        // Nobody is woken to write nothing; what the rings saw of strangers waits for the next batch.
        self.pending.flush |= flush && (something || self.unwritten);
        if !something && !self.pending.flush {
            return;
        }
        self.unwritten = !self.pending.flush;
        let queued = &self.setup.queued_bytes;
        self.pending.bytes = self.pending.samples.iter().map(|(_, sample)| sample.bytes()).sum();
        if queued.load(Ordering::Relaxed).saturating_add(self.pending.bytes) > MAX_QUEUED_BYTES {
            let work = std::mem::take(&mut self.pending);
            return self.keep_back(work);
        }
        queued.fetch_add(self.pending.bytes, Ordering::Relaxed);
        match self.setup.keeper.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => {}
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => {
                self.setup.queued_bytes.fetch_sub(work.bytes, Ordering::Relaxed);
                self.keep_back(work);
            }
        }
    }

    /// The keeper is behind: what happened to instances waits for it, samples are counted and dropped.
    fn keep_back(&mut self, work: Work) {
        self.stats.dropped += work.samples.len() as u64;
        let lost = dropped(work.samples.iter().map(|(no, sample)| (*no, sample.time)), "backlog");
        self.pending = Work { samples: Vec::new(), bytes: 0, ..work };
        self.pending.entries.extend(lost);
        shorten(&mut self.pending.entries);
    }

    fn finish(mut self) -> AgentStats {
        let settled = self.setup.attribution.take();
        self.pending.entries.extend(settled.entries);
        self.pending.samples.extend(settled.samples);
        self.pending.flush = true;
        self.pending.bytes = 0;
        // The end is the one place where waiting for the keeper is right.
        if self.setup.keeper.send(self.pending).is_err() {
            tracing::error!("the last batch could not be handed to the store");
        }
        AgentStats { files: self.files.stats(), ring_bytes: self.setup.sampler.ring_bytes(), ..self.stats }
    }

    fn moment(&self, ns: u64) -> Moment {
        Moment { ns, wall: self.clock.wall(ns) }
    }
}

fn is_gone(pid: Pid) -> bool {
    let pid = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Opens the sampler, or says what is missing.
pub(super) fn open(options: crate::perf::RingOptions) -> Result<Sampler, PerfError> {
    Sampler::open(options)
}
