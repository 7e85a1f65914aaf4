//! Which function is it: platform rules over plain data. Pure: no I/O, the same answer for the same input.
//!
//! | file | what |
//! |---|---|
//! | [`rules`] | the table of rules, in order of precedence, and what a rule returns |
//! | [`markers`] | the environment variables and labels that rules read: nothing else of a container is kept |
//! | [`image`] | image references taken apart |
//! | `own`, `openfaas`, `nuclio`, `openwhisk`, `fnproject`, `lambda`, `azure`, `functions_framework` | a platform each |
//! | `fallback` | containers that no platform claims, for `functions = "all"` |
//! | [`input`] | `docker inspect` output and recorded containers as text |
//! | [`row`] | an answer as a row of `fnscope identify --json` |
//!
//! The first rule that matches decides. What a container says comes from its tenant: names are bounded, nothing is
//! trusted further than to name the container that said it.

mod azure;
mod fallback;
mod fnproject;
mod functions_framework;
pub mod image;
pub mod input;
mod lambda;
pub mod markers;
mod nuclio;
mod openfaas;
mod openwhisk;
mod own;
pub mod row;
pub mod rules;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::identity::bounded_name;
use crate::model::{Container, Identity};

pub use input::{Element, InputError, parse};
pub use markers::{ENV_ALLOW_LIST, LABEL_ALLOW_LIST, kept};
pub use row::Identified;
use rules::{RULES, Verdict};

/// The name that stands in [`Identity::rule`] where no rule matched.
pub const NO_RULE: &str = "none";

/// Which containers count as functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Functions {
    /// Those that a function platform or fnscope's own labels mark.
    #[default]
    Labelled,
    /// Every container; those without a mark by their compose or swarm service, else by their name.
    All,
}

/// What the user decides about identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Which containers count as functions.
    pub functions: Functions,
}

/// A rule that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// The rule's name.
    pub rule: &'static str,
    /// The labels, variables and names it reads.
    pub looked_at: &'static str,
    /// Whether it decided. True for the last one at most.
    pub matched: bool,
    /// Why it did or did not.
    pub why: String,
}

/// An identity and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The identity.
    pub identity: Identity,
    /// The rules that were tried, in order.
    pub looked_at: Vec<Looked>,
}

/// Which function `container` is.
pub fn identify(container: &Container, config: &IdentityConfig) -> Answer {
    let mut looked_at = Vec::new();
    for rule in RULES {
        let (found, why) = match (rule.decide)(container, config) {
            Verdict::Match { identity, why } => (Some(identity), why),
            Verdict::Pass { why } => (None, why),
        };
        looked_at.push(Looked { rule: rule.name, looked_at: rule.reads, matched: found.is_some(), why });
        if let Some(identity) = found {
            return Answer { identity: bounded(identity, rule.name), looked_at };
        }
    }
    Answer { identity: Identity::not_a_function(NO_RULE), looked_at }
}

fn bounded(identity: Identity, rule: &str) -> Identity {
    let cut = |name: Option<String>| name.as_deref().map(bounded_name);
    Identity {
        platform: cut(identity.platform),
        namespace: cut(identity.namespace),
        function: cut(identity.function),
        revision: cut(identity.revision),
        instance_name: cut(identity.instance_name),
        rule: rule.into(),
        ..identity
    }
}
