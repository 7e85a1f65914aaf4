//! The runtimes thread: what each runtime tells, turned into claims for the capture thread.
//!
//! All of them are watched at once, each with an answer of its own to whether it is up. Which of two that know one
//! container is believed is the join's to say.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::sync::mpsc::Receiver;

use super::control::{Command, Control};
use crate::attribution::{Claim, RuntimeState};
use crate::config::{Runtimes, Whether};
use crate::identity::{IdentityConfig, Keys, identify, kept_labels};
use crate::metrics::Metrics;
use crate::model::{Container, ContainerEvent, ContainerId, Fact, Swap};
use crate::runtime::containerd::{self, ContainerdOptions, Namespaces};
use crate::runtime::cri::{self, CriOptions};
use crate::runtime::docker::{self, DockerOptions};
use crate::runtime::look_up::{Asker, Wanted, look_ups};
use crate::runtime::socket::Socket;

/// The runtimes that are watched. A new one has a field here, a name in [`Watched::names`] and a line in [`run`].
pub(super) struct Watched {
    /// Docker, and podman by the same API.
    docker: Vec<DockerOptions>,
    /// containerd and that of k3s.
    containerd: Vec<ContainerdOptions>,
    cri: Option<CriOptions>,
}

impl Watched {
    /// Those that the configuration asks for; of containers they tell what rules read, and `keys`.
    pub(super) fn new(config: &Runtimes, keys: &Swap<Keys>) -> Watched {
        let docker = socket(&config.docker, docker::USUAL).map(DockerOptions::at);
        let podman = socket(&config.podman, docker::PODMAN_USUAL).map(DockerOptions::podman_at);
        let docker = docker.into_iter().chain(podman);
        let docker = docker.map(|options| DockerOptions { keys: keys.clone(), ..options });
        let namespaces = Namespaces::new(&config.containerd_namespaces);
        let containerd = [
            (containerd::RUNTIME, &config.containerd, containerd::USUAL),
            (containerd::K3S, &config.k3s, containerd::K3S_USUAL),
        ];
        let containerd = containerd.into_iter().filter_map(|(name, whether, usual)| {
            let options = ContainerdOptions::at(name, socket(whether, usual)?);
            Some(ContainerdOptions { keys: keys.clone(), namespaces: namespaces.clone(), ..options })
        });
        let cri = socket(&config.crio, cri::USUAL);
        let cri = cri.map(|socket| CriOptions { keys: keys.clone(), ..CriOptions::at(socket) });
        Watched { docker: docker.collect(), containerd: containerd.collect(), cri }
    }

    /// By what names they tell.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let Watched { docker, containerd, cri } = self;
        let docker = docker.iter().map(|options| options.name);
        let containerd = containerd.iter().map(|options| options.name);
        docker.chain(containerd).chain(cri.iter().map(|_| cri::RUNTIME)).collect()
    }

    /// What asks after containers, and what is asked: where a runtime tells of nothing by itself.
    pub(super) fn look_ups(&self, metrics: &Arc<Metrics>) -> Option<(Asker, Receiver<Wanted>)> {
        self.cri.as_ref().map(|_| look_ups(metrics))
    }
}

/// Where to ask, if at all.
fn socket(whether: &Whether, usual: &'static [&'static str]) -> Option<Socket> {
    match whether {
        Whether::Off => None,
        Whether::Auto => Some(Socket::Usual(usual)),
        Whether::At(path) => Some(Socket::At(path.clone())),
    }
}

/// Watches all of them until `stop` is told.
///
/// # Errors
/// The thread's event loop cannot be made.
pub(super) fn run(
    watched: &Watched,
    wanted: Option<Receiver<Wanted>>,
    identity: Swap<IdentityConfig>,
    control: &Control,
    metrics: &Metrics,
    stop: tokio::sync::oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Dropped is as good as told.
    let stopped = stop.map(|_| ()).shared();
    let sink = |name| {
        let identity = &identity;
        move |event| forward(name, event, &identity.get(), control, metrics)
    };
    let mut watches: Vec<LocalBoxFuture<()>> = Vec::new();
    for options in &watched.docker {
        watches.push(docker::watch(options, sink(options.name), stopped.clone()).boxed_local());
    }
    for options in &watched.containerd {
        watches.push(containerd::watch(options, sink(options.name), stopped.clone()).boxed_local());
    }
    if let Some((options, wanted)) = watched.cri.as_ref().zip(wanted) {
        let watch = cri::watch(options, wanted, metrics, sink(cri::RUNTIME), stopped.clone());
        watches.push(watch.boxed_local());
    }
    reactor.block_on(join_all(watches));
    Ok(())
}

/// Tells the capture thread what `runtime` has told.
fn forward(
    runtime: &'static str,
    event: ContainerEvent,
    identity: &IdentityConfig,
    control: &Control,
    metrics: &Metrics,
) {
    let answers = |name, up| metrics.runtime(name).into_iter().for_each(|runtime| runtime.set(up));
    let command = match event {
        ContainerEvent::Up { runtime } => {
            answers(runtime, true);
            tracing::info!(runtime, "runtime answers");
            Command::Runtime(runtime, RuntimeState::Up)
        }
        ContainerEvent::Down { runtime } => {
            answers(runtime, false);
            tracing::warn!(runtime, "runtime does not answer; its containers stay unnamed until it does");
            Command::Runtime(runtime, RuntimeState::Down)
        }
        ContainerEvent::Absent { runtime } => {
            metrics.runtime(runtime).into_iter().for_each(crate::metrics::Runtime::set_absent);
            Command::Runtime(runtime, RuntimeState::Absent)
        }
        ContainerEvent::Odd { runtime, what, count } => {
            metrics.runtime(runtime).into_iter().for_each(|runtime| runtime.odd(what.name(), count));
            return;
        }
        ContainerEvent::Known(container) => Command::Claim(Box::new(claim(*container, identity))),
        ContainerEvent::Started { id, pid, at } => Command::Started { container: id, pid, at },
        ContainerEvent::Ready { id, at } => Command::Fact { container: id, at, fact: Fact::Ready },
        ContainerEvent::Paused { id, at, paused } => {
            Command::Fact { container: id, at, fact: Fact::Frozen(paused) }
        }
        ContainerEvent::Exited { id, exit_code, oom, at } => {
            Command::Exited { container: id, exit_code, oom, at }
        }
        ContainerEvent::Gone { id, at } => Command::Forgotten { container: id, runtime, at },
    };
    control.tell(command);
}

fn claim(container: Container, identity: &IdentityConfig) -> Claim {
    let answer = identify(&container, identity);
    let facts = facts(&container, identity);
    let id = match &container.runtime_namespace {
        Some(namespace) => ContainerId::in_namespace(namespace, &container.id),
        None => ContainerId(container.id.as_str().into()),
    };
    Claim {
        container: id,
        runtime: container.runtime,
        name: container.name,
        image: container.image,
        identity: answer.into_stored(),
        facts,
        since: container.created_at,
        forgotten: None,
    }
}

/// What is told of `container` beside its name: what runs it, what that hides, labels that are to be kept.
pub(super) fn facts(container: &Container, identity: &IdentityConfig) -> Vec<Fact> {
    let labels = kept_labels(container, identity);
    let labels = (!labels.is_empty()).then_some(Fact::Labels(labels));
    let unseen = identity.isolation.of(container).map(Fact::Unseen);
    let handler = container.runtime_handler.clone().map(Fact::RuntimeHandler);
    handler.into_iter().chain(unseen).chain(labels).collect()
}
