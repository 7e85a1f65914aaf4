//! Files of tenants, held open from the moment they are mapped for as long as somebody may ask for what is in them.

use std::hash::{Hash, Hasher};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::model::BuildId;

/// How .NET maps its code: memory without a file's name on a disk.
const DOTNET_CODE: &str = "memfd:doublemapper";

/// A file that some process mapped for execution. The open file goes when nobody has it mapped any more, or others need
/// its place, so the number of open files stays bounded.
#[derive(Debug)]
pub struct MappedFile {
    /// Unique for the life of the agent; never reused.
    pub id: u64,
    /// Its file name without folders, as the kernel told it: hostile, unescaped.
    pub name: String,
    /// Its build id, as the kernel read it: chosen by the tenant.
    pub build_id: Option<BuildId>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    never_open: bool,
}

impl MappedFile {
    /// A file with its open descriptor, or without one where it was gone before it could be opened.
    pub fn new(id: u64, name: String, build_id: Option<BuildId>, fd: Option<OwnedFd>) -> MappedFile {
        MappedFile { id, name, build_id, never_open: fd.is_none(), fd: Mutex::new(fd.map(Arc::new)) }
    }

    /// Whether the open file is still here.
    pub fn is_open(&self) -> bool {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether it was gone before it could be opened.
    pub fn was_never_open(&self) -> bool {
        self.never_open
    }

    /// Whether what is in it is made at run time.
    pub fn is_made(&self) -> bool {
        self.name.starts_with(DOTNET_CODE)
    }

    /// The open file, while it is here: to be read by `pread`, and let go of soon.
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds the file open again, through a new descriptor of it.
    pub fn reopen(&self, fd: OwnedFd) {
        *self.fd.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fd));
    }

    /// Lets the open file go. Returns whether it was here.
    pub fn close(&self) -> bool {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
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
    let fd = file.fd()?;
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
