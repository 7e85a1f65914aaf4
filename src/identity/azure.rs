//! Azure Functions: a container is an app that holds many functions; which of them runs is not to be seen here.

use super::rules::{Verdict, env as variable, function, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `AzureWebJobsScriptRoot`, which the base images set. The app's name by `WEBSITE_SITE_NAME`, else by the image
/// (Docker invents container names), else by the container.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    if variable(container, "AzureWebJobsScriptRoot").is_none() {
        return without("variable AzureWebJobsScriptRoot");
    }
    let image = container.image.as_deref().filter(|image| !image.is_empty());
    let parts = image.map(image::ImageRef::new);
    let app = variable(container, "WEBSITE_SITE_NAME")
        .or_else(|| parts.map(|parts| parts.base_name()))
        .or(container.name.as_deref());
    Verdict::Match {
        identity: Identity {
            function: app.map(Into::into),
            revision: parts.and_then(|parts| parts.tag.or(parts.digest)).map(|mark| format!("image:{mark}")),
            ..function("azure-functions", Confidence::AppLevel)
        },
        why: "variable AzureWebJobsScriptRoot marks an app of many functions".into(),
    }
}
