//! Google's functions-framework, alone or in a local Cloud Run.

use super::rules::{Verdict, env as variable, function, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `FUNCTION_TARGET`. It is the entry point in the code, not the deployed name: `K_SERVICE` is, where it is set.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(target) = variable(container, "FUNCTION_TARGET") else {
        return without("variable FUNCTION_TARGET");
    };
    let service = variable(container, "K_SERVICE");
    let confidence = if service.is_some() { Confidence::Exact } else { Confidence::Guessed };
    Verdict::Match {
        identity: Identity {
            function: Some(service.unwrap_or(target).into()),
            revision: variable(container, "K_REVISION")
                .map(Into::into)
                .or_else(|| image::revision(container.image.as_deref())),
            ..function("functions-framework", confidence)
        },
        why: match service {
            Some(_) => "variable FUNCTION_TARGET marks it, K_SERVICE names it".into(),
            None => "variable FUNCTION_TARGET marks it and, without K_SERVICE, stands for its name".into(),
        },
    }
}
