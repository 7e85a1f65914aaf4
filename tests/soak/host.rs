//! What a soak changes of its host, and how all of it is put back: a small file system, a cgroup for its containers, CPUs
//! that are off, a clock that is wrong. Whatever a soak that was killed left behind, the next one puts back.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fnscope::cgroup::Cgroups;
use rustix::process::{Pid, Signal};
use rustix::time::{ClockId, Timespec};

use crate::private_docker::cgroups_of;
use crate::support::end_cgroup;

/// Size of the file system that holds the store: an hour of soak fills a tenth of it.
const DISK: &str = "size=256m,mode=0700";
/// The cgroup whose children are containers.
const PARENT: &str = "/fnscope-soak";
/// A CPU that is off comes back after so long, whatever becomes of this program.
const CPU_BACK_S: u32 = 10;

/// The file system of the store.
pub struct Disk {
    path: PathBuf,
    mounted: bool,
}

impl Disk {
    /// The one at `path`, mounted unless it still is.
    pub fn at(path: &Path) -> anyhow::Result<Disk> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        let mut mounted = is_mounted(path)?;
        if !mounted {
            let mount =
                Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "fnscope-soak"]).arg(path).output();
            mounted = mount.context("run mount")?.status.success();
        }
        let disk = Disk { path: path.into(), mounted };
        disk.free();
        Ok(disk)
    }

    /// Where the store lies.
    pub fn store(&self) -> PathBuf {
        self.path.join("profiles")
    }

    /// Whether it may be filled: what is no file system of our own may not.
    pub fn may_be_filled(&self) -> bool {
        self.mounted
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.ballast()).context("make a file to fill the disk with")?;
        for block in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![0x55; block]).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) {
        // It is not there where nothing was filled.
        let _ = fs::remove_file(self.ballast());
    }

    /// Unmounts it: what is on it is gone.
    pub fn remove(self) {
        if self.mounted {
            let _ = Command::new("umount").arg(&self.path).status();
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

fn is_mounted(path: &Path) -> anyhow::Result<bool> {
    let path = path.canonicalize().context("look for the store's file system")?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str()))
}

/// The cgroup of the containers that no runtime makes.
pub struct Parent {
    cgroups: Cgroups,
}

impl Parent {
    /// An empty one: what an earlier soak left in it is killed.
    pub fn new() -> anyhow::Result<Parent> {
        let parent = Parent { cgroups: Cgroups::detect().context("look at the cgroups of this host")? };
        ensure!(
            parent.cgroups.version() != "v1",
            "this host has no cgroup2: its containers cannot be churned"
        );
        parent.clear()?;
        fs::create_dir(parent.dir()).context("make a cgroup (needs root)")?;
        Ok(parent)
    }

    /// Its path as the kernel's records have it.
    pub fn kernel_path(&self) -> &'static str {
        PARENT
    }

    /// Its folder.
    pub fn dir(&self) -> PathBuf {
        self.cgroups.dir(PARENT)
    }

    /// Kills what is in it and removes it.
    pub fn clear(&self) -> anyhow::Result<()> {
        let dir = self.dir();
        if !dir.exists() {
            return Ok(());
        }
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !remove_below(&dir) {
            if Instant::now() > deadline {
                bail!("remove cgroup {}: something lives in it", dir.display());
            }
            // Killed processes leave in their own time.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Removes a cgroup with all below it; false while something lives there.
pub fn remove_below(dir: &Path) -> bool {
    let below = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in below.filter(|path| path.is_dir()) {
        remove_below(&path);
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

/// Removes what is left of the cgroups of Docker's container `id`, which Docker has removed. One that was killed in the
/// middle of a start leaves them behind, and a `runc init` in them that waits for good: the next one knows nothing of it.
pub fn clear_container(id: &str) {
    /// So long Docker has for it.
    const PATIENCE: Duration = Duration::from_secs(2);
    let asked = Instant::now();
    while cgroups_of(id).any(|dir| dir.exists()) && asked.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    cgroups_of(id).for_each(|dir| end_cgroup(&dir, PATIENCE));
}

/// CPU time of all that ran in the cgroup at `dir`, in microseconds.
pub fn account_us(dir: &Path) -> Option<u64> {
    let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
}

/// Whether nothing lives in the cgroup at `dir` or below it.
pub fn is_empty(dir: &Path) -> bool {
    fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|text| text.contains("populated 0"))
}

/// A CPU that is switched off, and on again when this is dropped.
pub struct CpuOff(PathBuf);

impl CpuOff {
    /// Switches off the last CPU that can be.
    pub fn new() -> anyhow::Result<CpuOff> {
        let file = switches().last().context("no CPU of this host can be switched off")?.clone();
        // Of a group of its own: it outlives us and whoever kills our group.
        let back = format!("sleep {CPU_BACK_S}; echo 1 > {}", file.display());
        let quiet = || Stdio::null();
        let mut watchdog = Command::new("setsid");
        watchdog.args(["--fork", "sh", "-c", &back]).stdin(quiet()).stdout(quiet()).stderr(quiet());
        ensure!(
            watchdog.status().is_ok_and(|status| status.success()),
            "no setsid to bring the CPU back with"
        );
        fs::write(&file, "0").with_context(|| format!("write 0 to {}", file.display()))?;
        Ok(CpuOff(file))
    }
}

impl Drop for CpuOff {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.0, "1") {
            eprintln!("soak: write 1 to {}: {error}; a CPU of this host is off", self.0.display());
        }
    }
}

fn switches() -> Vec<PathBuf> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        cpus.map(|entry| entry.path().join("online")).filter(|path| path.exists()).collect();
    files.retain(|path| path.parent().is_some_and(|cpu| cpu.ends_with("cpu0").eq(&false)));
    files.sort();
    files
}

/// The wall clock set off by some seconds, and back when this is dropped.
pub struct ClockOff {
    seconds: i64,
    note: PathBuf,
}

impl ClockOff {
    /// Steps it, and notes in `note` by how much.
    pub fn new(seconds: i64, note: &Path) -> anyhow::Result<ClockOff> {
        fs::write(note, seconds.to_string()).context("note how far the clock is off")?;
        let off = ClockOff { seconds, note: note.into() };
        if let Err(error) = step(seconds) {
            let _ = fs::remove_file(note);
            std::mem::forget(off);
            return Err(error);
        }
        Ok(off)
    }

    /// Steps it back where a soak that was killed has left it off.
    pub fn mend(note: &Path) -> anyhow::Result<()> {
        let left = fs::read_to_string(note).ok().and_then(|text| text.trim().parse::<i64>().ok());
        if let Some(seconds) = left {
            step(-seconds)?;
            fs::remove_file(note).context("forget how far the clock was off")?;
        }
        Ok(())
    }
}

impl Drop for ClockOff {
    fn drop(&mut self) {
        match step(-self.seconds) {
            Ok(()) => drop(fs::remove_file(&self.note)),
            Err(error) => eprintln!("soak: {error:#}; the clock is {} s off", self.seconds),
        }
    }
}

fn step(seconds: i64) -> anyhow::Result<()> {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let to = Timespec { tv_sec: now.tv_sec + seconds, tv_nsec: now.tv_nsec };
    rustix::time::clock_settime(ClockId::Realtime, to)
        .with_context(|| format!("step the clock by {seconds} s"))
}

/// Ends a dockerd that an earlier soak left behind in `dir`, and removes its folder.
pub fn end_docker_of(dir: &Path) {
    let pid =
        fs::read_to_string(dir.join("pid")).ok().and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    if let Some(pid) = pid {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        // The number may be another's by now.
        if String::from_utf8_lossy(&line).contains(&*dir.to_string_lossy()) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            crate::support::ends_within(pid, Duration::from_secs(20));
        }
    }
    let _ = Command::new("umount").arg(dir.join("data")).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(dir);
}
