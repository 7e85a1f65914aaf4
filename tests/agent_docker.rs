//! The agent beside Docker: which containers it stores, under which names, and what it tells of them when they are
//! gone. Docker that comes and goes: `agent_without_docker`. Names that are no names: `hostile_labels`.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::answers::{
    FUNCTION_KEYS, INSTANCE_KEYS, assert_covered, assert_phases, keys, now, number, row, text, walk,
};
use crate::private_docker::{FUNCTION_IMAGE, PrivateDocker};
use crate::support::{Fnscope, poll};

#[test]
fn a_container_is_told_in_full_when_it_and_its_image_are_gone() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &["--node", "here"]);
    let own =
        ["--label=fnscope.function=fib", "--label=fnscope.namespace=demo", "--label=fnscope.revision=7"];
    let (code, fib) = docker.run_function(&own, &["fib", "--cpu-ms", "400"]);
    assert_eq!(code, 0);
    let swarm = [
        "--label=com.openfaas.function=wrong",
        "--label=com.docker.swarm.service.name=wrong",
        "--label=com.docker.swarm.task.name=wrong.1.x7",
    ];
    // The example function answers wrong usage with 64.
    let (code, wrong) = docker.run_function(&swarm, &["no-such-command"]);
    assert_eq!(code, 64);
    let victim =
        docker.start_function(&["--rm", "--label=fnscope.function=victim"], &["burn", "--cpu-ms", "900000"]);
    poll("samples of victim", || (scope.samples(&["--instance", &victim]) > 100).then_some(()));
    docker.docker(&["kill", &victim]);
    poll("its removal", || docker.docker(&["ps", "--all", "--quiet"]).is_empty().then_some(()));
    docker.docker(&["rmi", FUNCTION_IMAGE]);
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    assert!(rows.iter().all(|row| keys(row) == INSTANCE_KEYS), "{rows:#?}");
    let told_fib = row(&rows, "fib");
    let told = told_fib;
    let instance = text(told, "instance");
    assert!(
        instance.starts_with(&format!("{}.", &fib[..12])) && instance.split('.').count() == 3,
        "{instance}"
    );
    for (key, value) in [("platform", "custom"), ("namespace", "demo"), ("revision", "7"), ("node", "here")] {
        assert_eq!(text(told, key), value, "{told:#}");
    }
    assert_eq!((text(told, "image"), told["exit_code"].as_i64()), (FUNCTION_IMAGE, Some(0)));
    assert!(told["instance_name"].is_null(), "Docker's names are no platform's: {told:#}");
    // RFC 3339 in UTC, one form: text compares as time.
    let life = ["started_at", "exec_at", "ended_at"].map(|key| text(told, key));
    assert!(life[0] <= life[1] && life[1] < life[2], "{told:#}");
    // It burns 400 ms by its own clock, and runc's part of the way there is on top.
    let cpu = number(told, "cpu_seconds");
    assert!((0.4..0.8).contains(&cpu), "{told:#}");
    assert_covered(told);
    assert!(["final", "exit"].contains(&text(told, "coverage_source")), "{told:#}");
    assert!(number(told, "first_sample_after_exec_ms") >= 0.0);
    assert_phases(told, &["runtime-init", "cold"]);
    assert_eq!(text(&told["phases"][0], "to"), text(told, "exec_at"));

    let told = row(&rows, "wrong");
    assert!(text(told, "instance").starts_with(&wrong[..12]));
    for (key, value) in [
        ("platform", "openfaas-swarm"),
        ("namespace", "default"),
        ("revision", "image:function:1"),
        ("instance_name", "wrong.1.x7"),
    ] {
        assert_eq!(text(told, key), value, "{told:#}");
    }
    assert_eq!(told["exit_code"].as_i64(), Some(64));
    assert!(number(told, "cpu_seconds") > 0.0);
    // SIGKILL, as shells tell it.
    assert_eq!(row(&rows, "victim")["exit_code"].as_i64(), Some(137));

    let functions = scope.rows(&["ls"]);
    assert!(functions.iter().all(|row| keys(row) == FUNCTION_KEYS), "{functions:#?}");
    let function = row(&functions, "fib");
    for key in ["samples", "cpu_seconds", "sampled_seconds", "coverage"] {
        assert_eq!(function[key], row(&rows, "fib")[key], "{key}");
    }
    for (key, count) in [("instances", 1), ("cold_starts", 1), ("lost", 0)] {
        assert_eq!(function[key].as_u64(), Some(count), "{key} of {function:#}");
    }
    // Only the container runtime's code, and the C library's before `main`, may be without names or too deep.
    let init = told_fib["phases"][0]["samples"].as_u64().expect("a count");
    for key in ["truncated", "unsymbolized"] {
        assert!(function[key].as_u64() <= Some(init + 10), "{key} of {function:#}, {init} before the exec");
    }
    // A last sample on the way out of the last process may come behind its end.
    assert!(
        text(function, "first_seen") == life[0] && text(function, "last_seen") >= life[2],
        "{function:#}"
    );

    assert_named(&scope);
}

/// `fib`'s program is nowhere any more, and its names are there.
fn assert_named(scope: &Fnscope) {
    let frames = scope.top("demo/fib@7");
    let hottest = &frames[0];
    assert_eq!((text(hottest, "frame"), text(hottest, "module")), ("function::fibonacci", "function"));
    // Recursion and nothing else: what is left is the way into it, and the kernel's timer.
    assert!(number(hottest, "self_share") > 0.7 && text(hottest, "kind") == "native", "{hottest:#}");
    let folded = scope.folded("fib");
    let deepest = folded.lines().max_by_key(|line| line.matches("function::fibonacci [function]").count());
    let deepest = deepest.expect("it has stacks");
    // fibonacci(24) calls itself 23 deep.
    assert!(deepest.matches("function::fibonacci [function]").count() > 10, "{deepest}");
    assert!(folded.lines().any(|line| line.contains("function::main [function];")), "{folded}");
    for (arguments, says) in [
        (vec!["ls"], "demo"),
        (vec!["instances", "fib"], "fib@7"),
        (vec!["top", "fib"], "function::fibonacci"),
        (vec!["flame", "fib"], "function::fibonacci"),
    ] {
        let ended = scope.run(&arguments);
        assert!(ended.code == Some(0) && ended.stdout.contains(says), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn functions_that_run_at_once_are_never_mixed() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let begin = |function: &str| {
        let label = format!("--label=fnscope.function={function}");
        docker.begin_function(&[&label, "--env=TMPDIR=/"], &[function, "--cpu-ms", "300"])
    };
    let all: Vec<_> = (0..3).flat_map(|_| [begin("pi"), begin("fib")]).collect();
    for container in all {
        assert_eq!(container.end().0, 0);
    }
    agent.stop_in_order();
    let functions = scope.rows(&["ls"]);
    for (function, own, others) in [
        ("pi", "function::compute_pi", &["fibonacci", "function::fib"][..]),
        ("fib", "function::fibonacci", &["compute_pi", "divide", "arctan_inverse", "store_digits"]),
    ] {
        let told = row(&functions, function);
        assert_eq!(told["instances"].as_u64(), Some(3));
        assert_covered(told);
        let folded = scope.folded(function);
        assert!(folded.contains(own), "{folded}");
        for other in others {
            assert!(!folded.contains(other), "{other} in a profile of {function}:\n{folded}");
        }
    }
}

#[test]
fn only_functions_are_stored_unless_all_are_asked_for() {
    let docker = PrivateDocker::with_functions();
    let burn = ["burn", "--cpu-ms", "60"];
    let run_all = || {
        let ignored = ["--label=fnscope.ignore=true", "--label=fnscope.function=ignored"];
        assert_eq!(docker.run_function(&["--name=plain"], &burn).0, 0);
        assert_eq!(docker.run_function(&ignored, &burn).0, 0);
        assert_eq!(docker.run_function(&["--label=fnscope.function=named"], &burn).0, 0);
    };
    for (options, expected) in [
        (&[][..], &[("custom", "named")][..]),
        (&["--functions", "all"], &[("docker", "plain"), ("custom", "named")]),
    ] {
        let scope = Fnscope::new();
        let agent = scope.docker_agent(&docker.socket(), options);
        run_all();
        agent.stop_in_order();
        let rows = scope.instances(&[]);
        let names: Vec<_> = rows.iter().map(|row| (text(row, "platform"), text(row, "function"))).collect();
        assert_eq!(names, expected, "{options:?}");
        assert!(rows.iter().all(|row| row["samples"].as_u64() > Some(0)), "{rows:#?}");
    }
}

#[test]
fn what_runs_already_is_adopted_warm() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let id = docker.start_function(&["--label=fnscope.function=early"], &["burn", "--cpu-ms", "900000"]);
    let pid = docker.pid(&id);
    let before_us = poll("a second of its CPU time", || Some(cpu_us(pid)).filter(|us| *us > 1_000_000));
    let agent = scope.docker_agent(&docker.socket(), &[]);
    poll("its samples", || (scope.samples(&["early"]) > 500).then_some(()));
    let told_us = (number(&scope.instances(&["early"])[0], "cpu_seconds") * 1e6) as u64;
    let (used_us, tick_us) = (cpu_us(pid), 10_000);
    assert!(
        before_us + told_us <= used_us + tick_us,
        "{told_us} us of {used_us}, {before_us} before the agent"
    );
    docker.docker(&["kill", &id]);
    poll("its end", || scope.instances(&["early"])[0]["exit_code"].as_i64());
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = row(&rows, "early");
    assert_phases(told, &["warm"]);
    assert_eq!(scope.rows(&["ls"])[0]["cold_starts"].as_u64(), Some(0), "nobody saw it start");
    // Docker's own word, to the second: the oldest process is a moment older.
    let started = docker.docker(&["inspect", "--format", "{{.State.StartedAt}}", &id]);
    let (started, told_start) = (second(&started), second(text(told, "started_at")));
    assert!((started - told_start).abs() <= 1, "{started}, told {told_start}");
    assert_eq!(told["exit_code"].as_i64(), Some(137));
    // From the first reading on: what it used before belongs to nobody.
    assert_covered(told);
    assert!(scope.folded("early").contains("function::burn"), "its program was found by its mappings");
    docker.docker(&["rm", &id]);
}

/// CPU time of process `pid` in microseconds, to ten milliseconds.
fn cpu_us(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, behind_name) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = |at: usize| behind_name.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
    (ticks(11).expect("utime") + ticks(12).expect("stime")) * 10_000
}

/// An RFC 3339 time in UTC as seconds of its day; tests that span a midnight are off, once a day for a second.
fn second(time: &str) -> i64 {
    let clock = time.split_once('T').map(|(_, clock)| clock).expect("a time");
    clock
        .split(['.', 'Z'])
        .next()
        .unwrap_or_default()
        .split(':')
        .fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("digits"))
}

#[test]
fn a_cgroup_inside_of_a_containers_is_the_containers() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let id = docker.start_function(&["--label=fnscope.function=outer"], &["burn", "--cpu-ms", "900000"]);
    poll("its samples", || (scope.samples(&["outer"]) > 50).then_some(()));
    let pid = docker.pid(&id);
    let inner = cgroup2_of(pid).join("inner");
    fs::create_dir(&inner).expect("make a cgroup inside of the container's");
    fs::write(inner.join("cgroup.procs"), pid.to_string()).expect("move the function");
    let moved = now();
    poll("samples from the inner cgroup", || (scope.samples(&["--since", &moved]) > 200).then_some(()));
    docker.docker(&["rm", "--force", &id]);
    agent.stop_in_order();
    assert!(!inner.exists(), "runc removes what is inside too");
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    // The account of the outer one counts the inner one's time, so the samples must too.
    assert_covered(row(&rows, "outer"));
    assert!(scope.run(["top", "outer", "--since", &moved]).stdout.contains("function::burn"));
}

/// The folder of the cgroup of version 2 that `pid` is in.
fn cgroup2_of(pid: u32) -> PathBuf {
    let cgroups = fnscope::cgroup::Cgroups::detect().expect("this host has cgroups");
    cgroups.dir(&cgroups.of_process(fnscope::model::Pid(pid)).expect("it runs"))
}

#[test]
fn a_program_that_docker_exec_starts_is_the_containers_and_is_named() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let id = docker.start_function(&["--label=fnscope.function=host"], &["idle"]);
    docker.docker(&["exec", &id, "/other", "fib", "--cpu-ms", "300"]);
    docker.docker(&["stop", &id]);
    docker.docker(&["rm", &id]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let frames = scope.top("host");
    assert_eq!((text(&frames[0], "frame"), text(&frames[0], "module")), ("function::fibonacci", "other"));
    assert!(number(&frames[0], "total_share") > 0.7, "{:#}", frames[0]);
    assert_covered(row(&rows, "host"));
}

#[test]
fn an_agent_that_is_interrupted_ends_in_order() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = scope.docker_agent(&docker.socket(), &[]);
    let id = docker.start_function(&["--label=fnscope.function=cut"], &["burn", "--cpu-ms", "900000"]);
    poll("its samples", || (scope.samples(&["cut"]) > 50).then_some(()));
    agent.signal(Signal::INT);
    let (code, said) = agent.wait();
    assert!(code == Some(0) && said.contains("stopped"), "{said}");
    let rows = scope.instances(&["cut"]);
    assert!(rows[0]["ended_at"].is_null(), "it runs on: {rows:#?}");
    let folded = walk(&scope.store().join("folded"));
    assert!(
        folded.iter().any(|path| path.contains("/custom/-/cut/")),
        "the folded tree is there: {folded:?}"
    );
    docker.docker(&["rm", "--force", &id]);
}
