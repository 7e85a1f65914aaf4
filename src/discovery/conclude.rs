//! From all evidence of one container to what a runtime would have said of it, as far as that goes, and how sure it is.
//!
//! Of two that tell the same thing the engine's word is believed before the kubelet's names, and those before what a
//! process of the container could have arranged (the order of [`Source`]). Nothing names another pod than the cgroup's
//! path does.

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
    let runtime = runtime(place, parent, bundle.is_crio);
    // The kubelet's names are no image's, as they might be on Docker alone.
    let runtime = if runtime == "docker" && is_in_pod { "cri-dockerd" } else { runtime };
    let mut container = bundle.container;
    container.runtime = runtime.into();
    container.id = place.container.0.to_string();
    container.task.clone_from(&evidence.task);
    container.runtime_namespace =
        place.runtime_namespace.or(shim.map(|(namespace, _)| namespace)).map(Into::into);
    container.sandbox |= shim == Some((KUBELETS, &*place.container.0));
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
    let labels = evidence.sandbox.as_ref().filter(|sandbox| sandbox.is_crio && sandbox.container.sandbox);
    if let Some(sandbox) = labels {
        let name = |key: &str| container.label(key).unwrap_or_default().to_owned();
        container.pod = Some(Pod {
            name: name(POD),
            namespace: name(NAMESPACE),
            uid: name(UID),
            labels: sandbox.pod.labels.clone(),
            annotations: sandbox.pod.annotations.clone(),
        });
        found.tell("pod labels", Source::Bundle);
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

    /// Which function it is. What was decided by the environment that its process shows is no more than guessed: the
    /// process may have written it. Its rule tells that no runtime was asked.
    pub fn identity(&self, config: &IdentityConfig) -> Identity {
        let identity = identify(&self.container, config).into_stored();
        let waits_or_none = [Confidence::Prewarm, Confidence::Fallback, Confidence::None];
        let shown = self.source("environment") == Some(Source::Environment);
        let confidence = if shown && !waits_or_none.contains(&identity.confidence) {
            let blind = Container { env: Vec::new(), ..self.container.clone() };
            let same = identify(&blind, config).into_stored() == identity;
            if same { identity.confidence } else { Confidence::Guessed }
        } else {
            identity.confidence
        };
        Identity { rule: format!("{RULE_PREFIX}{}", identity.rule), confidence, ..identity }
    }
}

const POD: &str = "io.kubernetes.pod.name";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const UID: &str = "io.kubernetes.pod.uid";
const NAME: &str = "io.kubernetes.container.name";

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

fn runtime(place: &Place<'_>, parent: Option<&Parent>, is_crio: bool) -> &'static str {
    match (place.runtime, parent) {
        (Some(runtime), _) => runtime,
        (None, Some(Parent::Shim { namespace, .. })) if namespace == DOCKERS => "docker",
        (None, Some(Parent::Shim { .. })) => "containerd",
        (None, _) if is_crio => "cri-o",
        (None, Some(Parent::Conmon { log: Some(_), .. })) => "cri-o",
        (None, Some(Parent::Conmon { .. })) => "podman",
        (None, None) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cgroup::place_of;
    use crate::discovery::{bundle, logs, mountinfo};
    use crate::identity::Keys;

    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";
    const SANDBOX: &str = "b1d3b4f0a0a9a2b2a3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7081920";
    const UID_1: &str = "3c1c2d3e-0000-4111-8222-123456789abc";

    fn pod_path() -> String {
        format!("/kubepods/burstable/pod{UID_1}/{ID}")
    }

    fn env(lines: &[&str]) -> Option<Vec<String>> {
        Some(lines.iter().map(ToString::to_string).collect())
    }

    fn shim(namespace: &str, id: &str) -> Option<Parent> {
        Some(Parent::Shim { namespace: namespace.into(), id: id.into(), address: None })
    }

    fn found(path: &str, evidence: &Evidence) -> Discovered {
        conclude(&place_of(path).expect("a container's path"), evidence).expect("a container")
    }

    fn bundle(value: &serde_json::Value) -> Option<Bundle> {
        Some(bundle::parse(value.to_string().as_bytes(), &Keys::default()).expect("a bundle"))
    }

    fn logged() -> Option<LogNames> {
        logs::of_link(&format!("hello-1_shop_main-{ID}.log")).map(|(names, _)| names)
    }

    #[test]
    fn a_process_that_says_what_it_is_is_guessed() {
        for (lines, platform, function, confidence) in [
            (&["FN_FN_ID=01F", "FN_APP_ID=01A"][..], Some("fnproject"), Some("01F"), Confidence::Guessed),
            (
                &["LAMBDA_TASK_ROOT=/var/task", "AWS_LAMBDA_FUNCTION_NAME=f"],
                Some("aws-lambda-rie"),
                Some("f"),
                Confidence::Guessed,
            ),
            (&["K_SERVICE=hello", "K_REVISION=hello-1"], Some("knative"), Some("hello"), Confidence::Guessed),
            (&["PATH=/bin"], None, None, Confidence::None),
        ] {
            let evidence = Evidence { env: env(lines), parent: shim("moby", ID), ..Evidence::default() };
            let found = found(&format!("/docker/{ID}"), &evidence);
            let identity = found.identity(&IdentityConfig::default());
            assert_eq!(
                (identity.platform.as_deref(), identity.function.as_deref()),
                (platform, function),
                "{lines:?}"
            );
            assert_eq!(identity.confidence, confidence, "{lines:?}");
            assert!(identity.rule.starts_with("discovered:"), "{}", identity.rule);
            assert_eq!(found.container.runtime, "docker");
        }
    }

    #[test]
    fn the_bundle_is_the_engines_word() {
        let spec = json!({"process": {"env": ["LAMBDA_TASK_ROOT=/var/task", "AWS_LAMBDA_FUNCTION_NAME=f"]}});
        let evidence = Evidence {
            env: env(&["LAMBDA_TASK_ROOT=/var/task", "AWS_LAMBDA_FUNCTION_NAME=forged"]),
            bundle: bundle(&spec),
            ..Evidence::default()
        };
        let identity = found(&format!("/docker/{ID}"), &evidence).identity(&IdentityConfig::default());
        assert_eq!((identity.function.as_deref(), identity.confidence), (Some("f"), Confidence::Exact));
    }

    #[test]
    fn faasds_functions_are_named_by_their_shim_and_by_nothing_less() {
        let path = "/openfaas-fn/figlet";
        let place = place_of(path).expect("plain containerd's");
        assert_eq!(conclude(&place, &Evidence::default()), None);
        let wrong = Evidence { parent: shim("other", "figlet"), ..Evidence::default() };
        assert_eq!(conclude(&place, &wrong), None);
        let evidence = Evidence {
            parent: shim("openfaas-fn", "figlet"),
            task: Some("7+4711".into()),
            env: env(&["fprocess=cat"]),
            ..Evidence::default()
        };
        let identity = found(path, &evidence).identity(&IdentityConfig::default());
        assert_eq!(
            (identity.platform.as_deref(), identity.function.as_deref()),
            (Some("openfaas-faasd"), Some("figlet"))
        );
        assert_eq!(identity.confidence, Confidence::Exact, "no process can be the shim of another namespace");
        assert_eq!(identity.instance_name.as_deref(), Some("openfaas-fn/figlet#7+4711"));
    }

    #[test]
    fn a_pod_is_named_by_whatever_is_left() {
        let hello = ["K_SERVICE=hello", "K_REVISION=hello-1", "HOSTNAME=hello-1-x"];
        let mounts = mountinfo::parse(&format!(
            "1 2 3:4 /pods/{UID_1}/containers/main/1f2e3d4c /dev/termination-log rw - ext4 a rw\n\
             1 2 3:4 /x/sandboxes/{SANDBOX}/hostname /etc/hostname rw - ext4 a rw\n"
        ));
        let all = Evidence {
            env: env(&hello),
            mounts: Some(mounts),
            parent: shim("k8s.io", SANDBOX),
            log: logged(),
            host_name: Some("node".into()),
            ..Evidence::default()
        };
        let with_all = found(&pod_path(), &all);
        let label = |found: &Discovered, key| found.container.label(key).map(ToOwned::to_owned);
        assert_eq!(label(&with_all, POD).as_deref(), Some("hello-1"));
        assert_eq!(with_all.source("pod"), Some(Source::Logs));
        assert_eq!((with_all.container.runtime.as_str(), with_all.wants_logs), ("containerd", false));
        assert_eq!(with_all.container.env.len(), 2, "the host name is none of identity's");
        let identity = with_all.identity(&IdentityConfig::default());
        assert_eq!(
            (identity.platform.as_deref(), identity.function.as_deref()),
            (Some("knative"), Some("hello"))
        );
        assert_eq!(
            (identity.namespace.as_deref(), identity.instance_name.as_deref()),
            (Some("shop"), Some("hello-1"))
        );

        let no_logs = found(&pod_path(), &Evidence { log: None, ..all.clone() });
        assert_eq!(label(&no_logs, POD).as_deref(), Some("hello-1-x"));
        assert_eq!(
            (label(&no_logs, NAME).as_deref(), no_logs.source("container name")),
            (Some("main"), Some(Source::Mounts))
        );
        let on_host = Evidence { log: None, host_name: Some("hello-1-x".into()), ..all.clone() };
        let on_host = found(&pod_path(), &on_host);
        assert_eq!(
            (label(&on_host, POD), on_host.wants_logs),
            (None, true),
            "its host's network, its host's name"
        );

        // Gone before anything of it was read: the kubelet's link stays.
        let gone = found(&pod_path(), &Evidence { log: logged(), ..Evidence::default() });
        assert_eq!(label(&gone, NAME).as_deref(), Some("main"));
        assert!(!gone.identity(&IdentityConfig::default()).function_container);
    }

    #[test]
    fn a_watchdog_in_openfaas_namespace_needs_names_alone() {
        let log = logs::of_link(&format!("figlet-1_openfaas-fn_figlet-{ID}.log")).map(|(names, _)| names);
        let evidence = Evidence { env: env(&["fprocess=figlet"]), log, ..Evidence::default() };
        let identity = found(&pod_path(), &evidence).identity(&IdentityConfig::default());
        assert_eq!(
            (identity.platform.as_deref(), identity.function.as_deref()),
            (Some("openfaas"), Some("figlet"))
        );
        assert_eq!(
            (identity.confidence, identity.rule.as_str()),
            (Confidence::Guessed, "discovered:openfaas-watchdog")
        );
    }

    #[test]
    fn crios_labels_are_as_good_as_a_runtimes() {
        let labels = json!({"faas_function": "figlet", "pod-template-hash": "7d9c"}).to_string();
        let sandbox = json!({"annotations": {
            "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Labels": labels,
        }});
        let own = json!({"annotations": {
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": SANDBOX,
            "io.kubernetes.pod.name": "figlet-7d9c-x2", "io.kubernetes.pod.namespace": "openfaas-fn",
            "io.kubernetes.container.name": "figlet", "io.kubernetes.cri-o.ImageName": "reg/figlet:1",
        }});
        let evidence = Evidence { bundle: bundle(&own), sandbox: bundle(&sandbox), ..Evidence::default() };
        let path = format!("/kubepods.slice/kubepods-pod{UID_1}.slice/crio-{ID}.scope");
        let identity = found(&path, &evidence).identity(&IdentityConfig::default());
        assert_eq!(
            (identity.platform.as_deref(), identity.function.as_deref()),
            (Some("openfaas"), Some("figlet"))
        );
        assert_eq!(
            (identity.confidence, identity.revision.as_deref()),
            (Confidence::Exact, Some("pod-template-hash:7d9c"))
        );
    }

    #[test]
    fn a_sandbox_runs_no_function_and_podman_names_its_containers() {
        let pause = Evidence {
            parent: shim("k8s.io", ID),
            env: env(&["K_REVISION=a", "K_SERVICE=b"]),
            ..Evidence::default()
        };
        let identity = found(&pod_path(), &pause).identity(&IdentityConfig::default());
        assert_eq!((identity.function_container, identity.rule.as_str()), (false, "discovered:pod-not-main"));
        let conmon = Parent::Conmon {
            id: ID.into(),
            name: Some("wsk0_1_guest_hello".into()),
            bundle: None,
            log: None,
        };
        let evidence =
            Evidence { parent: Some(conmon), env: env(&["__OW_API_HOST=x"]), ..Evidence::default() };
        let found = found(&format!("/libpod_parent/libpod-{ID}"), &evidence);
        assert_eq!(
            (found.container.runtime.as_str(), found.container.name.as_deref()),
            ("podman", Some("wsk0_1_guest_hello"))
        );
        assert_eq!(found.identity(&IdentityConfig::default()).platform.as_deref(), Some("openwhisk"));
    }

    #[test]
    fn nothing_names_another_pod_than_the_path() {
        let other = "4c1c2d3e-0000-4111-8222-123456789abc";
        let mounts = mountinfo::parse(&format!(
            "1 2 3:4 /pods/{other}/containers/forged/1f2e3d4c /dev/termination-log rw - ext4 a rw\n"
        ));
        let spec = json!({"annotations": {
            "io.kubernetes.cri.sandbox-uid": other, "io.kubernetes.cri.sandbox-name": "forged",
            "io.kubernetes.cri.container-name": "forged",
        }});
        let log = logs::of_folder(&format!("shop_forged_{other}"));
        let evidence = Evidence { mounts: Some(mounts), bundle: bundle(&spec), log, ..Evidence::default() };
        let found = found(&pod_path(), &evidence);
        assert_eq!(found.container.label(UID), Some(UID_1));
        assert_eq!((found.container.label(POD), found.container.label(NAME)), (None, None));
        assert!(found.wants_logs);
    }

    proptest! {
        #[test]
        fn any_evidence_names_its_own_container(
            path in "(/|pod|docker|openfaas-fn|[a-f0-9]{32}|[a-f0-9]{64}|\\.scope){0,6}",
            lines in prop::collection::vec("(HOSTNAME|K_REVISION|K_SERVICE|fprocess|FN_FN_ID)?=?\\PC{0,9}", 0..4),
            id in "[a-f0-9]{64}|[a-z]{1,9}",
            namespace in "k8s\\.io|moby|openfaas-fn",
        ) {
            let Some(place) = place_of(&path) else { return Ok(()) };
            let evidence = Evidence { env: Some(lines), parent: shim(&namespace, &id), ..Evidence::default() };
            let Some(found) = conclude(&place, &evidence) else { return Ok(()) };
            prop_assert_eq!(found.container.id.as_str(), &*place.container.0);
            let identity = found.identity(&IdentityConfig::default());
            let sure = identity.confidence == Confidence::Exact;
            prop_assert!(!sure || identity.platform.as_deref() == Some("openfaas-faasd"), "{:?}", identity);
        }
    }
}
