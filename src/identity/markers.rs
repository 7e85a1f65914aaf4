//! The environment variables and labels that rules read, and the cut of a container down to them.
//!
//! Environments are full of secrets (API keys, connection strings) and labels can be of any size. What no rule
//! reads is therefore not kept, anywhere. A rule that reads a new key adds it here, or reads nothing:
//! the rules' tests run on containers that were cut.

use crate::model::Container;
use crate::model::identity::bounded_name;

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
    "FUNCTION_TARGET",
    "K_REVISION",
    "K_SERVICE",
    "LAMBDA_TASK_ROOT",
    "LOCALSTACK_FUNCTION_ACCOUNT_ID",
    "LOCALSTACK_RUNTIME_ID",
    "WEBSITE_SITE_NAME",
    "__OW_API_HOST",
];

/// Labels that rules read.
pub const LABEL_ALLOW_LIST: &[&str] = &[
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
    "fnscope.function",
    "fnscope.ignore",
    "fnscope.namespace",
    "fnscope.revision",
    "nuclio.io/function-name",
    "nuclio.io/namespace",
    "nuclio.io/platform",
    "sam.cli.container.type",
    "sam.cli.function.name",
];

/// `container` with nothing but what rules read, every text cut to 253 bytes (an image reference to 1 KiB).
///
/// The same function is found before and after, because identities are cut to the same length.
pub fn kept(container: Container) -> Container {
    let first = |texts: Vec<String>| texts.first().map(|text| bounded_name(text)).into_iter().collect();
    Container {
        runtime: bounded_name(&container.runtime),
        runtime_namespace: container.runtime_namespace.as_deref().map(bounded_name),
        id: bounded_name(&container.id),
        name: container.name.as_deref().map(bounded_name),
        image: container.image.map(bounded_image),
        labels: container
            .labels
            .iter()
            .filter(|(key, _)| LABEL_ALLOW_LIST.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), bounded_name(value)))
            .take(LABEL_ALLOW_LIST.len())
            .collect(),
        env: container
            .env
            .iter()
            .filter_map(|line| line.split_once('='))
            .filter(|(key, _)| ENV_ALLOW_LIST.contains(key))
            .map(|(key, value)| format!("{key}={}", bounded_name(value)))
            .take(ENV_ALLOW_LIST.len())
            .collect(),
        cmd: first(container.cmd),
        entrypoint: first(container.entrypoint),
    }
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
    fn the_lists_are_sorted_and_hold_nothing_twice() {
        for list in [ENV_ALLOW_LIST, LABEL_ALLOW_LIST] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
