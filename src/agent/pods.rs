//! The thread that asks Kubernetes for labels of pods, where that is configured, while a container waits for its
//! function.
//!
//! A kubelet is asked at a distance of [`EVERY`], an API server watched. What fails is told once, counted, and asked
//! again after a rest that grows to a minute. Nobody waits for this thread at the end: it may be in the midst of a
//! watch, holds nothing, and ends with it.

use std::path::PathBuf;
use std::time::Duration;

use super::control::{Command, Control, Whom};
use super::waiting::Waiting;
use crate::identity::Later;
use crate::kubernetes::{Answers, Asked, Client, Limits, Told, Watch};
use crate::metrics::{Metrics, Teller};
use crate::model::{ContainerId, Timestamp};
use crate::perf::Clock;

/// Between questions to a kubelet.
const EVERY: Duration = Duration::from_secs(2);
/// First rest after a fault, and the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Where to ask, and whom.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) ca: PathBuf,
    pub(super) token: PathBuf,
    pub(super) asked: Asked,
}

/// Asks until `waiting` ends.
pub(super) fn run(server: &Server, waiting: &Waiting, control: &Control, metrics: &Metrics) {
    let client = Client::new(&server.url, &server.ca, &server.token, Limits::default());
    let mut watch = Watch::new(client, server.asked.clone());
    let mut heard = Heard { control, waiting };
    let (mut rest, mut told) = (FIRST_REST, false);
    while waiting.wait() {
        metrics.kubernetes_requests.add(1);
        let pause = match watch.ask(&mut heard) {
            Ok(()) => {
                if std::mem::take(&mut told) {
                    tracing::info!(server = server.url, "Kubernetes answers");
                }
                rest = FIRST_REST;
                if watch.follows() { Duration::ZERO } else { EVERY }
            }
            Err(fault) => {
                metrics.kubernetes_errors.add(1);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{fault}; containers of pools stay pools until it answers");
                }
                let pause = rest;
                rest = (rest * 2).min(LONGEST_REST);
                pause
            }
        };
        if !waiting.rest(pause) {
            return;
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
            self.control.send(Command::Later { whom, later, at: told.at, from: Teller::Labels });
        }
    }

    fn goes_on(&self) -> bool {
        !self.waiting.has_ended()
    }
}
