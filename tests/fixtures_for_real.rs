//! The recorded containers of every platform, made for real: each by the runtime that its platform uses, with its labels,
//! names, environment and sandbox, and what the agent concludes is what the record expects.
//!
//! What is not of the record: ids and pods' uids, which the runtime gives; the program, which is ours; images by digest,
//! which nobody can make, and which are named by their tag. CRI-O does not run here: its pods are those of a kubelet, and
//! come by containerd's CRI, which is asked as CRI-O is. Two of the pods get their function by labels that only
//! Kubernetes' API has: without it they are what they were made as, one of the pool.

use std::collections::BTreeMap;
use std::process::Command;

use fnscope::model::{Confidence, Identity};
use fnscope::store::{InstanceRecord, Store};
use serde_json::{Map, Value};

use crate::private_containerd::pods::{ContainerSpec, PodSpec, Pods};
use crate::private_containerd::{PODS_NAMESPACE, PrivateContainerd};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, poll};

const FIXTURES: &str = include_str!("fixtures/identity.json");

/// CPU time of each, in milliseconds.
const BUSY_MS: &str = "250";
/// Of the 50 that this has at 199 Hz.
const LEAST_SAMPLES: usize = 20;

/// Burns CPU time, whatever it is told: as much as the environment says, else until it is killed.
const BUSY: &str = r#"
#include <stdlib.h>
#include <time.h>
int main(void) {
    const char *told = getenv("BUSY_MS");
    long most = told ? atol(told) : 900000;
    struct timespec rest = { 0, 10000000 };
    for (volatile unsigned long n = 0;; n++) {
        if (n % 1000000 == 0) {
            if (clock() / (CLOCKS_PER_SEC / 1000) >= most) return 0;
            if (!told) nanosleep(&rest, NULL);
        }
    }
}
"#;

/// Where programs of recorded images are; and our own.
const PROGRAMS: [&str; 3] = ["busy", "lambda-entrypoint.sh", "var/rapid/init"];

fn fixtures(runtimes: &[&str]) -> Vec<Value> {
    let text: Value = serde_json::from_str(FIXTURES).expect("the fixtures are JSON");
    let all = text["fixtures"].as_array().expect("a list").clone();
    assert_eq!(all.len(), 31);
    let is_of = |fixture: &Value| runtimes.contains(&text_of(fixture, "runtime"));
    all.into_iter().filter(is_of).collect()
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value:#}"))
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("text").to_owned()).collect()
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// An image's name without the digest, with a tag.
fn tagged(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name.to_owned() } else { format!("{name}:latest") }
}

/// What a store knows of containers, by their ids.
fn records(scope: &Fnscope) -> BTreeMap<String, (InstanceRecord, usize)> {
    let store = Store::open(scope.store()).expect("open the store");
    let mut found = BTreeMap::new();
    for journal in store.journals().expect("list the journals") {
        let contents = journal.load(fnscope::model::Window::ALL).expect("read a journal");
        for (at, record) in contents.instances.iter().enumerate() {
            let samples =
                contents.samples.iter().filter(|sample| contents.instance_of(sample) == Some(at)).count();
            found.insert(record.info.container_id.clone(), (record.clone(), samples));
        }
    }
    found
}

/// A container that was made of a fixture.
struct Made {
    fixture: Value,
    /// As the store calls it.
    id: String,
}

impl Made {
    fn name(&self) -> &str {
        text_of(&self.fixture, "id")
    }

    fn expect(&self) -> &Map<String, Value> {
        self.fixture["expect"].as_object().expect("an expectation")
    }

    fn is_function(&self) -> bool {
        self.expect()["function_container"] == true
    }

    /// Whether what is expected is learned of Kubernetes' API alone.
    fn is_by_api(&self) -> bool {
        self.expect().contains_key("identity_source")
    }

    /// Holds `identity`, as it is stored, against what is expected.
    fn judge(&self, identity: &Identity) {
        let (name, expect) = (self.name(), self.expect());
        let got = serde_json::to_value(identity).expect("JSON");
        assert!(identity.function_container, "{name}: {identity:?}");
        if self.is_by_api() {
            assert_eq!(identity.confidence, Confidence::Prewarm, "{name}: {identity:?}");
            assert_eq!(got["platform"], expect["platform"], "{name}");
            assert_eq!(got["instance_name"], expect["instance"], "{name}");
            return;
        }
        for key in ["platform", "namespace", "confidence"] {
            assert_eq!(got[key], expect[key], "{name}: {key} of {identity:?}");
        }
        assert_eq!(got["revision"], expect["version"], "{name}: {identity:?}");
        // What waits for its function is stored by its kind.
        let function = expect.get("runtime_kind").unwrap_or(&expect["function"]);
        assert_eq!(got["function"], *function, "{name}: {identity:?}");
        let instance = identity.instance_name.as_deref().unwrap_or_default();
        match text_of(&self.fixture["expect"], "instance") {
            // None is the container itself.
            "{container.id}" => assert!(instance.is_empty() || instance == self.id, "{name}: {instance}"),
            expected => match expected.split_once("#task-pid+starttime") {
                Some((of, "")) => {
                    let task = instance.strip_prefix(of).and_then(|rest| rest.strip_prefix('#'));
                    let (pid, start) = task
                        .and_then(|task| task.split_once('+'))
                        .unwrap_or_else(|| panic!("{name}: {instance:?} of {identity:?}"));
                    assert!(pid.parse::<u32>().is_ok() && !start.is_empty(), "{name}: {instance}");
                }
                _ => assert_eq!(instance, expected, "{name}"),
            },
        }
    }
}

/// Waits until the store of `scope` has every function of `made` under its name, with its samples or its end, and holds
/// it against what is expected. Of what is no function, nothing is there.
fn judge(scope: &Fnscope, made: &[Made]) {
    let records = poll("every function, named and sampled", || {
        let records = records(scope);
        let is_there = |made: &Made| {
            let found = records.get(&made.id);
            found.is_some_and(|(record, samples)| {
                // What is written in its middle has but some of them.
                (record.ended.is_some() || *samples >= LEAST_SAMPLES)
                    && record.identities.iter().any(|(_, it)| it.function_container)
            })
        };
        made.iter().filter(|made| made.is_function()).all(is_there).then_some(records)
    });
    for made in made {
        let found = records.get(&made.id);
        if made.is_function() {
            let (record, samples) = found.expect("it was there");
            let (_, identity) = record.identities.last().expect("it has a name");
            made.judge(identity);
            assert!(*samples >= LEAST_SAMPLES, "{}: {samples} samples", made.name());
        } else {
            let samples = found.map_or(0, |(_, samples)| *samples);
            let named = found
                .is_some_and(|(record, _)| record.identities.iter().any(|(_, it)| it.function_container));
            assert!(samples == 0 && !named, "{}: {found:?}", made.name());
        }
    }
}

/// Makes images, and containers of them as `docker inspect` has recorded them.
struct OnDocker<'a> {
    docker: &'a PrivateDocker,
}

impl OnDocker<'_> {
    fn new(docker: &PrivateDocker) -> OnDocker<'_> {
        let (root, source) = (docker.path("programs"), docker.path("busy.c"));
        std::fs::write(&source, BUSY).expect("write the program");
        for program in PROGRAMS {
            let path = root.join(program);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a directory");
            let compiled = Command::new("cc").args(["-static", "-O1", "-o"]).arg(&path).arg(&source).status();
            assert!(compiled.expect("run cc").success(), "compile {BUSY}");
        }
        docker.import(&root, "busy:1");
        OnDocker { docker }
    }

    /// The container that `container` is the inspection of; it stays until it has burned what `options` let it.
    fn start(&self, container: &Value, labels: &[(String, String)], options: &[&str]) -> String {
        let config = &container["Config"];
        let image = tagged(text_of(config, "Image"));
        self.docker.docker(&["tag", "busy:1", &image]);
        let mut words: Vec<String> =
            vec!["--name".into(), text_of(container, "Name").trim_start_matches('/').into()];
        for (key, value) in labels {
            words.extend(["--label".into(), format!("{key}={value}")]);
        }
        for line in texts(&config["Env"]) {
            words.extend(["--env".into(), line]);
        }
        let entrypoint = texts(&config["Entrypoint"]).first().cloned().unwrap_or_else(|| "/busy".into());
        words.extend(["--entrypoint".into(), entrypoint, image]);
        words.extend(texts(&config["Cmd"]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.docker.docker(&[&["run", "--detach", "--network", "none"], options, &words].concat())
    }

    /// The container of `fixture`, in its sandbox where it has one: its id, and the sandbox's.
    fn make(&self, fixture: &Value, options: &[&str]) -> (String, Option<String>) {
        let container = &fixture["container"];
        let mut labels = pairs(&container["Config"]["Labels"]);
        let sandbox = fixture.get("sandbox").filter(|sandbox| sandbox.is_object());
        let sandbox =
            sandbox.map(|sandbox| self.start(sandbox, &pairs(&sandbox["Config"]["Labels"]), options));
        if let Some(id) = &sandbox {
            let of = labels.iter_mut().find(|(key, _)| key == "io.kubernetes.sandbox.id");
            of.expect("its sandbox's id").1.clone_from(id);
        }
        (self.start(container, &labels, options), sandbox)
    }
}

#[test]
fn dockers_containers_are_what_their_platforms_made_them() {
    let fixtures = fixtures(&["docker", "docker(cri-dockerd)"]);
    assert_eq!(fixtures.len(), 18, "sixteen, and two of cri-dockerd");
    let mut docker = PrivateDocker::new();
    docker.start();
    let (on, scope) = (OnDocker::new(&docker), Fnscope::new());
    // Half of them run when the agent comes, and half are born while it watches.
    let is_old = |at: usize| at.is_multiple_of(2);
    let mut made: Vec<Made> = Vec::new();
    let mut sandboxes = BTreeMap::new();
    let make = |wanted: bool, made: &mut Vec<Made>, sandboxes: &mut BTreeMap<String, String>| {
        for (at, fixture) in fixtures.iter().enumerate().filter(|(at, _)| is_old(*at) == wanted) {
            let busy = format!("BUSY_MS={BUSY_MS}");
            let options: &[&str] = if is_old(at) { &[] } else { &["--env", &busy] };
            // A sandbox that is recorded by itself too is made with the container in it.
            if text_of(fixture, "id").ends_with("-sandbox-itself") {
                continue;
            }
            let (id, sandbox) = on.make(fixture, options);
            if let Some(sandbox) = sandbox {
                sandboxes.insert(text_of(&fixture["sandbox"], "Id").to_owned(), sandbox);
            }
            made.push(Made { fixture: fixture.clone(), id });
        }
    };
    make(true, &mut made, &mut sandboxes);
    let agent = scope.docker_agent(&docker.socket(), &[]);
    make(false, &mut made, &mut sandboxes);
    for fixture in fixtures.iter().filter(|fixture| text_of(fixture, "id").ends_with("-sandbox-itself")) {
        let id = sandboxes.get(text_of(&fixture["container"], "Id")).expect("it was made").clone();
        made.push(Made { fixture: fixture.clone(), id });
    }
    assert_eq!(made.len(), 18);
    judge(&scope, &made);
    // What is no function is told so by the same daemon, with its platform.
    let socket = docker.socket();
    let socket = socket.to_str().expect("a plain path");
    for made in made.iter().filter(|made| !made.is_function()) {
        let ended = scope.run(["identify", &made.id, "--docker-socket", socket, "--json"]);
        let told: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let told = told.as_array().and_then(|rows| rows.first()).unwrap_or(&told).clone();
        assert_eq!(
            (&told["function_container"], &told["platform"]),
            (&false.into(), &made.expect()["platform"]),
            "{}: {told:#}",
            made.name()
        );
    }
    agent.stop_in_order();
}

#[test]
fn plain_containerds_containers_are_what_faasd_made_them() {
    let fixtures = fixtures(&["containerd"]);
    assert_eq!(fixtures.len(), 2);
    let (mut containerd, scope) = (PrivateContainerd::new(), Fnscope::new());
    containerd.start();
    let agent = scope.containerd_agent(&containerd.socket(), &[]);
    let mut made = Vec::new();
    for fixture in fixtures {
        let (namespace, container) =
            (text_of(&fixture, "containerd_namespace").to_owned(), &fixture["container"]);
        let (image, id) = (tagged(text_of(container, "image")), text_of(container, "id").to_owned());
        containerd.import_files(
            &namespace,
            &image,
            &["/function"],
            &[("function", fnscope::functions::PROGRAM)],
        );
        let mut options = Vec::new();
        for (key, value) in pairs(&container["labels"]) {
            options.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        for line in texts(&container["env"]) {
            options.extend(["--env".to_owned(), line]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        containerd.run_image(&namespace, &image, &id, &options, &["burn", "--cpu-ms", BUSY_MS]);
        made.push(Made { id: format!("{namespace}/{id}"), fixture });
    }
    judge(&scope, &made);
    agent.stop_in_order();
}

/// Makes the pod of `fixture` and runs its container to its end; its id. The pod stays.
fn run_pod(containerd: &PrivateContainerd, pods: &Pods, fixture: &Value) -> String {
    let (container, sandbox) = (&fixture["container"], &fixture["sandbox"]);
    let own = pairs(&container["labels"]);
    let own: BTreeMap<&str, &str> = borrowed(&own).into_iter().collect();
    let mut labels = pairs(&sandbox["labels"]);
    // The kubelet's own are those of this pod.
    labels.retain(|(key, _)| !key.starts_with("io.kubernetes.pod."));
    let annotations = pairs(&sandbox["annotations"]);
    let pod = pods.run(&PodSpec {
        name: own["io.kubernetes.pod.name"],
        namespace: own["io.kubernetes.pod.namespace"],
        labels: &borrowed(&labels),
        annotations: &borrowed(&annotations),
        ..PodSpec::default()
    });
    let image = tagged(text_of(container, "image"));
    containerd.import_files(
        PODS_NAMESPACE,
        &image,
        &["/function"],
        &[("function", fnscope::functions::PROGRAM)],
    );
    let env = texts(&container["env"]);
    let env: Vec<(&str, &str)> = env.iter().filter_map(|line| line.split_once('=')).collect();
    let annotations = pairs(&container["cri_annotations"]);
    let spec = ContainerSpec {
        name: own["io.kubernetes.container.name"],
        image: &image,
        env: &env,
        annotations: &borrowed(&annotations),
    };
    let id = pods.create_as(&pod, &spec, &["burn", "--cpu-ms", BUSY_MS]);
    pods.start(&id);
    pods.wait(&pod, &id, spec.name);
    id
}

#[test]
fn pods_are_what_their_platforms_made_them_by_containerd_and_by_the_cri() {
    let fixtures = fixtures(&["containerd-cri"]);
    assert_eq!(fixtures.len(), 11);
    let (containerd, by_containerd, by_cri) = (PrivateContainerd::running(), Fnscope::new(), Fnscope::new());
    let pods = containerd.pods();
    let agents = [
        by_containerd.containerd_agent(&containerd.socket(), &[]),
        by_cri.cri_agent(&containerd.socket(), &[]),
    ];
    let made: Vec<Made> = fixtures
        .into_iter()
        .map(|fixture| Made { id: run_pod(&containerd, &pods, &fixture), fixture })
        .collect();
    for scope in [&by_containerd, &by_cri] {
        judge(scope, &made);
    }
    for agent in agents {
        agent.stop_in_order();
    }
}
