//! What a kubelet makes of a pod template before it calls the CRI: its volumes, its variables, its rights.
//!
//! Written after the kubelet's own documents and the calls of a real one. Not here: networks (there is no CNI, so the pod has
//! the host's), the pod's own cgroup, probes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::private_containerd::cri;

/// What the kubelet hides of /proc and /sys, and what it makes read-only.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A node: where its folders are on this machine.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Folders of the manifests that are somewhere else here.
    pub folders: Vec<(&'static str, PathBuf)>,
    /// Where the kubelet keeps seccomp profiles, and what it mounts of its own.
    pub kubelet: PathBuf,
}

/// A pod of a template.
#[derive(Debug, Clone)]
pub struct Template<'a> {
    /// The template.
    pub template: &'a Value,
    /// The ConfigMap that it mounts.
    pub files: &'a Value,
    /// Its name and namespace.
    pub name: &'a str,
    pub namespace: &'a str,
    /// Its uid.
    pub uid: &'a str,
}

impl Template<'_> {
    /// What the sandbox is asked for.
    pub fn sandbox(&self, node: &Node, parent: &str, logs: &Path) -> cri::PodSandboxConfig {
        let spec = &self.template["spec"];
        let mut labels = strings(&self.template["metadata"]["labels"]);
        labels.extend(self.own_labels());
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: self.name.into(),
                uid: self.uid.into(),
                namespace: self.namespace.into(),
                attempt: 0,
            }),
            log_directory: logs.display().to_string(),
            labels,
            annotations: strings(&self.template["metadata"]["annotations"]),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: parent.into(),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(spec)),
                    seccomp: Some(node.seccomp(&spec["securityContext"])),
                    ..cri::LinuxSandboxSecurityContext::default()
                }),
                ..cri::LinuxPodSandboxConfig::default()
            }),
            ..cri::PodSandboxConfig::default()
        }
    }

    /// What its one container is asked for.
    pub fn container(&self, node: &Node) -> cri::ContainerConfig {
        let spec = &self.template["spec"];
        let container = &spec["containers"][0];
        let name = text(&container["name"]);
        let security = &container["securityContext"];
        let number = |key: &str| security[key].as_i64().map(|value| cri::Int64Value { value });
        let words = |value: &Value| list(value).iter().map(text).collect::<Vec<_>>();
        let limits = &container["resources"]["limits"];
        let requests = &container["resources"]["requests"];
        let mut labels = self.own_labels();
        labels.insert("io.kubernetes.container.name".into(), name.clone());
        let unconfined = cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::Unconfined.into(),
            localhost_ref: String::new(),
        };
        assert_eq!(security["appArmorProfile"]["type"], "Unconfined");
        // A container's own profile goes over its pod's.
        let of_pod = &spec["securityContext"];
        let of_container = if security["seccompProfile"].is_null() { of_pod } else { security };
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.clone(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: text(&container["image"]), ..cri::ImageSpec::default() }),
            command: words(&container["command"]),
            args: words(&container["args"]),
            envs: list(&container["env"]).iter().map(|variable| node.variable(variable)).collect(),
            mounts: self.mounts(node),
            labels,
            log_path: format!("{name}.log"),
            linux: Some(cri::LinuxContainerConfig {
                resources: Some(cri::LinuxContainerResources {
                    cpu_shares: thousandths(&requests["cpu"]) * 1024 / 1000,
                    memory_limit_in_bytes: bytes(&limits["memory"]),
                    oom_score_adj: (1000 - 1000 * bytes(&requests["memory"]) / memory_of_machine())
                        .clamp(3, 999),
                    ..cri::LinuxContainerResources::default()
                }),
                security_context: Some(cri::LinuxContainerSecurityContext {
                    capabilities: Some(cri::Capability {
                        add_capabilities: words(&security["capabilities"]["add"]),
                        drop_capabilities: words(&security["capabilities"]["drop"]),
                        ..cri::Capability::default()
                    }),
                    privileged: security["privileged"] == true,
                    namespace_options: Some(namespaces(spec)),
                    run_as_user: number("runAsUser"),
                    run_as_group: number("runAsGroup"),
                    readonly_rootfs: security["readOnlyRootFilesystem"] == true,
                    no_new_privs: security["allowPrivilegeEscalation"] == false,
                    masked_paths: MASKED.map(String::from).to_vec(),
                    readonly_paths: READ_ONLY.map(String::from).to_vec(),
                    seccomp: Some(node.seccomp(of_container)),
                    apparmor: Some(unconfined),
                    ..cri::LinuxContainerSecurityContext::default()
                }),
            }),
            ..cri::ContainerConfig::default()
        }
    }

    fn own_labels(&self) -> HashMap<String, String> {
        let of_pod = [
            ("io.kubernetes.pod.name", self.name),
            ("io.kubernetes.pod.namespace", self.namespace),
            ("io.kubernetes.pod.uid", self.uid),
        ];
        of_pod.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    /// Its volumes, where it mounts them, and what the kubelet mounts unasked.
    fn mounts(&self, node: &Node) -> Vec<cri::Mount> {
        let spec = &self.template["spec"];
        let container = &spec["containers"][0];
        let pod = node.kubelet.join("pods").join(self.uid);
        let mut mounts = Vec::new();
        for mount in list(&container["volumeMounts"]) {
            let volume = list(&spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume {mount}"));
            let host = if volume["configMap"].is_null() {
                node.folder(&volume["hostPath"])
            } else {
                config_map(&pod.join(text(&volume["name"])), self.files)
            };
            mounts.push(cri::Mount {
                container_path: text(&mount["mountPath"]),
                host_path: host.display().to_string(),
                readonly: mount["readOnly"] == true,
                ..cri::Mount::default()
            });
        }
        let log = pod.join("termination-log");
        fs::create_dir_all(&pod).and_then(|()| fs::write(&log, "")).expect("write a file");
        mounts.push(cri::Mount {
            container_path: "/dev/termination-log".into(),
            host_path: log.display().to_string(),
            ..cri::Mount::default()
        });
        mounts
    }
}

impl Node {
    fn variable(&self, variable: &Value) -> cri::KeyValue {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => self.name.to_owned(),
            Some(other) => panic!("what is {other}?"),
            None => text(&variable["value"]),
        };
        cri::KeyValue { key: text(&variable["name"]), value }
    }

    /// A folder of the node; made, where the kubelet does.
    fn folder(&self, volume: &Value) -> PathBuf {
        let path = text(&volume["path"]);
        let elsewhere = self.folders.iter().find(|(name, _)| *name == path);
        let host = elsewhere.map_or_else(|| PathBuf::from(&path), |(_, host)| host.clone());
        if volume["type"] == "DirectoryOrCreate" && !host.exists() {
            fs::create_dir_all(&host).expect("make a folder");
        }
        assert!(host.is_dir(), "the kubelet would not start it without {}", host.display());
        host
    }

    fn seccomp(&self, security: &Value) -> cri::SecurityProfile {
        use cri::security_profile::ProfileType;
        let profile = &security["seccompProfile"];
        let (kind, localhost_ref) = match profile["type"].as_str() {
            Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
            Some("Localhost") => {
                let file = self.kubelet.join("seccomp").join(text(&profile["localhostProfile"]));
                (ProfileType::Localhost, file.display().to_string())
            }
            _ => (ProfileType::Unconfined, String::new()),
        };
        cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
    }
}

/// A folder of a ConfigMap's files, as the kubelet lays it out: links into a folder that can be exchanged.
fn config_map(folder: &Path, files: &Value) -> PathBuf {
    fs::create_dir_all(folder.join("..data")).expect("make a folder");
    for (name, content) in files.as_object().expect("files by name") {
        fs::write(folder.join("..data").join(name), text(content)).expect("write a file");
        let link = folder.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).expect("make a link");
        }
    }
    folder.to_owned()
}

fn namespaces(spec: &Value) -> cri::NamespaceOption {
    let shared = spec["hostPID"] == true;
    let pid = if shared { cri::NamespaceMode::Node } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        pid: pid.into(),
        ..cri::NamespaceOption::default()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn strings(value: &Value) -> HashMap<String, String> {
    let pairs = value.as_object().expect("names and values");
    pairs.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn bytes(quantity: &Value) -> i64 {
    let quantity = text(quantity);
    let number = quantity.strip_suffix("Mi").and_then(|number| number.parse::<i64>().ok());
    number.unwrap_or_else(|| panic!("{quantity} in MiB")) << 20
}

fn thousandths(quantity: &Value) -> i64 {
    let quantity = text(quantity);
    let number = quantity.strip_suffix('m').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{quantity} in thousandths"))
}

fn memory_of_machine() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").expect("read it");
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<i64>().ok()).expect("MemTotal") << 10
}
