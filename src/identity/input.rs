//! Containers as text: the output of `docker inspect` or `crictl inspect`, or recorded containers in the form of this
//! project's fixtures.
//!
//! Accepted: one object, an array of them, or an object whose key `fixtures` holds such an array. An element is
//!
//! - what `docker inspect` prints (`Id`, `Name`, `Config`);
//! - what `crictl inspect` or `crictl inspectp` prints (`status`, `info`), see `cri`;
//! - `{id, runtime, containerd_namespace, container, sandbox}` around a container, where `container` and `sandbox` may
//!   also be of containerd's form (`id`, `image`, `labels`, `env`), and `pod_labels_from_k8s_api` and `child_env` hold
//!   what was learned later.
//!
//! A container whose pod's sandbox is another element of the array is joined with it. An element that is none of these
//! is an error in its place; the others are read. Nothing is kept that no rule reads.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::markers::{Keys, kept_with};
use super::{Later, cri, parse_environ, pod_of_sandbox};
use crate::model::identity::bounded_name;
use crate::model::{Container, Pod};

/// Longest text in bytes. `docker inspect` prints 6 to 10 KiB a container.
pub const MAX_BYTES: usize = 16 << 20;
/// Most elements.
pub const MAX_ELEMENTS: usize = 10_000;

/// Why a text is no input at all.
#[derive(Debug, Error)]
pub enum InputError {
    /// Larger than [`MAX_BYTES`].
    #[error("input of {0} bytes is longer than the {MAX_BYTES} that are read; split it")]
    TooLong(usize),
    /// More than [`MAX_ELEMENTS`].
    #[error("input of {0} elements has more than the {MAX_ELEMENTS} that are read; split it")]
    TooMany(usize),
    /// Not JSON.
    #[error("input is not JSON: {0}; expected the output of `docker inspect` or `crictl inspect`")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but neither an object nor an array.
    #[error(
        "input is neither an object nor an array; expected the output of `docker inspect` or `crictl inspect`"
    )]
    WrongShape,
}

/// One element of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The id it gives itself.
    pub id: Option<String>,
    /// The container in it, cut to what rules read, or what is wrong.
    pub container: Result<Container, String>,
    /// What was learned of it later.
    pub later: Later,
}

/// The elements of `text`, in order, with what the table's rules read of them and what `keys` names.
pub fn parse(text: &[u8], keys: &Keys) -> Result<Vec<Element>, InputError> {
    if text.len() > MAX_BYTES {
        return Err(InputError::TooLong(text.len()));
    }
    let elements = match serde_json::from_slice(text)? {
        Value::Array(elements) => elements,
        Value::Object(mut object) => match object.remove("fixtures") {
            Some(Value::Array(elements)) => elements,
            Some(_) => return Err(InputError::WrongShape),
            None => vec![Value::Object(object)],
        },
        _ => return Err(InputError::WrongShape),
    };
    if elements.len() > MAX_ELEMENTS {
        return Err(InputError::TooMany(elements.len()));
    }
    let mut elements: Vec<Element> = elements.iter().map(element).collect();
    join(&mut elements);
    for element in &mut elements {
        if let Ok(container) = &mut element.container {
            *container = kept_with(std::mem::take(container), keys);
        }
    }
    Ok(elements)
}

fn element(value: &Value) -> Element {
    let Some(object) = value.as_object() else {
        let fault = "the element is not an object".to_owned();
        return Element { id: None, container: Err(fault), later: Later::default() };
    };
    let id = ["id", "Id"].iter().find_map(|key| object.get(*key)?.as_str());
    let id = id.or_else(|| object.get("status")?.get("id")?.as_str()).map(bounded_name);
    match recorded(object) {
        Ok((container, later)) => Element { id, container: Ok(container), later },
        Err(fault) => Element { id, container: Err(fault), later: Later::default() },
    }
}

/// `{runtime, containerd_namespace, container, …}`, or the container itself.
fn recorded(object: &Map<String, Value>) -> Result<(Container, Later), String> {
    let Some(inner) = object.get("container") else { return Ok((container(object)?, Later::default())) };
    let inner = inner.as_object().ok_or("`container` is not an object")?;
    let mut found = container(inner)?;
    if let Some(runtime) = text(object, "runtime")? {
        found.runtime = runtime;
    }
    found.runtime_namespace = text(object, "containerd_namespace")?;
    found.runtime_namespace_labels = pairs(object, "containerd_namespace_labels")?;
    // A recorded container has no task: the names of what is missing stand for it.
    let plain = found.runtime == "containerd";
    found.task = text(object, "task")?.or_else(|| plain.then(|| "task-pid+starttime".into()));
    match object.get("sandbox") {
        None | Some(Value::Null) => {}
        Some(Value::Object(sandbox)) => {
            let annotations = pairs(sandbox, "annotations")?;
            let sandbox = Container { sandbox: true, annotations, ..container(sandbox)? };
            found.pod = pod_of_sandbox(&sandbox);
        }
        Some(_) => return Err("`sandbox` is not an object".into()),
    }
    let environ = texts(object, "child_env")?.iter().fold(String::new(), |block, line| block + line + "\0");
    let later = Later {
        env: parse_environ(environ.as_bytes()),
        pod_labels: pairs(object, "pod_labels_from_k8s_api")?,
        ..Later::default()
    };
    Ok((found, later))
}

/// Gives containers the pods whose sandboxes are elements too.
fn join(elements: &mut [Element]) {
    let sandbox = |element: &Element| {
        let container = element.container.as_ref().ok()?;
        Some((container.id.clone(), pod_of_sandbox(container)?))
    };
    let pods: BTreeMap<String, Pod> = elements.iter().filter_map(sandbox).collect();
    for element in elements {
        let Ok(container) = &mut element.container else { continue };
        if container.pod.is_none() {
            let of = container.label("io.kubernetes.sandbox.id");
            let of = of.or_else(|| container.annotation("io.kubernetes.cri.sandbox-id"));
            container.pod = of.and_then(|id| pods.get(id)).cloned();
        }
    }
}

fn container(object: &Map<String, Value>) -> Result<Container, String> {
    if object.contains_key("Id") || object.contains_key("Config") {
        docker(object)
    } else if object.contains_key("status") {
        cri::inspected(object)
    } else {
        containerd(object)
    }
}

/// What `docker inspect` prints of a container.
fn docker(object: &Map<String, Value>) -> Result<Container, String> {
    let config = match object.get("Config") {
        Some(Value::Object(config)) => config,
        _ => {
            return Err("`Config` is missing or not an object; is this the inspection of a container?".into());
        }
    };
    Ok(Container {
        runtime: "docker".into(),
        id: text(object, "Id")?.ok_or("`Id` is missing")?,
        name: text(object, "Name")?.map(|name| name.trim_start_matches('/').to_owned()),
        image: text(config, "Image")?,
        labels: pairs(config, "Labels")?,
        env: texts(config, "Env")?,
        cmd: texts(config, "Cmd")?,
        entrypoint: texts(config, "Entrypoint")?,
        ..Container::default()
    })
}

/// A containerd container: no name beside its id, no split of its command.
fn containerd(object: &Map<String, Value>) -> Result<Container, String> {
    Ok(Container {
        runtime: "containerd".into(),
        id: text(object, "id")?.ok_or("neither `Id` nor `id` is there: not a container")?,
        image: text(object, "image")?,
        labels: pairs(object, "labels")?,
        env: texts(object, "env")?,
        annotations: [pairs(object, "cri_annotations")?, pairs(object, "oci_annotations")?].concat(),
        ..Container::default()
    })
}

pub(super) fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` is not a string")),
    }
}

pub(super) fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| {
                value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` holds more than strings"))
            })
            .collect(),
        Some(_) => Err(format!("`{key}` is not a list")),
    }
}

/// The strings under the object `key`, in its order.
pub(super) fn pairs(object: &Map<String, Value>, key: &str) -> Result<Vec<(String, String)>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Object(labels)) => labels
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(value) => Ok((name.clone(), value.to_owned())),
                None => Err(format!("`{key}` holds more than strings")),
            })
            .collect(),
        Some(_) => Err(format!("`{key}` is not an object")),
    }
}
