//! What is concluded of evidence as hosts show it, and as somebody might have arranged it.

use proptest::prelude::*;
use serde_json::json;

use super::bundle::{self, Bundle, Writer};
use super::conclude::{Discovered, Evidence, NAME, POD, UID, conclude};
use super::{LogNames, Parent, Source, logs, mountinfo};
use crate::cgroup::place_of;
use crate::identity::{IdentityConfig, Keys};
use crate::model::Confidence;

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
    Some(Parent::Shim { namespace: namespace.into(), id: id.into(), address: None, handler: None })
}

fn found(path: &str, evidence: &Evidence) -> Discovered {
    conclude(&place_of(path).expect("a container's path"), evidence).expect("a container")
}

fn bundle(value: &serde_json::Value) -> Option<Bundle> {
    by(Writer::Containerd, value)
}

fn crios(value: &serde_json::Value) -> Option<Bundle> {
    by(Writer::CriO, value)
}

fn by(writer: Writer, value: &serde_json::Value) -> Option<Bundle> {
    Some(bundle::parse(value.to_string().as_bytes(), writer, &Keys::default()).expect("a bundle"))
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

/// A pod's container and its sandbox, as CRI-O writes them down.
fn crios_pod() -> (String, Evidence) {
    let labels = json!({"faas_function": "figlet", "pod-template-hash": "7d9c"}).to_string();
    let sandbox = json!({"annotations": {
        "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Labels": labels,
        "io.kubernetes.cri-o.RuntimeHandler": "kata", "io.kubernetes.pod.uid": UID_1,
    }});
    let own = json!({
        "annotations": {
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": SANDBOX,
            "io.kubernetes.pod.name": "figlet-7d9c-x2", "io.kubernetes.pod.namespace": "openfaas-fn",
            "io.kubernetes.container.name": "figlet", "io.kubernetes.cri-o.ImageName": "reg/figlet:1",
        },
        "process": {"env": ["fprocess=figlet"]},
    });
    let path = format!("/kubepods.slice/kubepods-pod{UID_1}.slice/crio-{ID}.scope");
    (path, Evidence { bundle: crios(&own), sandbox: crios(&sandbox), ..Evidence::default() })
}

/// An annotation of the pod called `io.kubernetes.cri-o.Labels` stands in their place.
#[test]
fn labels_that_crio_wrote_down_are_a_guess() {
    let (path, evidence) = crios_pod();
    let identity = found(&path, &evidence).identity(&IdentityConfig::default());
    assert_eq!(
        (identity.platform.as_deref(), identity.function.as_deref()),
        (Some("openfaas"), Some("figlet"))
    );
    assert_eq!(
        (identity.confidence, identity.revision.as_deref()),
        (Confidence::Guessed, Some("pod-template-hash:7d9c"))
    );
    // What is so without them as well is as sure as it was.
    let lambda = ["LAMBDA_TASK_ROOT=/var/task".to_owned(), "AWS_LAMBDA_FUNCTION_NAME=f".to_owned()];
    let labels = json!({"app": "x"}).to_string();
    let sandbox = crios(&json!({"annotations": {
        "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Labels": labels,
        "io.kubernetes.pod.uid": UID_1,
    }}));
    let mut evidence = Evidence { sandbox, ..evidence };
    evidence.bundle.as_mut().expect("it is there").container.env = lambda.into();
    let found = found(&path, &evidence);
    let identity = found.identity(&IdentityConfig::default());
    assert!(found.source("pod labels").is_some());
    assert_eq!((identity.function.as_deref(), identity.confidence), (Some("f"), Confidence::Exact));
}

#[test]
fn the_sandbox_of_another_pod_tells_nothing() {
    let (path, evidence) = crios_pod();
    let other = "4c1c2d3e-0000-4111-8222-123456789abc";
    for uid in [other, ""] {
        let mut evidence = evidence.clone();
        evidence.sandbox.as_mut().expect("it is there").pod.uid = uid.into();
        let found = found(&path, &evidence);
        assert_eq!((found.container.pod.clone(), found.source("pod labels")), (None, None), "{uid}");
        assert_eq!(found.container.runtime_handler, None, "{uid}");
        let identity = found.identity(&IdentityConfig::default());
        assert_eq!(identity.rule, "discovered:openfaas-watchdog", "{uid}");
    }
    let podmans = format!("/machine.slice/libpod-pod{UID_1}.slice/libpod-{ID}.scope");
    assert_eq!(found(&podmans, &evidence).container.pod, None, "nobody's but CRI-O's");
}

#[test]
fn what_runs_a_container_is_told_by_what_watches_it() {
    let conmon = |handler: Option<&str>| {
        let handler = handler.map(ToOwned::to_owned);
        Some(Parent::Conmon { id: ID.into(), name: None, bundle: None, handler, log: None })
    };
    let shim = |handler: &str| {
        let Some(Parent::Shim { namespace, id, address, .. }) = shim("k8s.io", SANDBOX) else {
            return None;
        };
        Some(Parent::Shim { namespace, id, address, handler: Some(handler.into()) })
    };
    let beside =
        |program: Option<&str>| Some(Bundle { handler: program.map(ToOwned::to_owned), ..Bundle::default() });
    for (parent, bundle, handler) in [
        (shim("io.containerd.runsc.v1"), None, Some("io.containerd.runsc.v1")),
        (shim("io.containerd.kata.v2"), beside(Some("runc")), Some("io.containerd.kata.v2")),
        // Docker's runtimes are programs of runc's shim.
        (shim("io.containerd.runc.v2"), beside(Some("/opt/runsc")), Some("/opt/runsc")),
        (shim("io.containerd.runc.v2"), beside(None), Some("io.containerd.runc.v2")),
        (None, beside(Some("/opt/runsc")), Some("/opt/runsc")),
        (conmon(Some("/usr/bin/kata-runtime")), None, Some("/usr/bin/kata-runtime")),
        (conmon(None), None, None),
        (None, None, None),
    ] {
        let evidence = Evidence { parent, bundle, ..Evidence::default() };
        let found = found(&pod_path(), &evidence);
        assert_eq!(found.container.runtime_handler.as_deref(), handler, "{evidence:?}");
    }
    // Where nothing watches it, as with CRI-O and Kata, what its pod's sandbox was made with.
    let (path, evidence) = crios_pod();
    assert_eq!(found(&path, &evidence).container.runtime_handler.as_deref(), Some("kata"));
    let evidence = Evidence { parent: conmon(Some("/usr/bin/crun")), ..evidence };
    assert_eq!(found(&path, &evidence).container.runtime_handler.as_deref(), Some("/usr/bin/crun"));
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
        handler: None,
        log: None,
    };
    let evidence = Evidence { parent: Some(conmon), env: env(&["__OW_API_HOST=x"]), ..Evidence::default() };
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
