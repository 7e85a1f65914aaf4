//! A server of Docker's API on a unix socket that answers what a test tells it to, odd things too: it stands where no
//! real daemon can be made to behave so. Whatever runs here for real is tested on the real one.
//!
//! Dropped, its socket is gone and its connections are cut.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// JSON.
    Json(Value),
    /// A status that is a fault, and what it says.
    Fault(u16, &'static str),
    /// A body of any bytes.
    Body(Vec<u8>),
    /// Bytes that are no HTTP.
    Bytes(Vec<u8>),
    /// A stream of events, which then stays open. The first time alone: asked again, it has told everything.
    Events(Vec<Vec<u8>>),
    /// Another answer, after a while.
    Late(Duration, Box<Reply>),
    /// Nothing, ever.
    Silence,
}

type Answers = dyn Fn(&str) -> Reply + Send + Sync;

/// A running server.
pub struct OddDocker {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    answers: Box<Answers>,
    asked: Mutex<Vec<String>>,
    connections: Mutex<Vec<UnixStream>>,
    told: AtomicBool,
    ended: (Mutex<bool>, Condvar),
}

impl OddDocker {
    /// Starts it on `socket`, in the place of whatever lies there. `answers` gets the path without the API's version
    /// and without the query: `/containers/json`.
    pub fn start(socket: &Path, answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> OddDocker {
        // Bound beside it and moved into its place: who connects meets the one before, or this one.
        let beside = socket.with_extension("new");
        let listener = UnixListener::bind(&beside).expect("bind a socket");
        std::fs::rename(&beside, socket).expect("put the socket in its place");
        let shared = Arc::new(Shared {
            answers: Box::new(answers),
            asked: Mutex::default(),
            connections: Mutex::default(),
            told: AtomicBool::new(false),
            ended: Default::default(),
        });
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if theirs.has_ended() {
                    return;
                }
                theirs.lock_connections().push(stream.try_clone().expect("share a connection"));
                let shared = theirs.clone();
                // Ends when its connection is cut, at the latest.
                std::thread::spawn(move || drop(shared.serve(&stream)));
            }
        });
        OddDocker { socket: socket.to_owned(), shared, thread: Some(thread) }
    }

    /// How often `path` was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// Leaves its socket to whoever puts another in its place, and goes on serving those who are connected.
    pub fn leave_socket(&mut self) {
        self.socket = PathBuf::new();
    }
}

impl Drop for OddDocker {
    fn drop(&mut self) {
        *self.shared.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.ended.1.notify_all();
        for connection in self.shared.lock_connections().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Where its socket is still its own, a last connection wakes it; where it is not, it waits with the process.
        if UnixStream::connect(&self.socket).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Shared {
    fn lock_connections(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for as long as the server lives, or so long.
    fn wait(&self, limit: Option<Duration>) {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let left = until
                .map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            ended = self.ended.1.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers one request after the other.
    fn serve(&self, stream: &UnixStream) -> std::io::Result<()> {
        let mut requests = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if requests.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            while requests.read_line(&mut line)? > 2 {
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            let plain = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
                Some((_, rest)) => format!("/{rest}"),
                None => path.to_owned(),
            };
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(plain.clone());
            self.reply((self.answers)(&plain), stream)?;
        }
    }

    fn reply(&self, reply: Reply, mut stream: &UnixStream) -> std::io::Result<()> {
        match reply {
            Reply::Json(value) => body(stream, 200, &serde_json::to_vec(&value)?),
            Reply::Fault(status, says) => {
                body(stream, status, &serde_json::to_vec(&serde_json::json!({ "message": says }))?)
            }
            Reply::Body(bytes) => body(stream, 200, &bytes),
            Reply::Bytes(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(Shutdown::Both)
            }
            Reply::Events(events) => {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                )?;
                if !self.told.swap(true, Ordering::SeqCst) {
                    for event in events {
                        write!(stream, "{:x}\r\n", event.len())?;
                        stream.write_all(&event)?;
                        stream.write_all(b"\r\n")?;
                    }
                }
                self.wait(None);
                Ok(())
            }
            Reply::Late(wait, later) => {
                self.wait(Some(wait));
                self.reply(*later, stream)
            }
            Reply::Silence => {
                self.wait(None);
                Ok(())
            }
        }
    }
}

fn body(mut stream: &UnixStream, status: u16, bytes: &[u8]) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    )?;
    stream.write_all(bytes)
}
