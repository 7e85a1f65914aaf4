//! What the agent holds, and what it cannot do: each capability taken away, each thread of one at work, a call outside
//! the filter, and the profile for containers beside the code's own table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fnscope::privilege::system_calls;
use rustix::process::Signal;
use serde_json::Value;

use crate::answers::assert_covered;
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

/// The table of deploy/README.md: what is kept once the agent runs, by capability number.
const KEPT: [u32; 6] = [38, 19, 40, 2, 14, 23];

/// The thread that looks at what no runtime has claimed, cut to what the kernel keeps of a name.
const DISCOVERY: &str = "fnscope-discove";
/// Those that open files for reading alone, or none.
const OPEN_LITTLE: [&str; 5] =
    ["fnscope-parser", "fnscope-runtime", "fnscope-logs", "fnscope-pods", DISCOVERY];
/// What that one keeps.
const DISCOVERS: u64 = 1 << 19 | 1 << 2;

/// fnscope without `capability`, in its own bounds and among what it inherits.
fn without(scope: &Fnscope, capability: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", &format!("--bounding-set={capability}")]);
    command.arg(env!("CARGO_BIN_EXE_fnscope")).args(arguments).env("FNSCOPE_STORE", scope.store());
    command
}

#[test]
fn each_capability_that_is_missing_is_told() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let path = parent.kernel_path();
    let agent = ["agent", "--no-docker", "--cgroup-parent", &path];
    for (capability, name, doctor, agent_says) in [
        ("-sys_ptrace", "SYS_PTRACE", "FAIL", "functions of other users have no names"),
        (
            "-checkpoint_restore,-sys_admin",
            "CHECKPOINT_RESTORE",
            "warn",
            "replaced while they ran have no names",
        ),
        ("-dac_read_search", "DAC_READ_SEARCH", "FAIL", "only their owner may read have no names"),
        ("-syslog", "SYSLOG", "warn", "kernel code shows as [kernel]"),
    ] {
        let mut running = Running::start(&mut without(&scope, capability, &agent));
        let line = running.wait_for(&format!("CAP_{name} is missing"));
        assert!(line.contains(agent_says) && line.contains("WARN"), "{line}");
        running.wait_for(" watching ");
        running.stop_in_order();
        let output = without(&scope, capability, &["doctor"]).output().expect("run setpriv");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let begin = format!("{doctor}  CAP_{name}: missing: ");
        assert!(text.lines().any(|line| line.starts_with(&begin) && line.contains(agent_says)), "{text}");
        assert!(text.contains(&format!("--cap-add {name} (docker)")), "{text}");
    }
    // Without SYS_NICE, and without a limit that stands for it, the agent works, and its readers are as anybody.
    let as_anybody = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        let without = without(&scope, "-sys_nice", arguments);
        command.args(["--rtprio=0", "--nice=0"]).arg(without.get_program()).args(without.get_args());
        command.env("FNSCOPE_STORE", scope.store()).env("FNSCOPE_STACK_REALTIME", "on");
        command
    };
    let mut running = Running::start(&mut as_anybody(&agent));
    running.wait_for(" watching ");
    let readers = poll("its readers", || Some(policies(running.pid())).filter(|readers| !readers.is_empty()));
    assert!(readers.iter().all(|policy| policy == "0"), "SCHED_OTHER: {readers:?}");
    running.stop_in_order();
    let output = as_anybody(&["doctor"]).output().expect("run prlimit");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut warned =
        text.lines().skip_while(|line| !line.starts_with("warn  real-time: neither CAP_SYS_NICE nor "));
    let mend = warned.nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(mend.contains("--cap-add SYS_NICE") && mend.contains("LimitRTPRIO=1"), "{text}");
    // Without these two nothing is opened, and no store is left behind.
    let fresh = Fnscope::new();
    for (capability, says) in [("-perfmon,-sys_admin", "CAP_PERFMON"), ("-ipc_lock", "CAP_IPC_LOCK")] {
        let output = without(&fresh, capability, &agent).output().expect("run setpriv");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{capability}: {said}");
        assert!(!fresh.store().exists());
        // It opens what the agent would, and says so beforehand.
        let output = without(&fresh, capability, &["doctor"]).output().expect("run setpriv");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut failed = text.lines().skip_while(|line| !line.starts_with("FAIL  perf events: "));
        let mend = failed.nth(1).unwrap_or_else(|| panic!("{text}"));
        assert!(output.status.code() == Some(1) && mend.contains(says), "{capability}: {text}");
    }
}

/// The scheduling policy of each reader thread of `pid`, by its number.
fn policies(pid: u32) -> Vec<String> {
    /// Of a thread's `stat`, behind its name: proc_pid_stat(5) counts it as the 41st of all.
    const POLICY: usize = 41 - 3;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the agent lives");
    let of = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.expect("list").path().join("stat")).expect("a thread's stat");
        let (name, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        let policy = rest.split(' ').nth(POLICY).expect("a policy").to_owned();
        name.contains("(fnscope-cpu").then_some(policy)
    };
    tasks.filter_map(of).collect()
}

/// What `/proc/PID/task/*/status` says of every thread: its name, and the fields.
fn threads(pid: u32) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the agent lives");
    let of = |task: std::io::Result<fs::DirEntry>| {
        let status =
            fs::read_to_string(task.expect("list").path().join("status")).expect("a thread's status");
        let fields = status.lines().filter_map(|line| line.split_once(":\t"));
        let fields: BTreeMap<String, String> =
            fields.map(|(name, value)| (name.into(), value.trim().into())).collect();
        (fields["Name"].clone(), fields)
    };
    tasks.map(of).collect()
}

#[test]
fn every_thread_holds_what_is_documented_and_no_more() {
    let usual = [
        "fnscope",
        "fnscope-keeper",
        "fnscope-seal",
        "fnscope-capture",
        "fnscope-parser",
        DISCOVERY,
        "fnscope-cpu0",
    ];
    threads_hold_what_is_documented("", &usual, None);
}

/// Events of each cgroup take one thread more, debug files another, logs of platforms and Kubernetes one each: then the process may talk to other hosts, and each
/// thread but that one has a filter more, which forbids it.
#[test]
fn every_thread_does_so_with_events_of_each_cgroup_and_debug_files() {
    let config = "attach = \"per-cgroup\"\n[stack]\ndebuginfod = [\"http://127.0.0.1:9\"]\n\
        [platform_logs]\nopenwhisk = [\"/nowhere/invoker*.log\"]\n\
        [kubernetes]\napi = \"kubelet\"\nurl = \"http://127.0.0.1:9\"\n";
    let more = [
        "fnscope",
        "fnscope-keeper",
        "fnscope-capture",
        "fnscope-cpu0",
        "fnscope-cgroups",
        "fnscope-fetch",
        "fnscope-logs",
        "fnscope-pods",
    ];
    threads_hold_what_is_documented(config, &more, Some(4));
}

/// With `config` there are threads `expected`, each with so many filters where that is told: each gives two programs.
fn threads_hold_what_is_documented(config: &str, expected: &[&str], filters: Option<u32>) {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    // What an earlier agent leaves is sealed, and what is over its bound dropped.
    let work = |number: u32, agent: &Running| {
        let child = parent.child(&format!("fib.{number}"));
        let mut run = child.command(function.path(), &["fib", "--cpu-ms", "300"]);
        assert_eq!(Running::start(&mut run).wait().0, Some(0));
        let all = threads(agent.pid());
        poll("its account", || {
            scope.instances(&["fib"]).iter().any(|row| !row["coverage"].is_null()).then_some(())
        });
        all
    };
    let path = parent.kernel_path();
    let file = scope.store().parent().expect("it lies in a folder").join("fnscope.toml");
    fs::write(&file, config).expect("write a configuration");
    let file = file.to_str().expect("a plain path");
    let options = [
        "--config",
        file,
        "--docker-socket",
        "/nowhere/docker.sock",
        "--hz",
        "997",
        "--cgroup-parent",
        &path,
    ];
    let killed = scope.agent(&options);
    work(1, &killed);
    killed.signal(Signal::KILL);
    killed.wait();
    let mut agent = scope.agent(&options);
    agent.wait_for("sealed");
    let all = work(2, &agent);

    let kept: u64 = KEPT.iter().map(|bit| 1 << bit).sum();
    let own = fs::read_to_string("/proc/self/status").expect("our own status");
    let held = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).expect("a field");
    let kept = kept & u64::from_str_radix(held, 16).expect("a set");
    let names: BTreeSet<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    for expected in expected {
        assert!(names.contains(expected), "{expected} of {names:?}");
    }
    for (name, fields) in &all {
        let works = ["fnscope-capture", "fnscope-cgroups"].contains(&name.as_str())
            || name.starts_with("fnscope-cpu");
        // Kernels before 5.9 do not say.
        if let (Some(expected), Some(installed)) = (filters, fields.get("Seccomp_filters")) {
            // What the parser would open, and others for more than reading, is refused by one more.
            let expected = expected + u32::from(OPEN_LITTLE.contains(&name.as_str()));
            assert_eq!(*installed, expected.to_string(), "filters of {name}");
        }
        let holds = match name.as_str() {
            DISCOVERY => kept & DISCOVERS,
            _ if works => kept,
            _ => 0,
        };
        for (field, expected) in [
            ("CapEff", format!("{holds:016x}")),
            ("CapPrm", format!("{holds:016x}")),
            ("CapInh", format!("{:016x}", 0)),
            ("CapAmb", format!("{:016x}", 0)),
            ("CapBnd", format!("{kept:016x}")),
            ("NoNewPrivs", "1".into()),
            ("Seccomp", "2".into()),
        ] {
            assert_eq!(fields[field], expected, "{field} of {name}");
        }
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    rows.iter().for_each(assert_covered);
}

#[test]
fn without_the_sandbox_everything_is_kept_and_that_is_said() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let mut agent =
        scope.start(["agent", "--no-docker", "--cgroup-parent", &parent.kernel_path(), "--no-sandbox"]);
    agent.wait_for("sandbox is off");
    agent.wait_for(" watching ");
    for (name, fields) in threads(agent.pid()) {
        assert_eq!((fields["Seccomp"].as_str(), fields["NoNewPrivs"].as_str()), ("0", "0"), "{name}");
    }
    agent.stop_in_order();
}

/// The filter is of a process, so the double is one: `tests/programs/double.rs`, built with the tests.
#[test]
fn a_call_outside_the_filter_ends_the_process() {
    const SIGSYS: i32 = 31;
    for (what, killed) in [
        ("work", false),
        ("engine", false),
        ("exec", true),
        ("network", true),
        ("owner", true),
        ("kill", true),
        ("keeper-work", false),
        ("keeper-engine", true),
        ("keeper-exec", true),
        ("fetcher-network", false),
        ("fetcher-exec", true),
        ("capture-work", false),
        ("capture-engine", false),
        ("capture-network", true),
        ("runtimes-make", false),
        ("runtimes-engine", false),
        ("runtimes-thread", false),
        ("runtimes-exec", true),
        ("runtimes-network", true),
        ("logs-look", false),
        ("logs-engine", true),
        ("logs-exec", true),
        ("pods-look", false),
        ("pods-network", false),
        ("pods-exec", true),
        ("parser-make", false),
        ("parser-engine", true),
        ("parser-exec", true),
        ("discovery-look", false),
        ("discovery-thread", true),
        ("discovery-engine", true),
        ("discovery-exec", true),
        ("main-work", false),
        ("main-network", true),
    ] {
        // What a panic would tell of itself takes calls of its own.
        let status = Command::new(double()).arg(what).env_remove("RUST_BACKTRACE").status();
        let status = status.expect("run the double (cargo build --example double)");
        let expected = if killed { (None, Some(SIGSYS)) } else { (Some(42), None) };
        assert_eq!((status.code(), status.signal()), expected, "{what}");
    }
}

fn double() -> PathBuf {
    let own = std::env::current_exe().expect("find ourselves");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in a folder of their own");
    folder.join("examples/double")
}

/// By DNS, as glibc does: the server is the double's own, which a namespace of its own makes the host's.
#[test]
fn the_fetcher_looks_up_names_of_hosts() {
    let folder = tempfile::tempdir().expect("make a folder");
    let servers = folder.path().join("resolv.conf");
    fs::write(&servers, "nameserver 127.9.5.3\noptions attempts:1 timeout:5\n").expect("write it");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\" fetcher-resolve",
    ]);
    let output = command.arg("sh").arg(&servers).arg(double()).output().expect("run unshare");
    assert_eq!((output.status.code(), output.status.signal()), (Some(42), None), "{output:?}");
}

/// The profile for containers: names, with what is said of each.
fn profile() -> BTreeMap<String, String> {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/seccomp/agent.json")).expect("the profile");
    let profile: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut names = BTreeMap::new();
    for rule in profile["syscalls"].as_array().expect("a list") {
        let why = rule["comment"].as_str().expect("a reason").to_string();
        for name in rule["names"].as_array().expect("a list") {
            let twice = names.insert(name.as_str().expect("a name").to_string(), why.clone());
            assert!(twice.is_none(), "{name} stands there twice");
        }
    }
    names
}

#[test]
fn the_profile_for_containers_is_the_table_and_the_start() {
    let profile = profile();
    let table: BTreeMap<_, _> = system_calls().collect();
    for (name, why) in &table {
        assert_eq!(profile.get(*name).map(String::as_str), Some(*why), "{name}");
    }
    for (name, why) in profile.iter().filter(|(name, _)| !table.contains_key(name.as_str())) {
        assert!(why.starts_with("start: "), "{name}: {why}");
    }
    for never in
        ["ptrace", "process_vm_readv", "bpf", "setns", "unshare", "mount", "init_module", "kexec_load"]
    {
        assert!(!profile.contains_key(never), "{never}");
    }
}
