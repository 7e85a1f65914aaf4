//! The agent in a cgroup namespace of its own, as engines give it on hosts with cgroup2 alone: `/sys/fs/cgroup` shows its own
//! part of the tree, and `/proc/PID/cgroup` tells paths from there.

use std::path::Path;
use std::process::Command;

use crate::answers::{assert_covered, row, text};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

/// fnscope with `arguments`, in a namespace that begins at `home`. Its own tree stands where the host's was; the host's is at
/// `host`, where it is given.
fn inside(scope: &Fnscope, home: &Cgroup, host: Option<&Path>, arguments: &[&str]) -> Command {
    const MOUNTS: &str = r#"
        [ -z "$1" ] || mount --rbind /sys/fs/cgroup "$1"
        umount -l "$0" && mount -t cgroup2 none "$0"
        shift && exec "$@""#;
    let direct = scope.command(arguments);
    let namespace = home.kernel_path();
    let own = home.path().to_str().and_then(|path| path.strip_suffix(&namespace)).expect("below its mount");
    let host = host.and_then(Path::to_str).unwrap_or_default();
    let mut given = vec!["--cgroup", "--mount", "sh", "-ec", MOUNTS, own, host];
    given.extend(
        std::iter::once(direct.get_program()).chain(direct.get_args()).filter_map(|word| word.to_str()),
    );
    let mut command = home.command(Path::new("unshare"), &given);
    for (name, value) in direct.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn with_the_hosts_tree_mounted_it_sees_what_it_would_see_outside() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let (parent, pods) = (Cgroup::new(), Cgroup::new());
    let pod = pods.child("pod1");
    let home = pod.child("agent");
    let host = tempfile::tempdir().expect("make a folder");
    // It lives before the agent, and is found.
    let there = parent.child("there.1");
    let burn = ["burn", "--cpu-ms", "900000"];
    let before = Running::start(&mut there.command(function.path(), &burn));
    let path = parent.kernel_path();
    let options = ["agent", "--no-docker", "--hz", "997", "--cgroup-parent", &path];
    let mut agent = Running::start(&mut inside(&scope, &home, Some(host.path()), &options));
    agent.wait_for(" watching ");
    // It comes in by a process that was elsewhere: only /proc/PID/cgroup tells whose files it maps.
    let child = parent.child("fib.1");
    let mut run = child.command(function.path(), &["fib", "--cpu-ms", "300"]);
    assert_eq!(Running::start(&mut run).wait().0, Some(0));
    poll("its last reading", || {
        scope.instances(&["fib"]).iter().any(|row| row["coverage_source"] == "final").then_some(())
    });
    poll("samples of the other", || (scope.samples(&["there"]) > 100).then_some(()));
    agent.stop_in_order();
    drop(before);
    let rows = scope.instances(&[]);
    assert_covered(row(&rows, "fib"));
    assert_covered(row(&rows, "there"));
    for (name, frame) in [("fib", "function::fibonacci"), ("there", "function::burn")] {
        assert_eq!(text(&scope.top(name)[0], "frame"), frame, "{name}");
    }
    drop((child, there, home, pod));
}

#[test]
fn without_it_neither_agent_nor_doctor_takes_a_part_for_the_whole() {
    let (scope, pods) = (Fnscope::new(), Cgroup::new());
    let home = pods.child("agent");
    let agent = Running::start(&mut inside(&scope, &home, None, &["agent", "--no-docker"]));
    let (code, said) = agent.wait();
    assert!(
        code == Some(2) && said.contains("shows a part of the host's cgroups; mount all of them"),
        "{said}"
    );
    assert!(!scope.store().exists());
    let output = inside(&scope, &home, None, &["doctor"]).output().expect("run unshare");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut failed = said.lines().skip_while(|line| !line.starts_with("FAIL  cgroups: "));
    let mend = failed.nth(1).unwrap_or_else(|| panic!("{said}"));
    assert!(
        output.status.code() == Some(1) && mend.contains("hostPath /sys/fs/cgroup at /host/cgroup"),
        "{said}"
    );
    drop(home);
}
