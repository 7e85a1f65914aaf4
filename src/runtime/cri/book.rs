//! What is known of a CRI's containers, and what has to be asked. Pure: lists, ids and answers in, container events and
//! questions out, at moments that the caller tells.
//!
//! The CRI tells of nothing by itself that it is safe to listen to. So somebody names ids whose cgroups have come
//! ([`Book::wanted`]), and a list of everything is compared now and then with what is known. Promises:
//! - of one container, `Known` is told before `Started`, `Started` before `Exited`, and `Gone` last;
//! - what is not known when it is asked after is asked again, later each time, and then left to the next list;
//! - after [`Book::broke`] and a new list, what vanished meanwhile is told as `Gone`, what ended as `Exited`; also where
//!   the list cannot be had ([`Book::unlisted`]);
//! - it holds so much and no more, whatever a runtime answers.
//!
//! Telling a thing twice is allowed, and happens around a list.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::model::{Container, ContainerEvent, ContainerId, Pid, Timestamp};

/// When an id that is not known is asked for again, each time so long after the answer. A runtime knows a sandbox some
/// tens of milliseconds after its cgroup; ten seconds after it, a container that nobody claims counts as nobody's.
pub const RETRIES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(1000),
    Duration::from_millis(4000),
];

/// Containers that are known, at most. A node has some hundred.
pub const MAX_ENTRIES: usize = 32_768;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was made.
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
}

/// What the list says of one.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: ContainerId,
    /// The whole of it, where the list says enough: of a sandbox.
    pub container: Option<Container>,
    /// Where it is in its life.
    pub life: Life,
}

/// What an answer says of one.
#[derive(Debug, Clone)]
pub struct Status {
    /// The container.
    pub container: Container,
    /// Where it is in its life.
    pub life: Life,
    /// Its first process, while it runs.
    pub pid: Option<Pid>,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for memory.
    pub oom: bool,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is known.
    Found(Box<Status>),
    /// The runtime knows none of this id, now.
    Missing,
    /// No answer, or none that could be understood.
    Failed,
}

/// A container to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The container.
    pub id: ContainerId,
    /// How often it was asked for before.
    pub attempt: usize,
    /// Whether it is asked how it ended.
    pub end: bool,
}

/// What came of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told.
    Told,
    /// It is asked for again.
    Again,
    /// It is not: the next list may know it.
    GivenUp,
    /// Nobody waited for the answer any more.
    Late,
}

/// A point in the sequence of lists, to tell what one cannot know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<ContainerId, Entry>,
    /// What is to be asked, by when.
    due: BTreeMap<(Duration, u64), Ask>,
    asked: u64,
    lists: u64,
    /// Listed ones whose answer is missing.
    unsettled: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// As it was told last.
    known: Option<Container>,
    /// Whether that, that it runs, and that it ended was told since the connection was made.
    known_told: bool,
    start_told: bool,
    end_told: bool,
    /// Whether it is to be asked for, or an answer is awaited.
    asking: bool,
    /// Whether its cgroup has gone meanwhile.
    ending: bool,
    /// Whether that was for a list, which is not whole before it is answered.
    listed: bool,
    /// The list during or before which it was heard of last.
    touched: u64,
}

impl Book {
    /// The cgroup of `id` has come, and nobody has said what it is. False if there is no room for one more.
    pub fn wanted(&mut self, id: ContainerId, now: Duration) -> bool {
        if !self.has_room_for(&id) {
            return false;
        }
        let lists = self.lists;
        let entry = self.entries.entry(id.clone()).or_default();
        entry.touched = lists;
        if !(entry.asking || entry.known_told && entry.start_told) {
            self.ask(Ask { id, attempt: 0, end: false }, now);
        }
        true
    }

    /// The cgroup of `id` is gone: how it ended is asked for, if it is one of ours.
    pub fn ended(&mut self, id: ContainerId, now: Duration) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.end_told) else { return };
        if entry.asking {
            entry.ending = true;
        } else if entry.known_told && !entry.is_sandbox() {
            self.ask(Ask { id, attempt: 0, end: true }, now);
        }
    }

    /// Where in the lists we are; to be taken before the list is asked for.
    pub fn mark(&mut self) -> Mark {
        self.lists += 1;
        Mark(self.lists)
    }

    /// Takes in the list of everything, asked for at `mark`. Returns how many there was no room for.
    pub fn listed(
        &mut self,
        mut list: Vec<Listed>,
        mark: Mark,
        now: Duration,
        tell: &mut impl FnMut(ContainerEvent),
    ) -> usize {
        let present: HashSet<&ContainerId> = list.iter().map(|listed| &listed.id).collect();
        let idle = |entry: &Entry| entry.touched < mark.0 && !entry.asking;
        let gone = self.entries.iter().filter(|(id, entry)| !present.contains(id) && idle(entry));
        let gone: Vec<ContainerId> = gone.map(|(id, _)| id.clone()).collect();
        gone.into_iter().for_each(|id| self.forget(id, tell));
        let mut refused = 0;
        // Who lives may have samples that wait for a name.
        list.sort_by_key(|listed| listed.life == Life::Ended);
        for Listed { id, container, life } in list {
            if !self.has_room_for(&id) {
                refused += 1;
                continue;
            }
            let entry = self.entries.entry(id.clone()).or_default();
            if let Some(container) = container {
                entry.tell_known(container, tell);
                if life == Life::Ended && entry.start_told {
                    entry.tell_exited(&id, None, false, None, tell);
                } else if life == Life::Running {
                    entry.start_told = true;
                }
                continue;
            }
            let settled = match life {
                Life::Waiting => entry.known_told,
                Life::Running => entry.known_told && entry.start_told,
                Life::Ended => entry.known_told && entry.end_told,
            };
            if !(settled || entry.asking) {
                self.ask_for_list(id, now);
            }
        }
        refused
    }

    /// The list that was asked for at `mark` is too large to be had. Who was not heard of since is asked for instead, one by
    /// one; what has ended is forgotten, because nobody tells when it is removed.
    pub fn unlisted(&mut self, mark: Mark, now: Duration, tell: &mut impl FnMut(ContainerEvent)) {
        let idle = self.entries.iter().filter(|(_, entry)| entry.touched < mark.0 && !entry.asking);
        let idle: Vec<(ContainerId, bool)> = idle.map(|(id, entry)| (id.clone(), entry.end_told)).collect();
        for (id, has_ended) in idle {
            if has_ended {
                self.forget(id, tell);
            } else {
                self.ask_for_list(id, now);
            }
        }
    }

    /// Whether everything that was listed has been told, or asked for in vain.
    pub fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// The next container to ask for.
    pub fn next_ask(&mut self, now: Duration) -> Option<Ask> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next one is to be asked for.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes in the answer to `ask`.
    pub fn answered(
        &mut self,
        ask: Ask,
        answer: Answer,
        now: Duration,
        tell: &mut impl FnMut(ContainerEvent),
    ) -> Outcome {
        let Some(entry) = self.entries.get_mut(&ask.id).filter(|entry| entry.asking) else {
            return Outcome::Late;
        };
        entry.asking = false;
        if std::mem::take(&mut entry.listed) {
            self.unsettled -= 1;
        }
        let end = ask.end || std::mem::take(&mut entry.ending);
        match answer {
            Answer::Found(status) => {
                entry.touched = self.lists;
                let has_ended = status.life == Life::Ended;
                entry.tell(&ask.id, *status, tell);
                // The runtime hears of the end when we do.
                if end && !has_ended && !entry.is_sandbox() {
                    let attempt = if ask.end { ask.attempt } else { 0 };
                    self.ask_again(ask.id, attempt, end, now);
                }
                Outcome::Told
            }
            // It was there, and is no more.
            Answer::Missing if entry.known_told => {
                self.forget(ask.id, tell);
                Outcome::Told
            }
            answer @ (Answer::Missing | Answer::Failed) => {
                let is_known = entry.known.is_some();
                if self.ask_again(ask.id.clone(), ask.attempt, end, now) {
                    return Outcome::Again;
                }
                // One that was known before the connection broke, and that the runtime says again and again it does not
                // know, is gone as well.
                if !is_known || matches!(answer, Answer::Missing) {
                    self.forget(ask.id, tell);
                }
                Outcome::GivenUp
            }
        }
    }

    /// The connection broke: nothing that was asked will be answered, and all is to be told again.
    pub fn broke(&mut self) {
        self.due.clear();
        self.unsettled = 0;
        self.entries.retain(|_, entry| entry.known.is_some());
        for entry in self.entries.values_mut() {
            (entry.known_told, entry.start_told, entry.end_told) = (false, false, false);
            (entry.asking, entry.listed, entry.ending) = (false, false, false);
        }
    }

    fn has_room_for(&self, id: &ContainerId) -> bool {
        self.entries.len() < MAX_ENTRIES || self.entries.contains_key(id)
    }

    fn ask(&mut self, ask: Ask, due: Duration) {
        if let Some(entry) = self.entries.get_mut(&ask.id) {
            entry.asking = true;
            self.asked += 1;
            self.due.insert((due, self.asked), ask);
        }
    }

    /// Asks for one without which a list is not whole.
    fn ask_for_list(&mut self, id: ContainerId, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.listed = true;
            self.unsettled += 1;
            self.ask(Ask { id, attempt: 0, end: false }, now);
        }
    }

    /// False if it has been asked for often enough.
    fn ask_again(&mut self, id: ContainerId, attempt: usize, end: bool, now: Duration) -> bool {
        let Some(wait) = RETRIES.get(attempt) else { return false };
        self.ask(Ask { id, attempt: attempt + 1, end }, now.saturating_add(*wait));
        true
    }

    fn forget(&mut self, id: ContainerId, tell: &mut impl FnMut(ContainerEvent)) {
        if self.entries.remove(&id).is_some_and(|entry| entry.known.is_some()) {
            tell(ContainerEvent::Gone { id, at: None });
        }
    }
}

impl Entry {
    fn is_sandbox(&self) -> bool {
        self.known.as_ref().is_some_and(|container| container.sandbox)
    }

    fn tell(&mut self, id: &ContainerId, status: Status, tell: &mut impl FnMut(ContainerEvent)) {
        self.tell_known(status.container, tell);
        if status.life != Life::Waiting && !self.start_told {
            self.start_told = true;
            let pid = status.pid.filter(|_| status.life == Life::Running);
            tell(ContainerEvent::Started { id: id.clone(), pid, at: status.started_at });
        }
        if status.life == Life::Ended {
            self.tell_exited(id, status.exit_code, status.oom, status.finished_at, tell);
        }
    }

    /// `container` as it is; not a second time to the same connection.
    fn tell_known(&mut self, container: Container, tell: &mut impl FnMut(ContainerEvent)) {
        if self.known.as_ref() != Some(&container) || !self.known_told {
            (self.known, self.known_told) = (Some(container.clone()), true);
            tell(ContainerEvent::Known(Box::new(container)));
        }
    }

    fn tell_exited(
        &mut self,
        id: &ContainerId,
        exit_code: Option<i32>,
        oom: bool,
        at: Option<Timestamp>,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        if !std::mem::replace(&mut self.end_told, true) {
            tell(ContainerEvent::Exited { id: id.clone(), exit_code, oom, at });
        }
    }
}
