//! What is known of a runtime's containers, and what has to be asked. Pure: events, lists and answers in, container
//! events and questions out.
//!
//! Promises, whatever order answers come in:
//! - of one container, `Known` is told before `Started`, `Started` before `Exited`, and `Gone` last;
//! - a question holds up its own container, never another, and what is known without an answer is told at once;
//! - a container that is gone before it could be inspected is told by its events' own words;
//! - after [`Book::broke`] and a new list, what vanished meanwhile is told as `Gone`, what ended as `Exited`.
//!
//! Telling a thing twice is allowed, and happens around a list.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

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
    last_event_ns: Option<i64>,
    refused: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// When it was made, as far as that was heard: what was made later is another one under its id.
    created_at: Option<Timestamp>,
    /// As it was told last.
    known: Option<Container>,
    /// What there is to tell if it cannot be asked for.
    sketch: Option<Container>,
    /// Whether that was since the connection was made.
    known_told: bool,
    running: bool,
    /// Whether that it runs was told since the connection was made.
    start_told: bool,
    /// Since when it runs, where an inspection said so.
    started_at: Option<Timestamp>,
    /// Its first process, as it was told last.
    pid: Option<Pid>,
    /// Its run, by the event of its start: when it is asked for, that may be over.
    task: Option<String>,
    oom: bool,
    forges_exit_code: bool,
    /// Number of its last event.
    touched: u64,
    last_event: Option<(i64, Action)>,
    /// What is still to be told, in order; the first waits for its answer.
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Step {
    ticket: u64,
    what: What,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum What {
    Describe { at: Timestamp, container: Container, is_sketch: bool },
    Start { at: Timestamp, pid: Option<Pid>, task: Option<String> },
    Die { at: Timestamp, exit_code: Option<i32> },
    Healthy { at: Timestamp },
    Paused { at: Timestamp, paused: bool },
    List { container: Container, life: Life },
    Destroy { at: Timestamp },
}

impl What {
    /// When it happened; none for what is so whenever it is asked.
    fn at(&self) -> Option<Timestamp> {
        match self {
            What::Describe { at, .. }
            | What::Start { at, .. }
            | What::Die { at, .. }
            | What::Healthy { at }
            | What::Paused { at, .. }
            | What::Destroy { at } => Some(*at),
            What::List { .. } => None,
        }
    }
}

impl Book {
    /// Takes in an event.
    pub fn event(&mut self, event: Event, tell: &mut impl FnMut(ContainerEvent)) {
        self.events += 1;
        self.last_event_ns = self.last_event_ns.max(Some(event.time_ns));
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
            self.entries.remove(&id);
            tell(ContainerEvent::Gone { id, at: None });
        }
        for Listed { id, container, life, inspected } in list {
            // Gone, and another made under its id, and neither was heard.
            let made = inspected.as_ref().and_then(|inspected| inspected.created_at);
            let is_another = |entry: &Entry| {
                entry.touched <= mark.0 && entry.steps.is_empty() && entry.is_older_than(made)
            };
            if self.entries.get(&id).is_some_and(is_another) {
                self.entries.remove(&id);
                tell(ContainerEvent::Gone { id: id.clone(), at: None });
            }
            let entry = self.entries.entry(id.clone()).or_default();
            // A long dead container is not worth a question; its list entry names it well enough.
            if life == Life::Ended && !entry.running {
                if entry.touched <= mark.0 && !entry.known_told {
                    entry.tell_described(container, tell);
                }
                continue;
            }
            if life == Life::Running && entry.running && entry.known_told && entry.start_told {
                continue;
            }
            // What has happened since the list was asked for is newer than what it says.
            let answer = inspected.filter(|_| entry.touched <= mark.0 && entry.steps.is_empty());
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

    /// The time behind the last event in nanoseconds since 1970, to have the stream go on from there.
    pub fn resume_ns(&self) -> Option<i64> {
        self.last_event_ns.map(|time_ns| time_ns.saturating_add(1))
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
            self.asks.push_back(Ask { id: id.clone(), ticket });
        }
        entry.steps.push_back(Step { ticket, what, answer });
        self.tell_ready(&id, tell);
    }

    /// Tells every step of a container up to the first that still waits.
    fn tell_ready(&mut self, id: &ContainerId, tell: &mut impl FnMut(ContainerEvent)) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        while let Some(step) = entry.steps.pop_front_if(|step| step.answer.is_some()) {
            if let What::Destroy { at } = step.what {
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
                continue;
            }
            entry.tell_step(id, step.what, step.answer.unwrap_or(Answer::Failed), tell);
        }
        // Listed, and gone before anything could be told of it.
        if entry.known.is_none() && entry.steps.is_empty() {
            self.entries.remove(id);
        }
    }
}

impl Entry {
    fn tell_step(
        &mut self,
        id: &ContainerId,
        what: What,
        answer: Answer,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        // Made behind what happened: it is the next one under this id that was asked.
        let is_another = |inspected: &Inspected| what.at().is_some_and(|at| inspected.created_at > Some(at));
        let answer = match answer {
            Answer::Inspected(inspected) if is_another(&inspected) => Answer::Missing,
            answer => answer,
        };
        let inspected = match &answer {
            Answer::Inspected(inspected) => Some(&**inspected),
            Answer::Missing | Answer::Failed => None,
        };
        if let What::Start { task, .. } = &what {
            self.task.clone_from(task);
        }
        if let Some(inspected) = inspected {
            self.forges_exit_code |= inspected.forges_exit_code;
            self.tell_known(inspected.container.clone(), tell);
        }
        let is_missing = matches!(answer, Answer::Missing);
        match &what {
            What::Describe { container, is_sketch: true, .. } if is_missing && self.known.is_none() => {
                self.tell_known(container.clone(), tell);
            }
            What::Start { .. } | What::Die { .. } if is_missing && self.known.is_none() => {
                if let Some(sketch) = self.sketch.take() {
                    self.tell_known(sketch, tell);
                }
            }
            _ => {}
        }
        if let (What::Start { .. }, None, Some(known)) = (&what, inspected, &self.known) {
            self.tell_known(known.clone(), tell);
        }
        match what {
            What::Describe { container, is_sketch, .. } => {
                if inspected.is_none() && !is_sketch {
                    self.tell_described(container, tell);
                }
            }
            What::Start { at, pid, .. } => {
                // A later start of the same container is another event's to tell.
                let ours =
                    inspected.filter(|inspected| inspected.started_at.is_some_and(|started| started <= at));
                self.started_at = ours.and_then(|inspected| inspected.started_at);
                let pid = pid.or(ours.and_then(|inspected| inspected.pid));
                self.tell_started(id, pid, self.started_at.or(Some(at)), tell);
            }
            What::Die { at, exit_code } => {
                let ended = |inspected: &&Inspected| {
                    !inspected.running && inspected.finished_at.is_some_and(|finished| finished <= at)
                };
                let ours = inspected.filter(ended);
                let exit_code = match ours {
                    Some(inspected) => inspected.exit_code,
                    None => exit_code.filter(|_| !self.forges_exit_code),
                };
                // When the process ended; the event follows 30 to 100 ms later.
                let ended_at = ours.and_then(|inspected| inspected.finished_at).unwrap_or(at);
                let oom = self.oom || ours.is_some_and(|inspected| inspected.oom);
                self.tell_exited(id, exit_code, oom, Some(ended_at), tell);
            }
            What::Healthy { at } => tell(ContainerEvent::Ready { id: id.clone(), at }),
            What::Paused { at, paused } => tell(ContainerEvent::Paused { id: id.clone(), at, paused }),
            What::List { container, life } => self.tell_listed(id, container, life, answer, tell),
            What::Destroy { .. } => {}
        }
    }

    fn tell_listed(
        &mut self,
        id: &ContainerId,
        container: Container,
        life: Life,
        answer: Answer,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        match answer {
            // Its events are on their way and tell it.
            Answer::Missing => {}
            Answer::Failed => {
                self.tell_described(container, tell);
                if life == Life::Running && !(self.running && self.start_told) {
                    self.tell_started(id, None, None, tell);
                }
            }
            Answer::Inspected(state) if state.running => {
                let restarted = (self.started_at.is_some() && self.started_at != state.started_at)
                    || (self.pid.is_some() && state.pid.is_some() && self.pid != state.pid);
                if self.running && !self.start_told && restarted {
                    self.tell_exited(id, None, false, None, tell);
                }
                if !(self.running && self.start_told) {
                    self.started_at = state.started_at;
                    self.tell_started(id, state.pid, state.started_at, tell);
                }
            }
            Answer::Inspected(state) => {
                if self.running {
                    self.tell_exited(id, state.exit_code, self.oom || state.oom, state.finished_at, tell);
                }
            }
        }
    }

    /// Whether it was made before `made`.
    fn is_older_than(&self, made: Option<Timestamp>) -> bool {
        self.created_at.is_some() && made > self.created_at
    }

    /// `container` as it is; not a second time to the same connection.
    fn tell_known(&mut self, mut container: Container, tell: &mut impl FnMut(ContainerEvent)) {
        // Always the same moment, whoever told it first.
        self.created_at = self.created_at.or(container.created_at);
        container.created_at = self.created_at;
        container.task = container.task.or_else(|| self.task.clone());
        if self.known.as_ref() != Some(&container) || !self.known_told {
            (self.known, self.known_told) = (Some(container.clone()), true);
            tell(ContainerEvent::Known(Box::new(container)));
        }
    }

    /// `container` as an event or the list describes it, together with what an inspection said earlier.
    fn tell_described(&mut self, container: Container, tell: &mut impl FnMut(ContainerEvent)) {
        let container = match &self.known {
            Some(known) => Container {
                env: known.env.clone(),
                cmd: known.cmd.clone(),
                entrypoint: known.entrypoint.clone(),
                image_labels: known.image_labels.clone(),
                runtime_handler: known.runtime_handler.clone(),
                annotations: known.annotations.clone(),
                pod: known.pod.clone(),
                sandbox: known.sandbox,
                task: known.task.clone(),
                ..container
            },
            None => container,
        };
        self.tell_known(container, tell);
    }

    fn tell_started(
        &mut self,
        id: &ContainerId,
        pid: Option<Pid>,
        at: Option<Timestamp>,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        (self.running, self.start_told) = (true, true);
        self.pid = pid.or(self.pid);
        tell(ContainerEvent::Started { id: id.clone(), pid, at });
    }

    fn tell_exited(
        &mut self,
        id: &ContainerId,
        exit_code: Option<i32>,
        oom: bool,
        at: Option<Timestamp>,
        tell: &mut impl FnMut(ContainerEvent),
    ) {
        self.running = false;
        self.pid = None;
        tell(ContainerEvent::Exited { id: id.clone(), exit_code, oom, at });
    }
}
