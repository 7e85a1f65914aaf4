//! containerd on a unix socket, by its own API, to be watched by [`watch`].
//!
//! | file | what |
//! |---|---|
//! | `api` | what is asked; its messages end there |
//! | `record` | a record of a container to a [`Container`]: labels, OCI spec, the CRI's notes; pure |
//! | `event` | what containerd tells, as the book takes it; pure |
//! | `image` | what blobs on the way to an image's labels say; pure |
//! | `labels` | the labels that images carry, read from the content store |
//!
//! One way for all of containerd's users: pods (namespace `k8s.io`, where the sandbox's labels are the pod's), faasd, nerdctl.
//! No call of the CRI is needed, which would be another server's to answer. Ids are `namespace/id` here, and what a
//! container's cgroup is found by ([`ContainerId::in_namespace`]) in what is told. Not here: the order in which things are
//! told.

mod api;
mod event;
mod image;
mod labels;
mod record;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use self::api::Api;
pub use self::record::RUNTIME;
use super::book::Event;
use super::engine::{Engine, EngineError};
use super::grpc::containerd::types::Envelope;
use super::socket::Socket;
use super::watch as watch_engine;
use crate::identity::Keys;
use crate::model::{Container, ContainerEvent, ContainerId, Pid, Swap};

/// Where it listens if nobody says otherwise.
pub const USUAL: &[&str] = &["/run/containerd/containerd.sock"];
/// What tells of the containerd that k3s and RKE2 bring.
pub const K3S: &str = "k3s";
/// Where that one listens.
pub const K3S_USUAL: &[&str] = &["/run/k3s/containerd/containerd.sock"];

/// Docker's own namespace: Docker knows its containers better than containerd does.
const DOCKERS: &str = "moby";

/// Which namespaces are looked into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces(Vec<String>);

impl Namespaces {
    /// Those of `names`; where that is empty, all but Docker's.
    pub fn new(names: &[String]) -> Namespaces {
        Namespaces(names.to_vec())
    }

    /// Whether `name` is one of them.
    pub fn has(&self, name: &str) -> bool {
        if self.0.is_empty() { name != DOCKERS } else { self.0.iter().any(|wanted| wanted == name) }
    }
}

/// Where containerd is and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdOptions {
    /// By what name it is told: [`RUNTIME`], [`K3S`].
    pub name: &'static str,
    /// Its unix socket.
    pub socket: Socket,
    /// The namespaces whose containers are told.
    pub namespaces: Namespaces,
    /// How often the list is compared with what is known.
    pub relist_every: Duration,
    /// Labels and variables that are kept beside those that the table of rules reads.
    pub keys: Swap<Keys>,
}

impl ContainerdOptions {
    /// The containerd at `socket`, which is told by `name`.
    pub fn at(name: &'static str, socket: Socket) -> ContainerdOptions {
        ContainerdOptions {
            name,
            socket,
            namespaces: Namespaces::default(),
            relist_every: Duration::from_secs(60),
            keys: Swap::default(),
        }
    }
}

impl Engine for ContainerdOptions {
    type Connection = Api;

    fn name(&self) -> &'static str {
        self.name
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn relist_every(&self) -> Duration {
        self.relist_every
    }

    fn deaf_for(&self, _: &Api) -> Option<Duration> {
        // It answers to a subscription with the first event, so nobody knows when it has been taken in.
        Some(Duration::from_secs(1))
    }

    async fn connect(&self, socket: &Path) -> Result<Api, EngineError> {
        Api::connect(self, socket).await
    }
}

/// Tells `sink` what happens to containerd's containers until `shutdown`: see [`watch_engine::watch`].
pub async fn watch(
    options: &ContainerdOptions,
    mut sink: impl FnMut(ContainerEvent),
    shutdown: impl Future<Output = ()>,
) {
    watch_engine::watch(options, |event| sink(told(event)), shutdown).await;
}

/// containerd's version, as a sign that it can be used.
pub async fn ping(options: &ContainerdOptions) -> anyhow::Result<String> {
    let socket = &options.socket;
    let version = async {
        let found = socket.find().ok_or_else(|| EngineError::Absent("no such socket".into()))?;
        Api::connect(options, &found).await?.version().await
    };
    version.await.with_context(|| format!("ask containerd at {socket} for its version"))
}

/// What a record tells of a container, as containerd sends it. Any bytes: those that are none tell of none.
pub fn container_in(record: &[u8], keys: &Keys) -> Option<Container> {
    let record = prost::Message::decode(record).ok()?;
    Some(record::container(record, &record::Namespace::default(), keys).container)
}

/// What an event tells of a container, as containerd sends it, and the first process of a task that it tells to be in the
/// making. Any bytes: those that are none tell of nothing.
pub fn event_in(envelope: &[u8], keys: &Keys) -> (Option<Event>, Option<(ContainerId, Pid)>) {
    let Ok(envelope) = <Envelope as prost::Message>::decode(envelope) else { return (None, None) };
    let namespace = record::Namespace { name: envelope.namespace.clone(), labels: Vec::new() };
    let newborn = event::newborn(&envelope);
    (event::event(envelope, &namespace, keys), newborn)
}

/// What tells the run of a container whose first process is `pid` from others, by the text of its `/proc/PID/stat`.
pub fn run_in(stat: &str, pid: Pid) -> String {
    api::run_in(stat, pid)
}

/// What a blob on the way to an image's labels says, as text. Any bytes.
pub fn image_in(blob: &[u8]) -> Option<String> {
    let leads = image::blob(blob).map(|blob| format!("{blob:?}"));
    leads.or_else(|| image::labels(blob).map(|labels| format!("{labels:?}")))
}

/// The same with the ids by which cgroups are found.
fn told(event: ContainerEvent) -> ContainerEvent {
    use ContainerEvent::{Exited, Gone, Paused, Ready, Started};
    let found = |id: ContainerId| match event::parts(&id) {
        Some((namespace, name)) => ContainerId::in_namespace(namespace, name),
        None => id,
    };
    match event {
        Started { id, pid, at } => Started { id: found(id), pid, at },
        Ready { id, at } => Ready { id: found(id), at },
        Paused { id, at, paused } => Paused { id: found(id), at, paused },
        Exited { id, exit_code, oom, at } => Exited { id: found(id), exit_code, oom, at },
        Gone { id, at } => Gone { id: found(id), at },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_namespace_is_left_to_docker_unless_it_is_asked_for() {
        let all = Namespaces::default();
        assert!(all.has("k8s.io") && all.has("openfaas-fn") && !all.has("moby"));
        let one = Namespaces::new(&["moby".into()]);
        assert!(one.has("moby") && !one.has("k8s.io"));
    }

    #[test]
    fn ids_are_told_as_cgroups_have_them() {
        let hex = "a".repeat(64);
        for (id, expected) in [("ns/f", "ns/f"), (&*format!("k8s.io/{hex}"), &*hex)] {
            let gone = told(ContainerEvent::Gone { id: ContainerId(id.into()), at: None });
            assert_eq!(gone, ContainerEvent::Gone { id: ContainerId(expected.into()), at: None });
        }
    }
}
