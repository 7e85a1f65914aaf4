//! The `config.json` of an OCI bundle, which the runtime was started with, cut to what identity reads.
//!
//! It is written by the engine and root's own, so what it says of names is the engine's word; the environment in it is
//! that of the container's making, whatever its process does later. It is full of secrets: variables, labels and
//! annotations are read by the same allow-lists as everywhere.
//!
//! Annotations are a mixture. CRI-O copies those of the pod, which its tenant chooses, beside its own: of a container
//! before its own, so that they fill in what it does not write; of a sandbox behind them, so that they replace what it
//! does. So only keys are read that an engine writes over all others, and a sandbox of CRI-O's is no more than likely.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::parent::is_plain;
use super::{is_kubernetes_name, is_pod_uid};
use crate::cgroup::Place;
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
    /// What runs it below its engine: the pod's handler, in CRI-O's sandbox; the program that stands beside the file,
    /// where whoever reads it has looked.
    pub handler: Option<String>,
}

/// Who wrote it, and so which annotations are the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// CRI-O, and Podman after its manner.
    CriO,
    /// containerd's CRI plugin, or an engine that writes no names: Docker.
    Containerd,
}

/// What an engine calls what it tells.
struct Told {
    kind: &'static str,
    pod: &'static str,
    namespace: &'static str,
    uid: &'static str,
    container: &'static str,
    sandbox: &'static str,
    image: &'static str,
}

impl Writer {
    /// Who writes that of the container at `place`: the path is the engine's own choice.
    pub fn of(place: &Place<'_>) -> Writer {
        match place.runtime {
            Some("cri-o" | "podman") => Writer::CriO,
            _ => Writer::Containerd,
        }
    }

    fn told(self) -> Told {
        match self {
            // Names are the kubelet's labels, which come last.
            Writer::CriO => Told {
                kind: "io.kubernetes.cri-o.ContainerType",
                pod: "io.kubernetes.pod.name",
                namespace: "io.kubernetes.pod.namespace",
                uid: "io.kubernetes.pod.uid",
                container: "io.kubernetes.container.name",
                sandbox: "io.kubernetes.cri-o.SandboxID",
                image: "io.kubernetes.cri-o.ImageName",
            },
            Writer::Containerd => Told {
                kind: "io.kubernetes.cri.container-type",
                pod: "io.kubernetes.cri.sandbox-name",
                namespace: "io.kubernetes.cri.sandbox-namespace",
                uid: "io.kubernetes.cri.sandbox-uid",
                container: "io.kubernetes.cri.container-name",
                sandbox: "io.kubernetes.cri.sandbox-id",
                image: "io.kubernetes.cri.image-name",
            },
        }
    }
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

/// What `text` tells, that `writer` wrote, with what the table's rules read of it and what `keys` names.
///
/// # Errors
/// It is too long, or no JSON of a runtime's.
pub fn parse(text: &[u8], writer: Writer, keys: &Keys) -> Result<Bundle, BundleFault> {
    if text.len() > MAX_BYTES {
        return Err(BundleFault::TooLong(text.len()));
    }
    let Spec { annotations, process } = serde_json::from_slice(text)?;
    let annotations = annotations.unwrap_or_default();
    let Process { env, args } = process.unwrap_or(Process { env: None, args: None });
    let told = writer.told();
    let of = |key: &str| annotations.get(key).filter(|value| !value.is_empty()).cloned();
    let name = |key: &str| of(key).filter(|name| is_kubernetes_name(name));
    let is_sandbox = of(told.kind).as_deref() == Some("sandbox");
    let crios = |key: &str| of(key).filter(|_| writer == Writer::CriO);
    let all = |key: &str| crios(key).map(|json| pairs(&json)).unwrap_or_default();
    // Of a sandbox they are the pod's, and so is its handler: nobody writes that over what a container's pod says.
    let (labels, given) = (all("io.kubernetes.cri-o.Labels"), all("io.kubernetes.cri-o.Annotations"));
    let handler = crios("io.kubernetes.cri-o.RuntimeHandler").filter(|_| is_sandbox);
    let pod = Pod {
        name: name(told.pod).unwrap_or_default(),
        namespace: name(told.namespace).unwrap_or_default(),
        uid: of(told.uid).filter(|uid| is_pod_uid(uid)).unwrap_or_default(),
        labels: if is_sandbox { labels.clone() } else { Vec::new() },
        annotations: if is_sandbox { given.clone() } else { Vec::new() },
    };
    let container_name = name(told.container);
    let (sandbox, image) = (of(told.sandbox), of(told.image));
    let annotations = match writer {
        Writer::Containerd => annotations.into_iter().collect(),
        Writer::CriO if is_sandbox => Vec::new(),
        Writer::CriO => given,
    };
    let mut args = args.unwrap_or_default().into_iter();
    let container = Container {
        image,
        // What stands first is the entry point, where there is one; the rest cannot be told apart.
        entrypoint: args.next().into_iter().collect(),
        cmd: args.next().into_iter().collect(),
        labels: if is_sandbox { Vec::new() } else { labels },
        env: env.unwrap_or_default(),
        annotations,
        runtime_handler: handler,
        sandbox: is_sandbox,
        pod: Some(pod),
        ..Container::default()
    };
    let mut container = kept_with(container, keys);
    let pod = container.pod.take().unwrap_or_default();
    Ok(Bundle {
        handler: container.runtime_handler.take(),
        container,
        pod,
        container_name,
        // It becomes a part of a path.
        sandbox: sandbox.filter(|id| is_plain(id)),
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

    fn read(writer: Writer, value: &serde_json::Value) -> Bundle {
        parse(value.to_string().as_bytes(), writer, &Keys::default()).expect("a bundle")
    }

    #[test]
    fn containerds_annotations_name_the_pod_and_secrets_stay_where_they_are() {
        let found = read(
            Writer::Containerd,
            &json!({
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
            }),
        );
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
        assert!(!found.container.sandbox && found.pod.labels.is_empty());
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    }

    #[test]
    fn crio_writes_labels_down() {
        let labels =
            json!({"faas_function": "figlet", "pod-template-hash": "7d9c", "other": "x"}).to_string();
        let sandbox = read(
            Writer::CriO,
            &json!({"annotations": {
                "io.kubernetes.cri-o.ContainerType": "sandbox",
                "io.kubernetes.cri-o.Labels": labels,
                "io.kubernetes.cri-o.Annotations": "{\"nuclio.io/image-hash\":\"1\"}",
                "io.kubernetes.cri-o.RuntimeHandler": "kata",
                "io.kubernetes.pod.uid": UID,
            }}),
        );
        assert!(sandbox.container.sandbox && sandbox.container.annotations.is_empty());
        assert_eq!((sandbox.pod.uid.as_str(), sandbox.handler.as_deref()), (UID, Some("kata")));
        assert_eq!(sandbox.pod.label("faas_function"), Some("figlet"));
        assert_eq!(sandbox.pod.annotation("nuclio.io/image-hash"), Some("1"));
        assert_eq!((sandbox.pod.label("other"), sandbox.container.labels.len()), (None, 0));
        let own = read(
            Writer::CriO,
            &json!({"annotations": {
                "io.kubernetes.cri-o.ContainerType": "container",
                "io.kubernetes.cri-o.SandboxID": "../../etc",
                "io.kubernetes.cri-o.Annotations": "{\"io.kubernetes.container.type\":\"init\"}",
                "io.kubernetes.container.name": "figlet",
            }}),
        );
        assert_eq!(
            (own.container_name.as_deref(), own.sandbox, own.pod.labels.len()),
            (Some("figlet"), None, 0)
        );
        assert_eq!(own.container.annotation("io.kubernetes.container.type"), Some("init"));
    }

    /// CRI-O copies every annotation of the pod into that of its containers.
    #[test]
    fn what_a_pod_is_annotated_with_names_nothing_of_crios() {
        let forged = json!({
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-name": "victim-1",
            "io.kubernetes.cri.sandbox-namespace": "victims",
            "io.kubernetes.cri.sandbox-uid": "4c1c2d3e-0000-4111-8222-123456789abc",
            "io.kubernetes.cri.container-name": "victim",
            "io.kubernetes.cri.sandbox-id": "b1d3",
            "io.kubernetes.cri.image-name": "reg/victim:1",
            "io.kubernetes.cri-o.KubeName": "victim-1",
            "io.kubernetes.cri-o.Namespace": "victims",
            "io.kubernetes.cri-o.RuntimeHandler": "kata",
            "io.kubernetes.container.type": "init",
            "fnscope.function": "victim",
        });
        let own = json!({
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.SandboxID": "a0a1",
            "io.kubernetes.cri-o.ImageName": "reg/figlet:1",
            "io.kubernetes.pod.name": "figlet-1",
            "io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.pod.uid": UID,
            "io.kubernetes.container.name": "figlet",
        });
        let both = |forged: serde_json::Value, own: &serde_json::Value| {
            let mut all = forged;
            let all_of = all.as_object_mut().expect("an object");
            all_of.extend(own.as_object().expect("an object").clone());
            json!({"annotations": all})
        };
        let alone = read(Writer::CriO, &json!({"annotations": own}));
        assert_eq!(alone.pod.name, "figlet-1");
        assert_eq!(read(Writer::CriO, &both(forged.clone(), &own)), alone);
        let nothing = read(Writer::CriO, &json!({"annotations": forged}));
        assert_eq!(nothing, Bundle::default(), "nothing of it is CRI-O's");
        // Nor does what CRI-O alone writes tell anything of containerd's.
        let nothing = read(Writer::Containerd, &json!({"annotations": own}));
        assert_eq!(nothing, Bundle::default());
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
            assert!(parse(text.as_bytes(), Writer::CriO, &Keys::default()).is_err(), "{text}");
        }
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_BYTES));
        assert!(matches!(
            parse(long.as_bytes(), Writer::CriO, &Keys::default()),
            Err(BundleFault::TooLong(_))
        ));
        for text in [
            "{}",
            "{\"annotations\":null,\"process\":null}",
            "{\"annotations\":{\"io.kubernetes.cri-o.Labels\":\"[\"}}",
        ] {
            assert!(parse(text.as_bytes(), Writer::CriO, &Keys::default()).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_bounded(
            text in "(\\{|\\}|\"annotations\":|\"process\":|\"env\":|\"io.kubernetes.cri-o.Labels\":|\"[a-z=]{0,9}\"|\\[|\\]|,|:|null|\\PC){0,30}",
            name in "[a-z.-]{0,300}|\\PC{0,9}",
            kind in "sandbox|container",
        ) {
            for writer in [Writer::CriO, Writer::Containerd] {
                let _ = parse(text.as_bytes(), writer, &Keys::default());
                let told = writer.told();
                let found = read(writer, &json!({"annotations": {
                    told.pod: name,
                    told.sandbox: name,
                    told.uid: name,
                    told.kind: kind,
                    "io.kubernetes.cri-o.Labels": json!({"app": name}).to_string(),
                    "io.kubernetes.cri-o.RuntimeHandler": name,
                }}));
                prop_assert!(found.pod.name.is_empty() || is_kubernetes_name(&found.pod.name));
                prop_assert!(found.pod.uid.is_empty() || is_pod_uid(&found.pod.uid));
                prop_assert!(found.sandbox.is_none_or(|id| is_plain(&id)));
                let labels = [found.container.labels, found.pod.labels].concat();
                prop_assert!(labels.iter().all(|(_, value)| value.len() <= 253));
                prop_assert!(found.handler.is_none_or(|handler| handler.len() <= 253));
            }
        }
    }
}
