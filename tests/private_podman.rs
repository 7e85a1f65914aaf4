//! A podman service of a test's own, with runc and without systemd. Needs root and `podman` and `runc` on the path; no
//! network, no registry. Podman has no daemon: containers run on, whatever becomes of the service.
//!
//! Dropping it removes its containers, ends the service, and takes away its mounts, its cgroups and its data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{ends_within, pid_of};

/// Longest wait for the service to come up or go down.
const LIMIT: Duration = Duration::from_secs(60);

/// Name of the image that holds the example function, as `/function`.
pub const FUNCTION_IMAGE: &str = "localhost/function:1";

/// Where podman puts containers that are not told where to be, without systemd.
const PARENT: &str = "libpod_parent";

/// A service and its directory.
pub struct PrivatePodman {
    dir: TempDir,
    service: Option<Child>,
}

impl PrivatePodman {
    /// A service that runs, with [`FUNCTION_IMAGE`].
    pub fn running() -> PrivatePodman {
        let dir = tempfile::Builder::new().prefix("podman-").tempdir().expect("make a directory");
        let mut podman = PrivatePodman { dir, service: None };
        podman.start();
        let root = podman.path("image");
        fs::create_dir(&root).expect("make a directory");
        fnscope::functions::install(&root).expect("install the example function");
        let archive = podman.path("image.tar");
        let packed =
            Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("function").status();
        assert!(packed.expect("run tar").success(), "pack the image");
        podman.podman(&["import", "--quiet", archive.to_str().expect("a plain path"), FUNCTION_IMAGE]);
        podman
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.path("podman.sock")
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the service and waits until it answers.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("open the log");
        let service = self
            .command()
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", self.socket().display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start podman; install the package podman");
        self.service = Some(service);
        let deadline = Instant::now() + LIMIT;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "podman did not come up:\n{}", self.log());
            // It has nobody to tell.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the service.
    pub fn stop(&mut self) {
        let Some(mut service) = self.service.take() else { return };
        rustix::process::kill_process(pid_of(&service), Signal::TERM).expect("signal podman");
        assert!(ends_within(pid_of(&service), LIMIT), "podman did not end:\n{}", self.log());
        service.wait().expect("wait for podman");
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        for (option, place) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.path(place));
        }
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]);
        command
    }

    /// Runs `podman` and returns what it printed, without the last newline.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let output = self.try_podman(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {stderr}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same, whatever comes of it.
    pub fn try_podman(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("run podman")
    }

    /// Runs the example function to its end and removes it; its exit status.
    pub fn run_function(&self, options: &[&str], arguments: &[&str]) -> Option<i32> {
        let line = [&["run", "--rm"], ALONE, options, &[FUNCTION_IMAGE, "/function"], arguments].concat();
        self.try_podman(&line).status.code()
    }

    /// Starts the example function and does not wait; its id.
    pub fn start_function(&self, options: &[&str], arguments: &[&str]) -> String {
        let line = [&["run", "--detach"], ALONE, options, &[FUNCTION_IMAGE, "/function"], arguments];
        self.podman(&line.concat())
    }

    /// What the service has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// Without network, and with limits that need not be raised: who may not raise any runs no container otherwise.
pub const ALONE: &[&str] = &["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];

impl Drop for PrivatePodman {
    fn drop(&mut self) {
        // A failed test must not become an abort.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.try_podman(&["rm", "--all", "--force", "--time", "0"]);
            self.try_podman(&["pod", "rm", "--all", "--force"]);
            self.stop();
        }));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
        let mut points: Vec<&Path> = points.filter(|point| point.starts_with(self.dir.path())).collect();
        points.sort_unstable();
        for point in points.into_iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(point).output();
        }
        // Its parent stays when the last container has gone; that of others is not empty.
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_path_buf()]) {
            let parent = hierarchy.join(PARENT);
            for inner in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(inner.path());
            }
            let _ = fs::remove_dir(parent);
        }
    }
}
