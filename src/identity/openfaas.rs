//! OpenFaaS on Docker Swarm (faas-swarm): the service's labels are on its containers.

use super::rules::{Verdict, function, label, without};
use super::{IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// `com.openfaas.function` beside any label of swarm's. The first alone is not enough: an image can carry it.
pub fn swarm(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(name) = label(container, "com.openfaas.function") else {
        return without("label com.openfaas.function");
    };
    if !container.labels.iter().any(|(key, _)| key.starts_with("com.docker.swarm.")) {
        return Verdict::Pass {
            why:
                "label com.openfaas.function stands without com.docker.swarm.*, so it may come from the image"
                    .into(),
        };
    }
    Verdict::Match {
        identity: Identity {
            // OpenFaaS has no namespaces on swarm; this is what its gateway calls the one there is.
            namespace: Some("default".into()),
            function: Some(name.into()),
            // Not com.openfaas.uid: that is a time stamp of updates, absent before the first.
            revision: image::revision(container.image.as_deref()),
            instance_name: label(container, "com.docker.swarm.task.name").map(Into::into),
            ..function("openfaas-swarm", Confidence::Exact)
        },
        why: "label com.openfaas.function names it, com.docker.swarm.* confirms the platform".into(),
    }
}
