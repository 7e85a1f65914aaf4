//! Nuclio's local (Docker) platform. Its container names `nuclio-<namespace>-<function>` cannot be split; labels can.

use super::rules::{Verdict, function, label, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `nuclio.io/platform=local` and `nuclio.io/function-name`. The label function-spec may hold secrets and is not read.
pub fn local(container: &Container, _: &IdentityConfig) -> Verdict {
    match container.label("nuclio.io/platform") {
        None => return without("label nuclio.io/platform"),
        Some("local") => {}
        Some(_) => return Verdict::Pass { why: "label nuclio.io/platform is not local".into() },
    }
    let Some(name) = label(container, "nuclio.io/function-name") else {
        return without("label nuclio.io/function-name");
    };
    Verdict::Match {
        identity: Identity {
            namespace: label(container, "nuclio.io/namespace").map(Into::into),
            function: Some(name.into()),
            revision: image::revision(container.image.as_deref()),
            ..function("nuclio", Confidence::Exact)
        },
        why: "label nuclio.io/function-name names it".into(),
    }
}
