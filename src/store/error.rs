//! What can go wrong with the profiles directory. Not here: damage inside a journal, which is no error but a part
//! of what is read ([`super::Damage`]).

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why something could not be done with the profiles directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is there.
    #[error(
        "open profiles in {}: there are none yet; start the agent or `fnscope exec` first, or name the directory they write to",
        .path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something is there that no fnscope made.
    #[error(
        "open profiles in {}: holds other files and no FORMAT of fnscope; name an empty or a new directory",
        .path.display()
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// A later version made it.
    #[error(
        "open profiles in {}: made by a newer fnscope (format {found}; this one reads {}): upgrade fnscope",
        .path.display(), super::directory::FORMAT
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process holds the lock.
    #[error("lock profiles in {}: locked by another agent ({}); stop it or use a directory of its own",
        .path.display(), holder(*.pid, .since))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, in its own pid namespace; none if it has not said yet.
        pid: Option<u32>,
        /// Since when, RFC 3339 in UTC; empty if it has not said yet.
        since: String,
    },
    /// It cannot be written to.
    #[error(
        "write profiles in {}: {source}; let this user write there, or name another directory",
        .path.display()
    )]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A batch too large to be read back.
    #[error("append to {}: a batch of {bytes} bytes is over the limit of {limit}; append more often", .path.display())]
    TooBig {
        /// The journal.
        path: PathBuf,
        /// Size of the batch in bytes, encoded.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A journal whose every copy of its head is damaged: what its samples stand for is not known.
    #[error("read journal {}: its head is damaged, nothing of it can be used; move it away", .path.display())]
    NoHead {
        /// The journal.
        path: PathBuf,
    },
    /// A closed journal that could not be sealed; it stays and is read as it is.
    #[error("seal {}: {what}", .path.display())]
    Seal {
        /// The journal, or the file made of it.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Only its owner may read it.
    #[error("{what} {}: {source}; profiles are their owner's alone: run it as root (sudo fnscope …)", .path.display())]
    Unreadable {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the file system is full or over quota: freeing space makes the next attempt work.
    pub fn is_full(&self) -> bool {
        let (StoreError::Io { source, .. } | StoreError::Unwritable { source, .. }) = self else {
            return false;
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether a file was gone: deleted between listing and opening, for one.
    pub fn is_gone(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// `source` while doing `what` on `path`; the kernel's refusals to write become [`StoreError::Unwritable`].
    pub(super) fn io(what: &'static str, path: &Path, source: impl Into<io::Error>) -> StoreError {
        let (path, source) = (path.to_path_buf(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) if what.starts_with("write") => {
                StoreError::Unwritable { path, source }
            }
            Some(Errno::ACCESS) => StoreError::Unreadable { what, path, source },
            _ => StoreError::Io { what, path, source },
        }
    }
}

fn holder(pid: Option<u32>, since: &str) -> String {
    match pid {
        Some(pid) => format!("pid {pid} since {since}"),
        None => "which has not written its pid yet".into(),
    }
}
