//! fnscope's own labels: the user's word, above every platform's.
//!
//! `fnscope.function` names a function, `fnscope.namespace` and `fnscope.revision` complete it, `fnscope.ignore=true`
//! takes a container out. The runtimes `cgroup` and `local` have no labels of their own and are given these.

use super::rules::{Verdict, function, label, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `fnscope.ignore=true`.
pub fn ignore(container: &Container, _: &IdentityConfig) -> Verdict {
    match container.label("fnscope.ignore") {
        Some("true") => Verdict::Match {
            identity: Identity::not_a_function(""),
            why: "label fnscope.ignore is true: not to be profiled".into(),
        },
        Some(_) => Verdict::Pass { why: "label fnscope.ignore is not true".into() },
        None => Verdict::Pass { why: "label fnscope.ignore is absent".into() },
    }
}

/// `fnscope.function` and what stands beside it. Without `fnscope.revision` the image tells one code from the next.
pub fn labels(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = label(container, "fnscope.function") else { return without("label fnscope.function") };
    let platform = if container.runtime == "local" { "local" } else { "custom" };
    let by_path = matches!(container.runtime.as_str(), "local" | "cgroup");
    Verdict::Match {
        identity: Identity {
            namespace: label(container, "fnscope.namespace").map(Into::into),
            function: Some(name.into()),
            revision: label(container, "fnscope.revision")
                .map(Into::into)
                .or_else(|| image::revision(container.image.as_deref())),
            instance_name: by_path.then(|| container.id.clone()),
            ..function(platform, Confidence::Exact)
        },
        why: "label fnscope.function names it".into(),
    }
}
