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

/// A container of `namespace`, and the id of the sandbox whose pod it is in.
pub fn container(record: Record, namespace: &Namespace, keys: &Keys) -> (Container, Option<String>) {
    let spec = record.spec.as_ref().and_then(json::<Spec>).unwrap_or_default();
    let noted = record.extensions.values().find_map(|extension| json::<Noted>(extension)?.metadata);
    let noted = noted.and_then(|metadata| metadata.config).unwrap_or_default();
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
    (kept_with(container, keys), sandbox_id)
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
