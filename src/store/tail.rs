//! The growing end of one journal's file: whole frames, or none.
//!
//! A file is made hidden and locked, given its first frames, and only then gets its name: whoever sees a journal
//! sees its head, and finds its lock (flock) taken while its writer lives, however that ends.
//!
//! Promises: after [`Tail::push`] returned, the frame survives the end of this process, however it comes; a power failure
//! it survives after [`Tail::sync`], which is called for it every [`SYNC_EVERY`] while frames come. After it failed, the file
//! ends where it ended before, or is cut back to there before anything else is written.

use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::directory::{self, FILE_MODE};
use super::error::StoreError;
use super::frame::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::wire::MAX_RAW_BYTES;

/// Compression level: 1 costs a third of the CPU time of 3 for a tenth more bytes.
const ZSTD_LEVEL: i32 = 1;

/// Between calls that force frames to the disk. Each costs more than all else that is done for a frame, and holds up who
/// else writes to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// A journal's file, open for writing.
pub(super) struct Tail {
    file: File,
    path: PathBuf,
    nonce: u32,
    seq: u32,
    end: u64,
    dirty: bool,
    /// Since when there is something that a power failure would take.
    unsynced: Option<Instant>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("path", &self.path)
            .field("seq", &self.seq)
            .field("end", &self.end)
            .finish()
    }
}

impl Tail {
    /// A file without a name yet, in folder `folder`, locked. Remove it with [`Tail::remove`] if nothing comes of it.
    pub(super) fn create(folder: &Path) -> Result<Tail, StoreError> {
        let path = directory::temporary(folder);
        let error = |source| StoreError::io("write a new journal", &path, source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(error)?;
        let lock =
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
        let compressor = lock.and_then(|()| zstd::bulk::Compressor::new(ZSTD_LEVEL)).map_err(error);
        let compressor = compressor.inspect_err(|_| drop(fs::remove_file(&path)))?;
        let nonce = std::hash::RandomState::new().hash_one(0) as u32;
        Ok(Tail { file, path, nonce, seq: 0, end: 0, dirty: false, unsynced: None, compressor })
    }

    /// Gives the file the name `path`. Returns false, and changes nothing, if that is taken.
    pub(super) fn publish(&mut self, path: &Path) -> Result<bool, StoreError> {
        let error = |source| StoreError::io("write a new journal", path, source);
        match fs::hard_link(&self.path, path) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked.map_err(error)?,
        }
        // The hidden name is swept up later where this fails.
        let _ = fs::remove_file(&self.path);
        self.path = path.to_path_buf();
        if let Some(folder) = path.parent() {
            directory::sync_folder(folder)?;
        }
        Ok(true)
    }

    /// Appends a frame of `raw`; returns its length in the file in bytes.
    pub(super) fn push(&mut self, raw: &[u8]) -> Result<u64, StoreError> {
        let error = |source| StoreError::io("write journal", &self.path, source);
        let too_big = |bytes: usize, limit: usize| {
            Err(StoreError::TooBig { path: self.path.clone(), bytes: bytes as u64, limit: limit as u64 })
        };
        if raw.len() > MAX_RAW_BYTES {
            return too_big(raw.len(), MAX_RAW_BYTES);
        }
        if self.dirty {
            self.file.set_len(self.end).and_then(|()| self.file.sync_data()).map_err(error)?;
            self.dirty = false;
        }
        let payload = self.compressor.compress(raw).map_err(error)?;
        let Some(header) = Header::of(self.nonce, self.seq, &payload) else {
            return too_big(payload.len(), MAX_PAYLOAD_BYTES);
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
        frame.extend_from_slice(&header.to_bytes());
        frame.extend_from_slice(&payload);
        let is_due = self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY);
        let written = self.file.write_all_at(&frame, self.end);
        if let Err(source) = written.and_then(|()| if is_due { self.file.sync_data() } else { Ok(()) }) {
            self.dirty = self.file.set_len(self.end).is_err();
            return Err(error(source));
        }
        self.unsynced = if is_due { None } else { self.unsynced.or_else(|| Some(Instant::now())) };
        self.end += frame.len() as u64;
        self.seq = self.seq.saturating_add(1);
        Ok(frame.len() as u64)
    }

    /// Forces what was pushed to the disk, unless it is there.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced.is_some() {
            let synced = self.file.sync_data();
            synced.map_err(|source| StoreError::io("write journal", &self.path, source))?;
            self.unsynced = None;
        }
        Ok(())
    }

    /// Deletes the file.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Whether somebody deleted the file: what is appended to it nobody will read.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Position of the next frame.
    pub(super) fn seq(&self) -> u32 {
        self.seq
    }

    /// Length in bytes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Closing would do, but for a child process that is being started and still has the descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}
