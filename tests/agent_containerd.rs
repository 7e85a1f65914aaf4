//! The agent beside containerd, asked by its own API: faasd's functions, which are deployed again under the same id;
//! names that several namespaces use; pods; a containerd that is restarted under load; one that Docker uses too.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::answers::{assert_covered, number, row, text};
use crate::private_containerd::pods::PodSpec;
use crate::private_containerd::{FUNCTION_IMAGE, PrivateContainerd, handlers};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, Running, poll};

/// Where faasd has its functions.
const FAASD: &str = "openfaas-fn";

/// A containerd with faasd's namespace and two images of the function.
fn faasd() -> PrivateContainerd {
    let mut containerd = PrivateContainerd::new();
    containerd.start();
    containerd.import_function(FAASD);
    containerd.ctr(FAASD, &["images", "tag", FUNCTION_IMAGE, "localhost/function:2"]);
    containerd
}

fn image(deployment: usize) -> String {
    format!("localhost/function:{}", 1 + deployment % 2)
}

/// Rows of instances in the order in which they began.
fn in_order<'a>(rows: &'a [Value], function: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> = rows.iter().filter(|row| row["function"] == *function).collect();
    found.sort_by_key(|row| text(row, "started_at").to_owned());
    found
}

/// Eight deployments each of functions that live for 50, 100 and 300 ms, one after the other under one id: none is
/// missed, and each has its own deployment's image for a revision. Twenty-five are `accept-faasd`.
#[test]
fn each_deployment_of_a_function_is_stored_under_its_own_name() {
    const DEPLOYMENTS: usize = 8;
    let (containerd, scope) = (faasd(), Fnscope::new());
    let agent = scope.containerd_agent(&containerd.socket(), &[]);
    let functions = [("flash", "50"), ("blink", "100"), ("wink", "300")];
    for deployment in 0..DEPLOYMENTS {
        for (function, cpu_ms) in functions {
            let arguments = ["burn", "--cpu-ms", cpu_ms];
            containerd.run_image(FAASD, &image(deployment), function, &[], &arguments);
        }
    }
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), functions.len() * DEPLOYMENTS, "{rows:#?}");
    let (mut keys, mut names, mut with_start) = (HashSet::new(), HashSet::new(), 0);
    for (function, cpu_ms) in functions {
        let told = in_order(&rows, function);
        assert_eq!(told.len(), DEPLOYMENTS, "{function}: {rows:#?}");
        for (deployment, told) in told.into_iter().enumerate() {
            assert_eq!(text(told, "platform"), "openfaas-faasd", "{told:#}");
            assert_eq!(text(told, "namespace"), FAASD, "{told:#}");
            assert_eq!(text(told, "revision"), format!("image:{}", image(deployment)), "{told:#}");
            assert_eq!(told["exit_code"].as_i64(), Some(0), "{told:#}");
            let name = text(told, "instance_name");
            // With its start where that could be read: a life of 50 ms may be over by then, on a busy machine.
            assert!(name.starts_with(&format!("{FAASD}/{function}#")), "{told:#}");
            with_start += usize::from(name.contains('+'));
            assert!(
                names.insert(name.to_owned()) && keys.insert(text(told, "instance").to_owned()),
                "{told:#}"
            );
            let burned: f64 = cpu_ms.parse::<f64>().expect("a number") / 1000.0;
            assert!(number(told, "cpu_seconds") >= burned, "{told:#}");
            assert_covered(told);
        }
    }
    assert!(with_start > rows.len() / 2, "{with_start}: {rows:#?}");
}

/// One name in two namespaces at the same time, and namespaces of which one is faasd's by its label.
#[test]
fn names_of_several_namespaces_are_not_mixed() {
    let (mut containerd, scope) = (PrivateContainerd::new(), Fnscope::new());
    containerd.start();
    let namespaces = [("openfaas-fn", "40"), ("staging-fn", "80"), ("others", "120")];
    containerd.ctr("default", &["namespaces", "create", "staging-fn", "openfaas=true"]);
    for (namespace, _) in namespaces {
        containerd.import_function(namespace);
    }
    // Before the agent starts: it is found, and known by the namespace's label.
    containerd.start_plain("staging-fn", "early", &[], &["idle"]);
    let agent = scope.containerd_agent(&containerd.socket(), &[]);
    let running: Vec<_> = namespaces
        .iter()
        .map(|(namespace, cpu_ms)| {
            containerd.begin_plain(namespace, "same", &[], &["burn", "--cpu-ms", cpu_ms])
        })
        .collect();
    running.into_iter().for_each(|running| drop(running.end()));
    containerd.remove_plain("staging-fn", "early");
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = in_order(&rows, "same");
    let mut found: Vec<&str> = told.iter().map(|row| text(row, "namespace")).collect();
    found.sort_unstable();
    // Whoever is in `others` is no function: nobody marks it.
    assert_eq!(found, ["openfaas-fn", "staging-fn"], "{rows:#?}");
    for told in told {
        let cpu = number(told, "cpu_seconds");
        let own = if text(told, "namespace") == "openfaas-fn" { 0.04..0.08 } else { 0.08..0.12 };
        assert!(own.contains(&cpu), "{told:#}");
    }
    let early = row(&rows, "early");
    assert_eq!(
        (text(early, "namespace"), early["exit_code"].as_i64()),
        ("staging-fn", Some(137)),
        "{early:#}"
    );
    // Its run too, to its end, though nobody heard of its start.
    let name = text(early, "instance_name");
    assert!(name.starts_with("staging-fn/early#") && name.contains('+'), "{early:#}");
}

/// Labels of an image are its builder's word: they name nothing, in whatever namespace.
#[test]
fn labels_of_an_image_name_nothing() {
    let (mut containerd, scope) = (PrivateContainerd::new(), Fnscope::new());
    containerd.start();
    containerd.import_function("default");
    containerd.import_labelled("default", "localhost/forger:1", &[("fnscope.function", "forged")]);
    let agent = scope.containerd_agent(&containerd.socket(), &[]);
    // As clients do that give a container all labels of its image.
    let forged = ["--label", "fnscope.function=forged"];
    containerd.run_image("default", "localhost/forger:1", "one", &forged, &["burn", "--cpu-ms", "40"]);
    let own = ["--label", "fnscope.function=own"];
    containerd.run_plain("default", "two", &own, &["burn", "--cpu-ms", "40"]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(text(row(&rows, "own"), "platform"), "custom");
    assert!(!rows.iter().any(|row| row["function"] == "forged"), "{rows:#?}");
}

/// The pod's labels are its sandbox's: no call of the CRI is made.
#[test]
fn pods_are_named_by_the_labels_of_their_sandboxes() {
    let (containerd, scope) = (PrivateContainerd::running(), Fnscope::new());
    let pods = containerd.pods();
    let agent = scope.containerd_agent(&containerd.socket(), &[]);
    for (handler, function) in
        [("", "plain"), (handlers::SLICES, "sliced"), (handlers::CGROUP_NAMESPACES, "nested")]
    {
        let labels = [("fnscope.function", function), ("fnscope.namespace", "demo")];
        let name = format!("{function}-6d9c5b7f8-x2x7q");
        let spec =
            PodSpec { name: &name, namespace: "tenant", labels: &labels, handler, ..PodSpec::default() };
        pods.run_function(&spec, &["burn", "--cpu-ms", "60"]);
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 3, "a sandbox is no function: {rows:#?}");
    for function in ["plain", "sliced", "nested"] {
        let told = row(&rows, function);
        assert_eq!(text(told, "namespace"), "demo", "{told:#}");
        assert!(number(told, "cpu_seconds") >= 0.06 && told["exit_code"].as_i64() == Some(0), "{told:#}");
    }
}

/// Functions are deployed again and again while containerd is restarted twice, once as it crashes: every one is stored
/// once, under its function.
#[test]
fn nothing_is_missed_while_containerd_is_restarted() {
    let (mut containerd, scope) = (faasd(), Fnscope::new());
    let mut agent = scope.containerd_agent(&containerd.socket(), &[]);
    let mut deployed = 0;
    let mut deploy = |containerd: &PrivateContainerd, times: usize| {
        for _ in 0..times {
            containerd.run_image(FAASD, &image(deployed), "churn", &[], &["burn", "--cpu-ms", "30"]);
            deployed += 1;
        }
    };
    deploy(&containerd, 8);
    for kill in [false, true] {
        // It ends while containerd is away, and another one lives through it.
        containerd.start_plain(FAASD, &format!("ends-{kill}"), &[], &["burn", "--cpu-ms", "400"]);
        let ends = containerd.pid(FAASD, &format!("ends-{kill}"));
        containerd.start_plain(FAASD, &format!("stays-{kill}"), &[], &["idle"]);
        if kill {
            containerd.kill()
        } else {
            containerd.stop()
        }
        agent.wait_for("runtime does not answer");
        poll("the end of one that nobody hears of", || {
            (!std::path::Path::new(&format!("/proc/{ends}/root")).exists()).then_some(())
        });
        containerd.start();
        agent.wait_for("runtime answers");
        deploy(&containerd, 8);
        containerd.remove_plain(FAASD, &format!("stays-{kill}"));
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = in_order(&rows, "churn");
    assert_eq!(told.len(), 24, "{rows:#?}");
    for (deployment, told) in told.into_iter().enumerate() {
        assert_eq!(text(told, "revision"), format!("image:{}", image(deployment)), "{told:#}");
        assert_eq!(told["exit_code"].as_i64(), Some(0), "{told:#}");
    }
    for kill in [false, true] {
        for name in ["ends", "stays"] {
            let told = row(&rows, &format!("{name}-{kill}"));
            assert_eq!(text(told, "platform"), "openfaas-faasd", "{told:#}");
        }
        assert!(number(row(&rows, &format!("ends-{kill}")), "cpu_seconds") >= 0.4);
    }
    assert_eq!(rows.len(), 28, "{rows:#?}");
}

/// A Docker container is a task of its containerd too. It is counted once and named by Docker, whether containerd's
/// namespace of Docker is left out or asked for.
#[test]
fn a_container_that_two_runtimes_know_is_counted_once() {
    let docker = PrivateDocker::with_functions();
    let containerd = docker.path("exec/containerd/containerd.sock");
    for namespaces in ["[]", "[\"moby\"]"] {
        let scope = Fnscope::new();
        let socket = docker.socket();
        let mut command = scope.command(["agent", "--hz", "997", "--docker-socket"]);
        command.arg(&socket).env("FNSCOPE_RUNTIMES_CONTAINERD", &containerd);
        command.env("FNSCOPE_RUNTIMES_CONTAINERD_NAMESPACES", namespaces);
        let mut agent = Running::start(&mut command);
        agent.wait_for_all(&[
            " watching ",
            "runtime answers runtime=\"docker\"",
            "runtime answers runtime=\"containerd\"",
        ]);
        for name in ["once", "twice"] {
            let label = format!("--label=fnscope.function={name}");
            docker.run_function(&[&label], &["burn", "--cpu-ms", "60"]);
        }
        agent.stop_in_order();
        let rows = scope.instances(&[]);
        assert_eq!(rows.len(), 2, "{namespaces}: {rows:#?}");
        for name in ["once", "twice"] {
            let told = row(&rows, name);
            assert_eq!((text(told, "platform"), told["exit_code"].as_i64()), ("custom", Some(0)), "{told:#}");
            assert_covered(told);
        }
    }
}

/// Whatever answers on containerd's socket: it is told as a runtime that does not answer, and nothing hangs.
#[test]
fn one_that_talks_nonsense_is_a_runtime_that_does_not_answer() {
    let folder = tempfile::tempdir().expect("make a folder");
    let socket = folder.path().join("containerd.sock");
    let listener = UnixListener::bind(&socket).expect("listen");
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("accept");
            // Nothing at all, garbage, another protocol, an end.
            let said: &[&[u8]] = &[b"", b"\0\0\0\0\0\0\0", b"HTTP/1.1 200 OK\r\n\r\n{}", &[0xff; 4096]];
            let _ = stream.write_all(said[n % said.len()]);
        }
    });
    let scope = Fnscope::new();
    let mut command = scope.command(["agent", "--no-docker"]);
    let mut agent = Running::start(command.env("FNSCOPE_RUNTIMES_CONTAINERD", &socket));
    agent.wait_for("runtime does not answer");
    agent.stop_in_order();
    let mut doctor = scope.command(["doctor", "--json"]);
    let said = doctor.env("FNSCOPE_RUNTIMES_CONTAINERD", &socket).output().expect("run doctor").stdout;
    let findings: Vec<Value> = serde_json::from_slice(&said).expect("JSON");
    let finding = findings.iter().find(|finding| finding["what"] == "containerd").expect("it is looked at");
    assert_eq!(finding["standing"], "warn", "{finding:#}");
    assert!(text(finding, "mend").contains("runtimes.containerd"), "{finding:#}");
}
