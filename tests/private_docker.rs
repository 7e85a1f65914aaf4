//! A Docker daemon of a test's own, so that it may be killed and restarted. Needs root and `dockerd`, `docker` and
//! `cc` on the path; no network, no registry, no bridge.
//!
//! Dropping it removes its containers, stops the daemon and the containerd that it started, and deletes its data.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::support::{end_cgroup, ends_within, hierarchies, pid_of};

/// Longest wait for a daemon to come up or go down. It takes a quarter of a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Name of the image that holds `/nap`.
pub const IMAGE: &str = "nap:1";

/// Name of the image that holds the example function, as `/function` and again as `/other`.
pub const FUNCTION_IMAGE: &str = "function:1";

/// `/nap MS [CODE]`: sleeps and exits. SIGTERM ends it, though it is the first process of its namespace.
const NAP: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(143); }
int main(int argc, char **argv) {
    signal(SIGTERM, end);
    long ms = argc > 1 ? atol(argv[1]) : 0;
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
    return argc > 2 ? atoi(argv[2]) : 0;
}
"#;

/// A daemon and its directory.
pub struct PrivateDocker {
    dir: TempDir,
    daemon: Option<Child>,
    live_restore: bool,
    /// Whether it is of a group of processes of its own.
    apart: bool,
    /// `--add-runtime=` of its own.
    runtimes: Vec<String>,
}

/// The cgroups of Docker's container `id`, in whatever hierarchies there may be.
pub fn cgroups_of(id: &str) -> impl Iterator<Item = PathBuf> {
    hierarchies().map(move |hierarchy| hierarchy.join("docker").join(id))
}

impl PrivateDocker {
    /// A place for a daemon; nothing runs yet and there is no socket.
    pub fn new() -> PrivateDocker {
        let dir = tempfile::Builder::new().prefix("docker-").tempdir().expect("make a directory");
        std::fs::create_dir(dir.path().join("exec")).expect("make a directory");
        PrivateDocker { dir, daemon: None, live_restore: false, apart: false, runtimes: Vec::new() }
    }

    /// A running daemon with [`IMAGE`].
    pub fn running() -> PrivateDocker {
        let mut docker = PrivateDocker::new();
        docker.start();
        docker.import_nap();
        docker
    }

    /// A running daemon with [`FUNCTION_IMAGE`].
    pub fn with_functions() -> PrivateDocker {
        let mut docker = PrivateDocker::new();
        docker.start();
        docker.import_function();
        docker
    }

    /// The same with more runtimes: names, and the programs that they are.
    pub fn with_runtimes(runtimes: &[(&str, &str)]) -> PrivateDocker {
        let mut docker = PrivateDocker::new();
        for (name, program) in runtimes {
            // Scripts are put into its directory.
            let program = match program.starts_with("#!") {
                true => docker.script(name, program).display().to_string(),
                false => (*program).into(),
            };
            docker.runtimes.push(format!("--add-runtime={name}={program}"));
        }
        docker.start();
        docker.import_function();
        docker
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(&format!("runtime-{name}"));
        std::fs::write(&path, text).expect("write a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
        path
    }

    /// The same, and its containers outlive it: the next start finds them running.
    pub fn that_keeps_containers() -> PrivateDocker {
        PrivateDocker::new().kept(false)
    }

    /// The same, and what interrupts its starter does not reach it: whoever takes a signal for more than its own end
    /// ends it in order.
    pub fn that_is_not_interrupted() -> PrivateDocker {
        PrivateDocker::new().kept(true)
    }

    fn kept(mut self, apart: bool) -> PrivateDocker {
        (self.live_restore, self.apart) = (true, apart);
        self.start();
        self.import_function();
        self
    }

    /// A command that a signal to its starter reaches where it reaches the daemon.
    fn of_its_group(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.apart {
            command.process_group(0);
        }
        command
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends what a daemon began as it was killed and never heard of again: shims, and the containers behind them.
    fn end_orphans(&self) {
        let own = self.path("exec").display().to_string();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split('\0');
            if !words.next().is_some_and(|program| program.contains("containerd-shim"))
                || !line.contains(&own)
            {
                continue;
            }
            let number = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(shim) = number.and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(shim, Signal::KILL);
            }
            let Some(id) = words.skip_while(|word| *word != "-id").nth(1) else { continue };
            for dir in cgroups_of(id) {
                end_cgroup(&dir, Duration::from_secs(2));
            }
        }
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the daemon already runs");
        let log = File::options().create(true).append(true).open(self.path("log")).expect("open the log");
        let mut command = Command::new("dockerd");
        if self.apart {
            command.process_group(0);
        }
        let daemon = command
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs", "--add-runtime=second=runc"])
            .args(&self.runtimes)
            .args(self.live_restore.then_some("--live-restore"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start dockerd; install the package docker.io");
        self.daemon = Some(daemon);
        let deadline = Instant::now() + LIMIT;
        while !self.try_docker(&["version"]).status.success() {
            let exited = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().expect("wait for dockerd"));
            if exited.is_some() || Instant::now() > deadline {
                self.daemon = None;
                panic!("dockerd did not come up ({exited:?}):\n{}", self.log());
            }
            // It has nobody to tell.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon as an operator would.
    pub fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends the daemon as a crash would: its containers run on, its containerd ends with it.
    pub fn kill(&mut self) {
        self.end("KILL");
        // Where nobody reaps the orphaned containerd, dockerd 20.10 takes its corpse for the living and waits for it.
        let pid_file = self.path("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(&pid_file).expect("containerd had a pid");
        let containerd = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        assert!(ends_within(containerd, LIMIT), "containerd {pid} outlives dockerd");
        std::fs::remove_file(pid_file).expect("remove containerd's pid file");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let pid = daemon.id().to_string();
        // A test may have left it stopped.
        for signal in [signal, "CONT"] {
            let sent = self.of_its_group("kill").args(["-s", signal, &pid]).status().expect("run kill");
            assert!(sent.success(), "kill -s {signal} {pid}");
        }
        assert!(ends_within(pid_of(&daemon), LIMIT), "dockerd did not end:\n{}", self.log());
        daemon.wait().expect("wait for dockerd");
        // A killed daemon leaves its pid file; the pid may be another's by the next start.
        let _ = std::fs::remove_file(self.path("pid"));
    }

    /// Runs `docker` with `arguments` and returns what it printed, without the last newline.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {stderr}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs `docker` with `arguments`, whatever comes of it.
    pub fn try_docker(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("run docker")
    }

    /// Starts a container of [`IMAGE`] with `options`, running `/nap` with `arguments`; returns its id.
    pub fn run(&self, options: &[&str], arguments: &[&str]) -> String {
        let command =
            [&["run", "--detach", "--network", "none"], options, &[IMAGE, "/nap"], arguments].concat();
        self.docker(&command)
    }

    /// Runs the example function in a container to its end and removes it: exit status, and the container's id.
    /// `options` stand before the image.
    pub fn run_function(&self, options: &[&str], arguments: &[&str]) -> (i32, String) {
        self.begin_function(options, arguments).end()
    }

    /// Starts a container of the example function that is removed when it ends.
    pub fn begin_function(&self, options: &[&str], arguments: &[&str]) -> RunningContainer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id_file = self.path(&format!("id-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut command = self.command();
        command.args(["run", "--rm", "--network", "none", "--cidfile"]).arg(&id_file).args(options);
        command.arg(FUNCTION_IMAGE).arg("/function").args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("run docker");
        RunningContainer { child, id_file }
    }

    /// Starts a container of the example function that stays; returns its id.
    pub fn start_function(&self, options: &[&str], arguments: &[&str]) -> String {
        let start = ["run", "--detach", "--network", "none"];
        self.docker(&[&start, options, &[FUNCTION_IMAGE, "/function"], arguments].concat())
    }

    /// The first process of container `id`, as the host sees it.
    pub fn pid(&self, id: &str) -> u32 {
        let pid = self.docker(&["inspect", "--format", "{{.State.Pid}}", id]);
        pid.parse().unwrap_or_else(|error| panic!("{error}: {pid}"))
    }

    /// Sends the daemon itself `signal`.
    pub fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().and_then(|daemon| Pid::from_raw(daemon.id().cast_signed()));
        rustix::process::kill_process(pid.expect("it runs"), signal).expect("signal dockerd");
    }

    /// Makes image `name` of the files in `root`.
    pub fn import(&self, root: &Path, name: &str) {
        self.import_with(root, name, &[]);
    }

    /// The same with `changes`, which are lines of a Dockerfile.
    pub fn import_with(&self, root: &Path, name: &str, changes: &[&str]) {
        let tar = self.path("image.tar");
        let packed = self.of_its_group("tar").arg("-cf").arg(&tar).arg("-C").arg(root).arg(".").status();
        assert!(packed.expect("run tar").success(), "pack the image {name}");
        let changes = changes.iter().flat_map(|change| ["--change", change]);
        let mut import: Vec<&str> = ["import"].into_iter().chain(changes).collect();
        import.extend([tar.to_str().expect("a plain path"), name]);
        self.docker(&import);
    }

    /// Makes [`FUNCTION_IMAGE`].
    pub fn import_function(&self) {
        let root = self.path("function");
        std::fs::create_dir(&root).expect("make a directory");
        fnscope::functions::install(&root).expect("install the example function");
        std::fs::copy(root.join("function"), root.join("other")).expect("copy the example function");
        self.import(&root, FUNCTION_IMAGE);
    }

    fn import_nap(&self) {
        let root = self.path("root");
        std::fs::create_dir(&root).expect("make a directory");
        std::fs::write(self.path("nap.c"), NAP).expect("write the program");
        let mut compile = Command::new("cc");
        compile.args(["-static", "-O1", "-o"]).arg(root.join("nap")).arg(self.path("nap.c"));
        let compiled = compile.status().expect("run cc");
        assert!(compiled.success(), "compile {NAP}");
        self.import(&root, IMAGE);
    }

    /// `docker`, told where the daemon is.
    pub fn command(&self) -> Command {
        let mut command = self.of_its_group("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }
}

/// A container that `docker run` waits for.
pub struct RunningContainer {
    child: Child,
    id_file: PathBuf,
}

impl RunningContainer {
    /// Waits for its end: exit status, and its id.
    pub fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("wait for docker");
        let id = std::fs::read_to_string(&self.id_file).expect("docker has written the id");
        (status.code().expect("no signal ended docker"), id)
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        // Only a daemon can remove what a killed one left running.
        if self.daemon.is_none() && self.path("data").exists() {
            // A failed test must not become an abort.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.start()));
        }
        if self.daemon.is_some() {
            let ids =
                String::from_utf8_lossy(&self.try_docker(&["ps", "--all", "--quiet"]).stdout).into_owned();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                self.try_docker(&[&["rm", "--force"], ids.as_slice()].concat());
            }
            // Nothing of it is kept. One that ends in order looks but once a second whether its containerd has ended.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.kill()));
        }
        self.end_orphans();
        // The daemon mounts its data over itself; a killed one leaves the mount, and a directory that cannot go.
        while Command::new("umount")
            .arg(self.path("data"))
            .output()
            .is_ok_and(|output| output.status.success())
        {}
    }
}
