//! Kubeless (archived): labels on the pod; the function's container is called like the function.

use super::IdentityConfig;
use super::pod::{container_name, deployed, in_pod, of_the_pod, pod_label};
use super::rules::{Verdict, env, matched, without};
use crate::model::{Confidence, Container, Identity};

/// `created-by=kubeless` and `function`, confirmed by the container's name or `FUNC_HANDLER`.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    if pod_label(container, "created-by") != Some("kubeless") {
        return Verdict::Pass { why: "pod label created-by is not kubeless".into() };
    }
    let Some(name) = pod_label(container, "function") else { return without("pod label function") };
    let called = container_name(container);
    let confirmed = called == Some(name) || env(container, "FUNC_HANDLER").is_some();
    if called.is_some() && !confirmed {
        return of_the_pod(container, "another container of a function's pod, by its name");
    }
    matched(
        Identity {
            function: Some(name.into()),
            revision: deployed(container),
            ..in_pod(container, "kubeless", if confirmed { Confidence::Exact } else { Confidence::Guessed })
        },
        "pod labels created-by and function name it",
    )
}
