//! Containers that turn out to be another function while they run: the environments of processes that they start.
//!
//! OpenWhisk's prewarmed containers start the action as a child whose environment names it. It is read some moments
//! after the exec (the kernel tells of an exec before it has set the new environment), and by an allow-list of names.

use std::fs::File;
use std::io::Read as _;

use super::Capture;
use crate::attribution::Moment;
use crate::identity::{Later, MAX_ENVIRON_BYTES, identify_later, parse_environ};
use crate::model::{InstanceNo, Pid};
use crate::perf::Clock;

/// Most processes whose environment waits to be read.
const MAX_NEWBORN: usize = 1_024;
/// How long an environment may stay empty, in nanoseconds, before it is taken for one that is.
const PATIENCE_NS: u64 = 500_000_000;

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
        let Some(current) = self.setup.attribution.open_identity(newborn.no) else { return };
        if let Some(identity) = identify_later(current, &later, &self.setup.identity) {
            self.setup.attribution.became(newborn.no, identity, newborn.exec.wall);
            self.follow_switches(newborn.no);
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
