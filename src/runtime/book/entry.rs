//! One container of the book: what is known of it, and what of that is told next.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Action, Answer, Inspected, Life};
use crate::model::{Container, ContainerEvent, ContainerId, Pid, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// When it was made, as far as that was heard: what was made later is another one under its id.
    pub(super) created_at: Option<Timestamp>,
    /// As it was told last.
    pub(super) known: Option<Container>,
    /// Whether that was since the connection was made.
    pub(super) known_told: bool,
    /// What there is to tell if it cannot be asked for.
    pub(super) sketch: Option<Container>,
    /// Whether it was listed and not inspected: what is known of it may be wrong, and the next list asks again.
    pub(super) unsure: bool,
    pub(super) running: bool,
    /// Whether that it runs was told since the connection was made.
    pub(super) start_told: bool,
    /// Since when it runs, where an inspection said so.
    pub(super) started_at: Option<Timestamp>,
    /// Its first process, as it was told last.
    pub(super) pid: Option<Pid>,
    /// Its run, by the event of its start or as it was told last: when it is asked for, that may be over.
    pub(super) task: Option<String>,
    pub(super) oom: bool,
    pub(super) forges_exit_code: bool,
    /// Number of its last event.
    pub(super) touched: u64,
    pub(super) last_event: Option<(i64, Action)>,
    /// What is still to be told, in order; the first waits for its answer.
    pub(super) steps: VecDeque<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) ticket: u64,
    /// When it was added, by the book's clock.
    pub(super) since: Duration,
    pub(super) what: What,
    pub(super) answer: Option<Answer>,
}

#[derive(Debug)]
pub(super) enum What {
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

impl Entry {
    pub(super) fn tell_step(
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
            self.unsure = false;
            self.tell_known(inspected.container.clone(), tell);
        }
        // Gone, or going: nothing better will come.
        let is_last = matches!(answer, Answer::Missing) || inspected.is_none() && self.is_ending();
        match &what {
            What::Describe { container, is_sketch: true, .. } if is_last && self.known.is_none() => {
                self.tell_known(container.clone(), tell);
            }
            What::Start { .. } | What::Die { .. } if is_last => self.tell_sketch(tell),
            _ => {}
        }
        if let (What::Start { .. }, None, Some(known)) = (&what, inspected, &self.known) {
            // What was known is of the run before.
            self.tell_known(Container { task: self.task.clone(), ..known.clone() }, tell);
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
                self.unsure = true;
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

    /// Tells what its events say of it, where nothing else was told.
    pub(super) fn tell_sketch(&mut self, tell: &mut impl FnMut(ContainerEvent)) {
        if let Some(sketch) = self.sketch.take_if(|_| self.known.is_none()) {
            self.tell_known(sketch, tell);
        }
    }

    /// Whether it was removed, and that is still to be told.
    fn is_ending(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.what, What::Destroy { .. }))
    }

    /// Whether it was made before `made`.
    pub(super) fn is_older_than(&self, made: Option<Timestamp>) -> bool {
        self.created_at.is_some() && made > self.created_at
    }

    /// `container` as it is; not a second time to the same connection.
    pub(super) fn tell_known(&mut self, mut container: Container, tell: &mut impl FnMut(ContainerEvent)) {
        // Always the same moment, whoever told it first.
        self.created_at = self.created_at.or(container.created_at);
        container.created_at = self.created_at;
        container.task = container.task.or_else(|| self.task.clone());
        // Where no event told of its run, its end finds none either.
        self.task.clone_from(&container.task);
        if self.known.as_ref() != Some(&container) || !self.known_told {
            (self.known, self.known_told) = (Some(container.clone()), true);
            tell(ContainerEvent::Known(Box::new(container)));
        }
    }

    /// `container` as an event or the list describes it, together with what an inspection said earlier.
    pub(super) fn tell_described(&mut self, container: Container, tell: &mut impl FnMut(ContainerEvent)) {
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
