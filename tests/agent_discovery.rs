//! The agent where no runtime tells it anything: containers are found by their cgroups and named by what the host shows of
//! them, with the confidence that this deserves; and a runtime that speaks later is believed instead.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fnscope::model::{Confidence, Identity, Window};
use fnscope::store::Store;

use crate::answers::{assert_covered, row, text};
use crate::private_docker::PrivateDocker;
use crate::support::{Fnscope, Running, end_cgroup, hierarchies, poll};

const LONG: [&str; 3] = ["burn", "--cpu-ms", "900000"];
const LAMBDA: [&str; 2] = ["--env=LAMBDA_TASK_ROOT=/var/task", "--env=AWS_LAMBDA_FUNCTION_NAME=resize"];

/// What the store was told last that container `id` is; its agent's end seals the journal.
fn identity(scope: &Fnscope, id: &str) -> Identity {
    poll("what it is, in the journal", || told(scope, id))
}

fn told(scope: &Fnscope, id: &str) -> Option<Identity> {
    let store = Store::open(scope.store()).expect("a store");
    let journals = store.journals().expect("its journals");
    let contents = journals.iter().map(|journal| journal.load(Window::ALL).expect("read a journal"));
    let of = contents.flat_map(|journal| journal.instances).filter(|of| of.info.container_id == id);
    let told = of.filter_map(|mut instance| instance.identities.pop().map(|(_, identity)| identity));
    told.last()
}

/// An agent that asks no runtime, with `config` beside that.
fn agent(scope: &Fnscope, config: &str) -> Running {
    let file = scope.store().parent().expect("it lies in a folder").join("fnscope.toml");
    fs::write(&file, format!("hz = 997\n{config}")).expect("write a configuration");
    scope.agent(&["--no-docker", "--config", file.to_str().expect("a plain path")])
}

#[test]
fn functions_of_a_moment_are_named_without_a_runtime() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = agent(&scope, "");
    let run = |options: &[&str]| {
        let (code, id) = docker.run_function(options, &["fib", "--cpu-ms", "50"]);
        assert_eq!(code, 0);
        id
    };
    let rie = run(&LAMBDA);
    let knative = run(&["--env=K_SERVICE=hello", "--env=K_REVISION=hello-00001"]);
    let fnproject = run(&["--env=FN_FN_ID=01FN", "--env=FN_APP_ID=01APP"]);
    let sam = run(&["--env=AWS_SAM_LOCAL=true", "--env=AWS_LAMBDA_FUNCTION_NAME=thumb"]);
    let plain = run(&["--env=PATH=/bin"]);
    let expected = [
        // Of the engine's own file, which is as good as its word.
        (&rie, "aws-lambda-rie", "resize", Confidence::Exact, "discovered:lambda-rie"),
        (&knative, "knative", "hello", Confidence::Guessed, "discovered:knative-env"),
        // Its name, which an engine alone knows, would confirm it.
        (&fnproject, "fnproject", "01FN", Confidence::Guessed, "discovered:fn-env"),
        (&sam, "aws-sam-local", "thumb", Confidence::Exact, "discovered:sam-local"),
    ];
    for (id, .., confidence, rule) in expected {
        let identity = identity(&scope, id);
        assert_eq!((identity.confidence, identity.rule.as_str()), (confidence, rule), "{identity:?}");
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    for (id, platform, function, ..) in expected {
        let told = row(&rows, function);
        assert_eq!(text(told, "platform"), platform, "{told:#}");
        assert!(text(told, "instance").starts_with(&id[..12]), "{told:#}");
        assert_covered(told);
        assert!(told["samples"].as_u64() > Some(10), "{told:#}");
    }
    assert_eq!(rows.len(), 4, "{plain} is no function: {rows:#?}");
}

#[test]
fn what_a_process_says_of_itself_is_no_more_than_guessed() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let id = docker.start_function(&LAMBDA, &LONG);
    // Its engine's file is gone, as it is where another engine keeps it elsewhere: what is left is the process.
    let state = docker.path("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
    fs::remove_file(state.join(&id).join("config.json")).expect("the bundle of a container that runs");
    let agent = agent(&scope, "");
    poll("its samples", || (scope.samples(&["resize"]) > 100).then_some(()));
    let identity = identity(&scope, &id);
    assert_eq!((identity.confidence, identity.rule.as_str()), (Confidence::Guessed, "discovered:lambda-rie"));
    docker.docker(&["rm", "--force", &id]);
    agent.stop_in_order();
}

/// No gVisor runs here: `runc` stands behind its program's name, as in `sandboxes`.
#[test]
fn a_function_in_a_sandbox_has_no_stacks_where_no_runtime_tells_of_it() {
    let programs = tempfile::tempdir().expect("make a folder");
    let runsc = programs.path().join("runsc");
    fs::write(&runsc, "#!/bin/sh\nexec runc \"$@\"\n").expect("write a script");
    fs::set_permissions(&runsc, fs::Permissions::from_mode(0o755)).expect("make it a program");
    let runsc = runsc.to_str().expect("a plain path");
    let (docker, scope) = (PrivateDocker::with_runtimes(&[("another", runsc)]), Fnscope::new());
    let agent = agent(&scope, "");
    let burn = ["burn", "--cpu-ms", "300"];
    let (code, hidden) = docker.run_function(&[&LAMBDA[..], &["--runtime=another"]].concat(), &burn);
    assert_eq!(code, 0);
    let (code, _) = docker.run_function(&["--env=K_SERVICE=hello", "--env=K_REVISION=hello-00001"], &burn);
    assert_eq!(code, 0);
    assert_eq!(identity(&scope, &hidden).rule, "discovered:lambda-rie");
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = row(&rows, "resize");
    assert_eq!((text(told, "unseen"), text(told, "runtime_handler")), ("gvisor", runsc), "{told:#}");
    assert_eq!(told["samples"], 0, "{told:#}");
    let seen = row(&rows, "hello");
    assert_eq!((seen["unseen"].is_null(), text(seen, "runtime_handler")), (true, "runc"), "{seen:#}");
    assert_covered(seen);
}

#[test]
fn a_runtime_that_speaks_later_is_believed_from_the_start() {
    let (mut docker, scope) = (PrivateDocker::that_keeps_containers(), Fnscope::new());
    let labels = ["--label=fnscope.function=late", "--label=fnscope.namespace=demo"];
    let id = docker.start_function(&[&LAMBDA[..], &labels].concat(), &LONG);
    docker.kill();
    let socket = docker.socket();
    let socket = socket.to_str().expect("a plain path");
    let mut agent = scope.agent(&["--docker-socket", socket, "--hz", "997"]);
    poll("what its environment says", || (scope.samples(&["resize"]) > 100).then_some(()));
    docker.start();
    agent.wait_for("runtime answers");
    poll("what its label says", || (scope.samples(&["demo/late"]) > 200).then_some(()));
    let told = identity(&scope, &id);
    assert_eq!((told.confidence, told.rule.as_str()), (Confidence::Exact, "fnscope-labels"));
    docker.docker(&["rm", "--force", &id]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_covered(row(&rows, "late"));
    let functions = scope.rows(&["ls"]);
    assert!(functions.len() == 1 && functions[0]["function"] == "late", "from its start: {functions:#?}");
}

/// A pod's cgroup, as the kubelet makes them, for as long as this lives.
struct PodCgroup(PathBuf);

impl Drop for PodCgroup {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            let own = hierarchy.join(&self.0);
            end_cgroup(&own, std::time::Duration::from_secs(2));
            // Those above it, where nobody else has anything in them.
            own.ancestors().skip(1).take(2).for_each(|above| drop(fs::remove_dir(above)));
        }
    }
}

#[test]
fn a_pods_names_come_by_the_names_of_its_logs() {
    const POD: &str = "3c1c2d3e-0000-4111-8222-123456789abc";
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let path = format!("kubepods-fnscope/burstable/pod{POD}");
    let _cgroup = PodCgroup(PathBuf::from(&path));
    // A node's folders, as the kubelet leaves them.
    let node = tempfile::tempdir().expect("make a folder");
    let link = |container: &str, id: &str| {
        let name = format!("figlet-7d9c-x2_openfaas-fn_{container}-{id}.log");
        let target = format!("/var/log/pods/openfaas-fn_figlet-7d9c-x2_{POD}/{container}/0.log");
        std::os::unix::fs::symlink(target, node.path().join("containers").join(name)).expect("link a log");
    };
    fs::create_dir_all(node.path().join("containers")).expect("make a folder");
    fs::create_dir_all(node.path().join("pods").join(format!("openfaas-fn_figlet-7d9c-x2_{POD}")))
        .expect("make a folder");
    // Links of others, and names that are none.
    link("other", &"a".repeat(64));
    fs::write(node.path().join("containers/_.log"), "").expect("write a file");
    let agent = agent(&scope, &format!("[discovery]\nvar_log = \"{}\"\n", node.path().display()));
    let parent = format!("--cgroup-parent=/{path}");
    let id = docker.start_function(&[&parent, "--env=fprocess=figlet"], &LONG);
    // The kubelet makes it when the container runs.
    link("figlet", &id);
    poll("its samples under its name", || (scope.samples(&["openfaas-fn/figlet"]) > 100).then_some(()));
    let named = identity(&scope, &id);
    assert_eq!(
        (named.confidence, named.rule.as_str()),
        (Confidence::Guessed, "discovered:openfaas-watchdog")
    );
    docker.docker(&["rm", "--force", &id]);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let told = row(&rows, "figlet");
    for (key, value) in
        [("platform", "openfaas"), ("namespace", "openfaas-fn"), ("instance_name", "figlet-7d9c-x2")]
    {
        assert_eq!(text(told, key), value, "{told:#}");
    }
    assert_covered(told);
}

#[test]
fn discovery_that_is_off_finds_nothing() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let agent = agent(&scope, "[discovery]\nenabled = false\n");
    assert!(threads(agent.pid()).iter().all(|name| name != "fnscope-discove"));
    assert_eq!(docker.run_function(&LAMBDA, &["fib", "--cpu-ms", "50"]).0, 0);
    agent.stop_in_order();
    assert!(scope.instances(&[]).is_empty());
}

fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the agent lives").flatten();
    let name = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
    tasks.map(|task| name(&task.path())).collect()
}
