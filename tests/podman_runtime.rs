//! The agent beside podman, by its Docker API: short lives, pods, a service that comes and goes while containers run on.

use serde_json::Value;

use crate::answers::{assert_covered, number, row, text};
use crate::private_podman::PrivatePodman;
use crate::support::{Fnscope, Running, poll};

/// An agent on `podman` that has heard of all its containers.
fn agent(scope: &Fnscope, podman: &PrivatePodman) -> Running {
    let mut command = scope.command(["agent", "--no-docker", "--hz", "997"]);
    let mut agent = Running::start(command.env("FNSCOPE_RUNTIMES_PODMAN", podman.socket()));
    agent.wait_for_all(&[" watching ", "runtime answers"]);
    agent
}

#[test]
fn containers_of_podman_are_stored_under_their_names() {
    const EACH: usize = 5;
    let (podman, scope) = (PrivatePodman::running(), Fnscope::new());
    // It runs before there is an agent.
    let early = podman.start_function(&["--label=fnscope.function=early"], &["idle"]);
    let agent = agent(&scope, &podman);
    let lives = [("flash", "50"), ("blink", "100"), ("wink", "300")];
    for _ in 0..EACH {
        for (function, cpu_ms) in lives {
            let label = format!("--label=fnscope.function={function}");
            assert_eq!(podman.run_function(&[&label], &["burn", "--cpu-ms", cpu_ms]), Some(0));
        }
    }
    // Events of pods would end the stream of who cannot read them.
    podman.podman(&["pod", "create", "--infra=false", "--name=pod"]);
    let wrong = ["--label=fnscope.function=wrong"];
    assert_eq!(podman.run_function(&wrong, &["no-such-command"]), Some(64));
    // Podman tells of its end behind what runs next.
    let is_told = |row: &Value| row["function"] == "wrong" && row["exit_code"] == 64;
    poll("how the last one ended", || scope.instances(&[]).iter().any(is_told).then_some(()));
    podman.podman(&["rm", "--force", "--time", "0", &early]);
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    for (function, cpu_ms) in lives {
        let told: Vec<_> = rows.iter().filter(|row| row["function"] == function).collect();
        assert_eq!(told.len(), EACH, "{function}: {rows:#?}");
        for told in told {
            assert_eq!((text(told, "platform"), told["exit_code"].as_i64()), ("custom", Some(0)), "{told:#}");
            let burned: f64 = cpu_ms.parse::<f64>().expect("a number") / 1000.0;
            assert!(number(told, "cpu_seconds") >= burned, "{told:#}");
            assert_covered(told);
        }
    }
    assert_eq!(row(&rows, "wrong")["exit_code"].as_i64(), Some(64));
    assert!(text(row(&rows, "early"), "instance").starts_with(&early[..12]));
    assert_eq!(rows.len(), 3 * EACH + 2, "{rows:#?}");
}

#[test]
fn a_service_that_goes_and_comes_back_is_followed() {
    let (mut podman, scope) = (PrivatePodman::running(), Fnscope::new());
    let mut agent = agent(&scope, &podman);
    podman.stop();
    agent.wait_for("runtime does not answer");
    // Podman needs no service for its containers.
    assert_eq!(
        podman.run_function(&["--label=fnscope.function=unheard"], &["burn", "--cpu-ms", "60"]),
        Some(0)
    );
    let stays = podman.start_function(&["--label=fnscope.function=stays"], &["idle"]);
    podman.start();
    agent.wait_for("runtime answers");
    podman.podman(&["rm", "--force", "--time", "0", &stays]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert!(text(row(&rows, "stays"), "instance").starts_with(&stays[..12]), "{rows:#?}");
}

/// Podman behind a socket of Docker's name is podman's: it is counted once, and Docker is not here.
#[test]
fn podman_is_not_taken_for_docker() {
    let (podman, scope) = (PrivatePodman::running(), Fnscope::new());
    let socket = podman.socket();
    // Who names it for Docker means it: the same containers, by podman's own words.
    let mut command = scope.command(["agent", "--hz", "997", "--docker-socket"]);
    let mut agent = Running::start(command.arg(&socket).env("FNSCOPE_RUNTIMES_PODMAN", &socket));
    agent.wait_for_all(&[" watching ", "runtime answers", "runtime answers"]);
    assert_eq!(podman.run_function(&["--label=fnscope.function=once"], &["burn", "--cpu-ms", "60"]), Some(0));
    // Podman tells of it behind its end, and an agent that ends does not ask what is still to be told.
    let is_named = |row: &Value| row["function"] == "once";
    poll("what it is called", || scope.instances(&[]).iter().any(is_named).then_some(()));
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(text(row(&rows, "once"), "platform"), "custom");
}
