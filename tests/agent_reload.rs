//! SIGHUP: the agent reads its configuration again, applies what it can, names what it cannot, and refuses one with
//! faults without a break in its work.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::answers::text;
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

#[test]
fn sighup_applies_what_can_be_and_names_what_cannot() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("agent.toml");
    let write = |text: &str| fs::write(&file, text).expect("write a file");
    write("[store]\nmax_age = \"30d\"\n");
    let path = file.to_str().expect("a plain path");
    let mut agent = scope.agent(&[
        "--no-docker",
        "--listen-health",
        "off",
        "--hz",
        "997",
        "--cgroup-parent",
        &parent.kernel_path(),
        "--config",
        path,
    ]);
    let rule = "[[identity.rules]]\ncontainer = \"second*\"\nfunction = \"renamed\"\n";
    let burn = |name: &str| {
        let child = parent.child(name);
        let arguments = ["burn", "--cpu-ms", "100"];
        let (code, said) = Running::start(&mut child.command(function.path(), &arguments)).wait();
        assert_eq!(code, Some(0), "{said}");
        child
    };
    let first = burn("second.1");

    // A flag goes over the file as before: hz has not changed.
    write(&format!("hz = 49\nmax_hz = 4000\n[store]\nmax_age = \"7d\"\n[stack]\nunwind = \"fp\"\n{rule}"));
    agent.signal(Signal::HUP);
    let applied = agent.wait_for("configuration read again");
    assert!(applied.ends_with("applied: store.max_age, identity.rules"), "{applied}");
    let left = agent.wait_for("needs a restart");
    assert!(left.contains("WARN") && left.ends_with("max_hz, stack.unwind"), "{left}");
    let second = burn("second.2");

    write(&format!("herz = 49\n[store]\nmax_age = \"soon\"\n{rule}"));
    agent.signal(Signal::HUP);
    let refused = agent.wait_for("configuration read again");
    for says in ["ERROR", "refused", "agent.toml:1: `herz` is no key", "agent.toml:3: store.max_age is"] {
        assert!(refused.contains(says), "`{says}` in {refused}");
    }
    let third = burn("second.3");
    poll("samples of the third", || (scope.instances(&["renamed"]).len() == 2).then_some(()));
    drop((first, second, third));
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    let told: Vec<&str> = rows.iter().map(|row| text(row, "function")).collect();
    assert_eq!(told, ["second", "renamed", "renamed"], "{rows:#?}");
    for row in &rows {
        assert!(row["samples"].as_u64() > Some(50), "{row:#}");
    }
}

#[test]
fn a_budget_and_what_is_recorded_off_the_cpu_change_while_it_runs() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let file = scope.store().parent().expect("it lies in a folder").join("agent.toml");
    let write = |text: &str| fs::write(&file, text).expect("write the configuration");
    write("");
    let path = file.to_str().expect("a plain path");
    let parents = parent.kernel_path();
    let mut agent =
        scope.agent(&["--no-docker", "--hz", "997", "--cgroup-parent", &parents, "--config", path]);
    let child = parent.child("naps.1");
    let command = ["-c", "while :; do sleep 0.01; done"];
    let naps = Running::start(&mut child.command(Path::new("/bin/sh"), &command));
    poll("samples of it", || (scope.samples(&["naps"]) > 0).then_some(()));
    let row = |told: &dyn Fn(&Value) -> bool| scope.instances(&["naps"]).iter().any(told).then_some(());
    assert!(row(&|row| row["off_cpu_seconds"].is_null()).is_some(), "nobody has asked for it");

    write("[off_cpu]\nfunctions = [\"naps\"]\n");
    agent.signal(Signal::HUP);
    let applied = agent.wait_for("configuration read again");
    assert!(applied.ends_with("applied: off_cpu.functions"), "{applied}");
    poll("its time off the CPU", || row(&|row| row["off_cpu_seconds"].as_f64() > Some(0.0)));

    // Less than any agent takes.
    write("[budget]\nmemory = \"1MiB\"\n[off_cpu]\nfunctions = [\"naps\"]\n");
    agent.signal(Signal::HUP);
    let applied = agent.wait_for("configuration read again");
    assert!(applied.ends_with("applied: budget.memory"), "{applied}");
    agent.wait_for("near the budget");
    poll("until when", || row(&|row| !row["off_cpu_until"].is_null()));

    write("");
    agent.signal(Signal::HUP);
    let applied = agent.wait_for("configuration read again");
    assert!(applied.contains("budget.memory") && applied.contains("off_cpu.functions"), "{applied}");
    naps.signal(Signal::KILL);
    naps.wait();
    child.wait_until_empty();
    agent.stop_in_order();
}
