//! Debug files fetched from debuginfod servers by build id, on a thread of their own.
//!
//! Asked for only where servers are configured, because a server learns what runs here. Nobody waits for an answer: who
//! names frames goes on without, and is told when a file has come. What is promised:
//! - Connecting, each read and a whole request end in time; an answer is [`Limits::file_bytes`] at most.
//! - An answer is kept only if it is an ELF file with the build id that was asked for, and appears whole, by renaming.
//! - What no server has is not asked for again for an hour; a server that failed, not for ten minutes.
//! - Kept files take [`Limits::kept_bytes`] at most; those that were not opened for longest go first.
//!
//! Certificates are checked against what this host trusts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::elf::Elf;
use super::source::{Pinned, Source};
use crate::model::BuildId;

/// Most build ids that wait for being asked.
const QUEUE: usize = 64;
/// Most refusals remembered.
const MAX_REFUSED: usize = 4096;
const REFUSED_FOR: Duration = Duration::from_secs(3600);
const FAILED_FOR: Duration = Duration::from_secs(600);
const SUFFIX: &str = ".debug";
const UNFINISHED: &str = ".unfinished";
/// Largest file of certificates read, in bytes.
const MAX_CERTIFICATES_BYTES: u64 = 8 << 20;
/// Where distributions keep the certificates they trust.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What fetching may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For connecting, for the begin of an answer, and for each read of it.
    pub step: Duration,
    /// For a whole request.
    pub request: Duration,
    /// Largest answer, in bytes.
    pub file_bytes: u64,
    /// What kept files may take, in bytes.
    pub kept_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            step: Duration::from_secs(5),
            request: Duration::from_secs(120),
            file_bytes: 256 << 20,
            kept_bytes: 1 << 30,
        }
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchStats {
    /// Files fetched and kept.
    pub fetched: u64,
    /// Build ids that no server knew.
    pub refused: u64,
    /// Requests that failed, were too slow or too large, or brought something else.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    fetched: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// Fetches debug files. Its thread ends when this is dropped and its last request is over.
#[derive(Debug)]
pub struct Fetcher {
    asks: SyncSender<BuildId>,
    done: Receiver<(BuildId, bool)>,
    directory: PathBuf,
    counters: Arc<Counters>,
}

impl Fetcher {
    /// Starts to fetch from `servers`, in this order, and keeps files in `directory`.
    pub fn start(servers: Vec<String>, directory: &Path) -> Fetcher {
        Fetcher::with_limits(servers, directory, Limits::default())
    }

    /// Like [`Fetcher::start`], within limits of its own.
    pub fn with_limits(servers: Vec<String>, directory: &Path, limits: Limits) -> Fetcher {
        let (asks, asked) = sync_channel(QUEUE);
        let (tell, done) = channel();
        let counters = Arc::new(Counters::default());
        let (work_directory, work_counters) = (directory.to_path_buf(), Arc::clone(&counters));
        let started = std::thread::Builder::new().name("fnscope-fetch".into()).spawn(move || {
            Worker::new(servers, work_directory, limits, work_counters).run(&asked, &tell);
        });
        if let Err(error) = started {
            tracing::warn!("start a thread for debuginfod: {error}; no debug file is fetched");
        }
        Fetcher { asks, done, directory: directory.to_path_buf(), counters }
    }

    /// Asks for the debug file of `build_id`, unless too much is asked for already.
    pub fn ask(&self, build_id: BuildId) {
        // What finds no place now is asked for again when it is looked for again.
        let _ = self.asks.try_send(build_id);
    }

    /// What has come since this was asked last.
    pub fn fetched(&mut self) -> Vec<BuildId> {
        self.done.try_iter().filter(|(_, here)| *here).map(|(build_id, _)| build_id).collect()
    }

    /// Waits for the next one that was asked for, for `time` at most, and tells whether it is here.
    pub fn wait(&mut self, time: Duration) -> Option<(BuildId, bool)> {
        self.done.recv_timeout(time).ok()
    }

    /// Where the debug file of `build_id` is kept, if it is. Being asked for, it is kept for longer.
    pub fn path(&self, build_id: BuildId) -> PathBuf {
        let path = path_in(&self.directory, build_id);
        // Best effort: a file that was used lately is cleaned away last.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        path
    }

    /// Counts so far.
    pub fn stats(&self) -> FetchStats {
        FetchStats {
            fetched: self.counters.fetched.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
            failed: self.counters.failed.load(Ordering::Relaxed),
        }
    }
}

fn path_in(directory: &Path, build_id: BuildId) -> PathBuf {
    directory.join(format!("{build_id}{SUFFIX}"))
}

/// The thread's side.
struct Worker {
    servers: Vec<String>,
    directory: PathBuf,
    limits: Limits,
    agent: ureq::Agent,
    /// Build ids that are not asked for until then.
    refused: HashMap<BuildId, Instant>,
    counters: Arc<Counters>,
}

/// What a server said.
enum Answer {
    Fetched,
    Unknown,
    Failed(String),
}

impl Worker {
    fn new(servers: Vec<String>, directory: PathBuf, limits: Limits, counters: Arc<Counters>) -> Worker {
        let secure = servers.iter().any(|server| server.starts_with("https:"));
        let roots = if secure { trusted() } else { Vec::new() };
        if secure && roots.is_empty() {
            tracing::warn!("debuginfod: this host has no file of trusted certificates; https fails");
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(limits.request))
            .timeout_resolve(Some(limits.step))
            .timeout_connect(Some(limits.step))
            .timeout_recv_response(Some(limits.step))
            .timeout_per_read(Some(limits.step))
            .max_redirects(3)
            .http_status_as_error(false)
            .max_idle_connections(1)
            .user_agent(concat!("fnscope/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
            .build()
            .new_agent();
        Worker { servers, directory, limits, agent, refused: HashMap::new(), counters }
    }

    fn run(&mut self, asked: &Receiver<BuildId>, tell: &Sender<(BuildId, bool)>) {
        if let Err(error) = fs::create_dir_all(&self.directory) {
            tracing::warn!("make {}: {error}; no debug file is fetched", self.directory.display());
            return;
        }
        self.clean();
        while let Ok(build_id) = asked.recv() {
            let refused = self.refused.get(&build_id).is_some_and(|until| *until > Instant::now());
            let here = path_in(&self.directory, build_id).is_file() || !refused && self.fetch(build_id);
            if tell.send((build_id, here)).is_err() {
                return;
            }
        }
    }

    /// Asks one server after the other; whether the file is here now.
    fn fetch(&mut self, build_id: BuildId) -> bool {
        let mut again = REFUSED_FOR;
        for server in &self.servers {
            match self.fetch_from(server, build_id) {
                Answer::Fetched => {
                    self.counters.fetched.fetch_add(1, Ordering::Relaxed);
                    self.clean();
                    return true;
                }
                Answer::Unknown => {}
                Answer::Failed(error) => {
                    tracing::debug!("fetch debug file {build_id} from {server}: {error}");
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    again = FAILED_FOR;
                }
            }
        }
        self.counters.refused.fetch_add(u64::from(again == REFUSED_FOR), Ordering::Relaxed);
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(build_id, Instant::now() + again);
        false
    }

    fn fetch_from(&self, server: &str, build_id: BuildId) -> Answer {
        let url = format!("{}/buildid/{build_id}/debuginfo", server.trim_end_matches('/'));
        let response = match self.agent.get(&url).call() {
            Ok(response) => response,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        match response.status().as_u16() {
            200 => {}
            404 => return Answer::Unknown,
            status => return Answer::Failed(format!("status {status}")),
        }
        let body = response.into_body();
        if body.content_length().is_some_and(|length| length > self.limits.file_bytes) {
            return Answer::Failed("it is larger than the limit".into());
        }
        let limit = self.limits.file_bytes.saturating_add(1);
        let path = path_in(&self.directory, build_id);
        let unfinished = path.with_extension(format!("{}{UNFINISHED}", std::process::id()));
        let kept = self.keep(&mut body.into_with_config().limit(limit).reader(), &unfinished, build_id);
        match kept.and_then(|()| fs::rename(&unfinished, &path)) {
            Ok(()) => Answer::Fetched,
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                Answer::Failed(error.to_string())
            }
        }
    }

    /// Writes `body` to `path`; an error unless it is the debug file of `build_id`.
    fn keep(&self, body: &mut impl Read, path: &Path, build_id: BuildId) -> io::Result<()> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let length = io::copy(&mut body.take(self.limits.file_bytes.saturating_add(1)), &mut file)?;
        file.flush()?;
        if length > self.limits.file_bytes {
            return Err(io::Error::other("it is larger than the limit"));
        }
        let source = Source::file(Arc::new(file.into())).map_err(io::Error::other)?;
        let elf = Elf::read(&mut Pinned::new(source)).map_err(io::Error::other)?;
        if elf.build_id != Some(build_id) {
            return Err(io::Error::other("it has another build id"));
        }
        Ok(())
    }

    /// Above the limit, removes the oldest files down to nine tenths of it; and what was never finished.
    fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(about) = entry.metadata() else { continue };
            let Ok(modified) = about.modified() else { continue };
            let age = modified.elapsed().unwrap_or_default();
            if name.ends_with(UNFINISHED) && age > 2 * self.limits.request {
                // Not one that another process is about to finish.
                let _ = fs::remove_file(entry.path());
            } else if name.ends_with(SUFFIX) {
                files.push((modified, about.len(), entry.path()));
            }
        }
        files.sort();
        let mut kept: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        if kept <= self.limits.kept_bytes {
            return;
        }
        for (_, bytes, path) in files {
            if kept <= self.limits.kept_bytes / 10 * 9 {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                kept = kept.saturating_sub(bytes);
            }
        }
    }
}

/// The certificates that this host trusts.
fn trusted() -> Vec<Certificate<'static>> {
    let chosen = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let paths = chosen.into_iter().chain(CERTIFICATES.iter().map(PathBuf::from));
    let Some(file) = paths.into_iter().find_map(|path| File::open(path).ok()) else { return Vec::new() };
    let mut text = Vec::new();
    if file.take(MAX_CERTIFICATES_BYTES).read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    let certificates = ureq::tls::parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    certificates.collect()
}
