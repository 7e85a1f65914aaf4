//! What containerd tells of containers and tasks, as the book takes it. Pure.
//!
//! Ids are `namespace/id` here, see [`id`]. Promises: no bytes make it panic; an event that is not understood is none.

use prost::Message as _;

use super::record::{Namespace, described, ordered, time};
use crate::identity::{Keys, kept_with};
use crate::model::{Container, ContainerId, Identity, Pid, Timestamp};
use crate::runtime::book::{Action, Event};
use crate::runtime::grpc::containerd::events::{
    ContainerCreate, ContainerDelete, ContainerUpdate, TaskCreate, TaskExit, TaskOom, TaskPaused,
    TaskResumed, TaskStart,
};
use crate::runtime::grpc::containerd::types::Envelope;

/// What is subscribed to: everything in a container's life, and no execs in it.
pub const TOPICS: &str =
    r#"topic~="^/(containers/(create|update|delete)|tasks/(create|start|exit|oom|paused|resumed))$""#;

/// Container `id` of `namespace`, for the book: names are used in several namespaces. None where either is no identifier.
pub fn id(namespace: &str, id: &str) -> Option<ContainerId> {
    let is_identifier =
        |text: &str| !text.is_empty() && text.len() <= Identity::MAX_NAME && !text.contains('/');
    (is_identifier(namespace) && is_identifier(id)).then(|| ContainerId(format!("{namespace}/{id}").into()))
}

/// The parts of such an id.
pub fn parts(id: &ContainerId) -> Option<(&str, &str)> {
    id.0.split_once('/')
}

/// The first process of a task that is being made, and whose it is: it has not run the program yet.
pub fn newborn(envelope: &Envelope) -> Option<(ContainerId, Pid)> {
    let event = envelope.event.as_ref().filter(|_| envelope.topic == "/tasks/create")?;
    let created = TaskCreate::decode(event.value.as_slice()).ok().filter(|created| created.pid > 0)?;
    Some((id(&envelope.namespace, &created.container_id)?, Pid(created.pid)))
}

/// What `envelope` tells; none for what is no event of a container's life.
pub fn event(envelope: Envelope, namespace: &Namespace, keys: &Keys) -> Option<Event> {
    let stamp = envelope.timestamp.as_ref()?;
    let time_ns = stamp.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(stamp.nanos))?;
    let mut at = Timestamp(time_ns.div_euclid(1000));
    let bytes = envelope.event?.value;
    let bytes = bytes.as_slice();
    let (mut pid, mut exit_code) = (None, None);
    let mut container = Container::default();
    let (name, action) = match envelope.topic.as_str() {
        "/containers/create" => {
            let created = ContainerCreate::decode(bytes).ok()?;
            container = described(&created.id, created.image, namespace);
            container.created_at = Some(at);
            container.runtime_handler = created.runtime.map(|runtime| runtime.name);
            (created.id, Action::Create)
        }
        "/containers/update" => {
            let updated = ContainerUpdate::decode(bytes).ok()?;
            container = described(&updated.id, updated.image, namespace);
            container.labels = ordered(updated.labels);
            (updated.id, Action::Update)
        }
        "/containers/delete" => (ContainerDelete::decode(bytes).ok()?.id, Action::Destroy),
        "/tasks/start" => {
            let started = TaskStart::decode(bytes).ok()?;
            pid = Some(Pid(started.pid)).filter(|pid| pid.0 > 0);
            (started.container_id, Action::Start)
        }
        "/tasks/exit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            // Of a process that was started in the container later.
            if exit.id != exit.container_id {
                return None;
            }
            exit_code = i32::try_from(exit.exit_status).ok();
            at = exit.exited_at.as_ref().and_then(time).unwrap_or(at);
            (exit.container_id, Action::Die)
        }
        "/tasks/oom" => (TaskOom::decode(bytes).ok()?.container_id, Action::Oom),
        "/tasks/paused" => (TaskPaused::decode(bytes).ok()?.container_id, Action::Pause),
        "/tasks/resumed" => (TaskResumed::decode(bytes).ok()?.container_id, Action::Unpause),
        _ => return None,
    };
    if container.id.is_empty() {
        container = described(&name, String::new(), namespace);
    }
    let id = id(&namespace.name, &name)?;
    let described = kept_with(container, keys);
    // No label is in it, and no environment.
    Some(Event { id, action, at, time_ns, pid, exit_code, described, is_sketch: true })
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    fn envelope(topic: &str, event: &impl prost::Message) -> Envelope {
        let event = Any { type_url: String::new(), value: event.encode_to_vec() };
        let timestamp = Some(prost_types::Timestamp { seconds: 10, nanos: 5_000 });
        Envelope { timestamp, namespace: "ns".into(), topic: topic.into(), event: Some(event) }
    }

    fn heard(topic: &str, message: &impl prost::Message) -> Option<Event> {
        let namespace = Namespace { name: "ns".into(), labels: vec![("openfaas".into(), "true".into())] };
        event(envelope(topic, message), &namespace, &Keys::default())
    }

    #[test]
    fn a_life_is_told() {
        let create = ContainerCreate { id: "f".into(), image: "i:1".into(), ..ContainerCreate::default() };
        let created = heard("/containers/create", &create).expect("an event");
        assert_eq!((&*created.id.0, created.action, created.at.0), ("ns/f", Action::Create, 10_000_005));
        assert_eq!(created.described.image.as_deref(), Some("i:1"));
        assert_eq!(created.described.runtime_namespace_labels.len(), 1);
        assert_eq!(parts(&created.id), Some(("ns", "f")));
        let start = TaskStart { container_id: "f".into(), pid: 7 };
        let started = heard("/tasks/start", &start).expect("an event");
        assert_eq!((started.action, started.pid), (Action::Start, Some(Pid(7))));
        let create = TaskCreate { container_id: "f".into(), pid: 7, ..TaskCreate::default() };
        let made = envelope("/tasks/create", &create);
        assert_eq!(newborn(&made).map(|(id, pid)| (id.to_string(), pid)), Some(("ns/f".into(), Pid(7))));
        assert!(
            heard("/tasks/create", &create).is_none()
                && newborn(&envelope("/tasks/start", &create)).is_none()
        );
        let exited_at = Some(prost_types::Timestamp { seconds: 9, nanos: 0 });
        let exit = TaskExit { container_id: "f".into(), id: "f".into(), pid: 7, exit_status: 137, exited_at };
        let exited = heard("/tasks/exit", &exit).expect("an event");
        assert_eq!((exited.action, exited.exit_code, exited.at.0), (Action::Die, Some(137), 9_000_000));
        // A process of an exec is no end of the container.
        assert!(heard("/tasks/exit", &TaskExit { id: "exec-1".into(), ..exit }).is_none());
        for (topic, action) in [
            ("/tasks/oom", Action::Oom),
            ("/tasks/paused", Action::Pause),
            ("/tasks/resumed", Action::Unpause),
        ] {
            let told = heard(topic, &TaskOom { container_id: "f".into() }).expect("an event");
            assert_eq!(told.action, action);
        }
        let gone = heard("/containers/delete", &ContainerDelete { id: "f".into() }).expect("an event");
        assert_eq!(gone.action, Action::Destroy);
        for (topic, name) in [("/tasks/delete", "f"), ("/tasks/oom", ""), ("/tasks/oom", "../x"), ("", "f")] {
            assert!(heard(topic, &TaskOom { container_id: name.into() }).is_none(), "{topic} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_event_is_survived(
            topic in "/(containers|tasks)/(create|update|delete|start|exit|oom|paused)", value: Vec<u8>, seconds: i64, nanos: i32,
        ) {
            let event_of = Any { type_url: String::new(), value };
            let timestamp = Some(prost_types::Timestamp { seconds, nanos });
            let envelope = Envelope { timestamp, namespace: "n".into(), topic, event: Some(event_of) };
            let namespace = Namespace { name: "n".into(), labels: vec![] };
            if let Some(event) = event(envelope, &namespace, &Keys::default()) {
                proptest::prop_assert!(parts(&event.id).is_some() && event.described.id.len() <= Identity::MAX_NAME);
            }
        }
    }
}
