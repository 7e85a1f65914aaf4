//! Life cycles of containers that are made before anybody knows their function, on real ones: OpenWhisk's stem cells,
//! named by the invoker's log, and a pod of Fission's pool, named by its labels. Each waits, is given its function, runs,
//! is frozen, thawed, and runs again. And whose word does not count: a process's, that of a log about another pod.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::answers::{now, number, row, text, us};
use crate::https_server::{Answer, HttpsServer};
use crate::private_docker::{FUNCTION_IMAGE, PrivateDocker};
use crate::support::{Fnscope, poll};

/// How near a change of name must be to what happened, in microseconds.
const NEAR_US: i64 = 50_000;

/// A container of `function proxy`: it starts no process for a function, and is told by a line on stdin to work for one.
struct Proxy<'a> {
    docker: &'a PrivateDocker,
    id: String,
    client: Child,
    stdin: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl<'a> Proxy<'a> {
    /// Starts it, and waits until it has computed for nobody and waits.
    fn start(docker: &'a PrivateDocker, options: &[&str]) -> Proxy<'a> {
        let id_file = docker.path(&format!("proxy-{}", options.len()));
        let _ = std::fs::remove_file(&id_file);
        let mut command = docker.command();
        command.args(["run", "--interactive", "--network=none", "--cidfile"]).arg(&id_file).args(options);
        command.args([FUNCTION_IMAGE, "/function", "proxy", "--stem-ms", "400", "--run-ms", "300"]);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run docker");
        let (stdin, stdout) = (client.stdin.take(), client.stdout.take().expect("it is piped"));
        let mut proxy = Proxy { docker, id: String::new(), client, stdin, said: BufReader::new(stdout) };
        let waits_since_us = number(&proxy.says(), "waits_since_us") as i64;
        // A log tells milliseconds: what one says now is to stand behind all that it has computed for nobody.
        while us(&now()) < waits_since_us + 1_000 {
            std::thread::yield_now();
        }
        proxy.id = std::fs::read_to_string(&id_file).expect("docker has written the id");
        proxy
    }

    fn says(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it speaks");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Has it work once; when that began and ended, by its own clock.
    fn runs(&mut self) -> (i64, i64) {
        let stdin = self.stdin.as_mut().expect("it listens");
        stdin.write_all(b"run\n").and_then(|()| stdin.flush()).expect("it listens");
        let told = self.says();
        let at = |key: &str| number(&told, key) as i64;
        (at("began_us"), at("ended_us"))
    }

    /// Freezes it for two seconds at least; from when to when.
    fn frozen(&self) -> (i64, i64) {
        self.docker.docker(&["pause", &self.id]);
        let begin = us(&now());
        let beside = ["--label=fnscope.function=beside"];
        assert_eq!(self.docker.run_function(&beside, &["burn", "--cpu-ms", "2000"]).0, 0);
        self.docker.docker(&["unpause", &self.id]);
        (begin, us(&now()))
    }

    fn ends(mut self) {
        drop(self.stdin.take());
        assert!(self.client.wait().expect("wait for docker").success());
        self.docker.docker(&["rm", &self.id]);
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// What was told of a life: the pool until `given_us`, the function from then on, which first ran at `began_us`.
fn assert_intervals(scope: &Fnscope, function: &str, given_us: i64, began_us: i64, ended_us: i64) {
    let rows = scope.rows(&["ls"]);
    let named = row(&rows, function);
    let pool = rows.iter().find(|row| text(row, "function").starts_with("(pool ")).expect("a pool");
    let (pool_last, first, last) =
        (us(text(pool, "last_seen")), us(text(named, "first_seen")), us(text(named, "last_seen")));
    assert!(pool_last < given_us + NEAR_US, "the pool's last is {} us behind it", pool_last - given_us);
    assert!(first >= given_us - NEAR_US, "the function's first is {} us before it", given_us - first);
    assert!(first <= began_us + NEAR_US, "the function's first is {} us behind its begin", first - began_us);
    assert!((last - ended_us).abs() <= NEAR_US * 4, "its last is {} us from its end", last - ended_us);
    // In a question a `/` stands between a function and its namespace.
    let stacks = scope.folded(&function.replace('/', "%2F"));
    assert!(stacks.contains("function::serve") && !stacks.contains("stem_cell"), "{stacks}");
    let pool = scope.folded(text(pool, "function"));
    assert!(pool.contains("stem_cell") && !pool.contains("function::serve"), "{pool}");
}

fn assert_frozen(scope: &Fnscope, function: &str, from_us: i64, to_us: i64) {
    let rows = scope.rows(&["throttled"]);
    let told = row(&rows, function);
    let (told, was) = (number(told, "frozen_seconds"), (to_us - from_us) as f64 / 1e6);
    assert!(was >= 2.0 && (told - was).abs() <= 1.0, "told {told} s of {was} s");
}

/// The log of an invoker, written as OpenWhisk writes it.
struct InvokerLog {
    path: PathBuf,
    file: File,
}

impl InvokerLog {
    fn new(path: PathBuf) -> InvokerLog {
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("open the log");
        InvokerLog { path, file }
    }

    /// Writes a line of `component`; when, by the log's own clock.
    fn says(&mut self, component: &str, message: &str) -> i64 {
        let now = us(&now());
        self.said(now, component, message);
        now
    }

    /// The same, with another time.
    fn said(&mut self, at_us: i64, component: &str, message: &str) {
        let time: jiff::Timestamp = jiff::Timestamp::from_microsecond(at_us).expect("a time");
        let line =
            format!("[{time:.3}] [INFO] [#tid_kB9RyCocBItsnSJV2Twlye2wh5Oa4yeN] [{component}] {message}\n");
        self.file.write_all(line.as_bytes()).expect("write the log");
    }

    /// Turns it over, as logrotate does.
    fn turn_over(&mut self) {
        std::fs::rename(&self.path, self.path.with_extension("log.1")).expect("rename the log");
        *self = InvokerLog::new(self.path.clone());
    }
}

/// A configuration of `text` in a file of `docker`'s directory.
fn config(docker: &PrivateDocker, text: &str) -> String {
    let path = docker.path("fnscope.toml");
    std::fs::write(&path, text).expect("write a configuration");
    path.to_str().expect("a plain path").to_owned()
}

/// The log of an invoker, and a configuration by which it is followed.
fn followed_log(docker: &PrivateDocker) -> (InvokerLog, String) {
    let log = InvokerLog::new(docker.path("invoker0_logs.log"));
    let pattern = docker.path("invoker*_logs.log");
    (log, config(docker, &format!("[platform_logs]\nopenwhisk = [{pattern:?}]\n")))
}

#[test]
fn a_stem_cell_of_openwhisk_is_a_pool_until_the_invokers_log_says_otherwise() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let (mut log, config) = followed_log(&docker);
    let agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    let openwhisk = ["--name=wsk0_3_prewarm_nodejs20", "--env=__OW_API_HOST=http://127.0.0.1"];
    let mut container = Proxy::start(&docker, &openwhisk);
    let id = container.id.clone();
    let at = format!("ContainerId({id}) ContainerAddress(172.17.0.4,8080)");

    let given_us = log.says("DockerContainer", &format!("sending initialization to {at}"));
    let (began_us, _) = container.runs();
    log.says("DockerContainer", "initialization result: ok");
    log.turn_over();
    log.says("DockerContainer", &format!("sending arguments to /guest/utils/hello at {at}"));
    container.runs();
    log.says("DockerContainer", "running result: ok");
    poll("the action's samples", || (scope.samples(&["utils%2Fhello"]) > 50).then_some(()));
    log.says(
        "DockerClientWithFileAccess",
        &format!("running /usr/bin/docker pause {id} (timeout: 10 seconds)"),
    );
    let (frozen_us, thawed_us) = container.frozen();
    log.says(
        "DockerClientWithFileAccess",
        &format!("running /usr/bin/docker unpause {id} (timeout: 10 seconds)"),
    );
    log.says("DockerContainer", &format!("sending arguments to /guest/utils/hello at {at}"));
    let (_, ended_us) = container.runs();
    log.says(
        "DockerClientWithFileAccess",
        &format!("running /usr/bin/docker rm -f {id} (timeout: 10 seconds)"),
    );
    container.ends();
    agent.stop_in_order();

    assert_intervals(&scope, "utils/hello", given_us, began_us, ended_us);
    assert_frozen(&scope, "utils/hello", frozen_us, thawed_us);
}

#[test]
fn what_the_log_tells_of_a_container_that_runs_already_is_read_at_the_start() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let (mut log, config) = followed_log(&docker);
    let openwhisk = ["--name=wsk0_3_prewarm_nodejs20", "--env=__OW_API_HOST=http://127.0.0.1"];
    let mut container = Proxy::start(&docker, &openwhisk);
    let at = format!("ContainerId({}) ContainerAddress(172.17.0.4,8080)", container.id);
    log.says("DockerContainer", &format!("sending initialization to {at}"));
    container.runs();
    log.says("DockerContainer", &format!("sending arguments to /guest/hello at {at}"));
    let agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    container.runs();
    poll("the action's samples", || (scope.samples(&["hello"]) > 50).then_some(()));
    // Another action in the same container: from then on its time is nobody's.
    let both_us = log.says("DockerContainer", &format!("sending arguments to /guest/other at {at}"));
    container.runs();
    poll("samples of neither", || (scope.samples(&["(several)"]) > 50).then_some(()));
    container.ends();
    agent.stop_in_order();
    let rows = scope.rows(&["ls"]);
    let (hello, several) = (row(&rows, "hello"), row(&rows, "(several)"));
    assert!(us(text(hello, "last_seen")) <= both_us + NEAR_US, "{hello:#}");
    assert!(us(text(several, "first_seen")) >= both_us - NEAR_US, "{several:#}");
    assert!(rows.iter().all(|row| row["function"] != "other"), "{rows:#?}");
}

/// Fission's own words on a pod of its pool, as the API server has them.
fn pod(id: &str, function: Option<&str>, version: u32) -> String {
    let given = function.map_or_else(String::new, |name| {
        format!(
            r#","functionName":"{name}","functionNamespace":"default","functionUid":"5d2c","managed":"false""#
        )
    });
    format!(
        r#"{{"kind":"Pod","metadata":{{"name":"poolmgr-node-default-7f8c9","namespace":"functions","uid":"0d5a","resourceVersion":"{version}","labels":{{"environmentName":"node","executorType":"poolmgr"{given}}}}},"status":{{"containerStatuses":[{{"name":"node","containerID":"docker://{id}"}}]}}}}"#
    )
}

fn pods(all: &str, version: u32) -> String {
    format!(r#"{{"kind":"PodList","metadata":{{"resourceVersion":"{version}"}},"items":[{all}]}}"#)
}

/// An API server: the pod as it is in a list, and the watch of it, whose sender the test has.
fn api_server(
    directory: &Path,
    listed: Arc<Mutex<String>>,
) -> (HttpsServer, Arc<Mutex<Option<Sender<String>>>>) {
    let watched = Arc::<Mutex<Option<Sender<String>>>>::default();
    let theirs = watched.clone();
    let server = HttpsServer::start(directory, move |request| {
        if request.path.contains("watch=true") {
            let (sender, lines) = channel();
            *theirs.lock().expect("nobody panics with it") = Some(sender);
            return Answer::Lines(lines);
        }
        Answer::Body(200, listed.lock().expect("nobody panics with it").clone())
    });
    (server, watched)
}

/// A pod as cri-dockerd makes it: a sandbox with the pod's labels, and its container, called `called`.
fn start_pod<'a>(docker: &'a PrivateDocker, pod: &str, called: &str, labels: &[&str]) -> (String, Proxy<'a>) {
    let of_pod = [
        format!("--label=io.kubernetes.pod.name={pod}"),
        "--label=io.kubernetes.pod.namespace=functions".into(),
        "--label=io.kubernetes.pod.uid=0d5a".into(),
    ];
    let of_pod = of_pod.each_ref().map(String::as_str);
    let name = format!("--name=k8s_POD_{pod}_functions_0d5a_0");
    let sandbox = [
        name.as_str(),
        "--label=io.kubernetes.docker.type=podsandbox",
        "--label=io.kubernetes.container.name=POD",
    ];
    let sandbox = docker.start_function(&[&sandbox[..], &of_pod[..], labels].concat(), &["idle"]);
    let name = format!("--name=k8s_{called}_{pod}_functions_0d5a_0");
    let called = format!("--label=io.kubernetes.container.name={called}");
    let of_sandbox = format!("--label=io.kubernetes.sandbox.id={sandbox}");
    let container =
        [name.as_str(), "--label=io.kubernetes.docker.type=container", called.as_str(), of_sandbox.as_str()];
    let container = Proxy::start(docker, &[&container[..], &of_pod[..]].concat());
    (sandbox, container)
}

fn fission_pod(docker: &PrivateDocker) -> (String, Proxy<'_>) {
    let labels = ["--label=executorType=poolmgr", "--label=environmentName=node"];
    start_pod(docker, "poolmgr-node-default-7f8c9", "node", &labels)
}

#[test]
fn what_was_written_of_a_pod_that_had_the_name_before_names_nobody() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let (mut log, config) = followed_log(&docker);
    let pod = "wskowdev-invoker-00-3-prewarm-nodejs20";
    let at = format!("ContainerId({pod}) ContainerAddress(10.42.0.191,8080)");
    let sends = |action: &str| format!("sending arguments to {action} at {at}");
    // The invoker before called its pods alike.
    log.said(us(&now()) - 60_000_000, "KubernetesContainer", &sends("/guest/gone"));
    log.says("ContainerPool", "found idle container");
    let labels = ["--label=user-action-pod=true", "--label=invoker=invoker0"];
    let (sandbox, mut container) = start_pod(&docker, pod, "user-action", &labels);
    let agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    container.runs();
    log.says("KubernetesContainer", &format!("sending initialization to {at}"));
    container.runs();
    log.says("KubernetesContainer", &sends("/guest/hello"));
    container.runs();
    poll("the action's samples", || (scope.samples(&["hello"]) > 50).then_some(()));
    container.ends();
    docker.docker(&["rm", "--force", &sandbox]);
    agent.stop_in_order();
    let mut told = scope.rows(&["ls"]).iter().map(|row| text(row, "function").to_owned()).collect::<Vec<_>>();
    told.sort();
    assert!(told.len() == 2 && told[0].starts_with("(pool ") && told[1] == "hello", "{told:?}");
}

#[test]
fn what_a_process_says_of_a_stem_cell_is_its_platforms_to_correct() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let (mut log, config) = followed_log(&docker);
    let agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    // Its child is told that it is /guest/hello.
    let openwhisk = ["--name=wsk0_3_prewarm_nodejs20", "--env=__OW_API_HOST=http://127.0.0.1"];
    let id =
        docker.start_function(&openwhisk, &["action-loop", "--stem-ms", "400", "--child-cpu-ms", "2000"]);
    poll("a guess", || (scope.samples(&["hello"]) > 20).then_some(()));
    let guess = scope.rows(&["ls"]);
    assert_eq!(text(row(&guess, "hello"), "revision"), "0.0.1", "{guess:#?}");
    let at = format!("ContainerId({id}) ContainerAddress(172.17.0.4,8080)");
    log.says("DockerContainer", &format!("sending arguments to /theirs/real at {at}"));
    poll("the platform's word", || (scope.samples(&["real"]) > 50).then_some(()));
    assert_eq!(docker.docker(&["wait", &id]), "0");
    docker.docker(&["rm", &id]);
    agent.stop_in_order();
    // From the child's exec on, whatever it said.
    let rows = scope.rows(&["ls"]);
    assert_eq!(text(row(&rows, "real"), "namespace"), "theirs");
    assert!(rows.len() == 2 && rows.iter().all(|row| row["function"] != "hello"), "{rows:#?}");
    let pool = rows.iter().find(|row| text(row, "function").starts_with("(pool ")).expect("a pool");
    let stacks = scope.folded(text(pool, "function"));
    assert!(stacks.contains("stem_cell") && !stacks.contains("function::burn"), "{stacks}");
}

#[test]
fn a_pod_of_fissions_pool_is_a_pool_until_its_labels_say_otherwise() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let listed = Arc::new(Mutex::new(pods("", 1)));
    let (server, watched) = api_server(&docker.path(""), listed.clone());
    let token = docker.path("token");
    std::fs::write(&token, "t").expect("write a token");
    let written = format!(
        "[kubernetes]\napi = \"apiserver\"\nurl = {:?}\nca = {:?}\ntoken = {token:?}\n",
        server.url(),
        server.ca()
    );
    let config = config(&docker, &written);
    let agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    let (sandbox, mut container) = fission_pod(&docker);
    let watch = poll("a watch", || watched.lock().expect("nobody panics with it").clone());
    let event = |object: &str| format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
    watch.send(event(&pod(&container.id, None, 2))).expect("it is watched");

    // Fission patches the labels, then has the function's code loaded.
    let given_us = us(&now());
    watch.send(event(&pod(&container.id, Some("hello"), 3))).expect("it is watched");
    *listed.lock().expect("nobody panics with it") = pods(&pod(&container.id, Some("hello"), 3), 3);
    // As long as loading takes, at least: the event is on its way.
    assert_eq!(docker.run_function(&["--label=fnscope.function=beside"], &["burn", "--cpu-ms", "100"]).0, 0);
    let (began_us, _) = container.runs();
    poll("the function's samples", || (scope.samples(&["hello"]) > 50).then_some(()));
    let (frozen_us, thawed_us) = container.frozen();
    let (_, ended_us) = container.runs();
    container.ends();
    docker.docker(&["rm", "--force", &sandbox]);
    agent.stop_in_order();

    assert_intervals(&scope, "hello", given_us, began_us, ended_us);
    assert_frozen(&scope, "hello", frozen_us, thawed_us);
    let rows = scope.rows(&["ls"]);
    let hello = row(&rows, "hello");
    assert_eq!((text(hello, "platform"), text(hello, "namespace")), ("fission", "default"));
}

#[test]
fn a_kubelet_that_does_not_answer_leaves_a_pool_a_pool_and_is_told_of_once() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let refuses = Arc::new(Mutex::new(true));
    let (listed, theirs) = (Arc::new(Mutex::new(pods("", 1))), refuses.clone());
    let answers = listed.clone();
    let server = HttpsServer::start(&docker.path(""), move |_| {
        if *theirs.lock().expect("nobody panics with it") {
            return Answer::Body(403, "Forbidden".into());
        }
        Answer::Body(200, answers.lock().expect("nobody panics with it").clone())
    });
    let written =
        format!("[kubernetes]\napi = \"kubelet\"\nurl = {:?}\nca = {:?}\n", server.url(), server.ca());
    let config = config(&docker, &written);
    let mut agent = scope.docker_agent(&docker.socket(), &["--config", &config]);
    assert!(server.requests().is_empty(), "nobody waits for a function yet");
    let (sandbox, mut container) = fission_pod(&docker);
    agent.wait_for("the service account may not read pods");
    *listed.lock().expect("nobody panics with it") = pods(&pod(&container.id, Some("hello"), 3), 3);
    *refuses.lock().expect("nobody panics with it") = false;
    agent.wait_for("Kubernetes answers");
    poll("the function", || {
        container.runs();
        (scope.samples(&["hello"]) > 50).then_some(())
    });
    // Nobody waits any more: nobody is asked.
    let asked = server.requests().len();
    container.runs();
    container.ends();
    docker.docker(&["rm", "--force", &sandbox]);
    agent.stop_in_order();
    assert!(server.requests().len() <= asked + 1, "{} after {asked}", server.requests().len());
    let rows = scope.rows(&["ls"]);
    let pool = rows.iter().find(|row| text(row, "function").starts_with("(pool ")).expect("a pool");
    assert!(!scope.folded(text(pool, "function")).is_empty() && scope.folded("hello").contains("serve"));
}
