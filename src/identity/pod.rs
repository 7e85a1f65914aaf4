//! Containers in Kubernetes pods: what they belong to, and which of them run no function.
//!
//! A platform's labels are on the pod, never on its containers, so every container of the pod sees them: the sandbox,
//! init containers, sidecars. Whoever names a function by them must look at the container too.

use super::rules::{Verdict, env, function, label, matched};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, ContainerId, Identity, Pod};

/// Containers that meshes put beside others, whatever the platform.
const SIDECARS: &[&str] =
    &["daprd", "istio-init", "istio-proxy", "istio-validation", "linkerd-init", "linkerd-proxy"];

/// Containers of a platform's own beside the function's.
const PLATFORM_SIDECARS: &[(&str, &[&str])] = &[
    ("knative", &["queue-proxy"]),
    ("fission", &["fetcher"]),
    ("kubeless", &["compile", "install", "prepare"]),
];

/// A pod's sandbox, init containers and ephemeral ones: they share the pod's labels and run no function.
pub fn not_main(container: &Container, _: &IdentityConfig) -> Verdict {
    if is_sandbox(container) {
        return of_the_pod(container, "the pod's sandbox (pause), not one of its containers");
    }
    match container_type(container) {
        Some("init") => of_the_pod(container, "an init container (io.kubernetes.container.type)"),
        Some("ephemeral") => of_the_pod(container, "an ephemeral container (io.kubernetes.container.type)"),
        _ => Verdict::Pass { why: "neither a pod's sandbox nor an init or ephemeral container".into() },
    }
}

/// Sidecars of meshes and platforms, by the names that are reserved for them.
pub fn sidecar(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = container_name(container) else {
        return Verdict::Pass { why: "not in a pod".into() };
    };
    let own = |(platform, names): &(&str, &[&str])| {
        names.contains(&name) && platform_of(container).is_none_or(|of| of == *platform)
    };
    if SIDECARS.contains(&name) || PLATFORM_SIDECARS.iter().any(own) {
        return of_the_pod(container, "a sidecar, by its name in the pod");
    }
    Verdict::Pass { why: "its name in the pod is no known sidecar's".into() }
}

/// No function, but of the pod's platform.
pub(super) fn of_the_pod(container: &Container, why: &str) -> Verdict {
    matched(
        Identity { platform: platform_of(container).map(Into::into), ..Identity::not_a_function("") },
        why,
    )
}

/// Which platform made the pod, by its labels; Knative's also by what its sidecar is told.
fn platform_of(container: &Container) -> Option<&'static str> {
    let has = |key| pod_label(container, key).is_some();
    if has("serving.knative.dev/revision") || env(container, "SERVING_REVISION").is_some() {
        Some("knative")
    } else if has("executorType") && (has("environmentName") || has("functionName")) {
        Some("fission")
    } else if pod_label(container, "nuclio.io/class") == Some("function") {
        Some("nuclio")
    } else if has("faas_function") {
        Some("openfaas")
    } else if pod_label(container, "created-by") == Some("kubeless") {
        Some("kubeless")
    } else if pod_label(container, "user-action-pod") == Some("true") {
        Some("openwhisk")
    } else {
        None
    }
}

/// Whether it is a pod's sandbox: the runtime says so, or cri-dockerd's or containerd's own marks do.
pub(super) fn is_sandbox(container: &Container) -> bool {
    container.sandbox
        || container.label("io.kubernetes.docker.type") == Some("podsandbox")
        || container.label("io.cri-containerd.kind") == Some("sandbox")
        || container.annotation("io.kubernetes.cri.container-type") == Some("sandbox")
}

fn container_type(container: &Container) -> Option<&str> {
    const KEY: &str = "io.kubernetes.container.type";
    // cri-dockerd writes annotations as labels.
    container.annotation(KEY).or_else(|| container.label("annotation.io.kubernetes.container.type"))
}

/// Whether the labels `io.kubernetes.*` are the kubelet's. On Docker an image can carry them too, but not the name
/// that cri-dockerd gives.
fn is_kubelets(container: &Container) -> bool {
    container.pod.is_some()
        || !container.runtime.starts_with("docker")
        || container.name.as_deref().is_some_and(|name| name.starts_with("k8s_"))
}

fn kubelet_label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    label(container, key).filter(|_| is_kubelets(container))
}

/// The pod's name.
pub(super) fn pod_name(container: &Container) -> Option<&str> {
    told(container.pod.as_ref().map(|pod| pod.name.as_str()))
        .or_else(|| kubelet_label(container, "io.kubernetes.pod.name"))
}

/// The pod's namespace.
pub(super) fn pod_namespace(container: &Container) -> Option<&str> {
    told(container.pod.as_ref().map(|pod| pod.namespace.as_str()))
        .or_else(|| kubelet_label(container, "io.kubernetes.pod.namespace"))
}

/// The container's name in its pod.
pub(super) fn container_name(container: &Container) -> Option<&str> {
    kubelet_label(container, "io.kubernetes.container.name")
}

/// The name that people gave: in its pod, else Docker's.
pub(super) fn given_name(container: &Container) -> Option<&str> {
    container_name(container).or(container.name.as_deref())
}

/// The value of the pod's label `key`; an empty one says nothing.
pub(super) fn pod_label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    let value = match &container.pod {
        Some(pod) => pod.label(key),
        // cri-dockerd and containerd keep the pod's labels as the sandbox's own.
        None if is_sandbox(container) => container.label(key),
        None => None,
    };
    told(value)
}

/// The value of the pod's annotation `key`; an empty one says nothing.
pub(super) fn pod_annotation<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    told(container.pod.as_ref().and_then(|pod| pod.annotation(key)))
}

/// A label of the container, else of its pod.
pub(super) fn any_label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    label(container, key).or_else(|| pod_label(container, key))
}

/// The revision of what a Deployment runs: its template's hash, which changes with it.
pub(super) fn template_hash(container: &Container) -> Option<String> {
    pod_label(container, "pod-template-hash").map(|hash| format!("pod-template-hash:{hash}"))
}

/// The same, or where nothing deployed it the image's.
pub(super) fn deployed(container: &Container) -> Option<String> {
    template_hash(container).or_else(|| image::revision(container.image.as_deref()))
}

/// A function of `platform`, its name and revision still to be filled in: the pod's namespace is its own, and the pod
/// its instance.
pub(super) fn in_pod(container: &Container, platform: &str, confidence: Confidence) -> Identity {
    Identity {
        namespace: pod_namespace(container).map(Into::into),
        instance_name: pod_name(container).map(Into::into),
        ..function(platform, confidence)
    }
}

/// The id of the sandbox that cri-dockerd made `container`'s pod by, which has the pod's labels; none where it is not one
/// of cri-dockerd's, or is a sandbox itself.
pub fn sandbox_on_docker(container: &Container) -> Option<&str> {
    const KEY: &str = "io.kubernetes.sandbox.id";
    let is_one = container.pod.is_none() && !is_sandbox(container);
    kubelet_label(container, KEY).filter(|id| is_one && ContainerId::is_hex(id))
}

/// Gives `container` the pod of `sandbox`, if that is its sandbox: both were made for the same one.
pub fn join_on_docker(container: &mut Container, sandbox: &Container) {
    let uid = |of: &Container| kubelet_label(of, "io.kubernetes.pod.uid").map(str::to_owned);
    if is_kubelets(sandbox) && uid(container).is_some() && uid(container) == uid(sandbox) {
        container.pod = pod_of_sandbox(sandbox);
    }
}

/// The pod that `sandbox`, a container of cri-dockerd or containerd, stands for; none if it is no sandbox.
pub fn pod_of_sandbox(sandbox: &Container) -> Option<Pod> {
    if !is_sandbox(sandbox) {
        return None;
    }
    if let Some(pod) = &sandbox.pod {
        return Some(pod.clone());
    }
    let text = |key| sandbox.label(key).unwrap_or_default().to_owned();
    let is_ours = |key: &str| key.starts_with("annotation.") || key.starts_with("io.");
    // cri-dockerd writes annotations as labels.
    let annotations =
        sandbox.labels.iter().filter_map(|(key, value)| Some((key.strip_prefix("annotation.")?, value)));
    Some(Pod {
        name: text("io.kubernetes.pod.name"),
        namespace: text("io.kubernetes.pod.namespace"),
        uid: text("io.kubernetes.pod.uid"),
        labels: sandbox.labels.iter().filter(|(key, _)| !is_ours(key)).cloned().collect(),
        annotations: annotations
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .chain(sandbox.annotations.iter().cloned())
            .collect(),
    })
}

fn told(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_gives_its_pod_to_its_own_containers_and_to_no_other() {
        let id = "5".repeat(64);
        let made = |name: &str, labels: &[(&str, &str)]| Container {
            runtime: "docker".into(),
            name: Some(name.into()),
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ..Container::default()
        };
        let sandbox = made(
            "k8s_POD_p_ns_u_0",
            &[
                ("io.kubernetes.docker.type", "podsandbox"),
                ("io.kubernetes.pod.uid", "u"),
                ("io.kubernetes.pod.name", "p"),
                ("faas_function", "figlet"),
            ],
        );
        let of = [("io.kubernetes.sandbox.id", id.as_str()), ("io.kubernetes.pod.uid", "u")];
        let own = made("k8s_figlet_p_ns_u_0", &of);
        assert_eq!(sandbox_on_docker(&own), Some(id.as_str()));
        for (why, other) in [
            ("not cri-dockerd's by its name", made("figlet", &of)),
            ("an image said so", Container { image_labels: own.labels.clone(), ..own.clone() }),
            ("not an id", made("k8s_a", &[("io.kubernetes.sandbox.id", "../x")])),
            ("a sandbox", sandbox.clone()),
        ] {
            assert_eq!(sandbox_on_docker(&other), None, "{why}");
        }
        let joined = |container: &Container, sandbox: &Container| {
            let mut container = container.clone();
            join_on_docker(&mut container, sandbox);
            container.pod.map(|pod| (pod.name, pod.labels))
        };
        let (name, labels) = joined(&own, &sandbox).expect("its pod");
        assert_eq!((name.as_str(), labels), ("p", vec![("faas_function".to_owned(), "figlet".to_owned())]));
        let elsewhere = made(
            "k8s_POD_x_ns_u_0",
            &[("io.kubernetes.docker.type", "podsandbox"), ("io.kubernetes.pod.uid", "w")],
        );
        assert_eq!(joined(&own, &elsewhere), None, "another pod's");
        assert_eq!(
            joined(&own, &Container { name: Some("x".into()), ..sandbox.clone() }),
            None,
            "no kubelet's"
        );
        assert_eq!(joined(&own, &made("k8s_a", &of)), None, "no sandbox");
    }
}
