//! Containers that turn out to be another function while they run: by the environments of processes that they start,
//! and by what their platform tells.
//!
//! OpenWhisk's prewarmed containers start the action as a child whose environment names it. It is read some moments
//! after the exec (the kernel tells of an exec before it has set the new environment), and by an allow-list of names.
//! What a platform tells of a container that nobody has named yet waits for that, within bounds.

use std::fs::File;
use std::io::Read as _;

use super::Capture;
use super::newborns::{MAX_OF_ONE, Newborn};
use crate::agent::control::Whom;
use crate::agent::degraded::Cut;
use crate::agent::platform_logs::MOST_APART_US;
use crate::attribution::Moment;
use crate::identity::{Later, MAX_ENVIRON_BYTES, identify_later, parse_environ};
use crate::metrics::Teller;
use crate::model::{Fact, InstanceNo, Pid, Timestamp};
use crate::perf::Clock;

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

impl Capture {
    /// A process of instance `no` has called exec at `exec`.
    pub(super) fn may_name(&mut self, no: InstanceNo, pid: Pid, exec: Moment) {
        if self.setup.attribution.open_identity(no).is_some() {
            self.newborns.add(no, pid, exec);
        }
    }

    /// The same of processes of `no` that were found at `exec`, of which the first tell what the others do.
    pub(super) fn may_be_named_by(&mut self, no: InstanceNo, pids: Vec<Pid>, exec: Moment) {
        pids.into_iter().take(MAX_OF_ONE).for_each(|pid| self.may_name(no, pid, exec));
    }

    /// Reads the environments of those that have begun since.
    pub(super) fn read_newborns(&mut self) {
        let now_ns = Clock::monotonic_ns();
        for newborn in self.newborns.take_due(now_ns) {
            if self.setup.attribution.open_identity(newborn.no).is_none() {
                continue;
            }
            match environ(newborn.pid) {
                Some(block) if block.is_empty() => self.newborns.still_empty(newborn, now_ns),
                Some(block) => self.learn(&newborn, &block),
                None => {}
            }
        }
        self.setup.degraded.cut(Cut::Environments, self.newborns.take_refused());
    }

    fn learn(&mut self, newborn: &Newborn, block: &[u8]) {
        let later = Later { env: parse_environ(block), ..Later::default() };
        if !later.env.is_empty() {
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

    /// Instances that have a name and were what `whom` says at `at`. Names of pods are used again: an invoker that is
    /// started anew counts from one.
    fn meant(&self, whom: &Whom, at: Timestamp) -> Vec<InstanceNo> {
        let join = &self.setup.attribution;
        let found = match whom {
            Whom::Container(id) => join.of_container(id, at).into_iter().collect(),
            Whom::Pod(name) => join.named(name, at, MOST_APART_US),
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
