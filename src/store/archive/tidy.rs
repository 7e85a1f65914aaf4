//! Tidying up: every closed journal is sealed, and hours that are due go. Who does it holds the store's lock: the agent,
//! or whoever writes when there is none.
//!
//! Promises: one journal that cannot be sealed stops no other. A full disk drops what retention says and nothing else;
//! the journal stays until it can be sealed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::partition::Hour;
use super::retention::{HourSize, Retention};
use super::schema::Table;
use super::seal::Sealed;
use super::set::{SUMS, SealedSet};
use crate::model::Window;
use crate::store::directory::{self, Store, StoreLock};
use crate::store::error::StoreError;
use crate::store::folded;
use crate::store::reader::JournalFile;

/// Age from which a file that belongs to nothing is one that nobody will finish.
const STALE: Duration = Duration::from_secs(3600);

/// How to tidy up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TidyOptions {
    /// Whether to write the folded tree.
    pub folded: bool,
    /// What is kept.
    pub retention: Retention,
    /// Begin no further journal after so long: somebody waits.
    pub patience: Option<Duration>,
    /// Leave journals of the present hour: more may come for the same hour, and a set each costs space.
    pub only_past_hours: bool,
}

impl Default for TidyOptions {
    fn default() -> TidyOptions {
        TidyOptions { folded: true, retention: Retention::default(), patience: None, only_past_hours: false }
    }
}

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Hours.
    pub hours: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes freed.
    pub bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Sealed.
    pub sealed: Sealed,
    /// Dropped.
    pub dropped: Dropped,
    /// Closed journals that were left for later.
    pub left: u64,
}

impl Store {
    /// Seals every closed journal and drops the hours that are due. `progress` is told how many journals are done, and
    /// of how many.
    ///
    /// # Errors
    /// If the store cannot be listed or nothing can be dropped from it, or if its directory was deleted and another
    /// process has the lock of the new one.
    pub fn tidy(
        &self,
        lock: &StoreLock,
        options: &TidyOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Tidied, StoreError> {
        let mut tidied = Tidied::default();
        self.tidy_into(lock, options, progress, &mut tidied).map(|()| tidied)
    }

    /// The same, and what was done until then stands in `tidied` where it ends with an error.
    pub(in crate::store) fn tidy_into(
        &self,
        lock: &StoreLock,
        options: &TidyOptions,
        mut progress: impl FnMut(usize, usize),
        tidied: &mut Tidied,
    ) -> Result<(), StoreError> {
        let begin = Instant::now();
        lock.renew(self)?;
        self.clean();
        let mut closed = Vec::new();
        for journal in self.journals()? {
            match journal.is_being_written() {
                Ok(false) if options.only_past_hours && begun_this_hour(&journal) => tidied.left += 1,
                Ok(false) => closed.push(journal),
                Err(error) if !error.is_gone() => tracing::warn!(%error, "a journal is not sealed"),
                _ => {}
            }
        }
        let mut sets: HashMap<String, SealedSet> = HashMap::new();
        if !closed.is_empty() {
            sets.extend(self.sealed(Window::ALL)?.sets.into_iter().map(|set| (set.name.clone(), set)));
        }
        for (at, journal) in closed.iter().enumerate() {
            progress(at, closed.len());
            if options.patience.is_some_and(|patience| begin.elapsed() > patience) {
                tidied.left += 1;
                continue;
            }
            match self.seal_one(lock, journal, sets.get(journal.name()), options, &mut tidied.dropped) {
                Ok(sealed) => tidied.sealed.add(sealed),
                Err(error) => {
                    tidied.sealed.failed += 1;
                    tracing::warn!(%error, journal = journal.name(), "a journal is not sealed; it stays, and is read as it is");
                }
            }
        }
        progress(closed.len(), closed.len());
        self.drop_due(lock, &options.retention, &mut tidied.dropped)
    }

    fn seal_one(
        &self,
        lock: &StoreLock,
        journal: &JournalFile,
        set: Option<&SealedSet>,
        options: &TidyOptions,
        dropped: &mut Dropped,
    ) -> Result<Sealed, StoreError> {
        // Whoever sealed it was killed before it could delete it.
        if let Some(set) = set
            && self.is_sealed(set)?.is_some()
        {
            self.delete_journal(journal)?;
            return Ok(Sealed::default());
        }
        match self.seal(journal, options.folded) {
            Err(error) if error.is_full() => {
                let before = dropped.bytes;
                self.drop_due(lock, &options.retention, dropped)?;
                if dropped.bytes == before {
                    return Err(error);
                }
                self.seal(journal, options.folded)
            }
            sealed => sealed,
        }
    }

    /// Drops the hours that are due, oldest first, and adds them to `dropped`.
    ///
    /// # Errors
    /// If the store cannot be listed or a file cannot be deleted.
    pub fn drop_due(
        &self,
        _lock: &StoreLock,
        retention: &Retention,
        dropped: &mut Dropped,
    ) -> Result<(), StoreError> {
        if *retention == Retention::default() {
            return Ok(());
        }
        let mut sets: BTreeMap<Hour, Vec<SealedSet>> = BTreeMap::new();
        for set in self.sealed(Window::ALL)?.sets {
            sets.entry(set.hour).or_default().push(set);
        }
        let folded = folded_files(&self.folded_folder());
        let mut sizes: BTreeMap<Hour, u64> = BTreeMap::new();
        for (hour, of_hour) in &sets {
            *sizes.entry(*hour).or_default() += of_hour.iter().map(SealedSet::bytes).sum::<u64>();
        }
        for (hour, files) in &folded {
            *sizes.entry(*hour).or_default() += files.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        let sizes: Vec<HourSize> = sizes.into_iter().map(|(hour, bytes)| HourSize { hour, bytes }).collect();
        let journals = self.journals()?;
        let others =
            journals.iter().filter_map(|journal| fs::metadata(journal.path()).ok()).map(|meta| meta.len());
        let due = retention.due(&sizes, others.sum(), free_bytes(self.root()), directory::now());
        for HourSize { hour, .. } in sizes.iter().take(due) {
            let (mut samples, mut bytes) = (0, 0);
            for set in sets.get(hour).into_iter().flatten() {
                samples += set.sums()?.and_then(Result::ok).map_or(0, |sums| sums.samples);
                bytes += set.remove()?;
            }
            for (path, len) in folded.get(hour).into_iter().flatten() {
                if fs::remove_file(path).is_ok() {
                    bytes += len;
                    remove_empty(path, &self.folded_folder());
                }
            }
            dropped.hours += 1;
            dropped.samples += samples;
            dropped.bytes += bytes;
            tracing::info!(hour = hour.name(), samples, bytes, "dropped an hour");
        }
        Ok(())
    }

    /// Finishes what was begun and removes what nobody will finish.
    fn clean(&self) {
        self.sweep();
        let sets = match self.sealed(Window::ALL) {
            Ok(sets) => sets,
            Err(error) => return tracing::debug!(%error, "nothing is cleaned"),
        };
        let orphans = self.orphans(Window::ALL, &sets).unwrap_or_default();
        let stale = orphans.into_iter().filter(|(_, path)| is_stale(path)).map(|(set, _)| set);
        for set in sets.dropped.iter().cloned().chain(stale) {
            if let Err(error) = set.remove() {
                tracing::debug!(%error, "what is left of a dropped set stays");
            }
        }
        // A marker whose journal is gone kept its name from coming again; now only what is sealed and kept does.
        let listing = fs::read_dir(self.journal_folder()).into_iter().flatten().flatten();
        for path in listing.map(|file| file.path()) {
            let journal = path.with_extension("jnl");
            if path == folded::marker(&journal) && !journal.exists() && is_stale(&path) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Folders in which unfinished files may lie.
    pub(in crate::store) fn archive_folders(&self) -> impl Iterator<Item = PathBuf> {
        let names = Table::ALL.iter().map(|table| table.name()).chain([SUMS]);
        names.map(|name| self.root().join(name)).collect::<Vec<_>>().into_iter()
    }
}

/// The files of the folded tree by hour, with their bytes.
fn folded_files(top: &Path) -> BTreeMap<Hour, Vec<(PathBuf, u64)>> {
    let mut found: BTreeMap<Hour, Vec<(PathBuf, u64)>> = BTreeMap::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = file.metadata() else { continue };
            if meta.is_dir() {
                folders.push(file.path());
            } else if let Some(hour) = file.file_name().to_str().and_then(hour_of) {
                found.entry(hour).or_default().push((file.path(), meta.len()));
            }
        }
    }
    found
}

/// The hour of a folded file by its name, `2026-11-23T08-…`.
fn hour_of(name: &str) -> Option<Hour> {
    let (hour, rest) = name.split_at_checked("2026-11-23T08".len())?;
    let (date, hour) = hour.split_once('T')?;
    rest.starts_with('-').then(|| Hour::parse(&format!("date={date}"), &format!("hour={hour}")))?
}

/// Removes the folders above `path` that are empty now, up to `top`.
fn remove_empty(path: &Path, top: &Path) {
    for folder in path.ancestors().skip(1).take_while(|folder| *folder != top && folder.starts_with(top)) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Whether `journal` was begun in the present hour, by its name.
fn begun_this_hour(journal: &JournalFile) -> bool {
    Hour::of(journal.begun_at()) >= Hour::of(directory::now())
}

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > STALE))
}
