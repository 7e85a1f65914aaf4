//! A runtime that is odd: slow, silent, in pieces, talking nonsense, or with more than anybody would believe. Judged is
//! always the same: what can be known is told, what was odd is counted, and nothing ever hangs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fnscope::identity::{IdentityConfig, identify};
use fnscope::model::{Container, ContainerEvent, Oddity};
use fnscope::runtime::docker::{DockerOptions, watch};
use serde_json::{Value, json};

use crate::agent_health::{metrics, start};
use crate::odd_docker::{OddDocker, Reply};
use crate::support::{Fnscope, poll};
use crate::watcher::{Watcher, reactor};

fn id(n: usize) -> String {
    format!("{n:064x}")
}

fn labels(n: usize) -> Value {
    json!({ "fnscope.function": format!("f{n}") })
}

fn listed(n: usize) -> Value {
    json!({ "Id": id(n), "Names": [format!("/c{n}")], "Image": "i", "Labels": labels(n), "State": "running" })
}

fn inspected(n: usize) -> Value {
    json!({
        "Id": id(n), "Name": format!("/c{n}"), "Config": { "Image": "i", "Labels": labels(n), "Env": ["A=b"] },
        "State": { "Running": true, "Pid": 0, "StartedAt": "2026-11-23T08:00:00Z" }, "HostConfig": { "Runtime": "runc" },
    })
}

fn event(n: usize, action: &str, time: i64) -> Vec<u8> {
    let attributes = json!({ "name": format!("c{n}"), "image": "i", "fnscope.function": format!("f{n}") });
    let event = json!({
        "Type": "container", "Action": action, "Actor": { "ID": id(n), "Attributes": attributes },
        "time": time / 1_000_000_000, "timeNano": time,
    });
    [event.to_string().as_bytes(), b"\n"].concat()
}

/// What a sound daemon with containers 0 to `count` answers.
fn sound(path: &str, count: usize) -> Reply {
    match path {
        "/version" => {
            Reply::Json(json!({ "Version": "20.10", "ApiVersion": "1.41", "MinAPIVersion": "1.12" }))
        }
        "/containers/json" => Reply::Json((0..count).map(listed).collect()),
        "/events" => Reply::Events(Vec::new()),
        _ => {
            let asked = path.strip_prefix("/containers/").and_then(|path| path.strip_suffix("/json"));
            let number = asked.and_then(|id| usize::from_str_radix(id, 16).ok()).filter(|n| *n < count);
            number.map_or(Reply::Fault(404, "No such container"), |n| Reply::Json(inspected(n)))
        }
    }
}

/// One odd daemon, and what must come of it.
struct Case {
    name: &'static str,
    answers: fn(&str) -> Reply,
    /// Functions that are known in the end.
    known: usize,
    /// Whether it is told to be up; else that it is down.
    is_up: bool,
    /// What is counted at least once; nothing else is.
    odd: &'static [Oddity],
}

const CASES: &[Case] = &[
    Case { name: "sound", answers: |path| sound(path, 3), known: 3, is_up: true, odd: &[] },
    Case {
        name: "ten thousand containers",
        answers: |path| sound(path, 10_000),
        known: 10_000,
        is_up: true,
        odd: &[Oddity::Refused],
    },
    Case {
        name: "slow",
        answers: |path| match path {
            "/version" | "/events" => sound(path, 3),
            _ => Reply::Late(Duration::from_secs(10), sound(path, 3).into()),
        },
        known: 3,
        is_up: true,
        odd: &[],
    },
    Case {
        name: "no answer to inspections",
        answers: |path| match path {
            "/version" | "/events" | "/containers/json" => sound(path, 3),
            _ => Reply::Silence,
        },
        known: 3,
        is_up: true,
        odd: &[Oddity::Late],
    },
    Case {
        name: "no answer at all",
        answers: |_| Reply::Silence,
        known: 0,
        is_up: false,
        odd: &[Oddity::Late],
    },
    Case {
        name: "no http",
        answers: |_| Reply::Bytes(b"SSH-2.0-x\r\n\0\xff".to_vec()),
        known: 0,
        is_up: false,
        odd: &[Oddity::Fault],
    },
    Case {
        name: "no json",
        answers: |path| match path {
            "/version" => sound(path, 0),
            _ => Reply::Body(b"{\"a\": [\xff".to_vec()),
        },
        known: 0,
        is_up: false,
        odd: &[Oddity::Garbled],
    },
    Case {
        name: "inspections of nonsense",
        answers: |path| match path {
            "/version" | "/events" | "/containers/json" => sound(path, 3),
            _ => Reply::Json(json!([{ "Id": 7 }])),
        },
        known: 3,
        is_up: true,
        odd: &[Oddity::Garbled],
    },
    Case {
        name: "faults",
        answers: |path| match path {
            "/version" | "/events" | "/containers/json" => sound(path, 3),
            _ => Reply::Fault(500, "the disk is gone"),
        },
        known: 3,
        is_up: true,
        odd: &[Oddity::Fault],
    },
    Case {
        name: "labels of 256 KiB",
        answers: |path| {
            let mut labels = labels(0);
            for n in 0..8 {
                labels[format!("big{n}")] = "v".repeat(256 << 10).into();
                labels["k".repeat(256 << 10) + &n.to_string()] = "v".into();
            }
            match path {
                "/containers/json" => {
                    let mut listed = listed(0);
                    listed["Labels"] = labels;
                    Reply::Json(json!([listed]))
                }
                "/version" | "/events" => sound(path, 1),
                _ => {
                    let mut inspected = inspected(0);
                    inspected["Config"]["Labels"] = labels;
                    Reply::Json(inspected)
                }
            }
        },
        known: 1,
        is_up: true,
        odd: &[],
    },
    Case {
        name: "containers that are larger than any that is read, one in the list and one when it is inspected",
        answers: |path| {
            let large = "v".repeat(20 << 20);
            match path {
                "/containers/json" => {
                    let mut too_large = listed(2);
                    too_large["Labels"]["big"] = large.into();
                    Reply::Json(json!([listed(0), too_large, listed(1)]))
                }
                _ if path == format!("/containers/{}/json", id(1)) => {
                    let mut too_large = inspected(1);
                    too_large["Config"]["Labels"]["big"] = large.into();
                    Reply::Json(too_large)
                }
                _ => sound(path, 2),
            }
        },
        known: 2,
        is_up: true,
        odd: &[Oddity::Garbled],
    },
    Case {
        name: "an event of an unknown container, and one that is gone when it is asked after",
        answers: |path| match path {
            "/events" => Reply::Events(vec![
                event(7, "die", 1_795_420_800_000_000_001),
                event(8, "destroy", 1_795_420_800_000_000_002),
                event(9, "create", 1_795_420_800_000_000_003),
                event(9, "start", 1_795_420_800_000_000_004),
                event(9, "die", 1_795_420_800_000_000_005),
                event(9, "destroy", 1_795_420_800_000_000_006),
            ]),
            _ => sound(path, 1),
        },
        known: 3,
        is_up: true,
        odd: &[Oddity::Gone],
    },
    Case {
        name: "events of nonsense",
        answers: |path| match path {
            "/events" => Reply::Events(vec![b"{]\n".to_vec(), event(9, "create", 1_795_420_800_000_000_003)]),
            _ => sound(path, 2),
        },
        known: 2,
        is_up: true,
        odd: &[Oddity::Garbled],
    },
];

/// A watch, and what is known by what it has told.
struct Judged {
    watcher: Watcher,
    known: BTreeMap<String, Container>,
    odd: BTreeMap<Oddity, u64>,
    ups: usize,
    downs: usize,
}

impl Judged {
    fn new(socket: &Path) -> Judged {
        Judged::with(DockerOptions::new(Some(socket), None).expect("a path is enough"))
    }

    fn with(options: DockerOptions) -> Judged {
        let watcher = Watcher::start("docker", move |sender, stopped| {
            let sink = |event| drop(sender.send(event));
            reactor().block_on(watch(&options, sink, async { drop(stopped.await) }));
        });
        Judged { watcher, known: BTreeMap::new(), odd: BTreeMap::new(), ups: 0, downs: 0 }
    }

    /// Takes in what is told until `enough` says so.
    fn until(&mut self, what: &str, enough: impl Fn(&Judged) -> bool) {
        while !enough(self) {
            match self.watcher.wait(what, |_| true) {
                ContainerEvent::Known(container) => drop(self.known.insert(container.id.clone(), *container)),
                ContainerEvent::Odd { what, count, .. } => *self.odd.entry(what).or_default() += count,
                ContainerEvent::Up { .. } => self.ups += 1,
                ContainerEvent::Down { .. } => self.downs += 1,
                _ => {}
            }
        }
    }
}

impl Case {
    fn assert_judged(&self, socket: &Path) {
        let name = self.name;
        let server = OddDocker::start(socket, self.answers);
        let mut watcher = Judged::new(socket);
        watcher.until(name, |seen| {
            let told = if self.is_up { seen.ups > 0 } else { seen.downs > 0 };
            told && seen.known.len() >= self.known && self.odd.iter().all(|odd| seen.odd.contains_key(odd))
        });
        let odd: Vec<Oddity> = watcher.odd.keys().copied().collect();
        assert_eq!((odd, watcher.known.len()), (self.odd.to_vec(), self.known), "{name}");
        for container in watcher.known.values() {
            let function = identify(container, &IdentityConfig::default()).identity.function;
            let number = usize::from_str_radix(&container.id, 16).expect("a number");
            assert_eq!(function, Some(format!("f{number}")), "{name}");
            let size: usize = container.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(size < 64 << 10, "{name}: {size} bytes of labels are kept");
        }
        assert!(server.asked("/version") < 20, "{name}: asked {} times", server.asked("/version"));
    }
}

#[test]
fn whatever_a_daemon_answers_is_judged_and_counted_and_nothing_hangs() {
    let folder = tempfile::tempdir().expect("make a folder");
    // At once: most of their time is waiting for a daemon that is late.
    std::thread::scope(|cases| {
        for (number, case) in CASES.iter().enumerate() {
            let socket = folder.path().join(format!("{number}.sock"));
            cases.spawn(move || case.assert_judged(&socket));
        }
    });
}

/// An event that cannot be read while a list is under way: what came with it is in a list that is asked for afterwards, and
/// not before that is everything told.
#[test]
fn what_came_with_an_odd_event_is_not_left_to_an_older_list() {
    let folder = tempfile::tempdir().expect("make a folder");
    let socket = folder.path().join("docker.sock");
    let lists = AtomicUsize::new(0);
    let _server = OddDocker::start(&socket, move |path| match path {
        "/events" => Reply::Events(vec![b"{]\n".to_vec()]),
        "/containers/json" => match lists.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Late(Duration::from_secs(1), sound(path, 0).into()),
            _ => sound(path, 1),
        },
        _ => sound(path, 1),
    });
    let mut watcher = Judged::new(&socket);
    watcher.until("all of it is told", |seen| seen.ups == 1);
    assert_eq!((watcher.known.len(), watcher.downs), (1, 0));
    assert_eq!(watcher.odd.get(&Oddity::Garbled), Some(&1));
}

#[test]
fn a_socket_that_is_replaced_is_found_again() {
    let folder = tempfile::tempdir().expect("make a folder");
    let socket = folder.path().join("docker.sock");
    let mut first = OddDocker::start(&socket, |path| sound(path, 1));
    let mut watcher = Judged::new(&socket);
    watcher.until("the first", |seen| seen.ups == 1);
    // Another daemon takes its place while the old one still serves, and ends later.
    first.leave_socket();
    let second = OddDocker::start(&socket, |path| sound(path, 2));
    drop(first);
    watcher.until("the second", |seen| seen.ups == 2 && seen.downs == 1);
    assert_eq!(watcher.known.len(), 2);
    drop(second);
    watcher.until("its end", |seen| seen.downs == 2);
    std::fs::write(&socket, "no socket").expect("put a file in its place");
    let third = folder.path().join("third.sock");
    let _third = OddDocker::start(&third, |path| sound(path, 3));
    std::fs::rename(&third, &socket).expect("put a socket in its place");
    watcher.until("the third", |seen| seen.ups == 3);
    assert_eq!(watcher.known.len(), 3);
}

/// The container `n` of cri-dockerd's and its sandbox, as a list and an inspection have them.
mod in_pod {
    use super::*;

    fn container(n: usize) -> (String, Value) {
        let labels = json!({ "io.kubernetes.sandbox.id": id(n + 1), "io.kubernetes.pod.uid": "u" });
        (format!("/k8s_function_p_ns_u_{n}"), labels)
    }

    fn sandbox(n: usize) -> (String, Value) {
        let labels = json!({
            "io.kubernetes.docker.type": "podsandbox", "io.kubernetes.pod.uid": "u", "io.kubernetes.pod.name": "p",
            "fnscope.function": format!("f{}", n - 1),
        });
        (format!("/k8s_POD_p_ns_u_{n}"), labels)
    }

    /// Of container `n`; of its sandbox where `is_sandbox`, whose number is one more.
    fn either(n: usize, is_sandbox: bool) -> (String, Value) {
        if is_sandbox { sandbox(n) } else { container(n) }
    }

    pub fn listed(n: usize, is_sandbox: bool) -> Value {
        let (name, labels) = either(n, is_sandbox);
        json!({ "Id": id(n), "Names": [name], "Image": "i", "Labels": labels, "State": "running" })
    }

    pub fn inspected(n: usize, is_sandbox: bool) -> Value {
        let (name, labels) = either(n, is_sandbox);
        let mut inspected = super::inspected(n);
        inspected["Name"] = name.into();
        inspected["Config"]["Labels"] = labels;
        inspected
    }

    pub fn event(n: usize, action: &str, time: i64) -> Vec<u8> {
        let (name, mut attributes) = container(n);
        attributes["name"] = name.trim_start_matches('/').into();
        let event = json!({
            "Type": "container", "Action": action, "Actor": { "ID": id(n), "Attributes": attributes },
            "time": time / 1_000_000_000, "timeNano": time,
        });
        [event.to_string().as_bytes(), b"\n"].concat()
    }
}

/// Of cri-dockerd's containers the sandbox alone has the labels that name a function. However it is asked for, no
/// container is told without them.
#[test]
fn a_sandbox_that_is_slow_or_cannot_be_inspected_at_once_leaves_no_container_without_its_pod() {
    let folder = tempfile::tempdir().expect("make a folder");
    let (listed_one, heard, late) = (2, 4, 6);
    let is = |path: &str, n: usize| path == format!("/containers/{}/json", id(n));
    let (lists, faults) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let socket = folder.path().join("docker.sock");
    let _server = OddDocker::start(&socket, move |path| match path {
        "/containers/json" => {
            let mut list = vec![in_pod::listed(listed_one, false), in_pod::listed(listed_one + 1, true)];
            // Heard of first, and its sandbox is never in the list.
            if lists.fetch_add(1, Ordering::SeqCst) > 0 {
                list.push(in_pod::listed(heard, false));
            }
            Reply::Json(list.into())
        }
        "/events" => Reply::Events(vec![
            in_pod::event(heard, "create", 1_795_420_800_000_000_001),
            in_pod::event(late, "create", 1_795_420_800_000_000_002),
        ]),
        _ if is(path, listed_one) || is(path, listed_one + 1) => Reply::Fault(500, "the disk is gone"),
        _ if is(path, heard) => Reply::Json(in_pod::inspected(heard, false)),
        _ if is(path, heard + 1) && faults.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Fault(500, "busy"),
        _ if is(path, heard + 1) => Reply::Json(in_pod::inspected(heard + 1, true)),
        _ if is(path, late) => Reply::Json(in_pod::inspected(late, false)),
        _ if is(path, late + 1) => {
            Reply::Late(Duration::from_secs(4), Reply::Json(in_pod::inspected(late + 1, true)).into())
        }
        _ => sound(path, 0),
    });
    let options = DockerOptions::new(Some(&socket), None).expect("a path is enough");
    let relist_every = Duration::from_secs(1);
    let mut watcher = Judged::with(DockerOptions { relist_every, ..options });
    let all = [listed_one, heard, late].map(id);
    watcher.until("all of them", |seen| all.iter().all(|id| seen.known.contains_key(id)));
    let told = watcher.watcher.seen.iter().filter_map(|event| match event {
        ContainerEvent::Known(container) if all.contains(&container.id) => Some(container),
        _ => None,
    });
    for container in told {
        let function = container.pod.as_ref().and_then(|pod| pod.label("fnscope.function"));
        let number = usize::from_str_radix(&container.id, 16).expect("a number");
        assert_eq!(function, Some(format!("f{number}").as_str()), "{container:?}");
    }
}

/// Podman on a socket that was configured as Docker's: it is podman all the same, and tells nothing at first.
#[test]
fn podman_is_known_by_its_answer_whatever_its_socket_was_configured_as() {
    let folder = tempfile::tempdir().expect("make a folder");
    let socket = folder.path().join("docker.sock");
    let server = OddDocker::start(&socket, |path| match path {
        "/version" => Reply::Json(json!({
            "Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24",
            "Components": [{ "Name": "Podman Engine", "Version": "4.3.1" }],
        })),
        _ => sound(path, 1),
    });
    let mut watcher = Judged::new(&socket);
    watcher.until("it is up", |seen| seen.ups == 1);
    assert!(watcher.known.values().all(|container| container.runtime == "podman"));
    assert_eq!((watcher.known.len(), server.asked("/containers/json")), (1, 2), "listed again once it hears");
}

/// The same through the agent: it says what is wrong, counts it, works on, and ends when it is told to.
#[test]
fn an_agent_beside_an_odd_daemon_works_on_and_tells_of_it() {
    let folder = tempfile::tempdir().expect("make a folder");
    let (scope, socket) = (Fnscope::new(), folder.path().join("docker.sock"));
    let _server = OddDocker::start(&socket, |path| match path {
        "/version" | "/events" | "/containers/json" => sound(path, 5_000),
        _ => Reply::Fault(500, "the disk is gone"),
    });
    let socket = socket.to_str().expect("a plain path");
    let (agent, address) = start(&mut scope.command(["agent", "--hz", "997", "--docker-socket", socket]));
    poll("what is odd is counted", || {
        let told = metrics(address);
        let odd =
            |kind| told[&format!("fnscope_runtime_oddities_total{{runtime=\"docker\",kind=\"{kind}\"}}")];
        (odd("fault") + odd("refused") >= 5_000.0 && odd("refused") > 0.0).then_some(())
    });
    let begin = Instant::now();
    let told = agent.stop_in_order();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(told.contains("too many containers at a time"), "{told}");
    // None of them is here: nothing is stored under any name.
    assert_eq!(scope.instances(&[]).len(), 0);
}
