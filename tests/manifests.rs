//! deploy/kubernetes as `kubectl kustomize` puts it together: objects as JSON, held against the schemas of several versions.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// A set of manifests: an overlay with components.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// Its objects.
    pub objects: Vec<Value>,
    /// What the schemas have against them.
    pub faults: Vec<String>,
}

/// An overlay, components, and the versions whose schemas it is held against.
pub type Asked<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// The folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

/// Puts each of `asked` together.
pub fn built(asked: &[Asked]) -> Vec<Manifests> {
    static TOOLS: LazyLock<[PathBuf; 2]> = LazyLock::new(|| ["kubectl", "python"].map(tool));
    let [kubectl, python] = &*TOOLS;
    let given: Vec<_> = asked
        .iter()
        .map(|(overlay, components, versions)| {
            json!({ "yaml": kustomized(kubectl, overlay, components), "versions": versions })
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/look.py");
    let mut python = Command::new(python);
    python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("run Python");
    let text = Value::from(given).to_string();
    python.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("tell Python");
    let output = python.wait_with_output().expect("wait for Python");
    assert!(output.status.success(), "tests/kubernetes/look.py ended with {}", output.status);
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let text = |value: Value| value.as_str().expect("a text").to_owned();
    told.iter()
        .map(|one| Manifests {
            objects: list(&one["objects"]),
            faults: list(&one["faults"]).into_iter().map(text).collect(),
        })
        .collect()
}

impl Manifests {
    /// An overlay with components, as it is applied.
    pub fn of(overlay: &str, components: &[&str]) -> Manifests {
        built(&[(overlay, components, &[])]).remove(0)
    }

    /// The one object of a kind.
    pub fn object(&self, kind: &str) -> &Value {
        let mut of_kind = self.objects.iter().filter(|object| object["kind"] == kind);
        match (of_kind.next(), of_kind.next()) {
            (Some(object), None) => object,
            _ => panic!("one {kind} in {:#?}", self.objects),
        }
    }

    /// The pod template of the DaemonSet.
    pub fn pod(&self) -> &Value {
        &self.object("DaemonSet")["spec"]["template"]
    }

    /// Its one container.
    pub fn container(&self) -> &Value {
        let containers = self.pod()["spec"]["containers"].as_array().expect("a list");
        assert_eq!(containers.len(), 1, "{containers:#?}");
        &containers[0]
    }

    /// The agents' configuration file.
    pub fn configuration(&self) -> &str {
        self.object("ConfigMap")["data"]["fnscope.toml"].as_str().expect("a file")
    }
}

/// What `kubectl kustomize` prints for an overlay with components: by a file as an administrator would write it.
fn kustomized(kubectl: &Path, overlay: &str, components: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("make a folder");
    let up = "../".repeat(dir.path().components().count() - 1);
    let at = |path: String| format!("{up}{}", folder().join(path).display()).replace("//", "/");
    let components: Vec<_> = components.iter().map(|name| at(format!("components/{name}"))).collect();
    let own = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [at(format!("overlays/{overlay}"))],
        "components": components,
    });
    fs::write(dir.path().join("kustomization.yaml"), own.to_string()).expect("write a file");
    let output = Command::new(kubectl).arg("kustomize").arg(dir.path()).output().expect("run kubectl");
    let said = String::from_utf8_lossy(&output.stderr);
    // A warning is about a word that a later kubectl will not know.
    assert!(output.status.success() && said.is_empty(), "{overlay} {components:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// What tests/kubernetes/setup has, or installs.
fn tool(name: &str) -> PathBuf {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/setup");
    let output =
        Command::new(setup).arg(name).stdin(Stdio::null()).output().expect("run tests/kubernetes/setup");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tests/kubernetes/setup {name} ended with {}: {said}", output.status);
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
