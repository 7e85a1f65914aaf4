//! A runtime's watch in a thread of its own, and what it tells. Dropped, it must end when it is told to.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fnscope::model::ContainerEvent;
use tokio::sync::oneshot;

/// Longest wait for anything. Nothing here takes a second on an idle machine, save a daemon that stops or is slow.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest that a watch may take to end once it was told to, whatever its runtime does.
const END: Duration = Duration::from_secs(5);

/// A reactor for one thread.
pub fn reactor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime")
}

/// A watch that runs, and everything it has told.
pub struct Watcher {
    runtime: &'static str,
    events: Receiver<ContainerEvent>,
    pub seen: Vec<ContainerEvent>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// `run` watches `runtime`, tells what it is given to, and ends when the other end of what it is given is gone.
    pub fn start(
        runtime: &'static str,
        run: impl FnOnce(Sender<ContainerEvent>, oneshot::Receiver<()>) + Send + 'static,
    ) -> Watcher {
        let (sender, events) = channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || run(sender, stopped));
        Watcher { runtime, events, seen: vec![], stop: Some(stop), thread: Some(thread) }
    }

    /// The next event that `wanted` likes; what comes before it is kept in `seen` all the same.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&ContainerEvent) -> bool) -> ContainerEvent {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} came; seen: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("watch ended before {what}; seen: {:#?}", self.seen)
                }
            }
        }
    }

    pub fn up(&mut self) {
        let ours = self.runtime;
        self.wait("Up", |event| matches!(event, ContainerEvent::Up { runtime } if *runtime == ours));
    }

    pub fn down(&mut self) {
        let ours = self.runtime;
        self.wait("Down", |event| matches!(event, ContainerEvent::Down { runtime } if *runtime == ours));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        let begin = Instant::now();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("joined once").expect("watch does not panic");
            assert!(begin.elapsed() < END, "it ended {:?} after it was told to", begin.elapsed());
        }
    }
}
