//! A double of the agent: gives up what the agent gives up, by the same code, then does what it is told. `tests/rights.rs`
//! looks how it ends: 42 where the filter lets it.

use std::net::TcpStream;
use std::process::{Command, ExitCode};

use fnscope::privilege::{Part, Sandbox};

fn main() -> ExitCode {
    let told = std::env::args().nth(1).expect("what to do");
    let (sandbox, _) = Sandbox::confine(false).expect("give up");
    let what = match told.strip_prefix("keeper-") {
        Some(what) => {
            sandbox.give_up(Part::Keeper).expect("give up more");
            what
        }
        None => &told,
    };
    match what {
        "work" => {
            let dir = std::env::temp_dir().join(format!("double-{}", std::process::id()));
            std::fs::create_dir(&dir).and_then(|()| std::fs::write(dir.join("x"), "x")).expect("write");
            std::thread::spawn(|| ()).join().expect("a thread");
            std::fs::remove_dir_all(&dir).expect("remove");
        }
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
