//! An answer as a row of `fnscope identify --json`: the keys below and no others, whatever the platform.

use serde::Serialize;

use super::input::Element;
use super::{Answer, IdentityConfig, Later, explain_later, identify};
use crate::model::{Confidence, Container};

/// What one element of the input is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identified {
    /// The element's own id: the container's, or the name a recorded container was given.
    pub id: String,
    /// Whether it is a function.
    pub function_container: bool,
    /// The platform.
    pub platform: Option<String>,
    /// The platform's namespace.
    pub namespace: Option<String>,
    /// The function.
    pub function: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
    /// The platform's own name of the container; for a function without one, the container's id.
    pub instance_name: Option<String>,
    /// How sure.
    pub confidence: Confidence,
    /// The rule that decided.
    pub rule: String,
}

impl Identified {
    /// The row of a container called `id` in the input, whose own id is `container_id`.
    pub fn new(id: &str, container_id: &str, answer: Answer) -> Identified {
        let identity = answer.identity;
        let by_id =
            (identity.function_container && !container_id.is_empty()).then(|| container_id.to_owned());
        Identified {
            id: id.into(),
            function_container: identity.function_container,
            platform: identity.platform,
            namespace: identity.namespace,
            function: identity.function,
            revision: identity.revision,
            instance_name: identity.instance_name.or(by_id),
            confidence: identity.confidence,
            rule: identity.rule,
        }
    }
}

/// A row of the answer: an element that could not be read keeps its place in the array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// It was read.
    Identified(Identified),
    /// It was not.
    Failed {
        /// The element's id, where that much could be read.
        id: Option<String>,
        /// What is wrong with it.
        error: String,
    },
}

/// The rows of `elements`, one each, in order.
pub fn rows(elements: &[Element], config: &IdentityConfig) -> Vec<Row> {
    elements
        .iter()
        .map(|element| match &element.container {
            Ok(container) => {
                let id = element.id.as_deref().unwrap_or(&container.id);
                Row::Identified(Identified::new(id, &container.id, answer(container, &element.later, config)))
            }
            Err(error) => Row::Failed { id: element.id.clone(), error: error.clone() },
        })
        .collect()
}

/// Which function `container` is after `later` was learned, and all that was tried for it.
pub fn answer(container: &Container, later: &Later, config: &IdentityConfig) -> Answer {
    explain_later(identify(container, config), later, config)
}
