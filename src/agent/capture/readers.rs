//! A reader thread for each CPU, pinned to it: while it reads, the process that woke it does not run on.
//!
//! Its work is bounded by what its rings hold: drain them, open files, read accounts; the longest such reading is told
//! when the agent ends. It is woken by the kernel, by new cgroups always and by everything of processes while functions are
//! sampled, and rests after each reading as the pace says: while there are strangers alone, all rest together, and one of
//! them reads for all.

use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::Notify;

use super::{Capture, NICE, Shared};
use crate::agent::budget::Step;
use crate::agent::pace::Rest;
use crate::agent::threads::spawn_passing;
use crate::config::Realtime;
use crate::perf::{Clock, CpuWait, Ready};

/// How much earlier than it waits for the capture thread must have something to do to be woken for it.
const WORTH_WAKING_NS: u64 = 500_000;

/// The running readers.
pub(super) struct Readers {
    running: HashMap<u32, (Arc<CpuWait>, JoinHandle<()>)>,
    realtime: Realtime,
    broken: Arc<Notify>,
}

impl Readers {
    pub(super) fn new(realtime: Realtime, broken: Arc<Notify>) -> Readers {
        Readers { running: HashMap::new(), realtime, broken }
    }

    /// Starts readers of CPUs that have come, and ends those of CPUs that have gone.
    pub(super) fn follow(&mut self, shared: &Arc<Shared>) {
        let waits: Vec<Arc<CpuWait>> = {
            let capture = shared.lock();
            let same = |wait: &Arc<CpuWait>| {
                self.running.get(&wait.cpu).is_some_and(|(running, _)| Arc::ptr_eq(running, wait))
            };
            let sampler = &capture.setup.sampler;
            if sampler.cpu_count() == self.running.len() && sampler.waits().all(same) {
                return;
            }
            sampler.waits().cloned().collect()
        };
        let is_there = |wait: &Arc<CpuWait>| waits.iter().any(|there| Arc::ptr_eq(there, wait));
        let gone = self.running.extract_if(|_, (wait, _)| !is_there(wait));
        gone.for_each(|(_, reader)| end(reader));
        let realtime = self.realtime.applies(waits.len());
        for wait in waits {
            if self.running.contains_key(&wait.cpu) {
                continue;
            }
            let (shared, theirs) = (shared.clone(), wait.clone());
            let name = format!("fnscope-cpu{}", wait.cpu);
            match spawn_passing(&name, &self.broken, move || read(&shared, &theirs, realtime)) {
                Ok(thread) => {
                    self.running.insert(wait.cpu, (wait, thread));
                }
                Err(error) => tracing::error!("{error:#}; its rings are read at each tick"),
            }
        }
    }

    /// Ends all.
    pub(super) fn end(self) {
        self.running.into_values().for_each(end);
    }
}

fn end((wait, thread): (Arc<CpuWait>, JoinHandle<()>)) {
    wait.end();
    // One that panicked has told so.
    let _ = thread.join();
}

fn read(shared: &Shared, wait: &CpuWait, realtime: bool) {
    let mut cpus = CpuSet::new();
    cpus.set(wait.cpu as usize);
    if let Err(error) = sched_setaffinity(None, &cpus) {
        tracing::debug!(cpu = wait.cpu, "a reader is not pinned: {error}");
    }
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("readers run at the usual priority: {error}");
    }
    if realtime && let Err(error) = crate::sys::set_realtime() {
        // Of all alike: once is enough.
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::info!(
                "readers run at the usual priority, not ahead of what they watch: {error}; of very short processes some \
                 files are opened too late (`fnscope doctor` says what mends it)"
            );
        });
    }
    let mut ready = wait.wait(None);
    while !ready.ended {
        let woken_ns = Clock::monotonic_ns();
        let before =
            ready.is_of_processes_alone().then(|| shared.lock().pace.rest_before(woken_ns)).flatten();
        if let Some(rest) = before {
            ready.cgroups = keep(rest, wait).cgroups;
        }
        ready =
            read_once(shared, wait.cpu, ready, woken_ns).map_or_else(Ready::default, |rest| keep(rest, wait));
        if ready == Ready::default() {
            ready = wait.wait(None);
        }
    }
}

/// Reads what has woken the reader of `cpu` at `woken_ns`, if nobody has. Returns how it rests then.
fn read_once(shared: &Shared, cpu: u32, ready: Ready, woken_ns: u64) -> Option<Rest> {
    let mut capture = shared.lock();
    if ready.is_of_processes_alone() && capture.side_band_read_ns > woken_ns {
        return None;
    }
    let begin_ns = Clock::monotonic_ns();
    let rest = capture.woken(cpu, ready);
    let took_ns = Clock::monotonic_ns().saturating_sub(begin_ns);
    capture.stats.longest_reading_ns = capture.stats.longest_reading_ns.max(took_ns);
    if capture.due_ns(Clock::monotonic_ns()).saturating_add(WORTH_WAKING_NS) < capture.awaited_ns {
        capture.awaited_ns = 0;
        shared.wake();
    }
    rest
}

/// Rests so. Returns what has ended it, if it is not its time.
fn keep(rest: Rest, wait: &CpuWait) -> Ready {
    match rest {
        Rest::Whole(rest) => {
            std::thread::sleep(rest);
            Ready::default()
        }
        Rest::UntilCgroup(rest) => wait.rest(rest),
    }
}

impl Capture {
    /// Reads what has woken the reader of `cpu`. Returns how long it rests then.
    fn woken(&mut self, cpu: u32, ready: Ready) -> Option<Rest> {
        let side_band = ready.cgroups || ready.processes;
        let news = (side_band || ready.samples).then(|| self.take_side_band().0)?;
        if ready.samples {
            // Before it is full. What is in it waits for its tick, which also sets the pace of the store.
            self.drain_samples(Some(cpu));
        }
        let now_ns = Clock::monotonic_ns();
        self.look_around(now_ns);
        side_band.then(|| self.pace.rest(news, self.governor.is_in_force(Step::Reads), now_ns))
    }
}
