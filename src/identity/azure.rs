//! Azure Functions: a container is an app that holds many functions; which of them runs is not to be seen here.

use super::pod::{container_name, in_pod, pod_label, template_hash};
use super::rules::{Verdict, env as variable, matched, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// What the base images set.
const MARK: &str = "AzureWebJobsScriptRoot";

/// Deployed by Azure's core tools: the environment's mark, and the app's name as pod label `app`, which alone is none.
pub fn core_tools(container: &Container, _: &IdentityConfig) -> Verdict {
    if variable(container, MARK).is_none() {
        return without("variable AzureWebJobsScriptRoot");
    }
    let Some(app) = pod_label(container, "app") else { return without("pod label app") };
    matched(
        Identity {
            function: Some(app.into()),
            revision: template_hash(container).or_else(|| revision(container)),
            ..in_pod(container, "azure-functions", confidence(container))
        },
        "variable AzureWebJobsScriptRoot marks an app of many functions, pod label app names it",
    )
}

/// The environment's mark alone. The app's name by `WEBSITE_SITE_NAME`, else by the container in its pod, else by the
/// image (Docker invents container names), else by the container.
pub fn env(container: &Container, _: &IdentityConfig) -> Verdict {
    if variable(container, MARK).is_none() {
        return without("variable AzureWebJobsScriptRoot");
    }
    let image = container.image.as_deref().filter(|image| !image.is_empty());
    let app = variable(container, "WEBSITE_SITE_NAME")
        .or_else(|| container_name(container))
        .or_else(|| image.map(|image| image::ImageRef::new(image).base_name()))
        .or(container.name.as_deref());
    matched(
        Identity {
            function: app.map(Into::into),
            revision: revision(container),
            ..in_pod(container, "azure-functions", confidence(container))
        },
        "variable AzureWebJobsScriptRoot marks an app of many functions",
    )
}

/// The base images set more than the one variable that people repeat in their own.
fn confidence(container: &Container) -> Confidence {
    let more = ["HOST_VERSION", "FUNCTIONS_WORKER_RUNTIME"];
    if more.iter().any(|key| variable(container, key).is_some()) {
        Confidence::AppLevel
    } else {
        Confidence::Guessed
    }
}

fn revision(container: &Container) -> Option<String> {
    let parts = image::ImageRef::new(container.image.as_deref()?);
    parts.tag.or(parts.digest).map(|mark| format!("image:{mark}"))
}
