//! containerd's runtime against one that behaves as no real one can be made to: silent, faulty, with shims that are late
//! and images that hide their labels. What it does with a real one is in `agent_containerd`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use fnscope::identity::{IdentityConfig, identify};
use fnscope::model::{Container, ContainerEvent};
use fnscope::runtime::containerd::{ContainerdOptions, RUNTIME, watch};
use fnscope::runtime::grpc::containerd::events::{ContainerCreate, TaskCreate, TaskStart};
use fnscope::runtime::grpc::containerd::services::containers::v1::{
    Container as Record, GetContainerRequest, GetContainerResponse, ListContainerMessage,
};
use fnscope::runtime::grpc::containerd::services::content::v1::{ReadContentRequest, ReadContentResponse};
use fnscope::runtime::grpc::containerd::services::images::v1::{GetImageRequest, GetImageResponse, Image};
use fnscope::runtime::grpc::containerd::services::namespaces::v1::{ListNamespacesResponse, Namespace};
use fnscope::runtime::grpc::containerd::services::tasks::v1::{GetResponse, ListTasksResponse};
use fnscope::runtime::grpc::containerd::services::version::v1::VersionResponse;
use fnscope::runtime::grpc::containerd::types::{Descriptor, Envelope};
use fnscope::runtime::grpc::containerd::v1::types::{Process, Status};
use fnscope::runtime::socket::Socket;
use prost::Message;
use prost_types::{Any, Timestamp};

use crate::odd_grpc::{Feed, INTERNAL, NOT_FOUND, OddGrpc, Reply, feed};
use crate::support::poll;
use crate::watcher::{Watcher, reactor};

const NAMESPACE: &str = "functions";

fn start(socket: &Path, relist_every: Duration) -> Watcher {
    let socket = Socket::At(socket.to_owned());
    let options = ContainerdOptions { relist_every, ..ContainerdOptions::at(RUNTIME, socket) };
    Watcher::start(RUNTIME, move |sender, stopped| {
        let sink = |event| sender.send(event).expect("the test listens to the end");
        reactor().block_on(watch(&options, sink, async { drop(stopped.await) }));
    })
}

/// Long enough for no list but those that something asks for.
const NEVER: Duration = Duration::from_secs(3600);

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("make a folder");
    let socket = dir.path().join("containerd.sock");
    (dir, socket)
}

fn known(watcher: &mut Watcher, id: &str) -> Container {
    let is_it = |event: &ContainerEvent| matches!(event, ContainerEvent::Known(known) if known.id == id);
    match watcher.wait("Known", is_it) {
        ContainerEvent::Known(container) => *container,
        other => panic!("{other:?}"),
    }
}

fn message(message: &impl Message) -> Reply {
    Reply::Messages(vec![message.encode_to_vec()])
}

fn record(id: &str) -> Record {
    Record {
        id: id.into(),
        image: format!("localhost/{id}:1"),
        created_at: Some(Timestamp { seconds: 1_000, nanos: 0 }),
        ..Record::default()
    }
}

fn list(records: &[Record]) -> Reply {
    let element = |record: &Record| ListContainerMessage { container: Some(record.clone()) }.encode_to_vec();
    Reply::Messages(records.iter().map(element).collect())
}

fn task(id: &str, status: Status, pid: u32) -> Process {
    Process { id: id.into(), status: status.into(), pid, ..Process::default() }
}

fn event(namespace: &str, topic: &str, event: &impl Message) -> Vec<u8> {
    let event = Any { type_url: String::new(), value: event.encode_to_vec() };
    let timestamp = Some(Timestamp { seconds: 2_000, nanos: 0 });
    Envelope { timestamp, namespace: namespace.into(), topic: topic.into(), event: Some(event) }
        .encode_to_vec()
}

fn created(id: &str) -> Vec<u8> {
    let created = ContainerCreate { id: id.into(), image: format!("localhost/{id}:1"), ..Default::default() };
    event(NAMESPACE, "/containers/create", &created)
}

/// What a containerd in order answers, with `records` in its one namespace, none of which runs; by the method's last two
/// words. Its events are those of `events`.
fn in_order(method: &str, asked: &[u8], records: &[Record], events: &Feed) -> Reply {
    match method {
        "Version/Version" => message(&VersionResponse { version: "1.6.0".into(), ..Default::default() }),
        "Namespaces/List" => {
            let namespace = Namespace { name: NAMESPACE.into(), ..Namespace::default() };
            message(&ListNamespacesResponse { namespaces: vec![namespace] })
        }
        "Containers/ListStream" => list(records),
        "Containers/Get" => {
            let asked = GetContainerRequest::decode(asked).expect("a request");
            match records.iter().find(|record| record.id == asked.id) {
                Some(record) => message(&GetContainerResponse { container: Some(record.clone()) }),
                None => Reply::Fault(NOT_FOUND, "no such container"),
            }
        }
        "Tasks/List" => message(&ListTasksResponse::default()),
        "Tasks/Get" => Reply::Fault(NOT_FOUND, "no such task"),
        "Events/Subscribe" => Reply::Feed(events.clone()),
        other => panic!("{other} is not asked for"),
    }
}

/// Starts it; `answers` gets the method's last two words.
fn serve(socket: &Path, answers: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> OddGrpc {
    OddGrpc::start(socket, move |path, asked| {
        answers(path.rsplit_once('.').map_or(path, |(_, method)| method), asked)
    })
}

fn is_down(event: &ContainerEvent) -> bool {
    matches!(event, ContainerEvent::Down { .. })
}

#[test]
fn whom_nobody_tells_of_in_time_is_not_nobodys_and_is_found_by_a_list() {
    let (_dir, socket) = socket();
    let (sender, events) = feed();
    let stage = Arc::new(AtomicU8::new(0));
    let at = stage.clone();
    let _server = serve(&socket, move |method, asked| match (method, at.load(Ordering::SeqCst)) {
        ("Containers/Get", 1) => Reply::Silence,
        ("Containers/Get", _) => Reply::Fault(INTERNAL, "odd"),
        ("Containers/ListStream", 1) => list(&[record("late")]),
        ("Containers/ListStream", 2) => list(&[record("late"), record("faulty")]),
        _ => in_order(method, asked, &[], &events),
    });
    let mut watcher = start(&socket, NEVER);
    watcher.up();
    stage.store(1, Ordering::SeqCst);
    sender.send(created("late")).expect("it listens");
    watcher.down();
    assert!(
        !watcher.seen.iter().any(|event| matches!(event, ContainerEvent::Known(_))),
        "{:?}",
        watcher.seen
    );
    known(&mut watcher, "late");
    watcher.up();
    // A fault is told at once: the next list makes it good before anybody is missed.
    watcher.seen.clear();
    stage.store(2, Ordering::SeqCst);
    sender.send(created("faulty")).expect("it listens");
    known(&mut watcher, "faulty");
    assert!(!watcher.seen.iter().any(is_down), "{:?}", watcher.seen);
}

#[test]
fn whose_shim_is_late_has_not_ended() {
    let (_dir, socket) = socket();
    let (_sender, events) = feed();
    let stage = Arc::new(AtomicU8::new(0));
    let at = stage.clone();
    let server = serve(&socket, move |method, asked| match (method, at.load(Ordering::SeqCst)) {
        ("Tasks/List", 0) => {
            message(&ListTasksResponse { tasks: vec![task("f", Status::Running, std::process::id())] })
        }
        // A task whose shim does not answer is left out of the list.
        ("Tasks/Get", 1) => message(&GetResponse { process: Some(task("f", Status::Unknown, 0)) }),
        ("Tasks/Get", 2) => {
            let ended = Process { exit_status: 3, ..task("f", Status::Stopped, 0) };
            message(&GetResponse { process: Some(ended) })
        }
        _ => in_order(method, asked, &[record("f")], &events),
    });
    let mut watcher = start(&socket, Duration::from_secs(1));
    watcher.up();
    let run = known_run(&watcher);
    assert!(run.is_some_and(|run| run.starts_with(&format!("{}+", std::process::id()))));
    stage.store(1, Ordering::SeqCst);
    poll("its shim is asked for twice", || {
        (server.asked("containerd.services.tasks.v1.Tasks/Get") >= 2).then_some(())
    });
    stage.store(2, Ordering::SeqCst);
    let ended = watcher.wait("Exited", |event| matches!(event, ContainerEvent::Exited { .. }));
    assert!(matches!(ended, ContainerEvent::Exited { exit_code: Some(3), .. }), "{ended:?}");
}

/// The run of who was told last.
fn known_run(watcher: &Watcher) -> Option<String> {
    let known = watcher.seen.iter().rev().find_map(|event| match event {
        ContainerEvent::Known(container) => Some(container),
        _ => None,
    });
    known.and_then(|container| container.task.clone())
}

#[test]
fn tasks_that_are_made_in_other_namespaces_take_no_place() {
    let (_dir, socket) = socket();
    let (sender, events) = feed();
    let _server = serve(&socket, move |method, asked| match method {
        "Containers/ListStream" => list(&[]),
        _ => in_order(method, asked, &[record("short"), record("other")], &events),
    });
    let mut watcher = start(&socket, NEVER);
    watcher.up();
    // Docker's, which never start as far as anybody listens: more than are remembered.
    for n in 0..5_000 {
        let made = TaskCreate { container_id: format!("{n:064x}"), pid: 1, ..TaskCreate::default() };
        sender.send(event("moby", "/tasks/create", &made)).expect("it listens");
    }
    let mut process = Command::new("sleep").arg("90").spawn().expect("run a process");
    let pid = process.id();
    sender.send(created("short")).expect("it listens");
    let made = TaskCreate { container_id: "short".into(), pid, ..TaskCreate::default() };
    sender.send(event(NAMESPACE, "/tasks/create", &made)).expect("it listens");
    // Events come in order: when this one is known, the making before it was heard.
    sender.send(created("other")).expect("it listens");
    known(&mut watcher, "other");
    process.kill().and_then(|()| process.wait()).expect("end the process");
    // It is over when its start is told.
    let started = TaskStart { container_id: "short".into(), pid };
    sender.send(event(NAMESPACE, "/tasks/start", &started)).expect("it listens");
    let has_run =
        |event: &ContainerEvent| matches!(event, ContainerEvent::Known(known) if known.task.is_some());
    watcher.wait("Known with its run", has_run);
    let run = known_run(&watcher).expect("it was told");
    assert!(run.starts_with(&format!("{pid}+")), "{run}");
}

/// A record whose one label is what a function is named by.
fn labelled(id: &str) -> Record {
    Record { labels: [("fnscope.function".to_owned(), id.to_owned())].into(), ..record(id) }
}

#[test]
fn images_that_nobody_tells_of_hold_up_a_list_for_seconds_and_name_nothing() {
    let (_dir, socket) = socket();
    let (_sender, events) = feed();
    // One after the other they would take longer than anybody waits here.
    let records: Vec<Record> = (0..14).map(|n| labelled(&format!("f{n}"))).collect();
    let count = records.len();
    let _server = serve(&socket, move |method, asked| match method {
        "Images/Get" => Reply::Silence,
        _ => in_order(method, asked, &records, &events),
    });
    let mut watcher = start(&socket, NEVER);
    watcher.up();
    let functions = functions(&watcher);
    assert_eq!(functions.len(), count);
    assert!(functions.values().all(Option::is_none), "{functions:?}");
}

/// What everybody who was told is named.
fn functions(watcher: &Watcher) -> BTreeMap<String, Option<String>> {
    let known = watcher.seen.iter().filter_map(|event| match event {
        ContainerEvent::Known(container) => Some(&**container),
        _ => None,
    });
    let named = |container: &Container| identify(container, &IdentityConfig::default()).identity.function;
    known.map(|container| (container.id.clone(), named(container))).collect()
}

/// A container with a label that it is named by, and how its image is built.
struct Case {
    id: &'static str,
    /// The image that its name leads to, and what lies behind: blobs by their digests' last digits.
    blobs: &'static [(&'static str, &'static str)],
    /// The configuration that the CRI has noted.
    noted: Option<&'static str>,
    /// Whether the label counts as the operator's.
    is_named: bool,
}

/// `{L}` is the label that names the container, as the image carries it.
const IMAGES: &[Case] = &[
    Case {
        id: "own",
        blobs: &[("", r#"{"config":{"digest":"sha256:{D}1"}}"#), ("1", r#"{"config":{"Labels":{"a":"b"}}}"#)],
        noted: None,
        is_named: true,
    },
    Case {
        id: "carried",
        blobs: &[("", r#"{"config":{"digest":"sha256:{D}1"}}"#), ("1", r#"{"config":{"Labels":{{L}}}}"#)],
        noted: None,
        is_named: false,
    },
    Case {
        id: "several-of-which-one-was-fetched",
        blobs: &[
            (
                "",
                r#"{"manifests":[{"digest":"sha256:{D}8","platform":{"architecture":"s390x","os":"linux"}},
                    {"digest":"sha256:{D}1","platform":{"architecture":"amd64","os":"linux"}},
                    {"digest":"sha256:{D}9","platform":{"architecture":"unknown","os":"unknown"}}]}"#,
            ),
            ("1", r#"{"config":{"digest":"sha256:{D}2"}}"#),
            ("2", r#"{"config":{}}"#),
            ("9", "no manifest"),
        ],
        noted: None,
        is_named: true,
    },
    Case {
        id: "behind-one-that-never-runs-here",
        blobs: &[
            (
                "",
                r#"{"manifests":[{"digest":"sha256:{D}8","platform":{"architecture":"amd64","os":"windows"}},
                    {"digest":"sha256:{D}3","platform":{"architecture":"amd64","os":"linux","variant":"v4"}},
                    {"digest":"sha256:{D}1","platform":{"architecture":"x86_64","os":""}}]}"#,
            ),
            ("1", r#"{"config":{"digest":"sha256:{D}2"}}"#),
            ("2", r#"{"config":{"Labels":{{L}}}}"#),
            ("8", r#"{"config":{"digest":"sha256:{D}9"}}"#),
            ("9", r#"{"config":{}}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "behind-one-with-other-labels",
        blobs: &[
            ("", r#"{"manifests":[{"digest":"sha256:{D}8"},{"digest":"sha256:{D}1"}]}"#),
            ("1", r#"{"config":{"digest":"sha256:{D}2"}}"#),
            ("2", r#"{"config":{"Labels":{{L}}}}"#),
            ("8", r#"{"config":{"digest":"sha256:{D}9"}}"#),
            ("9", r#"{"config":{}}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "in-an-index-in-an-index",
        blobs: &[
            ("", r#"{"manifests":[{"digest":"sha256:{D}1"}]}"#),
            ("1", r#"{"manifests":[{"digest":"sha256:{D}2"}]}"#),
            ("2", r#"{"manifests":[{"digest":"sha256:{D}3"}]}"#),
            ("3", r#"{"config":{"digest":"sha256:{D}4"}}"#),
            ("4", r#"{"config":{"Labels":{{L}}}}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "beside-a-digest",
        blobs: &[
            ("", r#"{"config":{"digest":"sha256:{D}1"}}"#),
            ("1", r#"{"config":{"digest":"sha256:{D}2","Labels":{{L}}}}"#),
            ("2", r#"{"config":{}}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "said-twice",
        blobs: &[
            ("", r#"{"config":{"digest":"sha256:{D}1"}}"#),
            ("1", r#"{"config":{"Labels":{}},"CONFIG":{"labels":{{L}}}}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "too-large",
        blobs: &[
            ("", r#"{"config":{"digest":"sha256:{D}1"}}"#),
            ("1", r#"{"config":{"Labels":{{L}}},"author":"{A}"}"#),
        ],
        noted: None,
        is_named: false,
    },
    Case {
        id: "gone",
        blobs: &[("", r#"{"config":{"digest":"sha256:{D}1"}}"#)],
        noted: None,
        is_named: false,
    },
    Case {
        id: "noted-and-carried",
        blobs: &[
            ("", r#"{"config":{"digest":"sha256:{D}1"}}"#),
            ("1", r#"{"config":{}}"#),
            ("2", r#"{"config":{"Labels":{{L}}}}"#),
        ],
        noted: Some("2"),
        is_named: false,
    },
    Case {
        id: "noted-and-own",
        blobs: &[
            ("", r#"{"config":{"digest":"sha256:{D}1"}}"#),
            ("1", r#"{"config":{"Labels":{{L}}}}"#),
            ("2", r#"{"config":{}}"#),
        ],
        noted: Some("2"),
        is_named: true,
    },
];

impl Case {
    /// What its digests begin with.
    fn prefix(&self) -> String {
        self.id.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    fn record(&self) -> Record {
        let noted = self.noted.map(|digest| {
            let text =
                format!(r#"{{"Metadata":{{"ImageRef":"sha256:{}{digest}","Config":{{}}}}}}"#, self.prefix());
            (
                "io.cri-containerd.container.metadata".to_owned(),
                Any { type_url: String::new(), value: text.into_bytes() },
            )
        });
        Record { extensions: noted.into_iter().collect(), ..labelled(self.id) }
    }

    fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let rest = digest.strip_prefix("sha256:")?.strip_prefix(&self.prefix())?;
        let (_, text) = self.blobs.iter().find(|(digits, _)| *digits == rest)?;
        let text = text.replace("{D}", &self.prefix());
        let text = text.replace("{L}", &format!(r#""fnscope.function":"{}""#, self.id));
        Some(text.replace("{A}", &"a".repeat(1 << 20)).into_bytes())
    }
}

/// A label that an image carries, or may carry, names nothing, however the image is built; and one that it does not carry
/// does.
#[test]
fn an_image_that_hides_its_labels_names_nothing() {
    let (_dir, socket) = socket();
    let (_sender, events) = feed();
    let records: Vec<Record> = IMAGES.iter().map(Case::record).collect();
    let _server = serve(&socket, move |method, asked| match method {
        "Images/Get" => {
            let asked = GetImageRequest::decode(asked).expect("a request");
            let case = IMAGES.iter().find(|case| asked.name == format!("localhost/{}:1", case.id));
            let digest = format!("sha256:{}", case.expect("an image of these").prefix());
            let target = Some(Descriptor { digest, ..Descriptor::default() });
            message(&GetImageResponse { image: Some(Image { name: asked.name, target, ..Image::default() }) })
        }
        "Content/Read" => {
            let asked = ReadContentRequest::decode(asked).expect("a request");
            match IMAGES.iter().find_map(|case| case.blob(&asked.digest)) {
                Some(data) => message(&ReadContentResponse { offset: 0, data }),
                None => Reply::Fault(NOT_FOUND, "no such content"),
            }
        }
        _ => in_order(method, asked, &records, &events),
    });
    let mut watcher = start(&socket, NEVER);
    watcher.up();
    let functions = functions(&watcher);
    for case in IMAGES {
        let expected = case.is_named.then(|| case.id.to_owned());
        assert_eq!(functions.get(case.id), Some(&expected), "{}", case.id);
    }
}
