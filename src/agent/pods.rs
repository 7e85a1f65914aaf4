//! The thread that asks Kubernetes for labels of pods, where that is configured, while a container waits for its
//! function.
//!
//! A kubelet is asked at a distance of [`EVERY`], an API server watched. What fails is told once, counted, and asked
//! again after a rest that grows to a minute, and so is a watch that ends as soon as it has begun. Nobody waits for this
//! thread at the end: it may be in the midst of a watch, holds nothing, and ends with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::control::{Command, Control, Whom};
use super::waiting::Waiting;
use crate::config::{Kubernetes, KubernetesApi};
use crate::identity::Later;
use crate::kubernetes::{Answers, Asked, Client, Limits, Told, Watch};
use crate::metrics::{Metrics, Teller};
use crate::model::{ContainerId, Timestamp};
use crate::perf::Clock;

/// Between questions to a kubelet.
const EVERY: Duration = Duration::from_secs(2);
/// A watch that lasted so long was one; the API server ends it after minutes.
const LASTING: Duration = Duration::from_secs(1);
/// First rest after a fault, and the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Where to ask, and whom.
pub struct Server {
    /// Where.
    pub url: String,
    ca: PathBuf,
    token: PathBuf,
    asked: Asked,
}

impl Server {
    /// What `config` says, for the node called `node`; none where nobody is asked.
    ///
    /// # Errors
    /// The API server is to be asked, and nobody says where it is.
    pub(super) fn of(config: &Kubernetes, node: &str) -> anyhow::Result<Option<Server>> {
        let asked = match config.api {
            KubernetesApi::Off => return Ok(None),
            KubernetesApi::Kubelet => Asked::Kubelet,
            KubernetesApi::ApiServer => Asked::ApiServer { node: node.into() },
        };
        let url = config.server(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?;
        Ok(Some(Server { url, ca: config.ca.clone(), token: config.token.clone(), asked }))
    }

    /// Nothing is asked yet.
    pub fn watch(&self) -> Watch {
        let client = Client::new(&self.url, &self.ca, &self.token, Limits::default());
        Watch::new(client, self.asked.clone())
    }
}

/// Asks until `waiting` ends.
pub(super) fn run(server: &Server, waiting: &Waiting, control: &Control, metrics: &Metrics) {
    let mut watch = server.watch();
    let mut heard = Heard { control, waiting };
    let (mut rests, mut told) = (Rests::default(), false);
    while waiting.wait() {
        metrics.kubernetes_requests.add(1);
        let (followed, began) = (watch.follows(), Instant::now());
        let asked = watch.ask(&mut heard);
        match &asked {
            Ok(()) => {
                if std::mem::take(&mut told) {
                    tracing::info!(server = server.url, "Kubernetes answers");
                }
            }
            Err(fault) => {
                metrics.kubernetes_errors.add(1);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{fault}; containers of pools stay pools until it answers");
                }
            }
        }
        let watched = followed.then(|| began.elapsed());
        if !waiting.rest(rests.after(asked.is_ok(), watched, watch.follows())) {
            return;
        }
    }
}

/// How long it rests between two questions.
struct Rests {
    /// After the next fault.
    next: Duration,
}

impl Default for Rests {
    fn default() -> Rests {
        Rests { next: FIRST_REST }
    }
}

impl Rests {
    /// After a question that was answered, or not: a watch that lasted for `watched`, or for all pods. `follows`: the next
    /// one is a watch.
    fn after(&mut self, is_answered: bool, watched: Option<Duration>, follows: bool) -> Duration {
        let is_short = watched.is_some_and(|watched| watched < LASTING);
        // An answer before a watch says nothing yet: who ends every watch may have all pods to tell in between.
        if watched.map_or(is_answered && !follows, |_| !is_short) {
            self.next = FIRST_REST;
        }
        match (is_answered && !is_short, follows) {
            (true, true) => Duration::ZERO,
            (true, false) => EVERY,
            (false, _) => {
                let longer = (self.next * 2).min(LONGEST_REST);
                std::mem::replace(&mut self.next, longer)
            }
        }
    }
}

struct Heard<'a> {
    control: &'a Control,
    waiting: &'a Waiting,
}

impl Answers for Heard<'_> {
    fn now(&self) -> Timestamp {
        Clock::read().wall(Clock::monotonic_ns())
    }

    fn told(&mut self, told: Told) {
        for container in told.containers {
            let later = Box::new(Later { pod_labels: told.labels.clone(), ..Later::default() });
            let whom = Whom::Container(ContainerId(container.into()));
            self.control.tell(Command::Later { whom, later, at: told.at, from: Teller::Labels });
        }
    }

    fn goes_on(&self) -> bool {
        !self.waiting.has_ended()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rest_grows_with_each_fault_and_each_watch_that_ends_at_once() {
        let mut rests = Rests::default();
        let (short, long) = (Some(Duration::from_millis(3)), Some(SECOND * 240));
        // A kubelet: nothing follows its answer.
        assert_eq!(rests.after(true, None, false), EVERY);
        assert_eq!([(); 2].map(|()| rests.after(false, None, false)), [SECOND, SECOND * 2]);
        assert_eq!((rests.after(true, None, false), rests.after(false, None, false)), (EVERY, SECOND));
        // An API server that answers, and refuses to be watched.
        let mut rests = Rests::default();
        for n in 0..10 {
            assert_eq!(rests.after(true, None, true), Duration::ZERO);
            assert_eq!(rests.after(false, short, false), (SECOND * (1 << n)).min(LONGEST_REST));
        }
        // One that is watched, and ends that in order or not.
        assert_eq!((rests.after(true, long, true), rests.after(true, short, true)), (Duration::ZERO, SECOND));
        assert_eq!((rests.after(true, short, true), rests.after(false, long, false)), (SECOND * 2, SECOND));
    }

    /// Answers one request, and says whether it was for a watch, which ends as soon as it has begun.
    fn answer(stream: TcpStream) -> bool {
        let (mut lines, mut line) = (BufReader::new(&stream), String::new());
        lines.read_line(&mut line).unwrap();
        let is_watch = line.contains("watch=true");
        while !line.trim().is_empty() {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        let body = if is_watch { "" } else { r#"{"metadata":{"resourceVersion":"7"},"items":[]}"# };
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
        write!(&stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        is_watch
    }

    #[test]
    fn a_watch_that_ends_at_once_is_begun_again_later_and_later() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ca: PathBuf::new(),
            token: PathBuf::new(),
            asked: Asked::ApiServer { node: "n".into() },
        };
        let (waiting, metrics) = (Waiting::default(), Metrics::new(&[]));
        let (control, _commands, _wake) = Control::new().unwrap();
        waiting.set(true);
        let watches = std::thread::scope(|threads| {
            threads.spawn(|| run(&server, &waiting, &control, &metrics));
            let mut watches = Vec::new();
            while watches.len() < 3 {
                if answer(listener.accept().unwrap().0) {
                    watches.push(Instant::now());
                }
            }
            waiting.end();
            watches
        });
        for (pair, least) in watches.windows(2).zip([1, 2]) {
            let rest = pair[1] - pair[0];
            assert!(rest >= SECOND * least - Duration::from_millis(100), "{rest:?} before watch {least}");
        }
        assert_eq!((metrics.kubernetes_requests.get(), metrics.kubernetes_errors.get()), (4, 0));
    }
}
