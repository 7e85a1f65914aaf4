//! What changes in a container's life, as the agent tells it: it becomes another function, is held back, is paused.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::answers::{now, number, row, text, us};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll, truth};

#[test]
fn a_prewarmed_container_becomes_its_action_when_that_begins() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let openwhisk = ["--name=wsk0_3_prewarm_nodejs20", "--env=__OW_API_HOST=http://127.0.0.1"];
    let id = docker.start_function(&openwhisk, &["action-loop", "--stem-ms", "400", "--child-cpu-ms", "300"]);
    assert_eq!(docker.docker(&["wait", &id]), "0");
    let told = truth(&docker.docker(&["logs", &id]));
    docker.docker(&["rm", &id]);
    agent.stop_in_order();

    let rows = scope.rows(&["ls"]);
    assert_eq!(rows.len(), 2, "a pool and an action: {rows:#?}");
    let action = row(&rows, "hello");
    let pool = rows.iter().find(|row| !std::ptr::eq(*row, action)).expect("two rows");
    for (key, value) in [("platform", "openwhisk"), ("namespace", "guest"), ("revision", "0.0.1")] {
        assert_eq!(text(action, key), value, "{action:#}");
    }
    assert_eq!(text(pool, "platform"), "openwhisk", "{pool:#}");
    // The action's first sample follows its beginning, and the pool's last is hardly later than that: what the kernel
    // takes to start a process, and a sample's distance or two, at a CPU others want too.
    let init_us = number(&told, "init_at_us") as i64;
    let (last_us, first_us) = (us(text(pool, "last_seen")), us(text(action, "first_seen")));
    assert!(first_us >= init_us && first_us - init_us <= 50_000, "{} us behind it", first_us - init_us);
    assert!(last_us - init_us <= 50_000, "the pool's last is {} us behind it", last_us - init_us);
    let stacks = scope.folded("hello");
    assert!(stacks.contains("function::burn") && !stacks.contains("stem_cell"), "{stacks}");
    let pool = text(pool, "function");
    assert!(scope.folded(pool).contains("stem_cell"), "{pool}");
}

#[test]
fn a_quota_and_a_pause_are_told() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let slow = ["--label=fnscope.function=slow", "--cpus=0.2"];
    let id = docker.start_function(&slow, &["burn", "--cpu-ms", "900000"]);
    let held_back = || -> Option<Value> {
        let rows = scope.run(["throttled", "--json"]).stdout;
        let rows: Vec<Value> = serde_json::from_str(&rows).ok()?;
        rows.into_iter().find(|row| row["function"] == "slow")
    };
    poll("its throttling", || held_back()?["throttled_seconds"].as_f64().filter(|seconds| *seconds > 1.0));
    let before = held_back().expect("it is told");
    assert!(number(&before, "throttled_count") >= 5.0, "{before:#}");
    assert!(before["frozen_seconds"].as_f64().is_none_or(|seconds| seconds == 0.0), "{before:#}");
    docker.docker(&["pause", &id]);
    let paused_us = us(&now());
    // What stands still: both read the same counters.
    let docker_says = stats(&docker, &id);
    let of = |pointer: &str| docker_says.pointer(pointer).and_then(Value::as_f64).expect("a counter") / 1e9;
    let throttled = of("/cpu_stats/throttling_data/throttled_time");
    let used = of("/cpu_stats/cpu_usage/total_usage");
    poll("Docker's own word, to 20 ms", || {
        let told = held_back()?["throttled_seconds"].as_f64()?;
        let cpu =
            scope.instances(&[]).iter().find(|row| row["function"] == "slow")?["cpu_seconds"].as_f64()?;
        ((told - throttled).abs() <= 0.02 && (cpu - used).abs() <= 0.02).then_some(())
    });
    // As long as that takes, which is two seconds at least.
    assert_eq!(docker.run_function(&["--label=fnscope.function=other"], &["burn", "--cpu-ms", "2000"]).0, 0);
    docker.docker(&["unpause", &id]);
    let ran_us = us(&now());
    docker.docker(&["kill", &id]);
    docker.docker(&["rm", &id]);
    agent.stop_in_order();
    let told = held_back().expect("it is told");
    // Docker tells of both ends.
    let (frozen, paused) = (number(&told, "frozen_seconds"), (ran_us - paused_us) as f64 / 1e6);
    assert!(paused >= 2.0 && (frozen - paused).abs() <= 1.0, "told {frozen} s of {paused} s");
    assert_eq!(number(&told, "frozen_count"), 1.0, "{told:#}");
}

/// What Docker tells of the container's use now.
fn stats(docker: &PrivateDocker, id: &str) -> Value {
    let mut engine = UnixStream::connect(docker.socket()).expect("the engine answers");
    let path = format!("/containers/{id}/stats?stream=false&one-shot=true");
    write!(engine, "GET {path} HTTP/1.0\r\n\r\n").expect("ask");
    let mut answer = String::new();
    engine.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body.trim()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn a_cold_start_ends_when_the_health_check_succeeds() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let check = r#"HEALTHCHECK --interval=200ms CMD ["/function", "fib", "--cpu-ms", "1"]"#;
    docker.import_with(&docker.path("function"), "healthy:1", &[check]);
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let run = ["run", "--detach", "--network=none", "--label=fnscope.function=checked", "healthy:1"];
    let id = docker.docker(&[&run[..], &["/function", "burn", "--cpu-ms", "900000"]].concat());
    let status = || docker.docker(&["inspect", "--format", "{{.State.Health.Status}}", &id]);
    poll("its health", || (status() == "healthy").then_some(()));
    let health = docker.docker(&["inspect", "--format", "{{json (index .State.Health.Log 0)}}", &id]);
    let health: Value = serde_json::from_str(&health).expect("JSON");
    poll("its warm phase", || {
        let rows = scope.instances(&[]);
        let warm = |row: &Value| row["phases"].as_array().is_some_and(|phases| phases.len() == 3);
        rows.iter().any(warm).then_some(())
    });
    docker.docker(&["kill", &id]);
    docker.docker(&["rm", &id]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = row(&rows, "checked");
    let phases = told["phases"].as_array().expect("phases");
    let cold = phases.iter().find(|phase| text(phase, "phase") == "cold").expect("a cold phase");
    // Docker tells of it as soon as the check has ended.
    let (ended_us, told_us) = (us(text(&health, "End")), us(text(cold, "to")));
    assert!((told_us - ended_us).abs() < 1_000_000, "{told_us} for {ended_us}: {told:#}");
}
