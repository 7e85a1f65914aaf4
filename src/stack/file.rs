//! Files of tenants, held open from the moment they are mapped for as long as somebody may ask for what is in them.

use std::hash::{Hash, Hasher};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, StatFs};
use sha2::{Digest, Sha256};

use crate::model::BuildId;

/// How .NET maps its code: memory without a file's name on a disk.
const DOTNET_CODE: &str = "memfd:doublemapper";
/// How many owners' descriptors of a shared file are kept, so that one who changes his own takes nobody's names.
const MOST_HELD: usize = 2;
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// What tells one file of a file system, and one state of it, from others: who writes to it cannot keep all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Stat> for Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the widths of stat's fields differ between architectures")]
    fn from(stat: &Stat) -> Stamp {
        Stamp {
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// A handle (`O_PATH`) of a regular file, and what the file was when it was looked at.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    stamp: Stamp,
    device: u64,
    is_everybodys: bool,
}

impl Handle {
    /// The file that `fd` stands for; none where it is no regular one.
    #[allow(clippy::unnecessary_cast, reason = "the widths of stat's fields differ between architectures")]
    pub fn new(fd: OwnedFd) -> Option<Handle> {
        let stat = rustix::fs::fstat(&fd).ok()?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let is_everybodys = mode.contains(Mode::RUSR | Mode::RGRP | Mode::ROTH);
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let (stamp, device) = (Stamp::from(&stat), stat.st_dev as u64);
        is_regular.then_some(Handle { fd, stamp, device, is_everybodys })
    }

    /// What the file was.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Which file system it is on; none on an overlay, of which each container has its own above the same files. Whoever
    /// brings a file system of his own, whose inodes and times he makes up, shares nothing with others.
    pub fn device(&self) -> Option<u64> {
        let is_overlay = |stat: StatFs| stat.f_type as u64 == OVERLAY_MAGIC;
        (!rustix::fs::fstatfs(&self.fd).is_ok_and(is_overlay)).then_some(self.device)
    }

    /// It is opened at once where not everybody may read it: who does so later may have no right to.
    fn into_descriptor(self) -> Descriptor {
        let opened = if self.is_everybodys { None } else { for_reading(&self.fd) };
        let reads = opened.is_some();
        Descriptor { fd: Arc::new(opened.unwrap_or(self.fd)), reads }
    }
}

/// A file that some process mapped for execution. The open file goes when nobody has it mapped any more, or others need
/// its place, so the number of open files stays bounded.
///
/// Most are never read. Until one is, it is held by a handle (`O_PATH`), which costs one call fewer, and whose end asks
/// nothing of a file system: ext4 writes a file back when one that was open for reading is closed after a tenant has
/// truncated it.
///
/// Containers of one image share its files until one of them writes. An overlay then gives that container its own, even
/// through what was opened before, with the same inode and another [`Stamp`]: what was read is looked at once more, and
/// counts for nobody but a file's only owner if the file has changed.
#[derive(Debug)]
pub struct MappedFile {
    /// Unique for the life of the agent; never reused.
    pub id: u64,
    /// Its file name without folders, as the kernel told it: hostile, unescaped.
    pub name: String,
    /// Its build id, as the kernel read it: chosen by the tenant.
    pub build_id: Option<BuildId>,
    /// What it was when it was mapped; none where that is nobody's concern.
    stamp: Option<Stamp>,
    held: Mutex<Held>,
    never_open: bool,
}

/// How a file is held.
#[derive(Debug, Default)]
struct Held {
    /// At most [`MOST_HELD`], of different owners: what one makes of his own leaves another's.
    descriptors: Vec<Descriptor>,
    /// Whether more than one owner has it mapped.
    shared: bool,
    /// Whether its only owner has changed it: what was read of it is nobody else's.
    changed: bool,
}

#[derive(Debug, Clone)]
struct Descriptor {
    fd: Arc<OwnedFd>,
    /// Whether it is open for reading, not a handle.
    reads: bool,
}

impl Descriptor {
    fn is(&self, fd: &Arc<OwnedFd>) -> bool {
        Arc::ptr_eq(&self.fd, fd)
    }
}

impl MappedFile {
    /// A file with its open descriptor, or without one where it was gone before it could be opened.
    pub fn new(id: u64, name: String, build_id: Option<BuildId>, fd: Option<OwnedFd>) -> MappedFile {
        let descriptors: Vec<_> =
            fd.into_iter().map(|fd| Descriptor { fd: Arc::new(fd), reads: true }).collect();
        let never_open = descriptors.is_empty();
        let held = Mutex::new(Held { descriptors, ..Held::default() });
        MappedFile { id, name, build_id, stamp: None, held, never_open }
    }

    /// A file that is opened when it is first read, through `handle`.
    pub fn unread(id: u64, name: String, build_id: Option<BuildId>, handle: Handle) -> MappedFile {
        let (file, stamp) = (MappedFile::new(id, name, build_id, None), Some(handle.stamp));
        file.hold(handle);
        MappedFile { stamp, never_open: false, ..file }
    }

    /// Whether the file is still held.
    pub fn is_open(&self) -> bool {
        !self.held().descriptors.is_empty()
    }

    /// Whether it was gone before it could be opened.
    pub fn was_never_open(&self) -> bool {
        self.never_open
    }

    /// Whether what is in it is made at run time.
    pub fn is_made(&self) -> bool {
        self.name.starts_with(DOTNET_CODE)
    }

    /// What `read` makes of the open file, by `pread`. None where it is not here, or has been changed by one of those who
    /// share it.
    pub fn read<T>(&self, mut read: impl FnMut(Arc<OwnedFd>) -> T) -> Option<T> {
        loop {
            let fd = self.fd()?;
            let made = read(Arc::clone(&fd));
            if self.confirms(&fd) {
                return Some(made);
            }
        }
    }

    /// The open file, while it is here. What is read of it counts if the file [confirms](Self::confirms) it then.
    pub(super) fn fd(&self) -> Option<Arc<OwnedFd>> {
        loop {
            let first = self.held().descriptors.first().cloned()?;
            if first.reads {
                return Some(first.fd);
            }
            // Not under the lock: a file system may take its time, and others only ask whether the file is here.
            let opened = for_reading(&first.fd).map(Arc::new);
            let descriptors = &mut self.held().descriptors;
            let Some(at) = descriptors.iter().position(|descriptor| descriptor.is(&first.fd)) else {
                continue;
            };
            match opened {
                Some(fd) => drop(std::mem::replace(&mut descriptors[at], Descriptor { fd, reads: true })),
                None => {
                    // It may be possible later, or by another thread's rights; another owner's is next.
                    descriptors.rotate_left(1);
                    return None;
                }
            }
        }
    }

    /// Whether what was read through `fd` until now may be used. If not, it is let go of.
    pub(super) fn confirms(&self, fd: &Arc<OwnedFd>) -> bool {
        if self.is_as_mapped(fd) {
            return true;
        }
        let mut held = self.held();
        held.changed |= !held.shared;
        if held.shared {
            held.descriptors.retain(|descriptor| !descriptor.is(fd));
        }
        !held.shared
    }

    /// Holds the file of the same owner again, through a new handle of it.
    pub fn hold(&self, handle: Handle) {
        self.held().descriptors = vec![handle.into_descriptor()];
    }

    /// Whether more than one owner has it mapped.
    pub fn is_shared(&self) -> bool {
        self.held().shared
    }

    /// Makes the file one of another owner too, to whom `handle` belongs. The handle comes back where its only owner has
    /// changed the file since: this one is his.
    ///
    /// # Errors
    /// It is not shared.
    pub fn share(&self, handle: Handle) -> Result<(), Handle> {
        let mut held = self.held();
        if held.changed {
            return Err(handle);
        }
        held.shared = true;
        held.descriptors.retain(|descriptor| self.is_as_mapped(&descriptor.fd));
        if held.descriptors.len() < MOST_HELD {
            held.descriptors.push(handle.into_descriptor());
        }
        Ok(())
    }

    /// Lets the open file go. Returns whether it was here.
    pub fn close(&self) -> bool {
        !std::mem::take(&mut self.held().descriptors).is_empty()
    }

    fn is_as_mapped(&self, fd: &OwnedFd) -> bool {
        let is = |stamp| rustix::fs::fstat(fd).is_ok_and(|stat| Stamp::from(&stat) == stamp);
        self.stamp.is_none_or(is)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens what a handle stands for. Only for regular files: nothing waits, nothing rewinds.
pub(super) fn for_reading(handle: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::openat(CWD, format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty()).ok()
}

impl PartialEq for MappedFile {
    fn eq(&self, other: &MappedFile) -> bool {
        self.id == other.id
    }
}

impl Eq for MappedFile {}

impl Hash for MappedFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// SHA-256 of a file's content, in hexadecimal; none where it is not open, larger than `max_bytes`, or cannot be read.
pub fn content_digest(file: &MappedFile, max_bytes: u64) -> Option<String> {
    file.read(|fd| {
        let length =
            u64::try_from(rustix::fs::fstat(&fd).ok()?.st_size).ok().filter(|length| *length <= max_bytes)?;
        let (mut hash, mut at, mut piece) = (Sha256::new(), 0, vec![0; 64 << 10]);
        while at < length {
            let read = match rustix::io::pread(&fd, &mut piece, at) {
                Err(rustix::io::Errno::INTR) => continue,
                read => read.ok().filter(|read| *read > 0)?,
            };
            hash.update(piece.get(..read)?);
            at += read as u64;
        }
        Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    })?
}

/// Where an instruction pointer lies, independent of the process's address layout.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a file, at this offset of the file (not a virtual address).
    File {
        /// The file.
        file: Arc<MappedFile>,
        /// Offset in the file in bytes.
        offset: u64,
    },
    /// Found by scanning the stack: a return address in a file, at this offset of the file.
    Guessed {
        /// The file.
        file: Arc<MappedFile>,
        /// Offset in the file in bytes.
        offset: u64,
    },
    /// In the kernel, at this address.
    Kernel(u64),
    /// In the vdso, at this offset of its image.
    Vdso(u64),
    /// In memory that belongs to no file (JIT code, for one), at this address.
    Anonymous(u64),
    /// In code made at run time, of which the program told the name.
    Jit {
        /// The name: a tenant's word.
        name: Arc<str>,
    },
    /// In no mapping that is known, at this address.
    Unknown(u64),
    /// Not a place: the stack reached a limit here.
    Truncated,
    /// Not a place: no rule led further up from here.
    Short,
    /// Not a place: here the thread's stack begins.
    Root,
}

impl Place {
    /// Whether it tells how the stack ends instead of where code lies.
    pub fn is_end(&self) -> bool {
        matches!(self, Place::Truncated | Place::Short | Place::Root)
    }
}
