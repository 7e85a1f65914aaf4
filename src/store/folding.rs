//! The thread that gives closed journals their folded tree, at the lowest priority: it may take a minute on a busy
//! host, and nobody waits for it but a writer that ends.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::directory::Store;
use super::error::StoreError;
use super::reader::JournalFile;

/// Lowest priority of a thread.
const NICE: i32 = 19;

/// The thread. When this is dropped it ends by itself once its work is done.
#[derive(Debug)]
pub(super) struct Folding {
    work: Sender<JournalFile>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Folding {
    /// Starts it.
    pub(super) fn start(store: &Store) -> Result<Folding, StoreError> {
        let (work, closed) = channel::<JournalFile>();
        let folder = store.clone();
        let run = move || {
            // Without it the thread competes with functions; it is right all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            let mut outcome = Ok(());
            for journal in closed {
                if let Err(error) = folder.write_folded(&journal) {
                    tracing::warn!(%error, journal = journal.name(), "no folded files of a journal; tried again at the next start");
                    outcome = Err(error);
                }
            }
            outcome
        };
        let thread = std::thread::Builder::new().name("fold".into()).spawn(run);
        let thread = thread.map_err(|source| StoreError::io("start a thread for", store.root(), source))?;
        Ok(Folding { work, thread })
    }

    /// Hands it a closed journal.
    pub(super) fn fold(&self, journal: JournalFile) {
        // It ends before its sender only by a panic, which `finish` tells.
        let _ = self.work.send(journal);
    }

    /// Waits for all that was handed over; returns the last failure.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        drop(self.work);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
