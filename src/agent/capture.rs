//! The capture thread: drains the rings, opens files while their processes live, and joins samples with instances.
//!
//! Two paces. *At once*, at every wake-up of the side-band: which process belongs to which instance (by descent, and by
//! `/proc/PID/cgroup` at an exec), files of theirs are opened, CPU accounts read. *In order*, at each tick (see `pace`):
//! all of it and the samples, merged over CPUs by time, so that an address is looked up in what was mapped when it was
//! sampled. Never waits for the keeper: what does not fit its queue is counted and dropped.

mod containers;
mod later;
mod side_band;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use super::accounts::{Accounts, Reading};
use super::control::Command;
use super::pace::{News, Pace, is_due};
use super::work::{PlacedSample, Work, add_stats, dropped, shorten};
use super::{AgentStats, places};
use crate::attribution::{Attribution, Moment};
use crate::cgroup::Cgroups;
use crate::identity::IdentityConfig;
use crate::model::{CgroupId, Fact, InstanceNo, Pid};
use crate::perf::{Clock, Order, PerfError, RawSample, Sampler, SideBand, Stamped};
use crate::stack::{Files, Mapping, PerfMaps, Processes};
pub(super) use containers::container_id;

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
/// Priority of this thread: ahead of what it watches.
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
    /// Names of code made at run time, where they are wanted.
    pub(super) perf_maps: Option<PerfMaps>,
    pub(super) commands: Receiver<Command>,
    pub(super) wake: OwnedFd,
    pub(super) keeper: SyncSender<Work>,
    /// Memory of samples in that queue, in bytes; the keeper subtracts.
    pub(super) queued_bytes: Arc<AtomicUsize>,
}

pub(super) struct Capture {
    setup: Setup,
    clock: Clock,
    pace: Pace,
    accounts: Accounts,
    files: Files,
    processes: Processes,
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

impl Capture {
    pub(super) fn new(setup: Setup) -> Capture {
        Capture {
            setup,
            clock: Clock::read(),
            pace: Pace::default(),
            accounts: Accounts::default(),
            files: Files::default(),
            processes: Processes::default(),
            lineage: HashMap::new(),
            order: Order::default(),
            side_band: Vec::new(),
            side_band_read_ns: 0,
            ended: HashMap::new(),
            newborns: Vec::new(),
            opened: HashMap::new(),
            pending: Work::default(),
            unwritten: false,
            last_flush_ns: 0,
            next_hand_over_ns: 0,
            next_sweep_ns: 0,
            rescan: false,
            cpu_trouble: None,
            stats: AgentStats::default(),
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> AgentStats {
        // Late by a scheduler's round, the files of a short process are gone; its own work is a percent of a core.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!("capture runs at the usual priority: {error}");
        }
        self.scan();
        self.follow_demand();
        let mut next_tick = Clock::monotonic_ns();
        loop {
            let next = self.accounts.next_look_ns().map_or(next_tick, |look| look.min(next_tick));
            let ready = self.setup.sampler.wait(next.saturating_sub(Clock::monotonic_ns()));
            let last = ready.watched && self.commands();
            self.read_newborns();
            let news = ready.side_band.then(|| self.take_side_band().0);
            self.look_at_accounts(Clock::monotonic_ns());
            self.follow_demand();
            let now = Clock::monotonic_ns();
            next_tick = self.pace.tick_by(next_tick, now);
            if now >= next_tick || last {
                let full = self.tick(now, last);
                next_tick = now + self.pace.tick_ns(full, self.setup.sampler.is_armed(), now);
            } else if ready.samples {
                // Before it is full. What is in it waits for its tick, which also sets the pace of the store.
                self.take_side_band();
                self.drain_samples();
            }
            if last {
                return self.finish();
            }
            if let Some(news) = news {
                std::thread::sleep(self.pace.rest(news, now));
            }
        }
    }

    /// Does what the agent's other threads ask for. True if that was to end.
    fn commands(&mut self) -> bool {
        let mut counter = [0; 8];
        let _ = rustix::io::read(self.setup.wake.as_fd(), &mut counter);
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
                    let _ = reply.send(watched && self.setup.sampler.is_armed());
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

    /// Samples the host while something lives that is or may be a function.
    fn follow_demand(&mut self) {
        let wanted = self.setup.attribution.should_sample();
        if wanted == self.setup.sampler.is_armed() {
            return;
        }
        if let Err(error) = self.setup.sampler.arm(wanted) {
            tracing::error!("{error}");
        }
        if wanted {
            // What came before it was heard wakes nobody.
            self.take_side_band();
        }
    }

    /// Does what is in order. Returns how full the fullest side-band ring was, in percent.
    fn tick(&mut self, now_ns: u64, last: bool) -> u64 {
        // What happened to processes before the samples, or a sample could meet a process nobody has heard of.
        let (_, full) = self.take_side_band();
        if last {
            self.look_at_accounts(u64::MAX);
        }
        self.drain_samples();
        let horizon = if last { u64::MAX } else { now_ns.saturating_sub(SETTLE_NS) };
        let ready: Vec<_> = self.order.take_before(horizon).collect();
        for (time_ns, happening) in ready {
            self.apply(time_ns, happening);
        }
        let calm = !last && self.pace.is_calm(now_ns);
        let flush_ns = self.last_flush_ns.saturating_add(if calm { CALM_FLUSH_NS } else { FLUSH_NS });
        let flush = last || is_due(flush_ns, now_ns);
        if calm && !flush {
            return full;
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
        self.processes.expire(now_ns);
        if flush && self.rescan {
            self.rescan = false;
            // Members may have ended, forked and become other programs meanwhile.
            self.lineage.clear();
            self.processes.doubt();
            self.scan();
        }
        if !last && (flush || now_ns >= self.next_hand_over_ns) {
            self.next_hand_over_ns = now_ns.saturating_add(HAND_OVER_NS);
            self.hand_over(flush);
        }
        full
    }

    /// Takes samples out of the rings that somebody wants now. Read the side-band before it.
    fn drain_samples(&mut self) {
        let Capture { setup, side_band_read_ns, .. } = self;
        let (join, mut taken) = (&setup.attribution, Vec::new());
        let wanted = |id, time_ns| join.wants(id) || time_ns >= *side_band_read_ns;
        setup.sampler.drain_samples(wanted, |sample| taken.push(sample));
        // Of a stranger, or of a cgroup that was made since.
        if taken.iter().any(|sample| !join.wants(sample.cgroup)) {
            self.take_side_band();
        }
        let join = &self.setup.attribution;
        for sample in taken.into_iter().filter(|sample| join.wants(sample.cgroup)) {
            self.order.push(sample.time_ns, Happening::Sample(sample));
        }
    }

    fn apply(&mut self, time_ns: u64, happening: Happening) {
        if let (Some(maps), Happening::Fork { pid, .. } | Happening::Exec { pid, .. }) =
            (&mut self.setup.perf_maps, &happening)
        {
            maps.forget(*pid);
        }
        match happening {
            Happening::Fork { pid, parent } => self.processes.fork(pid, parent),
            Happening::Exec { pid, comm } => self.processes.exec(pid, &comm),
            Happening::Name { pid, tid, comm } => self.processes.name(pid, tid, &comm),
            Happening::Mmap { pid, mapping } => self.processes.mmap(pid, mapping),
            Happening::Exit { pid } => self.processes.exit(pid, time_ns),
            Happening::ThreadExit { pid, tid } => self.processes.thread_exit(pid, tid),
            Happening::Sample(sample) => self.sample(&sample),
        }
    }

    fn sample(&mut self, sample: &RawSample) {
        if !self.processes.knows(sample.pid) {
            self.find_process(sample.pid, sample.cgroup, sample.time_ns);
        }
        if self.processes.ran(sample.pid, sample.tid, sample.time_ns)
            && let Some(no) = self.setup.attribution.instance_of(sample.cgroup)
        {
            self.lineage.insert(sample.pid, no);
        }
        let time = self.clock.wall(sample.time_ns);
        let placed = PlacedSample {
            time,
            pid: sample.pid.0,
            tid: sample.tid.0,
            comm: self.processes.comm(sample.pid, sample.tid),
            cpu: sample.cpu,
            places: places::places(
                &self.processes,
                self.setup.perf_maps.as_mut(),
                sample,
                self.setup.max_stack,
            ),
        };
        self.stats.samples += 1;
        // A warm function works without a word of the side-band.
        self.pace.heard(News::Ours, sample.time_ns);
        if let Some(no) = self.setup.attribution.instance_of(sample.cgroup) {
            self.accounts.stir(no);
        }
        let bytes = placed.bytes();
        if !self.setup.attribution.offer(sample.cgroup, time, bytes, placed) {
            self.pending.unattributed += 1;
        }
    }

    /// A process that was there before us, or was moved into the cgroup: its mappings as they are now.
    fn find_process(&mut self, pid: Pid, cgroup: CgroupId, now_ns: u64) {
        match self.files.mappings_of(pid) {
            // An empty list is that of a process on its way out.
            Ok(mappings) if !mappings.is_empty() => {
                let comm =
                    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "?".into());
                self.processes.found(pid, comm.trim_end(), mappings);
                if let Some(no) = self.setup.attribution.instance_of(cgroup) {
                    self.lineage.insert(pid, no);
                }
            }
            Ok(_) | Err(_) => self.processes.missed(pid, now_ns),
        }
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
        self.processes.keep(|pid| self.lineage.contains_key(&pid), now_ns);
        if let Some(maps) = &mut self.setup.perf_maps {
            maps.keep(|pid| self.processes.knows(pid));
        }
        self.stats.peak_processes = self.stats.peak_processes.max(self.processes.len());
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
        let perf_maps = self.setup.perf_maps.as_ref().map(PerfMaps::stats).unwrap_or_default();
        AgentStats {
            files: self.files.stats(),
            perf_maps,
            ring_bytes: self.setup.sampler.ring_bytes(),
            ..self.stats
        }
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
