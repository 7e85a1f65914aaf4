//! What a containerd leaves behind, however it ended: shims with the containers behind them, mounts, cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::process;
use crate::support::{end_cgroup, ends_within};

/// Where cgroups are mounted: the hierarchies of version 1 and 2, or version 2 alone.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Longest wait for what was killed.
const LIMIT: Duration = Duration::from_secs(5);

/// Ends shims that serve a daemon of `dir`, and what they started.
pub fn end_shims(dir: &Path) {
    let own = dir.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let is_shim = line.split('\0').next().is_some_and(|program| program.contains("containerd-shim"));
        let pid: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|_| is_shim && line.contains(&own)) else { continue };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        // The shim last: it is what reaps them.
        for pid in children.chain([pid]).filter_map(process) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            ends_within(pid, LIMIT);
        }
    }
}

/// Unmounts what is mounted below `dir`, the innermost first.
pub fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut points: Vec<&Path> = points.filter(|point| point.starts_with(dir)).collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        // A failure leaves a directory that cannot be removed, which is seen.
        let _ = Command::new("umount").arg("--lazy").arg(point).output();
    }
}

/// Removes cgroup `path` (from the root of a hierarchy) with all below it, in each hierarchy, and those above it that
/// are empty then: nobody else removes what runtimes make on the way to a container's.
pub fn remove_cgroups(path: &str) {
    let root = Path::new(CGROUPS);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_path_buf()]) {
        let dir = hierarchy.join(path.trim_start_matches('/'));
        if dir == hierarchy {
            continue;
        }
        if dir.is_dir() {
            remove_below(&dir);
        }
        // Those of others are not empty.
        dir.ancestors()
            .skip(1)
            .take_while(|above| *above != hierarchy)
            .all(|above| fs::remove_dir(above).is_ok());
    }
}

fn remove_below(dir: &Path) {
    let inner = fs::read_dir(dir).into_iter().flatten().flatten();
    let inner: Vec<PathBuf> = inner.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    inner.iter().for_each(|dir| remove_below(dir));
    end_cgroup(dir, LIMIT);
}
