//! Capture: drains the rings, opens files while their processes live, and joins samples with instances.
//!
//! Two paces, two kinds of threads. *At once*, on a reader thread of the CPU where it happened ([`readers`]): which
//! process belongs to which instance (by descent, by who is found in a new cgroup, and by `/proc/PID/cgroup` at an
//! exec), files of theirs are opened, CPU accounts read. *In order*, on the capture thread at each tick (see `pace`): all
//! of it and the samples, merged over CPUs by time, so that an address is looked up in what was mapped when it was
//! sampled, and stacks walked ([`in_order`]). What both need is [`Capture`], behind a lock that is held for as long as a
//! reading takes and never while a stack is walked. Never waits for the keeper: what does not fit its queue is counted
//! and dropped.

mod arrivals;
mod commands;
mod containers;
mod cpus;
mod govern;
mod hand_over;
mod in_order;
mod later;
mod nested;
mod newborns;
mod newcomers;
mod readers;
mod side_band;
mod switches;
mod told;
mod unclaimed;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

use super::AgentStats;
use super::accounts::{Accounts, Reading};
use super::budget::{Governor, Limits, Step};
use super::control::Commands;
use super::degraded::Degraded;
use super::drain::Deadline;
use super::freed::Freed;
use super::lineage::Lineage;
use super::pace::{Pace, is_due};
use super::waiting::Waiting;
use super::work::{PlacedSample, Work, add_stats};
use crate::attribution::{Attribution, Moment};
use crate::cgroup::{CgroupWatch, Cgroups};
use crate::config::{OffCpu, Realtime, Unwind};
use crate::identity::IdentityConfig;
use crate::metrics::Metrics;
use crate::model::{CgroupId, ContainerId, CpuSource, Fact, InstanceNo, Pid};
use crate::perf::{
    Clock, Hotplug, Mode, Order, RawSample, Sampler, SideBand, Stamped, keep_little, timespec,
};
use crate::runtime::look_up::Asker;
use crate::stack::apart::Parser;
use crate::stack::{Files, Mapping, MapsLine, mappings_of};
pub(super) use containers::container_id;
use in_order::InOrder;
use newcomers::Newcomers;
use readers::Readers;
use switches::Switching;
pub(super) use unclaimed::Discoverer;
use unclaimed::Unclaimed;

/// Between writes: a second's worth is lost at worst, and another on its way through the keeper.
const FLUSH_NS: u64 = 1_000_000_000;
/// Between looks at everything while nothing happens to functions. A page touched after seconds of rest costs ten
/// microseconds where memory is the host's of a virtual machine: a tick that need not look does not.
const CALM_FLUSH_NS: u64 = 4_000_000_000;
/// Between what is handed to the keeper: ticks may be 10 ms apart, and each costs it a wake-up.
const HAND_OVER_NS: u64 = 400_000_000;
/// Priority of these threads: ahead of what they watch.
const NICE: i32 = -15;
/// How much earlier than the drain a record must be to have no earlier one still on its way into another ring.
const SETTLE_NS: u64 = 1_000_000;

/// What the capture thread is given.
pub(super) struct Setup {
    pub(super) sampler: Sampler,
    pub(super) off_cpu: OffCpu,
    pub(super) cgroups: Cgroups,
    pub(super) attribution: Attribution<PlacedSample>,
    /// Parents of the `cgroup` runtime, and the name that runtime has here.
    pub(super) parents: Vec<String>,
    pub(super) parents_runtime: &'static str,
    /// Has a runtime asked after containers that it does not tell of by itself.
    pub(super) asker: Option<Asker>,
    pub(super) identity: IdentityConfig,
    /// Who looks at what no runtime has claimed.
    pub(super) discoverer: Option<Discoverer>,
    pub(super) max_stack: usize,
    pub(super) unwind: Unwind,
    /// Whether code without unwind tables is scanned.
    pub(super) scan: bool,
    /// Whether names that programs tell of code made at run time are wanted.
    pub(super) perf_maps: bool,
    pub(super) parser: Parser,
    /// Where it is remembered of which programs chains suffice.
    pub(super) cache_dir: Option<PathBuf>,
    pub(super) realtime: Realtime,
    pub(super) commands: Commands,
    pub(super) keeper: SyncSender<Work>,
    /// Memory of samples in that queue, in bytes; the keeper subtracts.
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) deadline: Arc<Deadline>,
    pub(super) budget: Limits,
    pub(super) degraded: Arc<Degraded>,
    pub(super) freed: Arc<Freed>,
    /// Told whether a container lives that is no function yet.
    pub(super) waiting: Arc<Waiting>,
}

/// What readers and the capture thread share.
pub(super) struct Shared {
    capture: Mutex<Capture>,
    /// Wakes the capture thread.
    wake: OwnedFd,
    /// Wakes it too: tells of CPUs that come and go, where it may.
    hotplug: Option<Hotplug>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Capture> {
        // A reader that panicked is told, and ends the agent; until then the others go on.
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Waits until it is woken, or the time has come. True if CPUs came or went.
    fn wait_until(&self, due_ns: u64) -> bool {
        let timeout = timespec(due_ns.saturating_sub(Clock::monotonic_ns()));
        // Interrupted, it looks at everything anyway.
        let cpus = self.hotplug.as_ref().map_or(self.wake.as_fd(), Hotplug::as_fd);
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN), PollFd::from_borrowed_fd(cpus, PollFlags::IN)];
        if !poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let _ = rustix::io::read(self.wake.as_fd(), &mut [0; 8]);
        self.hotplug.as_ref().is_some_and(Hotplug::take)
    }
}

pub(super) struct Capture {
    setup: Setup,
    clock: Clock,
    pace: Pace,
    accounts: Accounts,
    files: Files,
    /// Tells of new cgroups, where events are scoped by them.
    newcomers: Option<CgroupWatch>,
    /// Whether it was told that some are not heard of, and that some have no events.
    told_of_watches: bool,
    told_of_attach: bool,
    switching: Switching,
    nested: nested::Nested,
    unclaimed: Unclaimed,
    /// Cgroups whose first process is still to come.
    arrivals: arrivals::Arrivals,
    /// Instances of which all programs are known to need no copies of their stacks.
    plain: HashSet<InstanceNo>,
    /// Processes of instances, as far as the side-band has been read.
    lineage: Lineage,
    governor: Governor,
    thinning: govern::Thinning,
    flushes: u64,
    order: Order<Happening>,
    /// Samples on their way from the rings into that order.
    taken: Vec<RawSample>,
    side_band: Vec<Stamped<SideBand>>,
    /// Processes that are gone as it is read.
    exited: HashSet<Pid>,
    /// When the side-band was read last: cgroups that were made before are known.
    side_band_read_ns: u64,
    /// Instances of which processes have ended in what is being read of it, and when the last one did: one look for all.
    ended: HashMap<InstanceNo, Moment>,
    /// Processes whose environment may name another function.
    newborns: newborns::Newborns,
    /// What platforms have told of containers that are not known yet.
    early: VecDeque<later::Early>,
    /// Whether a container may have begun or ceased to wait for its function.
    waiting_stale: bool,
    /// Files opened of instances since the last flush.
    opened: HashMap<InstanceNo, usize>,
    /// What the keeper could not take yet.
    pending: Work,
    /// Whether something was handed over since the keeper was last asked to write.
    unwritten: bool,
    next_tick_ns: u64,
    /// What the capture thread waits for.
    awaited_ns: u64,
    last_flush_ns: u64,
    governed_ns: u64,
    next_hand_over_ns: u64,
    next_sweep_ns: u64,
    rescan: bool,
    /// Whether the kernel tells when CPUs come and go, and whether it has told nothing since they were looked at.
    hears_of_cpus: bool,
    cpus_told: bool,
    /// Why a CPU is not sampled.
    cpu_trouble: Option<String>,
    stats: AgentStats,
    told: told::Told,
}

/// What is applied in order of time.
enum Happening {
    Fork {
        pid: Pid,
        parent: Pid,
    },
    Exec {
        pid: Pid,
        no: InstanceNo,
        comm: String,
    },
    Name {
        pid: Pid,
        tid: Pid,
        comm: String,
    },
    Mmap {
        pid: Pid,
        mapping: Mapping,
    },
    Exit {
        pid: Pid,
    },
    ThreadExit {
        pid: Pid,
        tid: Pid,
    },
    Sample {
        sample: RawSample,
        count: u32,
    },
    /// A thread leaves its CPU, has left it, is back.
    Leaves(RawSample),
    Left {
        tid: Pid,
        preempted: bool,
    },
    Back {
        tid: Pid,
    },
    SwitchesLost,
    /// Switches in this cgroup are watched no more.
    Unwatched(CgroupId),
}

/// Runs until it is told to stop; `wake` and `hotplug` wake it. The end of a reader that was not told to is told to
/// `broken`.
pub(super) fn run(setup: Setup, wake: OwnedFd, hotplug: Option<Hotplug>, broken: &Arc<Notify>) -> AgentStats {
    hurry();
    let metrics = setup.metrics.clone();
    let freed = setup.freed.clone();
    metrics.capture.owe(Clock::monotonic_ns());
    let mut in_order = InOrder::new(&setup);
    let mut readers = Readers::new(setup.realtime, broken.clone());
    let shared = Arc::new(Shared { capture: Mutex::new(Capture::new(setup)), wake, hotplug });
    {
        let mut capture = shared.lock();
        capture.hears_of_cpus = shared.hotplug.is_some();
        capture.listen_for_newcomers();
        capture.scan();
        capture.follow_demand();
        capture.next_tick_ns = Clock::monotonic_ns();
    }
    let newcomers = Newcomers::start(&shared, broken).unwrap_or_else(|error| {
        tracing::error!("{error:#}; new cgroups are heard of at each tick");
        None
    });
    loop {
        readers.follow(&shared);
        let awaited_ns = {
            let mut capture = shared.lock();
            capture.awaited_ns = capture.due_ns(Clock::monotonic_ns());
            capture.awaited_ns
        };
        metrics.capture.owe(awaited_ns);
        let cpus_changed = shared.wait_until(awaited_ns);
        let mut capture = shared.lock();
        if cpus_changed {
            // They are followed, and what began on one that came is looked for, in a whole tick at once.
            capture.cpus_told = false;
            (capture.next_tick_ns, capture.last_flush_ns) = (0, 0);
        }
        let last = capture.commands();
        let now = Clock::monotonic_ns();
        capture.look_around(now);
        let tick = last || now >= capture.next_tick_ns;
        drop(capture);
        if tick {
            let full = in_order.tick(&shared, now, last);
            let mut capture = shared.lock();
            let armed = capture.setup.sampler.mode() != Mode::Off;
            capture.next_tick_ns = now + capture.tick_ns(full, armed, now);
            let calm = capture.pace.is_calm(now);
            drop(capture);
            if freed.take(now, calm) {
                crate::sys::release_freed_memory();
            }
        }
        if last {
            shared.lock().setup.deadline.hurry();
            readers.end();
            newcomers.into_iter().for_each(Newcomers::end);
            break;
        }
    }
    let shared = Arc::into_inner(shared).expect("the readers have ended, and nobody else holds it");
    shared.capture.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
}

/// Puts this thread ahead of what is watched: late by a scheduler's round, the files of a short process are gone; its own
/// work is a percent of a core.
pub(super) fn hurry() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("capture runs at the usual priority: {error}");
    }
}

impl Capture {
    fn new(mut setup: Setup) -> Capture {
        let governor = Governor::new(setup.budget);
        let unclaimed = Unclaimed::new(setup.discoverer.take());
        Capture {
            setup,
            clock: Clock::read(),
            pace: Pace::default(),
            accounts: Accounts::default(),
            files: Files::default(),
            newcomers: None,
            told_of_watches: false,
            told_of_attach: false,
            switching: Switching::default(),
            nested: nested::Nested::default(),
            unclaimed,
            arrivals: arrivals::Arrivals::default(),
            plain: HashSet::new(),
            lineage: Lineage::default(),
            governor,
            thinning: govern::Thinning::default(),
            flushes: 0,
            order: Order::default(),
            taken: Vec::new(),
            side_band: Vec::new(),
            exited: HashSet::new(),
            side_band_read_ns: 0,
            ended: HashMap::new(),
            newborns: newborns::Newborns::default(),
            early: VecDeque::new(),
            waiting_stale: false,
            opened: HashMap::new(),
            pending: Work::default(),
            unwritten: false,
            next_tick_ns: 0,
            awaited_ns: 0,
            last_flush_ns: 0,
            governed_ns: 0,
            next_hand_over_ns: 0,
            next_sweep_ns: 0,
            rescan: false,
            hears_of_cpus: false,
            cpus_told: false,
            cpu_trouble: None,
            stats: AgentStats::default(),
            told: told::Told::default(),
        }
    }

    fn look_at_accounts(&mut self, now_ns: u64) {
        for (no, reading) in self.accounts.look(now_ns, &self.setup.cgroups) {
            let goes_on = matches!(reading, Reading::Cpu { source: CpuSource::Exit, .. });
            self.reading(no, Some(reading));
            let facts = match goes_on {
                true => self.accounts.counters_at_end(no, now_ns),
                false => self.accounts.counters(no, now_ns),
            };
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
                if let Some((asker, info)) = self.setup.asker.as_ref().zip(self.setup.attribution.living(no))
                {
                    asker.ended(&ContainerId(info.container_id.as_str().into()));
                }
                self.setup.attribution.cgroup_gone(no, ended, now);
                self.leave(no);
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
        let looks = [self.accounts.next_look_ns(), self.unclaimed.due_ns(), self.arrivals.due_ns()];
        looks.into_iter().flatten().fold(self.next_tick_ns, u64::min)
    }

    /// What is looked at whenever anything has woken anybody.
    fn look_around(&mut self, now_ns: u64) {
        self.look_for_arrivals(now_ns);
        self.read_newborns();
        self.ask_unclaimed(now_ns);
        self.look_at_accounts(now_ns);
        self.follow_demand();
        self.tell_of_waiting();
    }

    /// Samples the host while something lives that is or may be a function, and copies stacks while one of them needs
    /// it, or may.
    fn follow_demand(&mut self) {
        let join = &self.setup.attribution;
        let mode = match self.setup.unwind {
            _ if !join.should_sample() => Mode::Off,
            _ if self.governor.is_in_force(Step::Copies) || join.live_sampled() == 0 => Mode::Chains,
            Unwind::Fp => Mode::Chains,
            Unwind::Auto if join.live_sampled() <= self.plain.len() => Mode::Chains,
            Unwind::Auto | Unwind::Dwarf => Mode::Copies,
        };
        let was = self.setup.sampler.mode();
        if mode == was {
            return;
        }
        let armed = self.setup.sampler.arm(mode);
        if let Err(error) = &armed {
            tracing::error!("{error}");
        }
        self.tell_mode(armed.is_ok());
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
        } else if is_due(self.governed_ns.saturating_add(FLUSH_NS / 2), now_ns) {
            self.govern(now_ns);
        }
        let now = self.moment(now_ns);
        for no in self.setup.attribution.tick(now) {
            self.leave(no);
        }
        if last {
            self.setup.attribution.give_up(now);
        }
        if !last && (flush || now_ns >= self.next_hand_over_ns) {
            self.next_hand_over_ns = now_ns.saturating_add(HAND_OVER_NS);
            self.hand_over(flush);
        }
        if flush {
            self.publish_news();
        }
        flush
    }

    /// Takes samples out of the rings, of one CPU or of all, that somebody wants now. Read the side-band before it.
    fn drain_samples(&mut self, cpu: Option<u32>) {
        self.drain_switches();
        let mut taken = std::mem::take(&mut self.taken);
        let Capture { setup, side_band_read_ns, .. } = self;
        let join = &setup.attribution;
        // One behind the other, samples are mostly the same container's.
        let last = Cell::new((CgroupId(0), join.wants(CgroupId(0))));
        let wants = |id| {
            if last.get().0 != id {
                last.set((id, join.wants(id)));
            }
            last.get().1
        };
        let wanted = |id, time_ns| wants(id) || time_ns >= *side_band_read_ns;
        let mut strangers = false;
        let each = |sample: RawSample| {
            strangers |= !wants(sample.cgroup);
            taken.push(sample);
        };
        match cpu {
            Some(cpu) => setup.sampler.drain_samples_of(cpu, wanted, each),
            None => setup.sampler.drain_samples(wanted, each),
        }
        // Of a stranger, or of a cgroup that was made since.
        if strangers {
            self.take_side_band();
        }
        let scoped = self.setup.sampler.is_scoped();
        for sample in taken.drain(..) {
            if strangers && !self.setup.attribution.wants(sample.cgroup)
                || scoped && self.is_of_inner(sample.cgroup, sample.pid)
            {
                continue;
            }
            if let Some(count) = self.thinning.counts_for(sample.cgroup)
                && !self.setup.attribution.hide(sample.cgroup, count.into())
            {
                self.order.push(sample.time_ns, Happening::Sample { sample, count });
            }
        }
        keep_little(&mut taken);
        self.taken = taken;
    }

    /// A process that was there before us, or was moved into the cgroup: its name and mappings as they are now.
    fn find_process(&mut self, pid: Pid, cgroup: CgroupId) -> (InstanceNo, Option<(String, Vec<Mapping>)>) {
        // Of no instance, it is of nobody who has a share.
        let Some(no) = self.setup.attribution.instance_of(cgroup) else {
            return (InstanceNo(u32::MAX), None);
        };
        if !self.lineage.insert(pid, no) {
            return (no, None);
        }
        // An empty list is that of a process on its way out.
        let what = |line: &MapsLine<'_>| self.what_is_mapped(no, pid, line.start..line.end, line.path, None);
        let mappings = mappings_of(pid, what).ok().filter(|mappings| !mappings.is_empty());
        let Some(mappings) = mappings else {
            self.lineage.remove(&pid);
            return (no, None);
        };
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "?".into());
        (no, Some((comm.trim_end().into(), mappings)))
    }

    /// Once a second, seldom while nothing happens: readings of what runs, ring statistics, clocks, CPUs.
    fn flush(&mut self, now_ns: u64, last: bool) {
        self.flushes += 1;
        self.govern(now_ns);
        // While fewer reads must do, every fourth time.
        let rests = self.governor.is_in_force(Step::Reads) && !last && !self.flushes.is_multiple_of(4);
        let due_ns = if last { u64::MAX } else { now_ns };
        let readings = if rests { Vec::new() } else { self.accounts.read_due(due_ns, &self.setup.cgroups) };
        let read: Vec<InstanceNo> = readings.iter().map(|(no, _)| *no).collect();
        for (no, reading) in readings {
            self.reading(no, Some(reading));
        }
        let facts = self.accounts.facts(&read, now_ns);
        self.facts(facts.into_iter());
        // Where the kernel tells of them, this is for what it did not.
        if last || !self.cpus_told || self.flushes.is_multiple_of(8) {
            self.follow_cpus();
        }
        let stats = self.setup.sampler.take_stats();
        self.stats.lost += stats.iter().map(|cpu| cpu.lost).sum::<u64>();
        let stats: Vec<_> = stats.into_iter().filter(|cpu| cpu.samples + cpu.lost > 0).collect();
        add_stats(&mut self.pending.cpus, &stats);
        self.opened.clear();
        self.nested.clear();
        self.clock = Clock::read();
        self.pending.clock_offset_ns = self.clock.offset_ns;
        let sweep = self.sweep(now_ns);
        // Descent from processes nobody wants any more. Those that ended went with their exit, but where the rings of
        // two CPUs told the exit before the fork, or a record was lost.
        let join = &self.setup.attribution;
        self.lineage.retain(|pid, no| join.is_wanted(no) && !(sweep && is_gone(pid)));
    }

    fn moment(&self, ns: u64) -> Moment {
        Moment { ns, wall: self.clock.wall(ns) }
    }
}

fn is_gone(pid: Pid) -> bool {
    let pid = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}
