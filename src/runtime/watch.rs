//! A runtime from its first answer on: list, then watch, for as long as it takes. One loop for all [`Engine`]s.
//!
//! Promises: a runtime that is absent or restarted is waited for; nothing that happens between the list and the stream of
//! events is missed; no answer ends [`watch`]; inspections never hold up the stream; while a container of which nothing is
//! known waits for an answer for long, its runtime counts as one that does not answer, so that nothing is decided without
//! it. Not here: what is known of containers (`book`), and how a runtime is talked to.

use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use tracing::{debug, info, warn};

use super::appear::appears;
use super::backoff::{Backoff, until_next_look};
use super::book::{Answer, Ask, Book, Event, Inspected, Listed, Mark};
use super::engine::{Connection, Engine, EngineError};
use crate::model::{ContainerEvent, Oddity};

/// Inspections under way at a time. A runtime answers one in about a millisecond.
const MAX_INSPECTIONS: usize = 16;
/// A connection that lasted so long was a good one: the next wait is short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);
/// Who takes longer to say what a container is counts as one that does not answer: the container is not nobody's.
const SLOW: Duration = Duration::from_secs(3);
/// Between a list and one that is asked for because an answer failed; longer where the list took longer.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells `sink` what happens to the containers of `engine` until `shutdown`.
///
/// First everything that exists, then [`ContainerEvent::Up`], then what happens. [`ContainerEvent::Down`] as soon as
/// it cannot be reached, or is slow; when it is back, everything again, as the module [`book`](super::book) says.
/// [`ContainerEvent::Absent`], once, where it has no socket yet and need not have one.
pub async fn watch(
    engine: &impl Engine,
    mut sink: impl FnMut(ContainerEvent),
    shutdown: impl Future<Output = ()>,
) {
    let runtime = engine.name();
    let mut shutdown = pin!(shutdown);
    let mut book = Book::default();
    let clock = Instant::now();
    let mut backoff = Backoff::default();
    let mut reported = None;
    let mut is_down = false;
    let mut is_absent = false;
    loop {
        let Some(socket) = engine.socket().find() else {
            // Once it was there, a socket that has gone is that of a runtime that is down.
            if !is_absent && !is_down {
                info!(runtime, socket = %engine.socket(), "no such runtime here yet; it is looked for");
                sink(ContainerEvent::Absent { runtime });
                is_absent = true;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = appears(engine.socket()) => continue,
            }
        };
        let mut up = Up::default();
        let why = tokio::select! {
            biased;
            () = &mut shutdown => return,
            why = connection(engine, &socket, &mut book, &mut sink, &mut up, clock) => why,
        };
        odd(&why, runtime, &mut sink);
        book.broke(&mut sink);
        if matches!(why, EngineError::Another(_)) && !is_down {
            if !is_absent {
                info!(runtime, socket = %socket.display(), reason = %why, "no such runtime here yet; it is looked for");
                sink(ContainerEvent::Absent { runtime });
                is_absent = true;
            }
            if rest(until_next_look(), &mut shutdown).await {
                continue;
            }
            return;
        }
        if up.is_up || !is_down {
            sink(ContainerEvent::Down { runtime });
            is_down = true;
        }
        if up.since.is_some_and(|since| since.elapsed() >= GOOD_CONNECTION) {
            backoff.reset();
        }
        // Once for each reason, not once for each attempt.
        let reason = why.to_string();
        let socket = socket.display();
        if up.since.is_some() || reported.as_ref() != Some(&reason) {
            warn!(runtime, %socket, %reason, "runtime not reachable; its containers are not named until it is");
            reported = Some(reason);
        }
        let wait = backoff.next(matches!(why, EngineError::Absent(_)));
        debug!(runtime, %socket, wait_ms = wait.as_millis(), "waiting for the runtime");
        if !rest(wait, &mut shutdown).await {
            return;
        }
    }
}

/// Rests for `time`. False at the end, and then at once.
async fn rest(time: Duration, shutdown: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::select! {
        biased;
        () = shutdown => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Rests for `time`; for ever where there is none.
async fn rest_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Whether the runtime has told everything and answers.
#[derive(Debug, Default)]
struct Up {
    /// Since when it has told everything.
    since: Option<Instant>,
    is_up: bool,
}

/// What ended: a list or an inspection.
enum Done {
    Listed(Mark, Result<Vec<Listed>, EngineError>),
    Inspected(Ask, Result<Box<Inspected>, EngineError>),
}

/// One connection, from its making to its end. `clock` is when the first one was made.
async fn connection(
    engine: &impl Engine,
    socket: &std::path::Path,
    book: &mut Book,
    sink: &mut impl FnMut(ContainerEvent),
    up: &mut Up,
    clock: Instant,
) -> EngineError {
    let runtime = engine.name();
    let api = match engine.connect(socket).await {
        Ok(api) => api,
        Err(error) => return error,
    };
    // From before the list is asked for, so that nothing falls between the two.
    book.tick(clock.elapsed());
    let wall_ns = now_ns();
    let mut events = Box::pin(api.events(book.resume_ns(wall_ns).unwrap_or(wall_ns)));
    let mut jobs = FuturesUnordered::new();
    jobs.push(list(&api, book.mark()).boxed_local());
    let mut is_listed = false;
    let mut is_listing = true;
    let mut wants_list = false;
    let (mut list_began, mut again_at) = (clock.elapsed(), Duration::ZERO);
    let mut garbled_before = false;
    let mut relist = tokio::time::interval(engine.relist_every().max(Duration::from_secs(1)));
    relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    relist.reset();
    let deaf_for = engine.deaf_for(&api);
    let mut hears = pin!(tokio::time::sleep(deaf_for.unwrap_or_default()));
    let mut is_deaf = deaf_for.is_some();
    loop {
        let now = clock.elapsed();
        let again = (book.has_missed() && !is_listing).then_some(again_at);
        let slow = book.unknown_since().map(|since| since + SLOW).filter(|at| *at > now);
        let wake = [again, slow].into_iter().flatten().min();
        tokio::select! {
            event = next(&mut events) => match event {
                Ok(event) => {
                    garbled_before = false;
                    book.tick(clock.elapsed());
                    book.event(event, sink);
                }
                // The client gives up the stream at the first thing it cannot read. What came with it is found by
                // the list: not by one that was asked for before. Twice in a row, and it is not an event that is odd.
                Err(error @ EngineError::Garbled(_)) if !garbled_before => {
                    warn!(runtime, %error, "an event was skipped");
                    odd(&error, runtime, sink);
                    garbled_before = true;
                    events = Box::pin(api.events(now_ns()));
                    hears.set(tokio::time::sleep(deaf_for.unwrap_or_default()));
                    is_deaf = deaf_for.is_some();
                    (wants_list, is_listed) = (true, false);
                }
                Err(error) => return error,
            },
            Some(done) = jobs.next() => match done {
                Done::Inspected(ask, inspected) => {
                    let answer = match inspected {
                        Ok(inspected) => Answer::Inspected(inspected),
                        Err(error) => {
                            debug!(runtime, container = %ask.id, %error, "container not inspected");
                            odd(&error, runtime, sink);
                            let gone = matches!(error, EngineError::NoSuchContainer);
                            if gone { Answer::Missing } else { Answer::Failed }
                        }
                    };
                    book.answered(&ask, answer, sink);
                }
                Done::Listed(mark, Ok(list)) => {
                    let now = clock.elapsed();
                    book.tick(now);
                    book.listed(list, mark, sink);
                    (is_listed, is_listing) = (!wants_list, false);
                    again_at = now + AGAIN.max(now.saturating_sub(list_began));
                }
                Done::Listed(_, Err(error)) => return error,
            },
            _ = relist.tick() => wants_list |= !is_listing,
            // Asked again where a list is under way.
            () = &mut hears, if is_deaf && !is_listing => {
                // What was not heard until now is in this list: not before it is all of it told.
                (is_deaf, is_listed) = (false, false);
                wants_list = true;
            }
            () = rest_for(wake.map(|at| at.saturating_sub(now))) => {}
        }
        let now = clock.elapsed();
        wants_list |= book.has_missed() && !is_listing && now >= again_at;
        if wants_list && !is_listing {
            (wants_list, is_listing) = (false, true);
            list_began = now;
            jobs.push(list(&api, book.mark()).boxed_local());
        }
        while jobs.len() < MAX_INSPECTIONS
            && let Some(ask) = book.next_ask()
        {
            jobs.push(inspection(&api, ask).boxed_local());
        }
        if let count @ 1.. = book.take_refused() {
            warn!(runtime, count, "too many containers at a time; these are known by their labels alone");
            sink(ContainerEvent::Odd { runtime, what: Oddity::Refused, count });
        }
        let unknown_for = book.unknown_since().map(|since| now.saturating_sub(since));
        let is_slow = unknown_for.is_some_and(|time| time >= SLOW);
        if is_slow && std::mem::take(&mut up.is_up) {
            warn!(runtime, socket = %socket.display(), "runtime takes more than {} s to answer", SLOW.as_secs());
            sink(ContainerEvent::Down { runtime });
        }
        if !up.is_up && !is_slow && is_listed && !is_deaf && book.is_settled() {
            if up.since.is_none() {
                up.since = Some(Instant::now());
                info!(runtime, socket = %socket.display(), "runtime watched");
            }
            up.is_up = true;
            sink(ContainerEvent::Up { runtime });
        }
    }
}

async fn next(
    events: &mut (impl Stream<Item = Result<Event, EngineError>> + Unpin),
) -> Result<Event, EngineError> {
    let ended = || Err(EngineError::Other("it ended the stream of events".into()));
    events.next().await.unwrap_or_else(ended)
}

async fn list(api: &impl Connection, mark: Mark) -> Done {
    Done::Listed(mark, api.list().await)
}

async fn inspection(api: &impl Connection, ask: Ask) -> Done {
    let inspected = api.inspected(&ask.id).await;
    Done::Inspected(ask, inspected.map(Box::new))
}

/// Tells that an answer was odd, if that is what `error` is.
fn odd(error: &EngineError, runtime: &'static str, sink: &mut impl FnMut(ContainerEvent)) {
    if let Some(what) = error.oddity() {
        sink(ContainerEvent::Odd { runtime, what, count: 1 });
    }
}

/// Now by the clock that runtimes stamp their events with: they run on this host.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
