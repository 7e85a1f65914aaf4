//! OpenFaaS: on Kubernetes (faas-netes), on containerd (faasd), on Docker Swarm (faas-swarm), and by what its watchdog
//! is told.

use super::pod::{container_name, deployed, in_pod, of_the_pod, pod_label, pod_namespace};
use super::rules::{Verdict, env, function, label, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// Where functions live unless told otherwise, on Kubernetes and in faasd.
const FUNCTIONS: &str = "openfaas-fn";
/// faasd's own services.
const CORE: &str = "openfaas";

/// faasd: the containerd namespace is the mark, a container's id its function's name. The namespace is the operator's
/// to choose, so nothing in a container can forge it.
pub fn faasd(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(namespace) = container.runtime_namespace.as_deref().filter(|namespace| !namespace.is_empty())
    else {
        return Verdict::Pass { why: "no containerd namespace".into() };
    };
    if namespace == CORE {
        return Verdict::Pass { why: "containerd namespace openfaas is faasd's own".into() };
    }
    let labels = &container.runtime_namespace_labels;
    let marked = labels.iter().any(|(key, value)| key == "openfaas" && (value == "true" || value == "1"));
    if namespace != FUNCTIONS && !marked {
        return Verdict::Pass {
            why: "the containerd namespace is not openfaas-fn and has no label openfaas=true".into(),
        };
    }
    // Ids are used again at every deployment: the task tells one from the next.
    let task = container.task.as_deref().map(|task| format!("#{task}")).unwrap_or_default();
    matched(
        Identity {
            namespace: Some(namespace.into()),
            function: Some(container.id.clone()),
            revision: image::revision(container.image.as_deref()),
            instance_name: Some(format!("{namespace}/{}{task}", container.id)),
            ..function("openfaas-faasd", Confidence::Exact)
        },
        "the containerd namespace is one of faasd's, the container's id names the function",
    )
}

/// faas-netes: `faas_function` on the pod, confirmed by the container, which is called like its function.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = pod_label(container, "faas_function") else { return without("pod label faas_function") };
    let called = container_name(container);
    if called.is_some_and(|called| called != name) {
        return of_the_pod(container, "pod label faas_function names another container of the pod");
    }
    let (confidence, why) = match called {
        Some(_) => (Confidence::Exact, "pod label faas_function names it, the container's name confirms it"),
        None => (Confidence::Guessed, "pod label faas_function names it, no container name confirms it"),
    };
    matched(
        Identity {
            function: Some(name.into()),
            // Not the label `uid`: that is a time stamp of updates.
            revision: deployed(container),
            ..in_pod(container, "openfaas", confidence)
        },
        why,
    )
}

/// What of-watchdog is told for its authentication. An image can say as much, so a pod of the same namespace must
/// confirm it; one of another namespace refutes it.
pub fn watchdog_names(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = env(container, "OPENFAAS_NAME") else { return without("variable OPENFAAS_NAME") };
    let Some(namespace) = env(container, "OPENFAAS_NAMESPACE") else {
        return without("variable OPENFAAS_NAMESPACE");
    };
    let (confidence, why) = match pod_namespace(container) {
        Some(of_pod) if of_pod == namespace => {
            (Confidence::Exact, "OPENFAAS_NAME names it, its pod is in OPENFAAS_NAMESPACE")
        }
        Some(_) => {
            return Verdict::Pass { why: "OPENFAAS_NAMESPACE is not the namespace of its pod".into() };
        }
        None => (Confidence::Guessed, "OPENFAAS_NAME names it, no pod confirms it"),
    };
    matched(
        Identity {
            namespace: Some(namespace.into()),
            function: Some(name.into()),
            revision: deployed(container),
            ..in_pod(container, "openfaas", confidence)
        },
        why,
    )
}

/// `fprocess`, which images of other uses have too: it only confirms a container in OpenFaaS's own namespace whose
/// pod's labels are not known.
pub fn watchdog(container: &Container, _: &IdentityConfig) -> Verdict {
    if env(container, "fprocess").is_none() {
        return without("variable fprocess");
    }
    if container.pod.is_some() || pod_namespace(container) != Some(FUNCTIONS) {
        return Verdict::Pass {
            why:
                "fprocess alone says nothing but in a pod of namespace openfaas-fn whose labels are not known"
                    .into(),
        };
    }
    let Some(name) = container_name(container) else { return without("label io.kubernetes.container.name") };
    matched(
        Identity {
            namespace: Some(FUNCTIONS.into()),
            function: Some(name.into()),
            revision: image::revision(container.image.as_deref()),
            ..in_pod(container, "openfaas", Confidence::Guessed)
        },
        "a watchdog (fprocess) in namespace openfaas-fn, named by its container",
    )
}

/// `com.openfaas.function` beside swarm's labels. The first alone is not enough: an image can carry it. It can carry
/// both, but not the container's name, which swarm makes of service and task.
pub fn swarm(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = label(container, "com.openfaas.function") else {
        return without("label com.openfaas.function");
    };
    let is_swarms = |key: &str| key.starts_with("com.docker.swarm.") && !carried_by_image(container, key);
    if !container.labels.iter().any(|(key, _)| is_swarms(key)) {
        return Verdict::Pass {
            why:
                "label com.openfaas.function stands without com.docker.swarm.*, so it may come from the image"
                    .into(),
        };
    }
    let service = label(container, "com.docker.swarm.service.name");
    let task = label(container, "com.docker.swarm.task.name");
    let by_name = container.name.as_deref().filter(|called| {
        called.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
            && task.is_none_or(|t| t == *called)
    });
    let (confidence, why) = if by_name.is_some() && service.is_none_or(|service| service == name) {
        (
            Confidence::Exact,
            "label com.openfaas.function names it, com.docker.swarm.* and the container's name confirm it",
        )
    } else {
        (
            Confidence::Guessed,
            "labels com.openfaas.function and com.docker.swarm.* name it, but an image can carry them and the \
             container's name is not the task's",
        )
    };
    matched(
        Identity {
            // OpenFaaS has no namespaces on swarm; this is what its gateway calls the one there is.
            namespace: Some("default".into()),
            function: Some(name.into()),
            // Not com.openfaas.uid: that is a time stamp of updates, absent before the first.
            revision: image::revision(container.image.as_deref()),
            instance_name: task.map(Into::into),
            ..function("openfaas-swarm", confidence)
        },
        why,
    )
}

fn carried_by_image(container: &Container, key: &str) -> bool {
    container.image_labels.iter().any(|(carried, _)| carried == key)
}
