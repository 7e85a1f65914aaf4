//! A cgroup parent of one's own, for commands that bring their functions along; agents leave it alone.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::cgroup::Cgroups;
use crate::model::Pid;

/// How many cgroups of killed commands are stepped over.
const LEFTOVERS: u32 = 16;

/// A cgroup below the hierarchy's root with children, one for each instance. Removed when it is dropped.
pub(super) struct OwnCgroup {
    cgroups: Cgroups,
    path: String,
    children: Vec<String>,
}

impl OwnCgroup {
    /// Makes `/fnscope-<what>-<pid>`, or one with a number behind it.
    pub(super) fn new(cgroups: &Cgroups, what: &str) -> anyhow::Result<OwnCgroup> {
        let name = format!("/fnscope-{what}-{}", std::process::id());
        // A process of our id that was killed may have left one behind.
        for n in 0..LEFTOVERS {
            let path = if n == 0 { name.clone() } else { format!("{name}-{n}") };
            let dir = cgroups.dir(&path);
            match std::fs::create_dir(&dir) {
                Ok(()) => return Ok(OwnCgroup { cgroups: cgroups.clone(), path, children: Vec::new() }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let shown = dir.display();
                    let what = format!("make cgroup {shown}; needs root and a writable cgroup mount");
                    return Err(error).context(what);
                }
            }
        }
        bail!("cgroups {name}… of killed commands are in the way; remove them");
    }

    /// Its path below the hierarchy's root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Makes the child `name` and returns its path.
    pub(super) fn child(&mut self, name: &str) -> anyhow::Result<String> {
        let path = format!("{}/{name}", self.path);
        let dir = self.cgroups.dir(&path);
        std::fs::create_dir(&dir).with_context(|| format!("make cgroup {}", dir.display()))?;
        self.children.push(path.clone());
        Ok(path)
    }

    /// The file that takes the ids of processes to move into the child at `path`.
    pub(super) fn procs_file(&self, path: &str) -> PathBuf {
        self.cgroups.dir(path).join("cgroup.procs")
    }

    /// Moves what still runs in the child at `path` out to where we are: it goes on, unwatched.
    fn leave_running(&self, path: &str) {
        let Ok(home) = self.cgroups.of_process(Pid(std::process::id())) else { return };
        for pid in self.cgroups.processes(path).unwrap_or_default() {
            // Ended meanwhile is as good as moved.
            let _ = std::fs::write(self.procs_file(&home), pid.to_string());
        }
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        for child in &self.children {
            self.leave_running(child);
        }
        for path in self.children.iter().chain([&self.path]) {
            let dir = self.cgroups.dir(path);
            if let Err(error) = std::fs::remove_dir(&dir) {
                tracing::warn!("remove cgroup {}: {error}", dir.display());
            }
        }
    }
}
