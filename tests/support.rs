//! What the integration tests stand on: the built fnscope, the example function, containers and cgroups.
//!
//! All of it is real; nothing here stands in for something else. What a helper makes, it removes when it is dropped.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longest wait for something that takes milliseconds where all is well.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The built fnscope with a profiles directory of its own.
pub struct Fnscope {
    store: PathBuf,
    _dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; none if a signal ended it.
    pub code: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

impl Fnscope {
    /// With an empty profiles directory.
    pub fn new() -> Fnscope {
        let dir = tempfile::tempdir().expect("make a folder");
        Fnscope { store: dir.path().join("profiles"), _dir: dir }
    }

    /// With the profiles directory `store`, which is left as it is.
    pub fn on(store: PathBuf) -> Fnscope {
        Fnscope { store, _dir: tempfile::tempdir().expect("make a folder") }
    }

    /// The profiles directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The command line with its directory set and nothing else of the caller's configuration.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_of(built(), arguments)
    }

    /// The same of another build of the program.
    pub fn command_of<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FNSCOPE_") {
                command.env_remove(name);
            }
        }
        // Most tests run a build that is not optimized, ten times as slow: those that are about the budget give one.
        command.env("FNSCOPE_BUDGET_CPU", "0");
        command.args(arguments).env("FNSCOPE_STORE", &self.store).stdin(Stdio::null());
        // Any port: an agent of the host may have the usual one.
        command.env("FNSCOPE_LISTEN_HEALTH", "127.0.0.1:0");
        // Whatever else runs on the host is not what a test is about.
        for runtime in ["CONTAINERD", "K3S", "CRIO", "PODMAN"] {
            command.env(format!("FNSCOPE_RUNTIMES_{runtime}"), "off");
        }
        command
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        ended(self.command(arguments).output().expect("run fnscope"))
    }

    /// Runs it to its end, which must be a good one; its stdout as JSON.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"))
    }

    /// Starts it.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// Starts an agent with `options` and waits until it watches.
    pub fn agent(&self, options: &[&str]) -> Running {
        let mut agent = self.start([&["agent"], options].concat());
        agent.wait_for(" watching ");
        agent
    }

    /// Starts an agent on the Docker behind `socket` and waits until that has told of all its containers. 997 Hz:
    /// enough samples of a short life.
    pub fn docker_agent(&self, socket: &Path, options: &[&str]) -> Running {
        let socket = socket.to_str().expect("a plain path");
        let mut agent = self.start([&["agent", "--docker-socket", socket, "--hz", "997"], options].concat());
        agent.wait_for_all(&[" watching ", "runtime answers"]);
        agent
    }

    /// Starts an agent on the containerd behind `socket` and waits until that has told of all its containers.
    pub fn containerd_agent(&self, socket: &Path, options: &[&str]) -> Running {
        let mut command = self.command([&["agent", "--no-docker", "--hz", "997"], options].concat());
        let mut agent = Running::start(command.env("FNSCOPE_RUNTIMES_CONTAINERD", socket));
        agent.wait_for_all(&[" watching ", "runtime answers"]);
        agent
    }

    /// Starts an agent on the CRI behind `socket` and waits until that has told of all its containers.
    pub fn cri_agent(&self, socket: &Path, options: &[&str]) -> Running {
        let mut command = self.command([&["agent", "--no-docker", "--hz", "997"], options].concat());
        let mut agent = Running::start(command.env("FNSCOPE_RUNTIMES_CRIO", socket));
        agent.wait_for_all(&[" watching ", "runtime answers"]);
        agent
    }

    /// The rows of `fnscope QUESTION --json`; none where it finds nothing, or no store yet.
    pub fn rows(&self, question: &[&str]) -> Vec<Value> {
        let ended = self.run([question, &["--json"]].concat());
        let nothing_yet = ended.code == Some(1) || ended.stderr.contains("there are none yet");
        assert!(ended.code == Some(0) || nothing_yet, "{question:?}: {ended:?}");
        if ended.stdout.is_empty() {
            return Vec::new();
        }
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"))
    }

    /// The rows of `fnscope instances`, narrowed down by `options`.
    pub fn instances(&self, options: &[&str]) -> Vec<Value> {
        self.rows(&[&["instances"], options].concat())
    }

    /// How many samples the store has of what `options` of `instances` choose.
    pub fn samples(&self, options: &[&str]) -> u64 {
        self.instances(options).iter().map(|row| row["samples"].as_u64().expect("a count")).sum()
    }

    /// The stacks of `function` as folded text, all phases.
    pub fn folded(&self, function: &str) -> String {
        let ended = self.run(["folded", function, "--phase", "all"]);
        assert_eq!(ended.code, Some(0), "{function}: {ended:?}");
        ended.stdout
    }

    /// The rows of `fnscope top` of `function`.
    pub fn top(&self, function: &str) -> Vec<Value> {
        self.rows(&["top", function])
    }
}

/// The number that an agent `said` of `key` as it stopped.
pub fn told(said: &str, key: &str) -> u64 {
    let value = said.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {said}"))
}

/// Asks `question` again and again until it has an answer, which is returned; `what` says what is waited for.
pub fn poll<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        // For questions whose answer tells nobody that it has changed.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Four standard deviations of the share that `samples` samples show, as a part of it: samples of a clock that has no
/// step in common with the program are as good as drawn, so they are off by their square root, and beyond four times
/// that once in 15,000 times.
pub fn four_sigma(samples: u64) -> f64 {
    4.0 / (samples.max(1) as f64).sqrt()
}

/// The program under test: where cargo says it is, or beside an example that was built with it.
fn built() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_fnscope") {
        Some(path) => path.into(),
        None => {
            let own = std::env::current_exe().expect("find our own program");
            let folder = own.parent().and_then(Path::parent).expect("examples lie in a folder of their own");
            folder.join("fnscope")
        }
    }
}

fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A process that runs beside the test. Killed when it is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts `command` and reads what it says, on stdout and on stderr.
    pub fn start(command: &mut Command) -> Running {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start a process");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        for pipe in [stdout, stderr].into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        Running { child, lines, seen: String::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says a line that holds `text`, and returns that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_within(text, DEADLINE)
    }

    /// The same, for what takes as long as `limit` where all is well.
    pub fn wait_for_within(&mut self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let _ = writeln!(self.seen, "{line}");
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `{text}` within {limit:?} of:\n{}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("ended without `{text}`:\n{}", self.seen),
            }
        }
    }

    /// Waits until it has said lines that hold each of `texts`, which may come in any order, and returns those lines.
    pub fn wait_for_all(&mut self, texts: &[&str]) -> Vec<String> {
        let (mut missing, mut found) = (texts.to_vec(), Vec::new());
        while !missing.is_empty() {
            let line = self.wait_for("");
            if let Some(at) = missing.iter().position(|text| line.contains(text)) {
                missing.remove(at);
                found.push(line);
            }
        }
        found
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(pid_of(&self.child), signal)
            .expect("signal a child that was not waited for");
    }

    /// Whether it ends within `limit`.
    pub fn ends_within(&self, limit: Duration) -> bool {
        ends_within(pid_of(&self.child), limit)
    }

    /// Waits for its end: exit status, none after a signal, and all that it said.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("wait for a child");
        self.seen.extend(self.lines.iter().map(|line| line + "\n"));
        (status.code(), std::mem::take(&mut self.seen))
    }

    /// SIGTERM, then [`Running::wait`].
    pub fn stop(self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Running {
    /// SIGTERM, and an end with status 0; what it said.
    pub fn stop_in_order(self) -> String {
        let (code, said) = self.stop();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until process `pid` has ended, whether somebody reaped it or not; false if it lives longer than `limit`.
pub fn ends_within(pid: Pid, limit: Duration) -> bool {
    // What cannot be opened is gone.
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(limit).expect("minutes fit");
    rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).expect("poll a process")
        > 0
}

/// Whether process `pid` catches `signal` now; one that has ended catches none.
pub fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|caught| caught >> (signal.as_raw() - 1) & 1 == 1)
}

/// The process id of `child`, which was not waited for.
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a child's process id is above 0")
}

/// The example function, installed in a folder of its own.
pub struct Function {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Function {
    /// Installs it.
    pub fn new() -> Function {
        let dir = tempfile::tempdir().expect("make a folder");
        let path = fnscope::functions::install(dir.path()).expect("install the example function");
        Function { path, _dir: dir }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The JSON line that the example function ends with: the last of `said`.
pub fn truth(said: &str) -> Value {
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: not the function's last line: {said}"))
}

/// The Docker of this host, with the example function as an image.
pub struct Docker {
    image: String,
}

impl Docker {
    /// Imports the image unless this very program has been imported before.
    pub fn new() -> Docker {
        let hash = Sha256::digest(fnscope::functions::PROGRAM);
        let tag: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let image = format!("fnscope-test/function:{tag}");
        if docker(&["image", "inspect", &image]).code != Some(0) {
            let function = Function::new();
            let folder = function.path().parent().expect("it lies in a folder");
            let archive = folder.join("image.tar");
            let status =
                Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).arg("function").status();
            assert!(status.expect("run tar").success());
            docker_ok(&[
                "import",
                "--change",
                r#"ENTRYPOINT ["/function"]"#,
                &archive.to_string_lossy(),
                &image,
            ]);
        }
        Docker { image }
    }

    /// The image's name.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Starts a container of the example function without network. `options` stand before the image.
    pub fn start(&self, options: &[&str], arguments: &[&str]) -> Container {
        let mut line = vec!["run", "--detach", "--network", "none"];
        line.extend(options);
        line.push(&self.image);
        line.extend(arguments);
        Container { id: docker_ok(&line).trim().into() }
    }

    /// Runs one to its end, which must be a good one, and removes it; its id and its truth.
    pub fn run(&self, options: &[&str], arguments: &[&str]) -> (String, Value) {
        let container = self.start(options, arguments);
        let (code, said) = container.wait();
        assert_eq!(code, 0, "{said}");
        (container.id.clone(), truth(&said))
    }
}

/// A container. Removed by force when it is dropped.
pub struct Container {
    /// Its full id.
    pub id: String,
}

impl Container {
    /// Waits for its end: exit status and stdout.
    pub fn wait(&self) -> (i32, String) {
        let code = docker_ok(&["wait", &self.id]);
        (code.trim().parse().expect("docker wait prints a status"), self.logs())
    }

    /// What it has written to stdout.
    pub fn logs(&self) -> String {
        docker_ok(&["logs", &self.id])
    }

    /// `docker COMMAND` on it.
    pub fn docker(&self, command: &str) {
        docker_ok(&[command, &self.id]);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.id]);
    }
}

fn docker(arguments: &[&str]) -> Ended {
    ended(
        Command::new("docker")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("run docker (tests/services start)"),
    )
}

fn docker_ok(arguments: &[&str]) -> String {
    let ended = docker(arguments);
    assert_eq!(ended.code, Some(0), "docker {arguments:?}: {}", ended.stderr);
    ended.stdout
}

/// A cgroup of version 2 that this test made. Dropped: everything in it is killed and it is removed.
pub struct Cgroup {
    mount: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// A new one below the root of the host's cgroup2 hierarchy.
    pub fn new() -> Cgroup {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mount = cgroup2_mount();
        let path = mount.join(format!("fnscope-test-{}-{number}", std::process::id()));
        Cgroup::make(mount, path)
    }

    /// One below this one; drop it first.
    pub fn child(&self, name: &str) -> Cgroup {
        Cgroup::make(self.mount.clone(), self.path.join(name))
    }

    fn make(mount: PathBuf, path: PathBuf) -> Cgroup {
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("make cgroup {} (needs root): {error}", path.display()));
        Cgroup { mount, path }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path as the kernel's records have it: from the hierarchy's root, with a leading slash.
    pub fn kernel_path(&self) -> String {
        let inner = self.path.strip_prefix(&self.mount).expect("it was made below the mount");
        format!("/{}", inner.display())
    }

    /// Its id: what the kernel's samples carry.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("it lives as long as this value").ino()
    }

    /// CPU time of all that ran in it, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).expect("read cpu.stat");
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        usage.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no usage_usec in {stat}"))
    }

    /// `program` with `arguments`, inside the cgroup from its first instruction: a shell moves itself there and
    /// becomes it.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(self.path.join("cgroup.procs"));
        command.arg(program).args(arguments).stdin(Stdio::null());
        command
    }

    /// Waits until no process is left in it or below it.
    pub fn wait_until_empty(&self) {
        let mut file = fs::File::open(self.path.join("cgroup.events")).expect("open cgroup.events");
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Through the file that is polled: the kernel tells of changes since its last reading.
            let mut events = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut events)).expect("read cgroup.events");
            if events.lines().any(|line| line == "populated 0") {
                return;
            }
            assert!(Instant::now() < deadline, "{} is not empty after {DEADLINE:?}", self.path.display());
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&second))
                .expect("poll cgroup.events");
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // No second panic: what is left behind, the first one explains.
            end_cgroup(&self.path, Duration::from_secs(5));
            return;
        }
        fs::write(self.path.join("cgroup.kill"), "1").expect("kill what is left in a cgroup");
        self.wait_until_empty();
        fs::remove_dir(&self.path).expect("remove an empty cgroup");
    }
}

/// Kills what is in the cgroup at `dir`, where the kernel does that, and removes it, as far as it goes within `limit`.
pub fn end_cgroup(dir: &Path, limit: Duration) {
    let _ = fs::write(dir.join("cgroup.kill"), "1");
    let deadline = Instant::now() + limit;
    while dir.exists() && fs::remove_dir(dir).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where hierarchies of cgroups may be mounted, that of a pure cgroup2 host included.
pub fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    below.chain([root])
}

fn cgroup2_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let fields = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
    let found = mounts.lines().map(fields).find(|line| line.get(2).is_some_and(|kind| kind == "cgroup2"));
    found.and_then(|line| line.get(1).map(PathBuf::from)).expect("cgroup2 is mounted on this host")
}
