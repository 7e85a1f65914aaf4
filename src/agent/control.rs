//! How other threads speak to the capture thread: a queue, and a descriptor that wakes it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

use super::budget::Limits;
use crate::attribution::{Claim, RuntimeState};
use crate::config::Config;
use crate::identity::Later;
use crate::metrics::Teller;
use crate::model::{ContainerId, Fact, InstanceNo, Pid, Timestamp};

/// What the capture thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// What a container is.
    Claim(Box<Claim>),
    /// What was found of a container that no runtime has claimed; none where that is nothing.
    Discovered { no: InstanceNo, claim: Option<Box<Claim>> },
    /// Whether a runtime answers.
    Runtime(&'static str, RuntimeState),
    /// A container's first process runs.
    Started { container: ContainerId, pid: Option<Pid>, at: Option<Timestamp> },
    /// Something became true of a container.
    Fact { container: ContainerId, at: Timestamp, fact: Fact },
    /// What a platform tells of a container after its making, true since `at`.
    Later { whom: Whom, later: Box<Later>, at: Timestamp, from: Teller },
    /// The same, of something else than its function.
    FactOf { whom: Whom, at: Timestamp, fact: Fact },
    /// A container's first process ended.
    Exited { container: ContainerId, exit_code: Option<i32>, oom: bool, at: Option<Timestamp> },
    /// A runtime has removed a container.
    Forgotten { container: ContainerId, runtime: &'static str, at: Option<Timestamp> },
    /// Asks whether the cgroup at `path` is known and sampled.
    Watching { path: String, reply: Sender<bool> },
    /// The configuration is another one from now on, in what [`super::reload`] lets through; tells when it is. Whoever
    /// sets `taken` first decides: the capture thread that it is taken over, who asked that it is not any more.
    Reload { config: Box<Config>, budget: Limits, taken: Arc<AtomicBool>, done: Sender<()> },
    /// Take what is there and end.
    Finish,
}

/// How a platform calls a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// By its id.
    Container(ContainerId),
    /// By the name of its pod.
    Pod(String),
}

/// The sending end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Control {
    queue: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Control {
    /// A control, with the queue and the descriptor for the capture thread.
    pub(super) fn new() -> std::io::Result<(Control, Receiver<Command>, OwnedFd)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let theirs = wake.try_clone()?;
        let (queue, commands) = channel();
        Ok((Control { queue, wake: wake.into() }, commands, theirs))
    }

    /// Sends a command; false once the capture thread has ended.
    pub(super) fn send(&self, command: Command) -> bool {
        let sent = self.queue.send(command).is_ok();
        // Full (2^64 - 1 wake-ups nobody read) is as good as woken.
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        sent
    }
}
