//! A container runtime behind the CRI, as CRI-O is: asked for what is wanted, one by one, and for everything now and then.
//!
//! | file | what |
//! |---|---|
//! | [`book`] | what is known, what is to be asked and when, in which order things are told; pure |
//! | `api` | the CRI's calls |
//! | `told` | messages to containers and pods; pure |
//! | `info` | the JSON text that verbose answers carry; pure |
//!
//! Nothing is heard of by itself: of the CRI's event stream each event goes to one listener in containerd 1.7 and CRI-O
//! 1.27, which may be the kubelet, and later CRI-Os end it at once unless they are told to serve it. So a cgroup that
//! comes is what asks ([`super::look_up`]).
//!
//! Promises: an absent, restarted or replaced runtime is waited for; one that is slow counts as one that does not answer,
//! so that nothing is decided without it; no answer ends [`watch`], or holds it up. Not here: what a container's names
//! mean, and where its cgroup is.

mod api;
pub mod book;
pub mod info;
mod told;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::Receiver;
use tracing::{debug, info, warn};

use self::api::{Api, LookedUp};
use self::book::{Ask, Book, Listed, Mark, Outcome};
pub use self::told::{containers_in, listed_in};
use super::appear::appears;
use super::backoff::Backoff;
use super::engine::EngineError;
use super::look_up::Wanted;
use super::socket::Socket;
use crate::identity::Keys;
use crate::metrics::Metrics;
use crate::model::{ContainerEvent, Swap};

/// Name of this runtime in `Container::runtime` and [`ContainerEvent`].
pub const RUNTIME: &str = "cri";
/// Where CRI-O listens if nobody says otherwise.
pub const USUAL: &[&str] = &["/var/run/crio/crio.sock"];

/// Questions under way at a time. A runtime answers one in about a millisecond.
const MAX_ASKED: usize = 16;
/// A connection that lasted so long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);
/// Who takes longer for one answer counts as one that does not answer: the container that waits for it is not nobody's.
const SLOW: Duration = Duration::from_secs(3);

/// Where the runtime is and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriOptions {
    /// Where it listens.
    pub socket: Socket,
    /// How often everything is listed: what ended, what was removed, what was missed.
    pub relist_every: Duration,
    /// Labels and variables that are kept beside those that the table of rules reads.
    pub keys: Swap<Keys>,
}

impl CriOptions {
    /// The runtime at `socket`.
    pub fn at(socket: Socket) -> CriOptions {
        CriOptions { socket, relist_every: Duration::from_secs(30), keys: Swap::default() }
    }
}

/// The runtime's name and version, as a sign that it can be used.
///
/// # Errors
/// Nobody listens there, or does not speak the CRI.
pub async fn ping(options: &CriOptions) -> anyhow::Result<String> {
    let socket = options.socket.find().with_context(|| format!("there is no {}", options.socket))?;
    let connected = Api::connect(&socket, &options.keys).await;
    let asked = || format!("ask the CRI at {} for its version", socket.display());
    Ok(connected.with_context(asked)?.1)
}

/// Tells `sink` of the runtime's containers until `shutdown`: those that `wanted` asks after, and all of them now and
/// then. What comes of it is counted in `metrics`.
///
/// First everything that exists, then [`ContainerEvent::Up`], then what is found. [`ContainerEvent::Down`] while the
/// runtime cannot be reached, or is slow; when it is back, everything again.
pub async fn watch(
    options: &CriOptions,
    mut wanted: Receiver<Wanted>,
    metrics: &Metrics,
    mut sink: impl FnMut(ContainerEvent),
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut book = Book::default();
    let mut backoff = Backoff::default();
    let mut reported = None;
    let (mut is_down, mut is_absent) = (false, false);
    loop {
        let Some(socket) = options.socket.find() else {
            // Once it was there, a socket that has gone is that of a runtime that is down.
            if !is_absent && !is_down {
                info!(socket = %options.socket, "no CRI here yet; it is looked for");
                sink(ContainerEvent::Absent { runtime: RUNTIME });
                is_absent = true;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = appears(&options.socket) => continue,
                () = leave(&mut wanted) => {}
            }
            continue;
        };
        let mut up = Up::default();
        let why = tokio::select! {
            biased;
            () = &mut shutdown => return,
            why = connection(options, &socket, &mut book, &mut wanted, metrics, &mut sink, &mut up) => why,
        };
        book.broke();
        if up.is_up || !is_down {
            sink(ContainerEvent::Down { runtime: RUNTIME });
            is_down = true;
        }
        if up.since.is_some_and(|since| since.elapsed() >= GOOD_CONNECTION) {
            backoff.reset();
        }
        // Once for each reason, not once for each attempt.
        let (reason, socket) = (why.to_string(), socket.display());
        if up.since.is_some() || reported.as_ref() != Some(&reason) {
            warn!(%socket, %reason, "CRI not reachable; its containers are not named until it is");
            reported = Some(reason);
        }
        let wait = backoff.next(matches!(why, EngineError::Absent(_)));
        debug!(%socket, wait_ms = wait.as_millis(), "waiting for the CRI");
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = tokio::time::sleep(wait) => {}
            () = leave(&mut wanted) => {}
        }
    }
}

/// Lets go of all that is wanted while nobody can be asked: it is in the list that comes first. Never ends.
async fn leave(wanted: &mut Receiver<Wanted>) {
    while wanted.recv().await.is_some() {}
    std::future::pending().await
}

/// Whether the runtime has told everything and answers.
#[derive(Debug, Default)]
struct Up {
    /// Since when it has told everything.
    since: Option<Instant>,
    is_up: bool,
}

/// What ended: a list or a question.
enum Done {
    Listed(Mark, Result<Vec<Listed>, EngineError>),
    LookedUp(Ask, LookedUp),
}

/// One connection, from its making to its end.
async fn connection(
    options: &CriOptions,
    socket: &Path,
    book: &mut Book,
    wanted: &mut Receiver<Wanted>,
    metrics: &Metrics,
    sink: &mut impl FnMut(ContainerEvent),
    up: &mut Up,
) -> EngineError {
    let inode = inode(socket);
    let (api, version) = match Api::connect(socket, &options.keys).await {
        Ok(connected) => connected,
        Err(error) => return error,
    };
    let began = Instant::now();
    // Under way, by when it was begun: the first is the oldest.
    let mut under_way = BTreeSet::new();
    let mut number = 0_u64;
    let mut jobs = FuturesUnordered::new();
    let mut listing = false;
    let mut is_listed = false;
    let mut told = Told::default();
    let mut relist = tokio::time::interval(options.relist_every.max(Duration::from_secs(1)));
    relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = began.elapsed();
        let due = book.next_due().filter(|_| jobs.len() < MAX_ASKED);
        let slow = under_way.first().map(|(since, _)| *since + SLOW).filter(|at| *at > now);
        let wake = [due, slow].into_iter().flatten().min();
        let wake = wake.map(|at| tokio::time::sleep(at.saturating_sub(now)));
        tokio::select! {
            // The first tick is at once.
            _ = relist.tick() => {
                if inode != self::inode(socket) {
                    return EngineError::Absent("another socket lies in its place".into());
                }
                if !listing {
                    listing = true;
                    number += 1;
                    let key = (began.elapsed(), number);
                    under_way.insert(key);
                    jobs.push(list(&api, book.mark(), key).boxed_local());
                }
            }
            Some(wanted) = wanted.recv() => match wanted {
                Wanted::Begun(id) => {
                    if !book.wanted(id, began.elapsed()) {
                        metrics.look_ups_refused.add(1);
                    }
                }
                Wanted::Ended(id) => book.ended(id, began.elapsed()),
            },
            Some((key, done)) = jobs.next() => {
                under_way.remove(&key);
                match done {
                    Done::Listed(mark, Ok(list)) => {
                        (listing, is_listed) = (false, true);
                        let refused = book.listed(list, mark, began.elapsed(), sink);
                        metrics.look_ups_refused.add(refused as u64);
                    }
                    // Whoever is wanted is asked for one by one all the same, and so is who is known.
                    Done::Listed(mark, Err(EngineError::TooLarge(reason))) => {
                        (listing, is_listed) = (false, true);
                        metrics.look_ups_faults.add(1);
                        told.too_large(&reason);
                        book.unlisted(mark, began.elapsed(), sink);
                    }
                    Done::Listed(_, Err(error)) => return error,
                    Done::LookedUp(ask, LookedUp { fault: Some(error @ EngineError::Absent(_)), .. }) => {
                        debug!(container = %ask.id, %error, "not asked for");
                        return error;
                    }
                    Done::LookedUp(ask, looked_up) => {
                        let answer = looked_up.answer.clone();
                        let outcome = book.answered(ask.clone(), answer, began.elapsed(), sink);
                        told.outcome(&ask, &looked_up, outcome, metrics);
                    }
                }
            }
            () = async { match wake { Some(wake) => wake.await, None => std::future::pending().await } } => {}
        }
        let now = began.elapsed();
        while jobs.len() < MAX_ASKED
            && let Some(ask) = book.next_ask(now)
        {
            number += 1;
            under_way.insert((now, number));
            jobs.push(look_up(&api, ask, (now, number)).boxed_local());
        }
        let is_slow = under_way.first().is_some_and(|(since, _)| now.saturating_sub(*since) >= SLOW);
        if is_slow && std::mem::take(&mut up.is_up) {
            warn!(socket = %socket.display(), "CRI takes more than {} s to answer", SLOW.as_secs());
            sink(ContainerEvent::Down { runtime: RUNTIME });
        }
        if !up.is_up && !is_slow && is_listed && book.is_settled() {
            if up.since.replace(Instant::now()).is_none() {
                info!(socket = %socket.display(), %version, "CRI asked");
            }
            up.is_up = true;
            sink(ContainerEvent::Up { runtime: RUNTIME });
        }
    }
}

/// When a job was begun, and which it was.
type Key = (Duration, u64);

async fn list(api: &Api, mark: Mark, key: Key) -> (Key, Done) {
    (key, Done::Listed(mark, api.list().await))
}

async fn look_up(api: &Api, ask: Ask, key: Key) -> (Key, Done) {
    let looked_up = api.look_up(&ask).await;
    (key, Done::LookedUp(ask, looked_up))
}

/// Which socket lies at `path`: a runtime that comes back makes another one, and whoever listens on the old one may
/// live on.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// What was said of a connection: once of each kind, the rest is counted.
#[derive(Debug, Default)]
struct Told {
    too_large: bool,
    fault: bool,
}

impl Told {
    fn too_large(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.too_large, true) {
            warn!(%reason, "the CRI's list is too large; containers are asked for one by one as they come");
        }
    }

    /// Counts and says what came of asking for one.
    fn outcome(&mut self, ask: &Ask, looked_up: &LookedUp, outcome: Outcome, metrics: &Metrics) {
        let container = &ask.id;
        if let Some(error) = &looked_up.fault {
            metrics.look_ups_faults.add(1);
            if std::mem::replace(&mut self.fault, true) {
                debug!(%container, %error, "an answer of the CRI is a fault");
            } else {
                warn!(%container, %error, "an answer of the CRI is a fault; others are counted");
            }
        }
        match outcome {
            Outcome::Told if looked_up.without_pod => {
                metrics.look_ups_without_pod.add(1);
                info!(%container, "its pod was removed before it could be asked for: named without it");
            }
            Outcome::Told => metrics.look_ups_found.add(1),
            Outcome::GivenUp => {
                metrics.look_ups_unknown.add(1);
                info!(%container, "asked for in vain: another runtime's, or removed before it could be");
            }
            Outcome::Again | Outcome::Late => {}
        }
    }
}
