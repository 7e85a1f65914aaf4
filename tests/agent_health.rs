//! The agent's health, on real agents: metrics that agree with the store, readiness that turns, threads that hang,
//! strangers at the listener, the service manager's socket, and an end in five seconds.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::health_metrics::{Series, read};
use crate::store_faults::Disk;
use crate::support::{Cgroup, DEADLINE, Ended, Fnscope, Function, Running, poll};

/// An end, whatever happens.
const END: Duration = Duration::from_secs(5);

/// Starts an agent and waits until it watches; where it tells its health.
pub fn start(command: &mut Command) -> (Running, SocketAddr) {
    let mut agent = Running::start(command);
    let line = agent.wait_for("health and metrics");
    agent.wait_for("watching");
    (agent, address_in(&line))
}

/// The address in a line that tells of it.
pub fn address_in(line: &str) -> SocketAddr {
    let begin = line.find("127.0.0.1:").unwrap_or_else(|| panic!("no address in {line}"));
    let end = line[begin..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    line[begin..].split_at(end.unwrap_or(line.len() - begin)).0.parse().expect("an address")
}

fn watching(scope: &Fnscope, parent: &Cgroup) -> Command {
    scope.command(["agent", "--no-docker", "--hz", "997", "--cgroup-parent", &parent.kernel_path()])
}

/// What `request` is answered with: all that comes until the end of the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    // It may be refused in the middle.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status and the body of `path`.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = exchange(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).unwrap_or_else(|| panic!("{path}: {answer:?}"))
}

/// What `/metrics` says.
pub fn metrics(address: SocketAddr) -> Series {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    read(&text).unwrap_or_else(|fault| panic!("{fault} in\n{text}"))
}

fn probe(scope: &Fnscope, question: &str, address: SocketAddr) -> Ended {
    scope.run(["health", question, "--address", &address.to_string()])
}

#[test]
fn what_is_told_agrees_with_the_store() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let (agent, address) = start(&mut watching(&scope, &parent));
    let calm = metrics(address);
    assert_eq!((calm["fnscope_samples_total"], calm["fnscope_mode{mode=\"off\"}"]), (0.0, 1.0));
    assert!(calm["fnscope_cpus"] >= 1.0 && calm["fnscope_ring_bytes"] > 0.0 && calm["fnscope_hz"] == 997.0);
    assert_eq!(calm["fnscope_runtime_up{runtime=\"cgroup\"}"], 1.0);

    let child = parent.child("busy@1.1");
    let process = Running::start(&mut child.command(function.path(), &["burn", "--cpu-ms", "900000"]));
    let busy = poll("metrics of what runs", || {
        Some(metrics(address)).filter(|told| told["fnscope_samples_stored_total"] > 300.0)
    });
    for (name, value) in [
        ("fnscope_instances_total", 1.0),
        ("fnscope_instances_living", 1.0),
        ("fnscope_functions_living", 1.0),
    ] {
        assert_eq!(busy[name], value, "{name}");
    }
    assert_eq!(busy["fnscope_mode{mode=\"off\"}"], 0.0);
    // One number of a flush may stand beside another of the flush before: what is compared is asked for later.
    assert!(metrics(address)["fnscope_samples_total"] >= busy["fnscope_samples_stored_total"]);
    assert!(busy["fnscope_store_written_bytes_total"] > 0.0 && busy["fnscope_store_errors_total"] == 0.0);
    assert!(busy["fnscope_last_flush_timestamp_seconds"] > busy["fnscope_start_timestamp_seconds"]);
    assert!(busy["fnscope_agent_cpu_seconds_total"] > 0.0 && busy["fnscope_resident_bytes"] > 1e6);
    assert!(busy["fnscope_open_fds"] > 3.0 && busy["fnscope_open_fds"] < busy["fnscope_max_fds"]);
    assert!(busy["fnscope_files_total{result=\"opened\"}"] >= 1.0);

    drop(process);
    drop(child);
    let last = poll("metrics that agree with the store", || {
        let (told, stored) = (metrics(address), scope.samples(&[]) as f64);
        let nothing = ["instances_living", "functions_living", "queued_bytes"];
        let samples = ["samples_total", "samples_stored_total"];
        (nothing.iter().all(|name| told[&format!("fnscope_{name}")] == 0.0)
            && samples.iter().all(|name| told[&format!("fnscope_{name}")] == stored))
        .then_some(told)
    });
    assert!(last.keys().all(|key| !key.contains("busy")), "no name of a tenant: {last:?}");

    for question in ["--live", "--ready"] {
        let ended = probe(&scope, question, address);
        assert!(ended.code == Some(0) && ended.stdout.lines().count() == 1, "{ended:?}");
    }
    let json: Value = scope.json(["health", "--ready", "--json", "--address", &address.to_string()]);
    assert_eq!((json["ok"].as_bool(), json["answer"].as_str()), (Some(true), Some("ready")), "{json}");
    agent.stop_in_order();
    let ended = probe(&scope, "--live", address);
    assert!(ended.code == Some(1) && ended.stdout.contains("no agent answers"), "{ended:?}");
}

#[test]
fn it_is_ready_while_what_functions_do_is_recorded() {
    let scope = Fnscope::new();
    let nowhere = ["agent", "--docker-socket", "/nowhere/docker.sock"];
    let (agent, address) = start(&mut scope.command(nowhere));
    let (status, said) = get(address, "/readyz");
    assert_eq!(status, 503, "{said}");
    assert!(said.starts_with("not ready\nFAILS: runtimes: docker does not answer\n"), "{said}");
    assert_eq!(get(address, "/healthz").0, 200, "a restart would not mend it");
    let ended = probe(&scope, "--ready", address);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "not ready: runtimes: docker does not answer\n")
    );
    assert_eq!(metrics(address)["fnscope_runtime_up{runtime=\"docker\"}"], 0.0);
    agent.stop_in_order();

    let (disk, function, parent) = (Disk::new("size=4m"), Function::new(), Cgroup::new());
    let store = disk.path().join("profiles");
    let (agent, address) = start(watching(&scope, &parent).arg("--store").arg(&store));
    let child = parent.child("busy.1");
    let process = Running::start(&mut child.command(function.path(), &["burn", "--cpu-ms", "900000"]));
    // The store's thread stands behind what is watched, and behind all else that works here.
    let ready = |wanted: u16| {
        let begin = Instant::now();
        loop {
            let (status, said) = get(address, "/readyz");
            if status == wanted {
                return said;
            }
            assert!(begin.elapsed() < 3 * DEADLINE, "still {status}, not {wanted}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    ready(200);
    // Until nothing more goes in.
    let filler = disk.path().join("filler");
    let mut file = fs::File::create(&filler).expect("make a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    let said = ready(503);
    assert!(said.starts_with("not ready\nFAILS: store: "), "{said}");
    let told = metrics(address);
    assert!(
        told["fnscope_store_errors_total"] > 0.0
            && told["fnscope_samples_dropped_total{reason=\"store\"}"] > 0.0
    );
    // An open file keeps its room.
    drop(file);
    fs::remove_file(&filler).expect("delete it");
    ready(200);
    drop(process);
    drop(child);
    agent.stop_in_order();
}

#[test]
fn strangers_at_the_listener_hinder_nobody() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let (agent, address) = start(&mut watching(&scope, &parent));
    let fds = metrics(address)["fnscope_open_fds"];
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1_000));
    for (request, begin) in [
        (&b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1.1 200"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nbody", "HTTP/1.1 405"),
        (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"),
        (b"GET /api/functions HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"),
        (large.as_bytes(), "HTTP/1.1 4"),
        (many.as_bytes(), "HTTP/1.1 4"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", "HTTP/1.1 400"),
        (b"\0\0\0\0\r\n\r\n", "HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ] {
        let answer = exchange(address, request);
        assert!(
            answer.starts_with(begin),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(request.get(..20).unwrap_or(request))
        );
        assert!(!answer.contains("root:"), "{answer}");
    }
    let head = exchange(address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("application/openmetrics-text"), "{head}");
    let json = exchange(address, b"GET /readyz?format=json HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(json.contains("application/json") && json.contains("\"answer\":\"ready\""), "{json}");

    // Idle ones, and one that says a byte at a time.
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address).expect("connect")).collect();
    let begin = Instant::now();
    let mut slow = TcpStream::connect(address).expect("connect");
    for _ in 0..5 {
        assert_eq!(get(address, "/healthz").0, 200);
    }
    assert!(begin.elapsed() < DEADLINE_OF_A_PROBE, "{:?}", begin.elapsed());
    assert!(metrics(address)["fnscope_open_fds"] <= fds + 32.0);
    let ended = poll("an end of the slow one", || slow.write_all(b"G").is_err().then(|| begin.elapsed()));
    assert!(ended < Duration::from_secs(12), "{ended:?}");
    drop(idle);
    poll("their descriptors to be closed", || (metrics(address)["fnscope_open_fds"] <= fds).then_some(()));
    agent.stop_in_order();
}

/// What a probe of others usually waits.
const DEADLINE_OF_A_PROBE: Duration = Duration::from_secs(5);

#[test]
fn an_address_in_use_is_told_before_anything_is_opened() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = taken.local_addr().expect("it has one").to_string();
    let ended = ended(watching(&scope, &parent).args(["--listen-health", &address]));
    assert_eq!(ended.0, Some(2), "{ended:?}");
    assert!(ended.1.contains(&format!("listen on {address}; listen.health")), "{ended:?}");
    assert!(!scope.store().exists());
    let (agent, _) = {
        let mut agent = Running::start(watching(&scope, &parent).args(["--listen-health", "off"]));
        let line = agent.wait_for("watching");
        (agent, line)
    };
    let said = agent.stop_in_order();
    assert!(!said.contains("health and metrics"), "{said}");
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    Running::start(command).wait()
}

/// A thread of an agent, in a cgroup of its own where it can be stopped alone.
struct Stuck(PathBuf);

impl Stuck {
    /// Stops the thread called `name` of process `pid`, which runs in `cgroup`, while it waits in a system call: a
    /// thread that hangs in one holds no lock of the allocator.
    fn stop(cgroup: &Cgroup, pid: u32, name: &str) -> Stuck {
        let stuck = Stuck(cgroup.path().join(name));
        fs::create_dir(&stuck.0).expect("make a cgroup");
        stuck.write("cgroup.type", "threaded");
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("list threads");
        let is_it = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let task =
            tasks.flatten().find(is_it).unwrap_or_else(|| panic!("process {pid} has no thread {name}"));
        stuck.write("cgroup.threads", &task.file_name().to_string_lossy());
        poll("the thread to wait", || {
            let stat = fs::read_to_string(task.path().join("stat")).expect("read a thread's stat");
            stat.contains(") S ").then_some(())
        });
        stuck.write("cgroup.freeze", "1");
        poll("the thread to stop", || {
            let events = fs::read_to_string(stuck.0.join("cgroup.events")).expect("read cgroup.events");
            events.contains("frozen 1").then_some(())
        });
        stuck
    }

    fn go_on(&self) {
        self.write("cgroup.freeze", "0");
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("write {text} to {file}: {error}"));
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Fails while its thread lives; the folder above then says so.
        let _ = fs::write(self.0.join("cgroup.freeze"), "0");
        let _ = fs::remove_dir(&self.0);
    }
}

/// The service manager, as far as its socket goes.
struct Manager {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().expect("make a folder");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("listen");
        Manager { socket, _dir: dir, path }
    }

    /// What is told within `limit`.
    fn told(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a time");
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Waits until `state` is told.
    fn wait_for(&self, state: &str) {
        poll(state, || {
            self.told(Duration::from_secs(1)).filter(|told| told.lines().any(|line| line == state))
        });
    }

    /// Whether nothing was told for so long.
    fn is_silent_for(&self, limit: Duration) -> bool {
        self.told(limit).is_none()
    }
}

/// `command` as a process of `cgroup`, with what it has of an environment.
fn inside(cgroup: &Cgroup, command: &Command) -> Command {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().expect("plain")).collect();
    let mut inside = cgroup.command(Path::new(command.get_program()), &arguments);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    inside
}

#[test]
fn threads_that_hang_are_told_and_the_end_comes_in_time_all_the_same() {
    let (scope, function, parent, home) = (Fnscope::new(), Function::new(), Cgroup::new(), Cgroup::new());
    let manager = Manager::new();
    let mut command = watching(&scope, &parent);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "1000000");
    let (agent, address) = start(&mut inside(&home, &command));
    let ready = manager.told(Duration::from_secs(10)).unwrap_or_default();
    assert!(ready.starts_with("READY=1\nSTATUS=watching at 997 Hz"), "{ready}");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    let child = parent.child("busy.1");
    let process = Running::start(&mut child.command(function.path(), &["burn", "--cpu-ms", "900000"]));
    poll("its samples", || (scope.samples(&["busy"]) > 300).then_some(()));

    let stuck = Stuck::stop(&home, agent.pid(), "fnscope-capture");
    let said =
        poll("that it is not live", || Some(get(address, "/healthz")).filter(|(status, _)| *status == 503)).1;
    assert!(said.starts_with("not live\nFAILS: capture: "), "{said}");
    let ended = probe(&scope, "--live", address);
    assert!(ended.code == Some(1) && ended.stdout.starts_with("not live: capture: "), "{ended:?}");
    assert_eq!(get(address, "/readyz").0, 503);
    // What was told before it was late.
    while manager.told(Duration::from_millis(1)).is_some() {}
    assert!(manager.is_silent_for(Duration::from_secs(2)), "a dog that is fed by a dead agent");
    stuck.go_on();
    manager.wait_for("WATCHDOG=1");
    assert_eq!(get(address, "/healthz").0, 200);

    // The store's thread hangs, as it does where a disk does not answer.
    let hung = Stuck::stop(&home, agent.pid(), "fnscope-keeper");
    let before = metrics(address)["fnscope_samples_total"];
    poll("samples that wait", || (metrics(address)["fnscope_samples_total"] > before + 300.0).then_some(()));
    let begin = Instant::now();
    agent.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    let (status, said) = get(address, "/readyz");
    assert!(status == 503 && said.contains("FAILS: agent: it writes what is left"), "{said}");
    let (code, said) = agent.wait();
    assert!(begin.elapsed() < END, "{:?}", begin.elapsed());
    assert_eq!(code, Some(2), "{said}");
    let line = said.lines().find(|line| line.contains("the keeper thread does not end")).unwrap_or(&said);
    let unwritten = line.split_once("; ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(unwritten.is_some_and(|count| count >= 300), "{line}");
    // What was written before is there.
    assert!(scope.samples(&["busy"]) > 300);
    drop((process, stuck, hung));
    drop(child);
}

#[test]
fn it_ends_in_time_under_load_and_its_log_is_json_to_the_end() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    // In memory: a process does not end while the kernel syncs a file for it, and other tests keep the disk busy.
    let disk = Disk::new("size=256m");
    let store = disk.path().join("profiles");
    let folder = tempfile::tempdir().expect("make a folder");
    let config = folder.path().join("agent.toml");
    fs::write(&config, "hz = 1999\nmax_hz = 1999\n[store]\nmin_free_bytes = \"0\"\n[log]\nformat = \"json\"\n[runtimes]\ndocker = \"off\"\n")
        .expect("write");
    let mut command = scope.command(["agent", "--cgroup-parent", &parent.kernel_path(), "--config"]);
    let (agent, _) = start(command.arg(&config).arg("--store").arg(&store));
    let store = store.to_str().expect("a plain path");
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let children: Vec<Cgroup> = (0..2 * cpus).map(|no| parent.child(&format!("busy.{no}"))).collect();
    let processes: Vec<Running> = children
        .iter()
        .map(|child| Running::start(&mut child.command(function.path(), &["burn", "--cpu-ms", "900000"])))
        .collect();
    poll("their samples", || (scope.samples(&["busy", "--store", store]) > 2_000).then_some(()));
    let begin = Instant::now();
    let said = agent.stop_in_order();
    assert!(begin.elapsed() < END, "{:?}", begin.elapsed());
    drop(processes);
    drop(children);

    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let last = lines.last().expect("it said something");
    assert_eq!(last["message"], "stopped", "{last}");
    let written = last["written"].as_u64().expect("a count");
    assert_eq!(written, scope.samples(&["--store", store]), "{last}");
    let all = last["samples"].as_u64().expect("a count");
    assert_eq!(all, written + last["dropped"].as_u64().expect("a count"), "{last}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = taken.local_addr().expect("it has one").to_string();
    let (code, said) = ended(command.args(["--listen-health", &address]));
    let line: Value = serde_json::from_str(said.trim_end()).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((code, line["level"].as_str()), (Some(2), Some("ERROR")), "{said}");
}

#[test]
fn it_starts_itself_again_without_thread_caches() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let mut command = watching(&scope, &parent);
    let told = "glibc.malloc.arena_test=3:glibc.malloc.perturb=0";
    let (agent, _) = start(command.env("GLIBC_TUNABLES", told));
    let of_it = |name: &str| {
        let bytes = fs::read(format!("/proc/{}/{name}", agent.pid())).expect("read of its process");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // Before glibc 2.39 its colons become zeros as they are read.
    let environ = of_it("environ").replace('\0', ":");
    let tunables = format!(":GLIBC_TUNABLES={told}:glibc.malloc.tcache_count=0:");
    assert_eq!(environ.matches(&tunables).count(), 1, "{environ}");
    // As it was called, and by the name that ps and pgrep know.
    assert_eq!(of_it("comm"), "fnscope\n");
    assert!(of_it("cmdline").contains("\0agent\0--no-docker\0"), "{}", of_it("cmdline"));
    agent.stop_in_order();
}
