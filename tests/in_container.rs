//! The image that `make image` makes, run with the documented rights and no others: every capability dropped but those,
//! a read-only root, the host's process ids, the seccomp profile of this repository. The agent works there, and profiles
//! other containers. runc takes the exact set; Docker what its version knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::agent_health;
use crate::answers::{assert_covered, row, text};
use crate::private_docker::PrivateDocker;
use crate::support::{Cgroup, Fnscope, Running, poll};

/// The capabilities of deploy/README.md, with their numbers.
pub const RIGHTS: [(&str, u32); 6] = [
    ("PERFMON", 38),
    ("SYS_PTRACE", 19),
    ("CHECKPOINT_RESTORE", 40),
    ("DAC_READ_SEARCH", 2),
    ("IPC_LOCK", 14),
    ("SYSLOG", 34),
];

/// What Docker 20.10 needs in place of the two that it does not know.
const SYS_ADMIN: (&str, u32) = ("SYS_ADMIN", 21);

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs deploy/pack, for the Docker of `docker` where one is given. The program is built as tests are, which takes
/// seconds where a release takes minutes; it is static all the same.
pub fn pack(arguments: &[&str], docker: Option<&PrivateDocker>) {
    let mut command = Command::new(repository("deploy/pack"));
    command.args(arguments).stdin(Stdio::null());
    if let Some(docker) = docker {
        command.env("DOCKER_HOST", format!("unix://{}", docker.socket().display()));
    }
    let output = command.output().expect("run deploy/pack");
    assert!(
        output.status.success(),
        "deploy/pack {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn tag() -> String {
    format!("fnscope:{}", env!("CARGO_PKG_VERSION"))
}

/// Every thread of `pid` holds `rights` at most, cannot get more, and has a seccomp filter on; its root is read-only.
pub fn assert_confined(pid: u32, rights: &[(&str, u32)]) {
    let documented = rights.iter().fold(0_u64, |mask, (_, bit)| mask | 1 << bit);
    let threads: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it runs")
        .map(|entry| entry.expect("a thread").path())
        .collect();
    assert!(threads.len() > 2, "the agent and its readers: {threads:?}");
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).expect("it runs");
        let field = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.map(str::trim).unwrap_or_else(|| panic!("no {name} in {status}")).to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let held = u64::from_str_radix(&field(set), 16).expect("a mask");
            assert_eq!(held & !documented, 0, "{set} {held:#x} is more than {rights:?}: {status}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()), "{status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[4] == "/");
    assert!(root.is_some_and(|root| root[5].split(',').any(|option| option == "ro")), "{mounts}");
}

/// A function of Docker's is seen whole, with its name and its frames, by an agent that stores to `scope`.
fn assert_profiles(docker: &PrivateDocker, scope: &Fnscope) {
    assert_eq!(docker.run_function(&["--label=fnscope.function=fib"], &["fib", "--cpu-ms", "200"]).0, 0);
    poll("its end", || scope.instances(&["fib"]).iter().any(|row| row["exit_code"] == 0).then_some(()));
}

fn assert_profiled(scope: &Fnscope) {
    let rows = scope.instances(&[]);
    assert_covered(row(&rows, "fib"));
    assert_eq!(text(&scope.top("fib")[0], "frame"), "function::fibonacci");
    assert!(scope.folded("fib").contains("[kernel]_[k]"), "kernel functions have names");
}

/// What the agent is asked to do in a container: the file that the image has, and flags over it.
const AGENT: [&str; 5] = ["agent", "--config", "/etc/fnscope/fnscope.toml", "--hz", "997"];

#[test]
fn with_runc_and_the_exact_rights_it_profiles_other_containers() {
    profiles_under_runc(oci_seccomp);
}

/// No systemd runs here: its filter, as systemd itself spells it out, is put on by runc, with the same rights.
#[test]
fn with_the_system_calls_that_the_unit_allows_it_profiles_other_containers() {
    profiles_under_runc(|_| unit_seccomp());
}

/// The program in the image tells which commit it was built from.
fn assert_tells_its_revision() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let packed = repository("target/pack/image/root/usr/bin/fnscope");
    let arguments = ["agent", "--no-docker", "--cgroup-parent", &parent.kernel_path()];
    let (agent, address) = agent_health::start(&mut scope.command_of(packed, arguments));
    let git =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(repository("")).output();
    let head = git.ok().filter(|git| git.status.success()).map(|git| git.stdout);
    let revision = head.map_or("unknown".into(), |head| String::from_utf8_lossy(&head).trim().to_owned());
    let version = env!("CARGO_PKG_VERSION");
    let told = agent_health::metrics(address);
    let build = format!("fnscope_build_info{{version=\"{version}\",revision=\"{revision}\"}}");
    assert_eq!(told.get(&build), Some(&1.0), "{build} in {told:?}");
    agent.stop_in_order();
}

fn profiles_under_runc(seccomp: fn(&[String]) -> Value) {
    pack(&["root", "dev"], None);
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    assert_tells_its_revision();
    fs::create_dir(scope.store()).expect("make a folder");
    let bundle = Bundle::new(&docker, &scope, seccomp);
    let mut agent = Running::start(&mut bundle.command(&["run", "--bundle", &bundle.folder(), &bundle.id]));
    agent.wait_for_all(&[" watching ", "runtime answers"]);
    assert_confined(bundle.pid(), &RIGHTS);
    assert_profiles(&docker, &scope);
    // runc passes it on.
    let said = agent.stop_in_order();
    assert!(said.contains("stopped"), "{said}");
    assert_profiled(&scope);
}

#[test]
fn with_docker_and_the_rights_that_it_knows_it_profiles_other_containers() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    pack(&["image", "dev"], Some(&docker));
    assert_labelled(&docker);
    fs::create_dir(scope.store()).expect("make a folder");
    let rights = known_rights(&docker);
    // A configuration of one's own, which has it listen elsewhere.
    let mounted = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(mounted.path(), "hz = 997\n[listen]\nhealth = \"127.0.0.1:9999\"\n").expect("write a file");
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", docker.socket().display()));
    command.args(["run", "--rm", "--name=agent", "--health-interval=1s", "--health-start-period=0s"]);
    command.args(["--network=none", "--pid=host", "--cgroupns=host"]);
    command.args(["--read-only", "--tmpfs=/tmp:size=16m,mode=0700", "--cap-drop=ALL"]);
    command.args(rights.iter().map(|(name, _)| format!("--cap-add={name}")));
    let profile = repository("seccomp/agent.json");
    command.args(["--security-opt=no-new-privileges", "--memory=384m"]);
    command.arg(format!("--security-opt=seccomp={}", profile.display()));
    command.arg("--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro");
    command.arg(format!("--volume={}:/var/lib/fnscope", scope.store().display()));
    command.arg(format!("--volume={}:/var/run/docker.sock", docker.socket().display()));
    command.arg(format!("--volume={}:/etc/fnscope/fnscope.toml:ro", mounted.path().display()));
    command.arg(tag()).stdin(Stdio::null());
    let mut agent = Running::start(&mut command);
    agent.wait_for_all(&["127.0.0.1:9999", " watching ", "runtime answers"]);
    assert_confined(docker.pid("agent"), &rights);
    docker.docker(&["exec", "agent", "/usr/bin/fnscope", "health", "--live"]);
    // The image's own check asks where that file has it listen.
    poll("the engine to find it healthy", || {
        let told = docker.docker(&["inspect", "--format", "{{.State.Health.Status}}", "agent"]);
        (told.trim() == "healthy").then_some(())
    });
    assert_profiles(&docker, &scope);
    docker.docker(&["stop", "agent"]);
    let (code, said) = agent.wait();
    assert!(code == Some(0) && said.contains("stopped"), "{said}");
    assert_profiled(&scope);
}

/// The documented rights; SYS_ADMIN for those that this Docker does not know.
fn known_rights(docker: &PrivateDocker) -> Vec<(&'static str, u32)> {
    let add = RIGHTS.map(|(name, _)| format!("--cap-add={name}"));
    let mut arguments = vec!["run", "--rm", "--network=none", "--cap-drop=ALL"];
    arguments.extend(add.iter().map(String::as_str));
    let tag = tag();
    arguments.extend([tag.as_str(), "--version"]);
    let output = docker.try_docker(&arguments);
    if output.status.success() {
        return RIGHTS.to_vec();
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("unknown capability"), "{said}");
    let known = RIGHTS.into_iter().filter(|(name, _)| !["PERFMON", "CHECKPOINT_RESTORE"].contains(name));
    known.chain([SYS_ADMIN]).collect()
}

/// The image says what it is, and how it is asked whether it lives.
fn assert_labelled(docker: &PrivateDocker) {
    let told = docker.docker(&["image", "inspect", "--format", "{{json .Config}}", &tag()]);
    let config: Value = serde_json::from_str(&told).expect("JSON");
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].as_str();
    assert_eq!(label("version"), Some(env!("CARGO_PKG_VERSION")), "{config:#}");
    assert_eq!(label("licenses"), Some(env!("CARGO_PKG_LICENSE")), "{config:#}");
    assert!(label("revision").is_some_and(|revision| !revision.is_empty()), "{config:#}");
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/fnscope"]), "{config:#}");
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "/usr/bin/fnscope", "health", "--live"]),
        "{config:#}"
    );
}

/// The image's root with a configuration for runc.
struct Bundle {
    dir: tempfile::TempDir,
    id: String,
}

impl Bundle {
    fn new(docker: &PrivateDocker, scope: &Fnscope, seccomp: fn(&[String]) -> Value) -> Bundle {
        let dir = tempfile::tempdir().expect("make a folder");
        let copied =
            Command::new("cp").arg("-a").arg(repository("target/pack/image/root")).arg(dir.path()).status();
        assert!(copied.expect("run cp").success());
        let id = format!("fnscope-test-{}", std::process::id());
        let config = configuration(&id, &docker.socket(), scope.store(), seccomp);
        fs::write(dir.path().join("config.json"), config.to_string()).expect("write a file");
        Bundle { dir, id }
    }

    fn folder(&self) -> String {
        self.dir.path().to_str().expect("a plain path").to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.path().join("state")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Its process, as the host sees it.
    fn pid(&self) -> u32 {
        let output = self.command(&["state", &self.id]).output().expect("run runc");
        let state: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        u32::try_from(state["pid"].as_u64().expect("a process id")).expect("it fits")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Fails where it has ended and runc has removed it.
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

/// What deploy/compose.yaml says, in the words of the Open Container Initiative.
fn configuration(id: &str, docker: &Path, store: &Path, seccomp: fn(&[String]) -> Value) -> Value {
    let rights = RIGHTS.map(|(name, _)| format!("CAP_{name}"));
    let bind = |from: &Path, to: &str, options: &[&str]| {
        let options = [&["rbind", "nosuid", "nodev", "noexec"], options].concat();
        json!({ "destination": to, "type": "bind", "source": from, "options": options })
    };
    let line = [&["/usr/bin/fnscope"][..], &AGENT].concat();
    // Process ids and cgroups are the host's: no namespaces for them.
    let namespaces = ["mount", "ipc", "uts", "network"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": line,
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": { "bounding": rights, "effective": rights, "permitted": rights },
            "noNewPrivileges": true,
        },
        "root": { "path": "root", "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "nodev", "noexec", "ro"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "noexec", "size=16m"] },
            bind(Path::new("/sys/fs/cgroup"), "/sys/fs/cgroup", &["ro"]),
            bind(store, "/var/lib/fnscope", &[]),
            bind(docker, "/var/run/docker.sock", &[]),
        ],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{id}"),
            "seccomp": seccomp(&rights),
        },
    })
}

/// seccomp/agent.json, which has Docker's format, as Docker makes it of it for `rights` on x86-64.
fn oci_seccomp(rights: &[String]) -> Value {
    let profile = fs::read_to_string(repository("seccomp/agent.json")).expect("read the profile");
    let profile: Value = serde_json::from_str(&profile).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let held = |name: &Value| name.as_str().is_some_and(|name| rights.iter().any(|right| right == name));
    let counts = |rule: &&Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let arches = list(&includes["arches"]);
        (arches.is_empty() || arches.contains(&json!("amd64")))
            && !list(&excludes["arches"]).contains(&json!("amd64"))
            && list(&includes["caps"]).iter().all(held)
            && !list(&excludes["caps"]).iter().any(held)
    };
    let plain = |rule: &Value| {
        let kept = ["names", "action", "args", "errnoRet"].into_iter().filter(|key| !rule[*key].is_null());
        kept.map(|key| (key.to_owned(), rule[key].clone())).collect::<serde_json::Map<_, _>>()
    };
    let rules: Vec<_> = list(&profile["syscalls"]).iter().filter(counts).map(plain).collect();
    assert!(rules.iter().any(|rule| list(&rule["names"]).contains(&json!("perf_event_open"))), "{rules:#?}");
    let mut seccomp = json!({
        "defaultAction": profile["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    });
    if !profile["defaultErrnoRet"].is_null() {
        seccomp["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    seccomp
}

/// The `SystemCallFilter=` lines of the unit.
fn unit_seccomp() -> Value {
    let unit = fs::read_to_string(repository("deploy/fnscope.service")).expect("read the unit");
    let mut allowed = system_calls("@default");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let named = line.trim_start_matches('~').split(' ').flat_map(system_calls);
        match line.starts_with('~') {
            true => named.for_each(|name| {
                allowed.remove(&name);
            }),
            false => allowed.extend(named),
        }
    }
    assert!(allowed.contains("perf_event_open") && !allowed.contains("mount"), "{allowed:?}");
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }],
    })
}

/// The system calls of `name`: itself, or those of a group of systemd's.
fn system_calls(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return [name.to_owned()].into();
    }
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["--no-pager", "syscall-filter", name]).output().expect("run systemd-analyze");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let members =
        text.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with('#'));
    members.flat_map(system_calls).collect()
}
