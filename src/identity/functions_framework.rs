//! Google's functions-framework, alone or in a local Cloud Run.

use super::pod::in_pod;
use super::rules::{Verdict, env as variable, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `FUNCTION_TARGET`. It is the entry point in the code, not the deployed name: `K_SERVICE` is, where it is set and
/// `K_REVISION`, which a deployment sets beside it, or the framework's `FUNCTION_SIGNATURE_TYPE` confirms it.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(target) = variable(container, "FUNCTION_TARGET") else {
        return without("variable FUNCTION_TARGET");
    };
    let service = variable(container, "K_SERVICE");
    let revision = variable(container, "K_REVISION");
    let confirmed = revision.is_some() || variable(container, "FUNCTION_SIGNATURE_TYPE").is_some();
    let (confidence, why) = match service {
        Some(_) if confirmed => (Confidence::Exact, "variable FUNCTION_TARGET marks it, K_SERVICE names it"),
        Some(_) => (
            Confidence::Guessed,
            "variable FUNCTION_TARGET marks it, K_SERVICE names it, nothing of a deployment confirms them",
        ),
        None => (
            Confidence::Guessed,
            "variable FUNCTION_TARGET marks it and, without K_SERVICE, stands for its name",
        ),
    };
    matched(
        Identity {
            function: Some(service.unwrap_or(target).into()),
            revision: revision.map(Into::into).or_else(|| image::revision(container.image.as_deref())),
            ..in_pod(container, "functions-framework", confidence)
        },
        why,
    )
}
