//! Every layout of cgroups that a host may have, by fixtures: how it is mounted, where its processes say they are, which
//! of its directories are containers. Trees of plain folders stand for hosts that this one is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::{Cgroups, Version, path_in, place_of};

const FIXTURES: &str = include_str!("../../tests/fixtures/cgroups.json");

/// What stands for what in a fixture.
fn filled(text: &str, root: &Path) -> String {
    let uid = "3c1c2d3e-0000-4111-8222-123456789abc";
    let mut text = text.replace("{root}", &root.display().to_string());
    for (n, name) in ["{a}", "{b}", "{c}", "{d}"].into_iter().enumerate() {
        text = text.replace(name, &format!("{:064x}", 0xabc_def0 + n));
    }
    let uids = [("{uid}", uid.to_owned()), ("{uid_}", uid.replace('-', "_")), ("{static}", "9".repeat(32))];
    uids.iter().fold(text, |text, (name, uid)| text.replace(name, uid))
}

fn strings(value: &Value, root: &Path) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| filled(text.as_str().expect("text"), root)).collect()
}

/// The container at a path: its id, runtime, pod and containerd's namespace.
type Told = (String, Option<String>, Option<String>, Option<String>);

#[test]
fn every_layout_is_mounted_walked_and_told_apart() {
    let fixtures: Value = serde_json::from_str(FIXTURES).expect("the fixtures are JSON");
    let hosts = fixtures["hosts"].as_array().expect("a list");
    assert!(hosts.len() >= 18);
    for host in hosts {
        let folder = tempfile::tempdir().expect("make a folder");
        judge(host, &folder.path().canonicalize().expect("it is there"));
    }
}

fn judge(host: &Value, folder: &Path) {
    let name = &host["name"];
    let cgroups = Cgroups::from_mountinfo(&strings(&host["mountinfo"], folder).join("\n"));
    let cgroups = cgroups.unwrap_or_else(|| panic!("{name}: no hierarchy"));
    let root = filled(host["root"].as_str().expect("text"), folder);
    assert_eq!(
        (cgroups.version(), cgroups.root()),
        (host["version"].as_str().unwrap(), Path::new(&root)),
        "{name}"
    );

    let is_v1 = matches!(cgroups.version, Version::V1 { .. });
    for process in host["processes"].as_array().into_iter().flatten() {
        let text = strings(&process["cgroup"], folder).join("\n");
        let expected = process["path"].as_str().map(|path| filled(path, folder));
        assert_eq!(path_in(&text, is_v1), expected.as_deref(), "{name}");
    }

    let mut expected: BTreeMap<String, Told> = BTreeMap::new();
    for container in host["containers"].as_array().into_iter().flatten() {
        let text = |key: &str| container[key].as_str().map(|text| filled(text, folder));
        let told = (text("id").expect("an id"), text("runtime"), text("pod_uid"), text("namespace"));
        expected.insert(text("path").expect("a path"), told);
    }
    let mut all: BTreeSet<String> = expected.keys().cloned().collect();
    all.extend(strings(&host["others"], folder));
    for path in &all {
        fs::create_dir_all(cgroups.dir(path)).expect("make a cgroup");
    }
    let mut found = BTreeMap::new();
    assert!(cgroups.walk(|_, path| {
        all.remove(path);
        // What is below a container's own cgroup is the container's.
        if let Some(place) = place_of(path).filter(|place| place.path == path) {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let told = (
                place.container.0.to_string(),
                own(place.runtime),
                place.pod_uid.clone(),
                own(place.runtime_namespace),
            );
            found.insert(path.to_owned(), told);
        }
    }));
    assert!(all.is_empty(), "{name}: not walked: {all:?}");
    assert_eq!(found, expected, "{name}");

    for path in expected.keys() {
        // The account lies where this kind of host has it.
        let (file, text) = match is_v1 {
            true => (folder.join("cpu,cpuacct").join(&path[1..]).join("cpuacct.usage"), "7000000\n"),
            false => (cgroups.dir(path).join("cpu.stat"), "usage_usec 7000\nuser_usec 1\n"),
        };
        fs::create_dir_all(file.parent().expect("a folder")).expect("make a cgroup");
        fs::write(&file, text).expect("write an account");
        let account = cgroups.cpu_account(path).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
        assert_eq!(account.read_us().expect("a number"), 7_000, "{name}");
    }
}

#[test]
fn a_path_out_of_our_namespace_is_no_place_of_ours() {
    let id = "a".repeat(64);
    for path in [
        format!("/../docker-{id}.scope"),
        format!("/../../pod1/{id}"),
        format!("/docker/{id}/../x"),
        "/../x".into(),
    ] {
        assert_eq!(place_of(&path), None, "{path}");
    }
}

/// Directories that engines make above a container, and names of a container's own.
fn own() -> impl Strategy<Value = (String, String)> {
    let parents = prop_oneof![
        Just("/docker".to_owned()),
        Just("/system.slice".to_owned()),
        Just("/kubepods/burstable/pod3c1c2d3e-0000-4111-8222-123456789abc".to_owned()),
        Just("/kubepods.slice/kubepods-pod3c1c2d3e_0000_4111_8222_123456789abc.slice".to_owned()),
        "(/[a-z0-9_.@-]{1,20}){1,4}"
            .prop_filter("no way up", |path| !path.split('/').any(|part| part == "..")),
    ];
    let names = prop_oneof![
        Just(("", "")),
        Just(("docker-", ".scope")),
        Just(("cri-containerd-", ".scope")),
        Just(("crio-", ".scope")),
        Just(("crio-", "")),
        Just(("libpod-", ".scope")),
        Just(("libpod-payload-", "")),
    ];
    (parents, names, "[0-9a-f]{64}")
        .prop_map(|(parent, (before, behind), id)| (format!("{parent}/{before}{id}{behind}"), id))
}

proptest! {
    /// Whatever the workload makes below its own cgroup, as long as it is no container's name, belongs to it.
    #[test]
    fn what_is_below_a_container_is_the_containers((path, id) in own(), below in "(/[a-zA-Z0-9_.@:-]{1,30}){0,5}") {
        prop_assume!(!below.split('/').any(|part| part == ".."));
        let whole = format!("{path}{below}");
        let place = place_of(&whole).expect("a container");
        prop_assert_eq!((&*place.container.0, place.path), (&*id, &*path));
    }

    /// A monitor beside the container is never taken for it.
    #[test]
    fn monitors_are_no_containers(id in "[0-9a-f]{64}", which in 0..3usize, end in "(\\.scope)?") {
        let name = ["crio-conmon-", "libpod-conmon-", "x-conmon-"][which];
        let path = format!("/machine.slice/{name}{id}{end}");
        prop_assert_eq!(place_of(&path), None);
    }

    /// Any lines: a hierarchy or none, and its root is one that they name.
    #[test]
    fn any_mountinfo_is_survived(lines in proptest::collection::vec("(\\PC|[0-9 /:-]| - cgroup2? | rw,perf_event|\\\\0[0-7]{2}){0,20}", 0..8)) {
        if let Some(cgroups) = Cgroups::from_mountinfo(&lines.join("\n")) {
            prop_assert!(["v1", "v2", "hybrid"].contains(&cgroups.version()));
        }
    }
}
