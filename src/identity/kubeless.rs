//! Kubeless (archived): labels on the pod; the function's container is called like the function.

use super::IdentityConfig;
use super::image;
use super::pod::{container_name, of_the_pod, pod_label, pod_name, pod_namespace, template_hash};
use super::rules::{Verdict, env, function, matched, without};
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
            namespace: pod_namespace(container).map(Into::into),
            function: Some(name.into()),
            revision: template_hash(container).or_else(|| image::revision(container.image.as_deref())),
            instance_name: pod_name(container).map(Into::into),
            ..function("kubeless", if confirmed { Confidence::Exact } else { Confidence::Guessed })
        },
        "pod labels created-by and function name it",
    )
}
