//! The agent while Docker does not answer: not there yet, killed, hung, and back again. What runs is sampled all the
//! same, and named as soon as anybody can.

use rustix::process::Signal;
use serde_json::Value;

use crate::answers::{assert_covered, now, row, text};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

const LONG: [&str; 3] = ["burn", "--cpu-ms", "900000"];

/// The row of `ls` for container `id` as long as nobody has named it: the begin of its id stands for a name.
fn unnamed(scope: &Fnscope, id: &str) -> Option<Value> {
    let unknown = |row: &Value| row["platform"] == "unknown" && row["function"] == id[..12];
    scope.rows(&["ls"]).into_iter().find(unknown)
}

#[test]
fn a_running_function_outlives_a_docker_that_is_killed() {
    let (mut docker, scope) = (PrivateDocker::that_keeps_containers(), Fnscope::new());
    let mut agent = scope.docker_agent(&docker.socket(), &[]);
    let id = docker.start_function(&["--label=fnscope.function=lasting"], &LONG);
    poll("its samples", || (scope.samples(&["lasting"]) > 100).then_some(()));

    docker.kill();
    agent.wait_for("does not answer");
    let away = now();
    poll("samples without Docker", || (scope.samples(&["lasting", "--since", &away]) > 300).then_some(()));

    docker.start();
    agent.wait_for("runtime answers");
    let back = now();
    poll("samples with Docker again", || (scope.samples(&["lasting", "--since", &back]) > 100).then_some(()));
    assert_eq!(docker.run_function(&["--label=fnscope.function=next"], &["fib", "--cpu-ms", "60"]).0, 0);
    docker.docker(&["kill", &id]);
    poll("its end", || scope.instances(&["lasting"])[0]["exit_code"].as_i64().filter(|code| *code == 137));
    agent.stop_in_order();

    assert!(unnamed(&scope, &id).is_none());
    let rows = scope.instances(&[]);
    // One life, one row, and no second without samples.
    assert_covered(row(&rows, "lasting"));
    let next = row(&rows, "next");
    assert!(next["exit_code"] == 0 && next["samples"].as_u64() > Some(10), "{next:#}");
}

#[test]
fn what_nobody_can_name_is_stored_and_named_later() {
    let mut docker = PrivateDocker::that_keeps_containers();
    let id = docker.start_function(&["--label=fnscope.function=late", "--label=fnscope.revision=3"], &LONG);
    for hung in [false, true] {
        if hung {
            // It takes the connection, as the kernel does for it, and never says a word.
            docker.signal(Signal::STOP);
        } else {
            docker.kill();
        }
        let scope = Fnscope::new();
        let socket = docker.socket();
        let mut agent =
            scope.agent(&["--docker-socket", socket.to_str().expect("a plain path"), "--hz", "997"]);
        let before = poll("samples under no name", || {
            unnamed(&scope, &id).filter(|row| row["samples"].as_u64() > Some(300))
        });
        let key = text(&scope.instances(&["--instance", &id])[0], "instance").to_owned();
        assert!(before["namespace"].is_null() && before["revision"].is_null(), "{before:#}");
        assert!(
            scope.run(["top", &id[..12]]).stdout.contains("function::burn"),
            "its frames have names all the same"
        );

        if hung {
            docker.signal(Signal::CONT);
        } else {
            docker.start();
        }
        agent.wait_for("runtime answers");
        poll("its name", || scope.instances(&[]).iter().any(|row| row["function"] == "late").then_some(()));
        agent.stop_in_order();
        assert!(unnamed(&scope, &id).is_none(), "hung {hung}");
        let rows = scope.instances(&["--instance", &id]);
        let named = row(&rows, "late");
        assert_eq!((rows.len(), text(named, "platform"), text(named, "revision")), (1, "custom", "3"));
        assert_eq!(text(named, "instance"), key);
        assert!(
            named["samples"].as_u64() >= before["samples"].as_u64(),
            "what was unnamed is its own: {named:#}"
        );
        assert_eq!(text(named, "image"), "function:1");
    }
    docker.docker(&["rm", "--force", &id]);
}

#[test]
fn an_agent_without_docker_waits_for_it() {
    let (mut docker, scope) = (PrivateDocker::new(), Fnscope::new());
    let socket = docker.socket();
    let socket = socket.to_str().expect("a plain path");
    let mut agent = scope.start(["agent", "--docker-socket", socket, "--hz", "997"]);
    let said = agent.wait_for_all(&[" watching ", "not reachable"]).concat();
    assert!(said.contains("docker.sock") && said.contains("no such socket"), "{said}");
    docker.start();
    agent.wait_for("runtime answers");
    docker.import_function();
    assert_eq!(docker.run_function(&["--label=fnscope.function=first"], &["fib", "--cpu-ms", "100"]).0, 0);
    agent.stop_in_order();
    let rows = scope.instances(&["first"]);
    assert_covered(row(&rows, "first"));
}
