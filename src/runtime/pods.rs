//! Containers of a pod that a runtime tells as any others, joined to their sandbox: cri-dockerd keeps a pod's labels on
//! the sandbox alone, and on the others the sandbox's id.
//!
//! Either may come first. Bounded: of sandboxes without end the oldest are forgotten, and so are containers that wait
//! for one.

use std::collections::{HashMap, VecDeque};

use crate::identity::pod_of_sandbox;
use crate::model::{Container, ContainerEvent, Pod};

/// The label that names a container's sandbox.
const SANDBOX: &str = "io.kubernetes.sandbox.id";
/// Most sandboxes that are known, and most containers that wait for theirs.
const MAX: usize = 4_096;

/// Sandboxes by id, and containers whose sandbox was not told yet.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    pods: HashMap<String, Pod>,
    order: VecDeque<String>,
    waiting: VecDeque<Container>,
}

impl Sandboxes {
    /// Hands `event` on; of a container with what its pod says, once that is known, again where it was told without.
    pub(super) fn pass(&mut self, event: ContainerEvent, mut on: impl FnMut(ContainerEvent)) {
        match event {
            ContainerEvent::Known(mut container) => {
                if let Some(pod) = pod_of_sandbox(&container) {
                    self.learn(container.id.clone(), pod);
                    let id = container.id.clone();
                    on(ContainerEvent::Known(container));
                    self.release(&id, &mut on);
                    return;
                }
                if container.pod.is_none()
                    && let Some(sandbox) = sandbox_of(&container)
                {
                    match self.pods.get(sandbox) {
                        Some(pod) => container.pod = Some(pod.clone()),
                        None => self.wait(&container),
                    }
                }
                on(ContainerEvent::Known(container));
            }
            ContainerEvent::Gone { id } => {
                if self.pods.remove(&*id.0).is_some() {
                    self.order.retain(|known| **known != *id.0);
                }
                self.waiting.retain(|container| *container.id != *id.0);
                on(ContainerEvent::Gone { id });
            }
            other => on(other),
        }
    }

    fn learn(&mut self, id: String, pod: Pod) {
        if self.pods.insert(id.clone(), pod).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.pods.remove(&oldest);
            }
        }
    }

    fn wait(&mut self, container: &Container) {
        self.waiting.retain(|known| known.id != container.id);
        if self.waiting.len() >= MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(container.clone());
    }

    /// Tells again what has waited for sandbox `id`.
    fn release(&mut self, id: &str, on: &mut impl FnMut(ContainerEvent)) {
        let Some(pod) = self.pods.get(id).cloned() else { return };
        let (theirs, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|one: &Container| sandbox_of(one) == Some(id));
        self.waiting = others;
        let theirs: VecDeque<Container> = theirs;
        for container in theirs {
            on(ContainerEvent::Known(Box::new(Container { pod: Some(pod.clone()), ..container })));
        }
    }
}

/// The sandbox that cri-dockerd names, by the container's own name: an image can carry any label.
fn sandbox_of(container: &Container) -> Option<&str> {
    let is_kubelets = container.name.as_deref().is_some_and(|name| name.starts_with("k8s_"));
    container.label(SANDBOX).filter(|sandbox| is_kubelets && !sandbox.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerId;

    fn container(id: &str, labels: &[(&str, &str)]) -> ContainerEvent {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let name = Some(format!("k8s_{id}"));
        ContainerEvent::Known(Box::new(Container { id: id.into(), name, labels, ..Container::default() }))
    }

    fn told(sandboxes: &mut Sandboxes, event: ContainerEvent) -> Vec<(String, Option<String>)> {
        let mut told = Vec::new();
        sandboxes.pass(event, |event| {
            if let ContainerEvent::Known(container) = event {
                let function = container.pod.as_ref().and_then(|pod| pod.label("functionName"));
                told.push((container.id.clone(), function.map(Into::into)));
            }
        });
        told
    }

    #[test]
    fn a_pods_labels_are_those_of_its_sandbox_whichever_comes_first() {
        let sandbox =
            || container("s", &[("io.kubernetes.docker.type", "podsandbox"), ("functionName", "f")]);
        let main = |id| container(id, &[("io.kubernetes.docker.type", "container"), (SANDBOX, "s")]);
        let some = |id: &str| (id.to_owned(), Some("f".to_owned()));
        let none = |id: &str| (id.to_owned(), None);
        let mut pods = Sandboxes::default();
        assert_eq!(told(&mut pods, main("a")), [none("a")]);
        assert_eq!(told(&mut pods, container("plain", &[])), [none("plain")]);
        assert_eq!(told(&mut pods, sandbox()), [none("s"), some("a")]);
        assert_eq!(told(&mut pods, sandbox()), [none("s")], "once");
        assert_eq!(told(&mut pods, main("b")), [some("b")]);
        let ContainerEvent::Known(forged) = main("forged") else { unreachable!() };
        let forged = ContainerEvent::Known(Box::new(Container { name: Some("plain".into()), ..*forged }));
        assert_eq!(told(&mut pods, forged), [none("forged")]);
        pods.pass(ContainerEvent::Gone { id: ContainerId("s".into()) }, |_| {});
        assert_eq!(told(&mut pods, main("c")), [none("c")]);
        assert_eq!((pods.pods.len(), pods.order.len(), pods.waiting.len()), (0, 0, 1));
    }

    #[test]
    fn tenants_that_name_sandboxes_without_end_fill_nothing() {
        let mut pods = Sandboxes::default();
        for number in 0..2 * MAX {
            let id = number.to_string();
            told(&mut pods, container(&id, &[(SANDBOX, &format!("none-{id}"))]));
            told(&mut pods, container(&format!("s{id}"), &[("io.kubernetes.docker.type", "podsandbox")]));
        }
        assert_eq!((pods.pods.len(), pods.order.len(), pods.waiting.len()), (MAX, MAX, MAX));
    }
}
