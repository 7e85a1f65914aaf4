//! The directory itself: made, recognized, locked, listed. Not here: what its files hold.
//!
//! ```text
//! profiles/
//!   FORMAT      the version, in readable text
//!   LOCK        flock: who may tidy up and drop; readers never take it
//!   journal/    <node>-<boot8>-<seq8>.jnl, one writer each
//!   samples/, instances/, usage/, hosts/, off_cpu/, sums/    sealed journals, see `archive`
//!   folded/     folded stacks for people and flame graph tools
//!   cache/      what can be made again (symbol tables); the store never looks inside
//! ```
//!
//! The directory is made for its owner alone (0700), and an empty one that is there is closed to others; what is inside may
//! also be read by its group, so that one `chmod g+rx` on the directory shares it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, FlockOperation};

use crate::model::{Timestamp, WriterInfo};

use super::error::StoreError;
use super::folding::AtClose;
use super::reader::JournalFile;
use super::writer::JournalWriter;

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// Access rights of files in the directory, before the umask.
pub(super) const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;
const FORMAT_BEGIN: &str = "fnscope profiles ";
const FORMAT_REST: &str = "Samples of functions, kept by fnscope. Read them with `fnscope`; the whole directory may be deleted at any time.";
/// How the names of unfinished files begin.
const TEMPORARY: &str = ".new-";
/// Age from which an unfinished file is one that nobody will finish.
const STALE: Duration = Duration::from_secs(3600);

/// A profiles directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Makes the directory `root` if it is missing or empty, and opens it for writing.
    ///
    /// # Errors
    /// If it holds something else, was made by a newer version or cannot be written to.
    pub fn create(root: &Path) -> Result<Store, StoreError> {
        let error = |source| StoreError::io("write the profiles directory", root, source);
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(error(io::ErrorKind::NotADirectory.into())),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(error)?;
            }
            Err(other) => return Err(error(other)),
        }
        let is_new = !is_store(root)?;
        let writable = rustix::fs::access(root, Access::WRITE_OK | Access::EXEC_OK);
        writable.map_err(|source| error(source.into()))?;
        if is_new {
            close_to_others(root);
        }
        let store = Store { root: root.to_path_buf() };
        // An older store is this version's from now on: what it holds is read as it is.
        if is_new || read_format(root)?.is_some_and(|format| format < FORMAT) {
            let text = format!("{FORMAT_BEGIN}{FORMAT}\n{FORMAT_REST}\n");
            replace(root, &root.join("FORMAT"), text.as_bytes())?;
            sync_folder(root)?;
        }
        for folder in [store.journal_folder(), store.folded_folder(), store.cache_dir()] {
            make_folder(&folder)?;
        }
        Ok(store)
    }

    /// Opens the directory `root` for reading. Takes no lock and needs no right to write.
    ///
    /// # Errors
    /// If there is none, or it was made by a newer version.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        match fs::metadata(root) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing { path: root.into() })
            }
            Err(source) => Err(StoreError::io("open profiles in", root, source)),
            Ok(_) if is_store(root)? => Ok(Store { root: root.into() }),
            // Empty: made by hand, or by somebody who is about to write FORMAT.
            Ok(_) => Err(StoreError::Missing { path: root.into() }),
        }
    }

    /// The mode of the directory, if others than its owner may write to it, or others than its group look into it.
    pub fn others_may(&self) -> Option<u32> {
        let mode = fs::metadata(&self.root).ok()?.mode() & 0o7777;
        (mode & 0o027 != 0).then_some(mode)
    }

    /// Whether this process may write to all of it, as far as its folders tell.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`] with the first folder that it may not write to.
    pub fn writable(&self) -> Result<(), StoreError> {
        for folder in [self.root.clone(), self.journal_folder(), self.folded_folder(), self.cache_dir()] {
            let writable = rustix::fs::access(&folder, Access::WRITE_OK | Access::EXEC_OK);
            writable.map_err(|source| StoreError::io("write", &folder, source))?;
        }
        Ok(())
    }

    /// Takes the lock that lets one process tidy up. It is released when the result is dropped or the process ends.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the holder if another process has it.
    pub fn lock(&self) -> Result<StoreLock, StoreError> {
        Ok(StoreLock { file: Mutex::new(self.locked()?) })
    }

    fn locked(&self) -> Result<File, StoreError> {
        let path = self.root.join("LOCK");
        let error = |source| StoreError::io("write", &path, source);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(&path).map_err(error)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // A holder that is just writing its name, or wrote nonsense, is a holder still.
                let _ = file.take(4096).read_to_string(&mut text);
                let holder = text.strip_prefix("pid ").and_then(|rest| rest.trim_end().split_once(" since "));
                let pid = holder.and_then(|(pid, _)| pid.parse().ok());
                let since = holder.map(|(_, since)| since.escape_default().to_string()).unwrap_or_default();
                return Err(StoreError::Locked { path: self.root.clone(), pid, since });
            }
            locked => locked.map_err(|source| error(source.into()))?,
        }
        file.set_len(0).map_err(error)?;
        writeln!(file, "pid {} since {}", std::process::id(), now()).map_err(error)?;
        Ok(file)
    }

    /// Begins a journal. Several writers may have one each, in one process or in many.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub fn journal(&self, info: WriterInfo) -> Result<JournalWriter, StoreError> {
        self.journal_with(info, AtClose::Fold)
    }

    /// The same; `at_close` says what becomes of journals when they are closed.
    ///
    /// # Errors
    /// If its file cannot be made.
    pub fn journal_with(&self, info: WriterInfo, at_close: AtClose) -> Result<JournalWriter, StoreError> {
        JournalWriter::begin(self.clone(), info, at_close)
    }

    /// All journals, the oldest first.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn journals(&self) -> Result<Vec<JournalFile>, StoreError> {
        let folder = self.journal_folder();
        let error = |source| StoreError::io("list", &folder, source);
        let listing = match fs::read_dir(&folder) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(error)?,
        };
        let mut journals = Vec::new();
        for file in listing {
            journals.extend(JournalFile::at(&file.map_err(error)?.path()));
        }
        journals.sort();
        Ok(journals)
    }

    /// Where things that can be made again are kept. [`Store::create`] makes it.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn journal_folder(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The file of the journal called `name`, there or not.
    pub(super) fn journal_path(&self, name: &str) -> PathBuf {
        self.journal_folder().join(format!("{name}{}", super::reader::SUFFIX))
    }

    pub(super) fn folded_folder(&self) -> PathBuf {
        self.root.join("folded")
    }

    /// Removes files that a killed process left unfinished.
    pub(super) fn sweep(&self) {
        let folders = [self.root.clone(), self.journal_folder(), self.folded_folder()];
        for folder in folders.into_iter().chain(self.archive_folders()) {
            let Ok(listing) = fs::read_dir(&folder) else { continue };
            for file in listing.flatten().filter(|file| is_temporary(&file.file_name())) {
                let age = file
                    .metadata()
                    .and_then(|meta| meta.modified())
                    .map(|at| SystemTime::now().duration_since(at));
                if matches!(age, Ok(Ok(age)) if age > STALE) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
    }
}

/// The lock, held.
#[derive(Debug)]
pub struct StoreLock {
    file: Mutex<File>,
}

impl StoreLock {
    /// Takes the lock of `store` anew if its file was deleted, with the directory or alone: what is still held then
    /// keeps nobody out.
    ///
    /// # Errors
    /// As [`Store::lock`]: another process may have it by now.
    pub(super) fn renew(&self, store: &Store) -> Result<(), StoreError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata().is_ok_and(|meta| meta.nlink() == 0) {
            *file = store.locked()?;
        }
        Ok(())
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing would do, but for a child process that is being started and still has the descriptor.
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::fs::flock(file, FlockOperation::Unlock);
    }
}

/// What was there and empty (a mounted disk, a folder that Kubernetes made) is everybody's to read most often. Not where
/// others may write: that is no place made for us. Who cannot close it says so later, as of a store that is open to others.
fn close_to_others(root: &Path) {
    let closed = File::open(root).and_then(|folder| {
        let mode = folder.metadata()?.permissions().mode();
        let closes = mode & 0o007 != 0 && mode & 0o002 == 0;
        if closes { folder.set_permissions(fs::Permissions::from_mode(mode & 0o7770)) } else { Ok(()) }
    });
    closed.unwrap_or_else(|error| tracing::debug!("close {} to others: {error}", root.display()));
}

/// Whether `root` holds a store this version reads; false if it is empty.
fn is_store(root: &Path) -> Result<bool, StoreError> {
    if let Some(format) = read_format(root)? {
        return if format > FORMAT {
            Err(StoreError::Newer { path: root.into(), found: format })
        } else {
            Ok(true)
        };
    }
    let listing = fs::read_dir(root).map_err(|source| StoreError::io("list", root, source))?;
    let empty =
        listing.flatten().all(|file| file.file_name() == "lost+found" || is_temporary(&file.file_name()));
    // Not empty may mean that somebody else just made it.
    if empty || read_format(root)?.is_some() {
        Ok(!empty)
    } else {
        Err(StoreError::NotAStore { path: root.into() })
    }
}

fn read_format(root: &Path) -> Result<Option<u32>, StoreError> {
    let path = root.join("FORMAT");
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(4096).read_to_string(&mut text)) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(binary) if binary.kind() == io::ErrorKind::InvalidData => {}
        read => drop(read.map_err(|source| StoreError::io("read", &path, source))?),
    }
    let version = text.strip_prefix(FORMAT_BEGIN).and_then(|rest| rest.lines().next());
    let version = version.and_then(|version| version.trim().parse().ok());
    version.map(Some).ok_or_else(|| StoreError::NotAStore { path: root.into() })
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// A new name for an unfinished file in `folder`.
pub(super) fn temporary(folder: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // The time tells two containers apart that share the directory and see themselves as the same pid.
    folder.join(format!("{TEMPORARY}{}-{:x}-{count}", std::process::id(), now().0))
}

/// Writes `path` whole or not at all, by way of an unfinished file in `folder` on the same file system. The caller
/// syncs the folder of `path`.
pub(super) fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace_with(folder, path, bytes, File::sync_all)
}

/// The same of one file among many, which the caller syncs all at once with [`sync_everything`]: until then a power
/// failure may leave it empty.
pub(super) fn replace_unsynced(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace_with(folder, path, bytes, |_| Ok(()))
}

fn replace_with(
    folder: &Path,
    path: &Path,
    bytes: &[u8],
    sync: impl Fn(&File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let unfinished = temporary(folder);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&unfinished)?;
        file.write_all(bytes)?;
        sync(&file)?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&unfinished);
        StoreError::io("write", path, source)
    })
}

/// Makes `path` and the folders above it where they are missing.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|source| StoreError::io("write folder", path, source))
}

/// Makes names in `path` survive a power failure.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::io("write folder", path, source))
}

/// Makes all that was written to the file system of the folder `path` survive a power failure.
pub(super) fn sync_everything(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
    synced.map_err(|source| StoreError::io("write folder", path, source))
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}
