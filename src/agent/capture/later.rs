//! Containers that turn out to be another function while they run: by the environments of processes that they start,
//! and by what their platform tells.
//!
//! OpenWhisk's prewarmed containers start the action as a child whose environment names it. It is read some moments
//! after the exec (the kernel tells of an exec before it has set the new environment), and by an allow-list of names.
//! What a platform tells of a container that nobody has named yet waits for that, within bounds.

use std::fs::File;
use std::io::Read as _;

use super::Capture;
use crate::agent::control::Whom;
use crate::attribution::Moment;
use crate::identity::{Later, MAX_ENVIRON_BYTES, identify_later, parse_environ};
use crate::metrics::Teller;
use crate::model::{Fact, InstanceNo, Pid, Timestamp};
use crate::perf::Clock;

/// Most processes whose environment waits to be read.
const MAX_NEWBORN: usize = 1_024;
/// How long an environment may stay empty, in nanoseconds, before it is taken for one that is.
const PATIENCE_NS: u64 = 500_000_000;

/// Most words of platforms that wait for their container, and for how long, in nanoseconds.
const MAX_EARLY: usize = 256;
const EARLY_NS: u64 = 60_000_000_000;

/// What was told of a container that is not known yet.
#[derive(Debug)]
pub(super) struct Early {
    whom: Whom,
    later: Later,
    at: Timestamp,
    from: Teller,
    told_ns: u64,
}

/// A process that has just begun in a container whose function may still change.
#[derive(Debug)]
pub(super) struct Newborn {
    no: InstanceNo,
    pid: Pid,
    exec: Moment,
}

impl Capture {
    /// A process of instance `no` has called exec at `exec`, or was found then.
    pub(super) fn may_name(&mut self, no: InstanceNo, pid: Pid, exec: Moment) {
        if self.newborns.len() < MAX_NEWBORN && self.setup.attribution.open_identity(no).is_some() {
            self.newborns.push(Newborn { no, pid, exec });
        }
    }

    /// Reads the environments of those that have begun since.
    pub(super) fn read_newborns(&mut self) {
        if self.newborns.is_empty() {
            return;
        }
        let now_ns = Clock::monotonic_ns();
        let mut waiting = std::mem::take(&mut self.newborns);
        waiting.retain(|newborn| {
            let block = environ(newborn.pid);
            let in_time = now_ns < newborn.exec.ns.saturating_add(PATIENCE_NS);
            if block.as_ref().is_some_and(Vec::is_empty) && in_time {
                return true;
            }
            self.learn(newborn, &block.unwrap_or_default());
            false
        });
        self.newborns.append(&mut waiting);
    }

    fn learn(&mut self, newborn: &Newborn, block: &[u8]) {
        let later = Later { env: parse_environ(block), ..Later::default() };
        if later.env.is_empty() {
            return;
        }
        if self.setup.attribution.open_identity(newborn.no).is_some() {
            self.becomes(newborn.no, &later, newborn.exec.wall, Teller::Process);
        }
    }

    /// What a platform tells: of a container that is known, at once; of another one when it is.
    pub(super) fn told_later(&mut self, whom: Whom, later: Later, at: Timestamp, from: Teller) {
        let known = self.meant(&whom, at);
        for no in &known {
            self.becomes(*no, &later, at, from);
        }
        if known.is_empty() {
            let told_ns = Clock::monotonic_ns();
            self.early.retain(|early| early.told_ns.saturating_add(EARLY_NS) > told_ns);
            if self.early.len() >= MAX_EARLY {
                self.early.pop_front();
            }
            self.early.push_back(Early { whom, later, at, from, told_ns });
        }
    }

    /// Something else that a platform tells.
    pub(super) fn told_fact(&mut self, whom: &Whom, at: Timestamp, fact: &Fact) {
        for no in self.meant(whom, at) {
            self.setup.attribution.fact(no, at, fact.clone());
        }
    }

    /// Instance `no` has got its name: what was told of it before is heard now.
    pub(super) fn hear_early(&mut self, no: InstanceNo) {
        if self.early.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.early);
        for early in waiting {
            if self.meant(&early.whom, early.at).contains(&no) {
                self.becomes(no, &early.later, early.at, early.from);
            } else {
                self.early.push_back(early);
            }
        }
    }

    /// Instances that have a name and are what `whom` says.
    fn meant(&self, whom: &Whom, at: Timestamp) -> Vec<InstanceNo> {
        let join = &self.setup.attribution;
        let found = match whom {
            Whom::Container(id) => join.of_container(id, at).into_iter().collect(),
            Whom::Pod(name) => join.named(name),
        };
        found.into_iter().filter(|no| join.identity(*no).is_some()).collect()
    }

    fn becomes(&mut self, no: InstanceNo, later: &Later, at: Timestamp, from: Teller) {
        let Some(current) = self.setup.attribution.identity(no) else { return };
        let Some(identity) = identify_later(current, later, &self.setup.identity) else { return };
        self.setup.metrics.named_later(from);
        self.setup.attribution.became(no, identity, at);
        self.follow_switches(no);
        self.waiting_stale = true;
    }

    /// Tells whoever asks Kubernetes whether there is anything to ask for, where that may have changed.
    pub(super) fn tell_of_waiting(&mut self) {
        if std::mem::take(&mut self.waiting_stale) {
            self.setup.waiting.set(self.setup.attribution.has_waiting());
        }
    }
}

/// The environment of `pid`, as much of it as is looked at; none if it is gone.
fn environ(pid: Pid) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MAX_ENVIRON_BYTES as u64).read_to_end(&mut block).ok()?;
    Some(block)
}
