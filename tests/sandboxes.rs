//! Functions behind a kernel of their own: listed, with the reason why nothing is seen of them, and never with a profile.
//!
//! No gVisor and no virtual machine runs here. What the agent goes by is the handler's name, so `runc` stands behind those
//! names: everything of the way is real but what the sandbox would do. As Kata does, one of them leaves a container
//! without a cgroup of its own.

use std::fs;

use serde_json::{Value, json};

use crate::answers::{number, row, text, walk};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

/// A pod's containers are in its virtual machine, whose cgroup carries the sandbox's name and no container's.
const KATA: &str = r#"#!/bin/sh
for word in "$@"; do
    [ "$last" = --bundle ] && bundle=$word
    [ "$word" = create ] && create=yes
    last=$word
done
[ -n "$create" ] && sed -i "s|\"cgroupsPath\":\"[^\"]*\"|\"cgroupsPath\":\"/kata_$last\"|" "$bundle/config.json"
exec runc "$@"
"#;

fn function(name: &str, runtime: &str) -> [String; 2] {
    [format!("--label=fnscope.function={name}"), format!("--runtime={runtime}")]
}

/// What must be so of `ls` and `instances`, in the journal as in sealed hours.
fn judge(scope: &Fnscope) {
    let functions = scope.rows(&["ls"]);
    for (name, of, in_all) in
        [("gv", "gvisor", 1), ("old", "gvisor", 1), ("renamed", "gvisor", 1), ("vm", "kata", 1)]
    {
        let told = row(&functions, name);
        let expected = (&json!([of]), &json!(in_all), &json!(0), &Value::Null, &json!(0));
        let found =
            (&told["unseen"], &told["unseen_instances"], &told["samples"], &told["coverage"], &told["lost"]);
        assert_eq!(found, expected, "{told:#}");
    }
    let seen = row(&functions, "seen");
    assert!(number(seen, "samples") > 20.0 && number(seen, "coverage") > 0.8, "{seen:#}");
    assert_eq!((&seen["unseen"], &seen["unseen_instances"]), (&json!([]), &json!(0)), "{seen:#}");
    let mixed = row(&functions, "mixed");
    assert_eq!((&mixed["instances"], &mixed["unseen_instances"]), (&json!(2), &json!(1)), "{mixed:#}");
    assert!(number(mixed, "samples") > 20.0 && number(mixed, "coverage") > 0.8, "{mixed:#}");

    let instances = scope.instances(&[]);
    for name in ["gv", "old", "renamed"] {
        let told = row(&instances, name);
        assert_eq!((&told["unseen"], &told["samples"]), (&json!("gvisor"), &json!(0)), "{told:#}");
        assert!(text(told, "unseen_why").contains("sentry") && told["exec_at"].is_null(), "{told:#}");
        // What it costs is known all the same.
        assert!(number(told, "cpu_seconds") > 0.2, "{told:#}");
    }
    let vm = row(&instances, "vm");
    assert_eq!((text(vm, "unseen"), text(vm, "runtime_handler")), ("kata", "kata"), "{vm:#}");
    assert!(vm["cpu_seconds"].is_null() && vm["ended_at"].is_string(), "{vm:#}");
    assert_eq!(vm["exit_code"], 0, "{vm:#}");
    assert_eq!(row(&instances, "seen")["unseen"], Value::Null);

    let listed = scope.run(["ls"]);
    assert!(listed.stdout.contains("unseen") && listed.stderr.contains("gVisor"), "{listed:?}");
    for (name, words) in
        [("gv", "gVisor (handler runsc)"), ("vm", "Kata Containers"), ("renamed", "(handler plain)")]
    {
        for question in ["top", "flame", "folded", "doctor"] {
            let answer = scope.run([question, name]);
            assert!(answer.code == Some(1) && answer.stdout.is_empty(), "{question} {name}: {answer:?}");
            assert!(answer.stderr.contains(words) && answer.stderr.contains("--runtime runc"), "{answer:?}");
        }
    }
    let mixed = scope.run(["top", "mixed"]);
    assert!(mixed.code == Some(0) && mixed.stderr.contains("1 of 2 instances runs in gVisor"), "{mixed:?}");
}

#[test]
fn functions_in_sandboxes_are_listed_with_the_reason_and_have_no_profile() {
    let runtimes = [("runsc", "runc"), ("kata", KATA), ("plain", "runc"), ("kata-lookalike", "runc")];
    let (docker, scope) = (PrivateDocker::with_runtimes(&runtimes), Fnscope::new());
    let config = docker.path("fnscope.toml");
    fs::write(&config, "[isolation.handlers]\nplain = \"gvisor\"\nkata-lookalike = \"none\"\n")
        .expect("write a file");
    let old = function("old", "runsc");
    let old = docker.start_function(&[&old[0], &old[1]], &["burn", "--cpu-ms", "900000"]);
    let agent = scope.docker_agent(&docker.socket(), &["--config", config.to_str().expect("a plain path")]);
    let run = |name, runtime| {
        let options = function(name, runtime);
        let (code, id) = docker.run_function(&[&options[0], &options[1]], &["burn", "--cpu-ms", "300"]);
        assert_eq!(code, 0, "{name}");
        id
    };
    for (name, runtime) in [
        ("gv", "runsc"),
        ("renamed", "plain"),
        ("vm", "kata"),
        ("seen", "kata-lookalike"),
        ("mixed", "runc"),
        ("mixed", "runsc"),
    ] {
        run(name, runtime);
    }
    docker.docker(&["rm", "--force", &old]);
    poll("all of them", || (scope.instances(&[]).len() == 7).then_some(()));
    let told = agent.stop_in_order();
    assert!(!told.contains("ERROR"), "{told}");
    judge(&scope);
    let sealed = walk(&scope.store().join("journal")).iter().all(|path| !path.ends_with(".jnl"));
    assert!(sealed, "all is sealed");
    let folded = walk(&scope.store().join("folded"));
    let of = |name: &str| folded.iter().any(|path| path.contains(&format!("/{name}/")));
    assert!(of("seen") && !of("gv") && !of("vm") && !of("renamed"), "{folded:?}");
}
