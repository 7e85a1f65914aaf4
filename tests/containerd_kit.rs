//! The private containerd itself: what tests on it rely on.

use std::fs;
use std::path::Path;

use crate::private_containerd::pods::PodSpec;
use crate::private_containerd::{PrivateContainerd, handlers};
use crate::support::poll;

/// The paths that process `pid` has in the hierarchies of cgroups.
fn cgroup2_path(pid: u32) -> String {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let line = lines.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("no cgroup of version 2 in {lines}")).to_owned()
}

/// Whether anything on this machine still tells of `dir`: a mount, or the command line of a process.
fn is_told_of(dir: &Path) -> bool {
    let dir = dir.to_str().expect("a plain path");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let processes = fs::read_dir("/proc").expect("list processes").flatten();
    let mut lines = processes.map(|process| fs::read(process.path().join("cmdline")).unwrap_or_default());
    mounts.contains(dir) || lines.any(|line| String::from_utf8_lossy(&line).contains(dir))
}

#[test]
fn plain_containers_outlive_their_daemon_and_nothing_outlives_the_kit() {
    const NAMESPACE: &str = "functions";
    let mut containerd = PrivateContainerd::new();
    containerd.start();
    containerd.import_function(NAMESPACE);
    let truth = containerd.run_plain(NAMESPACE, "short", &["--env", "A=1"], &["burn", "--cpu-ms", "30"]);
    assert!(truth["cpu_ms"].as_f64() >= Some(30.0), "{truth}");
    containerd.start_plain(NAMESPACE, "long", &["--label", "a=b"], &["idle"]);
    let pid = containerd.pid(NAMESPACE, "long");
    let path = cgroup2_path(pid);
    assert_eq!(path, "/functions/long");
    containerd.restart();
    assert_eq!(containerd.pid(NAMESPACE, "long"), pid, "the same process, found again");
    containerd.kill();
    let dir = containerd.path("");
    drop(containerd);
    assert!(!is_told_of(&dir), "{} is mounted or served", dir.display());
    assert!(!dir.exists() && !Path::new("/sys/fs/cgroup/unified/functions").exists());
    poll("the end of its process", || (!Path::new(&format!("/proc/{pid}/root")).exists()).then_some(()));
}

#[test]
fn pods_lie_where_a_nodes_do_and_end_with_the_kit() {
    let containerd = PrivateContainerd::running();
    let pods = containerd.pods();
    let spec = PodSpec { name: "hello-1", namespace: "openfaas-fn", ..PodSpec::default() };
    let (_, ended) = pods.run_function(&spec, &["burn", "--cpu-ms", "30"]);
    assert!(ended.truth["cpu_ms"].as_f64() >= Some(30.0), "{}", ended.truth);

    let own_namespace = fs::read_link("/proc/self/ns/cgroup").expect("our own namespace");
    for handler in ["", handlers::SLICES, handlers::CGROUP_NAMESPACES] {
        let pod = pods.run(&PodSpec { handler, ..spec });
        let id = pods.create(&pod, "function", &[("KEY", "value")], &["idle"]);
        pods.start(&id);
        let pid = pods.pid(&id);
        let uid = &pod.uid;
        let expected = match handler {
            handlers::SLICES => format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
                uid.replace('-', "_")
            ),
            _ => format!("/kubepods/burstable/pod{uid}/{id}"),
        };
        assert_eq!(cgroup2_path(pid), expected, "{handler}");
        let namespace = fs::read_link(format!("/proc/{pid}/ns/cgroup")).expect("its namespace");
        assert_eq!(namespace == own_namespace, handler != handlers::CGROUP_NAMESPACES, "{handler}");
    }
    let dir = containerd.path("");
    drop(pods);
    drop(containerd);
    assert!(!is_told_of(&dir) && !dir.exists(), "{} is left", dir.display());
    for hierarchy in ["unified", "memory", "cpu"] {
        for root in ["kubepods", "kubepods.slice"] {
            let left = Path::new("/sys/fs/cgroup").join(hierarchy).join(root);
            assert!(!left.exists(), "{} is left", left.display());
        }
    }
}
