//! Containers wherever an engine may put them, for real: private cgroup namespaces, parents of anybody's choice, systemd's
//! slices and scopes, crun's inner cgroup, a container in another's cgroup. This host is hybrid, with perf events on the
//! second version; the rest of what hosts have is in `src/cgroup/layouts.rs`.
//!
//! Where an engine would need what is not here (a systemd, crun), a runtime in front of runc makes the same directories.

use std::fs;
use std::path::Path;

use crate::answers::{number, row};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

/// A runtime that puts a container where `path` says; `$id` is its id.
fn placing(path: &str) -> String {
    format!(
        r#"#!/bin/sh
for word in "$@"; do
    [ "$last" = --bundle ] && bundle=$word
    [ "$word" = create ] && create=yes
    last=$word
done
id=$last
[ -n "$create" ] && sed -i "s|\"cgroupsPath\":\"[^\"]*\"|\"cgroupsPath\":\"{path}\"|" "$bundle/config.json"
exec runc "$@"
"#
    )
}

/// What is made, and stays when its containers are gone; the innermost first.
const LEFT: [&str; 7] = [
    "/fnscope-test.slice/fnscope-test-a.slice",
    "/fnscope-test.slice",
    "/fnscope-kubepods.slice/fnscope-kubepods-burstable.slice",
    "/fnscope-kubepods.slice",
    "/fnscope-tenants/t1",
    "/fnscope-tenants",
    "/fnscope-machine.slice",
];

/// Removes what is left, in every hierarchy.
struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let all = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in all.chain([root.to_owned()]) {
            // Pods and scopes lie below; what is populated stays, and shows.
            for path in LEFT {
                let dir = hierarchy.join(path.trim_start_matches('/'));
                for child in fs::read_dir(&dir).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(child.path());
                }
                let _ = fs::remove_dir(dir);
            }
        }
    }
}

#[test]
fn containers_are_found_wherever_they_are_put() {
    let _leftovers = Leftovers;
    let scope_path = placing("/fnscope-test.slice/fnscope-test-a.slice/docker-$id.scope");
    let uid = "3c1c2d3e_0000_4111_8222_123456789abc";
    let pod = placing(&format!(
        "/fnscope-kubepods.slice/fnscope-kubepods-burstable.slice/fnscope-kubepods-burstable-pod{uid}.slice/docker-$id.scope"
    ));
    let inner = placing("/fnscope-machine.slice/docker-$id.scope/container");
    let runtimes = [("scopes", scope_path.as_str()), ("slices", &pod), ("inner", &inner)];
    let (docker, scope) = (PrivateDocker::with_runtimes(&runtimes), Fnscope::new());
    let outer = docker.start_function(&["--label=fnscope.function=outer"], &["idle"]);
    let nested = format!("--cgroup-parent=/docker/{outer}");
    let places: [(&str, &[&str]); 6] = [
        ("private-namespace", &["--cgroupns=private"]),
        ("two-plain-names", &["--cgroup-parent=/fnscope-tenants/t1"]),
        ("in-a-scope", &["--runtime=scopes"]),
        ("in-slices", &["--runtime=slices", "--cgroupns=private"]),
        ("inner-cgroup", &["--runtime=inner"]),
        ("in-anothers", &[&nested]),
    ];
    let start = |name: &str, options: &[&str]| {
        let label = format!("--label=fnscope.function={name}");
        docker.start_function(&[&[label.as_str()], options].concat(), &["burn", "--cpu-ms", "900000"])
    };
    // Those that run when the agent comes, and those that it sees begin.
    // All at once, so each has a share that leaves the agent some.
    let found: Vec<String> = places
        .iter()
        .map(|(name, options)| start(&format!("found-{name}"), &[options, &["--cpus=0.1"][..]].concat()))
        .collect();
    let agent = scope.docker_agent(&docker.socket(), &[]);
    for (id, (name, _)) in found.iter().zip(places) {
        poll(&format!("samples of found-{name}"), || {
            let rows = scope.instances(&["--instance", id]);
            (rows.iter().map(|row| number(row, "samples")).sum::<f64>() > 20.0).then_some(())
        });
        docker.docker(&["rm", "--force", id]);
    }
    for (name, options) in places {
        let label = format!("--label=fnscope.function=born-{name}");
        let (code, _) =
            docker.run_function(&[&[label.as_str()], options].concat(), &["burn", "--cpu-ms", "300"]);
        assert_eq!(code, 0, "{name}");
    }
    docker.docker(&["rm", "--force", &outer]);
    let expected = 2 * places.len() + 1;
    poll("all of them", || (scope.instances(&[]).len() == expected).then_some(()));
    agent.stop_in_order();
    let functions = scope.rows(&["ls"]);
    for (name, _) in places {
        let born = row(&functions, &format!("born-{name}"));
        assert_eq!(number(born, "instances"), 1.0, "{born:#}");
        assert!((0.85..1.15).contains(&number(born, "coverage")), "{born:#}");
        let found = row(&functions, &format!("found-{name}"));
        assert!(number(found, "instances") == 1.0 && number(found, "samples") > 20.0, "{found:#}");
    }
    // What ran in its cgroup is not its own.
    let outer = row(&functions, "outer");
    assert!(number(outer, "samples") < 20.0, "{outer:#}");
}
