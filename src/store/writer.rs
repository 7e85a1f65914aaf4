//! Writes batches into journals, one after the other. Not here: when to call it, and what to do when the disk is
//! full (the batch is not stored; the caller keeps it, or counts it as lost).
//!
//! A new journal is begun at the UTC hour of the data, and when the present one has become too long, too large or
//! too costly in memory. The old one then is sealed, or gets its folded tree, in a thread of low priority that
//! appends never wait for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{Batch, Entry, Stack, Timestamp, WriterInfo};

use super::current::{Current, ends};
use super::directory::Store;
use super::error::StoreError;
use super::folding::{AtClose, Folding};
use super::living::Living;

/// Samples and waits in one journal; who seals it has them all in memory.
const MAX_ROWS: u64 = 1_000_000;
/// Bytes of one journal's file.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Memory that a reader takes for what has an id in one journal, in bytes, estimated.
const MAX_DICTIONARY_BYTES: usize = 32 << 20;
/// An hour in microseconds.
pub(super) const HOUR_US: i64 = 3_600_000_000;

/// Appends to the journals of one writer.
#[derive(Debug)]
pub struct JournalWriter {
    store: Store,
    info: WriterInfo,
    current: Current,
    hour: Option<i64>,
    living: Living,
    folding: Folding,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Bytes the batch took in the file.
    pub bytes: u64,
    /// Whether a new journal was begun for it.
    pub rotated: bool,
}

impl JournalWriter {
    pub(super) fn begin(
        store: Store,
        info: WriterInfo,
        at_close: AtClose,
    ) -> Result<JournalWriter, StoreError> {
        let living = Living::default();
        let current = Current::begin(&store, &info, &living)?;
        let folding = Folding::start(&store, at_close)?;
        Ok(JournalWriter { store, info, current, hour: None, living, folding })
    }

    /// Appends `batch`; a kill at any moment does not take it once this returns, and a power failure some seconds later.
    /// An empty batch writes nothing.
    ///
    /// # Errors
    /// If it cannot be written: then nothing of it is, and the next append begins where this one did.
    pub fn append(&mut self, batch: &Batch) -> Result<Appended, StoreError> {
        if batch.is_empty() {
            return Ok(Appended::default());
        }
        let rotated = self.is_due(batch);
        if rotated {
            let begun = self.rotate();
            self.tell_if_full(&begun);
            begun?;
        }
        let appended = self.current.append(batch, &self.living);
        self.tell_if_full(&appended);
        let bytes = appended?;
        self.living.learn(&batch.entries, Instant::now());
        if let Some(latest) = own_time(batch) {
            self.hour = self.hour.max(Some(hour(latest)));
        }
        Ok(Appended { bytes, rotated })
    }

    /// Forces what was appended to the disk. [`JournalWriter::append`] does so by itself every few seconds; this is for when
    /// nothing more comes.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.current.sync()
    }

    /// Closes the journal and begins the next, unless nothing was appended to it. An agent with nothing to append
    /// calls this at the hour so that the last hour's folded files appear.
    ///
    /// # Errors
    /// If the next journal cannot be made: then the present one stays in use.
    pub fn rotate(&mut self) -> Result<(), StoreError> {
        let deleted = self.current.is_deleted();
        if self.current.is_empty() && !deleted {
            return Ok(());
        }
        // The directory may have been deleted, which is a way to delete all data.
        self.store = Store::create(self.store.root())?;
        let next = Current::begin(&self.store, &self.info, &self.living)?;
        let closed = std::mem::replace(&mut self.current, next).close();
        self.hour = None;
        match closed {
            _ if deleted => self.folding.anew(),
            Some(closed) => self.folding.fold(closed),
            None => {}
        }
        Ok(())
    }

    /// Closes the last journal and waits until its folded files are written.
    ///
    /// # Errors
    /// If those could not be written; [`Store::fold_leftovers`] tries again. The journal is complete regardless.
    pub fn finish(self) -> Result<(), StoreError> {
        if let Some(closed) = self.current.close() {
            self.folding.fold(closed);
        }
        self.folding.finish()
    }

    /// The same, but waits no longer than `patience` for what is made of closed journals. False if that was not all: it
    /// is lost with the process, and made anew by whoever writes to the store next.
    ///
    /// # Errors
    /// As of [`JournalWriter::finish`].
    pub fn finish_within(self, patience: Duration) -> Result<bool, StoreError> {
        if let Some(closed) = self.current.close() {
            self.folding.fold(closed);
        }
        self.folding.finish_within(patience)
    }

    /// Whether `stack` stands in the journal that is being written: it takes no more room there.
    pub fn knows(&self, stack: &Arc<Stack>) -> bool {
        self.current.knows(stack)
    }

    /// Whether closed journals were tidied up since this was asked before: much memory was freed then.
    pub fn was_tidied(&self) -> bool {
        self.folding.was_tidied()
    }

    /// Hours that were dropped to keep to what may be kept, since this writer began.
    pub fn dropped_hours(&self) -> u64 {
        self.folding.dropped_hours()
    }

    /// The file being written.
    pub fn path(&self) -> &Path {
        self.current.file().path()
    }

    fn tell_if_full<T>(&mut self, outcome: &Result<T, StoreError>) {
        if outcome.as_ref().is_err_and(StoreError::is_full) {
            self.folding.full();
        }
    }

    fn is_due(&self, batch: &Batch) -> bool {
        let full = self.current.rows() >= MAX_ROWS
            || self.current.bytes() >= MAX_FILE_BYTES
            || self.current.dictionary_bytes() >= MAX_DICTIONARY_BYTES;
        let other_hour = self.hour.is_some_and(|present| {
            let later = own_time(batch).is_some_and(|latest| hour(latest) > present);
            // Late samples of the last hour may still come; more than that is a clock that was set back.
            let back = batch.samples.last().is_some_and(|last| hour(last.time) < present - 1);
            later || back
        });
        full || other_hour || self.current.is_deleted()
    }
}

/// The latest time in `batch` by the writer's own clock; runtimes tell ends of long ago, and by other clocks.
fn own_time(batch: &Batch) -> Option<Timestamp> {
    let readings = batch.entries.iter().filter_map(|entry| match entry {
        Entry::Usage { at, .. } => Some(*at),
        _ => None,
    });
    batch.samples.iter().map(|sample| sample.time).chain(ends(batch)).chain(readings).max()
}

pub(super) fn hour(time: Timestamp) -> i64 {
    time.0.div_euclid(HOUR_US)
}
