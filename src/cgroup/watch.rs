//! Watches the tree of cgroups for new ones, by inotify, where perf events do not tell of them.
//!
//! A directory is reported once it is there. The watch goes where its caller lets it: below every directory that may have
//! containers in it, and not into containers, whose inner cgroups the kernel counts with them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::Cgroups;

/// Most directories that are watched: the kernel's limit for a user is of this order.
const MAX_WATCHED: usize = 8_192;
const BUFFER_BYTES: usize = 16 << 10;

/// A watch on the tree.
#[derive(Debug)]
pub struct CgroupWatch {
    inotify: OwnedFd,
    root: PathBuf,
    paths: HashMap<i32, String>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A cgroup was made at this path.
    Made(String),
    /// So many were made that the kernel has left some out: the tree has to be walked again.
    Overflow,
}

impl CgroupWatch {
    /// Watches the root; nothing below it yet.
    ///
    /// # Errors
    /// That of `inotify_init(2)` or of watching: too many watches, for one.
    pub fn new(cgroups: &Cgroups) -> io::Result<CgroupWatch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watch = CgroupWatch { inotify, root: cgroups.root().into(), paths: HashMap::new() };
        watch.follow("")?;
        Ok(watch)
    }

    /// Watches what is made in the cgroup at `path` too. One that is gone is none to watch.
    ///
    /// # Errors
    /// That of watching: too many watches.
    pub fn follow(&mut self, path: &str) -> io::Result<()> {
        if self.paths.len() >= MAX_WATCHED {
            return Err(io::Error::other(format!("{MAX_WATCHED} cgroup directories are watched already")));
        }
        let dir = self.root.join(path.trim_start_matches('/'));
        let flags = WatchFlags::CREATE | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, &dir, flags) {
            Ok(watched) => {
                self.paths.insert(watched, path.to_string());
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What was heard since it was asked last; does not wait.
    pub fn take(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                heard.push(Heard::Overflow);
            } else if event.events().contains(ReadFlags::IGNORED) {
                // The directory is gone, and the watch with it.
                self.paths.remove(&event.wd());
            } else if event.events().contains(ReadFlags::ISDIR)
                && let (Some(parent), Some(name)) = (self.paths.get(&event.wd()), event.file_name())
                && let Some(name) = OsStr::from_bytes(name.to_bytes()).to_str()
            {
                heard.push(Heard::Made(format!("{parent}/{name}")));
            }
        }
        heard
    }
}

impl AsFd for CgroupWatch {
    /// Readable when there is something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Cgroups {
    /// Opens the directory of the cgroup at `path`, for events that are scoped by it; none if the cgroup is gone.
    ///
    /// # Errors
    /// That of `open(2)`: too many open files, for one.
    pub fn open_dir(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        match File::open(self.dir(path)) {
            Ok(dir) => Ok(Some(dir.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_device(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a cgroup2 hierarchy.
    fn tree() -> (tempfile::TempDir, Cgroups) {
        let dir = tempfile::tempdir().unwrap();
        let mountinfo = format!("1 1 0:1 / {} rw - cgroup2 none rw", dir.path().display());
        let cgroups = Cgroups::from_mountinfo(&mountinfo).unwrap();
        (dir, cgroups)
    }

    #[test]
    fn one_that_is_gone_is_none_and_other_faults_are_told() {
        let (dir, cgroups) = tree();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert!(cgroups.open_dir("/a").unwrap().is_some());
        assert!(cgroups.open_dir("/b").unwrap().is_none());
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = cgroups.open_dir("/file/a").expect_err("no directory");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn what_is_made_below_watched_ones_is_heard_once() {
        let (dir, cgroups) = tree();
        let mut watch = CgroupWatch::new(&cgroups).unwrap();
        assert_eq!(watch.take(), []);
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(watch.take(), [Heard::Made("/a".into())], "b lies in what nobody watches");
        watch.follow("/a").unwrap();
        std::fs::create_dir(dir.path().join("a/c")).unwrap();
        assert_eq!(watch.take(), [Heard::Made("/a/c".into())]);
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(watch.take(), []);
        assert_eq!(watch.paths.len(), 1, "a watch goes with its directory");
        watch.follow("/a").unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert_eq!(watch.take(), [Heard::Made("/a".into())], "what is gone is none to watch");
    }
}
