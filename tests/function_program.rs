//! The example function where it is meant to run: in an empty image and in a cgroup. What it says of itself is what
//! other tests measure fnscope by, so it is compared with the kernel's account here.

use std::io::{PipeReader, PipeWriter, pipe};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Cgroup, Docker, Function, Running, truth};

fn number(truth: &Value, key: &str) -> f64 {
    truth[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {truth}"))
}

#[test]
fn it_computes_and_stores_pi_in_an_empty_image() {
    let docker = Docker::new();
    for revision in ["1", "2"] {
        let (_, truth) = docker.run(&[], &["pi", "--cpu-ms", "60", "--revision", revision]);
        assert_eq!(truth["pi"], "3.14159265358979323846264338327950288419716939937510");
        assert!(number(&truth, "cpu_ms") >= 60.0, "{truth}");
        assert!(number(&truth, "exec_cpu_ms") > 1.0, "the runtime's own time comes before: {truth}");
    }
}

#[test]
fn revision_2_needs_more_time_for_each_round() {
    let docker = Docker::new();
    let per_round = |revision| {
        let (_, truth) = docker.run(&[], &["pi", "--cpu-ms", "200", "--revision", revision]);
        number(&truth, "cpu_ms") / number(&truth, "rounds")
    };
    let (first, second) = (per_round("1"), per_round("2"));
    assert!(second > 1.5 * first, "{first} ms a round became {second} ms");
}

#[test]
fn it_waits_for_sigterm_as_first_process_too() {
    let docker = Docker::new();
    let container = docker.start(&[], &["idle"]);
    container.docker("stop");
    let (code, said) = container.wait();
    assert_eq!((code, truth(&said)["signal"].as_i64()), (0, Some(15)), "{said}");
}

#[test]
fn its_account_of_cpu_time_is_the_cgroups() {
    let function = Function::new();
    for arguments in [
        &["burn", "--cpu-ms", "300"][..],
        &["pi", "--cpu-ms", "300"],
        &["fib", "--cpu-ms", "300"],
        &["pulse", "--count", "50", "--pause-us-max", "1000"],
        &["deep", "--depth", "200", "--cpu-ms", "300"],
        &["threads", "--cpu-ms", "150"],
        &["shares", "--cpu-ms", "300"],
        &["part", "--cpu-ms", "300", "--per-mille", "250"],
    ] {
        let cgroup = Cgroup::new();
        let (code, said) = Running::start(&mut cgroup.command(function.path(), arguments)).wait();
        assert_eq!(code, Some(0), "{said}");
        cgroup.wait_until_empty();
        let truth = truth(&said);
        let told_ms = number(&truth, "cpu_ms") + number(&truth, "exec_cpu_ms");
        let account_ms = cgroup.cpu_us() as f64 / 1000.0;
        // The account has the way out of the process on top, and lacks what ran before the move into the cgroup.
        assert!(
            (told_ms - account_ms).abs() < 8.0,
            "{arguments:?}: told {told_ms} ms, account {account_ms} ms"
        );
    }
}

#[test]
fn shares_are_sixty_thirty_ten_and_nothing_beside() {
    let cgroup = Cgroup::new();
    let function = Function::new();
    let (_, said) =
        Running::start(&mut cgroup.command(function.path(), &["shares", "--cpu-ms", "600"])).wait();
    let truth = truth(&said);
    let shares = ["spend_sixty", "spend_thirty", "spend_ten"].map(|name| number(&truth, name));
    let total: f64 = shares.iter().sum();
    for (share, meant) in shares.into_iter().zip([0.6, 0.3, 0.1]) {
        assert!((share / total - meant).abs() < 0.03, "{truth}");
    }
    assert!(total > 0.97 * number(&truth, "cpu_ms"), "{truth}");
}

#[test]
fn a_running_process_is_heard_and_stopped() {
    let cgroup = Cgroup::new();
    let function = Function::new();
    let mut idle = Running::start(&mut cgroup.command(function.path(), &["idle"]));
    idle.wait_for("ready");
    idle.signal(Signal::INT);
    let (code, said) = idle.wait();
    assert_eq!((code, truth(&said)["signal"].as_i64()), (Some(0), Some(2)), "{said}");
}

#[test]
fn spawn_counts_its_childrens_time() {
    let cgroup = Cgroup::new();
    let function = Function::new();
    let arguments = ["spawn", "--count", "30", "--child-cpu-ms", "2", "--rate", "100"];
    let (_, said) = Running::start(&mut cgroup.command(function.path(), &arguments)).wait();
    let truth = truth(&said);
    assert!(number(&truth, "children_cpu_ms") >= 60.0, "{truth}");
    assert!(number(&truth, "seconds") >= 0.29, "the rate is kept: {truth}");
}

#[test]
fn ping_and_echo_exchange_every_byte() {
    let function = Function::new();
    let ((to_echo, from_ping), (to_ping, from_echo)) = (pipe().unwrap(), pipe().unwrap());
    let start = |arguments: &[&str], input: PipeReader, output: PipeWriter| {
        let mut command = Command::new(function.path());
        command.args(arguments).stdin(input).stdout(output).stderr(Stdio::piped());
        command.spawn().expect("start the function")
    };
    let echo = start(&["echo"], to_echo, from_echo);
    let ping = start(&["ping", "--count", "500"], to_ping, from_ping);
    for process in [ping, echo] {
        let ended = process.wait_with_output().expect("wait for the function");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}");
        assert_eq!(truth(&said)["count"], 500);
    }
}
