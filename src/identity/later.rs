//! What is learned of a container after its creation, and the identity it has from then on.
//!
//! Two platforms start containers before they know the function: OpenWhisk's stem cells and Fission's pools. The
//! function then shows in the environment of a process that the container starts, or in labels of its pod that are
//! patched. The first is in the tenant's hands: it names a function once, never against what the platform's own name
//! of the container says, and a sure identity is changed by nothing.

use super::fission;
use super::rules::{Found, Verdict, function, matched};
use super::{Answer, IdentityConfig, Looked, finished};
use crate::model::{Confidence, Identity};

/// Environment variables of processes that tell of a function. None of them holds a secret.
pub const LATER_ENV_ALLOW_LIST: &[&str] = &["__OW_ACTION_NAME", "__OW_ACTION_VERSION", "__OW_NAMESPACE"];

/// Pod labels that are patched after creation and tell of a function.
pub const LATER_LABEL_ALLOW_LIST: &[&str] = &[
    "executorType",
    "fission.io/function-generation",
    "fission.io/function-version",
    "functionName",
    "functionNamespace",
    "functionUid",
    "openwhisk/action",
    "openwhisk/namespace",
    "user-action-pod",
];

/// What was learned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Later {
    /// The environment of a process in the container, as [`super::parse_environ`] leaves it.
    pub env: Vec<(String, String)>,
    /// The pod's labels as Kubernetes' API has them now.
    pub pod_labels: Vec<(String, String)>,
}

/// A way to learn the function later.
struct LaterRule {
    name: &'static str,
    reads: &'static str,
    decide: fn(&Identity, &Later) -> Verdict,
}

/// The platform's word first.
const RULES: &[LaterRule] = &[
    LaterRule {
        name: "fission-specialised",
        reads: "pod labels functionName, functionNamespace, functionUid, fission.io/function-{version,generation}",
        decide: fission_labels,
    },
    LaterRule {
        name: "openwhisk-labels",
        reads: "pod labels openwhisk/action, openwhisk/namespace",
        decide: openwhisk_labels,
    },
    LaterRule {
        name: "openwhisk-child",
        reads: "variables __OW_ACTION_NAME, __OW_NAMESPACE, __OW_ACTION_VERSION of a process in it",
        decide: openwhisk_child,
    },
];

/// The identity that a container which was `current` has from when `later` was learned; none if it stays.
pub fn identify_later(current: &Identity, later: &Later, config: &IdentityConfig) -> Option<Identity> {
    explain(current, later, config).0
}

/// `answer` after `later` was learned, with the rules that were tried for it.
pub fn explain_later(answer: Answer, later: &Later, config: &IdentityConfig) -> Answer {
    if later.env.is_empty() && later.pod_labels.is_empty() {
        return answer;
    }
    let (identity, tried) = explain(&answer.identity, later, config);
    let mut looked_at = answer.looked_at;
    looked_at.extend(tried);
    match identity {
        Some(identity) => Answer { identity, looked_at, runtime_kind: None, fallback_name: None },
        None => Answer { looked_at, ..answer },
    }
}

fn explain(current: &Identity, later: &Later, config: &IdentityConfig) -> (Option<Identity>, Vec<Looked>) {
    let mut looked_at = Vec::new();
    for rule in RULES {
        let verdict = if settled(current) {
            Verdict::Pass { why: "what it is is settled".into() }
        } else {
            (rule.decide)(current, later)
        };
        let (found, why) = match verdict {
            Verdict::Match(found) => {
                let Found { identity, why, .. } = *found;
                (Some(identity), why)
            }
            Verdict::Pass { why } => (None, why),
        };
        looked_at.push(Looked {
            rule: rule.name.into(),
            looked_at: rule.reads,
            matched: found.is_some(),
            why,
        });
        if let Some(identity) = found {
            let identity = Identity { instance_name: current.instance_name.clone(), ..identity };
            let identity = finished(identity, rule.name, config, &mut looked_at);
            return (Some(identity).filter(|new| new != current), looked_at);
        }
    }
    (None, looked_at)
}

/// Whether nothing can change it any more.
fn settled(current: &Identity) -> bool {
    let open = [Confidence::Prewarm, Confidence::Lossy, Confidence::Guessed];
    !current.function_container || !open.contains(&current.confidence)
}

/// A pod of Fission's pool has been given its function. `functionNamespace` is the function's, not the pod's.
fn fission_labels(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("fission") || current.confidence != Confidence::Prewarm {
        return Verdict::Pass { why: "it is no pod of Fission's that waits".into() };
    }
    let Some(name) = get(&later.pod_labels, "functionName") else {
        return Verdict::Pass { why: "pod label functionName is absent or empty".into() };
    };
    let confirmed = get(&later.pod_labels, "functionUid").is_some();
    matched(
        Identity {
            namespace: get(&later.pod_labels, "functionNamespace").map(Into::into),
            function: Some(name.into()),
            revision: fission::revision(|key| get(&later.pod_labels, key).map(Into::into)),
            ..function("fission", if confirmed { Confidence::Exact } else { Confidence::Guessed })
        },
        "the pod was given its function: labels functionName and functionNamespace",
    )
}

/// OpenWhisk's classic invoker has patched the action's name on the pod.
fn openwhisk_labels(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("openwhisk") {
        return not_openwhisk();
    }
    let Some(action) = get(&later.pod_labels, "openwhisk/action") else {
        return Verdict::Pass { why: "pod label openwhisk/action is absent or empty".into() };
    };
    let Some(namespace) = get(&later.pod_labels, "openwhisk/namespace") else {
        return Verdict::Pass { why: "pod label openwhisk/namespace is absent or empty".into() };
    };
    matched(
        Identity {
            namespace: Some(namespace.into()),
            function: Some(action.into()),
            ..function("openwhisk", Confidence::Exact)
        },
        "the pod was given its action: labels openwhisk/action and openwhisk/namespace",
    )
}

/// OpenWhisk's action loop starts the action as a process and tells it its name. A container that was named by its
/// platform already must agree, as far as that name goes.
fn openwhisk_child(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("openwhisk") {
        return not_openwhisk();
    }
    let Some(path) = get(&later.env, "__OW_ACTION_NAME") else {
        return Verdict::Pass { why: "variable __OW_ACTION_NAME is absent or empty".into() };
    };
    let Some(action) = ActionPath::new(path) else {
        return Verdict::Pass { why: "variable __OW_ACTION_NAME is no path of an action".into() };
    };
    let namespace = get(&later.env, "__OW_NAMESPACE").unwrap_or(action.namespace);
    if !is_entity(namespace) {
        return Verdict::Pass { why: "variable __OW_NAMESPACE is no namespace".into() };
    }
    if current.confidence != Confidence::Prewarm && !agrees(current, namespace, &action) {
        return Verdict::Pass { why: "the process names another action than the container's name".into() };
    }
    // An action of another namespace (a shared package's) keeps its path, or two would go by one name.
    let name = if namespace == action.namespace { action.behind_namespace } else { path };
    matched(
        Identity {
            namespace: Some(namespace.into()),
            function: Some(name.into()),
            revision: get(&later.env, "__OW_ACTION_VERSION").map(Into::into),
            ..function("openwhisk", Confidence::Exact)
        },
        "a process in it was told its action",
    )
}

fn not_openwhisk() -> Verdict {
    Verdict::Pass { why: "it is no container of OpenWhisk's".into() }
}

/// `/namespace/[package/]action`.
struct ActionPath<'a> {
    namespace: &'a str,
    behind_namespace: &'a str,
    package: &'a str,
    action: &'a str,
}

impl<'a> ActionPath<'a> {
    fn new(path: &'a str) -> Option<ActionPath<'a>> {
        let (namespace, behind_namespace) = path.strip_prefix('/')?.split_once('/')?;
        let (package, action) = match behind_namespace.split_once('/') {
            Some((package, action)) if is_entity(package) => (package, action),
            Some(_) => return None,
            None => ("", behind_namespace),
        };
        (is_entity(namespace) && is_entity(action)).then_some(ActionPath {
            namespace,
            behind_namespace,
            package,
            action,
        })
    }
}

/// Whether OpenWhisk would take it for a name.
fn is_entity(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_@ .&-".contains(c);
    !name.is_empty() && name.len() <= 256 && name.chars().all(allowed) && !name.starts_with([' ', '.', '-'])
}

/// Whether `current`, made of a container's or pod's name, can be this action. Those names keep letters and digits
/// alone, and hold the invoking namespace, or the action's with its package.
fn agrees(current: &Identity, namespace: &str, action: &ActionPath<'_>) -> bool {
    let plain = |parts: &[&str]| -> String {
        let letters = parts.iter().flat_map(|part| part.chars()).filter(char::is_ascii_alphanumeric);
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    let said = [&current.namespace, &current.function].map(|name| name.as_deref().unwrap_or_default());
    let said = plain(&said);
    [
        [namespace, "", action.action],
        [namespace, action.package, action.action],
        [action.namespace, action.package, action.action],
    ]
    .iter()
    .any(|parts| plain(parts) == said)
}

fn get<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}
