//! `fnscope identify` on files: every rule explained, rules of the user's own, pods as `crictl` prints them, and what was
//! learned later. Needs no rights.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answers::text;
use crate::support::{Ended, Fnscope};

/// A folder with files to identify.
struct Files {
    scope: Fnscope,
    folder: TempDir,
}

impl Files {
    fn new() -> Files {
        Files { scope: Fnscope::new(), folder: tempfile::tempdir().expect("make a folder") }
    }

    fn path(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, content).expect("write a file");
        path.to_str().expect("a plain path").into()
    }

    fn identify(&self, containers: &Value, options: &[&str]) -> Ended {
        let file = self.path("containers.json", &containers.to_string());
        self.scope.run([&["identify", "--file", &file], options].concat())
    }

    fn rows(&self, containers: &Value, options: &[&str]) -> Vec<Value> {
        let ended = self.identify(containers, &[&["--json"], options].concat());
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"))
    }
}

/// What a row says, in short.
fn told(row: &Value) -> (bool, Option<&str>, Option<&str>, Option<&str>, &str) {
    let name = |key: &str| row[key].as_str();
    let is_function = row["function_container"].as_bool().expect("a truth value");
    (is_function, name("platform"), name("namespace"), name("function"), text(row, "rule"))
}

fn docker(id: &str, labels: &Value, env: &[&str]) -> Value {
    json!({"Id": id, "Name": format!("/{id}"), "Config": {"Image": "img:1", "Labels": labels, "Env": env}})
}

#[test]
fn every_rule_is_explained_and_why_the_others_did_not_match() {
    let files = Files::new();
    let one = docker("one", &json!({"fnscope.function": "pi\u{1b}[31m"}), &[]);
    let plain = docker("two", &json!({}), &["SECRET=hunter2"]);
    let ended = files.identify(&json!([one, plain]), &["--explain"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (first, second) = ended.stdout.split_once("two is ").expect("both are explained");
    assert!(first.contains("one is a function, by rule fnscope-labels"), "{first}");
    let marked: Vec<&str> = first.lines().filter(|line| line.starts_with('*')).collect();
    assert!(marked.len() == 1 && marked[0].contains("fnscope-labels"), "{first}");
    // Those above it say what they looked for; those below it were not asked.
    assert!(first.contains("fnscope.ignore") && !first.contains("openfaas-watchdog"), "{first}");
    assert!(second.starts_with("not a function, by rule none") && !second.contains("\n*"), "{second}");
    for rule in ["fnscope-labels", "openwhisk", "knative-env", "functions-framework-env", "openfaas-watchdog"]
    {
        let line = second.lines().find(|line| line.trim_start().starts_with(rule));
        // Its name, what it reads, and why it did not match.
        assert!(line.is_some_and(|line| line.split_whitespace().count() > 3), "{rule} in {second}");
    }
    assert!(!ended.stdout.contains("hunter2") && !ended.stdout.contains('\u{1b}'), "{ended:?}");
    let wrong = files.scope.run(["identify", "x", "--explain"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[test]
fn rules_of_ones_own_stand_above_and_namespaces_are_left_out() {
    let files = Files::new();
    let config = "\
        [identity]\n\
        env = [\"TEAM\"]\n\
        deny_namespaces = [\"*-test\"]\n\
        [[identity.rules]]\n\
        name = \"ours\"\n\
        labels = { kind = \"function\" }\n\
        platform = \"ours\"\n\
        namespace = \"${env:TEAM}\"\n\
        function = \"${label:name}\"\n";
    let config = files.path("fnscope.toml", config);
    let labels = json!({"kind": "function", "name": "resize", "fnscope.function": "other"});
    let containers = json!([
        docker("a", &labels, &["TEAM=blue"]),
        docker("b", &labels, &["TEAM=blue-test"]),
        docker("c", &json!({"kind": "function"}), &["TEAM=blue"]),
    ]);
    let rows = files.rows(&containers, &["--config", &config]);
    assert_eq!(told(&rows[0]), (true, Some("ours"), Some("blue"), Some("resize"), "user:ours"));
    assert_eq!(told(&rows[1]), (false, Some("ours"), None, None, "deny-namespaces"));
    assert_eq!(told(&rows[2]), (false, None, None, None, "none"));
    assert_eq!(files.rows(&containers, &[])[0]["function"], "other", "without the file");
    let ended = files.identify(&containers, &["--explain", "--config", &config]);
    for says in
        ["user:ours", "the configuration names it", "is denied by \"*-test\"", "it cannot name the function"]
    {
        assert!(ended.stdout.contains(says), "{says} in {}", ended.stdout);
    }
    let wrong = files.path("wrong.toml", "[[identity.rules]]\nimage = \"*\"\n");
    let ended = files.identify(&containers, &["--config", &wrong]);
    assert!(ended.code == Some(2) && ended.stderr.contains("it names no function"), "{ended:?}");
}

/// `crictl inspect` of container `id` in sandbox `sandbox`, called `name` in its pod.
fn cri(id: &str, sandbox: &str, name: &str, env: &[&str]) -> Value {
    json!({
        "status": {
            "id": id,
            "metadata": {"attempt": 0, "name": name},
            "state": "CONTAINER_RUNNING",
            "image": {"annotations": {}, "image": "ghcr.io/openfaas/figlet:latest"},
            "imageRef": "ghcr.io/openfaas/figlet@sha256:00",
            "labels": {
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": "figlet-6d9-x7",
                "io.kubernetes.pod.namespace": "openfaas-fn",
                "io.kubernetes.pod.uid": "11"
            },
            "annotations": {"io.kubernetes.container.hash": "4b"},
        },
        "info": {"sandboxID": sandbox, "pid": 4711, "runtimeSpec": {"process": {"args": ["fwatchdog"], "env": env}}}
    })
}

/// `crictl inspectp` of sandbox `id`.
fn pod(id: &str, labels: &Value) -> Value {
    json!({
        "status": {
            "id": id,
            "metadata": {"attempt": 0, "name": "figlet-6d9-x7", "namespace": "openfaas-fn", "uid": "11"},
            "state": "SANDBOX_READY",
            "labels": labels,
            "annotations": {}
        },
        "info": {"pid": 4700, "image": "pause:3.9"}
    })
}

#[test]
fn a_container_of_crictl_is_joined_with_its_sandbox_wherever_that_stands() {
    let files = Files::new();
    let labels = json!({"faas_function": "figlet", "pod-template-hash": "6d9"});
    let (own, sandbox) = (cri("c1", "s1", "figlet", &["SECRET=hunter2"]), pod("s1", &labels));
    let sidecar = cri("c2", "s1", "istio-proxy", &[]);
    let stranger = cri("c3", "elsewhere", "figlet", &[]);
    for (order, at) in [
        (json!([own, sandbox, sidecar, stranger]), [0, 1, 2, 3]),
        (json!([sidecar, stranger, own, sandbox]), [2, 3, 0, 1]),
    ] {
        let rows = files.rows(&order, &[]);
        let [own, sandbox, sidecar, stranger] = at.map(|at| &rows[at]);
        assert!(told(own).0, "{own:#}");
        assert_eq!((&told(own).1, &told(own).2), (&Some("openfaas"), &Some("openfaas-fn")), "{own:#}");
        assert_eq!((text(own, "function"), text(own, "revision")), ("figlet", "pod-template-hash:6d9"));
        assert_eq!((text(own, "id"), text(own, "instance_name")), ("c1", "figlet-6d9-x7"));
        for (other, id) in [(sandbox, "s1"), (sidecar, "c2"), (stranger, "c3")] {
            assert_eq!((told(other).0, text(other, "id")), (false, id), "{other:#}");
        }
    }
    // One alone, as crictl prints it.
    let alone = files.identify(&own, &["--explain"]);
    assert!(alone.code == Some(1) && alone.stdout.contains("c1 is not a function"), "{alone:?}");
    assert!(!alone.stdout.contains("hunter2"), "{alone:?}");
}

#[test]
fn what_is_learned_later_is_joined_with_its_container_in_the_same_file() {
    let files = Files::new();
    let recorded = |id: &str, env: &[&str], child: &[&str]| {
        json!({
            "id": id, "runtime": "docker", "child_env": child,
            "container": {"Id": id, "Name": "/wsk0_7_prewarm_nodejs20", "Config": {"Image": "i", "Env": env}}
        })
    };
    let host = ["__OW_API_HOST=http://h"];
    let child = ["__OW_ACTION_NAME=/guest/hello", "__OW_NAMESPACE=guest", "__OW_ACTION_VERSION=0.0.2"];
    let rows = files.rows(&json!([recorded("waits", &host, &[]), recorded("has", &host, &child)]), &[]);
    assert_eq!((&told(&rows[0]).3, text(&rows[0], "confidence")), (&None, "prewarm"), "{rows:#?}");
    assert_eq!((text(&rows[1], "function"), text(&rows[1], "revision")), ("hello", "0.0.2"), "{rows:#?}");
    assert_eq!((text(&rows[1], "rule"), text(&rows[1], "confidence")), ("openwhisk-child", "guessed"));

    // A pool's pod: sandbox and container of one array, and the labels that the pod was given when it had its function.
    let pool = json!({"executorType": "poolmgr", "environmentName": "node"});
    let late = json!({"functionName": "greet", "functionNamespace": "team", "functionUid": "1"});
    let container = |later: &Value| json!({"id": "c9", "runtime": "cri", "container": cri("c9", "s9", "node", &[]), "pod_labels_from_k8s_api": later});
    for (order, function) in [
        (json!([pod("s9", &pool), container(&json!({}))]), None),
        (json!([pod("s9", &pool), container(&late)]), Some("greet")),
    ] {
        let rows = files.rows(&order, &[]);
        assert_eq!((told(&rows[1]).1, told(&rows[1]).3), (Some("fission"), function), "{rows:#?}");
        let explained = files.identify(&order, &["--explain"]).stdout;
        assert!(function.is_none() || explained.contains("functionName"), "{explained}");
    }
}
