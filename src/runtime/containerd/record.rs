//! containerd's record of a container to a [`Container`]: labels, the OCI spec, what the CRI has noted in it. Pure.
//!
//! Promises: no bytes make it panic, and all that comes out is cut to what identity reads. What cannot be read of a spec
//! is as good as not there: id, image and labels stand beside it. Not here: asking for records.

use std::collections::HashMap;

use prost_types::Any;
use serde::Deserialize;

use crate::identity::{Keys, kept_with, pod_of_sandbox};
use crate::model::{Container, Pod, Timestamp};
use crate::runtime::grpc::containerd::services::containers::v1::Container as Record;

/// Name of this runtime in [`Container::runtime`], whichever socket it was asked at.
pub const RUNTIME: &str = "containerd";

/// What the kubelet, and containerd's CRI, give every container.
const KUBELETS_LABELS: &[&str] = &[
    "io.cri-containerd.kind",
    "io.kubernetes.container.name",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
];

/// Largest spec that is read, in bytes: those of pods take some 10,000.
const MAX_SPEC: usize = 4 << 20;

/// A namespace with the labels that the host's operator gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The container, without its image's labels and, where that is another's, without its pod.
    pub container: Container,
    /// The id of the sandbox whose pod it is in.
    pub sandbox: Option<String>,
    /// What it was made of.
    pub image: Option<ImageOf>,
}

/// Where an image's labels are found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageOf {
    /// In the configuration that has this digest, which the CRI has noted.
    Configuration(String),
    /// In what this name leads to now, in its namespace.
    Name(String),
}

impl Recorded {
    /// Labels that its image may have given it. The kubelet gives some to each container, whatever its image says. A
    /// sandbox's are its pod's.
    pub fn doubtful(&self) -> Vec<(String, String)> {
        let is_of_kubelet = |key: &str| {
            matches!(self.image, Some(ImageOf::Configuration(_))) && KUBELETS_LABELS.contains(&key)
        };
        if self.image.is_none() || self.container.sandbox {
            return Vec::new();
        }
        let labels = self.container.labels.iter().filter(|(key, _)| !is_of_kubelet(key));
        labels.cloned().collect()
    }
}

/// A container of `namespace`.
pub fn container(record: Record, namespace: &Namespace, keys: &Keys) -> Recorded {
    let spec = record.spec.as_ref().and_then(json::<Spec>).unwrap_or_default();
    let noted = record.extensions.values().find_map(|extension| json::<Noted>(extension)?.metadata);
    let (noted, configuration) = noted.map_or((None, None), |metadata| (metadata.config, metadata.image_ref));
    let noted = noted.unwrap_or_default();
    let by_name = Some(record.image.clone()).filter(|name| !name.is_empty()).map(ImageOf::Name);
    let configuration = configuration.filter(|digest| !digest.is_empty()).map(ImageOf::Configuration);
    let annotations = ordered(spec.annotations.unwrap_or_default());
    let of = |key: &str| annotations.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let sandbox_id = of("io.kubernetes.cri.sandbox-id").or(Some(record.sandbox)).filter(|id| !id.is_empty());
    let process = spec.process.unwrap_or_default();
    let mut container = Container {
        created_at: record.created_at.as_ref().and_then(time),
        env: process.env.unwrap_or_default(),
        cmd: process.args.unwrap_or_default(),
        runtime_handler: record.runtime.map(|runtime| runtime.name).filter(|name| !name.is_empty()),
        annotations: [annotations, ordered(noted.annotations.unwrap_or_default())].concat(),
        labels: ordered(record.labels),
        ..described(&record.id, record.image, namespace)
    };
    container.pod = pod_of_sandbox(&container);
    container.sandbox = container.pod.is_some();
    // A sandbox's own id is in its spec too.
    let sandbox_id = sandbox_id.filter(|_| !container.sandbox);
    Recorded { container: kept_with(container, keys), sandbox: sandbox_id, image: configuration.or(by_name) }
}

/// A container of which nothing but id and image is known.
pub fn described(id: &str, image: String, namespace: &Namespace) -> Container {
    Container {
        runtime: RUNTIME.into(),
        runtime_namespace: Some(namespace.name.clone()),
        runtime_namespace_labels: namespace.labels.clone(),
        id: id.into(),
        image: Some(image).filter(|image| !image.is_empty()),
        ..Container::default()
    }
}

/// `container` in its pod. Its own name there is what the CRI calls it.
pub fn in_pod(container: Container, pod: Option<Pod>) -> Container {
    Container { pod: pod.or(container.pod.clone()), ..container }
}

/// Labels in one order: on the wire they have none.
pub fn ordered(pairs: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_unstable();
    pairs
}

/// A moment; none for one that never was.
pub fn time(at: &prost_types::Timestamp) -> Option<Timestamp> {
    let us = at.seconds.checked_mul(1_000_000)?.checked_add(i64::from(at.nanos) / 1000)?;
    (us > 0).then_some(Timestamp(us))
}

/// The part of an OCI spec that is read.
#[derive(Debug, Default, Deserialize)]
struct Spec {
    process: Option<Process>,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Process {
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
}

/// What the CRI plugin keeps of a container's or a sandbox's making, beside what it puts into the spec: of the kubelet's
/// annotations that is a few alone.
#[derive(Debug, Default, Deserialize)]
struct Noted {
    #[serde(rename = "Metadata")]
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "Config")]
    config: Option<Config>,
    #[serde(rename = "ImageRef")]
    image_ref: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    annotations: Option<HashMap<String, String>>,
}

/// `any` where it is JSON of that shape; specs and the CRI's notes are, whatever their type is called.
fn json<T: for<'a> Deserialize<'a>>(any: &Any) -> Option<T> {
    if any.value.len() > MAX_SPEC {
        return None;
    }
    serde_json::from_slice(&any.value).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Identity;
    use crate::runtime::grpc::containerd::services::containers::v1::container::Runtime;

    fn any(value: &serde_json::Value) -> Any {
        Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
            value: value.to_string().into(),
        }
    }

    fn record(spec: &serde_json::Value) -> Record {
        Record {
            id: "f".into(),
            image: "registry/f:1".into(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".into(), options: None }),
            created_at: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
            spec: Some(any(spec)),
            ..Record::default()
        }
    }

    #[test]
    fn what_identity_reads_is_there_and_nothing_else() {
        let namespace =
            Namespace { name: "openfaas-fn".into(), labels: vec![("openfaas".into(), "1".into())] };
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["/run", "secret"], "env": ["fprocess=cat", "PASSWORD=secret"], "cwd": "/"},
            "annotations": null,
            "linux": {"cgroupsPath": "/openfaas-fn/f"},
        });
        let Recorded { container: found, sandbox, image } =
            container(record(&spec), &namespace, &Keys::default());
        assert_eq!(
            (found.runtime.as_str(), found.id.as_str(), found.name.as_deref()),
            ("containerd", "f", None)
        );
        assert_eq!((found.env, found.cmd), (vec!["fprocess=cat".to_owned()], vec!["/run".to_owned()]));
        assert_eq!(found.runtime_handler.as_deref(), Some("io.containerd.runc.v2"));
        assert_eq!(found.runtime_namespace.as_deref(), Some("openfaas-fn"));
        assert_eq!(found.runtime_namespace_labels, namespace.labels);
        assert_eq!((found.created_at, sandbox), (Some(Timestamp(5_000_000)), None));
        assert_eq!(image, Some(ImageOf::Name("registry/f:1".into())));
        // Of a spec that is none, what stands beside it.
        for broken in [json!({"process": {"env": [7]}}), json!("x"), json!(null)] {
            let found = container(record(&broken), &namespace, &Keys::default()).container;
            assert_eq!((found.id.as_str(), found.image.as_deref()), ("f", Some("registry/f:1")));
        }
    }

    #[test]
    fn a_sandbox_is_a_pod_and_its_containers_name_it() {
        let pods = Namespace { name: "k8s.io".into(), labels: vec![] };
        let noted =
            json!({"Version": "v1", "Metadata": {"Config": {"annotations": {"fnscope.function": "g"}}}});
        let of_pod = json!({"annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "s"}});
        let labels = [
            ("faas_function", "f"),
            ("io.kubernetes.pod.name", "f-1"),
            ("io.kubernetes.pod.uid", "u"),
            ("io.cri-containerd.kind", "sandbox"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let sandbox = Record {
            labels: labels.clone().into(),
            extensions: [("io.cri-containerd.sandbox.metadata".to_owned(), any(&noted))].into(),
            ..record(&of_pod)
        };
        let found = container(sandbox, &pods, &Keys::default());
        assert!(found.container.sandbox && found.sandbox.is_none() && found.doubtful().is_empty());
        let found = found.container;
        let pod = found.pod.expect("a pod");
        assert_eq!(
            (pod.name.as_str(), pod.uid.as_str(), pod.label("faas_function")),
            ("f-1", "u", Some("f"))
        );
        assert_eq!(pod.annotation("fnscope.function"), Some("g"));

        let in_it = json!({"annotations": {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s"}});
        let found = container(record(&in_it), &pods, &Keys::default());
        assert_eq!(found.sandbox.as_deref(), Some("s"));
        let found = found.container;
        assert_eq!((found.sandbox, found.pod.is_none()), (false, true));
        assert_eq!(in_pod(found, Some(pod.clone())).pod, Some(pod));
        let newer = Record { sandbox: "t".into(), ..record(&json!({})) };
        assert_eq!(container(newer, &pods, &Keys::default()).sandbox.as_deref(), Some("t"));
    }

    #[test]
    fn what_an_image_may_have_said_is_in_doubt_and_what_the_kubelet_says_is_not() {
        let labels = ["fnscope.function", "io.kubernetes.pod.name", "io.kubernetes.docker.type"];
        let labels = labels.map(|key| (key.to_owned(), "x".to_owned()));
        let noted = |image: &str| json!({"Version": "v1", "Metadata": {"ImageRef": image, "Config": {}}});
        let doubtful = |record: Record| {
            let found = container(record, &Namespace::default(), &Keys::default());
            let keys = found.doubtful().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
            (keys, found.image)
        };
        let plain = Record { labels: labels.clone().into(), ..record(&json!({})) };
        let name = ImageOf::Name("registry/f:1".into());
        let all = ["fnscope.function", "io.kubernetes.docker.type", "io.kubernetes.pod.name"];
        assert_eq!(doubtful(plain.clone()), (all.map(String::from).into(), Some(name)));
        let extension = |image| [("io.cri-containerd.container.metadata".to_owned(), any(&noted(image)))];
        let in_pod = Record { extensions: extension("sha256:aa").into(), ..plain.clone() };
        let configuration = ImageOf::Configuration("sha256:aa".into());
        let some = ["fnscope.function", "io.kubernetes.docker.type"].map(String::from);
        assert_eq!(doubtful(in_pod), (some.into(), Some(configuration)));
        // Of no image, nothing is an image's.
        assert_eq!(doubtful(Record { image: String::new(), ..plain }), (vec![], None));
    }

    proptest::proptest! {
        #[test]
        fn any_record_is_a_bounded_container(
            id in ".{0,300}", image in ".{0,300}", spec: Vec<u8>, text in "[{}\\[\\]:,\"a-z]{0,60}",
            key in "fnscope.function|faas_function|.{0,9}", value in ".{0,300}", seconds: i64, nanos: i32,
        ) {
            for spec in [spec, text.into_bytes()] {
                let record = Record {
                    id: id.clone(),
                    image: image.clone(),
                    labels: [(key.clone(), value.clone())].into(),
                    created_at: Some(prost_types::Timestamp { seconds, nanos }),
                    spec: Some(Any { type_url: String::new(), value: spec.clone() }),
                    extensions: [(key.clone(), Any { type_url: String::new(), value: spec })].into(),
                    ..Record::default()
                };
                let found = container(record, &Namespace::default(), &Keys::default()).container;
                proptest::prop_assert!(found.id.len() <= Identity::MAX_NAME);
                proptest::prop_assert!(found.labels.iter().all(|(_, value)| value.len() <= Identity::MAX_NAME));
                proptest::prop_assert_eq!(kept_with(found.clone(), &Keys::default()), found);
            }
        }
    }
}
