//! Messages of the CRI to containers. Pure: what is kept is cut to what rules read.

use std::collections::HashMap;

use super::book::{Life, Listed, Status};
use super::info::Info;
use crate::identity::{Keys, kept_with};
use crate::model::{Container, ContainerId, Identity, Pod, Timestamp};
use crate::runtime::grpc::cri;

/// A pod as its sandbox tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod.
    pub pod: Pod,
    /// The runtime handler that was asked for; none for the default one.
    pub handler: Option<String>,
}

/// The sandbox that `status` tells of, and its id; none without a usable id.
pub fn sandbox(status: cri::PodSandboxStatus, keys: &Keys) -> Option<(ContainerId, Sandbox, Life)> {
    let life = life_of_sandbox(status.state());
    let cri::PodSandboxStatus { id, metadata, labels, annotations, runtime_handler, .. } = status;
    Some((bounded_id(id)?, told(metadata, labels, annotations, runtime_handler, keys), life))
}

/// The same of an element of the list.
pub fn listed_sandbox(element: cri::PodSandbox, keys: &Keys) -> Option<(ContainerId, Sandbox, Life)> {
    let life = life_of_sandbox(element.state());
    let cri::PodSandbox { id, metadata, labels, annotations, runtime_handler, .. } = element;
    Some((bounded_id(id)?, told(metadata, labels, annotations, runtime_handler, keys), life))
}

fn told(
    metadata: Option<cri::PodSandboxMetadata>,
    labels: HashMap<String, String>,
    annotations: HashMap<String, String>,
    handler: String,
    keys: &Keys,
) -> Sandbox {
    let metadata = metadata.unwrap_or_default();
    let pod = Pod {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        labels: sorted(labels),
        annotations: sorted(annotations),
    };
    // Cut as part of a container is: whole, a hundred pods could fill the memory.
    let carrier = Container {
        pod: Some(pod),
        runtime_handler: Some(handler).filter(|handler| !handler.is_empty()),
        ..Container::default()
    };
    let Container { pod, runtime_handler, .. } = kept_with(carrier, keys);
    Sandbox { pod: pod.unwrap_or_default(), handler: runtime_handler }
}

/// The sandbox as the container that it is too.
pub fn pause(id: &ContainerId, sandbox: Sandbox) -> Container {
    Container {
        runtime: super::RUNTIME.into(),
        id: id.0.to_string(),
        labels: sandbox.pod.labels.clone(),
        annotations: sandbox.pod.annotations.clone(),
        sandbox: true,
        runtime_handler: sandbox.handler,
        pod: Some(sandbox.pod),
        ..Container::default()
    }
}

/// An element of the list of containers: its id and where it is in its life.
pub fn listed(element: &cri::Container) -> Option<Listed> {
    let id = bounded_id(element.id.clone())?;
    Some(Listed { id, container: None, life: life(element.state()) })
}

/// The container that `status` and what came with it tell of, in the pod of `sandbox`, where that is known.
pub fn container(
    status: cri::ContainerStatus,
    info: Info,
    sandbox: Option<Sandbox>,
    keys: &Keys,
) -> Option<Status> {
    let state = status.state();
    let id = bounded_id(status.id)?;
    let image = status.image.unwrap_or_default();
    let (pod, handler) = match sandbox {
        Some(Sandbox { pod, handler }) => (Some(pod), handler),
        None => (None, None),
    };
    let mut annotations = sorted(status.annotations);
    annotations.extend(info.annotations);
    let container = Container {
        runtime: super::RUNTIME.into(),
        id: id.0.to_string(),
        name: status.metadata.map(|metadata| metadata.name).filter(|name| !name.is_empty()),
        image: [image.user_specified_image, image.image, status.image_ref]
            .into_iter()
            .find(|it| !it.is_empty()),
        labels: sorted(status.labels),
        env: info.env,
        annotations,
        runtime_handler: handler.or(info.runtime_type),
        pod,
        ..Container::default()
    };
    let life = life(state);
    Some(Status {
        container: kept_with(container, keys),
        life,
        pid: info.pid,
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: (life == Life::Ended).then_some(status.exit_code),
        oom: status.reason == "OOMKilled",
    })
}

fn life(state: cri::ContainerState) -> Life {
    match state {
        cri::ContainerState::ContainerCreated => Life::Waiting,
        cri::ContainerState::ContainerRunning => Life::Running,
        cri::ContainerState::ContainerExited | cri::ContainerState::ContainerUnknown => Life::Ended,
    }
}

fn life_of_sandbox(state: cri::PodSandboxState) -> Life {
    match state {
        cri::PodSandboxState::SandboxReady => Life::Running,
        cri::PodSandboxState::SandboxNotready => Life::Ended,
    }
}

/// A map has no order; ours is the same every time.
fn sorted(pairs: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_unstable();
    pairs
}

/// Nanoseconds since 1970; nothing at or before that is how the CRI says never.
fn time(ns: i64) -> Option<Timestamp> {
    (ns > 0).then(|| Timestamp(ns / 1000))
}

/// An id that may be asked for and kept.
pub fn bounded_id(id: String) -> Option<ContainerId> {
    (!id.is_empty() && id.len() <= Identity::MAX_NAME).then(|| ContainerId(id.into()))
}
