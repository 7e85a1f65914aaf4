//! A containerd of a test's own, with its CRI plugin, so that it may be stopped and started while its containers run
//! on. Needs root and containerd, `ctr` and runc on the path; no network, no registry, no CNI, no systemd.
//!
//! | file | what |
//! |---|---|
//! | `pods` | pods, through the CRI as a kubelet makes them |
//! | `images` | images of static programs, as archives that containerd imports |
//! | `handlers` | OCI runtimes in front of runc: a systemd node's cgroups, private cgroup namespaces |
//! | `leftovers` | what containerd leaves behind: shims, mounts, cgroups |
//!
//! Its containers lie where a node's do: plain ones in `/namespace/id`, pods below `/kubepods` or `/kubepods.slice`.
//! Dropping it ends them all, stops the daemon, and takes away its mounts, its cgroups and its data.

#[path = "../grpc/made/cri.rs"]
#[allow(clippy::all, reason = "made, not written")]
pub mod cri;
pub mod handlers;
mod images;
mod leftovers;
pub mod pods;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{ends_within, pid_of, truth};

/// Longest wait for a daemon to come up or go down. It takes a tenth of a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The image that holds the example function, as `/function`.
pub const FUNCTION_IMAGE: &str = "localhost/function:1";

/// The image of sandboxes: a program that waits for its end.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// containerd's namespace of what the kubelet runs.
pub const PODS_NAMESPACE: &str = "k8s.io";

/// Number of CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;

/// A daemon and its directory.
pub struct PrivateContainerd {
    dir: TempDir,
    daemon: Option<Child>,
    snapshotter: &'static str,
    /// Cgroups that its containers and pods are asked to be in, from the root of each hierarchy.
    cgroups: Mutex<BTreeSet<String>>,
}

impl PrivateContainerd {
    /// A place for a daemon; nothing runs yet and there is no socket.
    pub fn new() -> PrivateContainerd {
        let dir = tempfile::Builder::new().prefix("containerd-").tempdir().expect("make a directory");
        // One overlay upon another is refused.
        let on = rustix::fs::statfs(dir.path()).expect("look at the file system of temporary files");
        let snapshotter = if on.f_type == 0x794c_7630 { "native" } else { "overlayfs" };
        let containerd = PrivateContainerd { dir, daemon: None, snapshotter, cgroups: Mutex::default() };
        fs::create_dir(containerd.path("no-cni")).expect("make a directory");
        fs::create_dir(containerd.path("logs")).expect("make a directory");
        handlers::install(containerd.dir.path());
        fs::write(containerd.path("config.toml"), containerd.config()).expect("write the configuration");
        containerd
    }

    /// A running daemon that has both images where pods are.
    pub fn running() -> PrivateContainerd {
        let mut containerd = PrivateContainerd::new();
        containerd.start();
        containerd.import_function(PODS_NAMESPACE);
        let pause = [("function", fnscope::functions::PROGRAM)];
        let archive = containerd.path("pause.tar");
        images::pack(&archive, PAUSE_IMAGE, &["/function", "idle"], &pause);
        containerd.import(PODS_NAMESPACE, &archive);
        containerd
    }

    /// Where it listens: its own API and the CRI.
    pub fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        let dir = self.dir.path().display();
        let snapshotter = self.snapshotter;
        let may_raise_scores = capabilities() >> SYS_RESOURCE & 1 == 1;
        let mut config = format!(
            r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{dir}/containerd.sock"
[ttrpc]
address = "{dir}/containerd.ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = {restrict}
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{dir}/no-cni"
bin_dir = "{dir}/no-cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
            restrict = !may_raise_scores
        );
        for handler in handlers::ALL {
            config += &format!(
                r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{handler}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{handler}.options]
BinaryName = "{dir}/{handler}"
"#
            );
        }
        config
    }

    /// Starts the daemon and waits until it answers. Containers that run are found again.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the daemon already runs");
        let log = File::options().create(true).append(true).open(self.path("log")).expect("open the log");
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(self.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start containerd; install the package containerd");
        self.daemon = Some(daemon);
        let deadline = Instant::now() + LIMIT;
        while !self.try_ctr("default", &["version"]).status.success() {
            let exited = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().expect("wait for it"));
            if exited.is_some() || Instant::now() > deadline {
                self.daemon = None;
                panic!("containerd did not come up ({exited:?}):\n{}", self.log());
            }
            // It has nobody to tell.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon as an operator would; its containers run on.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends the daemon as a crash would; its containers run on.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends the daemon and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let pid = pid_of(&daemon);
        // A test may have left it stopped.
        for signal in [signal, Signal::CONT] {
            rustix::process::kill_process(pid, signal).expect("signal containerd");
        }
        assert!(ends_within(pid, LIMIT), "containerd did not end:\n{}", self.log());
        daemon.wait().expect("wait for containerd");
    }

    /// Sends the daemon itself `signal`.
    pub fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().expect("it runs");
        rustix::process::kill_process(pid_of(daemon), signal).expect("signal containerd");
    }

    /// Runs `ctr` in containerd's `namespace` and returns what it printed, without the last newline.
    pub fn ctr(&self, namespace: &str, arguments: &[&str]) -> String {
        let output = self.try_ctr(namespace, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr -n {namespace} {arguments:?}: {stderr}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same, whatever comes of it.
    pub fn try_ctr(&self, namespace: &str, arguments: &[&str]) -> Output {
        self.ctr_command(namespace).args(arguments).stdin(Stdio::null()).output().expect("run ctr")
    }

    fn ctr_command(&self, namespace: &str) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", namespace]);
        command
    }

    /// Makes [`FUNCTION_IMAGE`] in `namespace`.
    pub fn import_function(&self, namespace: &str) {
        let archive = self.path("function.tar");
        if !archive.exists() {
            let files = [("function", fnscope::functions::PROGRAM)];
            images::pack(&archive, FUNCTION_IMAGE, &["/function"], &files);
        }
        self.import(namespace, &archive);
    }

    /// Makes image `name` of the example function in `namespace`, with `labels` of its own.
    pub fn import_labelled(&self, namespace: &str, name: &str, labels: &[(&str, &str)]) {
        let archive = self.path("labelled.tar");
        let files = [("function", fnscope::functions::PROGRAM)];
        images::pack_labelled(&archive, name, &["/function"], &files, labels);
        self.import(namespace, &archive);
    }

    /// Makes image `name` of `files` in `namespace`; `entrypoint` is what it runs.
    pub fn import_files(&self, namespace: &str, name: &str, entrypoint: &[&str], files: &[(&str, &[u8])]) {
        let archive = self.path("image.tar");
        images::pack(&archive, name, entrypoint, files);
        self.import(namespace, &archive);
    }

    /// Imports the image in `archive`.
    pub fn import(&self, namespace: &str, archive: &Path) {
        let archive = archive.to_str().expect("a plain path");
        self.ctr(namespace, &["images", "import", "--snapshotter", self.snapshotter, archive]);
    }

    /// Deploys image `image` as container `id` of `namespace`, as faasd does, waits for its end, which must be a good one,
    /// and removes it; its truth.
    pub fn run_image(
        &self,
        namespace: &str,
        image: &str,
        id: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Value {
        self.will_use(&format!("/{namespace}/{id}"));
        let mut command = self.ctr_command(namespace);
        command.args(["run", "--rm", "--snapshotter", self.snapshotter]).args(options);
        RunningPlain::start(command, self.said(), &[&[image, id, "/function"], arguments].concat()).end()
    }

    /// Runs the example function as container `id` of `namespace`, where it was imported, to its end, which must be a
    /// good one, and removes it; its truth. `options` are of `ctr run`.
    pub fn run_plain(&self, namespace: &str, id: &str, options: &[&str], arguments: &[&str]) -> Value {
        self.begin_plain(namespace, id, options, arguments).end()
    }

    /// Starts such a container and does not wait: it is removed when it ends.
    pub fn begin_plain(
        &self,
        namespace: &str,
        id: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> RunningPlain {
        let command = self.run_command(namespace, id, &[&["--rm"], options].concat());
        RunningPlain::start(command, self.said(), &[&[FUNCTION_IMAGE, id, "/function"], arguments].concat())
    }

    /// A file for what a container says.
    fn said(&self) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.path("logs").join(format!("said-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts such a container that stays when it has ended; what it says goes nowhere.
    pub fn start_plain(&self, namespace: &str, id: &str, options: &[&str], arguments: &[&str]) {
        let options = [&["--detach", "--null-io"], options].concat();
        let mut command = self.run_command(namespace, id, &options);
        let output = command.args([FUNCTION_IMAGE, id, "/function"]).args(arguments).output();
        let output = output.expect("run ctr");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr run {id}: {stderr}\n{}", self.log());
    }

    /// Kills container `id` of `namespace`, if it runs, and removes it.
    pub fn remove_plain(&self, namespace: &str, id: &str) {
        self.try_ctr(namespace, &["tasks", "rm", "--force", id]);
        self.ctr(namespace, &["containers", "rm", id]);
    }

    /// `ctr run` with these options; image, id and words are still to come.
    fn run_command(&self, namespace: &str, id: &str, options: &[&str]) -> Command {
        let given = options.iter().skip_while(|word| **word != "--cgroup").nth(1);
        self.will_use(given.map_or(&format!("/{namespace}/{id}"), |cgroup| cgroup));
        let mut command = self.ctr_command(namespace);
        command.args(["run", "--snapshotter", self.snapshotter]).args(options);
        command
    }

    /// The first process of container `id`, as the host sees it.
    pub fn pid(&self, namespace: &str, id: &str) -> u32 {
        let tasks = self.ctr(namespace, &["tasks", "ls"]);
        let row = tasks.lines().find(|row| row.split_whitespace().next() == Some(id));
        let pid = row.and_then(|row| row.split_whitespace().nth(1)?.parse().ok());
        pid.unwrap_or_else(|| panic!("no task {id} among:\n{tasks}"))
    }

    /// Remembers that `cgroup` is made.
    fn will_use(&self, cgroup: &str) {
        self.cgroups.lock().unwrap_or_else(PoisonError::into_inner).insert(cgroup.into());
    }

    /// The end of what it has said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    /// Ends every container of every namespace.
    fn remove_all(&self) {
        let lines = |output: Output| String::from_utf8_lossy(&output.stdout).into_owned();
        for namespace in lines(self.try_ctr("default", &["namespaces", "ls", "-q"])).lines() {
            let tasks = lines(self.try_ctr(namespace, &["tasks", "ls", "-q"]));
            let tasks: Vec<&str> = tasks.lines().collect();
            if !tasks.is_empty() {
                self.try_ctr(namespace, &[&["tasks", "rm", "--force"], tasks.as_slice()].concat());
            }
            let containers = lines(self.try_ctr(namespace, &["containers", "ls", "-q"]));
            let containers: Vec<&str> = containers.lines().collect();
            if !containers.is_empty() {
                self.try_ctr(namespace, &[&["containers", "rm"], containers.as_slice()].concat());
            }
        }
    }
}

/// A container that `ctr run` waits for.
pub struct RunningPlain {
    child: Child,
    said: PathBuf,
}

impl RunningPlain {
    /// Starts it by `command` and these `words`. What it says goes to `said`: `ctr` itself reads from a pipe, which it may
    /// give up before it has opened it where the container is quick.
    fn start(mut command: Command, said: PathBuf, words: &[&str]) -> RunningPlain {
        command.arg("--log-uri").arg(format!("file://{}", said.display())).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        RunningPlain { child: command.spawn().expect("run ctr"), said }
    }

    /// Waits for its end, which must be a good one; its truth.
    pub fn end(self) -> Value {
        let output = self.child.wait_with_output().expect("wait for ctr");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr run: {stderr}");
        truth(&fs::read_to_string(self.said).expect("it has said something"))
    }
}

impl Drop for PrivateContainerd {
    fn drop(&mut self) {
        // Only a daemon can remove what a killed one left running. A failed test must not become an abort.
        let quietly = |act: &mut dyn FnMut()| {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        };
        if self.daemon.is_none() && self.path("root").exists() {
            quietly(&mut || self.start());
        }
        if self.daemon.is_some() {
            quietly(&mut || self.remove_all());
            quietly(&mut || self.stop());
        }
        leftovers::end_shims(self.dir.path());
        leftovers::unmount_below(self.dir.path());
        let cgroups = std::mem::take(&mut *self.cgroups.lock().unwrap_or_else(PoisonError::into_inner));
        cgroups.iter().for_each(|cgroup| leftovers::remove_cgroups(cgroup));
    }
}

/// Our own effective capabilities.
fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it tells capabilities");
    u64::from_str_radix(line.trim(), 16).expect("in hexadecimal digits")
}

/// A process id as the kernel's calls take it.
fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.cast_signed())
}
