//! Functions that live for 50 to 300 ms beside every runtime that runs here: pods through the CRI, faasd's containers,
//! podman's; and a hundred pods while their runtime is restarted under them. None is missed, none is stored twice.

use std::collections::{HashMap, HashSet};

use anyhow::ensure;
use serde_json::Value;

use crate::measure::{Bar, Bound, Measurement};
use crate::private_containerd::pods::{Pod, PodSpec, Pods};
use crate::private_containerd::{PrivateContainerd, handlers};
use crate::private_podman::{ALONE, FUNCTION_IMAGE, PrivatePodman};
use crate::short::{COUNT, Judged, KINDS, judge};
use crate::support::truth;
use crate::watched::{Agent, text};

/// Pods, told by containerd's own API.
pub const PODS: Measurement = Measurement {
    name: "accept-pods",
    about: "25 pods each of 50, 100 and 300 ms of CPU time, by containerd's own API",
    runs: 1,
    run: || pods("containerd", ""),
};

/// Pods, asked after by the CRI.
pub const CRI: Measurement =
    Measurement { name: "accept-pods-cri", about: "the same, by the CRI", runs: 1, run: || pods("crio", "") };

/// Pods whose containers have cgroup namespaces of their own.
pub const CGROUP_NAMESPACES: Measurement = Measurement {
    name: "accept-pods-cgroupns",
    about: "the same, with private cgroup namespaces",
    runs: 1,
    run: || pods("containerd", handlers::CGROUP_NAMESPACES),
};

/// Pods in the directories that systemd makes.
pub const SLICES: Measurement = Measurement {
    name: "accept-pods-slices",
    about: "the same, in slices as systemd makes them",
    runs: 1,
    run: || pods("containerd", handlers::SLICES),
};

/// faasd's way.
pub const FAASD: Measurement = Measurement {
    name: "accept-faasd",
    about: "25 deployments each of 50, 100 and 300 ms under one id, in containerd's namespace of faasd",
    runs: 1,
    run: faasd,
};

/// podman's way.
pub const PODMAN: Measurement = Measurement {
    name: "accept-podman",
    about: "25 `podman run --rm` each of 50, 100 and 300 ms of CPU time, with runc",
    runs: 1,
    run: podman,
};

/// Pods that come and go while containerd does.
pub const CHURN: Measurement = Measurement {
    name: "accept-pods-churn",
    about: "100 pods of 10 functions while containerd is restarted twice",
    runs: 1,
    run: churn,
};

/// From its exec to its first sample a function waits for its CPU, too: beside it the kernel and the runtime's shim make and
/// take down pods, which is none of the agent's doing.
const FIRST_SAMPLE: Bound = Bound::Recorded;

/// As many as there were, and none twice.
const STORED: Bound = Bound::Within(COUNT as f64, COUNT as f64);

/// A pod of OpenFaaS's `function`, started.
fn start(pods: &Pods, function: &str, cpu_ms: &str, handler: &str) -> (Pod, String) {
    let name = format!("{function}-6d9c5b7f8-x2x7q");
    let labels = [("faas_function", function)];
    let spec =
        PodSpec { name: &name, namespace: "openfaas-fn", labels: &labels, handler, ..PodSpec::default() };
    let pod = pods.run(&spec);
    let id = pods.create(&pod, function, &[], &["burn", "--cpu-ms", cpu_ms]);
    pods.start(&id);
    (pod, id)
}

fn pods(runtime: &str, handler: &str) -> anyhow::Result<Vec<Bar>> {
    let containerd = PrivateContainerd::running();
    let pods = containerd.pods();
    let mut agent = Agent::start_on(runtime, &containerd.socket(), &[]);
    let mut started = Vec::new();
    for _ in 0..COUNT {
        for (at, kind) in KINDS.iter().enumerate() {
            let (pod, id) = start(&pods, kind.function, kind.cpu_ms, handler);
            let ended = pods.wait(&pod, &id, kind.function);
            pods.remove(&pod);
            started.push((at, id, ended.truth));
        }
    }
    agent.stop()?;
    let first = FIRST_SAMPLE;
    judge(&agent, &started, &Judged { kinds: &KINDS, stored: STORED, first, by_id: true })
}

fn faasd() -> anyhow::Result<Vec<Bar>> {
    const NAMESPACE: &str = "openfaas-fn";
    let mut containerd = PrivateContainerd::new();
    containerd.start();
    containerd.import_function(NAMESPACE);
    let mut agent = Agent::start_on("containerd", &containerd.socket(), &[]);
    let mut started = Vec::new();
    for _ in 0..COUNT {
        for (at, kind) in KINDS.iter().enumerate() {
            let arguments = ["burn", "--cpu-ms", kind.cpu_ms];
            let truth = containerd.run_plain(NAMESPACE, kind.function, &[], &arguments);
            started.push((at, kind.function.to_owned(), truth));
        }
    }
    agent.stop()?;
    let first = FIRST_SAMPLE;
    judge(&agent, &started, &Judged { kinds: &KINDS, stored: STORED, first, by_id: false })
}

fn podman() -> anyhow::Result<Vec<Bar>> {
    let podman = PrivatePodman::running();
    let mut agent = Agent::start_on("podman", &podman.socket(), &[]);
    let mut started: Vec<(usize, String, Value)> = Vec::new();
    for _ in 0..COUNT {
        for (at, kind) in KINDS.iter().enumerate() {
            let label = format!("fnscope.function={}", kind.function);
            let function = ["--label", &label, FUNCTION_IMAGE, "/function", "burn", "--cpu-ms", kind.cpu_ms];
            let said = podman.podman(&[&["run", "--rm"], ALONE, &function].concat());
            started.push((at, String::new(), truth(&said)));
        }
    }
    agent.stop()?;
    let first = FIRST_SAMPLE;
    judge(&agent, &started, &Judged { kinds: &KINDS, stored: STORED, first, by_id: false })
}

fn churn() -> anyhow::Result<Vec<Bar>> {
    const FUNCTIONS: usize = 10;
    /// Pods that run at a time: some end while containerd is away.
    const AT_A_TIME: usize = 5;
    /// Rounds, and those behind which containerd is restarted.
    const ROUNDS: usize = 20;
    const RESTARTS: [usize; 2] = [6, 13];
    let mut containerd = PrivateContainerd::running();
    let mut agent = Agent::start_on("containerd", &containerd.socket(), &[]);
    let mut ids: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..ROUNDS {
        let pods = containerd.pods();
        let of_round: Vec<(String, Pod, String)> = (0..AT_A_TIME)
            .map(|number| {
                let function = format!("churn{}", (round * AT_A_TIME + number) % FUNCTIONS);
                let (pod, id) = start(&pods, &function, "100", "");
                (function, pod, id)
            })
            .collect();
        drop(pods);
        if RESTARTS.contains(&round) {
            containerd.restart();
        }
        let pods = containerd.pods();
        for (function, pod, id) in of_round {
            pods.wait_for_end(&id);
            pods.remove(&pod);
            ids.entry(function).or_default().push(id);
        }
    }
    agent.stop()?;
    let (mut stored, mut missed, mut keys) = (0, 0, HashSet::new());
    for (function, ids) in &ids {
        let rows = agent.instances(function)?;
        stored += rows.len();
        keys.extend(rows.iter().map(|row| text(row, "instance").to_owned()));
        let is_stored = |id: &&String| {
            rows.iter().any(|row| id.get(..12).is_some_and(|id| text(row, "instance").starts_with(id)))
        };
        missed += ids.len() - ids.iter().filter(is_stored).count();
    }
    let all: usize = agent.functions()?.len();
    ensure!(ids.len() == FUNCTIONS, "every function was run");
    let count = (ROUNDS * AT_A_TIME) as f64;
    Ok(vec![
        Bar::new("pods stored under their functions", stored as f64, "", Bound::Within(count, count)),
        Bar::new("of them, different ones", keys.len() as f64, "", Bound::Within(count, count)),
        Bar::new("pods missed", missed as f64, "", Bound::AtMost(0.0)),
        Bar::new("functions stored", all as f64, "", Bound::Within(FUNCTIONS as f64, FUNCTIONS as f64)),
    ])
}
