//! What runtimes say: claims on containers, and whether they can be asked at all.

use crate::model::{ContainerId, Fact, Identity};

/// A runtime's word on a container, with the identity that was concluded from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The container.
    pub container: ContainerId,
    /// The runtime.
    pub runtime: String,
    /// Its name there, the one thing of all this that may change in its life.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// The function, or that it is none.
    pub identity: Identity,
    /// What else its runtime tells of its making.
    pub facts: Vec<Fact>,
    /// Whether the runtime has removed the container since.
    pub forgotten: bool,
}

impl Claim {
    /// Whether its runtime says that its stacks cannot be seen.
    pub(super) fn is_unseen(&self) -> bool {
        self.facts.iter().any(|fact| matches!(fact, Fact::Unseen(_)))
    }
}

/// Whether a runtime answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeState {
    /// It answers, and has told of all its containers.
    Up,
    /// It does not answer.
    Down,
}

/// How long after the start a runtime that has not answered yet counts as one that will.
const GRACE_NS: u64 = 3_000_000_000;

/// Which runtimes answer, and since when.
#[derive(Debug)]
pub(super) struct Runtimes {
    states: Vec<(&'static str, Option<RuntimeState>, u64)>,
    started_ns: u64,
}

impl Runtimes {
    pub(super) fn new(names: &[&'static str], now_ns: u64) -> Runtimes {
        Runtimes { states: names.iter().map(|name| (*name, None, now_ns)).collect(), started_ns: now_ns }
    }

    pub(super) fn set(&mut self, name: &str, state: RuntimeState, now_ns: u64) {
        if let Some(slot) = self.states.iter_mut().find(|(known, ..)| *known == name)
            && slot.1 != Some(state)
        {
            (slot.1, slot.2) = (Some(state), now_ns);
        }
    }

    /// For how many nanoseconds all of them have answered; none while one does not.
    pub(super) fn all_up_for(&self, now_ns: u64) -> Option<u64> {
        let mut shortest = now_ns.saturating_sub(self.started_ns);
        for (_, state, since) in &self.states {
            match state {
                Some(RuntimeState::Up) => shortest = shortest.min(now_ns.saturating_sub(*since)),
                // Not heard of yet: nothing is up, and for a moment nothing is down either.
                None if now_ns.saturating_sub(self.started_ns) < GRACE_NS => shortest = 0,
                None | Some(RuntimeState::Down) => return None,
            }
        }
        Some(shortest)
    }
}
