//! Which function is it: platform rules over plain data. Pure: no I/O, the same answer for the same input.
//!
//! | file | what |
//! |---|---|
//! | [`rules`] | the table of rules, in order of precedence, and what a rule returns |
//! | [`config`], `user`, [`template`], [`glob`] | what the user decides: rules of their own, namespaces to leave out |
//! | [`later`], [`environ`] | what is learned after a container's creation |
//! | [`platform_log`] | lines of a platform's own log |
//! | [`markers`] | the environment variables and labels that rules read: nothing else of a container is kept |
//! | [`keep`] | the labels that the configuration asks to store beside a name |
//! | [`image`] | image references taken apart |
//! | [`isolation`] | containers behind a kernel of their own, by what runs them |
//! | [`pod`] | containers of Kubernetes pods, and which of them run no function |
//! | `own`, `openfaas`, `knative`, `fission`, `nuclio`, `kubeless`, `openwhisk`, `fnproject`, `lambda`, `azure`, `functions_framework` | a platform each |
//! | `fallback` | containers that no platform claims, for `functions = "all"` |
//! | [`input`], `cri` | `docker inspect` and `crictl inspect` output and recorded containers as text |
//! | [`row`] | an answer as a row of `fnscope identify --json` |
//!
//! The first rule that matches decides. What a container says comes from its tenant: names are bounded, nothing is
//! trusted further than to name the container that said it. An image can carry any label and set any variable, so a
//! single one of those names no function of a platform's, or names it with little confidence, where the platform leaves
//! a second mark that an image cannot: a pod's labels, a runtime's namespace, a container's name.

mod azure;
pub mod config;
mod cri;
pub mod environ;
mod fallback;
mod fission;
mod fnproject;
#[cfg(test)]
mod forged;
mod functions_framework;
pub mod glob;
pub mod image;
pub mod input;
pub mod isolation;
pub mod keep;
mod knative;
mod kubeless;
mod lambda;
pub mod later;
pub mod markers;
mod nuclio;
mod openfaas;
mod openwhisk;
mod own;
pub mod platform_log;
pub mod pod;
pub mod row;
pub mod rules;
pub mod template;
#[cfg(test)]
mod tests;
mod user;

use std::borrow::Cow;

use serde::Serialize;

use crate::model::identity::bounded_name;
use crate::model::{Confidence, Container, Identity};

pub use config::{Functions, IdentityConfig, UserRule};
pub use environ::{MAX_ENVIRON_BYTES, parse_environ, variables};
pub use glob::Glob;
pub use input::{Element, InputError, parse};
pub use isolation::IsolationConfig;
pub use keep::kept_labels;
pub use later::{LATER_ENV_ALLOW_LIST, LATER_LABEL_ALLOW_LIST, Later, explain_later, identify_later};
pub use markers::{ANNOTATION_ALLOW_LIST, ENV_ALLOW_LIST, Keys, LABEL_ALLOW_LIST, kept, kept_with};
pub use platform_log::{InvokerLog, LogFact, LogTold};
pub use pod::{join_on_docker, pod_of_sandbox, sandbox_on_docker};
pub use row::Identified;
use rules::{BEFORE_USER_RULES, Found, RULES, Verdict};

/// The name that stands in [`Identity::rule`] where no rule matched.
pub const NO_RULE: &str = "none";

/// A rule that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// The rule's name.
    pub rule: Cow<'static, str>,
    /// The labels, variables and names it reads.
    pub looked_at: &'static str,
    /// Whether it decided.
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
    /// What kind of function a waiting container is for, as the platform calls it (`nodejs:20`).
    pub runtime_kind: Option<String>,
    /// What a container that is no function would be called if every container counted.
    pub fallback_name: Option<String>,
}

impl Answer {
    /// The identity as it is stored: a container that waits for its function is one of a pool, called by its kind.
    pub fn into_stored(self) -> Identity {
        let waits = self.identity.confidence == Confidence::Prewarm;
        Identity { function: if waits { self.runtime_kind } else { self.identity.function }, ..self.identity }
    }
}

/// Which function `container` is, by what is known at its creation.
pub fn identify(container: &Container, config: &IdentityConfig) -> Answer {
    let mut looked_at = Vec::new();
    let (first, rest) = RULES.split_at_checked(BEFORE_USER_RULES).unwrap_or((RULES, &[]));
    let table = |rules: &'static [rules::Rule]| {
        rules.iter().map(|rule| (Cow::Borrowed(rule.name), rule.reads, (rule.decide)(container, config)))
    };
    let users = config.rules.iter().enumerate().map(|(at, rule)| {
        let name = Cow::Owned(format!("user:{}", rule.title(at)));
        (name, "what the configuration says", user::decide(rule, container))
    });
    // Lazy: rules behind the one that decides are not asked.
    for (name, reads, verdict) in table(first).chain(users).chain(table(rest)) {
        let (found, why) = match verdict {
            Verdict::Match(mut found) => {
                let why = std::mem::take(&mut found.why);
                (Some(found), why)
            }
            Verdict::Pass { why } => (None, why),
        };
        looked_at.push(Looked { rule: name.clone(), looked_at: reads, matched: found.is_some(), why });
        if let Some(found) = found {
            let Found { identity, runtime_kind, fallback_name, .. } = *found;
            let identity = finished(identity, &name, config, &mut looked_at);
            let bounded = |name: Option<String>| name.as_deref().map(bounded_name);
            return Answer {
                identity,
                looked_at,
                runtime_kind: bounded(runtime_kind),
                fallback_name: bounded(fallback_name),
            };
        }
    }
    Answer { identity: Identity::not_a_function(NO_RULE), looked_at, runtime_kind: None, fallback_name: None }
}

/// `identity` with bounded names, as rule `rule` found it; none where its namespace is left out. What has no namespace
/// yet because it waits for its function is judged when it has.
fn finished(
    identity: Identity,
    rule: &str,
    config: &IdentityConfig,
    looked_at: &mut Vec<Looked>,
) -> Identity {
    let identity = bounded(identity, rule);
    if !identity.function_container || identity.confidence == Confidence::Prewarm {
        return identity;
    }
    let Some((name, why)) = config.refuses(identity.namespace.as_deref()) else { return identity };
    looked_at.push(Looked {
        rule: name.into(),
        looked_at: "allow_namespaces and deny_namespaces of the configuration",
        matched: true,
        why,
    });
    Identity { platform: identity.platform, ..Identity::not_a_function(name) }
}

fn bounded(identity: Identity, rule: &str) -> Identity {
    let cut = |name: Option<String>| name.as_deref().map(bounded_name);
    Identity {
        platform: cut(identity.platform),
        namespace: cut(identity.namespace),
        function: cut(identity.function),
        revision: cut(identity.revision),
        instance_name: cut(identity.instance_name),
        rule: bounded_name(rule),
        ..identity
    }
}
