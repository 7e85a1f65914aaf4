//! Bytes of a tenant's file, read in bounds and pinned by their content.
//!
//! A [`Source`] is a regular file read by `pread` (never mapped: a tenant that truncates a mapped file kills its
//! reader) or a slice. A [`Pinned`] reader splits it into pages and remembers a digest of each: a page read a second
//! time must be what it was the first time, or the reading fails. Once sealed, it reads pages that were pinned
//! before and no others. So the [`Key`] it gives stands for every byte a symbol table is made from, although
//! the file may be written to meanwhile and far more than memory holds may be read of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::model::BuildId;

/// Why a file gives no symbols. Every case is ordinary with hostile files.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused.
    #[error("read a mapped file: {0}")]
    Io(#[from] rustix::io::Errno),
    /// A pipe or a device: reading it may never return.
    #[error("read a mapped file: it is no regular file")]
    NotRegular,
    /// No ELF, or one for machines of another byte order.
    #[error("read symbols: the file is no little-endian ELF image")]
    NotElf,
    /// Something the file speaks of lies outside of it.
    #[error("read symbols: {0} lies outside the file")]
    OutOfBounds(&'static str),
    /// More than this program is willing to read.
    #[error("read symbols: {0} is larger than the limit")]
    TooLarge(&'static str),
    /// It contradicts its format.
    #[error("read symbols: {0} is malformed")]
    Malformed(&'static str),
    /// It was written to while it was read.
    #[error("read symbols: the file changed while it was read")]
    Changed,
}

/// Where bytes come from.
#[derive(Debug)]
pub enum Source<'a> {
    /// A regular file of this many bytes.
    File {
        /// The open file.
        fd: Arc<OwnedFd>,
        /// Its size when it was looked at first.
        len_bytes: u64,
    },
    /// Bytes in memory.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    /// The open file `fd`. Fails for what is no regular file.
    pub fn file(fd: Arc<OwnedFd>) -> Result<Source<'static>, ReadError> {
        let stat = rustix::fs::fstat(&fd)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(ReadError::NotRegular);
        }
        Ok(Source::File { fd, len_bytes: u64::try_from(stat.st_size).unwrap_or(0) })
    }

    /// Size in bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Source::File { len_bytes, .. } => *len_bytes,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` from `offset` on; an error where the source ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let outside = ReadError::OutOfBounds("the range to be read");
        match self {
            Source::Bytes(bytes) => {
                let begin = usize::try_from(offset).map_err(|_| ReadError::OutOfBounds("an offset"))?;
                let part = bytes.get(begin..).and_then(|rest| rest.get(..buffer.len())).ok_or(outside)?;
                buffer.copy_from_slice(part);
            }
            Source::File { fd, .. } => {
                let mut filled = 0;
                while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    match rustix::io::pread(fd, rest, offset.saturating_add(filled as u64)) {
                        Ok(0) => return Err(outside),
                        Ok(count) => filled += count,
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Stands for the content a symbol table is made from: SHA-256 over the build id, this program's table format and
/// every page that was pinned. A build id alone is chosen by the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Stands for this content together with that of another file.
    pub fn with(self, other: Key) -> Key {
        Key(Sha256::new().chain_update(self.0).chain_update(other.0).finalize().into())
    }

    /// In hexadecimal.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Size of a pinned page in bytes.
const PAGE_BYTES: u64 = 64 << 10;
/// Most that one [`Pinned::read`] returns, in bytes.
const MAX_READ_BYTES: u64 = 8 << 20;

/// A reader that returns the same bytes for the same place, or an error.
#[derive(Debug)]
pub struct Pinned<'a> {
    source: Source<'a>,
    digests: BTreeMap<u64, [u8; 32]>,
    sealed: bool,
    /// The pages read last, the latest first: enough for strings that cross into the next page.
    recent: [(u64, Vec<u8>); 2],
}

impl<'a> Pinned<'a> {
    /// A reader of `source` that has pinned nothing yet.
    pub fn new(source: Source<'a>) -> Pinned<'a> {
        let recent = [(u64::MAX, Vec::new()), (u64::MAX, Vec::new())];
        Pinned { source, digests: BTreeMap::new(), sealed: false, recent }
    }

    /// Size of the source in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.source.len_bytes()
    }

    /// The source, to be read without pins.
    pub fn into_source(self) -> Source<'a> {
        self.source
    }

    /// Checks that `range`, called `what` in the error, lies in the source and is no larger than `limit_bytes`.
    pub fn check(&self, range: &Range<u64>, limit_bytes: u64, what: &'static str) -> Result<(), ReadError> {
        if range.start > range.end || range.end > self.len_bytes() {
            return Err(ReadError::OutOfBounds(what));
        }
        if range.end - range.start > limit_bytes {
            return Err(ReadError::TooLarge(what));
        }
        Ok(())
    }

    /// Pins every page of `range`.
    pub fn pin(&mut self, range: &Range<u64>) -> Result<(), ReadError> {
        self.check(range, u64::MAX, "the range to be pinned")?;
        for page in range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES) {
            self.page(page)?;
        }
        Ok(())
    }

    /// The bytes of `range`, 8 MiB at most.
    pub fn read(&mut self, range: &Range<u64>) -> Result<Vec<u8>, ReadError> {
        self.check(range, MAX_READ_BYTES, "the range to be read")?;
        let mut out = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut at = range.start;
        while at < range.end {
            let part = self.page_from(at, range.end)?;
            out.extend_from_slice(part);
            at += part.len() as u64;
        }
        Ok(out)
    }

    /// Reads into `out` what stands from `at` to the next NUL, at most to `end` and at most `limit` bytes.
    pub fn read_name(&mut self, at: u64, end: u64, limit: usize, out: &mut Vec<u8>) -> Result<(), ReadError> {
        out.clear();
        let end = end.min(self.len_bytes()).min(at.saturating_add(limit as u64));
        let mut at = at;
        while at < end {
            let part = self.page_from(at, end)?;
            if let Some(length) = part.iter().position(|byte| *byte == 0) {
                out.extend_from_slice(part.get(..length).unwrap_or_default());
                return Ok(());
            }
            out.extend_from_slice(part);
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Calls `each` with pieces of `range` in order; a piece is a multiple of `unit` bytes, but for a torn end that
    /// is left out.
    pub fn for_each_piece(
        &mut self,
        range: &Range<u64>,
        unit: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let step = (PAGE_BYTES / unit.max(1)).max(1) * unit.max(1);
        let mut at = range.start;
        while let Some(rest) = range.end.checked_sub(at).filter(|rest| *rest >= unit) {
            let length = (rest / unit * unit).min(step);
            each(&self.read(&(at..at + length))?)?;
            at += length;
        }
        Ok(())
    }

    /// Ends pinning and gives the key of what was pinned. `format` stands for the way tables are made of it.
    pub fn seal(&mut self, format: u32, build_id: Option<BuildId>) -> Key {
        self.sealed = true;
        let mut hash = Sha256::new();
        hash.update(b"fnscope symbols");
        hash.update(format.to_le_bytes());
        let build_id = build_id.as_ref().map_or(&[][..], BuildId::as_bytes);
        hash.update((build_id.len() as u64).to_le_bytes());
        hash.update(build_id);
        hash.update(self.len_bytes().to_le_bytes());
        for (page, digest) in &self.digests {
            hash.update(page.to_le_bytes());
            hash.update(digest);
        }
        Key(hash.finalize().into())
    }

    /// What stands from `at` on in its page, at most to `end`; not empty where `at < end <= len`.
    fn page_from(&mut self, at: u64, end: u64) -> Result<&[u8], ReadError> {
        let page = self.page(at / PAGE_BYTES)?;
        let begin = usize::try_from(at % PAGE_BYTES).unwrap_or(usize::MAX);
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let rest = page.get(begin..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(ReadError::OutOfBounds("the range to be read"))?;
        Ok(rest.get(..length).unwrap_or(rest))
    }

    fn page(&mut self, number: u64) -> Result<&[u8], ReadError> {
        if self.recent[0].0 != number {
            self.recent.swap(0, 1);
        }
        if self.recent[0].0 != number {
            let begin = number.saturating_mul(PAGE_BYTES);
            let length = self.len_bytes().saturating_sub(begin).min(PAGE_BYTES);
            let mut bytes = std::mem::take(&mut self.recent[0].1);
            self.recent[0].0 = u64::MAX;
            bytes.resize(usize::try_from(length).unwrap_or(0), 0);
            self.source.read_at(begin, &mut bytes)?;
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            match self.digests.get(&number) {
                Some(known) if *known == digest => {}
                Some(_) => return Err(ReadError::Changed),
                None if self.sealed => return Err(ReadError::Malformed("a reference out of its section")),
                None => {
                    self.digests.insert(number, digest);
                }
            }
            self.recent[0] = (number, bytes);
        }
        Ok(&self.recent[0].1)
    }
}

/// Little-endian numbers at given places of a record.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    /// One byte.
    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// Two bytes.
    pub fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// Eight bytes where `wide`, else four.
    pub fn word(self, at: usize, wide: bool) -> Option<u64> {
        if wide { self.u64(at) } else { self.u32(at).map(u64::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1; 300_000]).unwrap();
        let fd: std::os::fd::OwnedFd = std::fs::File::open(file.path()).unwrap().into();
        let mut reader = Pinned::new(Source::file(fd.into()).unwrap());
        reader.pin(&(0..300_000)).unwrap();
        assert_eq!(reader.read(&(10..70_000)).unwrap(), vec![1; 69_990]);
        std::fs::write(file.path(), vec![2; 300_000]).unwrap();
        assert_eq!(reader.read(&(10..70_000)).unwrap(), vec![1; 69_990], "what is at hand stays as it was");
        assert!(matches!(reader.read(&(140_000..140_001)), Err(ReadError::Changed)));
        std::fs::write(file.path(), b"short").unwrap();
        assert!(matches!(reader.read(&(200_000..200_001)), Err(ReadError::OutOfBounds(_))));
    }

    #[test]
    fn what_was_not_pinned_before_the_seal_is_not_read_after_it() {
        let bytes = vec![7; 200_000];
        let mut reader = Pinned::new(Source::Bytes(&bytes));
        reader.pin(&(0..10)).unwrap();
        reader.seal(1, None);
        assert_eq!(reader.read(&(0..10)).unwrap(), vec![7; 10]);
        assert!(reader.read(&(150_000..150_001)).is_err());
        assert!(reader.read(&(199_999..200_001)).is_err());
    }

    #[test]
    fn devices_and_pipes_are_not_read() {
        let fd: std::os::fd::OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
        assert!(matches!(Source::file(fd.into()), Err(ReadError::NotRegular)));
    }

    #[test]
    fn the_key_stands_for_content_build_id_and_format() {
        let key = |bytes: &[u8], format, build_id: &[u8]| {
            let mut reader = Pinned::new(Source::Bytes(bytes));
            reader.pin(&(0..bytes.len() as u64)).unwrap();
            reader.seal(format, BuildId::new(build_id))
        };
        let base = key(b"abc", 1, b"id");
        assert_eq!(base, key(b"abc", 1, b"id"));
        for other in
            [key(b"abd", 1, b"id"), key(b"abc", 2, b"id"), key(b"abc", 1, b"ie"), key(b"abc", 1, b"")]
        {
            assert_ne!(base, other);
        }
    }
}
