//! The environment variables and labels that rules read, and the cut of a container down to them.
//!
//! Environments are full of secrets (API keys, connection strings) and labels can be of any size. What no rule
//! reads is therefore not kept, anywhere. A rule that reads a new key adds it here, or reads nothing:
//! the rules' tests run on containers that were cut.

use super::glob::Glob;
use super::keep;
use crate::model::identity::bounded_name;
use crate::model::{Container, Pod};

/// Environment variables that rules read. None of them holds a secret.
pub const ENV_ALLOW_LIST: &[&str] = &[
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_REGION",
    "AWS_SAM_LOCAL",
    "AzureWebJobsScriptRoot",
    "DOCKER_LAMBDA_STAY_OPEN",
    "FN_APP_ID",
    "FN_FN_ID",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTION_SIGNATURE_TYPE",
    "FUNCTION_TARGET",
    "FUNC_HANDLER",
    "HOST_VERSION",
    "K_CONFIGURATION",
    "K_REVISION",
    "K_SERVICE",
    "LAMBDA_TASK_ROOT",
    "LOCALSTACK_FUNCTION_ACCOUNT_ID",
    "LOCALSTACK_RUNTIME_ID",
    "NUCLIO_FUNCTION_NAME",
    "OPENFAAS_NAME",
    "OPENFAAS_NAMESPACE",
    "SERVING_REVISION",
    "WEBSITE_SITE_NAME",
    "__OW_API_HOST",
    "fprocess",
];

/// Labels that rules read, of containers and of pods.
pub const LABEL_ALLOW_LIST: &[&str] = &[
    "annotation.fnscope.function",
    "annotation.fnscope.ignore",
    "annotation.fnscope.namespace",
    "annotation.fnscope.revision",
    "annotation.io.kubernetes.container.type",
    "annotation.nuclio.io/image-hash",
    "app",
    "com.docker.compose.container-number",
    "com.docker.compose.image",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.stack.namespace",
    "com.docker.swarm.node.id",
    "com.docker.swarm.service.id",
    "com.docker.swarm.service.name",
    "com.docker.swarm.task.id",
    "com.docker.swarm.task.name",
    "com.openfaas.function",
    "created-by",
    "environmentName",
    "executorType",
    "faas_function",
    "fission.io/function-generation",
    "fission.io/function-version",
    "fnscope.function",
    "fnscope.ignore",
    "fnscope.namespace",
    "fnscope.revision",
    "function",
    "functionName",
    "functionNamespace",
    "functionUid",
    "invoker",
    "io.cri-containerd.kind",
    "io.kubernetes.container.name",
    "io.kubernetes.docker.type",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
    "io.kubernetes.sandbox.id",
    "nuclio.io/class",
    "nuclio.io/function-name",
    "nuclio.io/namespace",
    "nuclio.io/platform",
    "openwhisk/action",
    "openwhisk/namespace",
    "pod-template-hash",
    "sam.cli.container.type",
    "sam.cli.function.name",
    "serving.knative.dev/configuration",
    "serving.knative.dev/revision",
    "serving.knative.dev/service",
    "user-action-pod",
];

/// Annotations that rules read, of containers and of pods.
pub const ANNOTATION_ALLOW_LIST: &[&str] = &[
    "fnscope.function",
    "fnscope.ignore",
    "fnscope.namespace",
    "fnscope.revision",
    "io.kubernetes.container.type",
    "io.kubernetes.cri.container-type",
    "nuclio.io/image-hash",
];

/// What rules of the configuration read beside that, and what it asks to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Labels of containers and pods.
    pub labels: Vec<String>,
    /// Environment variables.
    pub env: Vec<String>,
    /// Labels that are stored beside the name, see [`kept_labels`](super::kept_labels).
    pub keep: Vec<Glob>,
}

/// `container` with nothing but what the table's rules read, every text cut to 253 bytes (an image reference to 1 KiB).
///
/// The same function is found before and after, because identities are cut to the same length.
pub fn kept(container: Container) -> Container {
    kept_with(container, &Keys::default())
}

/// The same, and what rules of the configuration read.
pub fn kept_with(container: Container, keys: &Keys) -> Container {
    let first = |texts: Vec<String>| texts.first().map(|text| bounded_name(text)).into_iter().collect();
    let some = |name: Option<String>| name.as_deref().map(bounded_name);
    let labels = |pairs: &[(String, String)]| {
        let mut labels = listed(pairs, LABEL_ALLOW_LIST, &keys.labels);
        // Behind what rules read: however many there are, they crowd none of that out.
        let read = |key: &String| LABEL_ALLOW_LIST.contains(&key.as_str()) || keys.labels.contains(key);
        let others = pairs.iter().filter(|(key, _)| !read(key) && keep::is_kept(key, &keys.keep));
        labels.extend(others.map(|(key, value)| (key.clone(), bounded_name(value))).take(keep::MAX_LABELS));
        labels
    };
    let annotations = |pairs: &[(String, String)]| listed(pairs, ANNOTATION_ALLOW_LIST, &[]);
    let is_env = |key: &str| ENV_ALLOW_LIST.contains(&key) || keys.env.iter().any(|k| k == key);
    Container {
        runtime: bounded_name(&container.runtime),
        runtime_namespace: some(container.runtime_namespace),
        runtime_namespace_labels: listed(&container.runtime_namespace_labels, &["openfaas"], &[]),
        id: bounded_name(&container.id),
        name: some(container.name),
        image: container.image.map(bounded_image),
        labels: labels(&container.labels),
        env: container
            .env
            .iter()
            .filter_map(|line| line.split_once('='))
            .filter(|(key, _)| is_env(key))
            .map(|(key, value)| format!("{key}={}", bounded_name(value)))
            .take(ENV_ALLOW_LIST.len() + keys.env.len())
            .collect(),
        cmd: first(container.cmd),
        entrypoint: first(container.entrypoint),
        annotations: annotations(&container.annotations),
        image_labels: labels(&container.image_labels),
        runtime_handler: some(container.runtime_handler),
        sandbox: container.sandbox,
        pod: container.pod.map(|pod| Pod {
            name: bounded_name(&pod.name),
            namespace: bounded_name(&pod.namespace),
            uid: bounded_name(&pod.uid),
            labels: labels(&pod.labels),
            annotations: annotations(&pod.annotations),
        }),
        task: some(container.task),
        created_at: container.created_at,
    }
}

fn listed(pairs: &[(String, String)], list: &[&str], keys: &[String]) -> Vec<(String, String)> {
    pairs
        .iter()
        .filter(|(key, _)| list.contains(&key.as_str()) || keys.contains(key))
        .map(|(key, value)| (key.clone(), bounded_name(value)))
        .take(list.len() + keys.len())
        .collect()
}

/// Longer than a name: a digest follows the tag, and the tag must not be lost to it.
const MAX_IMAGE_BYTES: usize = 1024;

fn bounded_image(mut image: String) -> String {
    let end =
        (0..=MAX_IMAGE_BYTES.min(image.len())).rev().find(|at| image.is_char_boundary(*at)).unwrap_or(0);
    image.truncate(end);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rules_read_is_kept_and_that_is_bounded() {
        let long = "é".repeat(32 * 1024);
        let container = kept(Container {
            name: Some(long.clone()),
            image: Some(long.clone()),
            labels: vec![
                ("nuclio.io/function-spec".into(), "{\"env\":\"secret\"}".into()),
                ("fnscope.function".into(), long.clone()),
                (long.clone(), "x".into()),
            ],
            env: vec![
                "__OW_API_KEY=secret".into(),
                "PATH=/bin".into(),
                format!("FN_FN_ID={long}"),
                "FN_APP_ID".into(),
            ],
            cmd: vec![long.clone(), "--password=secret".into()],
            ..Container::default()
        });
        assert_eq!(container.labels, [("fnscope.function".to_string(), "é".repeat(126))]);
        assert_eq!(container.env, [format!("FN_FN_ID={}", "é".repeat(126))]);
        assert_eq!(container.cmd, ["é".repeat(126)]);
        assert_eq!(container.name, Some("é".repeat(126)));
        assert_eq!(container.image.map(|image| image.len()), Some(1024));
    }

    #[test]
    fn what_the_configuration_reads_is_kept_too() {
        let keys = Keys { labels: vec!["team".into()], env: vec!["FN".into()], keep: vec![] };
        let pair = |key: &str| (key.to_owned(), "x".to_owned());
        let pod = Pod { labels: vec![pair("team"), pair("other")], ..Pod::default() };
        let container = Container {
            labels: vec![pair("team"), pair("other")],
            env: vec!["FN=x".into(), "FNORD=x".into()],
            pod: Some(pod),
            ..Container::default()
        };
        let cut = kept_with(container.clone(), &keys);
        assert_eq!((&cut.labels[..], &cut.env[..]), (&[pair("team")][..], &["FN=x".to_owned()][..]));
        assert_eq!(cut.pod.map(|pod| pod.labels), Some(vec![pair("team")]));
        let cut = kept(container);
        assert!(
            cut.labels.is_empty() && cut.env.is_empty() && cut.pod.is_some_and(|pod| pod.labels.is_empty())
        );
    }

    #[test]
    fn the_lists_are_sorted_and_hold_nothing_twice() {
        for list in [ENV_ALLOW_LIST, LABEL_ALLOW_LIST, ANNOTATION_ALLOW_LIST] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
