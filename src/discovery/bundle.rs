//! The `config.json` of an OCI bundle, which the runtime was started with, cut to what identity reads.
//!
//! It is written by the engine and root's own, so what it says of names is the engine's word; the environment in it is
//! that of the container's making, whatever its process does later. It is full of secrets: variables, labels and
//! annotations are read by the same allow-lists as everywhere.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::parent::is_plain;
use super::{is_kubernetes_name, is_pod_uid};
use crate::identity::{Keys, kept_with};
use crate::model::{Container, Pod};

/// Longest file that is read, in bytes: engines write some ten KiB, and as much again as labels and environment are long.
pub const MAX_BYTES: usize = 1 << 20;

/// What a bundle tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Variables, labels, annotations, command and image, by the allow-lists.
    pub container: Container,
    /// The pod, as far as it is told; its labels are there where it is CRI-O's sandbox.
    pub pod: Pod,
    /// The container's name in the pod.
    pub container_name: Option<String>,
    /// The pod's sandbox.
    pub sandbox: Option<String>,
    /// Whether CRI-O wrote it.
    pub is_crio: bool,
}

/// Why a file is no bundle's.
#[derive(Debug, thiserror::Error)]
pub enum BundleFault {
    /// Longer than [`MAX_BYTES`].
    #[error("{0} bytes are more than the {MAX_BYTES} that are read of a config.json")]
    TooLong(usize),
    /// Not JSON, or of another shape.
    #[error("no config.json of an OCI runtime: {0}")]
    Shape(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    process: Option<Process>,
}

#[derive(Deserialize)]
struct Process {
    env: Option<Vec<String>>,
    args: Option<Vec<String>>,
}

/// What `text` tells, with what the table's rules read of it and what `keys` names.
///
/// # Errors
/// It is too long, or no JSON of a runtime's.
pub fn parse(text: &[u8], keys: &Keys) -> Result<Bundle, BundleFault> {
    if text.len() > MAX_BYTES {
        return Err(BundleFault::TooLong(text.len()));
    }
    let Spec { annotations, process } = serde_json::from_slice(text)?;
    let annotations = annotations.unwrap_or_default();
    let Process { env, args } = process.unwrap_or(Process { env: None, args: None });
    let of = |names: &[&str]| {
        names.iter().find_map(|name| annotations.get(*name)).filter(|value| !value.is_empty()).cloned()
    };
    let name = |names: &[&str]| of(names).filter(|name| is_kubernetes_name(name));
    let is_sandbox = of(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]);
    let is_sandbox = is_sandbox.as_deref() == Some("sandbox");
    // Of a sandbox they are the pod's.
    let labels = of(&["io.kubernetes.cri-o.Labels"]).map(|json| pairs(&json)).unwrap_or_default();
    let by_crio = of(&["io.kubernetes.cri-o.Annotations"]).map(|json| pairs(&json)).unwrap_or_default();
    let label = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    let pod = Pod {
        name: name(&[
            "io.kubernetes.cri.sandbox-name",
            "io.kubernetes.cri-o.KubeName",
            "io.kubernetes.pod.name",
        ])
        .unwrap_or_default(),
        namespace: name(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.cri-o.Namespace",
            "io.kubernetes.pod.namespace",
        ])
        .unwrap_or_default(),
        uid: of(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"])
            .filter(|uid| is_pod_uid(uid))
            .unwrap_or_default(),
        labels: if is_sandbox { labels.clone() } else { Vec::new() },
        annotations: if is_sandbox { by_crio.clone() } else { Vec::new() },
    };
    let container_name = name(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"])
        .or_else(|| label("io.kubernetes.container.name").filter(|name| is_kubernetes_name(name)));
    let sandbox = of(&["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"]);
    let is_crio = annotations.keys().any(|key| key.starts_with("io.kubernetes.cri-o."));
    let image = of(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]);
    let mut args = args.unwrap_or_default().into_iter();
    let container = Container {
        image,
        // What stands first is the entry point, where there is one; the rest cannot be told apart.
        entrypoint: args.next().into_iter().collect(),
        cmd: args.next().into_iter().collect(),
        labels: if is_sandbox { Vec::new() } else { labels },
        env: env.unwrap_or_default(),
        annotations: annotations.into_iter().chain(by_crio.into_iter().filter(|_| !is_sandbox)).collect(),
        sandbox: is_sandbox,
        pod: Some(pod),
        ..Container::default()
    };
    let mut container = kept_with(container, keys);
    let pod = container.pod.take().unwrap_or_default();
    Ok(Bundle {
        container,
        pod,
        container_name,
        // It becomes a part of a path.
        sandbox: sandbox.filter(|id| is_plain(id)),
        is_crio,
    })
}

/// The strings of a JSON object; nothing where it is none.
fn pairs(json: &str) -> Vec<(String, String)> {
    serde_json::from_str::<BTreeMap<String, String>>(json).unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const UID: &str = "3c1c2d3e-0000-4111-8222-123456789abc";

    fn read(value: &serde_json::Value) -> Bundle {
        parse(value.to_string().as_bytes(), &Keys::default()).expect("a bundle")
    }

    #[test]
    fn containerds_annotations_name_the_pod_and_secrets_stay_where_they_are() {
        let found = read(&json!({
            "ociVersion": "1.0.2",
            "process": {
                "env": ["PATH=/bin", "K_REVISION=hello-00001", "AWS_SECRET_ACCESS_KEY=secret"],
                "args": ["/ko-app/hello", "serve", "--password=secret"],
            },
            "annotations": {
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.container-name": "user-container",
                "io.kubernetes.cri.image-name": "reg/hello:1",
                "io.kubernetes.cri.sandbox-id": "b1d3",
                "io.kubernetes.cri.sandbox-name": "hello-00001-abc",
                "io.kubernetes.cri.sandbox-namespace": "shop",
                "io.kubernetes.cri.sandbox-uid": UID,
                "nuclio.io/function-spec": "{\"secret\":1}",
            },
        }));
        assert_eq!(
            (found.pod.name.as_str(), found.pod.namespace.as_str(), found.pod.uid.as_str()),
            ("hello-00001-abc", "shop", UID)
        );
        assert_eq!(
            (found.container_name.as_deref(), found.sandbox.as_deref()),
            (Some("user-container"), Some("b1d3"))
        );
        assert_eq!(found.container.env, ["K_REVISION=hello-00001"]);
        assert_eq!(found.container.image.as_deref(), Some("reg/hello:1"));
        assert_eq!(found.container.entrypoint, ["/ko-app/hello"]);
        assert!(!found.container.sandbox && !found.is_crio && found.pod.labels.is_empty());
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    }

    #[test]
    fn crio_writes_labels_down() {
        let labels =
            json!({"faas_function": "figlet", "pod-template-hash": "7d9c", "other": "x"}).to_string();
        let sandbox = read(&json!({"annotations": {
            "io.kubernetes.cri-o.ContainerType": "sandbox",
            "io.kubernetes.cri-o.KubeName": "figlet-7d9c-x2",
            "io.kubernetes.cri-o.Namespace": "openfaas-fn",
            "io.kubernetes.cri-o.Labels": labels,
            "io.kubernetes.cri-o.Annotations": "{\"nuclio.io/image-hash\":\"1\"}",
        }}));
        assert!(sandbox.container.sandbox && sandbox.is_crio);
        assert_eq!(sandbox.pod.label("faas_function"), Some("figlet"));
        assert_eq!(sandbox.pod.annotation("nuclio.io/image-hash"), Some("1"));
        assert_eq!((sandbox.pod.label("other"), sandbox.container.labels.len()), (None, 0));
        let labels = json!({"io.kubernetes.container.name": "figlet"}).to_string();
        let own = read(&json!({"annotations": {
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.SandboxID": "../../etc",
            "io.kubernetes.cri-o.Labels": labels,
        }}));
        assert_eq!(
            (own.container_name.as_deref(), own.sandbox, own.pod.labels.len()),
            (Some("figlet"), None, 0)
        );
    }

    #[test]
    fn what_is_no_bundle_is_told() {
        for text in [
            "",
            "[]",
            "{",
            "{\"annotations\":[]}",
            "{\"process\":{\"env\":[1]}}",
            "{\"annotations\":{\"a\":1}}",
        ] {
            assert!(parse(text.as_bytes(), &Keys::default()).is_err(), "{text}");
        }
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_BYTES));
        assert!(matches!(parse(long.as_bytes(), &Keys::default()), Err(BundleFault::TooLong(_))));
        for text in [
            "{}",
            "{\"annotations\":null,\"process\":null}",
            "{\"annotations\":{\"io.kubernetes.cri-o.Labels\":\"[\"}}",
        ] {
            assert!(parse(text.as_bytes(), &Keys::default()).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_bounded(
            text in "(\\{|\\}|\"annotations\":|\"process\":|\"env\":|\"io.kubernetes.cri-o.Labels\":|\"[a-z=]{0,9}\"|\\[|\\]|,|:|null|\\PC){0,30}",
            name in "[a-z.-]{0,300}|\\PC{0,9}",
        ) {
            let _ = parse(text.as_bytes(), &Keys::default());
            let found = read(&json!({"annotations": {
                "io.kubernetes.cri.sandbox-name": name,
                "io.kubernetes.cri.sandbox-id": name,
                "io.kubernetes.cri-o.Labels": json!({"app": name}).to_string(),
            }}));
            prop_assert!(found.pod.name.is_empty() || is_kubernetes_name(&found.pod.name));
            prop_assert!(found.sandbox.is_none_or(|id| is_plain(&id)));
            prop_assert!(found.container.labels.iter().all(|(_, value)| value.len() <= 253));
        }
    }
}
