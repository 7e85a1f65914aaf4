//! The discovery thread: what the host shows of containers that no runtime has claimed, read while they live, and made
//! into claims for the capture thread.
//!
//! The capture thread asks by a bounded queue and never waits. A container is read as soon as it is asked for; what is
//! not there yet (an environment right behind an exec, names that the kubelet has still to give) is looked for again a few
//! times. Files of the host are read, and of `/proc`; never one of a container. A later look tells only what is new.

mod read;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub(super) use read::Reader;

use super::control::{Command, Control};
use super::runtimes::facts;
use crate::attribution::Claim;
use crate::cgroup::place_of;
use crate::discovery::{Discovered, Evidence, conclude};
use crate::identity::IdentityConfig;
use crate::metrics::Metrics;
use crate::model::{ContainerId, InstanceNo, Pid, Swap};

/// Questions that may wait for the thread; more wait with the capture thread.
pub(super) const QUEUE: usize = 256;
/// Most containers that are looked at again.
const MAX_AGAIN: usize = 4_096;
/// When an environment that is still empty is read again, in milliseconds: the kernel tells of an exec before it has set the new one.
const EMPTY: [u64; 8] = [1, 1, 2, 4, 8, 16, 64, 400];
/// When names are looked for again that the kubelet gives, in milliseconds.
const NAMES: [u64; 4] = [300, 1_000, 4_000, 20_000];
/// After how many of those looks names are taken for names that do not come: until then nothing says that it is no
/// function, and its samples wait.
const PATIENT: usize = 3;

/// A container that nobody has claimed.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) no: InstanceNo,
    pub(super) container: ContainerId,
    /// Its cgroup's path.
    pub(super) path: String,
    /// A process of it, where one is known.
    pub(super) pid: Option<Pid>,
}

/// What the thread is given.
pub(super) struct Setup {
    pub(super) reader: Reader,
    pub(super) identity: Swap<IdentityConfig>,
    pub(super) control: Control,
    pub(super) metrics: Arc<Metrics>,
}

/// A container that is looked at again.
struct Again {
    ask: Ask,
    evidence: Evidence,
    told: Option<Claim>,
    empty: usize,
    names: usize,
    due: Instant,
}

/// Answers until nobody can ask any more.
pub(super) fn run(setup: &Setup, asks: &Receiver<Ask>) {
    let mut again: Vec<Again> = Vec::new();
    loop {
        let next = again.iter().map(|look| look.due).min();
        let asked = match next {
            Some(due) => asks.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => asks.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match asked {
            Ok(ask) => {
                let due = Instant::now();
                let first = Again { ask, evidence: Evidence::default(), told: None, empty: 0, names: 0, due };
                again.extend(setup.look(first));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let due: Vec<Again> = again.extract_if(.., |look| look.due <= now).collect();
        again.extend(due.into_iter().filter_map(|look| setup.look(look)));
        again.truncate(MAX_AGAIN);
    }
}

impl Setup {
    /// Reads what can be read now, and tells it if it is news; what is to be looked at again.
    fn look(&self, mut look: Again) -> Option<Again> {
        let place = place_of(&look.ask.path)?;
        let identity = self.identity.get();
        let is_starting = self.reader.read(&look.ask, &place, &identity.keys(), &mut look.evidence);
        if is_starting && let Some(wait) = EMPTY.get(look.empty) {
            look.empty += 1;
            look.due = Instant::now() + Duration::from_millis(*wait);
            return Some(look);
        }
        let found = conclude(&place, &look.evidence);
        let wants_logs = found.as_ref().is_some_and(|found| found.wants_logs) && self.reader.has_logs();
        let claim = self.claim(&look.ask, found, &look.evidence, &identity);
        let is_function = claim.as_ref().is_some_and(|claim| claim.identity.function_container);
        let waits = wants_logs && !is_function && look.names < PATIENT;
        if waits {
            // Its names may make it one.
        } else if claim.is_some() && claim != look.told {
            if look.told.is_none() {
                self.metrics.discovered.add(1);
            }
            look.told.clone_from(&claim);
            let command = Command::Discovered { no: look.ask.no, claim: claim.map(Box::new) };
            self.control.tell(command);
        } else if look.told.is_none() && (look.names == 0 || look.names == PATIENT) {
            self.metrics.undiscovered.add(1);
            self.control.tell(Command::Discovered { no: look.ask.no, claim: None });
        }
        let wait = NAMES.get(look.names).filter(|_| wants_logs)?;
        look.names += 1;
        look.due = Instant::now() + Duration::from_millis(*wait);
        Some(look)
    }

    /// What is claimed of the container; none if nothing can be said. That it is no function is said only of what was
    /// read at all, and believed only where no runtime could know better.
    fn claim(
        &self,
        ask: &Ask,
        found: Option<Discovered>,
        evidence: &Evidence,
        config: &IdentityConfig,
    ) -> Option<Claim> {
        let found = found?;
        let identity = found.identity(config);
        let is_read = evidence.env.is_some() || evidence.bundle.is_some();
        if !identity.function_container && !is_read {
            return None;
        }
        let from = found.from.iter().map(|(what, source)| format!("{what}: {source}")).collect::<Vec<_>>();
        tracing::debug!(
            container = &*ask.container.0,
            function = identity.function.as_deref(),
            rule = identity.rule,
            confidence = ?identity.confidence,
            from = from.join(", "),
            "found without a runtime"
        );
        let facts = facts(&found.container, config);
        Some(Claim {
            container: ask.container.clone(),
            runtime: found.container.runtime,
            name: found.container.name,
            image: found.container.image,
            identity,
            facts,
            since: None,
            forgotten: None,
        })
    }
}
