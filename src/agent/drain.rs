//! An end in time: threads that are waited for no longer than may be, and the moment from which the keeper names no more.
//!
//! A thread that hangs in a system call cannot be ended. It is left behind, and what it had is told as not written.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::threads::spawn;
use crate::metrics::now_ns;

/// How much of the time for an end is left for what is made of closed journals, and for the last write.
const WRITING: Duration = Duration::from_millis(1_000);

/// When an end must have come, once it was asked for. Shared by who asks and the keeper.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    /// By the monotonic clock; 0 while nobody asks.
    until_ns: AtomicU64,
    /// The keeper's thread; 0 before it runs.
    keeper: AtomicI32,
}

impl Deadline {
    /// The end must come within `patience`.
    pub(super) fn begin(&self, patience: Duration) {
        let patience_ns = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.until_ns.store(now_ns().saturating_add(patience_ns), Ordering::Relaxed);
    }

    /// The calling thread is the keeper.
    pub(super) fn is_kept_here(&self) {
        self.keeper.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// Nothing comes any more: from now on the keeper need not stand behind others. It has not the right to say so itself.
    pub(super) fn hurry(&self) {
        let keeper = rustix::process::Pid::from_raw(self.keeper.load(Ordering::Relaxed));
        if let Some(keeper) = keeper
            && let Err(error) = rustix::process::setpriority_process(Some(keeper), 0)
        {
            tracing::debug!("the keeper ends at the priority it has: {error}");
        }
    }

    /// How long there is still; none while nobody asks for an end.
    pub(super) fn left(&self) -> Option<Duration> {
        let until_ns = self.until_ns.load(Ordering::Relaxed);
        (until_ns != 0).then(|| Duration::from_nanos(until_ns.saturating_sub(now_ns())))
    }

    /// Whether what waits is to be let go of, so that what is there can be written.
    pub(super) fn is_near(&self) -> bool {
        self.left().is_some_and(|left| left < WRITING)
    }
}

/// A thread that can be waited for in time.
pub(super) struct Worker<T> {
    what: &'static str,
    thread: JoinHandle<T>,
    /// Breaks when the thread has ended.
    ended: Receiver<()>,
}

/// Why a thread gave nothing back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEnd {
    #[error("the {0} thread panicked")]
    Panicked(&'static str),
    #[error("the {0} thread does not end")]
    Late(&'static str),
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread `fnscope-WHAT`, whose end, a panic too, is told to `broken`.
    pub(super) fn start(
        what: &'static str,
        broken: &Arc<Notify>,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<Worker<T>> {
        let (alive, ended) = channel();
        let run = move || {
            let _alive = alive;
            run()
        };
        let thread = spawn(&format!("fnscope-{what}"), broken, run)?;
        Ok(Worker { what, thread, ended })
    }

    /// What it gives back; waits until `until`, or as long as it takes.
    pub(super) fn join(self, until: Option<Instant>) -> Result<T, NoEnd> {
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                return Err(NoEnd::Late(self.what));
            }
        }
        self.thread.join().map_err(|_| NoEnd::Panicked(self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_waited_for_no_longer_than_may_be() {
        let broken = Arc::new(Notify::new());
        let (go_on, told) = channel::<()>();
        let hangs = Worker::start("hangs", &broken, move || told.recv().is_ok()).unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(hangs.join(Some(soon)), Err(NoEnd::Late("hangs")));
        drop(go_on);
        let works = Worker::start("works", &broken, || 7).unwrap();
        assert_eq!(works.join(Some(Instant::now() + Duration::from_secs(30))), Ok(7));
        let panics = Worker::<()>::start("panics", &broken, || panic!("this panic is the test's")).unwrap();
        assert_eq!(panics.join(None), Err(NoEnd::Panicked("panics")));
    }

    #[test]
    fn a_deadline_is_near_before_it_is_there() {
        let deadline = Deadline::default();
        assert_eq!((deadline.left(), deadline.is_near()), (None, false));
        deadline.begin(Duration::from_secs(3_600));
        assert!(!deadline.is_near() && deadline.left() > Some(WRITING));
        deadline.begin(WRITING / 2);
        assert!(deadline.is_near());
    }
}
