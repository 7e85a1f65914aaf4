//! deploy/kubernetes, run: the DaemonSet's own pod, as `kubectl kustomize` prints it, started through the CRI as the kubelet
//! does, with the image that `make image` makes. It profiles function pods beside it, and says what it misses where a right is
//! taken away.
//!
//! What a cluster would do and this does not: a network of the pod's own, the pod's cgroup with limits of its own, AppArmor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::answers::{assert_covered, text};
use crate::in_container::{RIGHTS, assert_confined, pack, tag};
use crate::kubelet::{Node, Template};
use crate::manifests::Manifests;
use crate::private_containerd::pods::{Pod, PodSpec, Pods, new_uid};
use crate::private_containerd::{PODS_NAMESPACE, PrivateContainerd, cri};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

/// A node with a containerd, on which the image is.
struct Cluster {
    containerd: PrivateContainerd,
    /// What the manifests know as /var/lib/fnscope, and the kubelet's own folder.
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster {
            containerd: PrivateContainerd::running(),
            dir: tempfile::tempdir().expect("make a folder"),
        };
        let archive = cluster.dir.path().join("fnscope.tar");
        let docker = PrivateDocker::running();
        pack(&["image", "dev"], Some(&docker));
        docker.docker(&["save", "--output", archive.to_str().expect("a plain path"), &tag()]);
        drop(docker);
        cluster.containerd.import(PODS_NAMESPACE, &archive);
        fs::remove_file(archive).expect("remove it");
        cluster
    }

    fn node(&self) -> Node {
        Node {
            name: "node-7",
            folders: vec![("/run/containerd", self.containerd.path("")), ("/var/lib/fnscope", self.lib())],
            kubelet: self.dir.path().join("kubelet"),
        }
    }

    fn lib(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    /// The agent's store, asked from the node.
    fn scope(&self) -> Fnscope {
        Fnscope::on(self.lib().join("store"))
    }
}

/// The agent's pod.
struct Agent<'a> {
    cluster: &'a Cluster,
    pods: &'a Pods<'a>,
    pod: Pod,
    container: String,
}

impl<'a> Agent<'a> {
    /// Started from `template`, with the files of `manifests`.
    fn start(cluster: &'a Cluster, pods: &'a Pods<'a>, manifests: &Manifests, template: &Value) -> Agent<'a> {
        let (node, uid) = (cluster.node(), new_uid());
        let name = format!("fnscope-agent-{}", &uid[..5]);
        let files = &manifests.object("ConfigMap")["data"];
        let template = Template { template, files, name: &name, namespace: "fnscope", uid: &uid };
        let parent = cluster.containerd.pod_parent(&uid, "");
        let logs = cluster.containerd.path("logs").join(&uid);
        let pod = pods.run_sandbox(template.sandbox(&node, &parent, &logs), "");
        let container = pods.create_container(&pod, template.container(&node));
        pods.start(&container);
        Agent { cluster, pods, pod, container }
    }

    /// What it has written to its log, whole lines as the runtime keeps them.
    fn said(&self) -> String {
        let log = self.cluster.containerd.path("logs").join(&self.pod.uid).join("agent.log");
        let log = fs::read_to_string(log).unwrap_or_default();
        log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|text| format!("{text}\n")).collect()
    }

    /// Runs a command in it.
    fn exec(&self, command: &[&str]) -> Output {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("exec-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let arguments = [&["tasks", "exec", "--exec-id", &id, &self.container], command].concat();
        self.cluster.containerd.try_ctr(PODS_NAMESPACE, &arguments)
    }

    /// Waits until its probes are content, in the order in which the kubelet asks them.
    fn wait_until_ready(&self, manifests: &Manifests) {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let command = manifests.container()[probe]["exec"]["command"].as_array().expect("a command");
            let command: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
            poll(probe, || {
                assert!(self.ended().is_none(), "{}", self.said());
                self.exec(&command).status.success().then_some(())
            });
        }
    }

    /// Its exit status, if it has ended.
    fn ended(&self) -> Option<i32> {
        let status = self.pods.status(&self.container).status.expect("a status");
        (status.state() == cri::ContainerState::ContainerExited).then_some(status.exit_code)
    }

    /// Waits for its end by itself; its exit status and what it said.
    fn wait(&self) -> (i32, String) {
        (poll("its end", || self.ended()), self.said())
    }

    /// Ends it as the kubelet does, within its grace period; it must end in order.
    fn stop(self) -> String {
        let pid =
            rustix::process::Pid::from_raw(self.pods.pid(&self.container).cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, Signal::TERM).expect("signal it");
        let (code, said) = self.wait();
        assert!(code == 0 && said.contains("stopped"), "{code}: {said}");
        self.remove();
        said
    }

    fn remove(self) {
        self.pods.remove(&self.pod);
    }
}

/// A function's pod, from its making to its removal.
fn run_function(pods: &Pods, function: &str, arguments: &[&str]) {
    let name = format!("{function}-5d9f7c-{}", &new_uid()[..5]);
    let labels = [("faas_function", function)];
    let spec = PodSpec { name: &name, namespace: "openfaas-fn", labels: &labels, ..PodSpec::default() };
    let pod = pods.run(&spec);
    let id = pods.create(&pod, function, &[], arguments);
    pods.start(&id);
    pods.wait(&pod, &id, function);
    pods.remove(&pod);
}

/// Starts the agent, runs functions beside it, ends it, and looks at what it has stored.
fn assert_profiles(cluster: &Cluster, pods: &Pods, components: &[&str]) {
    let _ = fs::remove_dir_all(cluster.lib());
    let manifests = Manifests::of("containerd", components);
    let mut template = manifests.pod().clone();
    faster(&mut template);
    let agent = Agent::start(cluster, pods, &manifests, &template);
    agent.wait_until_ready(&manifests);
    assert_confined(pods.pid(&agent.container), &RIGHTS);
    for _ in 0..5 {
        run_function(pods, "fib", &["fib", "--cpu-ms", "100"]);
        run_function(pods, "burn", &["burn", "--cpu-ms", "50"]);
    }
    let scope = cluster.scope();
    let ended = |row: &&Value| !row["ended_at"].is_null();
    poll("their ends", || (scope.instances(&[]).iter().filter(ended).count() == 10).then_some(()));
    let doctor = agent.exec(&["/usr/bin/fnscope", "doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && !said.contains("FAIL"), "{said}");
    // Asked in the pod, as with kubectl exec.
    let top = agent.exec(&["/usr/bin/fnscope", "top", "fib", "--json"]);
    let top: Vec<Value> = serde_json::from_slice(&top.stdout).expect("JSON");
    assert_eq!(text(&top[0], "frame"), "function::fibonacci");
    let used = memory_used(pods.pid(&agent.container));
    agent.stop();
    let limit = 384 << 20;
    assert!(used < limit, "{used} bytes, its limit is {limit}");
    let rows = scope.instances(&["--host", "node-7"]);
    assert_eq!(rows.len(), 10, "{rows:#?}");
    for row in &rows {
        let names = ["platform", "namespace"].map(|key| text(row, key));
        assert_eq!(names, ["openfaas", "openfaas-fn"], "{row:#}");
        assert_covered(row);
    }
    assert!(scope.folded("fib").contains("[kernel]_[k]"), "kernel functions have names");
}

/// 997 Hz: enough samples of a short life. The program is not optimised, and would be over its budget.
fn faster(template: &mut Value) {
    let env = template["spec"]["containers"][0]["env"].as_array_mut().expect("variables");
    for (name, value) in [("FNSCOPE_HZ", "997"), ("FNSCOPE_BUDGET_CPU", "0")] {
        env.push(json!({ "name": name, "value": value }));
    }
}

/// Memory that the cgroup of `pid` is charged with.
fn memory_used(pid: u32) -> u64 {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = |controller: &str| {
        let line = cgroups
            .lines()
            .find_map(|line| line.split_once(':')?.1.strip_prefix(controller)?.strip_prefix(':'));
        line.map(|path| path.trim_start_matches('/').to_owned())
    };
    let file = match path("memory") {
        Some(path) => Path::new("/sys/fs/cgroup/memory").join(path).join("memory.usage_in_bytes"),
        None => Path::new("/sys/fs/cgroup").join(path("").expect("a cgroup")).join("memory.current"),
    };
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    text.trim().parse().expect("a number")
}

/// One test, because a node with the image costs more than what is done on it.
#[test]
fn the_pod_of_the_daemonset_profiles_pods_and_tells_each_right_that_is_taken_away() {
    let cluster = Cluster::new();
    let pods = cluster.containerd.pods();
    profiles_pods_beside_it(&cluster, &pods);
    each_right_that_is_taken_away_is_told(&cluster, &pods);
}

fn profiles_pods_beside_it(cluster: &Cluster, pods: &Pods) {
    assert_profiles(cluster, pods, &[]);
    let profile = cluster.node().kubelet.join("seccomp/fnscope/agent.json");
    fs::create_dir_all(profile.parent().expect("a folder")).expect("make a folder");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/seccomp/agent.json"), profile).expect("copy a file");
    assert_profiles(cluster, pods, &["seccomp-localhost"]);
}

fn each_right_that_is_taken_away_is_told(cluster: &Cluster, pods: &Pods) {
    let manifests = Manifests::of("containerd", &[]);
    for (capability, doctor, says) in [
        ("SYS_PTRACE", "FAIL", "functions of other users have no names"),
        ("CHECKPOINT_RESTORE", "warn", "replaced while they ran have no names"),
        ("DAC_READ_SEARCH", "FAIL", "only their owner may read have no names"),
        ("SYSLOG", "warn", "kernel code shows as [kernel]"),
    ] {
        let template = without(&manifests, capability);
        let agent = Agent::start(cluster, pods, &manifests, &template);
        agent.wait_until_ready(&manifests);
        let said = agent.said();
        let warned =
            |line: &str| line.contains(&format!("CAP_{capability} is missing")) && line.contains(says);
        assert!(said.lines().any(|line| warned(line) && line.contains("WARN")), "{capability}: {said}");
        let told = agent.exec(&["/usr/bin/fnscope", "doctor"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_told(&told, &format!("{doctor}  CAP_{capability}: missing: "), says);
        assert!(told.contains(&format!("capabilities.add: [{capability}] (Kubernetes)")), "{told}");
        // Nothing worse: it records and ends in order.
        agent.stop();
    }
    for (capability, says) in [("PERFMON", "CAP_PERFMON"), ("IPC_LOCK", "CAP_IPC_LOCK")] {
        let template = without(&manifests, capability);
        assert_refused(cluster, pods, &manifests, &template, says, "FAIL  perf events: ", says);
    }
    let mut template = manifests.pod().clone();
    template["spec"]["hostPID"] = json!(false);
    let told = doctor(cluster, pods, &manifests, &template);
    assert_told(&told, "FAIL  pid namespace: ", "every process id in a sample would be 0");
    assert!(told.contains("hostPID: true (Kubernetes)"), "{told}");

    let mut template = manifests.pod().clone();
    template["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1000);
    let told = doctor(cluster, pods, &manifests, &template);
    assert_told(&told, "FAIL  user: ", "uid 1000");

    let mut template = manifests.pod().clone();
    let mounts = template["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["mountPath"] != "/host/cgroup");
    let (agent, finding) = ("no cgroup2 and no v1 perf_event hierarchy is mounted", "FAIL  cgroups: ");
    assert_refused(cluster, pods, &manifests, &template, agent, finding, agent);
}

/// The pod's template without one capability.
fn without(manifests: &Manifests, capability: &str) -> Value {
    let mut template = manifests.pod().clone();
    let security = &mut template["spec"]["containers"][0]["securityContext"];
    let added = security["capabilities"]["add"].as_array_mut().expect("a list");
    let before = added.len();
    added.retain(|name| name != capability);
    assert_eq!(added.len(), before - 1, "{capability}");
    template
}

/// The agent ends with 2 and says why on its last line, as `kubectl describe` shows it; `doctor` says it beforehand.
fn assert_refused(
    cluster: &Cluster,
    pods: &Pods,
    manifests: &Manifests,
    template: &Value,
    agent: &str,
    finding: &str,
    says: &str,
) {
    let _ = fs::remove_dir_all(cluster.lib());
    let running = Agent::start(cluster, pods, manifests, template);
    let (code, said) = running.wait();
    running.remove();
    let last = said.lines().last().unwrap_or_default();
    assert!(code == 2 && last.contains(agent), "{code}: {said}");
    assert!(!cluster.lib().join("store").exists(), "no store is left behind");
    assert_told(&doctor(cluster, pods, manifests, template), finding, says);
}

/// What `fnscope doctor` says in such a pod.
fn doctor(cluster: &Cluster, pods: &Pods, manifests: &Manifests, template: &Value) -> String {
    let mut template = template.clone();
    template["spec"]["containers"][0]["args"] = json!(["doctor"]);
    let running = Agent::start(cluster, pods, manifests, &template);
    let (code, said) = running.wait();
    running.remove();
    assert_eq!(code, 1, "{said}");
    said
}

/// A line of `told` begins with `finding`, and it or the next one, which is how to mend it, says `says`.
fn assert_told(told: &str, finding: &str, says: &str) {
    let mut found = told.lines().skip_while(|line| !line.starts_with(finding));
    let (line, mend) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
    assert!(line.contains(says) || mend.contains(says), "{finding}…{says} in {told}");
    assert!(mend.starts_with("      to mend it: "), "{told}");
}
