//! Requests to one server, with the service account's token, its certificate checked.
//!
//! The token is read anew for each request, because Kubernetes changes it each hour, and shown over HTTPS alone; nobody
//! is followed to another server, and no proxy is used. Every wait is bounded, and so is every answer.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// Largest file of certificates, and of a token, in bytes.
const MAX_CERTIFICATES_BYTES: u64 = 1 << 20;
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For connecting, and for the begin of an answer.
    pub step: Duration,
    /// For a whole answer.
    pub request: Duration,
    /// How long a watch lasts, at most a step longer.
    pub watch: Duration,
    /// Largest answer, in bytes.
    pub answer_bytes: u64,
    /// Longest line of a watch, in bytes.
    pub line_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            step: Duration::from_secs(5),
            request: Duration::from_secs(10),
            watch: Duration::from_secs(240),
            answer_bytes: 16 << 20,
            line_bytes: 2 << 20,
        }
    }
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The certificates cannot be read.
    #[error("read {path}: {source}; name who signed the server's certificate in kubernetes.ca")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server does not answer, or is not who it should be.
    #[error("ask {server}: {source}")]
    NoAnswer {
        /// The server.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// It answers that it will not.
    #[error("{server} answers {status}: {}", cure(*status))]
    Refused {
        /// The server.
        server: String,
        /// Its status.
        status: u16,
    },
    /// What it answers cannot be read to its end.
    #[error("read the answer of {server}: {source}")]
    Broken {
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// It answers something else than was asked for.
    #[error("{server} answers no pods: {source}")]
    Garbage {
        /// The server.
        server: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The server has forgotten the version that a watch went on from.
    #[error("{server} has forgotten that version of its pods")]
    Expired {
        /// The server.
        server: String,
    },
}

fn cure(status: u16) -> &'static str {
    match status {
        401 => "the token of kubernetes.token is not known to it",
        403 => "the service account may not read pods: see deploy/README.md for the role that it needs",
        404 => "there are no pods to read at this address; look at kubernetes.url",
        _ => "it is asked again later",
    }
}

/// Asks one server.
#[derive(Debug)]
pub struct Client {
    server: String,
    ca: PathBuf,
    token: PathBuf,
    limits: Limits,
    /// What requests are made with, and when the certificates were changed.
    agent: Option<(ureq::Agent, Option<SystemTime>)>,
}

impl Client {
    /// Of `server`, without a slash at its end. Nothing is read or asked yet.
    pub fn new(server: &str, ca: &Path, token: &Path, limits: Limits) -> Client {
        Client { server: server.into(), ca: ca.into(), token: token.into(), limits, agent: None }
    }

    /// The whole answer to `path`.
    ///
    /// # Errors
    /// There is none, it is not 200, too large, or too slow.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, Fault> {
        let body = self.ask(path, self.limits.request)?;
        let mut answer = Vec::new();
        let most = self.limits.answer_bytes;
        let mut reader = body.into_with_config().limit(u64::MAX).reader().take(most.saturating_add(1));
        let read = reader.read_to_end(&mut answer);
        let read = read.and_then(|_| if answer.len() as u64 > most { Err(too_long(most)) } else { Ok(()) });
        read.map(|()| answer).map_err(|source| self.broken(source))
    }

    /// Each line of the answer to `path`, as it comes, until `each` wants no more, the server ends it, or the time for a
    /// watch is over.
    ///
    /// # Errors
    /// There is no answer, it is not 200, a line is too long, or it ends in the midst of one.
    pub fn follow(&mut self, path: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Fault> {
        let body = self.ask(path, self.limits.watch.saturating_add(self.limits.step))?;
        let mut lines = BufReader::new(body.into_with_config().limit(u64::MAX).reader());
        let mut line = Vec::new();
        let most = self.limits.line_bytes;
        loop {
            line.clear();
            let read = (&mut lines).take(most).read_until(b'\n', &mut line);
            match read.map_err(|source| self.broken(source))? {
                0 => return Ok(()),
                _ if line.last() == Some(&b'\n') => {}
                count if count as u64 >= most => return Err(self.broken(too_long(most))),
                _ => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            }
            if !each(&line) {
                return Ok(());
            }
        }
    }

    /// What it answers is not what was asked for.
    pub(super) fn garbage(&self, source: serde_json::Error) -> Fault {
        Fault::Garbage { server: self.server.clone(), source }
    }

    /// It ends a watch with `status`.
    pub(super) fn refused(&self, status: u16) -> Fault {
        let server = self.server.clone();
        if status == 410 { Fault::Expired { server } } else { Fault::Refused { server, status } }
    }

    /// How long a watch lasts.
    pub(super) fn watch_seconds(&self) -> u64 {
        self.limits.watch.as_secs().max(1)
    }

    fn broken(&self, source: io::Error) -> Fault {
        Fault::Broken { server: self.server.clone(), source }
    }

    fn ask(&mut self, path: &str, whole: Duration) -> Result<ureq::Body, Fault> {
        let url = format!("{}{path}", self.server);
        let token = self.token();
        let request = self.agent()?.get(&url).config().timeout_global(Some(whole)).build();
        let request = request.header("Accept", "application/json");
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let answer = request.call();
        let answer = answer
            .map_err(|source| Fault::NoAnswer { server: self.server.clone(), source: source.into() })?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status => Err(self.refused(status)),
        }
    }

    /// The token, where there is one and the way is encrypted.
    fn token(&self) -> Option<String> {
        let file = File::open(&self.token).ok().filter(|_| self.is_encrypted())?;
        let mut text = String::new();
        file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).ok()?;
        let token = text.trim();
        (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then(|| token.to_owned())
    }

    fn is_encrypted(&self) -> bool {
        self.server.starts_with("https://")
    }

    /// What requests are made with; made anew where the certificates were changed.
    fn agent(&mut self) -> Result<&ureq::Agent, Fault> {
        let changed = std::fs::metadata(&self.ca).and_then(|about| about.modified()).ok();
        if self.agent.as_ref().is_some_and(|(_, of)| *of != changed) {
            self.agent = None;
        }
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => (self.new_agent()?, changed),
        };
        Ok(&self.agent.insert(agent).0)
    }

    fn new_agent(&self) -> Result<ureq::Agent, Fault> {
        let roots = if self.is_encrypted() { self.roots()? } else { Vec::new() };
        let config = ureq::Agent::config_builder()
            .timeout_resolve(Some(self.limits.step))
            .timeout_connect(Some(self.limits.step))
            .timeout_send_request(Some(self.limits.step))
            .timeout_recv_response(Some(self.limits.step))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(1)
            .proxy(None)
            .user_agent(concat!("fnscope/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::from(roots)).build());
        Ok(config.build().new_agent())
    }

    /// Who may have signed the server's certificate.
    fn roots(&self) -> Result<Vec<Certificate<'static>>, Fault> {
        let fault = |source| Fault::Certificates { path: self.ca.clone(), source };
        let mut text = Vec::new();
        let file = File::open(&self.ca).map_err(fault)?;
        file.take(MAX_CERTIFICATES_BYTES).read_to_end(&mut text).map_err(fault)?;
        let certificates = ureq::tls::parse_pem(&text).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            return Err(fault(io::Error::other("it holds no certificate")));
        }
        Ok(certificates)
    }
}

fn too_long(most: u64) -> io::Error {
    io::Error::other(format!("it is longer than {most} bytes"))
}
