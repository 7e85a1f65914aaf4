//! Fetching from real servers of every kind, in this process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::debuginfod::{FetchStats, Fetcher, Limits};
use super::elf_tests::small;
use crate::model::BuildId;

const LIMITS: Limits = Limits {
    step: Duration::from_millis(400),
    request: Duration::from_millis(1500),
    file_bytes: 1 << 20,
    kept_bytes: 1 << 20,
};

/// A server that answers each request by what `answer` writes for its path; and how many it got.
fn server(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let (answer, counter) = (Arc::new(answer), Arc::clone(&count));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, counter) = (stream.unwrap(), Arc::clone(&answer), Arc::clone(&counter));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                counter.fetch_add(1, Ordering::SeqCst);
                answer(first.split(' ').nth(1).unwrap_or_default(), &mut stream);
            });
        }
    });
    (address, count)
}

fn ok(stream: &mut TcpStream, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn unknown(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
}

fn build_id() -> BuildId {
    BuildId::new(b"buildid!").unwrap()
}

fn fetch(servers: &[&str], directory: &Path) -> (bool, FetchStats, Duration) {
    let servers = servers.iter().map(|server| server.to_string()).collect();
    let mut fetcher = Fetcher::with_limits(servers, directory, LIMITS);
    let begin = Instant::now();
    fetcher.ask(build_id());
    let (id, here) = fetcher.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(id, build_id());
    assert_eq!(fetcher.path(id).is_file(), here);
    (here, fetcher.stats(), begin.elapsed())
}

#[test]
fn a_debug_file_is_asked_for_by_its_build_id_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (first, firsts) = server(|_, stream| unknown(stream));
    let (second, seconds) = server(|path, stream| {
        assert_eq!(path, "/buildid/6275696c64696421/debuginfo");
        ok(stream, &small());
    });
    let servers = [&*first, &*format!("{second}/")];
    let (here, stats, _) = fetch(&servers, directory.path());
    assert_eq!((here, stats), (true, FetchStats { fetched: 1, refused: 0, failed: 0 }));
    assert_eq!(std::fs::read(directory.path().join("6275696c64696421.debug")).unwrap(), small());
    let (here, stats, _) = fetch(&servers, directory.path());
    assert_eq!((here, stats), (true, FetchStats::default()), "it is there already");
    assert_eq!((firsts.load(Ordering::SeqCst), seconds.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn what_nobody_has_is_not_asked_for_again_so_soon() {
    let directory = tempfile::tempdir().unwrap();
    let (address, count) = server(|_, stream| unknown(stream));
    let mut fetcher = Fetcher::with_limits(vec![address], directory.path(), LIMITS);
    for _ in 0..3 {
        fetcher.ask(build_id());
        assert_eq!(fetcher.wait(Duration::from_secs(20)), Some((build_id(), false)));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(fetcher.stats(), FetchStats { fetched: 0, refused: 1, failed: 0 });
}

#[test]
fn answers_that_are_none_cost_a_count_and_little_time() {
    let mut other = small();
    let at = other.windows(8).position(|bytes| bytes == b"buildid!").unwrap();
    other[at] = b'B';
    type Answer = Box<dyn Fn(&str, &mut TcpStream) + Send + Sync>;
    let cases: Vec<(&str, Answer)> = vec![
        ("another build id", Box::new(move |_, stream| ok(stream, &other))),
        ("garbage", Box::new(|_, stream| ok(stream, &[7; 5000]))),
        ("nothing", Box::new(|_, stream| ok(stream, b""))),
        ("no HTTP", Box::new(|_, stream| drop(stream.write_all(&[0xff; 300])))),
        (
            "an error",
            Box::new(|_, stream| drop(stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))),
        ),
        (
            "a head without end",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream.write_all(b"X-More: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {}
            }),
        ),
        (
            "a redirect to itself",
            Box::new(|path, stream| {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
            }),
        ),
        (
            "a cut one",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n");
                let _ = stream.write_all(&small()[..8000]);
            }),
        ),
        (
            "a terabyte told",
            Box::new(|_, stream| {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n"));
            }),
        ),
        (
            "more than the limit",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let _ = stream.write_all(&small());
                while stream.write_all(&[0; 65536]).is_ok() {}
            }),
        ),
        ("no answer", Box::new(|_, stream| drop(std::io::Read::read(stream, &mut [0])))),
        (
            "a drop at a time",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n");
                while stream.write_all(b"\x7f").is_ok() {
                    std::thread::sleep(Duration::from_millis(50)); // what is tested is slowness
                }
            }),
        ),
    ];
    for (case, answer) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (address, _) = server(answer);
        let (here, stats, took) = fetch(&[&address], directory.path());
        assert_eq!((here, stats), (false, FetchStats { fetched: 0, refused: 0, failed: 1 }), "{case}");
        assert!(took < LIMITS.request + Duration::from_secs(2), "{case} took {took:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{case} left something");
    }
}

#[test]
fn a_server_that_is_not_there_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for server in [&*address, "https://127.0.0.1:1", "http://[", "http://name.invalid"] {
        let (here, stats, _) = fetch(&[server], directory.path());
        assert_eq!((here, stats.failed), (false, 1), "{server}");
    }
}

#[test]
fn kept_files_are_bounded_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..40u64 {
        let path = directory.path().join(format!("{number:02x}.debug"));
        std::fs::write(&path, vec![0; 50_000]).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
    }
    std::fs::write(directory.path().join("other"), [0; 100]).unwrap();
    let (address, _) = server(|_, stream| ok(stream, &small()));
    assert!(fetch(&[&address], directory.path()).0);
    let left: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let kept = left.iter().filter(|name| name.ends_with(".debug")).count();
    assert!((15..=21).contains(&kept), "{left:?}");
    for (name, here) in
        [("00.debug", false), ("27.debug", true), ("other", true), ("6275696c64696421.debug", true)]
    {
        assert_eq!(left.iter().any(|left| left == name), here, "{name}: {left:?}");
    }
}
