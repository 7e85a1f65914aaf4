//! The agent: the only wiring place. Who talks to whom, and the order in which they start and stop.
//!
//! | thread | does | speaks to |
//! |---|---|---|
//! | readers | one on each CPU: drain its rings at once, open files | capture, by a lock |
//! | capture | brings all in order, walks stacks, attributes | keeper, by a bounded queue it never waits on |
//! | keeper | names frames, writes the journal | seal, at the end of an hour |
//! | seal | seals closed journals, drops old hours; at the lowest priority | nobody |
//! | runtimes | watches Docker, containerd and the others | capture, by a bounded queue of commands |
//! | parser | reads unwind tables and perf maps, of files that it is handed open | capture, which waits for it |
//! | discovery | reads what the host shows of containers that no runtime has claimed | capture, by the same |
//! | cgroups | hears of new cgroups where events are scoped by them | capture, by a lock |
//! | fetch | fetches debug information, where servers are configured | keeper, by a queue |
//! | logs | follows logs of platforms, where some are configured | capture, by the same |
//! | pods | asks Kubernetes for labels of pods, where that is configured | capture, by the same |
//!
//! Start: the side-band first, then one walk over the cgroups that exist, then the runtimes, so that nothing falls
//! between. Stop: the runtimes, then the capture with a last drain, then the keeper with a last write.

mod accounts;
mod allowance;
mod budget;
mod capture;
mod churn;
mod control;
mod degraded;
mod discovery;
mod drain;
mod freed;
mod keeper;
mod lineage;
mod lines;
mod options;
mod own;
mod pace;
mod places;
mod platform_logs;
mod platforms;
mod pods;
mod readings;
mod reload;
mod runtimes;
mod threads;
mod verdicts;
mod waiting;
mod waits;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::Notify;

use crate::attribution::{Attribution, Limits, Moment};
use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::metrics::{Metrics, Phase};
use crate::perf::{Clock, Hotplug, Sampler};
use crate::privilege::{self, Part, Sandbox};
use crate::stack::apart::Parser;
use crate::stack::unwind::UnwindStats;
use crate::stack::{OpenStats, PerfMapStats, Symbolizer};
use crate::store::archive::TidyOptions;
use crate::store::{AtClose, Store, StoreLock};
use budget::{Limits as BudgetLimits, Step};
use control::{Command, Control};
use degraded::Degraded;
use drain::{Deadline, NoEnd, Worker};
pub use keeper::KeeperStats;
pub use lines::Lines;
use options::{
    budget, kernel_max_hz, raise_file_limit, read_number, rings, symbol_options, tidy_options, writer_info,
};
pub use options::{pod_server, ring_options};
use platforms::Platforms;
use reload::Live;
pub use reload::{Reloaded, Reloader};
use runtimes::Watched;

/// Work that may wait for the keeper, a second each while functions work: half a minute.
const KEEPER_QUEUE: usize = 32;
/// How much of the time for an end the watch on runtimes may not use.
const RUNTIMES_LEAVE: Duration = Duration::from_secs(3);

/// Why a thread of a confined process can give up more: that process has just done so.
const GIVES_UP: &str = "capset and seccomp work for a thread where they worked for the process";

/// Who runs the agent: how it is named in the store, and whether the store is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The daemon: holds the store's lock.
    Daemon,
    /// One command (`fnscope exec`): a writer beside a daemon, in cgroups the daemon leaves alone.
    Exec,
    /// The demonstration.
    Demo,
}

impl Role {
    fn writer(self) -> &'static str {
        match self {
            Role::Daemon => "agent",
            Role::Exec => "exec",
            Role::Demo => "demo",
        }
    }

    /// The runtime that containers of configured cgroup parents belong to.
    fn cgroup_runtime(self) -> &'static str {
        match self {
            Role::Exec => crate::runtime::cgroup::LOCAL,
            Role::Daemon | Role::Demo => crate::runtime::cgroup::CGROUP,
        }
    }
}

/// What an agent did.
#[derive(Debug, Default, Clone, Copy)]
pub struct AgentStats {
    /// Instances that began.
    pub instances: u64,
    /// Samples of instances.
    pub samples: u64,
    /// Those that were found to be of a function, and are the keeper's.
    pub settled: u64,
    /// Samples the kernel could not write.
    pub lost: u64,
    /// Samples dropped because the keeper was behind.
    pub dropped: u64,
    /// Samples dropped because too many waited for a name.
    pub dropped_waiting: u64,
    /// Samples of cgroups that belong to no instance.
    pub unattributed: u64,
    /// Samples of sandboxes, which are no function's.
    pub unseen: u64,
    /// Side-band records the kernel could not write.
    pub side_band_lost: u64,
    /// Containers whose events could not be opened (`attach = "per-cgroup"`).
    pub unattached: u64,
    /// Records of switches that the kernel could not write.
    pub switches_lost: u64,
    /// Times off the CPU dropped because the keeper was behind.
    pub waits_dropped: u64,
    /// Times off the CPU that were not kept because too many threads were away.
    pub waits_refused: u64,
    /// Functions that switched too often for their time off the CPU to be recorded.
    pub switching_stopped: u64,
    /// The longest that a reader thread took for a reading, in nanoseconds.
    pub longest_reading_ns: u64,
    /// Most processes known at a time.
    pub peak_processes: usize,
    /// Locked memory of the rings in bytes.
    pub ring_bytes: usize,
    /// How opening files went.
    pub files: OpenStats,
    /// How walking stacks went.
    pub walks: UnwindStats,
    /// How reading perf maps went.
    pub perf_maps: PerfMapStats,
}

/// A running agent.
pub struct Agent {
    control: Control,
    capture: Worker<AgentStats>,
    /// Ends with the capture thread, which alone asks it.
    parser: Worker<()>,
    /// So does this one.
    discovery: Option<Worker<()>>,
    keeper: Worker<KeeperStats>,
    runtimes: Option<(Worker<()>, tokio::sync::oneshot::Sender<()>)>,
    platforms: Platforms,
    broken: Arc<Notify>,
    deadline: Arc<Deadline>,
    metrics: Arc<Metrics>,
    lock: Option<Arc<StoreLock>>,
    tidy: Option<(Store, TidyOptions)>,
    cgroups: Cgroups,
    hz: u32,
    live: Arc<Live>,
}

impl Agent {
    /// Starts an agent. When it returns, what begins from now on is watched.
    ///
    /// # Errors
    /// Rights are missing, the store cannot be written or is another agent's, no cgroups: each says what to do.
    pub fn start(config: &Config, role: Role) -> anyhow::Result<Agent> {
        let faults = config.faults();
        if !faults.is_empty() {
            bail!("config: {}", faults.join("; "));
        }
        let cgroups = Cgroups::detect().context("look at the cgroups of this host")?;
        let hz = config.clamped_hz(kernel_max_hz());
        if hz != config.hz {
            tracing::warn!(asked = config.hz, hz, "rate clamped");
        }
        // Before the store: who lacks rights should not leave a directory behind.
        let rings = rings(config, hz);
        // CPUs that come from now on are told; and before the rights go, as a filter lets nobody make such a socket.
        let hotplug = hotplug();
        let (sampler, hz) = (Sampler::open(rings)?, rings.hz);
        if role == Role::Daemon {
            raise_file_limit();
            // Before there are threads: heaps that are there stay.
            crate::sys::keep_little_freed_memory();
        }
        let store = Store::create(&config.store.path)?;
        let tidy = tidy_options(&config.store)?;
        let live = Arc::new(Live::new(config, tidy));
        let lock = if role == Role::Daemon { Some(Arc::new(store.lock()?)) } else { None };
        let info = writer_info(config, role, hz, sampler.cpu_count())?;
        let (boot_id, period_ns, node) = (info.boot_id.clone(), info.period_ns, info.node.clone());
        let degraded = Arc::new(Degraded::default());
        let at_close = match &lock {
            Some(lock) => AtClose::Seal(lock.clone(), live.tidy.clone()),
            None if tidy.folded => AtClose::Fold,
            None => AtClose::Keep,
        };
        let cache = store.cache_dir();
        // Reads the kernel's names, which takes a right that goes now. From here on there are threads.
        let symbolizer = Symbolizer::new(Some(&cache.join("symbols")));
        let sandbox = sandbox(config, role, &store)?;
        let journal = sandbox.made_by(Part::Keeper, || store.journal_with(info, at_close))??;
        let options = symbol_options(&config.stack);
        let symbolizer =
            sandbox.made_by(Part::Fetcher, || symbolizer.with_options(&options, Some(&cache)))?;

        let (control, commands, wake) = Control::new().context("make the control queue")?;
        let (to_keeper, work) = sync_channel(KEEPER_QUEUE);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let now = Clock::read();
        let now = Moment { ns: Clock::monotonic_ns(), wall: now.wall(Clock::monotonic_ns()) };
        let watched = Watched::new(&config.runtimes, &live.keys);
        let metrics = metrics(config, &watched, role, hz, &sampler);
        let (asker, wanted) = watched.look_ups(&metrics).unzip();
        let deadline = Arc::<Deadline>::default();
        let (parser, jobs) = Parser::apart();
        let freed = Arc::<freed::Freed>::default();
        // Commands and demonstrations know what they start.
        let discovers = config.discovery.enabled && role == Role::Daemon;
        let (asks, asked) = sync_channel(discovery::QUEUE);
        let reader = discovery::Reader::new(cgroups.clone(), &config.discovery);
        let discoverer = discovers.then(|| capture::Discoverer { asks, reader: reader.clone() });
        let waiting = Arc::<waiting::Waiting>::default();
        let setup = capture::Setup {
            sampler,
            off_cpu: config.off_cpu.clone(),
            cgroups: cgroups.clone(),
            attribution: Attribution::new(&boot_id, &watched.names(), Limits::default(), now),
            parents: config.cgroup.parents.clone(),
            parents_runtime: role.cgroup_runtime(),
            asker,
            identity: config.identity(),
            discoverer,
            max_stack: read_number("/proc/sys/kernel/perf_event_max_stack").unwrap_or(127) as usize,
            unwind: config.stack.unwind,
            scan: config.stack.scan.is_on(),
            perf_maps: config.stack.perf_maps.is_on(),
            parser,
            cache_dir: Some(store.cache_dir().join("chains")),
            realtime: config.stack.realtime,
            commands,
            keeper: to_keeper,
            queued_bytes: queued_bytes.clone(),
            metrics: metrics.clone(),
            deadline: deadline.clone(),
            budget: if role == Role::Daemon { budget(config)? } else { BudgetLimits::default() },
            degraded: degraded.clone(),
            freed: freed.clone(),
            waiting: waiting.clone(),
        };
        let broken = Arc::new(Notify::new());
        let parser = Worker::start("parser", &broken, move || {
            capture::hurry();
            sandbox.give_up(Part::Parser).expect(GIVES_UP);
            jobs.run();
        })?;
        let discovery = match discovers {
            true => {
                let setup = discovery::Setup {
                    reader,
                    identity: live.identity.clone(),
                    control: control.clone(),
                    metrics: metrics.clone(),
                };
                Some(Worker::start("discovery", &broken, move || {
                    // Late by a scheduler's round, a short container is gone.
                    capture::hurry();
                    sandbox.give_up(Part::Discovery).expect(GIVES_UP);
                    discovery::run(&setup, &asked);
                })?)
            }
            false => None,
        };
        let (till, told, given_up) = (deadline.clone(), metrics.clone(), degraded);
        let keeper = Worker::start("keeper", &broken, move || {
            sandbox.give_up(Part::Keeper).expect(GIVES_UP);
            let mut keeper =
                keeper::Keeper::new(symbolizer, journal, queued_bytes, till, told, given_up, period_ns);
            keeper.freed = freed;
            keeper.run(&work)
        })?;
        let theirs = broken.clone();
        let capture = Worker::start("capture", &broken, move || {
            sandbox.give_up(Part::Capture).expect(GIVES_UP);
            capture::run(setup, wake, hotplug, &theirs)
        })?;
        let runtimes = match watched.names().is_empty() {
            false => Some(watch(watched, wanted, &live, &control, sandbox, &broken, &metrics)?),
            true => None,
        };
        let platforms = Platforms::start(config, &node, &waiting, &control, sandbox, &broken, &metrics)?;
        // Whatever this thread starts from now on has no rights either.
        sandbox.give_up(Part::Main)?;
        let tidy = lock.is_none().then_some((store, tidy));
        metrics.enter(Phase::Watching);
        Ok(Agent {
            control,
            capture,
            parser,
            discovery,
            keeper,
            runtimes,
            platforms,
            broken,
            deadline,
            metrics,
            lock,
            tidy,
            cgroups,
            hz,
            live,
        })
    }

    /// Waits until the cgroup at `path` is known and sampled, so that what is started in it now is seen from its first
    /// instruction.
    ///
    /// # Errors
    /// It is not within two seconds, or the agent has ended.
    pub fn wait_until_watching(&self, path: &str) -> anyhow::Result<()> {
        let begin = Clock::monotonic_ns();
        loop {
            let (reply, answer) = channel();
            self.control.ask(Command::Watching { path: path.into(), reply });
            match answer.recv_timeout(Duration::from_secs(2)) {
                Ok(true) => return Ok(()),
                // The kernel's record of a new cgroup is in its ring before mkdir returns: a second look is rare.
                Ok(false) if Clock::monotonic_ns() - begin < 2_000_000_000 => std::thread::yield_now(),
                Ok(false) => bail!("cgroup {path} is not sampled two seconds after it was made"),
                Err(_) => bail!("the agent has ended"),
            }
        }
    }

    /// Tells that what ran in the cgroup at `path` has just ended, for a runtime that has nobody else to tell it.
    pub fn exited(&self, path: &str, exit_code: i32) {
        let container = capture::container_id(path);
        self.control.ask(Command::Exited { container, exit_code: Some(exit_code), oom: false, at: None });
    }

    /// The cgroups of this host.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Samples a second and busy CPU, after clamping.
    pub fn hz(&self) -> u32 {
        self.hz
    }

    /// What it tells of itself, while it runs and when it ends.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until a thread of the agent has ended that was not told to. Nothing is recorded from then on: [`Agent::stop`]
    /// says which.
    pub async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Takes what is there, writes it, and ends, however long it takes.
    ///
    /// # Errors
    /// One of its threads has panicked; what the others had is written.
    pub fn stop(self) -> anyhow::Result<(AgentStats, KeeperStats)> {
        self.end(None)
    }

    /// The same within `patience`: what is not named by then is counted as dropped, what closed journals still are to
    /// become is left to the next agent, and a thread that hangs is left behind. The process should end then.
    ///
    /// # Errors
    /// As of [`Agent::stop`]; or a thread hangs: how many samples were not written.
    pub fn stop_within(self, patience: Duration) -> anyhow::Result<(AgentStats, KeeperStats)> {
        self.end(Some(patience))
    }

    fn end(self, patience: Option<Duration>) -> anyhow::Result<(AgentStats, KeeperStats)> {
        let Agent {
            control,
            capture,
            parser,
            discovery,
            keeper,
            runtimes,
            platforms,
            deadline,
            metrics,
            lock,
            tidy,
            ..
        } = self;
        metrics.enter(Phase::Stopping);
        if let Some(patience) = patience {
            deadline.begin(patience);
        }
        let until = patience.map(|patience| Instant::now() + patience);
        let runtimes = runtimes.map(|(thread, stop)| {
            let _ = stop.send(());
            thread
        });
        // What it told until now comes before the end; where it hangs, the rest has little time but some.
        let watched = runtimes.map_or(Ok(()), |thread| {
            thread.join(until.map(|until| until.checked_sub(RUNTIMES_LEAVE).unwrap_or(until)))
        });
        let heard = platforms.end(until.map(|until| until.checked_sub(RUNTIMES_LEAVE).unwrap_or(until)));
        control.ask(Command::Finish);
        // The keeper ends with the capture thread, however that ends.
        let (captured, kept) = (capture.join(until), keeper.join(until));
        let parsed = parser.join(until);
        let discovered = discovery.map_or(Ok(()), |thread| thread.join(until));
        drop(lock);
        if let Some((store, options)) = tidy {
            tidy_after(&store, options);
        }
        if let Some(NoEnd::Late(what)) = captured.as_ref().err().or(kept.as_ref().err()) {
            let unwritten = metrics.unwritten();
            bail!(
                "the {what} thread does not end, and is left behind; {unwritten} samples that were read are not written"
            );
        }
        for ended in [watched, heard] {
            if let Err(late @ NoEnd::Late(_)) = ended {
                tracing::warn!("{late}, and is left behind");
            } else {
                ended?;
            }
        }
        let ended = (captured?, kept?);
        parsed?;
        discovered?;
        Ok(ended)
    }
}

fn watch(
    watched: Watched,
    wanted: Option<tokio::sync::mpsc::Receiver<crate::runtime::look_up::Wanted>>,
    live: &Live,
    control: &Control,
    sandbox: Sandbox,
    broken: &Arc<Notify>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Worker<()>, tokio::sync::oneshot::Sender<()>)> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (identity, control) = (live.identity.clone(), control.clone());
    let metrics = metrics.clone();
    let thread = Worker::start("runtimes", broken, move || {
        sandbox.give_up(Part::Runtimes).expect(GIVES_UP);
        if let Err(error) = runtimes::run(&watched, wanted, identity, &control, &metrics, stopped) {
            tracing::error!("watch runtimes: {error}");
        }
    })?;
    Ok((thread, stop))
}

/// What is told of an agent that begins; what its threads count, they tell themselves.
fn metrics(
    config: &Config,
    watched: &Watched,
    role: Role,
    hz: u32,
    sampler: &crate::perf::Sampler,
) -> Arc<Metrics> {
    let cgroup = (!config.cgroup.parents.is_empty()).then(|| role.cgroup_runtime());
    let metrics = Metrics::new(&watched.names().into_iter().chain(cgroup).collect::<Vec<_>>());
    // The kernel tells of it, and is there.
    cgroup.and_then(|name| metrics.runtime(name)).into_iter().for_each(|runtime| runtime.set(true));
    metrics.hz.set(hz.into());
    metrics.cpus.set(sampler.cpu_count() as u64);
    metrics.ring_bytes.set(sampler.ring_bytes() as u64);
    metrics.steps.declare(&Step::ALL.map(Step::name));
    metrics.into()
}

fn hotplug() -> Option<Hotplug> {
    Hotplug::open()
        .inspect_err(|error| tracing::info!("uevents: {error}; CPUs that come are sampled within seconds"))
        .ok()
}

/// Gives up what the daemon does not need from here on. Commands that are profiled are not confined, and neither is
/// who starts them.
fn sandbox(config: &Config, role: Role, store: &Store) -> anyhow::Result<Sandbox> {
    if role != Role::Daemon {
        return Ok(Sandbox::off());
    }
    for (capability, without) in privilege::missed() {
        tracing::warn!("{capability} is missing: {without}");
    }
    if let Some(mode) = store.others_may() {
        let path = store.root().display();
        tracing::warn!("profiles in {path} are open to others (mode {mode:04o}): chmod 700 {path}");
    }
    if !config.sandbox.is_on() {
        tracing::warn!("sandbox is off: all rights are kept");
        return Ok(Sandbox::off());
    }
    let (sandbox, given) =
        Sandbox::confine(!config.stack.debuginfod.is_empty() || platforms::need_network(config))?;
    tracing::info!(
        kept = given.kept.join(" "),
        dropped = given.dropped.len(),
        bounded = given.bounded,
        "rights given up; no_new_privs; a filter of system calls"
    );
    store.writable().context(
        "the agent has given up the right to write what is not its own: chown -R root the directory, or run with \
         sandbox = \"off\"",
    )?;
    Ok(sandbox)
}

/// Where there is no agent, whoever writes seals what was closed in an hour that is over, as far as it goes in a
/// moment.
fn tidy_after(store: &Store, options: TidyOptions) {
    const PATIENCE: Duration = Duration::from_millis(300);
    let options = TidyOptions { patience: Some(PATIENCE), only_past_hours: true, ..options };
    let tidied = match store.lock() {
        Ok(lock) => store.tidy(&lock, &options, |_, _| {}),
        Err(error) => Err(error),
    };
    if let Err(error) = tidied {
        tracing::debug!(%error, "journals are left as they are");
    }
}
