//! What is learned of a container after its creation, and the identity it has from then on.
//!
//! Two platforms start containers before they know the function: OpenWhisk's stem cells and Fission's pools. The
//! function then shows in the environment of a process that the container starts, in labels of its pod that are
//! patched, or in the platform's own log. The first is in the tenant's hands: a waiting container is named by it once,
//! as a guess ([`Confidence::Guessed`]) that the platform's word replaces, whatever it says; a container of which the
//! platform's own name tells something is never named against that. A container to which the platform gives another
//! function beside its first serves several: from then on its time is nobody's own ([`Confidence::Ambiguous`]).

use super::rules::{Found, Verdict, function, matched};
use super::{Answer, IdentityConfig, Looked, finished};
use super::{fission, fnproject};
use crate::model::{Confidence, Identity};

/// Environment variables of processes that tell of a function. None of them holds a secret.
pub const LATER_ENV_ALLOW_LIST: &[&str] = &[
    "FN_APP_ID",
    "FN_FN_ID",
    "HTTP_X-FISSION-FUNCTION-NAME",
    "HTTP_X-FISSION-FUNCTION-NAMESPACE",
    "__OW_ACTION_NAME",
    "__OW_ACTION_VERSION",
    "__OW_NAMESPACE",
];

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
    /// The action that OpenWhisk's invoker has sent arguments to in it, `/namespace/[package/]action`, by its log.
    pub invoked: Option<String>,
}

/// Longest name of a pod, in bytes, as OpenWhisk makes it.
const LONGEST_POD: usize = 63;

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
    LaterRule { name: "openwhisk-log", reads: "the log of OpenWhisk's invoker", decide: openwhisk_log },
    LaterRule {
        name: Identity::OPENWHISK_CHILD,
        reads: "variables __OW_ACTION_NAME, __OW_NAMESPACE, __OW_ACTION_VERSION of a process in it",
        decide: openwhisk_child,
    },
    LaterRule {
        name: Identity::FISSION_CHILD,
        reads: "variables HTTP_X-FISSION-FUNCTION-{NAME,NAMESPACE} of a process in it",
        decide: fission_child,
    },
    LaterRule {
        name: "fn-child",
        reads: "variables FN_FN_ID, FN_APP_ID of a process in it",
        decide: fn_child,
    },
];

/// What is asked of a container whose function is settled: whether its platform has given it another one beside that.
const ANOTHER: LaterRule = LaterRule {
    name: "another-function",
    reads: "pod labels functionName and openwhisk/action, the log of OpenWhisk's invoker",
    decide: another,
};

/// The identity that a container which was `current` has from when `later` was learned; none if it stays.
pub fn identify_later(current: &Identity, later: &Later, config: &IdentityConfig) -> Option<Identity> {
    explain(current, later, config).0
}

/// `answer` after `later` was learned, with the rules that were tried for it.
pub fn explain_later(answer: Answer, later: &Later, config: &IdentityConfig) -> Answer {
    if *later == Later::default() {
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
    let rules = if settled(current) { std::slice::from_ref(&ANOTHER) } else { RULES };
    for rule in rules {
        let (found, why) = match (rule.decide)(current, later) {
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

/// Whether its function is known for sure, or it is none.
fn settled(current: &Identity) -> bool {
    let sure = matches!(current.confidence, Confidence::Exact | Confidence::Ambiguous);
    !current.function_container || sure && !current.is_childs_word()
}

/// A container that serves several functions of `current`'s platform.
fn several(current: &Identity, why: &str) -> Verdict {
    let platform = current.platform.as_deref().unwrap_or(Identity::UNKNOWN_PLATFORM);
    matched(function(platform, Confidence::Ambiguous), why)
}

/// The platform's word that a container with a function of its own runs another one too. Children and what they were
/// told do not count: they are the tenant's.
fn another(current: &Identity, later: &Later) -> Verdict {
    let settled = || Verdict::Pass { why: "what it is is settled".into() };
    if current.confidence != Confidence::Exact || !current.function_container {
        return settled();
    }
    let name = current.function.as_deref().unwrap_or_default();
    let namespace = current.namespace.as_deref().unwrap_or_default();
    let differs = match current.platform.as_deref() {
        Some("fission") => get(&later.pod_labels, "functionName").is_some_and(|new| {
            let of = get(&later.pod_labels, "functionNamespace").unwrap_or(namespace);
            (new, of) != (name, namespace)
        }),
        // A label has no package, and neither has a name made of it.
        Some("openwhisk") => {
            let bare = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
            let labelled = get(&later.pod_labels, "openwhisk/action");
            let named = |action: &ActionPath<'_>| bare(action.action) != bare(name);
            labelled.is_some_and(|new| bare(new) != bare(name))
                || later.invoked.as_deref().and_then(ActionPath::new).is_some_and(|action| named(&action))
        }
        _ => false,
    };
    if differs {
        several(current, "its platform has given it another function beside its first")
    } else {
        settled()
    }
}

/// A pod of Fission's pool has been given its function. `functionNamespace` is the function's, not the pod's.
fn fission_labels(current: &Identity, later: &Later) -> Verdict {
    let waits = [Confidence::Prewarm, Confidence::Guessed].contains(&current.confidence);
    if current.platform.as_deref() != Some("fission") || !waits && !current.is_childs_word() {
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
    let named = Identity {
        namespace: Some(namespace.into()),
        function: Some(action.into()),
        ..function("openwhisk", Confidence::Exact)
    };
    matched(
        with_revision(named, current),
        "the pod was given its action: labels openwhisk/action and openwhisk/namespace",
    )
}

/// OpenWhisk's action loop starts the action as a process and tells it its name. A container that was named by its
/// platform already must agree, as far as that name goes. One that waits has it as a guess, because any process that
/// an action starts, at the loading of its code before all, can say the same; and the first word stays.
fn openwhisk_child(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("openwhisk") {
        return not_openwhisk();
    }
    if current.is_childs_word() {
        return Verdict::Pass { why: "a process in it was told its action before".into() };
    }
    let Some(path) = get(&later.env, "__OW_ACTION_NAME") else {
        return Verdict::Pass { why: "variable __OW_ACTION_NAME is absent or empty".into() };
    };
    let namespace = get(&later.env, "__OW_NAMESPACE");
    let revision = get(&later.env, "__OW_ACTION_VERSION").map(Into::into);
    let (confidence, why) = match current.confidence {
        Confidence::Prewarm => {
            (Confidence::Guessed, "a process in it was told its action; its platform has not said so yet")
        }
        _ => (Confidence::Exact, "a process in it was told its action, and its name agrees"),
    };
    match openwhisk_action(current, path, namespace) {
        Ok(named) => matched(Identity { revision, confidence, ..named }, why),
        Err(why) => Verdict::Pass { why: why.into() },
    }
}

/// OpenWhisk's invoker writes into its log which action it sends arguments to, and in which container.
fn openwhisk_log(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("openwhisk") {
        return not_openwhisk();
    }
    let Some(path) = later.invoked.as_deref() else {
        return Verdict::Pass { why: "no log of an invoker's tells of it".into() };
    };
    match openwhisk_action(current, path, None) {
        Ok(named) => {
            matched(with_revision(named, current), "the invoker's log tells which action was invoked in it")
        }
        Err(why) => Verdict::Pass { why: why.into() },
    }
}

/// What `path` names, which is the action's, or why it names nothing; `namespace` is that of whoever invokes it.
fn openwhisk_action(
    current: &Identity,
    path: &str,
    namespace: Option<&str>,
) -> Result<Identity, &'static str> {
    let action = ActionPath::new(path).ok_or("what it was told is no path of an action")?;
    let namespace = namespace.unwrap_or(action.namespace);
    if !is_entity(namespace) {
        return Err("variable __OW_NAMESPACE is no namespace");
    }
    // A name that is its tenant's word binds nobody.
    let by_name = current.confidence != Confidence::Prewarm && !current.is_childs_word();
    if by_name && !agrees(current, namespace, &action) {
        return Err("another action is named than by the container's name");
    }
    // An action of another namespace (a shared package's) keeps its path, or two would go by one name.
    let name = if namespace == action.namespace { action.behind_namespace } else { path };
    Ok(Identity {
        namespace: Some(namespace.into()),
        function: Some(name.into()),
        ..function("openwhisk", Confidence::Exact)
    })
}

/// The platform's word, which tells no revision, with the one that a process of the same action was told.
fn with_revision(named: Identity, current: &Identity) -> Identity {
    let same = (&named.namespace, &named.function) == (&current.namespace, &current.function);
    let revision = current.revision.clone().filter(|_| same && current.is_childs_word());
    Identity { revision, ..named }
}

/// Fission's binary environment runs a program for each request, with the request's headers in its environment; the
/// router puts the function's name into them. A program of the function's own can say the same, so it is a guess; and
/// in a pod that is given to no function alone (`AllowedFunctionsPerContainer: infinite`) the next may name another.
/// That it serves several is its processes' word as well, until its labels tell its one function.
fn fission_child(current: &Identity, later: &Later) -> Verdict {
    if current.platform.as_deref() != Some("fission") {
        return Verdict::Pass { why: "it is no pod of Fission's".into() };
    }
    let Some(name) = get(&later.env, "HTTP_X-FISSION-FUNCTION-NAME") else {
        return Verdict::Pass { why: "variable HTTP_X-FISSION-FUNCTION-NAME is absent or empty".into() };
    };
    let namespace = get(&later.env, "HTTP_X-FISSION-FUNCTION-NAMESPACE");
    let known = (current.function.as_deref(), current.namespace.as_deref());
    match current.confidence {
        Confidence::Prewarm => matched(
            Identity {
                namespace: namespace.map(Into::into),
                function: Some(name.into()),
                ..function("fission", Confidence::Guessed)
            },
            "a process in it serves a request to this function",
        ),
        Confidence::Guessed if current.is_childs_word() && known != (Some(name), namespace) => {
            several(current, "processes in it serve requests to several functions")
        }
        _ => Verdict::Pass { why: "it is known already, and this is not the platform's word".into() },
    }
}

/// Fn tells a container its ids when it makes it; where its runtime tells no environment, its processes have it. One
/// that counts because every container does, under a name that Fn makes.
fn fn_child(current: &Identity, later: &Later) -> Verdict {
    if current.confidence != Confidence::Fallback || !fnproject::is_id(current.function.as_deref()) {
        return Verdict::Pass { why: "it is no container under a name of Fn's".into() };
    }
    let (Some(id), Some(app)) = (get(&later.env, "FN_FN_ID"), get(&later.env, "FN_APP_ID")) else {
        return Verdict::Pass { why: "variables FN_FN_ID and FN_APP_ID are absent or empty".into() };
    };
    matched(
        Identity {
            namespace: Some(app.into()),
            function: Some(id.into()),
            ..function("fnproject", Confidence::IdsOnly)
        },
        "a process in it was told its ids, and the container's name is one of Fn's too",
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
/// alone, and hold the invoking namespace, or the action's with its package. A pod's is cut where it is too long.
fn agrees(current: &Identity, namespace: &str, action: &ActionPath<'_>) -> bool {
    let plain = |parts: &[&str]| -> String {
        let letters = parts.iter().flat_map(|part| part.chars()).filter(char::is_ascii_alphanumeric);
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    let said = [&current.namespace, &current.function].map(|name| name.as_deref().unwrap_or_default());
    let said = plain(&said);
    let is_cut = current.instance_name.as_deref().is_some_and(|pod| pod.len() >= LONGEST_POD);
    [
        [namespace, "", action.action],
        [namespace, action.package, action.action],
        [action.namespace, action.package, action.action],
    ]
    .iter()
    .map(|parts| plain(parts))
    .any(|plain| plain == said || is_cut && plain.starts_with(&said))
}

fn get<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}
