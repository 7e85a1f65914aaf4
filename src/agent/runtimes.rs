//! The runtimes thread: what Docker tells, turned into claims for the capture thread.

use super::control::{Command, Control};
use crate::attribution::{Claim, RuntimeState};
use crate::identity::{IdentityConfig, identify, kept_labels};
use crate::metrics::Metrics;
use crate::model::{Container, ContainerEvent, ContainerId, Fact, Swap};
use crate::runtime::docker::{self, DockerOptions};

/// Watches Docker until `stop` is told.
///
/// # Errors
/// The thread's event loop cannot be made.
pub(super) fn run(
    options: &DockerOptions,
    identity: Swap<IdentityConfig>,
    control: &Control,
    metrics: &Metrics,
    stop: tokio::sync::oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shutdown = async {
        // Dropped is as good as told.
        let _ = stop.await;
    };
    reactor.block_on(docker::watch(
        options,
        |event| forward(event, &identity.get(), control, metrics),
        shutdown,
    ));
    Ok(())
}

fn forward(event: ContainerEvent, identity: &IdentityConfig, control: &Control, metrics: &Metrics) {
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
        ContainerEvent::Known(container) => Command::Claim(Box::new(claim(*container, identity))),
        ContainerEvent::Started { id, pid, at } => Command::Started { container: id, pid, at },
        ContainerEvent::Ready { id, at } => Command::Fact { container: id, at, fact: Fact::Ready },
        ContainerEvent::Paused { id, at, paused } => {
            Command::Fact { container: id, at, fact: Fact::Frozen(paused) }
        }
        ContainerEvent::Exited { id, exit_code, oom, at } => {
            Command::Exited { container: id, exit_code, oom, at }
        }
        ContainerEvent::Gone { id } => Command::Forgotten(id),
    };
    control.send(command);
}

fn claim(container: Container, identity: &IdentityConfig) -> Claim {
    let answer = identify(&container, identity);
    let labels = kept_labels(&container, identity);
    let labels = (!labels.is_empty()).then_some(Fact::Labels(labels));
    let unseen = identity.isolation.of(&container).map(Fact::Unseen);
    let handler = container.runtime_handler.map(Fact::RuntimeHandler);
    Claim {
        container: ContainerId(container.id.into()),
        runtime: container.runtime,
        name: container.name,
        image: container.image,
        identity: answer.into_stored(),
        facts: handler.into_iter().chain(unseen).chain(labels).collect(),
        forgotten: false,
    }
}
