//! One journal: found, asked whether it matters, read. Takes no lock; whoever writes it may go on meanwhile.
//!
//! Not here: joining journals. An instance may live in several; its [`crate::model::InstanceKey`] is the same in
//! all of them, and its name may stand only in a later one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::model::{OwnUse, Timestamp, Window, WriterInfo};

use super::contents::{BatchRecord, Damage, JournalContents};
use super::error::StoreError;
use super::names;
use super::replay::{Replay, Seen};
use super::scan::{Found, Frames};
use super::unseen;
use super::wire::Closed;

/// How the name of a journal's file ends.
pub(super) const SUFFIX: &str = ".jnl";
/// The closing frame stands within so many bytes of the end.
const CLOSING_BYTES: u64 = 512;

/// A journal in the directory. Sorts by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalFile {
    seq: u32,
    name: String,
    path: PathBuf,
}

impl JournalFile {
    /// The journal at `path`; none if that is no journal's name.
    pub(super) fn at(path: &Path) -> Option<JournalFile> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let mut parts = name.rsplit('-');
        let (seq, boot, _node) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str| {
            Some(text).filter(|text| text.len() == 8).and_then(|text| u32::from_str_radix(text, 16).ok())
        };
        hex(boot)?;
        (!name.starts_with('.')).then_some(JournalFile {
            seq: hex(seq)?,
            name: name.into(),
            path: path.into(),
        })
    }

    /// The name of `info`'s journal `seq`: `<node>-<boot8>-<seq8>.jnl`. `seq` is the second it was begun in, so that
    /// a name does not come again when journals are deleted, or the next free number.
    pub(super) fn file_name(info: &WriterInfo, seq: u32) -> String {
        let boot: String = info.boot_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        format!("{}-{boot:0>8}-{seq:08x}{SUFFIX}", names::encode(&info.node))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name without the suffix, unique in the directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was begun, to the second, as its name tells.
    pub(super) fn begun_at(&self) -> Timestamp {
        Timestamp(i64::from(self.seq) * 1_000_000)
    }

    /// Whether its writer is alive. If not, nothing will be added to it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn is_being_written(&self) -> Result<bool, StoreError> {
        let file = self.open()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            locked => {
                locked.map(|()| false).map_err(|source| StoreError::io("lock journal", &self.path, source))
            }
        }
    }

    /// Whether something of it may lie in `window`, from its first and last frames alone. Certain for a journal that
    /// was closed in peace; any other may.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn may_overlap(&self, window: Window) -> Result<bool, StoreError> {
        Ok(self.closing()?.is_none_or(|closed| window.overlaps(closed.from, closed.to)))
    }

    /// Who wrote it.
    ///
    /// # Errors
    /// If it cannot be read or its head is damaged.
    pub fn writer(&self) -> Result<WriterInfo, StoreError> {
        let file = self.open()?;
        let mut replay = Replay::of(&self.name);
        for found in self.frames(&file)? {
            if let Found::Frame { payload, .. } = found {
                replay.frame(&payload, &mut |_| {});
            }
            if let Some(head) = replay.head {
                return Ok(head.info);
            }
        }
        Err(StoreError::NoHead { path: self.path.clone() })
    }

    /// Reads it: every instance it knows, and the samples, waits and batches of `window`.
    ///
    /// # Errors
    /// If it cannot be opened, or every copy of its head is damaged. Other damage is part of what is returned.
    pub fn load(&self, window: Window) -> Result<JournalContents, StoreError> {
        let (mut samples, mut waits, mut batches) = (Vec::new(), Vec::new(), Vec::<BatchRecord>::new());
        let mut batch = u32::MAX;
        let (replay, damage) = self.replay(|seen| match seen {
            Seen::Batch(head) if window.overlaps(head.from, head.to) => {
                batch = batches.len() as u32;
                batches.push(BatchRecord {
                    from: head.from,
                    to: head.to,
                    cpus: head.cpus,
                    unattributed: head.unattributed,
                    clock_offset_ns: head.clock_offset_ns,
                    own_use: OwnUse::default(),
                });
            }
            Seen::OwnUse(own_use) => {
                if let Some(batch) = batches.get_mut(batch as usize) {
                    batch.own_use = own_use;
                }
            }
            Seen::Frame | Seen::Batch(_) => batch = u32::MAX,
            Seen::Sample(mut sample) if window.contains(sample.time) => {
                sample.batch = batch;
                samples.push(sample);
            }
            Seen::Wait(mut wait) if window.contains(wait.back.time) => {
                wait.back.batch = batch;
                waits.push(wait);
            }
            Seen::Sample(_) | Seen::Wait(_) => {}
        })?;
        samples.sort_by_key(|sample| sample.time);
        waits.sort_by_key(|wait| wait.back.time);
        let head = replay.head.ok_or_else(|| StoreError::NoHead { path: self.path.clone() })?;
        let Replay { instances, stacks, comms, threads, .. } = replay;
        let writer = head.info;
        let mut contents =
            JournalContents { writer, instances, stacks, comms, threads, samples, waits, batches, damage };
        unseen::leave_out(&mut contents);
        Ok(contents)
    }

    /// Lets the whole journal go by, frame after frame.
    pub(super) fn replay(&self, mut seen: impl FnMut(Seen)) -> Result<(Replay, Vec<Damage>), StoreError> {
        let file = self.open()?;
        let mut replay = Replay::of(&self.name);
        let mut damage = Vec::new();
        let mut note = |offset, what: String, torn_end| {
            damage.push(Damage { file: self.path.clone(), offset, what, torn_end });
        };
        let frames = self.frames(&file)?;
        let scanned = frames.len();
        for found in frames {
            match found {
                Found::Frame { offset, payload } => {
                    let lost_before = (replay.lost_samples, replay.lost_waits);
                    for malformed in replay.frame(&payload, &mut seen) {
                        note(offset, malformed.0.into(), false);
                    }
                    let lost = [
                        (replay.lost_samples - lost_before.0, "samples"),
                        (replay.lost_waits - lost_before.1, "waits"),
                    ];
                    for (lost, what) in lost.into_iter().filter(|(lost, _)| *lost > 0) {
                        let text = format!("{lost} {what} of threads that were lost with an earlier frame");
                        note(offset, text, false);
                    }
                }
                // Of a journal that grows this is the frame being written.
                Found::Damage { torn_end: true, .. } if self.is_being_written()? => {}
                Found::Damage { offset, what, torn_end } => note(offset, what, torn_end),
            }
        }
        let told = damage.iter().any(|damage| damage.torn_end);
        // In this order: a writer's last frame is there before its lock is gone.
        if replay.closed.is_none()
            && replay.head.is_some()
            && !told
            && !self.is_being_written()?
            && file.metadata().map_err(|source| self.unreadable(source))?.len() == scanned
        {
            let what = "ends without its closing frame: what stood behind this is missing".into();
            damage.push(Damage { file: self.path.clone(), offset: scanned, what, torn_end: true });
        }
        Ok((replay, damage))
    }

    /// Whether its writer ended it: nothing is missing at its end.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn is_closed(&self) -> Result<bool, StoreError> {
        Ok(self.closing()?.is_some())
    }

    fn closing(&self) -> Result<Option<Closed>, StoreError> {
        let file = self.open()?;
        let mut replay = Replay::of(&self.name);
        let frames = Frames::at_end(&file, CLOSING_BYTES).map_err(|source| self.unreadable(source))?;
        for found in frames {
            match found {
                Found::Frame { payload, .. } => drop(replay.frame(&payload, &mut |_| {})),
                Found::Damage { torn_end: true, .. } => return Ok(None),
                Found::Damage { .. } => {}
            }
        }
        Ok(replay.closed)
    }

    fn frames<'a>(&self, file: &'a File) -> Result<Frames<'a>, StoreError> {
        Frames::new(file).map_err(|source| self.unreadable(source))
    }

    fn open(&self) -> Result<File, StoreError> {
        File::open(&self.path).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> StoreError {
        StoreError::io("read journal", &self.path, source)
    }
}
