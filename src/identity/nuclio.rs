//! Nuclio, on Docker (its platform `local`) and on Kubernetes.
//!
//! The label `nuclio.io/function-spec` may hold secrets and is not read.

use super::pod::{container_name, in_pod, of_the_pod, pod_annotation, pod_label};
use super::rules::{Verdict, env, function, label, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `nuclio.io/platform=local` and `nuclio.io/function-name`. A function's own labels can override them and an image
/// can carry them; the container's name `nuclio-<namespace>-<function>`, which cannot be split, confirms them.
pub fn local(container: &Container, _: &IdentityConfig) -> Verdict {
    match label(container, "nuclio.io/platform") {
        None => return without("label nuclio.io/platform"),
        Some("local") => {}
        Some(_) => return Verdict::Pass { why: "label nuclio.io/platform is not local".into() },
    }
    let Some(name) = label(container, "nuclio.io/function-name") else {
        return without("label nuclio.io/function-name");
    };
    let namespace = label(container, "nuclio.io/namespace");
    let confirmed =
        namespace.is_some_and(|ns| container.name.as_deref() == Some(&format!("nuclio-{ns}-{name}")));
    let (confidence, why) = if confirmed {
        (Confidence::Exact, "label nuclio.io/function-name names it, the container's name confirms it")
    } else {
        (
            Confidence::Guessed,
            "label nuclio.io/function-name names it, but an image can carry it and the container is not called \
             nuclio-<namespace>-<function>",
        )
    };
    matched(
        Identity {
            namespace: namespace.map(Into::into),
            function: Some(name.into()),
            revision: image::revision(container.image.as_deref()),
            ..function("nuclio", confidence)
        },
        why,
    )
}

/// `nuclio.io/class=function` and `nuclio.io/function-name` on the pod, confirmed by the container.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    if pod_label(container, "nuclio.io/class") != Some("function") {
        return Verdict::Pass { why: "pod label nuclio.io/class is not function".into() };
    }
    let Some(name) = pod_label(container, "nuclio.io/function-name") else {
        return without("pod label nuclio.io/function-name");
    };
    let called = container_name(container);
    let confirmed = called == Some("nuclio") || env(container, "NUCLIO_FUNCTION_NAME") == Some(name);
    if called.is_some() && !confirmed {
        return of_the_pod(container, "another container of a function's pod, by its name");
    }
    // The label function-version is always `latest`.
    let built = pod_annotation(container, "nuclio.io/image-hash");
    matched(
        Identity {
            function: Some(name.into()),
            revision: built
                .map(|hash| format!("nuclio.io/image-hash:{hash}"))
                .or_else(|| image::revision(container.image.as_deref())),
            ..in_pod(container, "nuclio", if confirmed { Confidence::Exact } else { Confidence::Guessed })
        },
        "pod labels nuclio.io/class and nuclio.io/function-name name it",
    )
}
