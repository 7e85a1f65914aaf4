//! The Docker runtime against real daemons that are absent, killed, restarted and hurried, and against one that
//! talks nonsense, which no real one can be made to do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fnscope::identity::{IdentityConfig, identify};
use fnscope::model::{Container, ContainerEvent, Pid};
use fnscope::runtime::docker::{DockerOptions, inspect, ping, watch};

use crate::private_docker::{IMAGE, PrivateDocker};
use crate::watcher::{Watcher, reactor};

fn options(socket: &Path) -> DockerOptions {
    DockerOptions::new(Some(socket), None).expect("a path is enough")
}

/// The runtime's watch.
fn watching(options: DockerOptions) -> Watcher {
    Watcher::start("docker", move |sender, stopped| {
        let sink = |event| sender.send(event).expect("the test listens to the end");
        reactor().block_on(watch(&options, sink, async { drop(stopped.await) }));
    })
}

fn gone(watcher: &mut Watcher, container: &str) {
    watcher.wait("Gone", |event| matches!(event, ContainerEvent::Gone { id, .. } if *id.0 == *container));
}

/// What was told of `container`, in short.
fn story(watcher: &Watcher, container: &str) -> Vec<&'static str> {
    let mut story: Vec<&str> = watcher.seen.iter().filter_map(|event| about(event, container)).collect();
    story.dedup();
    story
}

/// `container` as it was described last.
fn known<'a>(watcher: &'a Watcher, container: &str) -> Option<&'a Container> {
    watcher.seen.iter().rev().find_map(|event| match event {
        ContainerEvent::Known(known) if known.id == container => Some(&**known),
        _ => None,
    })
}

fn about(event: &ContainerEvent, container: &str) -> Option<&'static str> {
    let (id, short) = match event {
        ContainerEvent::Known(known) => (known.id.as_str(), "known"),
        ContainerEvent::Started { id, .. } => (&*id.0, "started"),
        ContainerEvent::Exited { id, .. } => (&*id.0, "exited"),
        ContainerEvent::Ready { id, .. } => (&*id.0, "ready"),
        ContainerEvent::Paused { id, .. } => (&*id.0, "paused"),
        ContainerEvent::Gone { id, .. } => (&*id.0, "gone"),
        ContainerEvent::Up { .. }
        | ContainerEvent::Down { .. }
        | ContainerEvent::Absent { .. }
        | ContainerEvent::Odd { .. } => return None,
    };
    (id == container).then_some(short)
}

fn function(container: &Container) -> Option<String> {
    identify(container, &IdentityConfig::default()).identity.function
}

fn is_started(event: &ContainerEvent, container: &str) -> bool {
    matches!(event, ContainerEvent::Started { id, .. } if *id.0 == *container)
}

#[test]
fn what_runs_is_told_then_what_happens() {
    let docker = PrivateDocker::running();
    let before = docker.run(&["--label", "fnscope.function=before", "--env", "SECRET=x"], &["600000"]);
    let ended = docker.run(&["--name", "ended"], &["0", "5"]);
    docker.docker(&["wait", &ended]);
    // Lists again and again, which must neither undo nor repeat what events told.
    let options = DockerOptions { relist_every: Duration::from_secs(1), ..options(&docker.socket()) };
    let mut watcher = watching(options);
    watcher.up();
    assert_eq!(story(&watcher, &before), ["known", "started"]);
    assert_eq!(story(&watcher, &ended), ["known"]);
    assert!(known(&watcher, &before).expect("known").env.is_empty());

    let environment = ["--env", "FN_FN_ID=01F", "--env", "FN_APP_ID=01A", "--env", "TOKEN=secret"];
    let id = docker.run(&environment, &["600000"]);
    let started = watcher.wait("Started", |event| is_started(event, &id));
    let ContainerEvent::Started { pid: Some(Pid(pid)), at: Some(_), .. } = started else {
        panic!("{started:?}")
    };
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    assert!(cgroup.contains(&id), "{cgroup}");
    let mut first = known(&watcher, &id).expect("known").clone();
    assert_eq!(function(&first).as_deref(), Some("01F"));
    first.env.sort();
    assert_eq!(first.env, ["FN_APP_ID=01A", "FN_FN_ID=01F"]);
    assert_eq!((first.image.as_deref(), first.cmd.as_slice()), (Some(IMAGE), ["/nap".to_owned()].as_slice()));

    docker.docker(&["rename", &id, "renamed"]);
    watcher.wait(
        "the new name",
        |event| matches!(event, ContainerEvent::Known(known) if known.name.as_deref() == Some("renamed")),
    );
    assert_eq!(function(known(&watcher, &id).expect("known")).as_deref(), Some("01F"));
    docker.docker(&["stop", "renamed"]);
    let exited = watcher.wait("Exited", |event| about(event, &id) == Some("exited"));
    assert!(
        matches!(exited, ContainerEvent::Exited { exit_code: Some(143), oom: false, at: Some(_), .. }),
        "{exited:?}"
    );
    docker.docker(&["rm", &id]);
    gone(&mut watcher, &id);
    assert_eq!(story(&watcher, &id), ["known", "started", "known", "exited", "gone"]);

    docker.docker(&["restart", &before]);
    watcher.wait("Exited", |event| about(event, &before) == Some("exited"));
    watcher.wait("Started", |event| is_started(event, &before));
}

#[test]
fn containers_too_short_to_be_inspected_are_named() {
    let docker = PrivateDocker::running();
    let mut watcher = watching(options(&docker.socket()));
    watcher.up();
    // All at once, so that inspections queue behind containers that are being removed.
    let host = docker.socket();
    let children: Vec<_> = (0..12)
        .map(|n| {
            let label = format!("fnscope.function=short-{n}");
            let cidfile = docker.path(&format!("cid-{n}"));
            let child = std::process::Command::new("docker")
                .args([
                    "--host",
                    &format!("unix://{}", host.display()),
                    "run",
                    "--rm",
                    "--network=none",
                    "--label",
                    &label,
                ])
                .args(["--cidfile", cidfile.to_str().expect("a plain path"), IMAGE, "/nap", "1", "3"])
                .spawn()
                .expect("run docker");
            (child, cidfile)
        })
        .collect();
    for (n, (mut child, cidfile)) in children.into_iter().enumerate() {
        assert_eq!(child.wait().expect("wait for docker").code(), Some(3));
        let id = std::fs::read_to_string(cidfile).expect("the id");
        if story(&watcher, &id).last() != Some(&"gone") {
            gone(&mut watcher, &id);
        }
        let story = story(&watcher, &id);
        assert_eq!(story, ["known", "started", "exited", "gone"], "{:#?}", watcher.seen);
        assert_eq!(function(known(&watcher, &id).expect("known")), Some(format!("short-{n}")));
        let code = watcher.seen.iter().find_map(|event| match event {
            ContainerEvent::Exited { id: exited, exit_code, .. } if *exited.0 == *id => Some(*exit_code),
            _ => None,
        });
        assert_eq!(code, Some(Some(3)));
    }
}

#[test]
fn large_and_forged_labels_do_no_harm() {
    let docker = PrivateDocker::running();
    let mut watcher = watching(options(&docker.socket()));
    watcher.up();
    let long = "n".repeat(64 << 10);
    let mut labels = vec![format!("--label=fnscope.function={long}"), "--label=exitCode=99".into()];
    labels.extend((0..16).map(|n| format!("--label=other-{n}={long}")));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let id = docker.run(&labels, &["1", "4"]);
    let exited = watcher.wait("Exited", |event| about(event, &id) == Some("exited"));
    assert!(matches!(exited, ContainerEvent::Exited { exit_code: Some(4), .. }), "{exited:?}");
    for event in &watcher.seen {
        if let ContainerEvent::Known(known) = event {
            assert_eq!(known.labels, [("fnscope.function".to_owned(), "n".repeat(253))]);
        }
    }
    assert_eq!(function(known(&watcher, &id).expect("known")), Some("n".repeat(253)));
}

#[test]
fn a_daemon_that_comes_goes_and_comes_back_is_followed() {
    let mut docker = PrivateDocker::new();
    let mut watcher = watching(options(&docker.socket()));
    watcher.down();
    docker.start();
    watcher.up();
    drop(watcher);
    // A socket that nobody listens behind is no daemon either.
    docker.kill();
    assert!(docker.socket().exists());
    let error = reactor().block_on(ping(&options(&docker.socket()))).expect_err("nobody listens");
    assert!(format!("{error:#}").contains("nobody listens"), "{error:#}");
    let mut watcher = watching(options(&docker.socket()));
    watcher.down();
    docker.start();
    watcher.up();
    docker.docker(&["version"]);
}

#[test]
fn what_happened_while_the_daemon_was_away_is_found_out() {
    let mut docker = PrivateDocker::running();
    let mut watcher = watching(options(&docker.socket()));
    watcher.up();
    let killed = docker.run(&["--label", "fnscope.function=killed"], &["600000"]);
    let removed = docker.docker(&["create", "--network=none", IMAGE, "/nap"]);
    watcher.wait("Started", |event| is_started(event, &killed));
    watcher.seen.clear();
    docker.kill();
    watcher.down();
    // Nobody tells of this: the daemon forgets it with the directory.
    std::fs::remove_dir_all(docker.path("data").join("containers").join(&removed))
        .expect("forget a container");
    docker.start();
    watcher.up();
    // Without live-restore the daemon ends at its start what it finds running, and sends no event.
    let exited = watcher.seen.iter().find(|event| about(event, &killed) == Some("exited"));
    assert!(matches!(exited, Some(ContainerEvent::Exited { exit_code: Some(_), .. })), "{:#?}", watcher.seen);
    assert_eq!(story(&watcher, &removed).last(), Some(&"gone"));
    // And it is watched as before.
    docker.docker(&["start", &killed]);
    watcher.wait("Started", |event| is_started(event, &killed));
    docker.docker(&["rm", "--force", &killed]);
    gone(&mut watcher, &killed);
}

#[test]
fn a_single_container_is_inspected_and_the_engine_tells_its_version() {
    let docker = PrivateDocker::running();
    let id = docker.docker(&["create", "--name", "one", "--label", "fnscope.function=f", IMAGE, "/nap"]);
    let options = options(&docker.socket());
    for name in ["one", id.as_str(), &id[..12]] {
        let container = reactor().block_on(inspect(&options, name)).expect("it exists");
        assert_eq!((container.id.as_str(), container.name.as_deref()), (id.as_str(), Some("one")));
        assert_eq!(function(&container).as_deref(), Some("f"));
    }
    for (name, reason) in
        [("two", "no such container"), ("../info", "not a container's name"), ("", "not a container's")]
    {
        let error = format!("{:#}", reactor().block_on(inspect(&options, name)).expect_err(name));
        assert!(error.contains(reason) && error.contains("inspect container"), "{name}: {error}");
    }
    let version = reactor().block_on(ping(&options)).expect("it answers");
    assert_eq!(version, docker.docker(&["version", "--format", "{{.Server.Version}}"]));
}

/// A daemon that answers as it is told to, one connection a request.
struct OddDaemon {
    dir: tempfile::TempDir,
}

impl OddDaemon {
    /// `list` is its list of containers; `events` is what the stream of events says to its first, second, … reader,
    /// later ones hear nothing.
    fn new(list: &'static str, events: Vec<String>) -> OddDaemon {
        let dir = tempfile::tempdir().expect("make a directory");
        let listener = UnixListener::bind(dir.path().join("docker.sock")).expect("listen");
        std::thread::spawn(move || {
            let mut events = events.into_iter();
            // Streams that stay open: a reader sees no end.
            let mut open = vec![];
            for stream in listener.incoming() {
                let mut stream = stream.expect("accept");
                let request = head(&mut stream);
                let body = match request.split('?').next().unwrap_or_default() {
                    path if path.ends_with("/version") => {
                        r#"{"ApiVersion":"1.41","Version":"odd"}"#.as_bytes().to_vec()
                    }
                    path if path.ends_with("/events") => {
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
                        if let Some(said) = events.next() {
                            let _ = stream.write_all(said.as_bytes());
                        }
                        open.push(stream);
                        continue;
                    }
                    path if path.ends_with("/containers/json") => list.as_bytes().to_vec(),
                    _ => br#"{"Id":7}"#.to_vec(),
                };
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(&body);
            }
        });
        OddDaemon { dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }
}

/// Reads a request and returns its path.
fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.extend(byte);
    }
    String::from_utf8_lossy(&head).split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_list_that_cannot_be_read_is_a_daemon_that_is_down() {
    for list in [r#"[{"Id":"odd","State":"melting"}]"#, "7", "\u{0}"] {
        let daemon = OddDaemon::new(list, vec![]);
        let mut watcher = watching(options(&daemon.socket()));
        watcher.down();
        let error = reactor().block_on(inspect(&options(&daemon.socket()), "odd")).expect_err("nonsense");
        assert!(format!("{error:#}").contains("not understood"), "{error:#}");
    }
}

#[test]
fn events_that_cannot_be_read_are_skipped() {
    let event = |id: &str, action: &str, kind: &str, nano: u64| {
        format!(
            r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"name":"n","image":"i",
            "fnscope.function":"{id}"}}}},"scope":"local","time":1,"timeNano":{nano}}}"#
        )
        .replace('\n', "")
            + "\n"
    };
    let unheard = event("no-life", "explode", "container", 2) + r#"{"Type":"container"}"# + "\n{}\n";
    let readers = vec![
        event("first", "create", "container", 1) + &unheard + &event("odd", "create", "alien", 3),
        event("second", "create", "container", 4) + "{\"time\":\"noon\"}\n",
        event("third", "create", "container", 5) + "\u{1}{{{\n",
        "[]\n".into(),
        event("fourth", "create", "container", 6) + &event("fourth", "destroy", "container", 7),
    ];
    let daemon = OddDaemon::new("[]", readers);
    let mut watcher = watching(options(&daemon.socket()));
    for id in ["first", "second", "third", "fourth"] {
        watcher.wait(id, |event| about(event, id) == Some("known"));
        assert_eq!(function(known(&watcher, id).expect("known")).as_deref(), Some(id));
    }
    gone(&mut watcher, "fourth");
}
