//! A double of the agent: gives up what the agent gives up, by the same code, then does what it is told. `tests/rights.rs`
//! looks how it ends: 42 where the filter lets it.

use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::{Command, ExitCode};

use fnscope::privilege::{Part, Sandbox};

fn main() -> ExitCode {
    let told = std::env::args().nth(1).expect("what to do");
    let (part, what) = match told.split_once('-') {
        Some(("keeper", what)) => (Some(Part::Keeper), what),
        Some(("fetcher", what)) => (Some(Part::Fetcher), what),
        Some(("capture", what)) => (Some(Part::Capture), what),
        Some(("main", what)) => (Some(Part::Main), what),
        Some(("parser", what)) => (Some(Part::Parser), what),
        Some(("runtimes", what)) => (Some(Part::Runtimes), what),
        Some(("discovery", what)) => (Some(Part::Discovery), what),
        Some(("logs", what)) => (Some(Part::Logs), what),
        Some(("pods", what)) => (Some(Part::Pods), what),
        _ => (None, told.as_str()),
    };
    let network = matches!(part, Some(Part::Fetcher | Part::Capture | Part::Main | Part::Pods));
    let names = (what == "resolve").then(|| UdpSocket::bind("127.9.5.3:53").expect("bind"));
    let (sandbox, _) = Sandbox::confine(network).expect("give up");
    if let Some(names) = names {
        std::thread::spawn(move || answer(&names));
    }
    if let Some(part) = part {
        sandbox.give_up(part).expect("give up more");
    }
    match what {
        "resolve" => {
            let mut found = ("double.test", 80).to_socket_addrs().expect("resolve");
            assert_eq!(found.next().map(|address| address.ip().to_string()).as_deref(), Some("127.9.5.4"));
        }
        "work" => {
            let dir = std::env::temp_dir().join(format!("double-{}", std::process::id()));
            std::fs::create_dir(&dir).and_then(|()| std::fs::write(dir.join("x"), "x")).expect("write");
            std::thread::spawn(|| ()).join().expect("a thread");
            std::fs::remove_dir_all(&dir).expect("remove");
        }
        "look" => {
            assert!(std::fs::read_dir("/proc/self/task").expect("list").count() > 0);
            assert!(!std::fs::read("/proc/self/environ").expect("read").is_empty());
            assert!(std::fs::read_link("/proc/self/exe").expect("it is a link").is_absolute());
            makes_nothing();
        }
        "make" => makes_nothing(),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "exec" => drop(Command::new("/bin/true").status()),
        "network" => drop(TcpStream::connect("127.0.0.1:9")),
        "engine" => drop(std::os::unix::net::UnixStream::connect("/nowhere")),
        "owner" => drop(std::os::unix::fs::chown("/nowhere", Some(1), None)),
        "kill" => {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::WINCH);
        }
        other => panic!("no {other}"),
    }
    ExitCode::from(42)
}

/// Nothing of root's own either, new or there already.
fn makes_nothing() {
    let new = std::env::temp_dir().join(format!("double-{}", std::process::id()));
    let mut options = std::fs::File::options();
    for opened in [std::fs::File::create(new), options.write(true).open("/etc/passwd")] {
        assert_eq!(opened.expect_err("it reads alone").kind(), std::io::ErrorKind::PermissionDenied);
    }
}

/// A server of names, of which each has the address 127.9.5.4.
fn answer(names: &UdpSocket) {
    const A: [u8; 2] = [0, 1];
    let mut query = [0; 512];
    while let Ok((len, from)) = names.recv_from(&mut query) {
        let question = query.get(12..len).expect("a header before it");
        let end = question.iter().position(|byte| *byte == 0).expect("a name's end") + 5;
        let question = question.get(..end).expect("a type and a class");
        let is_a = question.get(end - 4..end - 2) == Some(&A);
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        answer.extend(question);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 9, 5, 4]);
        }
        names.send_to(&answer, from).expect("answer");
    }
}
