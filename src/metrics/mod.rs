//! What the agent tells of itself, in one place: every number it counts, what its threads owe, and what holds.
//!
//! | file | what |
//! |---|---|
//! | `steps` | steps of doing less, when they were taken and how long they lasted |
//! | `families` | the table: name, unit, kind and help text of every metric |
//! | `exposition` | the table as OpenMetrics text; prometheus-client is used there alone |
//! | `own` | what this process uses, read when it is asked for |
//!
//! Threads store numbers that they hold anyway, once a flush and not at a tick that finds nothing; readers may see one
//! number of a flush beside another of the flush before. There is no number for each function: tenants choose names,
//! and how many there are. Not here: whether it is well ([`crate::health`]), and who is told ([`crate::http`]).

mod exposition;
mod families;
mod own;
mod steps;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

pub use exposition::{CONTENT_TYPE, text};
pub use families::{Documented, documented};
pub use steps::{StepState, Steps};

/// A number that one thread stores and others read.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Stores it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number as it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When a thread will show that it works: it says by when it is back before it waits or begins a piece of work.
///
/// A thread that rests for eight seconds owes nothing for eight seconds, so a calm agent needs no tick for it.
#[derive(Debug)]
pub struct Beat {
    due_ns: AtomicU64,
    patience_ns: u64,
}

impl Beat {
    const NOTHING: u64 = u64::MAX;

    /// Of a thread that may be late by `patience_ns`. It owes nothing yet.
    pub const fn new(patience_ns: u64) -> Beat {
        Beat { due_ns: AtomicU64::new(Beat::NOTHING), patience_ns }
    }

    /// It is back at `due_ns` of the monotonic clock.
    pub fn owe(&self, due_ns: u64) {
        self.due_ns.store(due_ns.min(Beat::NOTHING - 1), Ordering::Relaxed);
    }

    /// It waits for others, for as long as they like.
    pub fn rest(&self) {
        self.due_ns.store(Beat::NOTHING, Ordering::Relaxed);
    }

    /// How late it is at `now_ns`, in nanoseconds, where that is more than it may be.
    pub fn overdue_ns(&self, now_ns: u64) -> Option<u64> {
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        // What owes nothing is due at the end of time.
        now_ns.checked_sub(due_ns).filter(|late| *late > self.patience_ns)
    }
}

/// Whether a runtime answers.
#[derive(Debug)]
pub struct Runtime {
    /// Its name.
    pub name: &'static str,
    up: Value,
    absent: Value,
    /// As [`ODDITIES`] calls them.
    odd: [Value; ODDITIES.len()],
}

/// What is odd about answers of runtimes, in a word each.
pub const ODDITIES: [&str; 5] = ["garbled", "late", "fault", "gone", "refused"];

impl Runtime {
    /// Stores whether it answers.
    pub fn set(&self, up: bool) {
        self.up.set(up.into());
        self.absent.set(0);
    }

    /// Stores that there is none here.
    pub fn set_absent(&self) {
        self.up.set(0);
        self.absent.set(1);
    }

    /// So many answers more were odd in the way that [`ODDITIES`] calls `what`.
    pub fn odd(&self, what: &str, count: u64) {
        let meant = ODDITIES.iter().zip(&self.odd).find(|(name, _)| **name == what);
        meant.into_iter().for_each(|(_, value)| value.add(count));
    }

    /// Whether it is here, answering or not.
    pub fn is_here(&self) -> bool {
        self.absent.get() == 0
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        self.up.get() == 1
    }
}

/// Where an agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It opens what it needs.
    Starting,
    /// It watches.
    Watching,
    /// It was told to end.
    Stopping,
}

/// What is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// Nothing: no function lives.
    Off = 0,
    /// The kernel's chains of frame pointers.
    Chains = 1,
    /// Copies of stacks as well.
    Copies = 2,
}

/// Who told which function a container is, after its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// A process of it, by its environment.
    Process = 0,
    /// A platform's log.
    Log = 1,
    /// Kubernetes, by the labels of its pod.
    Labels = 2,
}

impl Teller {
    /// All, by name.
    const NAMES: [&str; 3] = ["process", "log", "labels"];
}

/// How late the capture thread may be. It works milliseconds; a host that starves it for so long is not sampled.
const CAPTURE_PATIENCE_NS: u64 = 15_000_000_000;
/// How long the keeper may be at one piece of work: a first look at large files, and a slow disk, take seconds.
const KEEPER_PATIENCE_NS: u64 = 60_000_000_000;

/// What is cut of a container that wants more than its share, by name.
pub const CUTS: [&str; 8] =
    ["processes", "files", "mappings", "cgroups", "stacks", "names", "environments", "walks"];

/// Every number. Names and help texts stand in `families`; units are in the names.
#[derive(Debug)]
#[expect(missing_docs, reason = "the table of families says what each is")]
pub struct Metrics {
    pub capture: Beat,
    pub keeper: Beat,
    phase: Value,
    revision: OnceLock<&'static str>,

    pub samples: Value,
    pub samples_settled: Value,
    pub samples_lost: Value,
    pub samples_unattributed: Value,
    pub samples_unseen: Value,
    pub samples_stored: Value,
    pub dropped_backlog: Value,
    pub dropped_buffer: Value,
    pub dropped_store: Value,
    pub dropped_shutdown: Value,
    pub side_band_lost: Value,
    pub queued_bytes: Value,
    pub hz: Value,
    sampled: Value,
    pub cpus: Value,
    pub cpu_trouble: Value,
    pub arm_failing: Value,
    pub ring_bytes: Value,
    pub longest_reading_ns: Value,
    pub off_cpu_stopped: Value,
    pub switches_lost: Value,
    pub waits_dropped_backlog: Value,
    pub waits_dropped_away: Value,
    pub waits_dropped_store: Value,
    pub waits_dropped_shutdown: Value,
    pub unattached: Value,
    pub discovered: Value,
    pub undiscovered: Value,
    pub discovery_dropped: Value,
    /// In the order of [`CUTS`].
    pub cuts: [Value; CUTS.len()],

    pub instances: Value,
    pub instances_living: Value,
    pub functions_living: Value,
    named_later: [Value; Teller::NAMES.len()],
    pub platform_log_errors: Value,
    pub kubernetes_requests: Value,
    pub kubernetes_errors: Value,
    runtimes: Vec<Runtime>,
    pub look_ups_found: Value,
    pub look_ups_unknown: Value,
    pub look_ups_without_pod: Value,
    pub look_ups_faults: Value,
    pub look_ups_refused: Value,

    pub files_opened: Value,
    pub files_known: Value,
    pub files_failed: Value,
    pub files_evicted: Value,
    pub walks: Value,
    pub walks_complete: Value,
    pub walks_short: Value,
    pub walks_truncated: Value,
    pub walks_guessed: Value,
    pub unwind_table_bytes: Value,
    pub perf_maps_opened: Value,
    pub perf_map_bytes: Value,
    pub tables_built: Value,
    pub tables_from_cache: Value,
    pub symbol_files_unreadable: Value,
    pub symbol_cache_errors: Value,

    pub store_batches: Value,
    pub store_bytes: Value,
    pub store_errors: Value,
    pub store_dropped_hours: Value,
    pub store_failing: Value,
    pub last_flush_us: Value,

    pub steps: Steps,
    started_us: u64,
}

impl Metrics {
    /// Of an agent that begins now and asks `runtimes`.
    pub fn new(runtimes: &[&'static str]) -> Metrics {
        let value = Value::default;
        let runtimes = runtimes.iter().map(|name| Runtime {
            name,
            up: value(),
            absent: value(),
            odd: Default::default(),
        });
        Metrics {
            capture: Beat::new(CAPTURE_PATIENCE_NS),
            keeper: Beat::new(KEEPER_PATIENCE_NS),
            phase: value(),
            revision: OnceLock::new(),
            samples: value(),
            samples_settled: value(),
            samples_lost: value(),
            samples_unattributed: value(),
            samples_stored: value(),
            samples_unseen: value(),
            dropped_backlog: value(),
            dropped_buffer: value(),
            dropped_store: value(),
            dropped_shutdown: value(),
            side_band_lost: value(),
            queued_bytes: value(),
            hz: value(),
            sampled: value(),
            cpus: value(),
            cpu_trouble: value(),
            arm_failing: value(),
            ring_bytes: value(),
            longest_reading_ns: value(),
            off_cpu_stopped: value(),
            switches_lost: value(),
            waits_dropped_backlog: value(),
            waits_dropped_away: value(),
            waits_dropped_store: value(),
            waits_dropped_shutdown: value(),
            unattached: value(),
            discovered: value(),
            undiscovered: value(),
            discovery_dropped: value(),
            cuts: Default::default(),
            instances: value(),
            instances_living: value(),
            functions_living: value(),
            named_later: Default::default(),
            platform_log_errors: value(),
            kubernetes_requests: value(),
            kubernetes_errors: value(),
            runtimes: runtimes.collect(),
            look_ups_found: value(),
            look_ups_unknown: value(),
            look_ups_without_pod: value(),
            look_ups_faults: value(),
            look_ups_refused: value(),
            files_opened: value(),
            files_known: value(),
            files_failed: value(),
            files_evicted: value(),
            walks: value(),
            walks_complete: value(),
            walks_short: value(),
            walks_truncated: value(),
            walks_guessed: value(),
            unwind_table_bytes: value(),
            perf_maps_opened: value(),
            perf_map_bytes: value(),
            tables_built: value(),
            tables_from_cache: value(),
            symbol_files_unreadable: value(),
            symbol_cache_errors: value(),
            store_batches: value(),
            store_bytes: value(),
            store_errors: value(),
            store_dropped_hours: value(),
            store_failing: value(),
            last_flush_us: value(),
            steps: Steps::default(),
            started_us: wall_us(),
        }
    }

    /// Says which commit the program was built from; what is said first holds.
    pub fn tell_revision(&self, revision: &'static str) {
        let _ = self.revision.set(revision);
    }

    /// The commit the program was built from.
    pub(super) fn revision(&self) -> &'static str {
        self.revision.get().copied().unwrap_or("unknown")
    }

    /// Where the agent is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.get() {
            0 => Phase::Starting,
            1 => Phase::Watching,
            _ => Phase::Stopping,
        }
    }

    /// It is further in its life.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(match phase {
            Phase::Starting => 0,
            Phase::Watching => 1,
            Phase::Stopping => 2,
        });
    }

    /// Stores what is sampled.
    pub fn set_sampled(&self, sampled: Sampled) {
        self.sampled.set(sampled as u64);
    }

    /// Counts a container that has become another function.
    pub fn named_later(&self, teller: Teller) {
        if let Some(value) = self.named_later.get(teller as usize) {
            value.add(1);
        }
    }

    /// The runtimes that are asked.
    pub fn runtimes(&self) -> &[Runtime] {
        &self.runtimes
    }

    /// The runtime called `name`, where it is one of those that are asked.
    pub fn runtime(&self, name: &str) -> Option<&Runtime> {
        self.runtimes.iter().find(|runtime| runtime.name == name)
    }

    /// Samples of functions that are neither stored nor counted as dropped yet.
    pub fn unwritten(&self) -> u64 {
        let ends = [&self.samples_stored, &self.dropped_backlog, &self.dropped_store, &self.dropped_shutdown];
        self.samples_settled.get().saturating_sub(ends.into_iter().map(Value::get).sum())
    }
}

/// The monotonic clock, in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec.unsigned_abs())
}

/// The wall clock, in microseconds since 1970.
fn wall_us() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000)
        .saturating_add(now.tv_nsec.unsigned_abs() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_late_only_beyond_what_it_has_said_and_may_be() {
        let beat = Beat::new(10);
        assert_eq!(beat.overdue_ns(u64::MAX), None, "it owes nothing yet");
        beat.owe(100);
        for (now_ns, late) in [(0, None), (100, None), (110, None), (111, Some(11)), (500, Some(400))] {
            assert_eq!(beat.overdue_ns(now_ns), late, "at {now_ns}");
        }
        beat.owe(u64::MAX);
        assert_eq!(beat.overdue_ns(u64::MAX - 1), None);
        beat.owe(0);
        beat.rest();
        assert_eq!(beat.overdue_ns(u64::MAX - 1), None);
    }

    #[test]
    fn a_life_goes_on() {
        let metrics = Metrics::new(&["docker"]);
        assert_eq!(metrics.phase(), Phase::Starting);
        for phase in [Phase::Watching, Phase::Stopping] {
            metrics.enter(phase);
            assert_eq!(metrics.phase(), phase);
        }
        assert!(!metrics.runtimes()[0].is_up() && metrics.runtime("podman").is_none());
        metrics.runtime("docker").expect("it is asked").set(true);
        assert!(metrics.runtimes()[0].is_up());
    }
}
