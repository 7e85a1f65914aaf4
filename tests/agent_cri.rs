//! The agent beside a CRI, pods of all layouts, once asked by the CRI and once by containerd's own API: lives of 50 to
//! 300 ms are seen whole, under the names of their sandboxes' labels, whatever is removed right behind them.

use std::collections::HashSet;

use serde_json::Value;

use crate::answers::{assert_covered, number, text};
use crate::private_containerd::pods::{PodSpec, Pods};
use crate::private_containerd::{PrivateContainerd, handlers};
use crate::support::{Fnscope, Running, poll};

/// Functions, and how much CPU time each of their pods takes.
const FUNCTIONS: [(&str, &str); 3] = [("flash", "50"), ("blink", "100"), ("wink", "300")];

/// Runs a pod of `function` as OpenFaaS deploys it, to its end, and removes it at once.
fn run_and_remove(pods: &Pods, function: &str, cpu_ms: &str, handler: &str) {
    let name = format!("{function}-6d9c5b7f8-x2x7q");
    let labels = [("faas_function", function), ("pod-template-hash", "6d9c5b7f8")];
    let spec =
        PodSpec { name: &name, namespace: "openfaas-fn", labels: &labels, handler, ..PodSpec::default() };
    let pod = pods.run(&spec);
    let id = pods.create(&pod, function, &[("fprocess", "x")], &["burn", "--cpu-ms", cpu_ms]);
    pods.start(&id);
    pods.wait(&pod, &id, function);
    pods.remove(&pod);
}

/// Each instance of `rows` once, `count` of each function, named by its pod, whole.
fn judge(rows: &[Value], count: usize) {
    assert_eq!(rows.len(), FUNCTIONS.len() * count, "{rows:#?}");
    let mut keys = HashSet::new();
    for (function, cpu_ms) in FUNCTIONS {
        let told: Vec<&Value> = rows.iter().filter(|row| row["function"] == *function).collect();
        assert_eq!(told.len(), count, "{function}: {rows:#?}");
        for row in told {
            assert!(keys.insert(text(row, "instance").to_owned()), "twice: {row:#}");
            assert_eq!(
                (text(row, "platform"), text(row, "namespace")),
                ("openfaas", "openfaas-fn"),
                "{row:#}"
            );
            assert_eq!(text(row, "revision"), "pod-template-hash:6d9c5b7f8", "{row:#}");
            assert_eq!(text(row, "instance_name"), format!("{function}-6d9c5b7f8-x2x7q"), "{row:#}");
            let burned: f64 = cpu_ms.parse::<f64>().expect("a number") / 1000.0;
            assert!(number(row, "cpu_seconds") >= burned, "{row:#}");
            assert_covered(row);
        }
    }
}

fn short_lives(agent: impl Fn(&Fnscope, &PrivateContainerd) -> Running) {
    const COUNT: usize = 2;
    let (containerd, scope) = (PrivateContainerd::running(), Fnscope::new());
    let pods = containerd.pods();
    let agent = agent(&scope, &containerd);
    let all = ["", handlers::SLICES, handlers::CGROUP_NAMESPACES];
    for handler in all {
        for _ in 0..COUNT {
            for (function, cpu_ms) in FUNCTIONS {
                run_and_remove(&pods, function, cpu_ms, handler);
            }
        }
    }
    agent.stop_in_order();
    judge(&scope.instances(&[]), all.len() * COUNT);
}

#[test]
fn short_pods_are_seen_whole_by_the_cri() {
    short_lives(|scope, containerd| scope.cri_agent(&containerd.socket(), &[]));
}

#[test]
fn short_pods_are_seen_whole_by_containerd() {
    short_lives(|scope, containerd| scope.containerd_agent(&containerd.socket(), &[]));
}

/// What ran before the agent, what ends while it watches, and a runtime that goes and comes back meanwhile.
#[test]
fn the_cri_tells_what_was_there_what_ended_and_what_came_while_it_was_away() {
    let (mut containerd, scope) = (PrivateContainerd::running(), Fnscope::new());
    let start = |pods: &Pods, function: &str, arguments: &[&str]| {
        let labels = [("fnscope.function", function)];
        let spec = PodSpec { name: function, namespace: "demo", labels: &labels, ..PodSpec::default() };
        let pod = pods.run(&spec);
        let id = pods.create(&pod, "function", &[], arguments);
        pods.start(&id);
        (pod, id)
    };
    let pods = containerd.pods();
    let (before, id) = start(&pods, "before", &["burn", "--cpu-ms", "900000"]);
    let agent = scope.cri_agent(&containerd.socket(), &[]);
    poll("samples of what ran before", || (scope.samples(&["before"]) > 20).then_some(()));
    pods.kill(&id);
    // The pod stays: its end is asked for, and no list tells it so soon.
    let ended = poll("its end", || {
        scope
            .instances(&["before"])
            .pop()
            .filter(|row| !row["exit_code"].is_null() && !row["ended_at"].is_null())
    });
    assert_eq!(ended["exit_code"].as_i64(), Some(137), "{ended:#}");
    pods.remove(&before);
    // It computes while containerd is away, and is known when that is back.
    let (during, id) = start(&pods, "during", &["burn", "--cpu-ms", "3000"]);
    drop(pods);
    containerd.stop();
    // The next question is what finds that nobody answers.
    containerd.start();
    let pods = containerd.pods();
    let (after, _) = start(&pods, "after", &["burn", "--cpu-ms", "60"]);
    pods.wait(&during, &id, "function");
    poll("the end of all three", || {
        let rows = scope.instances(&[]);
        (rows.len() == 3 && rows.iter().all(|row| !row["ended_at"].is_null())).then_some(())
    });
    pods.remove(&during);
    pods.remove(&after);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let names: HashSet<&str> = rows.iter().map(|row| text(row, "function")).collect();
    assert_eq!((rows.len(), names), (3, HashSet::from(["before", "during", "after"])), "{rows:#?}");
}
