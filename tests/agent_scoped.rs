//! Events that the kernel scopes by cgroups: `attach = "per-cgroup"`.

use serde_json::Value;

use crate::answers::{assert_covered, number, row};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

/// An agent with `config` to which the children of `parent` are containers.
fn agent(scope: &Fnscope, parent: &Cgroup, config: &str) -> Running {
    let folder = scope.store().parent().expect("it lies in a folder");
    let file = folder.join("fnscope.toml");
    std::fs::write(&file, config).expect("write a configuration");
    let file = file.to_str().expect("a plain path");
    let parent = parent.kernel_path();
    scope.agent(&["--config", file, "--no-docker", "--hz", "997", "--cgroup-parent", &parent])
}

fn run(function: &Function, cgroup: &Cgroup, arguments: &[&str]) {
    let (code, said) = Running::start(&mut cgroup.command(function.path(), arguments)).wait();
    assert_eq!(code, Some(0), "{said}");
}

/// Cgroup descriptors that the agent holds open, and perf events.
fn held(agent: &Running) -> (usize, usize) {
    let links = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("its descriptors");
    let links: Vec<_> = links.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let cgroups = links.iter().filter(|link| link.starts_with("/sys/fs/cgroup") && link.is_dir()).count();
    (cgroups, links.iter().filter(|link| link.to_string_lossy().contains("perf_event")).count())
}

#[test]
fn containers_are_whole_from_their_birth_and_leave_nothing_open() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    // One that is there before the agent is.
    let early = parent.child("early@1.1");
    let mut waits = Running::start(&mut early.command(function.path(), &["idle"]));
    waits.wait_for("ready");
    let agent = agent(&scope, &parent, "attach = \"per-cgroup\"\n");
    poll("the first is known", || (!scope.instances(&["early"]).is_empty()).then_some(()));
    let before = held(&agent);
    assert!(before.0 >= 1, "the one that waits: {before:?}");
    run(&function, &early, &["burn", "--cpu-ms", "300"]);
    let mut children = Vec::new();
    for n in 0..5 {
        let child = parent.child(&format!("fib@2.{n}"));
        run(&function, &child, &["fib", "--cpu-ms", "300"]);
        children.push(child);
    }
    // Below the container's own: the kernel counts it with it.
    let nest = parent.child("nest.1");
    let worker = nest.child("worker");
    run(&function, &worker, &["burn", "--cpu-ms", "300"]);
    let read = |row: &Value| row["coverage_source"] == "final";
    poll("the last readings", || {
        let rows = scope.instances(&[]);
        let ended = rows.iter().filter(|row| row["function"] != "early");
        (rows.len() == 7 && ended.clone().count() == 6 && ended.into_iter().all(read)).then_some(())
    });
    drop((worker, nest, children));
    poll("what it held of them is closed", || (held(&agent) == before).then_some(()));
    drop(waits);
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    for row in rows.iter().filter(|row| row["function"] != "early") {
        assert_covered(row);
        assert_eq!(row["phases"][0]["phase"], "runtime-init", "watched from its birth: {row:#}");
    }
    assert!(number(row(&rows, "early"), "sampled_seconds") > 0.25, "{rows:#?}");
    let folded = scope.folded("fib");
    assert!(folded.contains("function::fibonacci") && !folded.contains("function::burn"), "{folded}");
    assert!(scope.folded("nest").contains("function::burn"));
}
