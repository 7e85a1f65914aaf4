//! What runtimes say: claims on containers, and whether they can be asked at all.

use super::instance::Fate;
use crate::model::{ContainerId, Fact, Identity, Timestamp};

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
    /// When the container was made, where its id may be another's before and after: of no instance that began earlier.
    pub since: Option<Timestamp>,
    /// When the runtime removed the container: of no instance that begins later. [`Timestamp::MAX`] where the claim goes
    /// with its instance.
    pub forgotten: Option<Timestamp>,
}

/// How far a runtime's clock and ours may differ, in microseconds: both are this host's, but ours is read from the kernel's
/// records.
const SLACK_US: i64 = 20_000;
/// How old a container is of which nobody disputes that it is the one that lives, whatever was done to the clock.
const SETTLED_US: i64 = 5_000_000;

impl Claim {
    /// Whether it is about an instance that began at `started_at`, which a claim on what was made at `known` has settled
    /// already. `lives`: its cgroup is there, at `now`.
    pub(super) fn is_about(
        &self,
        started_at: Timestamp,
        known: Option<Timestamp>,
        lives: bool,
        now: Timestamp,
    ) -> bool {
        let Some(since) = self.since else { return true };
        if known.is_some_and(|known| known >= since) {
            return known == Some(since);
        }
        let is_old = now.0.saturating_sub(since.0) > SETTLED_US;
        started_at.0.saturating_add(SLACK_US) >= since.0 || (known.is_none() && lives && is_old)
    }

    /// Whether the container may still begin an instance at `at`.
    pub(super) fn may_begin(&self, at: Timestamp) -> bool {
        self.since.is_none() || self.forgotten.is_none_or(|forgotten| at <= forgotten)
    }
}

impl Claim {
    /// What it makes of a container.
    pub(super) fn fate(&self) -> Fate {
        match self.identity.function_container {
            true if self.is_unseen() => Fate::Unseen,
            true => Fate::Function,
            false => Fate::Foreign,
        }
    }

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
    /// There is none here, as far as anybody can see.
    Absent,
}

/// How long after the start a runtime that has not answered yet counts as one that will.
const GRACE_NS: u64 = 3_000_000_000;

/// Which runtimes answer, and since when.
#[derive(Debug)]
pub(super) struct Runtimes {
    states: Vec<(&'static str, Option<RuntimeState>, u64)>,
    started_ns: u64,
}

/// What kind of runtime `name` is: paths of cgroups tell that, and no more.
pub(super) fn kind(name: &str) -> &str {
    if name == "k3s" { "containerd" } else { name }
}

/// Whether the runtime called `name` may own what a path says is `owner`'s. Behind the CRI is CRI-O, or another.
fn may_be(name: &str, owner: &str) -> bool {
    owner == kind(name) || name == "cri" && matches!(owner, "containerd" | "cri-o")
}

/// Which of two runtimes is believed where both claim one container, the lower one: the CRI tells the pod; containerd knows
/// a container of Docker without its labels.
pub(super) fn rank(runtime: &str) -> u8 {
    match runtime {
        "cri" => 0,
        "containerd" => 2,
        _ => 1,
    }
}

impl Runtimes {
    pub(super) fn new(names: &[&'static str], now_ns: u64) -> Runtimes {
        Runtimes { states: names.iter().map(|name| (*name, None, now_ns)).collect(), started_ns: now_ns }
    }

    /// Stores it. True if it answers for the first time.
    pub(super) fn set(&mut self, name: &str, state: RuntimeState, now_ns: u64) -> bool {
        let slot = self.states.iter_mut().find(|(known, ..)| *known == name);
        let Some(slot) = slot.filter(|slot| slot.1 != Some(state)) else { return false };
        let was_here = matches!(slot.1, Some(RuntimeState::Up | RuntimeState::Down));
        (slot.1, slot.2) = (Some(state), now_ns);
        !was_here && state == RuntimeState::Up
    }

    /// Whether one of those that may own such a container answers; none where all of them are down or not here, or there
    /// are none.
    pub(super) fn best_of(&self, owner: Option<&str>) -> Option<bool> {
        let gone = [Some(RuntimeState::Down), Some(RuntimeState::Absent)];
        let maybe = self.of(owner).filter(|(_, state, _)| !gone.contains(state));
        maybe.map(|(_, state, _)| *state == Some(RuntimeState::Up)).reduce(|a, b| a || b)
    }

    /// Whether one of those that may own a container that a path says is `owner`'s; of which it says nothing, if that is none.
    pub(super) fn may_own(&self, owner: Option<&str>) -> bool {
        self.of(owner).next().is_some()
    }

    /// Whether one of those that may own such a container may yet tell: one that is down will be back.
    pub(super) fn may_tell(&self, owner: Option<&str>) -> bool {
        self.of(owner).any(|(_, state, _)| *state != Some(RuntimeState::Absent))
    }

    /// Whether one of that kind is here, answering or not.
    pub(super) fn is_here(&self, owner: &str) -> bool {
        let here = [Some(RuntimeState::Up), Some(RuntimeState::Down)];
        self.of(Some(owner)).any(|(_, state, _)| here.contains(state))
    }

    fn of(&self, owner: Option<&str>) -> impl Iterator<Item = &(&'static str, Option<RuntimeState>, u64)> {
        self.states.iter().filter(move |(name, ..)| owner.is_none_or(|owner| may_be(name, owner)))
    }

    /// For how many nanoseconds all that may own such a container have answered; none while one does not. One that is not
    /// here owns nothing, but for a container that can only be its own, and where none is here at all.
    pub(super) fn all_up_for(&self, now_ns: u64, owner: Option<&str>) -> Option<u64> {
        let mut shortest = now_ns.saturating_sub(self.started_ns);
        let is_absent = |state: &Option<RuntimeState>| *state == Some(RuntimeState::Absent);
        if self.may_own(owner) && self.of(owner).all(|(_, state, _)| is_absent(state)) {
            return None;
        }
        for (_, state, since) in self.of(owner).filter(|(_, state, _)| !is_absent(state)) {
            match state {
                Some(RuntimeState::Up) => shortest = shortest.min(now_ns.saturating_sub(*since)),
                // Not heard of yet: nothing is up, and for a moment nothing is down either.
                None if now_ns.saturating_sub(self.started_ns) < GRACE_NS => shortest = 0,
                None | Some(RuntimeState::Down | RuntimeState::Absent) => return None,
            }
        }
        Some(shortest)
    }
}
