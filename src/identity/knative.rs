//! Knative Serving: labels of the revision on the pod, and `K_*` in the environment of its user containers.
//!
//! User containers have any name; `queue-proxy`, beside them, is no function (see `pod::sidecar`).

use super::IdentityConfig;
use super::pod::{in_pod, pod_label};
use super::rules::{Verdict, env as variable, matched, without};
use crate::model::{Confidence, Container, Identity};

/// `serving.knative.dev/revision` on the pod. The variable `K_REVISION` says that this is one of its user containers:
/// Knative gives it to those alone.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(revision) = pod_label(container, "serving.knative.dev/revision") else {
        return without("pod label serving.knative.dev/revision");
    };
    let service = pod_label(container, "serving.knative.dev/service");
    let name = service.or_else(|| pod_label(container, "serving.knative.dev/configuration"));
    let confirmed = variable(container, "K_REVISION") == Some(revision);
    let (confidence, why) = match (name, confirmed) {
        (Some(_), true) => (Confidence::Exact, "the pod's labels name it, K_REVISION confirms the container"),
        (None, _) => (Confidence::Guessed, "the pod is a revision of no service, its revision stands for it"),
        (Some(_), false) => {
            (Confidence::Guessed, "the pod's labels name it, no K_REVISION confirms this container of it")
        }
    };
    matched(
        Identity {
            function: Some(name.unwrap_or(revision).into()),
            revision: Some(revision.into()),
            ..in_pod(container, "knative", confidence)
        },
        why,
    )
}

/// `K_REVISION` where the pod's labels are not known. `K_SERVICE` may be empty; the configuration stands for it.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(revision) = variable(container, "K_REVISION") else { return without("variable K_REVISION") };
    let name = variable(container, "K_SERVICE").or_else(|| variable(container, "K_CONFIGURATION"));
    let Some(name) = name else { return without("variable K_SERVICE, like K_CONFIGURATION,") };
    matched(
        Identity {
            function: Some(name.into()),
            revision: Some(revision.into()),
            ..in_pod(container, "knative", Confidence::Guessed)
        },
        "variables K_REVISION and K_SERVICE say so; no pod labels confirm them, and an image can set both",
    )
}
