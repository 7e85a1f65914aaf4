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
use crate::config::{Kubernetes, KubernetesApi};
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
