//! A kubelet and an API server, as they answer, over real HTTPS: what is asked, what is believed, and what is made of
//! answers that are refused, cut, slow, too large or no answers at all.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fnscope::kubernetes::{Answers, Asked, Client, Fault, Limits, Told, Watch};
use fnscope::model::Timestamp;

use crate::https_server::{Answer, HttpsServer, Request};

/// A pod of Fission's pool as both write it, with `labels` and the second in which the last of them was set.
fn pod(uid: &str, labels: &[(&str, &str)], set: &str, version: u32) -> String {
    let all: Vec<String> = labels.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    let owned: Vec<String> = labels.iter().map(|(key, _)| format!("\"f:{key}\":{{}}")).collect();
    format!(
        r#"{{"kind":"Pod","metadata":{{"name":"p-{uid}","uid":"{uid}","resourceVersion":"{version}","labels":{{"app":"x",{}}},"managedFields":[{{"manager":"fission","time":"{set}","fieldsV1":{{"f:metadata":{{"f:labels":{{{}}}}}}}}}]}},"spec":{{"containers":[]}},"status":{{"containerStatuses":[{{"containerID":"containerd://c-{uid}"}}]}}}}"#,
        all.join(","),
        owned.join(",")
    )
}

fn list(pods: &[String], version: u32) -> String {
    format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#,
        pods.join(",")
    )
}

const POOL: &[(&str, &str)] = &[("executorType", "poolmgr")];
const GIVEN: &[(&str, &str)] = &[("executorType", "poolmgr"), ("functionName", "hello")];

fn at(second: &str) -> Timestamp {
    let time: jiff::Timestamp = second.parse().expect("a time");
    Timestamp(time.as_microsecond())
}

/// What was heard, by a clock that the test sets.
struct Heard {
    now: Timestamp,
    told: Vec<Told>,
    most: usize,
}

impl Heard {
    fn at(second: &str) -> Heard {
        Heard { now: at(second), told: Vec::new(), most: usize::MAX }
    }

    fn functions(&self) -> Vec<(String, Option<String>, Timestamp)> {
        let function = |told: &Told| {
            told.labels.iter().find(|(key, _)| key == "functionName").map(|(_, value)| value.clone())
        };
        self.told.iter().map(|told| (told.containers.join(" "), function(told), told.at)).collect()
    }
}

impl Answers for Heard {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn told(&mut self, told: Told) {
        self.told.push(told);
    }

    fn goes_on(&self) -> bool {
        self.told.len() < self.most
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().expect("a folder") };
        std::fs::write(place.token(), "secret-token\n").expect("write a token");
        place
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn token(&self) -> PathBuf {
        self.path().join("token")
    }

    fn watch(&self, server: &HttpsServer, asked: Asked, limits: Limits) -> Watch {
        Watch::new(Client::new(&server.url(), server.ca(), &self.token(), limits), asked)
    }
}

fn api_server() -> Asked {
    Asked::ApiServer { node: "node-7".into() }
}

#[test]
fn a_kubelet_is_asked_again_and_a_label_counts_from_when_it_was_there() {
    let place = Place::new();
    let answers = Mutex::new(vec![
        list(&[pod("a", POOL, "2026-11-23T10:00:00Z", 1), pod("b", GIVEN, "2026-11-23T10:00:04Z", 2)], 0),
        list(&[pod("a", GIVEN, "2026-11-23T10:00:11Z", 3), pod("b", GIVEN, "2026-11-23T10:00:04Z", 2)], 0),
        // One whose clock says that it was before the last answer, in which it was not.
        list(&[pod("c", GIVEN, "2026-11-23T09:00:00Z", 4)], 0),
        // And one whose clock is ahead.
        list(&[pod("d", GIVEN, "2026-11-23T12:00:00Z", 5)], 0),
    ]);
    let server = HttpsServer::start(place.path(), move |_| {
        Answer::Body(200, answers.lock().expect("nobody panics with it").remove(0))
    });
    let mut watch = place.watch(&server, Asked::Kubelet, Limits::default());
    let mut ask = |second: &str| {
        let mut heard = Heard::at(second);
        watch.ask(&mut heard).expect("an answer");
        assert!(!watch.follows());
        heard.functions()
    };
    let hello = |id: &str, second| (id.to_owned(), Some("hello".to_owned()), at(second));
    let first = ask("2026-11-23T10:00:10Z");
    assert_eq!(
        first,
        [("c-a".into(), None, at("2026-11-23T10:00:01Z")), hello("c-b", "2026-11-23T10:00:05Z")]
    );
    assert_eq!(ask("2026-11-23T10:00:20Z"), [hello("c-a", "2026-11-23T10:00:12Z")], "what has changed alone");
    assert_eq!(ask("2026-11-23T10:00:30Z"), [hello("c-c", "2026-11-23T10:00:20Z")]);
    assert_eq!(ask("2026-11-23T10:00:40Z"), [hello("c-d", "2026-11-23T10:00:40Z")]);
    let expected = Request { path: "/pods".into(), authorization: Some("Bearer secret-token".into()) };
    assert_eq!(server.requests(), vec![expected; 4]);
}

#[test]
fn an_api_server_tells_all_and_then_what_changes() {
    let place = Place::new();
    let (sender, lines) = channel();
    let lines = Mutex::new(Some(lines));
    let server = HttpsServer::start(place.path(), move |request| {
        if request.path.contains("watch=true") {
            return match lines.lock().expect("nobody panics with it").take() {
                Some(lines) => Answer::Lines(lines),
                None => Answer::Body(410, r#"{"kind":"Status","code":410}"#.into()),
            };
        }
        Answer::Body(200, list(&[pod("a", POOL, "2026-11-23T10:00:00Z", 1)], 100))
    });
    let mut watch = place.watch(&server, api_server(), Limits::default());
    let mut heard = Heard::at("2026-11-23T10:00:10Z");
    watch.ask(&mut heard).expect("a list");
    assert!(watch.follows());
    let event = |kind: &str, object: &str| format!(r#"{{"type":"{kind}","object":{object}}}"#);
    for line in [
        event("MODIFIED", &pod("a", POOL, "2026-11-23T10:00:00Z", 101)),
        event("MODIFIED", &pod("a", GIVEN, "2026-11-23T10:00:19Z", 102)),
        event("ADDED", &pod("b", POOL, "2026-11-23T10:00:19Z", 103)),
        event("DELETED", &pod("b", POOL, "2026-11-23T10:00:19Z", 104)),
        event("BOOKMARK", r#"{"kind":"Pod","metadata":{"resourceVersion":"105"}}"#),
    ] {
        sender.send(line).expect("it listens");
    }
    drop(sender);
    let mut heard = Heard::at("2026-11-23T10:00:20Z");
    watch.ask(&mut heard).expect("a watch that the server ends");
    let told = heard.functions();
    assert_eq!(told[0], ("c-a".into(), Some("hello".into()), at("2026-11-23T10:00:20Z")), "when it came");
    assert_eq!((told.len(), told[1].1.as_ref()), (2, None));
    // It goes on from what it was told last; what the server has forgotten is asked for anew.
    assert!(matches!(watch.ask(&mut heard), Err(Fault::Expired { .. })));
    assert!(!watch.follows());
    watch.ask(&mut heard).expect("a list");
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    let lists = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-7&resourceVersion=0";
    let follows = |version: u32| {
        format!(
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&fieldSelector=spec.nodeName%3Dnode-7&resourceVersion={version}&timeoutSeconds=240"
        )
    };
    assert_eq!(paths, [lists.to_owned(), follows(100), follows(105), lists.to_owned()]);
}

#[test]
fn what_is_no_answer_is_a_fault_that_says_what_to_do() {
    let place = Place::new();
    let next = AtomicUsize::new(0);
    let server = HttpsServer::start(place.path(), move |_| match next.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::Body(403, r#"{"kind":"Status","code":403}"#.into()),
        1 => Answer::Body(401, "Unauthorized".into()),
        2 => Answer::Body(302, String::new()),
        3 => Answer::Body(200, "<html>".into()),
        4 => Answer::Cut(list(&[], 1)),
        5 => Answer::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        6 => Answer::Body(200, list(&[pod("a", POOL, "2026-11-23T10:00:00Z", 1)], 1) + &" ".repeat(1 << 20)),
        _ => Answer::Body(200, list(&[], 1)),
    });
    let limits = Limits { answer_bytes: 1 << 20, ..Limits::default() };
    let mut watch = place.watch(&server, Asked::Kubelet, limits);
    for expected in [
        "the service account may not read pods",
        "the token of kubernetes.token is not known",
        "answers 302",
        "answers no pods",
        "read the answer of",
        "ask https://127.0.0.1",
        "longer than 1048576 bytes",
    ] {
        let mut heard = Heard::at("2026-11-23T10:00:10Z");
        let fault = watch.ask(&mut heard).expect_err(expected).to_string();
        assert!(fault.contains(expected) && heard.told.is_empty(), "{expected}: {fault}");
        assert!(!fault.contains("secret-token"), "{fault}");
    }
    watch.ask(&mut Heard::at("2026-11-23T10:00:10Z")).expect("it answers again");
}

#[test]
fn a_watch_ends_at_what_is_no_event() {
    for (lines, expected) in [
        (vec!["<html>".to_owned()], "answers no pods"),
        (
            vec![r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410}}"#.into()],
            "has forgotten",
        ),
        (
            vec![r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":500}}"#.into()],
            "answers 500",
        ),
        (vec!["x".repeat(3 << 20)], "longer than"),
    ] {
        let place = Place::new();
        let server = HttpsServer::start(place.path(), move |request| {
            if !request.path.contains("watch=true") {
                return Answer::Body(200, list(&[], 100));
            }
            let (sender, receiver) = channel();
            lines.iter().for_each(|line| sender.send(line.clone()).expect("it is here"));
            Answer::Lines(receiver)
        });
        let mut watch = place.watch(&server, api_server(), Limits::default());
        let mut heard = Heard::at("2026-11-23T10:00:10Z");
        watch.ask(&mut heard).expect("a list");
        let fault = watch.ask(&mut heard).expect_err(expected).to_string();
        assert!(fault.contains(expected), "{expected}: {fault}");
        watch.ask(&mut heard).expect("a list again");
    }
}

#[test]
fn nothing_that_is_slow_holds_it_up() {
    let place = Place::new();
    let limits =
        Limits { step: Duration::from_millis(200), request: Duration::from_millis(400), ..Limits::default() };
    let limits = Limits { watch: Duration::from_secs(1), ..limits };
    let server = HttpsServer::start(place.path(), move |request| match request.path.as_str() {
        "/pods" => Answer::Silence,
        path if path.contains("watch=true") => {
            let (sender, receiver) = channel();
            // Open, and silent.
            std::mem::forget(sender);
            Answer::Lines(receiver)
        }
        _ => Answer::Body(200, list(&[], 100)),
    });
    for asked in [Asked::Kubelet, api_server()] {
        let mut watch = place.watch(&server, asked, limits);
        let mut heard = Heard::at("2026-11-23T10:00:10Z");
        let begin = Instant::now();
        let (first, second) = (watch.ask(&mut heard), watch.ask(&mut heard));
        assert!(first.is_err() || second.is_err());
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_server_is_who_its_certificate_says_or_is_told_nothing() {
    let (place, other) = (Place::new(), Place::new());
    let server = HttpsServer::start(place.path(), |_| Answer::Body(200, list(&[], 1)));
    let stranger = HttpsServer::start(other.path(), |_| Answer::Body(200, list(&[], 1)));
    let mut heard = Heard::at("2026-11-23T10:00:10Z");
    let mut ask = |url: &str, ca: &Path| {
        let client = Client::new(url, ca, &place.token(), Limits::default());
        Watch::new(client, Asked::Kubelet).ask(&mut heard)
    };
    ask(&server.url(), server.ca()).expect("it is known");
    // Another authority; another name than the certificate has.
    assert!(matches!(ask(&stranger.url(), server.ca()), Err(Fault::NoAnswer { .. })));
    let by_name = server.url().replace("127.0.0.1", "localhost");
    assert!(matches!(ask(&by_name, server.ca()), Err(Fault::NoAnswer { .. })));
    assert!(stranger.requests().is_empty());
    assert_eq!(server.requests().len(), 1);
    let missing =
        ask(&server.url(), &place.path().join("none.crt")).expect_err("no certificates").to_string();
    assert!(missing.contains("kubernetes.ca"), "{missing}");
    let empty = place.path().join("empty.crt");
    std::fs::write(&empty, "none").expect("write");
    assert!(ask(&server.url(), &empty).is_err());
}

#[test]
fn a_token_is_shown_to_nobody_over_a_bare_line() {
    use std::io::{Read as _, Write as _};
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a client");
        let mut asked = Vec::new();
        let mut piece = [0; 1024];
        while !asked.ends_with(b"\r\n\r\n") {
            let count = connection.read(&mut piece).expect("a request");
            asked.extend_from_slice(&piece[..count]);
        }
        let body = list(&[], 1);
        write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .expect("answer");
        String::from_utf8(asked).expect("a request")
    });
    let client = Client::new(&url, Path::new("/nowhere"), &place.token(), Limits::default());
    Watch::new(client, Asked::Kubelet).ask(&mut Heard::at("2026-11-23T10:00:10Z")).expect("an answer");
    let asked = server.join().expect("it has answered").to_lowercase();
    assert!(asked.starts_with("get /pods ") && !asked.contains("authorization"), "{asked}");
}
