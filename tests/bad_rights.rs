//! Rights that are missing: what is missing is named with its cure, nothing is left behind, and with the documented
//! rights alone the agent works, in a container too.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::answers::{assert_covered, row, text};
use crate::private_docker::{FUNCTION_IMAGE, PrivateDocker};
use crate::support::{Fnscope, Running, poll};

/// A folder that anybody may write to, with the program in it, for a user who may not look into our own folders.
struct Public {
    dir: tempfile::TempDir,
}

impl Public {
    fn new() -> Public {
        let dir = tempfile::Builder::new().prefix("public-").tempdir().expect("make a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path(), mode).expect("open the folder to anybody");
        fs::copy(env!("CARGO_BIN_EXE_fnscope"), dir.path().join("fnscope")).expect("copy the program");
        Public { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("profiles")
    }

    /// fnscope as nobody, without any capability.
    fn as_nobody(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        command.arg(self.dir.path().join("fnscope")).args(arguments).env("FNSCOPE_STORE", self.store());
        command.stdin(Stdio::null()).output().expect("run setpriv")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn who_is_not_root_is_told_what_is_missing_and_leaves_nothing() {
    let public = Public::new();
    for (arguments, code, says) in [
        (&["agent", "--no-docker", "--cgroup-parent", "/x"][..], 2, "CAP_PERFMON"),
        (&["agent"], 2, "root"),
        (&["exec", "--", "true"], 125, "needs root"),
        (&["demo", "--dir", "demo-of-nobody"], 2, "demo-of-nobody"),
    ] {
        let output = public.as_nobody(arguments);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(
            said.contains(says) && said.to_lowercase().contains("permission denied"),
            "{arguments:?}: {said}"
        );
        assert!(said.lines().count() == 1 && output.stdout.is_empty(), "{arguments:?}: {said}");
        let left = fs::read_dir(public.dir.path()).expect("list").count();
        assert_eq!(left, 1, "{arguments:?} left something beside the program");
    }
}

#[test]
fn questions_need_no_rights_but_to_read() {
    let public = Public::new();
    crate::made_store::made(&public.store());
    // A store is its owner's alone, until that is changed in one place.
    let output = public.as_nobody(&["ls"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said(&output).contains("Permission denied") && output.stdout.is_empty(), "{output:?}");
    let own = Command::new("chown").args(["-R", "65534"]).arg(public.store()).status();
    assert!(own.expect("run chown").success());
    let output = public.as_nobody(&["ls"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn doctor_names_every_fault_with_its_cure() {
    let public = Public::new();
    let output = public.as_nobody(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for what in ["user", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "perf events"] {
        let begin = format!("FAIL  {what}: ");
        let cure = text.lines().skip_while(|line| !line.starts_with(&begin)).nth(1);
        assert!(cure.is_some_and(|line| line.starts_with("      to mend it: ")), "{what} in:\n{text}");
    }
    assert!(text.contains("sudo fnscope") && text.contains("--cap-add PERFMON"), "{text}");
    let output = public.as_nobody(&["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON, and nothing else");
    assert_eq!(output.status.code(), Some(1));
    for finding in &findings {
        assert_eq!(finding["standing"] == "ok", finding["mend"].is_null(), "{finding:#}");
    }
    assert!(!public.store().exists());

    let scope = Fnscope::new();
    let ended = scope.run(["doctor"]);
    assert!(ended.code == Some(0) && !ended.stdout.contains("FAIL"), "{ended:?}");
    assert!(ended.stdout.contains("ok    perf events: open on "), "{ended:?}");
    // A root that has lost a capability is no root.
    let mut without = Command::new("setpriv");
    without.args([
        "--bounding-set=-perfmon,-sys_admin",
        "--inh-caps=-all",
        env!("CARGO_BIN_EXE_fnscope"),
        "doctor",
    ]);
    let output = without.output().expect("run setpriv");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("FAIL  CAP_PERFMON: missing"), "{text}");
    assert!(text.contains("ok    user: root"), "{text}");
}

/// A file system that cannot be written to.
struct ReadOnly {
    dir: tempfile::TempDir,
}

impl ReadOnly {
    fn new() -> ReadOnly {
        let dir = tempfile::tempdir().expect("make a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "ro,size=1m", "none"]).arg(dir.path());
        assert!(mount.status().expect("run mount").success());
        ReadOnly { dir }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[test]
fn a_store_that_cannot_be_written_is_said_at_once() {
    let (scope, disk) = (Fnscope::new(), ReadOnly::new());
    for place in [disk.dir.path().to_owned(), disk.dir.path().join("deep/profiles")] {
        let store = place.to_str().expect("a plain path");
        let ended = scope.run(["agent", "--no-docker", "--cgroup-parent", "/x", "--store", store]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        let says = format!("write profiles in {store}: Read-only file system");
        assert!(ended.stderr.contains(&says) && ended.stderr.contains("name another directory"), "{ended:?}");
        let ended = scope.run(["exec", "--store", store, "--", "true"]);
        assert!(ended.code == Some(125) && ended.stderr.contains(&says), "{ended:?}");
    }
}

/// `docker run` with `options` of fnscope itself, as it was built: it and the host's libraries are mounted into a
/// container that holds nothing of that kind, beside the host's cgroups.
fn run_fnscope(docker: &PrivateDocker, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", docker.socket().display()));
    command.args(["run", "--rm", "--network=none", "--volume=/sys/fs/cgroup:/sys/fs/cgroup"]);
    command.args(["--volume=/lib:/lib:ro", "--volume=/lib64:/lib64:ro", "--volume"]);
    command.arg(format!("{}:/fnscope:ro", env!("CARGO_BIN_EXE_fnscope")));
    command.args(options).args([FUNCTION_IMAGE, "/fnscope"]).args(arguments).stdin(Stdio::null());
    command
}

#[test]
fn in_a_container_without_rights_it_says_whether_seccomp_or_the_kernel_refuses() {
    let docker = PrivateDocker::with_functions();
    let run = |options: &[&str], arguments: &[&str]| {
        let output = run_fnscope(&docker, options, arguments).output().expect("run docker");
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        (output.status.code(), texts.concat())
    };
    let agent = ["agent", "--no-docker", "--cgroup-parent", "/x", "--store", "/profiles"];
    // As Docker starts everything: its seccomp profile forbids the call before the kernel sees it.
    let (code, said) = run(&[], &agent);
    assert!(code == Some(2) && said.contains("a seccomp profile forbids perf_event_open"), "{said}");
    // Past seccomp it is the capability that is missing, and that is said instead.
    let (code, said) = run(&["--security-opt=seccomp=unconfined"], &agent);
    assert!(code == Some(2) && said.contains("CAP_PERFMON") && !said.contains("seccomp"), "{said}");
    let (code, said) = run(&[], &["doctor"]);
    assert_eq!(code, Some(1), "{said}");
    for says in
        ["FAIL  CAP_PERFMON", "FAIL  pid namespace", "--pid host", "FAIL  perf events", "a filter is on"]
    {
        assert!(said.contains(says), "{says} in:\n{said}");
    }
}

/// The rights that deploy/README.md lists, and no others, as far as the runtime knows them.
fn documented_rights(docker: &PrivateDocker) -> Vec<&'static str> {
    let mut rights = vec![
        "--pid=host",
        "--read-only",
        "--cap-drop=ALL",
        "--cap-add=SYS_PTRACE",
        "--cap-add=DAC_READ_SEARCH",
    ];
    rights.extend(["--security-opt", concat!("seccomp=", env!("CARGO_MANIFEST_DIR"), "/seccomp/agent.json")]);
    rights.extend(["--cap-add=IPC_LOCK", "--cap-add=SYSLOG"]);
    let new = [&rights[..], &["--cap-add=PERFMON", "--cap-add=CHECKPOINT_RESTORE"]].concat();
    let output = run_fnscope(docker, &new, &["doctor"]).output().expect("run docker");
    if said(&output).contains("unknown capability") {
        rights.push("--cap-add=SYS_ADMIN");
        return rights;
    }
    new
}

#[test]
fn in_a_container_with_the_documented_rights_it_works() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let store = format!("--volume={}:/profiles", scope.store().display());
    let socket = format!("--volume={}:/docker.sock", docker.socket().display());
    fs::create_dir(scope.store()).expect("make a folder");
    let options = [&documented_rights(&docker)[..], &[&store, &socket, "--name=agent"]].concat();
    let watch = ["--store", "/profiles", "--docker-socket", "/docker.sock"];

    let doctor =
        run_fnscope(&docker, &options, &[&["doctor"], &watch[..]].concat()).output().expect("run docker");
    let findings = String::from_utf8_lossy(&doctor.stdout).into_owned();
    // Who sets the host's clock is no right, and readers at real-time priority are optional: not every engine may raise
    // the limit that stands for SYS_NICE.
    let may_be = ["warn  clock: ", "warn  real-time: "];
    let warned = findings
        .lines()
        .any(|line| line.starts_with("warn") && !may_be.iter().any(|optional| line.starts_with(optional)));
    assert!(doctor.status.success() && !warned, "{findings}{}", said(&doctor));

    let agent = [&["agent", "--hz", "997"], &watch[..]].concat();
    let mut agent = Running::start(&mut run_fnscope(&docker, &options, &agent));
    agent.wait_for("runtime answers");
    assert_eq!(docker.run_function(&["--label=fnscope.function=fib"], &["fib", "--cpu-ms", "200"]).0, 0);
    poll("its end", || scope.instances(&["fib"]).iter().any(|row| row["exit_code"] == 0).then_some(()));
    docker.docker(&["stop", "agent"]);
    let (code, said) = agent.wait();
    assert!(code == Some(0) && said.contains("stopped"), "{said}");
    let rows = scope.instances(&[]);
    assert_covered(row(&rows, "fib"));
    assert_eq!(text(&scope.top("fib")[0], "frame"), "function::fibonacci");
    assert!(scope.folded("fib").contains("[kernel]_[k]"), "kernel functions have names");
}
