//! Asks a running agent whether it is well: one GET over TCP, bounded in time and in size.
//!
//! It reads what our own server answers and what a proxy before it may: a length, or all until the end. What answers
//! may be anything, so nothing that it says is trusted: any bytes give an answer or an error.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long it takes at most, all together.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How much is read of an answer.
const MAX_BYTES: usize = 64 << 10;
/// How many lines its head may have.
const MAX_HEADERS: usize = 64;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Nobody listens there, or nobody can be reached.
    #[error("no agent answers at {address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Somebody listens there and does not answer in time, or breaks off.
    #[error("{address} was reached and does not answer: {source}")]
    Silent {
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// What came is no answer.
    #[error("what listens at {address} is no agent's health listener: {why}")]
    Odd {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What an agent says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether the answer is yes.
    pub ok: bool,
    /// The answer, such as `ready`.
    pub answer: String,
    /// Why.
    pub checks: Vec<ToldCheck>,
}

/// One thing that it looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldCheck {
    /// What it is about.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What is so.
    pub says: String,
}

impl Told {
    /// The answer and why, in one line: what fails, or where nothing does, what holds.
    pub fn line(&self) -> String {
        let checks = self.checks.iter().filter(|check| check.ok == self.ok);
        let why: Vec<String> = checks.map(|check| format!("{}: {}", check.name, check.says)).collect();
        format!("{}: {}", self.answer, why.join("; "))
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200 or 503.
    pub status: u16,
    /// What it says.
    pub body: String,
}

impl Answer {
    /// What the agent says; none where it is none that answers.
    pub fn told(&self) -> Option<Told> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Asks for `path`, as JSON, at `address`; where that is every address of the host, at the loopback.
///
/// # Errors
/// There is no answer within [`PATIENCE`], or none that makes sense.
pub fn ask(address: SocketAddr, path: &str) -> Result<Answer, ProbeError> {
    let address = reachable(address);
    let until = Instant::now() + PATIENCE;
    // Zero would be no limit.
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())
        .map_err(|source| ProbeError::Unreachable { address, source })?;
    let mut exchange = || {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        );
        stream.set_write_timeout(Some(left()))?;
        stream.write_all(head.as_bytes())?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        while bytes.len() < MAX_BYTES {
            if Instant::now() >= until {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left()))?;
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend(piece.iter().take(length)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // What was said in whole counts, however it ended.
                Err(_) if matches!(parse(&bytes), Ok(Some(_))) => break,
                Err(error) => return Err(error),
            }
            if matches!(length_of(&bytes), Some(length) if bytes.len() >= length) {
                break;
            }
        }
        Ok(bytes)
    };
    let bytes = exchange().map_err(|source| ProbeError::Silent { address, source })?;
    match parse(&bytes) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(ProbeError::Odd { address, why: "its answer is cut off, or too long" }),
        Err(why) => Err(ProbeError::Odd { address, why }),
    }
}

/// Every address of the host is none to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// How long the whole answer is, where its head is there and says so.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let (head, begin) = head_of(bytes)?;
    let length = content_length(head).ok()??;
    begin.checked_add(length)
}

/// The answer in `bytes`, which are all that came; none where more should have.
///
/// # Errors
/// It is no answer over HTTP, or one of a kind that we do not ask for.
pub fn parse(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let Some((head, begin)) = head_of(bytes) else {
        let is_http = b"HTTP/1.".starts_with(bytes) || bytes.starts_with(b"HTTP/1.");
        return if is_http { Ok(None) } else { Err("it does not speak HTTP") };
    };
    let status = status_of(head).ok_or("it does not speak HTTP")?;
    let body = bytes.get(begin..).unwrap_or_default();
    let body = match content_length(head)? {
        Some(length) => match body.get(..length) {
            Some(body) => body,
            None => return Ok(None),
        },
        None => body,
    };
    let body = std::str::from_utf8(body).map_err(|_| "its answer is no text")?;
    Ok(Some(Answer { status, body: body.into() }))
}

/// The head, and where the body begins.
fn head_of(bytes: &[u8]) -> Option<(&str, usize)> {
    let length = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..length)?).ok()?;
    Some((head, length + 4))
}

fn status_of(head: &str) -> Option<u16> {
    let rest = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    if !rest.get(3..).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r'])) {
        return None;
    }
    digits.parse().ok().filter(|status| (100..=599).contains(status))
}

fn content_length(head: &str) -> Result<Option<usize>, &'static str> {
    let mut length = None;
    for (at, line) in head.split("\r\n").skip(1).enumerate() {
        if at >= MAX_HEADERS {
            return Err("its head is too long");
        }
        let (name, value) = line.split_once(':').ok_or("its head makes no sense")?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("its answer is in pieces");
        }
        if name.eq_ignore_ascii_case("content-length") {
            let value: usize = value.trim().parse().map_err(|_| "its head makes no sense")?;
            if length.is_some_and(|other| other != value) || value > MAX_BYTES {
                return Err("its head makes no sense");
            }
            length = Some(value);
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::TcpListener;

    #[test]
    fn answers_are_read_and_others_refused() {
        let answer = |status, body: &str| Ok(Some(Answer { status, body: body.into() }));
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", answer(200, "ok")),
            ("HTTP/1.1 503 No\r\ncontent-length:1\r\nX: y\r\n\r\nok", answer(503, "o")),
            ("HTTP/1.0 200\r\n\r\nall of it", answer(200, "all of it")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Ok(None)),
            ("HTTP/1.1 200 OK\r\nContent-Le", Ok(None)),
            ("HT", Ok(None)),
            ("", Ok(None)),
            ("SSH-2.0-OpenSSH_9\r\n", Err("it does not speak HTTP")),
            ("HTTP/2 200 OK\r\n\r\n", Err("it does not speak HTTP")),
            ("HTTP/1.1 2000 OK\r\n\r\n", Err("it does not speak HTTP")),
            ("HTTP/1.1 +20 OK\r\n\r\n", Err("it does not speak HTTP")),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Err("its head makes no sense")),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err("its head makes no sense")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", Err("its head makes no sense")),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                Err("its head makes no sense"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Err("its answer is in pieces"),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    /// Answers one connection with `say`.
    fn server(say: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || say(listener.accept().unwrap().0));
        address
    }

    #[test]
    fn an_answer_comes_in_time_or_not_at_all() {
        let address = server(|mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            // It does not close, and is not waited for.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(ask(address, "/healthz").unwrap(), Answer { status: 200, body: "ok".into() });

        let begin = Instant::now();
        let address = server(|mut stream| while stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").is_ok() {});
        assert!(matches!(ask(address, "/"), Err(ProbeError::Odd { .. } | ProbeError::Silent { .. })));
        let address = server(|stream| {
            let _ = (&stream).read_to_end(&mut Vec::new());
        });
        assert!(matches!(ask(address, "/"), Err(ProbeError::Silent { .. })));
        // Reads that end in time, and never come to an end.
        let address = server(|mut stream| {
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(ask(address, "/").is_err());
        assert!(begin.elapsed() < 3 * PATIENCE);

        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(ask(closed, "/"), Err(ProbeError::Unreachable { .. })));
    }

    #[test]
    fn every_address_is_asked_at_the_loopback() {
        for (given, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(given.parse().unwrap()).to_string(), asked);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            text in "(HTTP/1.[01] [0-9]{0,4}[ a-z]{0,3}\r?\n)?(([Cc]ontent-[Ll]ength|[a-z-]{0,9}):? ?[0-9]{0,22}\r?\n){0,4}(\r\n)?.{0,40}",
            cut in 0..200_usize,
        ) {
            let _ = parse(&bytes);
            if let Ok(Some(answer)) = parse(text.as_bytes()) {
                prop_assert!((100..600).contains(&answer.status) && answer.body.len() <= text.len());
            }
            let _ = parse(text.as_bytes().get(..cut).unwrap_or_default());
        }
    }
}
