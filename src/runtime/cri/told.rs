//! Messages of the CRI to containers. Pure: what is kept is cut to what rules read.

use std::collections::HashMap;

use prost::Message as _;

use super::book::{Life, Listed, Status};
use super::info::{self, Info};
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
    (ns > 0).then_some(Timestamp(ns / 1000))
}

/// What an answer of the CRI tells of containers, whichever of its answers it is. Any bytes: those that are none tell of
/// none.
pub fn containers_in(answer: &[u8], keys: &Keys) -> Vec<Container> {
    let of_container = |answer: cri::ContainerStatusResponse| {
        let info = answer.info.get("info").and_then(|text| info::parse(text).ok()).unwrap_or_default();
        Some(container(answer.status?, info, None, keys)?.container)
    };
    let of_sandbox = |answer: cri::PodSandboxStatusResponse| {
        sandbox(answer.status?, keys).map(|(id, sandbox, _)| pause(&id, sandbox))
    };
    let of_list = |answer: cri::ListPodSandboxResponse| {
        let pods = answer.items.into_iter().filter_map(|pod| listed_sandbox(pod, keys));
        pods.map(|(id, sandbox, _)| pause(&id, sandbox)).collect::<Vec<_>>()
    };
    let containers = cri::ContainerStatusResponse::decode(answer).ok().and_then(of_container);
    let sandboxes = cri::PodSandboxStatusResponse::decode(answer).ok().and_then(of_sandbox);
    let listed = cri::ListPodSandboxResponse::decode(answer).ok().map(of_list).unwrap_or_default();
    containers.into_iter().chain(sandboxes).chain(listed).collect()
}

/// What an answer with the list of containers tells, as the book takes it. Any bytes: those that are none tell of none.
pub fn listed_in(answer: &[u8]) -> Vec<Listed> {
    let list = cri::ListContainersResponse::decode(answer).unwrap_or_default();
    list.containers.iter().filter_map(listed).collect()
}

/// An id that may be asked for and kept.
pub fn bounded_id(id: String) -> Option<ContainerId> {
    (!id.is_empty() && id.len() <= Identity::MAX_NAME).then(|| ContainerId(id.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::kept;

    fn pairs(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn a_sandbox() -> cri::PodSandboxStatus {
        cri::PodSandboxStatus {
            id: "s".into(),
            metadata: Some(cri::PodSandboxMetadata {
                name: "hello-1".into(),
                uid: "u".into(),
                namespace: "openfaas-fn".into(),
                attempt: 0,
            }),
            labels: pairs(&[
                ("faas_function", "hello"),
                ("io.kubernetes.pod.name", "hello-1"),
                ("secret", "x"),
            ]),
            annotations: pairs(&[("fnscope.ignore", "no")]),
            runtime_handler: "kata".into(),
            ..cri::PodSandboxStatus::default()
        }
    }

    #[test]
    fn a_container_is_told_with_its_pod_and_what_rules_read() {
        let (id, sandbox, life) = sandbox(a_sandbox(), &Keys::default()).expect("a sandbox");
        assert_eq!((&*id.0, life, sandbox.handler.as_deref()), ("s", Life::Running, Some("kata")));
        let pause = pause(&id, sandbox.clone());
        assert!(pause.sandbox && pause.pod.as_ref() == Some(&sandbox.pod));

        let status = cri::ContainerStatus {
            id: "c".into(),
            metadata: Some(cri::ContainerMetadata { name: "hello".into(), attempt: 1 }),
            state: cri::ContainerState::ContainerExited.into(),
            started_at: 2_000,
            finished_at: 3_000,
            exit_code: 137,
            reason: "OOMKilled".into(),
            image: Some(cri::ImageSpec { image: "hello:1".into(), ..cri::ImageSpec::default() }),
            image_ref: "sha256:0".into(),
            labels: pairs(&[("io.kubernetes.container.name", "hello"), ("other", "x")]),
            ..cri::ContainerStatus::default()
        };
        let info = Info {
            env: vec!["SECRET=x".into(), "fprocess=y".into()],
            annotations: vec![("io.kubernetes.cri.container-type".into(), "container".into())],
            runtime_type: Some("io.containerd.kata.v2".into()),
            ..Info::default()
        };
        let told = container(status, info, Some(sandbox), &Keys::default()).expect("a container");
        assert_eq!((told.life, told.exit_code, told.oom), (Life::Ended, Some(137), true));
        assert_eq!((told.started_at, told.finished_at), (Some(Timestamp(2)), Some(Timestamp(3))));
        let container = told.container;
        assert_eq!((container.name.as_deref(), container.image.as_deref()), (Some("hello"), Some("hello:1")));
        assert_eq!((container.env.len(), container.labels.len(), container.annotations.len()), (1, 1, 1));
        assert_eq!(container.runtime_handler.as_deref(), Some("kata"));
        let pod = container.pod.expect("its pod");
        assert_eq!((pod.label("faas_function"), pod.label("secret")), (Some("hello"), None));
    }

    #[test]
    fn an_id_that_is_none_tells_of_nothing() {
        for id in [String::new(), "x".repeat(300)] {
            let status = cri::ContainerStatus { id: id.clone(), ..cri::ContainerStatus::default() };
            assert!(container(status, Info::default(), None, &Keys::default()).is_none());
            let status = cri::PodSandboxStatus { id, ..a_sandbox() };
            assert!(sandbox(status, &Keys::default()).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_bounded_containers_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), label: String, uid: String, long in 0..2_000_usize,
        ) {
            let mut status = a_sandbox();
            status.labels.insert("fnscope.function".into(), label.repeat(long / 4 + 1));
            status.metadata = Some(cri::PodSandboxMetadata { uid, ..Default::default() });
            let framed = cri::PodSandboxStatusResponse { status: Some(status), ..Default::default() }.encode_to_vec();
            for answer in [&bytes[..], &framed, &framed[..framed.len().min(long)], &[&framed[..], &bytes].concat()] {
                for container in containers_in(answer, &Keys::default()) {
                    prop_assert!(!container.id.is_empty() && container.id.len() <= Identity::MAX_NAME);
                    prop_assert_eq!(&kept(container.clone()), &container);
                }
                for listed in listed_in(answer) {
                    prop_assert!(!listed.id.0.is_empty() && listed.id.0.len() <= Identity::MAX_NAME);
                }
            }
        }
    }
}
