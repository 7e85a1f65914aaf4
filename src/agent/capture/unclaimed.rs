//! Containers that no runtime has claimed: when the discovery thread is asked what the host shows of them, and when its
//! answer counts.
//!
//! Where a runtime answers whose container it must be, it has two seconds. Where none answers that could know, or nobody
//! knows whose it is, the container is read at its exec, because it may be gone in an instant; what is found counts at
//! once, or once those who may still claim it have had their time.

use std::sync::mpsc::{SyncSender, TrySendError};

use super::Capture;
use crate::agent::discovery::{Ask, Reader};
use crate::attribution::Claim;
use crate::cgroup;
use crate::model::{ContainerId, InstanceNo, Pid};
use crate::perf::Clock;

/// How long those may take that answer and could claim a container.
const GRACE_NS: u64 = 2_000_000_000;
/// How long an exec is waited for: what is not heard of then is looked at all the same.
const EXEC_NS: u64 = 1_000_000_000;
/// When it is asked again where too many ask.
const FULL_NS: u64 = 10_000_000;
/// Most containers that wait.
const MAX_WAITING: usize = 16_384;

/// Who is asked, and what waits to be asked or to count.
#[derive(Default)]
pub(super) struct Unclaimed {
    asks: Option<SyncSender<Ask>>,
    reader: Option<Reader>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    no: InstanceNo,
    pid: Option<Pid>,
    /// When it is asked for; none once it was.
    ask_ns: Option<u64>,
    /// Whether an exec brings that forward.
    by_exec: bool,
    /// When an answer counts.
    count_ns: u64,
    answer: Option<Box<Claim>>,
}

/// The discovery thread, as the capture thread knows it.
pub(in crate::agent) struct Discoverer {
    pub(in crate::agent) asks: SyncSender<Ask>,
    pub(in crate::agent) reader: Reader,
}

impl Unclaimed {
    pub(super) fn new(discoverer: Option<Discoverer>) -> Unclaimed {
        let Some(Discoverer { asks, reader }) = discoverer else { return Unclaimed::default() };
        Unclaimed { asks: Some(asks), reader: Some(reader), waiting: Vec::new() }
    }

    /// When there is something to do, by time alone.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let due = |waiting: &Waiting| {
            waiting.ask_ns.or_else(|| waiting.answer.is_some().then_some(waiting.count_ns))
        };
        self.waiting.iter().filter_map(due).min()
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_on(&self) -> bool {
        self.asks.is_some()
    }

    /// Whether plain containerd has a bundle of that name: other cgroups are called as its containers' are.
    pub(super) fn has_bundle(&self, namespace: &str, container: &ContainerId) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.has_bundle(namespace, &container.0))
    }
}

impl Capture {
    /// Instance `no` has begun, and nobody has claimed it; `from_birth`: it has still to call exec.
    pub(super) fn await_claim(&mut self, no: InstanceNo, from_birth: bool) {
        if self.unclaimed.asks.is_none() {
            return;
        }
        if self.unclaimed.waiting.len() >= MAX_WAITING {
            self.setup.metrics.discovery_dropped.add(1);
            return;
        }
        let now_ns = Clock::monotonic_ns();
        let Some(info) = self.setup.attribution.unclaimed(no) else { return };
        let kind = cgroup::place_of(&info.cgroup_path).and_then(|place| place.runtime);
        let answers = self.setup.attribution.answers(kind);
        let its_own = kind.is_some() && answers == Some(true);
        let grace_ns = now_ns.saturating_add(GRACE_NS);
        let ask_ns = match from_birth {
            _ if its_own => grace_ns,
            true => now_ns.saturating_add(EXEC_NS),
            false => now_ns,
        };
        let count_ns = if answers.is_some() { grace_ns } else { now_ns };
        let waiting =
            Waiting { no, pid: None, ask_ns: Some(ask_ns), by_exec: !its_own, count_ns, answer: None };
        self.unclaimed.waiting.push(waiting);
    }

    /// Process `pid` of the instance has called exec, and is its function's.
    pub(super) fn unclaimed_exec(&mut self, no: InstanceNo, pid: Pid) {
        let Some(waiting) = self.unclaimed.waiting.iter_mut().find(|waiting| waiting.no == no) else {
            return;
        };
        waiting.pid = Some(pid);
        if waiting.by_exec && waiting.ask_ns.is_some() {
            waiting.ask_ns = Some(0);
            self.ask_unclaimed(Clock::monotonic_ns());
        }
    }

    /// Asks for those whose time has come, and takes what was found of those whose has.
    pub(super) fn ask_unclaimed(&mut self, now_ns: u64) {
        if self.unclaimed.due_ns().is_none_or(|due| due > now_ns) {
            return;
        }
        let mut waiting = std::mem::take(&mut self.unclaimed.waiting);
        waiting.retain_mut(|waiting| self.still_waits(waiting, now_ns));
        waiting.append(&mut self.unclaimed.waiting);
        self.unclaimed.waiting = waiting;
    }

    fn still_waits(&mut self, waiting: &mut Waiting, now_ns: u64) -> bool {
        let Some(info) = self.setup.attribution.unclaimed(waiting.no) else { return false };
        if waiting.ask_ns.is_some_and(|ask_ns| ask_ns <= now_ns) {
            let ask = Ask {
                no: waiting.no,
                container: ContainerId(info.container_id.as_str().into()),
                path: info.cgroup_path.clone(),
                pid: waiting.pid,
            };
            match self.unclaimed.asks.as_ref().map(|asks| asks.try_send(ask)) {
                Some(Ok(())) => waiting.ask_ns = None,
                Some(Err(TrySendError::Full(_))) => waiting.ask_ns = Some(now_ns.saturating_add(FULL_NS)),
                Some(Err(TrySendError::Disconnected(_))) | None => return false,
            }
        }
        match waiting.answer.take_if(|_| waiting.count_ns <= now_ns) {
            Some(claim) => {
                self.believe(waiting.no, *claim);
                false
            }
            None => true,
        }
    }

    /// The discovery thread has found `claim` of the instance, or that there is nothing to be said.
    pub(super) fn discovered(&mut self, no: InstanceNo, claim: Option<Box<Claim>>) {
        // That it is no function is believed only where nobody could know better: labels are in nothing that a host shows.
        let claim = claim.filter(|claim| claim.identity.function_container || !self.may_be_told(no));
        let at = self.unclaimed.waiting.iter().position(|waiting| waiting.no == no);
        let now_ns = Clock::monotonic_ns();
        match (at.and_then(|at| self.unclaimed.waiting.get_mut(at)), claim) {
            (Some(waiting), Some(claim)) if waiting.count_ns > now_ns => waiting.answer = Some(claim),
            (_, claim) => {
                at.map(|at| self.unclaimed.waiting.swap_remove(at));
                if let Some(claim) = claim {
                    self.believe(no, *claim);
                }
            }
        }
    }

    fn may_be_told(&self, no: InstanceNo) -> bool {
        let join = &self.setup.attribution;
        let path = join.unclaimed(no).map(|info| info.cgroup_path.as_str());
        join.may_be_told(path.and_then(cgroup::place_of).and_then(|place| place.runtime))
    }

    fn believe(&mut self, no: InstanceNo, claim: Claim) {
        let now = self.moment(Clock::monotonic_ns());
        if self.setup.attribution.discovered(no, claim, now) {
            self.claimed(no);
        }
    }
}
