//! What `crictl inspect` prints of a container and `crictl inspectp` of a pod's sandbox: the CRI's own `status`, and the
//! runtime's `info`, which holds the environment.

use serde_json::{Map, Value};

use super::input::{pairs, text, texts};
use crate::model::{Container, Pod};

/// A container, or a sandbox with the pod it stands for.
pub(super) fn inspected(object: &Map<String, Value>) -> Result<Container, String> {
    let status = inner(object, "status")?.ok_or("`status` is not an object")?;
    let id = text(status, "id")?.ok_or("`status` has no `id`: not a container")?;
    let metadata = inner(status, "metadata")?;
    let of_metadata = |key| metadata.map_or(Ok(None), |metadata| text(metadata, key));
    let (labels, annotations) = (pairs(status, "labels")?, pairs(status, "annotations")?);
    // Of the two, pods alone have a namespace.
    if let Some(namespace) = of_metadata("namespace")? {
        let pod = Pod {
            name: of_metadata("name")?.unwrap_or_default(),
            namespace,
            uid: of_metadata("uid")?.unwrap_or_default(),
            labels: labels.clone(),
            annotations: annotations.clone(),
        };
        return Ok(Container {
            runtime: "cri".into(),
            id,
            labels,
            annotations,
            sandbox: true,
            pod: Some(pod),
            ..Container::default()
        });
    }
    let info = inner(object, "info")?;
    let spec = info.map_or(Ok(None), |info| inner(info, "runtimeSpec"))?;
    let process = spec.map_or(Ok(None), |spec| inner(spec, "process"))?;
    let sandbox = info.map_or(Ok(None), |info| text(info, "sandboxID"))?;
    let sandbox = sandbox.map(|sandbox| ("io.kubernetes.cri.sandbox-id".to_owned(), sandbox));
    let of_spec = spec.map_or(Ok(vec![]), |spec| pairs(spec, "annotations"))?;
    let image = inner(status, "image")?.map_or(Ok(None), |image| text(image, "image"))?;
    Ok(Container {
        runtime: "cri".into(),
        id,
        image: match image {
            Some(image) => Some(image),
            None => text(status, "imageRef")?,
        },
        labels,
        env: process.map_or(Ok(vec![]), |process| texts(process, "env"))?,
        annotations: [sandbox.into_iter().collect(), annotations, of_spec].concat(),
        ..Container::default()
    })
}

fn inner<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(format!("`{key}` is not an object")),
    }
}
