//! From all evidence of one container to what a runtime would have said of it, as far as that goes, and how sure it is.
//!
//! Of two that tell the same thing the engine's word is believed before the kubelet's names, and those before what a
//! process of the container could have arranged (the order of [`Source`]). Nothing names another pod than the cgroup's
//! path does. What a process, or who wrote a pod down, could have arranged decides nothing for sure.

use super::{Bundle, LogNames, Mounts, Parent, Source, is_kubernetes_name};
use crate::cgroup::Place;
use crate::identity::{IdentityConfig, identify};
use crate::model::{Confidence, Container, Identity, Pod};

/// The namespace in which containerd keeps the kubelet's containers, and that of Docker's.
const KUBELETS: &str = "k8s.io";
const DOCKERS: &str = "moby";
/// The variable that tells a container's host name, which is its pod's name but where it has the host's network.
pub const HOST_NAME: &str = "HOSTNAME";
/// What stands before the name of a rule that decided by what was discovered.
const RULE_PREFIX: &str = "discovered:";

/// What was read of one container; what could not be is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What tells one run from the next: its first process and when it began.
    pub task: Option<String>,
    /// `KEY=value` of its first process, by the allow-list and [`HOST_NAME`].
    pub env: Option<Vec<String>>,
    /// Its mounts.
    pub mounts: Option<Mounts>,
    /// What watches it.
    pub parent: Option<Parent>,
    /// Its bundle.
    pub bundle: Option<Bundle>,
    /// That of its pod's sandbox.
    pub sandbox: Option<Bundle>,
    /// The names of its log, or of its pod's folder.
    pub log: Option<LogNames>,
    /// What this host calls itself.
    pub host_name: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// As a runtime would tell of it. It has a pod only where the pod's labels are known; names of one are labels
    /// otherwise, as the kubelet gives them.
    pub container: Container,
    /// What is known from where.
    pub from: Vec<(&'static str, Source)>,
    /// Whether it is in a pod of which a name is missing, that logs may tell.
    pub wants_logs: bool,
}

/// What `evidence` tells of the container at `place`; none if it is no container after all: plain containerd's have a shim
/// or a bundle, and another cgroup may be called like one.
pub fn conclude(place: &Place<'_>, evidence: &Evidence) -> Option<Discovered> {
    let parent = evidence.parent.as_ref().filter(|parent| watches(parent, place, evidence));
    if place.runtime_namespace.is_some() && parent.is_none() && evidence.bundle.is_none() {
        return None;
    }
    let mut found = Discovered::default();
    let pod = names(place, evidence, parent, &mut found);
    let is_in_pod = pod.names.iter().any(|(_, name)| name.is_some());
    let shim = match parent {
        Some(Parent::Shim { namespace, id, .. }) => Some((namespace.as_str(), id.as_str())),
        _ => None,
    };
    let bundle = evidence.bundle.clone().unwrap_or_default();
    let runtime = runtime(place, parent);
    // The kubelet's names are no image's, as they might be on Docker alone.
    let runtime = if runtime == "docker" && is_in_pod { "cri-dockerd" } else { runtime };
    let mut container = bundle.container;
    container.runtime = runtime.into();
    container.id = place.container.0.to_string();
    container.task.clone_from(&evidence.task);
    container.runtime_namespace =
        place.runtime_namespace.or(shim.map(|(namespace, _)| namespace)).map(Into::into);
    container.sandbox |= shim == Some((KUBELETS, &*place.container.0));
    // CRI-O writes a pod's labels down with its sandbox; which that is a bundle says, whose pod it is the path.
    let is_own =
        |sandbox: &&Bundle| sandbox.container.sandbox && place.pod_uid.as_ref() == Some(&sandbox.pod.uid);
    let sandbox = evidence.sandbox.as_ref().filter(|_| place.runtime == Some("cri-o")).filter(is_own);
    container.runtime_handler =
        handler(parent, bundle.handler).or_else(|| sandbox.and_then(|sandbox| sandbox.handler.clone()));
    if let Some(Parent::Conmon { name: Some(name), .. }) = parent
        && !is_in_pod
    {
        container.name = Some(name.clone());
        found.tell("name", Source::Parent);
    }
    if container.image.is_some() {
        found.tell("image", Source::Bundle);
    }
    if evidence.bundle.is_some() {
        found.tell("environment", Source::Bundle);
    } else if let Some(env) = &evidence.env {
        let is_name = |line: &&String| line.split_once('=').is_some_and(|(key, _)| key == HOST_NAME);
        container.env = env.iter().filter(|line| !is_name(line)).cloned().collect();
        found.tell("environment", Source::Environment);
    }
    container.labels.retain(|(key, _)| !key.starts_with("io.kubernetes."));
    for (key, value) in &pod.names {
        container.labels.extend(value.as_ref().map(|value| ((*key).to_owned(), value.clone())));
    }
    if let Some(sandbox) = sandbox {
        let name = |key: &str| container.label(key).unwrap_or_default().to_owned();
        container.pod = Some(Pod {
            name: name(POD),
            namespace: name(NAMESPACE),
            uid: name(UID),
            labels: sandbox.pod.labels.clone(),
            annotations: sandbox.pod.annotations.clone(),
        });
        found.tell(POD_LABELS, Source::Bundle);
    }
    let is_missing = |key| container.label(key).is_none();
    found.wants_logs = is_in_pod && !container.sandbox && (is_missing(POD) || is_missing(NAME));
    found.container = container;
    Some(found)
}

impl Discovered {
    fn tell(&mut self, what: &'static str, source: Source) {
        self.from.push((what, source));
    }

    /// Where `what` is known from.
    pub fn source(&self, what: &str) -> Option<Source> {
        self.from.iter().find(|(known, _)| *known == what).map(|(_, source)| *source)
    }

    /// Which function it is. What was decided by the environment that its process shows is no more than guessed, because
    /// the process may have written it; so is what a pod's labels decided, which its annotations can replace where they
    /// are written down. Its rule tells that no runtime was asked.
    pub fn identity(&self, config: &IdentityConfig) -> Identity {
        let identity = identify(&self.container, config).into_stored();
        let waits_or_none = [Confidence::Prewarm, Confidence::Fallback, Confidence::None];
        let is_sure = waits_or_none.contains(&identity.confidence)
            || self.without_doubt().is_none_or(|sure| identify(&sure, config).into_stored() == identity);
        let confidence = if is_sure { identity.confidence } else { Confidence::Guessed };
        Identity { rule: format!("{RULE_PREFIX}{}", identity.rule), confidence, ..identity }
    }

    /// The container without what could have been arranged; none where nothing of it could.
    fn without_doubt(&self) -> Option<Container> {
        let is_shown = self.source("environment") == Some(Source::Environment);
        let has_labels = self.source(POD_LABELS).is_some();
        if !is_shown && !has_labels {
            return None;
        }
        let mut sure = self.container.clone();
        if is_shown {
            sure.env.clear();
        }
        if let Some(pod) = sure.pod.as_mut().filter(|_| has_labels) {
            pod.labels.clear();
            pod.annotations.clear();
        }
        Some(sure)
    }
}

pub(super) const POD: &str = "io.kubernetes.pod.name";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const UID: &str = "io.kubernetes.pod.uid";
pub(super) const NAME: &str = "io.kubernetes.container.name";
/// What of a pod is known beside its names.
const POD_LABELS: &str = "pod labels";

/// The names of its pod, and its own in it.
struct Names {
    names: [(&'static str, Option<String>); 4],
}

fn names(place: &Place<'_>, evidence: &Evidence, parent: Option<&Parent>, found: &mut Discovered) -> Names {
    let uid = place.pod_uid.as_deref();
    // The path is the runtime's; a name of another pod is none of this container's.
    let fits =
        |told: Option<&str>| told.is_none_or(|told| told.is_empty() || uid.is_none_or(|uid| uid == told));
    let bundle = evidence.bundle.as_ref().filter(|bundle| fits(Some(&bundle.pod.uid)));
    let log = evidence.log.as_ref().filter(|log| fits(log.pod_uid.as_deref()));
    let conmons = match parent {
        Some(Parent::Conmon { log, .. }) => log.as_ref().filter(|log| fits(log.pod_uid.as_deref())),
        _ => None,
    };
    let mounts = evidence.mounts.as_ref().filter(|mounts| uid.is_some() && mounts.pod_uid.as_deref() == uid);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let host_name = uid.and_then(|_| host_name(evidence));
    let mut first = |what: &'static str, told: [(Source, Option<String>); 5]| {
        let (source, name) = told.into_iter().find_map(|(source, name)| Some((source, name?)))?;
        found.tell(what, source);
        Some(name)
    };
    let of = |names: Option<&LogNames>, part: fn(&LogNames) -> Option<&String>| names.and_then(part).cloned();
    let (shim, nothing) = (Source::Parent, None);
    let pod = first(
        "pod",
        [
            (Source::Bundle, bundle.and_then(|bundle| some(&bundle.pod.name))),
            (Source::Logs, of(log, |log| Some(&log.pod))),
            (shim, of(conmons, |log| Some(&log.pod))),
            (Source::Environment, host_name),
            (Source::Mounts, nothing.clone()),
        ],
    );
    let namespace = first(
        "namespace",
        [
            (Source::Bundle, bundle.and_then(|bundle| some(&bundle.pod.namespace))),
            (Source::Logs, of(log, |log| Some(&log.namespace))),
            (shim, of(conmons, |log| Some(&log.namespace))),
            (Source::Mounts, nothing.clone()),
            (Source::Environment, nothing.clone()),
        ],
    );
    let pod_uid = first(
        "pod uid",
        [
            (Source::Path, uid.map(ToOwned::to_owned)),
            (Source::Bundle, bundle.and_then(|bundle| some(&bundle.pod.uid))),
            (Source::Logs, of(log, |log| log.pod_uid.as_ref())),
            (shim, of(conmons, |log| log.pod_uid.as_ref())),
            (Source::Mounts, nothing),
        ],
    );
    let container = first(
        "container name",
        [
            (Source::Bundle, bundle.and_then(|bundle| bundle.container_name.clone())),
            (Source::Logs, of(log, |log| log.container.as_ref())),
            (shim, of(conmons, |log| log.container.as_ref())),
            (Source::Mounts, mounts.and_then(|mounts| mounts.container.clone())),
            (Source::Environment, None),
        ],
    );
    Names { names: [(POD, pod), (NAMESPACE, namespace), (UID, pod_uid), (NAME, container)] }
}

/// The host name that its process was given, where it is not this host's and could be a pod's.
fn host_name(evidence: &Evidence) -> Option<String> {
    let lines = evidence.env.iter().flatten();
    let name = lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == HOST_NAME)?.1;
    let is_hosts = evidence.host_name.as_deref() == Some(name);
    (!is_hosts && is_kubernetes_name(name)).then(|| name.to_owned())
}

/// Whether `parent` is of this container, and not what happens to stand above the process that was looked at.
fn watches(parent: &Parent, place: &Place<'_>, evidence: &Evidence) -> bool {
    let own = &*place.container.0;
    match parent {
        Parent::Shim { namespace, id, .. } => {
            let of_pod = || {
                let by_mounts = evidence.mounts.as_ref().and_then(|mounts| mounts.network_of.as_deref());
                let by_bundle = evidence.bundle.as_ref().and_then(|bundle| bundle.sandbox.as_deref());
                let sandbox = by_bundle.or(by_mounts);
                namespace == KUBELETS && sandbox.is_none_or(|sandbox| sandbox == id)
            };
            let right_namespace = place.runtime_namespace.is_none_or(|expected| expected == namespace);
            right_namespace && (id == own || of_pod())
        }
        Parent::Conmon { id, .. } => id == own,
    }
}

/// What runs the container below its engine, by who watches it and by what its `bundle` has. A shim is of one handler, but
/// for that of runc, which runs whatever program it is told.
fn handler(parent: Option<&Parent>, bundle: Option<String>) -> Option<String> {
    let (of_parent, runs_any) = match parent {
        Some(Parent::Shim { handler, .. }) => {
            let is_runcs = handler.as_ref().is_none_or(|handler| handler.starts_with("io.containerd.runc."));
            (handler.clone(), is_runcs)
        }
        Some(Parent::Conmon { handler, .. }) => (handler.clone(), false),
        None => (None, true),
    };
    if runs_any { bundle.or(of_parent) } else { of_parent.or(bundle) }
}

fn runtime(place: &Place<'_>, parent: Option<&Parent>) -> &'static str {
    match (place.runtime, parent) {
        (Some(runtime), _) => runtime,
        (None, Some(Parent::Shim { namespace, .. })) if namespace == DOCKERS => "docker",
        (None, Some(Parent::Shim { .. })) => "containerd",
        (None, Some(Parent::Conmon { log: Some(_), .. })) => "cri-o",
        (None, Some(Parent::Conmon { .. })) => "podman",
        (None, None) => "unknown",
    }
}
