//! Containers to be asked after: their cgroups are known, and nobody has said what they are.
//!
//! Whoever sees cgroups come puts their ids in; a runtime that tells of nothing by itself takes them out. Neither waits
//! for the other: what does not fit is counted, and found by the runtime's next list.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cgroup::place_of;
use crate::model::ContainerId;

/// Ids that may wait. One is asked after in a millisecond, sixteen at a time.
const MAX_WAITING: usize = 4096;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A container whose cgroup has come.
    Begun(ContainerId),
    /// One whose cgroup has gone: how it ended.
    Ended(ContainerId),
}

/// What came of asking. Grows only.
#[derive(Debug, Default)]
pub struct LookUps {
    /// Asked after, and told.
    pub found: AtomicU64,
    /// Asked after some times, and never known: another runtime's, or removed before it could be asked after.
    pub unknown: AtomicU64,
    /// Told without its pod, which was removed before it could be asked after.
    pub without_pod: AtomicU64,
    /// Answers that were faults, or could not be understood.
    pub faults: AtomicU64,
    /// Not asked after, because too many waited or were known.
    pub refused: AtomicU64,
}

impl LookUps {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The end that asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asker {
    queue: Sender<Wanted>,
    counts: Arc<LookUps>,
}

impl Asker {
    /// The container `id`, whose cgroup at `path` was just found.
    pub fn begun(&self, id: &ContainerId, path: &str) {
        // Engines that are watched by their own events, whatever else runs here.
        if !matches!(place_of(path).and_then(|place| place.runtime), Some("docker" | "podman")) {
            self.put(Wanted::Begun(id.clone()));
        }
    }

    /// The cgroup of container `id` is gone.
    pub fn ended(&self, id: &ContainerId) {
        self.put(Wanted::Ended(id.clone()));
    }

    fn put(&self, wanted: Wanted) {
        // Closed is an agent that ends.
        if let Err(TrySendError::Full(_)) = self.queue.try_send(wanted) {
            LookUps::count(&self.counts.refused);
        }
    }
}

/// Both ends, and what they count.
pub fn look_ups() -> (Asker, Receiver<Wanted>, Arc<LookUps>) {
    let (queue, wanted) = channel(MAX_WAITING);
    let counts = Arc::<LookUps>::default();
    (Asker { queue, counts: counts.clone() }, wanted, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (asker, mut wanted, counts) = look_ups();
        let id = ContainerId("a".repeat(64).into());
        for _ in 0..MAX_WAITING + 3 {
            asker.begun(&id, &format!("/kubepods/pod1/{id}"));
        }
        assert_eq!(counts.refused.load(Ordering::Relaxed), 3);
        assert_eq!(wanted.try_recv(), Ok(Wanted::Begun(id.clone())));
        asker.ended(&id);
        assert_eq!(counts.refused.load(Ordering::Relaxed), 3, "there was room again");
        drop(wanted);
        asker.ended(&id);
        assert_eq!(counts.refused.load(Ordering::Relaxed), 3, "an agent that ends counts nothing");
    }

    #[test]
    fn containers_of_engines_with_events_are_not_asked_after() {
        let (asker, mut wanted, _) = look_ups();
        let id = ContainerId("b".repeat(64).into());
        for (path, is_asked) in [
            (format!("/docker/{id}"), false),
            (format!("/machine.slice/libpod-{id}.scope"), false),
            (format!("/kubepods/burstable/pod1/{id}"), true),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"), true),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), true),
        ] {
            asker.begun(&id, &path);
            assert_eq!(wanted.try_recv().is_ok(), is_asked, "{path}");
        }
    }
}
