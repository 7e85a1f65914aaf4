//! The journal being written: which ids it has given, whom it has introduced, what span of time it covers.
//!
//! Promises: every journal stands alone (it introduces an instance before it says anything about it), and a frame
//! that could not be written leaves no trace in the ids of the next.

use std::sync::Arc;

use crate::model::{Batch, Entry, IdSet, InstanceNo, Stack, Timestamp, WriterInfo};

use super::dictionary::Dictionary;
use super::directory::{self, Store};
use super::encode;
use super::error::StoreError;
use super::folded;
use super::living::{Living, number};
use super::reader::{JournalFile, SUFFIX};
use super::replay::wait_end;
use super::tail::Tail;
use super::wire::{BatchHead, Closed, Head, KEY_FRAMES};

/// Bytes of introductions in one frame, before compression.
const INTRODUCTIONS_BYTES: usize = 4 << 20;

/// The journal being written.
#[derive(Debug)]
pub(super) struct Current {
    tail: Tail,
    file: JournalFile,
    head: Head,
    dictionary: Dictionary,
    introduced: IdSet<InstanceNo>,
    batches: u64,
    samples: u64,
    waits: u64,
    span: Option<Closed>,
}

impl Current {
    /// Begins a journal that introduces those of `living` who are alive.
    pub(super) fn begin(store: &Store, info: &WriterInfo, living: &Living) -> Result<Current, StoreError> {
        let opened_at = directory::now();
        let head = Head { info: info.clone(), opened_at };
        let mut tail = Tail::create(&store.journal_folder())?;
        let mut introduced = IdSet::default();
        let named = introduce(&mut tail, &head, living, &mut introduced).and_then(|()| {
            let seconds = u32::try_from(opened_at.0.max(0) / 1_000_000).unwrap_or(u32::MAX);
            for seq in (seconds..=u32::MAX).chain(0..seconds) {
                let file = JournalFile::file_name(info, seq);
                let path = store.journal_folder().join(&file);
                // A marker without a journal is what is left of a deleted one, whose folded files may still be there. It
                // goes with time, and behind a clock that was set back the same second comes again: a journal with the
                // name of a sealed one would pass for it, and be deleted.
                let is_free =
                    !folded::marker(&path).exists() && !store.has_sealed(file.trim_end_matches(SUFFIX))?;
                if is_free && tail.publish(&path)? {
                    return Ok(path);
                }
            }
            Err(StoreError::io(
                "write a new journal",
                &store.journal_folder(),
                std::io::ErrorKind::AlreadyExists,
            ))
        });
        let path = match named {
            Ok(path) => path,
            Err(error) => {
                tail.remove();
                return Err(error);
            }
        };
        let file = JournalFile::at(&path).expect("a name made by JournalFile::file_name is one");
        let dictionary = Dictionary::new();
        Ok(Current { tail, file, head, dictionary, introduced, batches: 0, samples: 0, waits: 0, span: None })
    }

    /// Appends `batch` whole, or not at all; returns the bytes written.
    pub(super) fn append(&mut self, batch: &Batch, living: &Living) -> Result<u64, StoreError> {
        let mut raw = Vec::new();
        let seq = self.tail.seq();
        if seq <= 1 || seq.is_multiple_of(KEY_FRAMES) {
            encode::head(&mut raw, &self.head);
            self.dictionary.renumber_tasks();
        }
        let waiting = batch.waits.iter().map(|wait| &wait.left);
        let sampled = batch.samples.iter().chain(waiting).map(|sample| sample.instance);
        let mentioned = batch.entries.iter().map(number).chain(sampled);
        let mut introduced = IdSet::default();
        for no in mentioned {
            if !self.introduced.contains(&no) && introduced.insert(no) {
                living.declaration(no).iter().for_each(|entry| encode::entry(&mut raw, entry));
            }
        }
        let head = batch_head(batch);
        let period_us = i64::try_from(self.head.info.period_ns / 1000).unwrap_or(1);
        encode::batch(&mut raw, &mut self.dictionary, batch, &head, period_us);
        let written = self.tail.push(&raw).inspect_err(|_| self.dictionary.roll_back())?;
        self.dictionary.commit();
        self.introduced.extend(introduced);
        self.batches += 1;
        self.samples += batch.samples.len() as u64;
        self.waits += batch.waits.len() as u64;
        let span = self.span.get_or_insert(Closed { from: head.from, to: head.to, samples: 0 });
        let times = batch.entries.iter().filter_map(moment).chain(ends(batch)).chain([head.from, head.to]);
        for time in times {
            (span.from, span.to) = (span.from.min(time), span.to.max(time));
        }
        span.samples = self.samples;
        Ok(written)
    }

    /// Forces what was appended to the disk.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.tail.sync()
    }

    /// Ends the journal; none if there was nothing to keep.
    pub(super) fn close(mut self) -> Option<JournalFile> {
        let Some(span) = self.span else {
            self.tail.remove();
            return None;
        };
        let mut raw = Vec::new();
        encode::closed(&mut raw, &span);
        if let Err(error) = self.tail.push(&raw) {
            // Costs its readers a scan, nothing else.
            tracing::debug!(%error, "journal ends without its closing frame");
        }
        if let Err(error) = self.sync() {
            tracing::warn!("{error}; a power failure may take the end of it");
        }
        Some(self.file)
    }

    /// Whether it has given `stack` an id.
    pub(super) fn knows(&self, stack: &Arc<Stack>) -> bool {
        self.dictionary.stacks.id(stack).is_some()
    }

    /// Its file.
    pub(super) fn file(&self) -> &JournalFile {
        &self.file
    }

    /// Whether somebody deleted its file.
    pub(super) fn is_deleted(&self) -> bool {
        self.tail.is_deleted()
    }

    /// Whether it holds no batch.
    pub(super) fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Samples and waits written.
    pub(super) fn rows(&self) -> u64 {
        self.samples.saturating_add(self.waits)
    }

    /// Length of its file in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.tail.end()
    }

    /// Memory that a reader takes for what has an id in it, in bytes, estimated.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.dictionary.bytes()
    }
}

/// The first frames: the head alone, then whoever is alive.
fn introduce(
    tail: &mut Tail,
    head: &Head,
    living: &Living,
    introduced: &mut IdSet<InstanceNo>,
) -> Result<(), StoreError> {
    let mut raw = Vec::new();
    encode::head(&mut raw, head);
    tail.push(&raw)?;
    let told = raw.len();
    // The second frame has the head too, should the first be lost.
    for no in living.alive() {
        living.declaration(no).iter().for_each(|entry| encode::entry(&mut raw, entry));
        introduced.insert(no);
        if raw.len() > INTRODUCTIONS_BYTES {
            tail.push(&raw)?;
            raw.clear();
        }
    }
    if !introduced.is_empty() && raw.len() > told { tail.push(&raw).map(drop) } else { Ok(()) }
}

fn batch_head(batch: &Batch) -> BatchHead {
    let samples = batch.samples.iter().map(|sample| sample.time);
    let mut times: Vec<Timestamp> = samples.collect();
    if times.is_empty() {
        times.extend(ends(batch));
    }
    if times.is_empty() {
        times.extend(batch.entries.iter().filter_map(moment));
    }
    let now = directory::now();
    let (from, to) = (times.iter().min().copied().unwrap_or(now), times.iter().max().copied().unwrap_or(now));
    let (cpus, unattributed) = (batch.cpus.clone(), batch.unattributed);
    BatchHead { from, to, cpus, unattributed, clock_offset_ns: batch.clock_offset_ns }
}

/// When the waits of `batch` were over.
pub(super) fn ends(batch: &Batch) -> impl Iterator<Item = Timestamp> {
    batch.waits.iter().map(|wait| wait_end(wait.left.time, wait.ns))
}

/// When `entry` happened; none for what is no event of its batch.
fn moment(entry: &Entry) -> Option<Timestamp> {
    match entry {
        Entry::Exec { at, .. }
        | Entry::Ended { at, .. }
        | Entry::Usage { at, .. }
        | Entry::Dropped { at, .. }
        | Entry::Fact { at, .. } => Some(*at),
        Entry::Instance { .. } | Entry::Identity { .. } => None,
    }
}
