//! deploy/kubernetes: every overlay and component is put together, known to the schemas of several versions, and held against
//! the program and its documents. That the agent works under it: `daemonset`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fnscope::config::Config;
use fnscope::config::layers::{File, Layers, resolve};
use serde_json::{Value, json};

use crate::in_container::RIGHTS;
use crate::manifests::{Manifests, built, folder};

/// Versions as they come; the oldest is the first that knows every field that the base has.
const VERSIONS: [&str; 3] = ["1.30", "1.34", "1.37"];
/// One that does not.
const BEFORE: &str = "1.25";

/// Names of the folders in deploy/kubernetes/`kind`.
fn names(kind: &str) -> Vec<String> {
    let entries = fs::read_dir(folder().join(kind)).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("list").file_name().into_string().expect("a plain name")).collect();
    names.sort();
    names
}

/// Every overlay with `components`.
fn overlays_with(components: &[&str]) -> Vec<(String, Manifests)> {
    let overlays = names("overlays");
    let asked: Vec<_> = overlays.iter().map(|overlay| (overlay.as_str(), components, &[][..])).collect();
    let manifests = built(&asked);
    overlays.into_iter().zip(manifests).collect()
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(|one| one.as_str().expect("a text")).collect()
}

#[test]
fn every_overlay_with_every_component_is_known_to_several_versions() {
    let (overlays, components) = (names("overlays"), names("components"));
    assert!(overlays.len() >= 4 && components.len() >= 5, "{overlays:?} {components:?}");
    let singles: Vec<Vec<&str>> = components.iter().map(|name| vec![name.as_str()]).collect();
    // The two ways to ask Kubernetes are one or the other.
    let most: Vec<&str> =
        components.iter().map(String::as_str).filter(|name| *name != "kubernetes-kubelet").collect();
    let sets: Vec<&[&str]> =
        std::iter::once(&[][..]).chain(singles.iter().map(Vec::as_slice)).chain([most.as_slice()]).collect();
    let asked: Vec<_> =
        overlays.iter().flat_map(|overlay| sets.iter().map(move |set| (overlay, *set))).collect();
    let asked: Vec<_> = asked
        .iter()
        .map(|(overlay, set)| {
            let versions: &[&str] =
                if set.contains(&"before-1.30") { &[BEFORE, "1.30", "1.34"] } else { &VERSIONS };
            (overlay.as_str(), *set, versions)
        })
        .collect();
    for ((overlay, set, _), manifests) in asked.iter().zip(built(&asked)) {
        assert!(manifests.faults.is_empty(), "{overlay} {set:?}: {:#?}", manifests.faults);
        holds(overlay, set, &manifests);
    }
    // The schemas do refuse what they do not know.
    let refused = built(&[("containerd", &[], &[BEFORE])]).remove(0).faults;
    assert!(refused.len() == 1 && refused[0].contains("appArmorProfile"), "{refused:?}");
}

/// What is so of every overlay, whatever is added to it.
fn holds(overlay: &str, set: &[&str], manifests: &Manifests) {
    let what = format!("{overlay} {set:?}");
    let (daemonset, pod, container) = (manifests.object("DaemonSet"), manifests.pod(), manifests.container());
    let (pod_spec, security) = (&pod["spec"], &container["securityContext"]);
    // Rights.
    let mut added = texts(&security["capabilities"]["add"]);
    let mut documented = RIGHTS.map(|(name, _)| name);
    added.sort_unstable();
    documented.sort_unstable();
    assert_eq!(
        (added, texts(&security["capabilities"]["drop"])),
        (documented.to_vec(), vec!["ALL"]),
        "{what}"
    );
    for (key, expected) in [
        ("privileged", json!(false)),
        ("allowPrivilegeEscalation", json!(false)),
        ("readOnlyRootFilesystem", json!(true)),
        ("runAsUser", json!(0)),
    ] {
        assert_eq!(security[key], expected, "{what}: {key}");
    }
    assert_eq!(pod_spec["hostPID"], true, "{what}");
    for never in ["hostNetwork", "hostIPC", "hostUsers", "initContainers"] {
        assert!(pod_spec[never].is_null(), "{what}: {never}");
    }
    // Our own list is the agent's alone: the pod's own process makes other calls.
    let profile = |of: &Value| of["seccompProfile"]["type"].as_str().map(str::to_owned);
    let expected = if overlay == "cri-o" { "Unconfined" } else { "RuntimeDefault" };
    assert_eq!(profile(&pod_spec["securityContext"]).as_deref(), Some(expected), "{what}");
    let expected = set.contains(&"seccomp-localhost").then_some("Localhost");
    assert_eq!(profile(security).as_deref(), expected, "{what}");
    let apparmor = &security["appArmorProfile"]["type"];
    assert_eq!(apparmor.is_null(), set.contains(&"before-1.30"), "{what}");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["container.apparmor.security.beta.kubernetes.io/agent"], "unconfined", "{what}");
    // A token where it is asked for, and nowhere else.
    let asks = set.iter().any(|name| name.starts_with("kubernetes-"));
    assert_eq!(pod_spec["automountServiceAccountToken"], asks, "{what}");
    assert_eq!(manifests.object("ServiceAccount")["automountServiceAccountToken"], false, "{what}");
    let roles = manifests.objects.iter().filter(|object| object["kind"] == "ClusterRole").count();
    assert_eq!(roles, usize::from(asks), "{what}");
    // Names and labels.
    let namespace = &manifests.object("Namespace")["metadata"];
    for mode in ["enforce", "audit", "warn"] {
        let label = format!("pod-security.kubernetes.io/{mode}");
        assert_eq!(namespace["labels"][&label], "privileged", "{what}: {label}");
    }
    let selector = &daemonset["spec"]["selector"]["matchLabels"];
    assert_eq!(selector, &pod["metadata"]["labels"], "{what}");
    assert_eq!(selector, &manifests.object("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], "{what}");
    for object in &manifests.objects {
        let (kind, metadata) = (&object["kind"], &object["metadata"]);
        if kind != "ConfigMap" {
            assert_eq!(metadata["labels"]["app.kubernetes.io/name"], "fnscope", "{what}: {kind}");
        }
        let cluster_wide = ["Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"];
        let inside = !cluster_wide.iter().any(|name| kind == name);
        assert_eq!(metadata["namespace"] == namespace["name"], inside, "{what}: {kind}");
    }
    // Its folders.
    let mounts = list(&container["volumeMounts"]);
    let read_only = |mount: &&Value| mount["readOnly"] == true;
    let writable: Vec<_> = mounts.iter().filter(|mount| !read_only(mount)).collect();
    assert!(writable.len() == 1 && writable[0]["mountPath"] == "/var/lib/fnscope", "{what}: {writable:?}");
    for volume in list(&pod_spec["volumes"]) {
        let kind = volume["hostPath"]["type"].as_str();
        // A file would be this very one, and not what takes its place.
        assert!(matches!(kind, None | Some("Directory" | "DirectoryOrCreate")), "{what}: {volume}");
        assert!(mounts.iter().any(|mount| mount["name"] == volume["name"]), "{what}: {volume}");
    }
    let cgroups = mounts.iter().find(|mount| mount["mountPath"] == "/host/cgroup").expect("a mount");
    let with_all_below = cgroups["recursiveReadOnly"] == "IfPossible";
    assert_eq!(with_all_below, !set.contains(&"before-1.30"), "{what}");
    for (host, server) in [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "[2001:db8::7]")] {
        let config = configured(&what, manifests, host);
        if set.contains(&"kubernetes-kubelet") {
            let expected = Ok(format!("https://{server}:10250"));
            assert_eq!(config.kubernetes.server(|_| None), expected, "{what}");
        }
    }
}

/// The configuration of an agent that starts so on a node with the address `host`: it has no fault, and fits what stands
/// beside it.
fn configured(what: &str, manifests: &Manifests, host: &str) -> Config {
    let container = manifests.container();
    // As the kubelet fills them in: a variable that stands above may be used.
    let mut variables: Vec<(String, String)> = Vec::new();
    for variable in list(&container["env"]) {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => "node-7".to_owned(),
            Some("status.hostIP") => host.to_owned(),
            Some(other) => panic!("{what}: what is {other}?"),
            None => variable["value"].as_str().expect("a value").to_owned(),
        };
        let filled =
            variables.iter().fold(value, |text, (name, value)| text.replace(&format!("$({name})"), value));
        assert!(!filled.contains("$("), "{what}: {filled}");
        variables.push((variable["name"].as_str().expect("a name").to_owned(), filled));
    }
    let file = File { path: "/etc/fnscope/fnscope.toml".into(), text: manifests.configuration().to_owned() };
    let layers = Layers { file: Some(file), variables, ..Layers::default() };
    let config = resolve(&layers).unwrap_or_else(|faults| panic!("{what}: {faults}")).config;
    let faults = config.faults();
    assert!(faults.is_empty(), "{what}: {faults:?}");
    assert!(config.store.path.starts_with("/var/lib/fnscope") && config.node.is_some(), "{what}");
    let port = config.listen.health().expect("an address").expect("it listens").port();
    let annotations = &manifests.pod()["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], port.to_string(), "{what}");
    assert_eq!(list(&container["ports"])[0]["containerPort"], port, "{what}");
    let policy = &manifests.object("NetworkPolicy")["spec"];
    assert_eq!(policy["ingress"], json!([{ "ports": [{ "protocol": "TCP", "port": port }] }]), "{what}");
    assert_eq!(texts(&policy["policyTypes"]), ["Ingress", "Egress"], "{what}");
    for (probe, question) in
        [("startupProbe", "--live"), ("livenessProbe", "--live"), ("readinessProbe", "--ready")]
    {
        let command = texts(&container[probe]["exec"]["command"]);
        assert_eq!(command, ["/usr/bin/fnscope", "health", question], "{what}: {probe}");
    }
    // What it may use by its own word is less than what ends it.
    let limit = container["resources"]["limits"]["memory"].as_str().expect("a limit");
    let limit = limit.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok()).expect("MiB") << 20;
    let own = config.budget.memory_bytes().expect("a size").expect("a limit");
    assert!(own + config.ring_budget_bytes as u64 <= limit, "{what}: {limit}");
    assert!(container["resources"]["limits"]["cpu"].is_null(), "{what}: who is throttled loses samples");
    let image = container["image"].as_str();
    assert_eq!(image, Some(concat!("fnscope:", env!("CARGO_PKG_VERSION"))), "{what}");
    config
}

/// A policy sees the port behind the service `kubernetes`, which each distribution has chosen.
#[test]
fn the_api_server_is_reached_at_every_port_it_has() {
    let ports = |component| {
        let manifests = Manifests::of("containerd", &[component]);
        let egress = manifests.object("NetworkPolicy")["spec"]["egress"].clone();
        let ports = list(&egress).iter().flat_map(|rule| list(&rule["ports"]));
        ports.map(|port| port["port"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(ports("kubernetes-apiserver"), [443, 6443, 8443, 16443]);
    assert_eq!(ports("kubernetes-kubelet"), [10250]);
}

#[test]
fn each_runtime_is_asked_where_its_folder_is_mounted() {
    for (overlay, manifests) in overlays_with(&[]) {
        let container = manifests.container();
        let socket = list(&container["env"]).iter().find_map(|variable| {
            variable["name"].as_str()?.starts_with("FNSCOPE_RUNTIMES_").then(|| variable["value"].as_str())?
        });
        let socket = Path::new(socket.unwrap_or_else(|| panic!("{overlay} names a runtime")));
        let runtime = list(&container["volumeMounts"]).iter().find(|mount| mount["name"] == "runtime");
        let folder = runtime.and_then(|mount| mount["mountPath"].as_str());
        assert_eq!(socket.parent(), folder.map(Path::new), "{overlay}");
    }
}

/// The kubelet hands the file to the runtime as it is: containerd reads what an OCI configuration has, CRI-O what Docker has.
/// Both are the same where no rule depends on anything.
#[test]
fn the_profile_for_docker_is_one_for_kubernetes_as_well() {
    let profile: Value = serde_json::from_str(&file("seccomp/agent.json")).expect("JSON");
    for rule in list(&profile["syscalls"]) {
        for condition in ["includes", "excludes"] {
            let empty = rule[condition].as_object().is_none_or(serde_json::Map::is_empty);
            assert!(empty, "containerd would not see this: {rule}");
        }
    }
    assert!(profile["architectures"].is_null(), "CRI-O takes this or archMap");
    let manifests = Manifests::of("containerd", &["seccomp-localhost"]);
    let seccomp = &manifests.pod()["spec"]["containers"][0]["securityContext"]["seccompProfile"];
    let there = format!("/var/lib/kubelet/seccomp/{}", seccomp["localhostProfile"].as_str().expect("a path"));
    assert!(file("deploy/kubernetes/README.md").contains(&there), "{there}");
}

#[test]
fn the_page_tells_of_every_overlay_component_right_and_folder() {
    let page = file("deploy/kubernetes/README.md");
    let row = |begin: &str| page.lines().find(|line| line.starts_with(begin));
    for kind in ["overlays", "components"] {
        for name in names(kind) {
            assert!(row(&format!("| `{kind}/{name}`")).is_some(), "{kind}/{name}");
        }
    }
    let capabilities: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | ").map(|(cell, _)| cell))
        .filter(|cell| cell.len() > 3 && cell.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    assert_eq!(capabilities, RIGHTS.map(|(name, _)| name).into());
    for (overlay, manifests) in overlays_with(&["log-links"]) {
        for volume in list(&manifests.pod()["spec"]["volumes"]) {
            if let Some(path) = volume["hostPath"]["path"].as_str() {
                assert!(page.contains(&format!("`{path}`")), "{overlay}: {path}");
            }
        }
    }
    assert!(Config::default().listen.health.ends_with(":9878") && page.contains("9878"));
}
