//! The threads that hear from platforms what their containers have become, where that is configured: started, ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use super::control::Control;
use super::drain::{NoEnd, Worker};
use super::pods::{self, Server};
use super::waiting::Waiting;
use super::{GIVES_UP, platform_logs, threads};
use crate::config::{Config, KubernetesApi};
use crate::metrics::Metrics;
use crate::privilege::{Part, Sandbox};
use tokio::sync::Notify;

/// Those that run.
pub(super) struct Platforms {
    logs: Option<(Worker<()>, Arc<OwnedFd>)>,
    waiting: Arc<Waiting>,
}

/// Whether other hosts are talked to.
pub(super) fn need_network(config: &Config) -> bool {
    config.kubernetes.api != KubernetesApi::Off
}

impl Platforms {
    /// Starts what is configured, for the node called `node`; who waits is told by `waiting`.
    ///
    /// # Errors
    /// A thread cannot be started; there is no server to ask.
    pub(super) fn start(
        config: &Config,
        node: &str,
        waiting: &Arc<Waiting>,
        control: &Control,
        sandbox: Sandbox,
        broken: &Arc<Notify>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Platforms> {
        let patterns = config.platform_logs.openwhisk.clone();
        let mut logs = None;
        if !patterns.is_empty() {
            let stop = platform_logs::stop().context("make a descriptor for the follower of logs")?;
            let (control, metrics, theirs) = (control.clone(), metrics.clone(), stop.clone());
            let thread = Worker::start("logs", broken, move || {
                sandbox.give_up(Part::Logs).expect(GIVES_UP);
                if let Err(error) = platform_logs::run(&patterns, &control, &metrics, &theirs) {
                    tracing::error!("follow the logs of platforms: {error}; actions they name stay pools");
                    metrics.platform_log_errors.add(1);
                    // A thread that ends before it is told to would end the agent.
                    platform_logs::wait(&theirs);
                }
            })?;
            logs = Some((thread, stop));
        }
        if let Some(server) = Server::of(&config.kubernetes, node)? {
            let (waiting, control, metrics) = (waiting.clone(), control.clone(), metrics.clone());
            threads::spawn_passing("fnscope-pods", broken, move || {
                sandbox.give_up(Part::Pods).expect(GIVES_UP);
                pods::run(&server, &waiting, &control, &metrics);
            })?;
        }
        Ok(Platforms { logs, waiting: waiting.clone() })
    }

    /// Ends them; waits for the follower of logs until `until`.
    pub(super) fn end(self, until: Option<Instant>) -> Result<(), NoEnd> {
        self.waiting.end();
        self.logs.map_or(Ok(()), |(thread, stop)| {
            platform_logs::end(&stop);
            thread.join(until)
        })
    }
}
