//! Containers as text: the output of `docker inspect`, or recorded containers in the form of this project's fixtures.
//!
//! Accepted: one object, an array of them, or an object whose key `fixtures` holds such an array. An element is what
//! `docker inspect` prints (`Id`, `Name`, `Config`), or `{id, runtime, containerd_namespace, container}` around it,
//! where `container` may also be of containerd's form (`id`, `image`, `labels`, `env`). An element that is none of
//! these is an error in its place; the others are read. Nothing is kept that no rule reads.

use serde_json::{Map, Value};
use thiserror::Error;

use super::markers::kept;
use crate::model::Container;
use crate::model::identity::bounded_name;

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
    #[error("input is not JSON: {0}; expected the output of `docker inspect`")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but neither an object nor an array.
    #[error("input is neither an object nor an array; expected the output of `docker inspect`")]
    WrongShape,
}

/// One element of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The id it gives itself.
    pub id: Option<String>,
    /// The container in it, cut to what rules read, or what is wrong.
    pub container: Result<Container, String>,
}

/// The elements of `text`, in order.
pub fn parse(text: &[u8]) -> Result<Vec<Element>, InputError> {
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
    Ok(elements.iter().map(element).collect())
}

fn element(value: &Value) -> Element {
    let Some(object) = value.as_object() else {
        return Element { id: None, container: Err("the element is not an object".into()) };
    };
    let id = ["id", "Id"].iter().find_map(|key| object.get(*key)?.as_str()).map(bounded_name);
    Element { id, container: recorded(object).map(kept) }
}

/// `{runtime, containerd_namespace, container}`, or the container itself.
fn recorded(object: &Map<String, Value>) -> Result<Container, String> {
    let Some(inner) = object.get("container") else { return container(object) };
    let inner = inner.as_object().ok_or("`container` is not an object")?;
    let mut container = container(inner)?;
    if let Some(runtime) = text(object, "runtime")? {
        container.runtime = runtime;
    }
    container.runtime_namespace = text(object, "containerd_namespace")?;
    Ok(container)
}

fn container(object: &Map<String, Value>) -> Result<Container, String> {
    if object.contains_key("Id") || object.contains_key("Config") {
        docker(object)
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
        runtime_namespace: None,
        id: text(object, "Id")?.ok_or("`Id` is missing")?,
        name: text(object, "Name")?.map(|name| name.trim_start_matches('/').to_owned()),
        image: text(config, "Image")?,
        labels: labels(config, "Labels")?,
        env: texts(config, "Env")?,
        cmd: texts(config, "Cmd")?,
        entrypoint: texts(config, "Entrypoint")?,
    })
}

/// A containerd container: no name beside its id, no split of its command.
fn containerd(object: &Map<String, Value>) -> Result<Container, String> {
    Ok(Container {
        runtime: "containerd".into(),
        id: text(object, "id")?.ok_or("neither `Id` nor `id` is there: not a container")?,
        image: text(object, "image")?,
        labels: labels(object, "labels")?,
        env: texts(object, "env")?,
        ..Container::default()
    })
}

fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` is not a string")),
    }
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
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

fn labels(object: &Map<String, Value>, key: &str) -> Result<Vec<(String, String)>, String> {
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
