//! The thread that closed journals are handed to, at the lowest priority: it gives them their folded tree or seals
//! them. It may take a minute on a busy host, and nobody waits for it but a writer that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::archive::{Tidied, TidyOptions};
use super::directory::{Store, StoreLock};
use super::error::StoreError;
use super::reader::JournalFile;
use crate::model::Swap;

/// Lowest priority of a thread.
const NICE: i32 = 19;
/// A full disk is looked at so often.
const FULL_EVERY: Duration = Duration::from_secs(10);

/// What becomes of a closed journal.
#[derive(Debug, Clone)]
pub enum AtClose {
    /// It gets its folded tree and stays; whoever tidies up seals it.
    Fold,
    /// It stays as it is.
    Keep,
    /// It is sealed, like every other that is closed, and hours that are due go: as the options are then. The lock is held meanwhile.
    Seal(Arc<StoreLock>, Swap<TidyOptions>),
}

/// The thread. When this is dropped it ends by itself once its work is done.
#[derive(Debug)]
pub(super) struct Folding {
    work: Sender<Work>,
    thread: JoinHandle<Result<(), StoreError>>,
    /// Breaks when the thread has ended.
    ended: Receiver<()>,
    seals: bool,
    told_full: Option<Instant>,
    done: Arc<Done>,
}

/// What it did.
#[derive(Debug, Default)]
struct Done {
    /// Whether it did something that was not asked for yet.
    tidied: AtomicBool,
    /// Hours dropped since it began.
    dropped: AtomicU64,
}

/// What it is told.
#[derive(Debug)]
enum Work {
    /// A journal was closed.
    Closed(JournalFile),
    /// Journals of others may have been.
    Look,
    /// The disk is full.
    Full,
}

impl Folding {
    /// Starts it.
    pub(super) fn start(store: &Store, at_close: AtClose) -> Result<Folding, StoreError> {
        let (work, told) = channel::<Work>();
        let (alive, ended) = channel();
        let folder = store.clone();
        let done = Arc::<Done>::default();
        let told_of = done.clone();
        let seals = matches!(at_close, AtClose::Seal(..));
        let run = move || {
            let _alive = alive;
            // Without it the thread competes with functions; it is right all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            let mut outcome = Ok(());
            for work in told {
                let mut tidied = Tidied::default();
                if let Err(error) = do_work(&folder, &at_close, work, &mut tidied) {
                    tracing::warn!(%error, "a closed journal is not tidied up; tried again later");
                    outcome = Err(error);
                }
                tell(&tidied);
                told_of.dropped.fetch_add(tidied.dropped.hours, Ordering::Relaxed);
                told_of.tidied.store(true, Ordering::Relaxed);
            }
            outcome
        };
        let thread = std::thread::Builder::new().name("fnscope-seal".into()).spawn(run);
        let thread = thread.map_err(|source| StoreError::io("start a thread for", store.root(), source))?;
        if seals {
            // What an earlier writer left.
            let _ = work.send(Work::Look);
        }
        Ok(Folding { work, thread, ended, seals, told_full: None, done })
    }

    /// Tells it that the disk is full.
    pub(super) fn full(&mut self) {
        if self.seals && self.told_full.is_none_or(|at| at.elapsed() > FULL_EVERY) {
            self.told_full = Some(Instant::now());
            let _ = self.work.send(Work::Full);
        }
    }

    /// Tells it that the directory was made anew: whoever seals needs the lock of that one.
    pub(super) fn anew(&self) {
        if self.seals {
            let _ = self.work.send(Work::Look);
        }
    }

    /// Whether it did something since this was asked before.
    pub(super) fn was_tidied(&self) -> bool {
        self.done.tidied.swap(false, Ordering::Relaxed)
    }

    /// Hours that it dropped so far.
    pub(super) fn dropped_hours(&self) -> u64 {
        self.done.dropped.load(Ordering::Relaxed)
    }

    /// Hands it a closed journal.
    pub(super) fn fold(&self, journal: JournalFile) {
        // It ends before its sender only by a panic, which `finish` tells.
        let _ = self.work.send(Work::Closed(journal));
    }

    /// Waits for all that was handed over; returns the last failure.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        drop(self.work);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Waits no longer than `patience`. False if there was more to do: it goes on until the process ends, and what is
    /// left then, the next one does.
    pub(super) fn finish_within(self, patience: Duration) -> Result<bool, StoreError> {
        drop(self.work);
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            return Ok(false);
        }
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(|()| true)
    }
}

/// Does it; what was tidied up for that stands in `tidied`, also where not all could be done.
fn do_work(store: &Store, at_close: &AtClose, work: Work, tidied: &mut Tidied) -> Result<(), StoreError> {
    match (at_close, work) {
        (AtClose::Fold, Work::Closed(journal)) => match store.write_folded(&journal) {
            // Whoever holds the lock was faster, and sealed it. It may as well have been deleted.
            Err(error) if error.is_gone() && !journal.path().exists() => Ok(()),
            folded => folded.map(drop),
        },
        (AtClose::Seal(lock, options), Work::Full) => {
            lock.renew(store)?;
            store.drop_due(lock, &options.get().retention, &mut tidied.dropped)
        }
        (AtClose::Seal(lock, options), _) => store.tidy_into(lock, &options.get(), |_, _| {}, tidied),
        _ => Ok(()),
    }
}

fn tell(tidied: &Tidied) {
    let Tidied { sealed, dropped, .. } = tidied;
    if sealed.journals > 0 {
        let (journals, samples, bytes) = (sealed.journals, sealed.samples, sealed.bytes);
        tracing::info!(journals, samples, bytes, from_bytes = sealed.journal_bytes, "sealed");
    }
    if dropped.hours > 0 {
        let (hours, samples, bytes) = (dropped.hours, dropped.samples, dropped.bytes);
        tracing::warn!(hours, samples, bytes, "dropped the oldest hours to keep to what may be kept");
    }
}
