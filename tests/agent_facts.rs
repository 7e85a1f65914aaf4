//! What the agent tells of a container beside its name and its CPU time, and of its host and itself: from real ones.

use std::fs;

use serde_json::json;

use crate::answers::{number, row, text, walk};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

#[test]
fn labels_that_are_asked_for_and_the_runtime_handler_outlive_the_container_and_the_seal() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let config = docker.path("fnscope.toml");
    fs::write(&config, "[identity]\nkeep_labels = [\"team\", \"app.*\"]\n").expect("write a file");
    let agent = scope.docker_agent(&docker.socket(), &["--config", config.to_str().expect("a plain path")]);
    let long = format!("--label=app.long={}", "v".repeat(4_096));
    let labels = ["--label=team=a\u{1b}[31m", "--label=app.tier=web", &long, "--label=secret=s"];
    let own = ["--label=fnscope.function=own", "--runtime=second"];
    assert_eq!(docker.run_function(&[&own[..], &labels].concat(), &["burn", "--cpu-ms", "60"]).0, 0);
    assert_eq!(docker.run_function(&["--label=fnscope.function=plain"], &["burn", "--cpu-ms", "60"]).0, 0);
    let told = |scope: &Fnscope| {
        let rows = scope.instances(&[]);
        let own = row(&rows, "own");
        let labels = json!({"app.long": "v".repeat(253), "app.tier": "web", "team": "a\u{1b}[31m"});
        assert_eq!((&own["labels"], text(own, "runtime_handler")), (&labels, "second"), "{own:#}");
        let plain = row(&rows, "plain");
        assert_eq!((&plain["labels"], text(plain, "runtime_handler")), (&json!({}), "runc"), "{plain:#}");
        text(own, "instance").to_owned()
    };
    poll("both in the journal", || (scope.instances(&[]).len() == 2).then_some(()));
    poll("their labels", || {
        (!row(&scope.instances(&[]), "plain")["runtime_handler"].is_null()).then_some(())
    });
    told(&scope);
    agent.stop_in_order();
    assert!(walk(&scope.store().join("journal")).iter().all(|path| !path.ends_with(".jnl")), "all is sealed");
    let instance = told(&scope);
    let shown = scope.run(["instances", "--instance", &instance]).stdout;
    assert!(shown.contains("app.tier=web") && !shown.contains('\u{1b}'), "{shown}");

    let hosts = scope.rows(&["hosts"]);
    let host = &hosts[0];
    assert!((0.001..60.0).contains(&number(host, "agent_cpu_seconds")), "{host:#}");
    // Less than a megabyte and it is no process; more than 512 and its bounds do not hold.
    assert!((1e6..512e6).contains(&number(host, "agent_memory_bytes")), "{host:#}");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").expect("this is Linux");
    let named = host["cpu_models"].as_array().into_iter().flatten().filter_map(|model| model.as_str());
    assert!(named.into_iter().all(|model| cpuinfo.contains(model)), "{host:#}");
    assert_eq!(cpuinfo.contains("model name"), host["cpu_models"] != json!([]), "{host:#}");
}

#[test]
fn an_image_that_carries_a_functions_label_is_not_that_function() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let change = "LABEL fnscope.function=victim com.openfaas.function=victim";
    docker.import_with(&docker.path("function"), "forger:1", &[change]);
    let forge = |options: &[&str]| {
        let start = ["run", "--detach", "--network", "none"];
        docker.docker(&[&start, options, &["forger:1", "/function", "burn", "--cpu-ms", "900000"]].concat())
    };
    // One that the agent finds running, one that it sees begin, and one that was given a label of its own.
    let found = forge(&[]);
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let begun = forge(&[]);
    let named = forge(&["--label=fnscope.function=own"]);
    poll("samples of what was named", || (scope.samples(&["own"]) > 200).then_some(()));
    for id in [&found, &begun, &named] {
        docker.docker(&["rm", "--force", id]);
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let names: Vec<_> = rows.iter().map(|row| text(row, "function")).collect();
    assert_eq!(names, ["own"], "{rows:#?}");
    // And is explained so.
    let id = docker.docker(&["create", "--network=none", "forger:1", "/function", "idle"]);
    let socket = docker.socket();
    let socket = socket.to_str().expect("a plain path");
    let identified = scope.run(["identify", &id, "--docker-socket", socket]);
    assert!(identified.code == Some(1) && identified.stdout.contains("not a function"), "{identified:?}");
}
