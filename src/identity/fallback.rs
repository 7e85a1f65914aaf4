//! Containers that no platform claims. They are functions only where the user says `functions = "all"`; else the
//! answer still tells what they are, and how they would be called.

use super::pod::{container_name, deployed, pod_name, pod_namespace};
use super::rules::{Found, Verdict, function, label, matched, without};
use super::{Functions, IdentityConfig, image};
use crate::model::{Confidence, Container, Identity};

/// A container of a pod that no platform made, by its name in the pod.
pub fn kubernetes(container: &Container, config: &IdentityConfig) -> Verdict {
    let Some(pod) = pod_name(container) else { return without("label io.kubernetes.pod.name") };
    let Some(name) = container_name(container) else { return without("label io.kubernetes.container.name") };
    let identity = Identity {
        namespace: pod_namespace(container).map(Into::into),
        function: Some(name.into()),
        revision: deployed(container),
        instance_name: Some(pod.into()),
        ..function("k8s", Confidence::Fallback)
    };
    if_wanted(identity, config)
}

/// A service of a compose project, called `project/service`.
pub fn compose(container: &Container, config: &IdentityConfig) -> Verdict {
    let Some(service) = label(container, "com.docker.compose.service") else {
        return without("label com.docker.compose.service");
    };
    let project = label(container, "com.docker.compose.project");
    let name = project.map_or_else(|| service.into(), |project| format!("{project}/{service}"));
    // Compose names images after services: only the image's id changes when the code does.
    let image_id = label(container, "com.docker.compose.image");
    let identity = Identity {
        namespace: project.map(Into::into),
        function: Some(name),
        revision: image::revision(image_id.or(container.image.as_deref())),
        instance_name: label(container, "com.docker.compose.container-number").map(Into::into),
        ..function("compose", Confidence::Fallback)
    };
    if_wanted(identity, config)
}

/// A swarm service.
pub fn swarm(container: &Container, config: &IdentityConfig) -> Verdict {
    let Some(service) = label(container, "com.docker.swarm.service.name") else {
        return without("label com.docker.swarm.service.name");
    };
    let identity = Identity {
        namespace: label(container, "com.docker.stack.namespace").map(Into::into),
        function: Some(service.into()),
        revision: image::revision(container.image.as_deref()),
        instance_name: label(container, "com.docker.swarm.task.name").map(Into::into),
        ..function("swarm", Confidence::Fallback)
    };
    if_wanted(identity, config)
}

/// Any other container, by its name, else by the beginning of its id.
pub fn container(container: &Container, config: &IdentityConfig) -> Verdict {
    if config.functions == Functions::Labelled {
        return Verdict::Pass { why: "no platform claims it and functions is not \"all\"".into() };
    }
    let name = container.name.clone().filter(|name| !name.is_empty());
    let platform = if container.runtime.is_empty() { "docker" } else { &container.runtime };
    let identity = Identity {
        function: name.or_else(|| Some(container.id.chars().take(12).collect())),
        revision: image::revision(container.image.as_deref()),
        ..function(platform, Confidence::Fallback)
    };
    matched(identity, "functions is \"all\": its name stands for a function")
}

/// `identity` where every container counts; where not, its platform and instance alone.
fn if_wanted(identity: Identity, config: &IdentityConfig) -> Verdict {
    let name = identity.function.clone().unwrap_or_default();
    let short: String = name.chars().take(128).collect();
    match config.functions {
        Functions::All => matched(identity, format!("functions is \"all\": counts as {short}")),
        Functions::Labelled => Verdict::Match(Box::new(Found {
            identity: Identity {
                platform: identity.platform,
                instance_name: identity.instance_name,
                ..Identity::not_a_function("")
            },
            why: format!("no function; it would count as {short} with functions = \"all\""),
            runtime_kind: None,
            fallback_name: Some(name),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::identify;

    #[test]
    fn every_container_counts_when_the_user_says_so() {
        let all = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
        let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "api")];
        let swarm = [("com.docker.swarm.service.name", "web"), ("com.docker.swarm.task.name", "web.1.x")];
        let own = [("fnscope.function", "mine"), ("com.docker.compose.service", "api")];
        let ignored = [("fnscope.ignore", "true"), ("fnscope.function", "mine")];
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let cases: [Case<'_>; 5] = [
            (&compose, Some("compose"), Some("shop/api"), None),
            (&swarm, Some("swarm"), Some("web"), Some("web.1.x")),
            (&own, Some("custom"), Some("mine"), None),
            (&ignored, None, None, None),
            (&[], Some("docker"), Some("sleepy_bose"), None),
        ];
        for (labels, platform, function, instance) in cases {
            let container = Container {
                runtime: "docker".into(),
                name: Some("sleepy_bose".into()),
                labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
                ..Container::default()
            };
            let identity = identify(&container, &all).identity;
            assert_eq!(identity.platform.as_deref(), platform, "{labels:?}");
            assert_eq!(identity.function.as_deref(), function, "{labels:?}");
            assert_eq!(identity.instance_name.as_deref(), instance, "{labels:?}");
            assert_eq!(identity.function_container, function.is_some(), "{labels:?}");
        }
    }
}
