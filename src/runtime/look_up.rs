//! Containers to be asked after: their cgroups are known, and nobody has said what they are.
//!
//! Whoever sees cgroups come puts their ids in; a runtime that tells of nothing by itself takes them out. Neither waits
//! for the other: what does not fit is counted, and found by the runtime's next list.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cgroup::place_of;
use crate::metrics::Metrics;
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

/// The end that asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asker {
    queue: Sender<Wanted>,
    metrics: Arc<Metrics>,
}

impl Asker {
    /// The container `id`, whose cgroup at `path` was just found.
    pub fn begun(&self, id: &ContainerId, path: &str) {
        // Those of engines that are watched by their own events, and of no pod.
        let is_anothers = place_of(path).is_some_and(|place| {
            place.runtime_namespace.is_some() || matches!(place.runtime, Some("docker" | "podman"))
        });
        if !is_anothers {
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
            self.metrics.look_ups_refused.add(1);
        }
    }
}

/// Both ends; what does not fit is counted in `metrics`.
pub fn look_ups(metrics: &Arc<Metrics>) -> (Asker, Receiver<Wanted>) {
    let (queue, wanted) = channel(MAX_WAITING);
    (Asker { queue, metrics: metrics.clone() }, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let metrics = Arc::new(Metrics::new(&[]));
        let (asker, mut wanted) = look_ups(&metrics);
        let id = ContainerId("a".repeat(64).into());
        for _ in 0..MAX_WAITING + 3 {
            asker.begun(&id, &format!("/kubepods/pod1/{id}"));
        }
        assert_eq!(metrics.look_ups_refused.get(), 3);
        assert_eq!(wanted.try_recv(), Ok(Wanted::Begun(id.clone())));
        asker.ended(&id);
        assert_eq!(metrics.look_ups_refused.get(), 3, "there was room again");
        drop(wanted);
        asker.ended(&id);
        assert_eq!(metrics.look_ups_refused.get(), 3, "an agent that ends counts nothing");
    }

    #[test]
    fn containers_of_engines_with_events_are_not_asked_after() {
        let (asker, mut wanted) = look_ups(&Arc::new(Metrics::new(&[])));
        let id = ContainerId("b".repeat(64).into());
        for (path, is_asked) in [
            (format!("/docker/{id}"), false),
            (format!("/machine.slice/libpod-{id}.scope"), false),
            ("/openfaas-fn/hello".into(), false),
            (format!("/kubepods/burstable/pod1/{id}"), true),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"), true),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), true),
        ] {
            asker.begun(&id, &path);
            assert_eq!(wanted.try_recv().is_ok(), is_asked, "{path}");
        }
    }
}
