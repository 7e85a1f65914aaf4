//! Fission: labels on the pod. A pool's pods wait without a function and are given one by a patch of their labels,
//! which no runtime sees: that is for `later`.

use super::IdentityConfig;
use super::pod::{container_name, in_pod, of_the_pod, pod_label, pod_name, template_hash};
use super::rules::{Verdict, function, matched, pool, without};
use crate::model::{Confidence, Container, Identity};

/// `executorType` and, but for waiting pods, `functionName`. The pod may run in another namespace than its function:
/// `functionNamespace` is the function's.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(executor) = pod_label(container, "executorType") else {
        return without("pod label executorType");
    };
    if !["poolmgr", "newdeploy", "container"].contains(&executor) {
        return Verdict::Pass { why: "pod label executorType is none of Fission's".into() };
    }
    let environment = pod_label(container, "environmentName");
    let name = pod_label(container, "functionName");
    if environment.is_none() && name.is_none() {
        return without("pod label environmentName, like functionName,");
    }
    // The container is called like the environment, or like the function for the executor `container`.
    if container_name(container).is_some_and(|called| Some(called) != environment && Some(called) != name) {
        return of_the_pod(container, "another container of a function's pod, by its name");
    }
    let Some(name) = name else {
        let identity = Identity {
            instance_name: pod_name(container).map(Into::into),
            ..function("fission", Confidence::Prewarm)
        };
        return pool(identity, environment, "a pod of a pool that waits for its function");
    };
    let label = |key: &str| pod_label(container, key).map(ToOwned::to_owned);
    let revision = revision(label).or_else(|| template_hash(container));
    let confirmed = pod_label(container, "functionUid").is_some();
    matched(
        Identity {
            namespace: pod_label(container, "functionNamespace").map(Into::into),
            function: Some(name.into()),
            revision,
            ..in_pod(container, "fission", if confirmed { Confidence::Exact } else { Confidence::Guessed })
        },
        if confirmed {
            "pod labels functionName and functionUid name it"
        } else {
            "pod label functionName names it, but no functionUid confirms it"
        },
    )
}

/// A function's revision by the labels that Fission gives its pods.
pub(super) fn revision(label: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["fission.io/function-version", "fission.io/function-generation"]
        .iter()
        .find_map(|key| label(key).map(|value| format!("{key}:{value}")))
}
