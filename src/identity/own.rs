//! fnscope's own labels: the user's word, above every platform's.
//!
//! `fnscope.function` names a function, `fnscope.namespace` and `fnscope.revision` complete it, `fnscope.ignore=true`
//! takes a container out. On Kubernetes they may be labels or annotations of the pod. The runtimes `cgroup` and
//! `local` have no labels of their own and are given these.

use super::pod::{any_label, pod_annotation, pod_name, pod_namespace};
use super::rules::{Verdict, function, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `fnscope.ignore=true`. Of the image's labels too: whoever built it may keep out, of all that it could say.
pub fn ignored(container: &Container, _: &IdentityConfig) -> Verdict {
    const KEY: &str = "fnscope.ignore";
    match container.label(KEY).or_else(|| own(container, KEY)) {
        Some("true") => {
            matched(Identity::not_a_function(""), "label fnscope.ignore is true: not to be profiled")
        }
        Some(_) => Verdict::Pass { why: "label fnscope.ignore is not true".into() },
        None => Verdict::Pass { why: "label fnscope.ignore is absent".into() },
    }
}

/// `fnscope.function` and what stands beside it. Without `fnscope.revision` the image tells one code from the next.
pub fn labels(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = own(container, "fnscope.function") else { return without("label fnscope.function") };
    let platform = if container.runtime == "local" { "local" } else { "custom" };
    let by_path = matches!(container.runtime.as_str(), "local" | "cgroup");
    matched(
        Identity {
            namespace: own(container, "fnscope.namespace")
                .or_else(|| pod_namespace(container))
                .map(Into::into),
            function: Some(name.into()),
            revision: own(container, "fnscope.revision")
                .map(Into::into)
                .or_else(|| image::revision(container.image.as_deref())),
            instance_name: if by_path {
                Some(container.id.clone())
            } else {
                pod_name(container).map(Into::into)
            },
            ..function(platform, Confidence::Exact)
        },
        "label fnscope.function names it",
    )
}

fn own<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    any_label(container, key).or_else(|| pod_annotation(container, key))
}
