//! Finds the frames in a journal's file, sound or damaged, reading it piece by piece.
//!
//! Promises: what is returned has the checksum its writer gave it and stands in the writer's order; a frame that
//! does not is skipped, and what was skipped is told; memory is bounded by the longest frame that the file really
//! holds. A journal that grows meanwhile is read up to where it ended when the scan began.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{HEADER_BYTES, Header, MAGIC};

/// Bytes read at a time while looking for the next frame.
const CHUNK_BYTES: usize = 64 << 10;

/// What stands in the file.
#[derive(Debug)]
pub(super) enum Found {
    /// A sound frame.
    Frame {
        /// Where it begins.
        offset: u64,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Something that is none.
    Damage {
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: String,
        /// Whether no sound frame follows.
        torn_end: bool,
    },
}

/// The frames of a file, in order.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    file: &'a File,
    len: u64,
    offset: u64,
    nonce: Option<u32>,
    next_seq: u32,
}

impl<'a> Frames<'a> {
    /// Scans all of `file`.
    pub(super) fn new(file: &'a File) -> io::Result<Frames<'a>> {
        let len = file.metadata()?.len();
        Ok(Frames { file, len, offset: 0, nonce: None, next_seq: 0 })
    }

    /// Scans the last `bytes` bytes of `file` alone, for a frame that stands at its end. Finds nothing if the first
    /// frame is not sound.
    pub(super) fn at_end(file: &'a File, bytes: u64) -> io::Result<Frames<'a>> {
        let mut frames = Frames::new(file)?;
        frames.nonce = frames.sound_frame(0).map(|(header, _)| header.nonce);
        frames.offset = if frames.nonce.is_some() { frames.len.saturating_sub(bytes) } else { frames.len };
        Ok(frames)
    }

    /// How long the file was when the scan began, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn sound_frame(&self, offset: u64) -> Option<(Header, Vec<u8>)> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        let header = Header::parse(&bytes)?;
        let begin = offset.checked_add(HEADER_BYTES as u64)?;
        let expected = self.nonce.is_none_or(|nonce| nonce == header.nonce) && header.seq >= self.next_seq;
        // The length is believed only as far as the file has bytes for it.
        if !expected || begin.checked_add(header.len.into())? > self.len {
            return None;
        }
        let mut payload = vec![0; header.len as usize];
        self.file.read_exact_at(&mut payload, begin).ok()?;
        header.holds(&payload).then_some((header, payload))
    }

    /// The next sound frame at or behind `offset`.
    fn resync(&self, mut offset: u64) -> Option<(u64, Header)> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while offset < self.len {
            let read = self.file.read_at(&mut chunk, offset).ok()?;
            let bytes = chunk.get(..read)?;
            let found =
                bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC).find_map(
                    |(at, _)| {
                        self.sound_frame(offset + at as u64).map(|(header, _)| (offset + at as u64, header))
                    },
                );
            if found.is_some() {
                return found;
            }
            // The magic may straddle two chunks.
            offset += read.checked_sub(MAGIC.len() - 1).filter(|step| *step > 0)? as u64;
        }
        None
    }
}

impl Iterator for Frames<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let offset = self.offset;
        if offset >= self.len {
            return None;
        }
        if let Some((header, payload)) = self.sound_frame(offset) {
            if header.seq > self.next_seq {
                let what = format!("{} frames are missing", header.seq - self.next_seq);
                self.next_seq = header.seq;
                return Some(Found::Damage { offset, what, torn_end: false });
            }
            self.offset = offset + HEADER_BYTES as u64 + payload.len() as u64;
            self.nonce = Some(header.nonce);
            self.next_seq = header.seq.saturating_add(1);
            return Some(Found::Frame { offset, payload });
        }
        let Some((found, header)) = self.resync(offset + 1) else {
            self.offset = self.len;
            let what = format!("{} bytes at the end are no whole frame", self.len - offset);
            return Some(Found::Damage { offset, what, torn_end: true });
        };
        let lost = header.seq - self.next_seq;
        self.offset = found;
        self.nonce = Some(header.nonce);
        self.next_seq = header.seq;
        let what = format!("{} bytes are no sound frame; {lost} frames are lost", found - offset);
        Some(Found::Damage { offset, what, torn_end: false })
    }
}
