//! A Docker Engine on a unix socket: list, then watch, for as long as it takes.
//!
//! | file | what |
//! |---|---|
//! | [`book`] | what is known, what is to be asked, in which order things are told; pure |
//! | `api` | the engine's API; bollard is used there alone |
//! | `images` | labels of images, asked for once |
//! | `backoff` | how long to wait for a daemon that is not there |
//!
//! Promises: an absent or restarted daemon is waited for; nothing that happens between the list and the stream of
//! events is missed; no answer of the daemon ends [`watch`]; inspections never hold up the stream. Not here: what a
//! container's names mean, and where its cgroup is.

mod api;
mod backoff;
pub mod book;
mod images;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use tracing::{debug, info, warn};

use self::api::{Api, ApiError};
use self::backoff::Backoff;
use self::book::{Answer, Ask, Book, Event, Listed, Mark};
use super::pods::Sandboxes;
use crate::identity::Keys;
use crate::model::{Container, ContainerEvent, Swap};

/// Name of this runtime in [`Container::runtime`] and [`ContainerEvent`].
pub const RUNTIME: &str = "docker";

/// Inspections under way at a time. The daemon answers one in about a millisecond.
const MAX_INSPECTIONS: usize = 16;
/// A connection that lasted so long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// Where the daemon is and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptions {
    /// The daemon's unix socket.
    pub socket: PathBuf,
    /// How often the list is compared with what is known. The daemon drops events, without a word, for a reader that
    /// is 100 ms behind.
    pub relist_every: Duration,
    /// Labels and variables that are kept beside those that the table of rules reads. What is asked for after they were
    /// replaced is cut to the new ones; what was told before stays as it was told.
    pub keys: Swap<Keys>,
}

impl DockerOptions {
    /// Where the daemon listens if nobody says otherwise.
    pub const DEFAULT_SOCKET: &'static str = "/var/run/docker.sock";

    /// The daemon at `configured`, else at `docker_host` (the variable `DOCKER_HOST`), else at the default socket. Only
    /// a daemon on this host will do, so another scheme than `unix://` is an error.
    pub fn new(configured: Option<&Path>, docker_host: Option<&str>) -> anyhow::Result<DockerOptions> {
        let socket = match (configured, docker_host.filter(|host| !host.is_empty())) {
            (Some(socket), _) => socket.to_owned(),
            (None, Some(host)) => host
                .strip_prefix("unix://")
                .filter(|path| path.starts_with('/'))
                .map(PathBuf::from)
                .with_context(|| {
                    format!("DOCKER_HOST is {host:?}; only unix:///path is watched, configure its socket")
                })?,
            (None, None) => PathBuf::from(Self::DEFAULT_SOCKET),
        };
        Ok(DockerOptions { socket, relist_every: Duration::from_secs(60), keys: Swap::default() })
    }
}

/// What one answer of the engine tells of containers, whichever of its answers it is: an inspection, an element of the
/// list, an event. Any bytes: those that are none tell of none.
pub fn containers_in(json: &[u8], keys: &Keys) -> Vec<Container> {
    api::containers_in(json, keys)
}

/// The engine's version, as a sign that it can be used.
pub async fn ping(options: &DockerOptions) -> anyhow::Result<String> {
    let socket = options.socket.display();
    let version = async { Api::connect(&options.socket, &options.keys).await?.version().await };
    version.await.with_context(|| format!("ask the docker daemon at {socket} for its version"))
}

/// The container called `name_or_id`, cut to what identity reads.
pub async fn inspect(options: &DockerOptions, name_or_id: &str) -> anyhow::Result<Container> {
    let socket = options.socket.display();
    let inspected = async { Api::connect(&options.socket, &options.keys).await?.inspect(name_or_id).await };
    let inspected = inspected.await;
    Ok(inspected.with_context(|| format!("inspect container {name_or_id:?} at {socket}"))?.container)
}

/// Tells `sink` what happens to the daemon's containers until `shutdown`.
///
/// First everything that exists, then [`ContainerEvent::Up`], then what happens. [`ContainerEvent::Down`] as soon as
/// the daemon cannot be reached; when it is back, everything again, as the module [`book`] says.
pub async fn watch(
    options: &DockerOptions,
    mut sink: impl FnMut(ContainerEvent),
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    // cri-dockerd's containers.
    let mut pods = Sandboxes::default();
    let mut sink = |event| pods.pass(event, &mut sink);
    let mut book = Book::default();
    let mut backoff = Backoff::default();
    let mut reported = None;
    let mut is_down = false;
    loop {
        let mut up_since = None;
        let why = tokio::select! {
            biased;
            () = &mut shutdown => return,
            why = connection(options, &mut book, &mut sink, &mut up_since) => why,
        };
        book.broke(&mut sink);
        if up_since.is_some() || !is_down {
            sink(ContainerEvent::Down { runtime: RUNTIME });
            is_down = true;
        }
        if up_since.is_some_and(|since: Instant| since.elapsed() >= GOOD_CONNECTION) {
            backoff.reset();
        }
        // Once for each reason, not once for each attempt.
        let reason = why.to_string();
        let socket = options.socket.display();
        if up_since.is_some() || reported.as_ref() != Some(&reason) {
            warn!(%socket, %reason, "docker daemon not reachable; its containers are not named until it is");
            reported = Some(reason);
        }
        let wait = backoff.next(matches!(why, ApiError::Absent(_)));
        debug!(%socket, wait_ms = wait.as_millis(), "waiting for the docker daemon");
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What ended: a list or an inspection.
enum Done {
    Listed(Mark, Result<Vec<Listed>, ApiError>),
    Inspected(Ask, Answer),
}

/// One connection, from its making to its end. `up_since` is set when everything has been told.
async fn connection(
    options: &DockerOptions,
    book: &mut Book,
    sink: &mut impl FnMut(ContainerEvent),
    up_since: &mut Option<Instant>,
) -> ApiError {
    let api = match Api::connect(&options.socket, &options.keys).await {
        Ok(api) => api,
        Err(error) => return error,
    };
    // From before the list is asked for, so that nothing falls between the two.
    let mut events = Box::pin(api.events(book.resume_ns().unwrap_or_else(now_ns)));
    let mut jobs = FuturesUnordered::new();
    jobs.push(list(&api, book.mark()).boxed());
    let mut is_listed = false;
    let mut is_listing = true;
    let mut garbled_before = false;
    let mut relist = tokio::time::interval(options.relist_every.max(Duration::from_secs(1)));
    relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    relist.reset();
    loop {
        let want_list = tokio::select! {
            event = next(&mut events) => match event {
                Ok(event) => {
                    garbled_before = false;
                    book.event(event, sink);
                    false
                }
                // The client gives up the stream at the first thing it cannot read. What came with it is found by
                // the list. Twice in a row, and it is not an event that is odd.
                Err(error @ ApiError::Garbled(_)) if !garbled_before => {
                    warn!(%error, "an event of the docker daemon was skipped");
                    garbled_before = true;
                    events = Box::pin(api.events(now_ns()));
                    true
                }
                Err(error) => return error,
            },
            Some(done) = jobs.next() => {
                match done {
                    Done::Inspected(ask, answer) => book.answered(&ask, answer, sink),
                    Done::Listed(mark, Ok(list)) => {
                        book.listed(list, mark, sink);
                        (is_listed, is_listing) = (true, false);
                    }
                    Done::Listed(_, Err(error)) => return error,
                }
                false
            }
            _ = relist.tick() => true,
        };
        if want_list && !is_listing {
            is_listing = true;
            jobs.push(list(&api, book.mark()).boxed());
        }
        while jobs.len() < MAX_INSPECTIONS
            && let Some(ask) = book.next_ask()
        {
            jobs.push(inspection(&api, ask).boxed());
        }
        if up_since.is_none() && is_listed && book.is_settled() {
            *up_since = Some(Instant::now());
            info!(socket = %options.socket.display(), "docker daemon watched");
            sink(ContainerEvent::Up { runtime: RUNTIME });
        }
    }
}

async fn next(events: &mut (impl Stream<Item = Result<Event, ApiError>> + Unpin)) -> Result<Event, ApiError> {
    let ended = || Err(ApiError::Other("the daemon ended the stream of events".into()));
    events.next().await.unwrap_or_else(ended)
}

async fn list(api: &Api, mark: Mark) -> Done {
    Done::Listed(mark, api.list().await)
}

async fn inspection(api: &Api, ask: Ask) -> Done {
    let answer = api.answer(&ask.id).await;
    Done::Inspected(ask, answer)
}

/// Now by the clock that the daemon stamps its events with: it runs on this host.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_configured_one_then_the_environments() {
        for (configured, host, expected) in [
            (None, None, Some("/var/run/docker.sock")),
            (None, Some(""), Some("/var/run/docker.sock")),
            (None, Some("unix:///run/x.sock"), Some("/run/x.sock")),
            (Some("/etc/d.sock"), Some("tcp://1.2.3.4:2375"), Some("/etc/d.sock")),
            (None, Some("tcp://1.2.3.4:2375"), None),
            (None, Some("unix://relative"), None),
        ] {
            let options = DockerOptions::new(configured.map(Path::new), host);
            let socket = options.ok().map(|options| options.socket);
            assert_eq!(socket.as_deref(), expected.map(Path::new), "{configured:?} {host:?}");
        }
    }
}
