//! What is known of a runtime's containers, and what has to be asked. Pure: events, lists and answers in, container
//! events and questions out.
//!
//! Promises, whatever order answers come in:
//! - of one container, `Known` is told before `Started`, `Started` before `Exited`, and `Gone` last;
//! - a question holds up its own container, never another, and what is known without an answer is told at once;
//! - a container that is gone before it could be inspected is told by its events' own words;
//! - one that lives and was not inspected, because an answer failed or too many questions wait, is told by the next list,
//!   which is wanted then; what is heard of its start and end meanwhile is told before it is known;
//! - after [`Book::broke`] and a new list, what vanished meanwhile is told as `Gone`, what ended as `Exited`.
//!
//! Telling a thing twice is allowed, and happens around a list.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use self::entry::{Entry, Step, What};
use crate::model::{Container, ContainerEvent, ContainerId, Pid, Timestamp};

/// Questions that may wait. Beyond it containers are known by their events' words alone.
const MAX_WAITING: usize = 4096;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was made.
    Create,
    /// Its first process runs.
    Start,
    /// Its first process ended.
    Die,
    /// The kernel killed one of its processes for memory.
    Oom,
    /// Its health check has succeeded.
    Healthy,
    /// It was paused.
    Pause,
    /// It runs on.
    Unpause,
    /// It has another name.
    Rename,
    /// Its limits changed.
    Update,
    /// It was removed.
    Destroy,
}

/// An event in the runtime's words.
#[derive(Debug, Clone)]
pub struct Event {
    /// The container.
    pub id: ContainerId,
    /// What happened.
    pub action: Action,
    /// When.
    pub at: Timestamp,
    /// The same in the runtime's own precision, nanoseconds since 1970.
    pub time_ns: i64,
    /// The first process, where an event of its start tells it.
    pub pid: Option<Pid>,
    /// The attribute `exitCode`: the daemon's word in [`Action::Die`], if no label of that name shadows it.
    pub exit_code: Option<i32>,
    /// The container by the event's attributes: labels, name and image, no environment.
    pub described: Container,
    /// Whether that is too little to name it by: it is told where the container has gone before it could be asked for.
    pub is_sketch: bool,
}

/// What the list says of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// It has run and ended.
    Ended,
    /// It was made and not started, is being removed or restarted.
    Unclear,
}

/// A container in the runtime's list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: ContainerId,
    /// The container by its list entry: labels, name and image, no environment.
    pub container: Container,
    /// Whether it runs.
    pub life: Life,
    /// What an inspection would say, where the list says as much: nothing is asked then.
    pub inspected: Option<Box<Inspected>>,
}

/// What an inspection says.
#[derive(Debug, Clone, Default)]
pub struct Inspected {
    /// The container.
    pub container: Container,
    /// When it was made, where the runtime uses ids again.
    pub created_at: Option<Timestamp>,
    /// Whether it runs now.
    pub running: bool,
    /// Its first process.
    pub pid: Option<Pid>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// When it ended last.
    pub finished_at: Option<Timestamp>,
    /// How it ended last.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for memory when it ran last.
    pub oom: bool,
    /// Whether a label makes its events lie about the exit code.
    pub forges_exit_code: bool,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// It was inspected.
    Inspected(Box<Inspected>),
    /// The runtime knows no such container any more.
    Missing,
    /// No answer, or none that could be understood.
    Failed,
}

/// A container to inspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The container.
    pub id: ContainerId,
    ticket: u64,
}

/// A point in the sequence of events, to tell what a list cannot know yet.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<ContainerId, Entry>,
    asks: VecDeque<Ask>,
    tickets: u64,
    events: u64,
    /// When the last event happened, by the runtime's clock, and when it was taken in, by that of [`Book::tick`].
    last_event: Option<(i64, Duration)>,
    refused: u64,
    /// What [`Book::tick`] said last.
    now: Duration,
    /// What was asked of containers of which nothing was known, the oldest question first. Those that were answered go
    /// when they are come upon.
    unknown: VecDeque<Ask>,
    missed: Option<Missed>,
}

/// Containers of which an answer failed and nothing is known.
#[derive(Debug, Clone, Copy)]
struct Missed {
    /// Since when the first of them is asked for.
    since: Duration,
    /// The number of their last event: a list that was asked for behind it has them.
    events: u64,
}

impl Book {
    /// It is `now`, by a clock that never goes back: what is asked from here on is asked then.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// Since when a container is asked for of which nothing is known yet, by the same clock.
    pub fn unknown_since(&mut self) -> Option<Duration> {
        let asked = loop {
            let Some(ask) = self.unknown.front() else { break None };
            let entry = self.entries.get(&ask.id).filter(|entry| entry.known.is_none());
            let is_open = |step: &&Step| step.ticket == ask.ticket && step.answer.is_none();
            match entry.and_then(|entry| entry.steps.iter().find(is_open)) {
                Some(step) => break Some(step.since),
                None => drop(self.unknown.pop_front()),
            }
        };
        self.missed.map(|missed| missed.since).into_iter().chain(asked).min()
    }

    /// Whether an answer failed, so that a list is needed to know a container.
    pub fn has_missed(&self) -> bool {
        self.missed.is_some()
    }

    /// Takes in an event.
    pub fn event(&mut self, event: Event, tell: &mut impl FnMut(ContainerEvent)) {
        self.events += 1;
        self.last_event = Some((event.time_ns, self.now));
        if event.action == Action::Destroy && !self.entries.contains_key(&event.id) {
            return;
        }
        let entry = self.entries.entry(event.id.clone()).or_default();
        // The daemon may deliver an event from its memory and then live.
        if entry.last_event.replace((event.time_ns, event.action)) == Some((event.time_ns, event.action)) {
            return;
        }
        entry.touched = self.events;
        // A label of this name shadows the daemon's own attribute, in every event of the container.
        entry.forges_exit_code |= event.action != Action::Die && event.exit_code.is_some();
        entry.created_at = entry.created_at.or(event.described.created_at);
        if event.is_sketch {
            entry.sketch.get_or_insert_with(|| event.described.clone());
        } else if entry.known.is_none() {
            entry.tell_known(event.described.clone(), tell);
        }
        let what = match event.action {
            Action::Create | Action::Rename | Action::Update => {
                What::Describe { at: event.at, container: event.described, is_sketch: event.is_sketch }
            }
            Action::Start => {
                entry.oom = false;
                What::Start { at: event.at, pid: event.pid, task: event.described.task }
            }
            Action::Die => What::Die { at: event.at, exit_code: event.exit_code },
            Action::Destroy => What::Destroy { at: event.at },
            Action::Healthy => What::Healthy { at: event.at },
            Action::Pause => What::Paused { at: event.at, paused: true },
            Action::Unpause => What::Paused { at: event.at, paused: false },
            Action::Oom => {
                entry.oom = true;
                return;
            }
        };
        self.add_step(event.id, what, tell);
    }

    /// Where in the events we are; to be taken before the list is asked for.
    pub fn mark(&self) -> Mark {
        Mark(self.events)
    }

    /// Takes in the list of everything, asked for at `mark`.
    pub fn listed(&mut self, list: Vec<Listed>, mark: Mark, tell: &mut impl FnMut(ContainerEvent)) {
        let vanished: Vec<ContainerId> = {
            let present: HashSet<&ContainerId> = list.iter().map(|listed| &listed.id).collect();
            let idle = |entry: &Entry| entry.touched <= mark.0 && entry.steps.is_empty();
            let gone = self.entries.iter().filter(|(id, entry)| !present.contains(id) && idle(entry));
            gone.map(|(id, _)| id.clone()).collect()
        };
        for id in vanished {
            self.vanished(id, tell);
        }
        self.missed = self.missed.filter(|missed| missed.events > mark.0);
        for Listed { id, container, life, inspected } in list {
            // Gone, and another made under its id, and neither was heard.
            let made = inspected.as_ref().and_then(|inspected| inspected.created_at);
            let is_another = |entry: &Entry| {
                entry.touched <= mark.0 && entry.steps.is_empty() && entry.is_older_than(made)
            };
            if self.entries.get(&id).is_some_and(is_another) {
                self.vanished(id.clone(), tell);
            }
            let entry = self.entries.entry(id.clone()).or_default();
            // A long dead container is not worth a question; its list entry names it well enough.
            if life == Life::Ended && !entry.running {
                if entry.touched <= mark.0 && !entry.known_told {
                    entry.tell_described(container, tell);
                }
                continue;
            }
            if life == Life::Running && entry.running && entry.known_told && entry.start_told && !entry.unsure
            {
                continue;
            }
            // A task whose shim does not answer in time is left out of containerd's list: the list's word is no end.
            let is_doubtful = entry.running && life == Life::Unclear;
            // What has happened since the list was asked for is newer than what it says.
            let is_newer = entry.touched > mark.0 || !entry.steps.is_empty();
            let answer = inspected.filter(|_| !is_doubtful && !is_newer);
            entry.created_at = entry.created_at.or(made);
            self.add_answered(id, What::List { container, life }, answer.map(Answer::Inspected), tell);
        }
    }

    /// Whether everything that was listed has been told.
    pub fn is_settled(&self) -> bool {
        let listing = |step: &Step| matches!(step.what, What::List { .. });
        !self.entries.values().any(|entry| entry.steps.iter().any(listing))
    }

    /// The next container to inspect.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Takes in the answer to `ask`.
    pub fn answered(&mut self, ask: &Ask, answer: Answer, tell: &mut impl FnMut(ContainerEvent)) {
        let Some(entry) = self.entries.get_mut(&ask.id) else { return };
        if let Some(step) = entry.steps.iter_mut().find(|step| step.ticket == ask.ticket) {
            step.answer = Some(answer);
        }
        self.tell_ready(&ask.id, tell);
    }

    /// The connection broke: nothing that was asked will be answered.
    pub fn broke(&mut self, tell: &mut impl FnMut(ContainerEvent)) {
        self.asks.clear();
        let ids: Vec<ContainerId> = self.entries.keys().cloned().collect();
        for id in ids {
            if let Some(entry) = self.entries.get_mut(&id) {
                for step in &mut entry.steps {
                    step.answer.get_or_insert(Answer::Failed);
                }
            }
            self.tell_ready(&id, tell);
            if let Some(entry) = self.entries.get_mut(&id) {
                (entry.known_told, entry.start_told) = (false, false);
            }
        }
    }

    /// How many questions were not asked since this was, because too many waited.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Where the stream goes on, in nanoseconds since 1970, of which `wall_ns` are gone now: behind the last event, or
    /// from when that was taken in where the clock was set back since and what came next bears earlier times.
    pub fn resume_ns(&self, wall_ns: i64) -> Option<i64> {
        let (time_ns, taken_in) = self.last_event?;
        let gone_ns = i64::try_from(self.now.saturating_sub(taken_in).as_nanos()).unwrap_or(i64::MAX);
        Some(time_ns.saturating_add(1).min(wall_ns.saturating_sub(gone_ns)))
    }

    /// It is not there any more, and nobody has heard of its end.
    fn vanished(&mut self, id: ContainerId, tell: &mut impl FnMut(ContainerEvent)) {
        if let Some(mut entry) = self.entries.remove(&id) {
            entry.tell_sketch(tell);
        }
        tell(ContainerEvent::Gone { id, at: None });
    }

    fn add_step(&mut self, id: ContainerId, what: What, tell: &mut impl FnMut(ContainerEvent)) {
        self.add_answered(id, what, None, tell);
    }

    fn add_answered(
        &mut self,
        id: ContainerId,
        what: What,
        answer: Option<Answer>,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.tickets += 1;
        let ticket = self.tickets;
        let answer = match what {
            What::Destroy { .. } | What::Healthy { .. } | What::Paused { .. } => Some(Answer::Missing),
            _ if answer.is_some() => answer,
            _ if self.asks.len() >= MAX_WAITING => {
                self.refused += 1;
                Some(Answer::Failed)
            }
            _ => None,
        };
        if answer.is_none() {
            let ask = Ask { id: id.clone(), ticket };
            if entry.known.is_none() {
                self.unknown.push_back(ask.clone());
            }
            self.asks.push_back(ask);
        }
        entry.steps.push_back(Step { ticket, since: self.now, what, answer });
        self.tell_ready(&id, tell);
    }

    /// Tells every step of a container up to the first that still waits.
    fn tell_ready(&mut self, id: &ContainerId, tell: &mut impl FnMut(ContainerEvent)) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let mut failed_since = None;
        while let Some(step) = entry.steps.pop_front_if(|step| step.answer.is_some()) {
            if let What::Destroy { at } = step.what {
                entry.tell_sketch(tell);
                tell(ContainerEvent::Gone { id: id.clone(), at: Some(at) });
                // What follows is another container's under its id.
                let next = Entry {
                    steps: std::mem::take(&mut entry.steps),
                    touched: entry.touched,
                    last_event: entry.last_event,
                    ..Entry::default()
                };
                if next.steps.is_empty() {
                    self.entries.remove(id);
                    return;
                }
                *entry = next;
                failed_since = None;
                continue;
            }
            let answer = step.answer.unwrap_or(Answer::Failed);
            if matches!(answer, Answer::Failed) {
                failed_since = failed_since.or(Some(step.since));
            }
            entry.tell_step(id, step.what, answer, tell);
        }
        if entry.known.is_some() {
            return;
        }
        if let Some(since) = failed_since {
            let missed = self.missed.unwrap_or(Missed { since, events: 0 });
            self.missed =
                Some(Missed { since: missed.since.min(since), events: missed.events.max(entry.touched) });
        } else if entry.steps.is_empty() && entry.sketch.is_none() {
            // Listed, and gone before anything could be told of it.
            self.entries.remove(id);
        }
    }
}
