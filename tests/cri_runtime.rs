//! The CRI runtime against one that behaves as no real one can be made to: slow, silent, wrong, enormous, replaced. What it
//! does with a real one is in `agent_cri`.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fnscope::metrics::Metrics;
use fnscope::model::{Container, ContainerEvent, ContainerId};
use fnscope::runtime::cri::{CriOptions, ping, watch};
use fnscope::runtime::look_up::{Asker, look_ups};
use fnscope::runtime::socket::Socket;
use prost::Message as _;

use crate::odd_grpc::{INTERNAL, NOT_FOUND, OddGrpc, RESOURCE_EXHAUSTED, Reply};
use crate::private_containerd::cri;
use crate::support::poll;
use crate::watcher::{Watcher, reactor};

/// The runtime's watch, and how it is asked and what it counts.
struct Asked {
    watcher: Watcher,
    asker: Asker,
    metrics: Arc<Metrics>,
}

impl Asked {
    fn new(socket: &Path) -> Asked {
        let options = CriOptions {
            relist_every: Duration::from_secs(1),
            ..CriOptions::at(Socket::At(socket.to_owned()))
        };
        let metrics = Arc::new(Metrics::new(&["cri"]));
        let (asker, wanted) = look_ups(&metrics);
        let counted = metrics.clone();
        let watcher = Watcher::start("cri", move |sender, stopped| {
            let sink = |event| sender.send(event).expect("the test listens to the end");
            reactor().block_on(watch(&options, wanted, &counted, sink, async { drop(stopped.await) }));
        });
        Asked { watcher, asker, metrics }
    }

    fn known(&mut self, name: &str) -> Container {
        let name = id(name);
        let is_it =
            |event: &ContainerEvent| matches!(event, ContainerEvent::Known(known) if known.id == name);
        match self.wait("Known", is_it) {
            ContainerEvent::Known(container) => *container,
            other => panic!("{other:?}"),
        }
    }

    fn want(&self, name: &str) {
        let id = id(name);
        self.asker.begun(&ContainerId(id.as_str().into()), &format!("/kubepods/pod1/{id}"));
    }
}

impl Deref for Asked {
    type Target = Watcher;

    fn deref(&self) -> &Watcher {
        &self.watcher
    }
}

impl DerefMut for Asked {
    fn deref_mut(&mut self) -> &mut Watcher {
        &mut self.watcher
    }
}

/// An id of 64 hex digits that `name` gives.
fn id(name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")
}

fn version() -> Reply {
    let version = cri::VersionResponse {
        version: "0.1.0".into(),
        runtime_name: "cri-o".into(),
        runtime_version: "1.30.0".into(),
        runtime_api_version: "v1".into(),
    };
    Reply::Message(version.encode_to_vec())
}

fn list(names: &[&str]) -> Reply {
    let element = |name: &&str| cri::Container {
        id: id(name),
        pod_sandbox_id: id("sandbox"),
        state: cri::ContainerState::ContainerRunning.into(),
        ..cri::Container::default()
    };
    let list = cri::ListContainersResponse { containers: names.iter().map(element).collect() };
    Reply::Message(list.encode_to_vec())
}

fn no_pods() -> Reply {
    Reply::Message(cri::ListPodSandboxResponse::default().encode_to_vec())
}

/// The status of whatever is asked for: it runs, in a sandbox of its own.
fn status(message: &[u8]) -> Reply {
    status_in(cri::ContainerState::ContainerRunning, message)
}

fn status_in(state: cri::ContainerState, message: &[u8]) -> Reply {
    let asked = cri::ContainerStatusRequest::decode(message).expect("a request");
    let status = cri::ContainerStatus {
        id: asked.container_id.clone(),
        metadata: Some(cri::ContainerMetadata { name: "function".into(), attempt: 0 }),
        state: state.into(),
        started_at: 1_000_000,
        ..cri::ContainerStatus::default()
    };
    let info = format!(r#"{{"sandboxID":"{}","pid":4711}}"#, id("sandbox"));
    let info = [("info".to_owned(), info)].into();
    Reply::Message(cri::ContainerStatusResponse { status: Some(status), info }.encode_to_vec())
}

fn sandbox(message: &[u8], labels: &[(&str, &str)]) -> Reply {
    let asked = cri::PodSandboxStatusRequest::decode(message).expect("a request");
    if asked.pod_sandbox_id != id("sandbox") {
        return Reply::Fault(NOT_FOUND, "no such sandbox");
    }
    let status = cri::PodSandboxStatus {
        id: asked.pod_sandbox_id,
        metadata: Some(cri::PodSandboxMetadata {
            name: "hello-1".into(),
            namespace: "demo".into(),
            uid: "u".into(),
            attempt: 0,
        }),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..cri::PodSandboxStatus::default()
    };
    let response = cri::PodSandboxStatusResponse { status: Some(status), ..Default::default() };
    Reply::Message(response.encode_to_vec())
}

/// What a runtime in order answers, with `containers` in its list.
fn in_order(containers: &'static [&'static str]) -> impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static {
    move |method, message| match method.rsplit('/').next().unwrap_or_default() {
        "Version" => version(),
        "ListPodSandbox" => no_pods(),
        "ListContainers" => list(containers),
        "ContainerStatus" => status(message),
        "PodSandboxStatus" => sandbox(message, &[("fnscope.function", "hello")]),
        other => panic!("{other} is not asked for"),
    }
}

/// A runtime in order but for `method`, which is answered by `odd`.
fn odd(
    method: &'static str,
    containers: &'static [&'static str],
    odd: impl Fn(&[u8]) -> Reply + Send + Sync + 'static,
) -> impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static {
    let others = in_order(containers);
    move |asked, message| {
        if asked.ends_with(&format!("/{method}")) { odd(message) } else { others(asked, message) }
    }
}

fn socket() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("make a folder");
    let socket = dir.path().join("cri.sock");
    (dir, socket)
}

#[test]
fn one_that_is_wanted_is_named_with_its_pod_and_one_nobody_knows_is_left() {
    let (_dir, socket) = socket();
    let unknown = id("unknown");
    let server = OddGrpc::start(
        &socket,
        odd("ContainerStatus", &[], move |message| {
            let asked = cri::ContainerStatusRequest::decode(message).expect("a request");
            if asked.container_id == unknown { Reply::Fault(NOT_FOUND, "none") } else { status(message) }
        }),
    );
    assert_eq!(
        reactor().block_on(ping(&CriOptions::at(Socket::At(socket.clone())))).unwrap(),
        "cri-o 1.30.0"
    );
    let mut watcher = Asked::new(&socket);
    watcher.up();
    watcher.want("unknown");
    watcher.want("a");
    let container = watcher.known("a");
    let pod = container.pod.expect("its pod is known");
    assert_eq!((pod.name.as_str(), pod.namespace.as_str(), pod.uid.as_str()), ("hello-1", "demo", "u"));
    assert_eq!(pod.label("fnscope.function"), Some("hello"));
    poll("the end of asking", || (watcher.metrics.look_ups_unknown.get() == 1).then_some(()));
    assert_eq!(watcher.metrics.look_ups_faults.get(), 0);
    assert!(server.asked("ContainerStatus") > 5, "it was asked for again and again");
    assert_eq!(server.asked("GetContainerEvents"), 0, "the kubelet's events are left to it");
}

#[test]
fn ten_thousand_containers_are_all_told() {
    const COUNT: usize = 10_000;
    let (_dir, socket) = socket();
    let names: Vec<String> = (0..COUNT).map(|number| format!("c{number}")).collect();
    let _server = OddGrpc::start(
        &socket,
        odd("ListContainers", &[], move |_| list(&names.iter().map(String::as_str).collect::<Vec<_>>())),
    );
    let mut watcher = Asked::new(&socket);
    watcher.up();
    let known = watcher.seen.iter().filter(|event| matches!(event, ContainerEvent::Known(_))).count();
    assert_eq!((known, watcher.metrics.look_ups_refused.get()), (COUNT, 0));
}

#[test]
fn a_list_that_is_too_large_leaves_asking_for_one_by_one() {
    let (_dir, socket) = socket();
    let _server = OddGrpc::start(&socket, odd("ListContainers", &[], |_| Reply::Message(vec![0; 40 << 20])));
    let mut watcher = Asked::new(&socket);
    watcher.up();
    watcher.want("a");
    watcher.known("a");
    assert!(watcher.metrics.look_ups_faults.get() >= 1);
}

#[test]
fn where_a_runtime_refuses_to_send_its_list_what_ended_is_forgotten_all_the_same() {
    let (_dir, socket) = socket();
    let has_ended = Arc::new(AtomicBool::new(false));
    let (ended, others) = (has_ended.clone(), in_order(&[]));
    let server = OddGrpc::start(&socket, move |method, message| match method {
        _ if method.ends_with("/ListContainers") => {
            Reply::Fault(RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max")
        }
        _ if method.ends_with("/ContainerStatus") && ended.load(Ordering::SeqCst) => {
            status_in(cri::ContainerState::ContainerExited, message)
        }
        _ => others(method, message),
    });
    let mut watcher = Asked::new(&socket);
    watcher.up();
    watcher.want("a");
    watcher.known("a");
    // Of what lives it goes on to ask: nobody has told us that its cgroup is gone.
    has_ended.store(true, Ordering::SeqCst);
    let a = id("a");
    watcher.wait("Exited", |event| matches!(event, ContainerEvent::Exited { id, .. } if *id.0 == *a));
    watcher.wait("Gone", |event| matches!(event, ContainerEvent::Gone { id, .. } if *id.0 == *a));
    assert!(server.asked("PodSandboxStatus") > 1, "what is known of its pod is not kept for ever either");
    assert!(watcher.metrics.look_ups_faults.get() >= 3, "each list is counted");
}

#[test]
fn labels_of_any_size_are_cut() {
    let (_dir, socket) = socket();
    let long: &'static str = "x".repeat(256 << 10).leak();
    let labels = [("fnscope.function", long), (long, "x"), ("other", long)];
    let _server =
        OddGrpc::start(&socket, odd("PodSandboxStatus", &[], move |message| sandbox(message, &labels)));
    let mut watcher = Asked::new(&socket);
    watcher.up();
    watcher.want("a");
    let pod = watcher.known("a").pod.expect("its pod is known");
    assert_eq!(pod.labels.len(), 1);
    assert!(pod.label("fnscope.function").is_some_and(|value| value.len() < 300));
}

#[test]
fn a_slow_runtime_counts_as_down_and_its_answer_is_taken_all_the_same() {
    let (_dir, socket) = socket();
    let slow = |message: &[u8]| Reply::Late(Duration::from_secs(10), Box::new(status(message)));
    let _server = OddGrpc::start(&socket, odd("ContainerStatus", &[], slow));
    let mut watcher = Asked::new(&socket);
    watcher.up();
    let began = Instant::now();
    watcher.want("a");
    watcher.down();
    assert!(began.elapsed() < Duration::from_secs(8), "before anything is decided without it");
    watcher.known("a");
    watcher.up();
}

#[test]
fn silence_is_no_hang() {
    let (_dir, socket) = socket();
    let _server = OddGrpc::start(&socket, odd("ListPodSandbox", &[], |_| Reply::Silence));
    let watcher = Asked::new(&socket);
    poll("the question", || (_server.asked("ListPodSandbox") == 1).then_some(()));
    // Its end is awaited as it is dropped.
    drop(watcher);
}

#[test]
fn garbage_of_every_kind_is_counted_and_the_rest_goes_on() {
    let answers: [(&'static str, Reply); 5] = [
        ("ContainerStatus", Reply::Bytes(vec![0xff; 100])),
        ("ContainerStatus", Reply::Message(vec![0xff; 100])),
        ("ContainerStatus", Reply::Fault(INTERNAL, "a disk is broken")),
        ("PodSandboxStatus", Reply::Message(vec![])),
        ("PodSandboxStatus", Reply::Fault(INTERNAL, "a disk is broken")),
    ];
    for (method, reply) in answers {
        let (_dir, socket) = socket();
        let said = format!("{method} {reply:?}");
        let _server = OddGrpc::start(&socket, odd(method, &[], move |_| reply.clone()));
        let mut watcher = Asked::new(&socket);
        watcher.up();
        watcher.want("a");
        poll(&said, || (watcher.metrics.look_ups_faults.get() >= 2).then_some(()));
        if method == "PodSandboxStatus" {
            assert_eq!(watcher.known("a").pod, None, "{said}: named without its pod at last");
        }
    }
}

#[test]
fn a_pod_that_is_removed_between_question_and_answer_is_said_and_counted() {
    let (_dir, socket) = socket();
    let gone = |_: &[u8]| Reply::Fault(NOT_FOUND, "no such sandbox");
    let _server = OddGrpc::start(&socket, odd("PodSandboxStatus", &[], gone));
    let mut watcher = Asked::new(&socket);
    watcher.up();
    watcher.want("a");
    assert_eq!(watcher.known("a").pod, None);
    poll("the count", || (watcher.metrics.look_ups_without_pod.get() == 1).then_some(()));
}

#[test]
fn another_socket_in_its_place_is_found_though_the_old_one_answers() {
    let (_dir, socket) = socket();
    let mut old = OddGrpc::start(&socket, in_order(&["old"]));
    let mut watcher = Asked::new(&socket);
    watcher.known("old");
    watcher.up();
    old.leave_socket();
    let _new = OddGrpc::start(&socket, in_order(&["new"]));
    watcher.down();
    watcher.known("new");
    watcher.up();
    let gone = |event: &ContainerEvent| matches!(event, ContainerEvent::Gone { id, .. } if *id.0 == *crate::cri_runtime::id("old"));
    assert!(watcher.seen.iter().any(gone), "{:#?}", watcher.seen);
}

#[test]
fn one_that_speaks_something_else_is_told_and_tried_again() {
    let (_dir, socket) = socket();
    let listener = UnixListener::bind(&socket).expect("bind a socket");
    let babbler = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().expect("accept");
            // It may be closed already.
            let _ = stream.write_all(&[0x5a; 4096]);
        }
    });
    let mut watcher = Asked::new(&socket);
    watcher.down();
    babbler.join().expect("it was connected to again and again");
    let error = reactor().block_on(ping(&CriOptions::at(Socket::At(socket))));
    assert!(error.is_err());
}
