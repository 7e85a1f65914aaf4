//! How other threads speak to the capture thread: queues, and a descriptor that wakes it.
//!
//! Who tells of containers waits while the queue is full: what it hears meanwhile stays where it comes from, a runtime's
//! socket or a file, and a list finds what that loses. Nothing is waited for the other way, and what the agent itself asks
//! for has a queue of its own, so that it can be ended whatever is told.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use rustix::event::{EventfdFlags, eventfd};

use super::budget::Limits;
use crate::attribution::{Claim, RuntimeState};
use crate::config::Config;
use crate::identity::Later;
use crate::metrics::Teller;
use crate::model::{ContainerId, Fact, InstanceNo, Pid, Timestamp};

/// What may wait of what is told: the queue takes its memory at once, and who tells can wait.
const QUEUE: usize = 1_024;

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
    told: SyncSender<Command>,
    /// One at a time: who asks waits for the answer, or ends.
    asked: Sender<Command>,
    wake: Arc<OwnedFd>,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Commands {
    told: Receiver<Command>,
    /// What the agent itself asks for.
    pub(super) asked: Receiver<Command>,
}

impl Commands {
    /// The next command that is there: what the agent asks for before what was told.
    pub(super) fn take(&self) -> Option<Command> {
        self.asked.try_recv().or_else(|_| self.told.try_recv()).ok()
    }
}

impl Control {
    /// A control, with the queues and the descriptor for the capture thread.
    pub(super) fn new() -> std::io::Result<(Control, Commands, OwnedFd)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let theirs = wake.try_clone()?;
        let (tell, told) = sync_channel(QUEUE);
        let (ask, asked) = channel();
        let control = Control { told: tell, asked: ask, wake: wake.into() };
        Ok((control, Commands { told, asked }, theirs))
    }

    /// Tells something, when there is room for it; false once the capture thread has ended.
    pub(super) fn tell(&self, command: Command) -> bool {
        let sent = self.told.send(command).is_ok();
        self.wake();
        sent
    }

    /// Asks for something on the agent's own behalf, without waiting; false once the capture thread has ended.
    pub(super) fn ask(&self, command: Command) -> bool {
        let sent = self.asked.send(command).is_ok();
        self.wake();
        sent
    }

    fn wake(&self) {
        // Full (2^64 - 1 wake-ups nobody read) is as good as woken.
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_tells_waits_for_room_and_the_agent_itself_does_not() {
        let (control, commands, _wake) = Control::new().unwrap();
        let (sent, progress) = channel();
        let teller = control.clone();
        let tells = std::thread::spawn(move || {
            for _ in 0..QUEUE + 2 {
                let is_heard = teller.tell(Command::Runtime("docker", RuntimeState::Up));
                sent.send(is_heard).unwrap();
            }
        });
        assert!((0..QUEUE).all(|_| progress.recv().unwrap()));
        let more = progress.recv_timeout(Duration::from_millis(300));
        assert!(more.is_err(), "more than {QUEUE} wait");
        assert!(control.ask(Command::Finish));
        assert!(matches!(commands.take(), Some(Command::Finish)));
        assert!(matches!(commands.take(), Some(Command::Runtime(..))));
        assert!(progress.recv().unwrap(), "there is room again");
        // Who waits when the capture thread ends is let go.
        drop(commands);
        assert!(!progress.recv().unwrap() && !control.ask(Command::Finish));
        tells.join().unwrap();
    }
}
