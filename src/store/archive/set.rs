//! A sealed set: one journal's part of one hour, in four Parquet files, five where somebody waited, and a checksum file. Where they lie, which
//! there are, and how they come and go.
//!
//! The checksum file is written last and is renamed first when a set is dropped, so a set is there or it is not. A
//! journal that was sealed to several hours is sealed when all of them are there; until then the journal counts.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::partition::Hour;
use super::schema::Table;
use super::sums::Sums;
use crate::model::Window;
use crate::store::contents::Damage;
use crate::store::directory::{self, Store};
use crate::store::error::StoreError;
use crate::store::reader::JournalFile;

/// The folder of the checksum files.
pub(super) const SUMS: &str = "sums";
/// How the name of a checksum file ends.
const SUMS_SUFFIX: &str = "sums";
/// How that of a set ends which is being dropped.
const DROPPED_SUFFIX: &str = "dropped";

/// A sealed set. Sorts by hour, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedSet {
    pub(super) hour: Hour,
    pub(super) name: String,
    pub(super) root: PathBuf,
}

impl SealedSet {
    pub(super) fn new(store: &Store, hour: Hour, name: &str) -> SealedSet {
        SealedSet { hour, name: name.into(), root: store.root().into() }
    }

    /// Its hour.
    pub fn hour(&self) -> Hour {
        self.hour
    }

    /// The journal it was made from, by name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its checksum file.
    pub(super) fn sums_path(&self) -> PathBuf {
        self.file(SUMS, SUMS_SUFFIX)
    }

    /// Its checksum file while it is being dropped.
    pub(super) fn dropped_path(&self) -> PathBuf {
        self.file(SUMS, DROPPED_SUFFIX)
    }

    /// The file of `table`.
    pub(super) fn path(&self, table: Table) -> PathBuf {
        self.file(table.name(), "parquet")
    }

    fn file(&self, table: &str, suffix: &str) -> PathBuf {
        self.root.join(table).join(self.hour.folder()).join(format!("{}.{suffix}", self.name))
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.sums_path().exists()
    }

    /// What its checksum file says; none if the set is gone.
    pub(super) fn sums(&self) -> Result<Option<Result<Sums, Damage>>, StoreError> {
        let path = self.sums_path();
        match Sums::read(&path) {
            Ok(sums) => Ok(Some(sums.map_err(|what| {
                let what = format!("{what}: nothing of {} is read", self.hour.name());
                Damage { file: path, offset: 0, what, torn_end: false }
            }))),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    /// Bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        let paths =
            Table::ALL.iter().map(|table| self.path(*table)).chain([self.sums_path(), self.dropped_path()]);
        paths.filter_map(|path| fs::metadata(path).ok()).fold(0, |sum, meta| sum.saturating_add(meta.len()))
    }

    /// Deletes it, and what is left of it if that was begun before; returns the bytes freed.
    pub(super) fn remove(&self) -> Result<u64, StoreError> {
        let bytes = self.bytes();
        let error = |path: &Path, source| StoreError::io("write (delete)", path, source);
        match fs::rename(self.sums_path(), self.dropped_path()) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|source| error(&self.sums_path(), source))?,
        }
        for path in Table::ALL.iter().map(|table| self.path(*table)).chain([self.dropped_path()]) {
            match fs::remove_file(&path) {
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| error(&path, source))?,
            }
        }
        for folder in Table::ALL.iter().map(|table| table.name()).chain([SUMS]) {
            let hour = self.root.join(folder).join(self.hour.folder());
            // Where others still have files in it, it stays.
            if fs::remove_dir(&hour).is_ok()
                && let Some(day) = hour.parent()
            {
                let _ = fs::remove_dir(day);
            }
        }
        Ok(bytes)
    }
}

/// What a reader reads: each sample is in one of them.
#[derive(Debug, Default)]
pub struct Readable {
    /// Journals that are not sealed.
    pub journals: Vec<JournalFile>,
    /// Sealed sets of the window.
    pub sets: Vec<SealedSet>,
    /// Files that are left of a set without its checksum file.
    pub damage: Vec<Damage>,
}

/// What stands in the folders of the archive.
#[derive(Debug, Default)]
pub struct SealedSets {
    /// Whole sets, in order.
    pub sets: Vec<SealedSet>,
    /// Sets whose removal was begun.
    pub(super) dropped: Vec<SealedSet>,
}

impl Store {
    /// The sealed sets of hours that overlap `window`, in order. Folders of other hours are not looked into.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn sealed(&self, window: Window) -> Result<SealedSets, StoreError> {
        let mut found = SealedSets::default();
        walk(self, SUMS, window, |hour, path| {
            let Some(name) = journal_name(path) else { return };
            let set = SealedSet::new(self, hour, name);
            match path.extension().and_then(|suffix| suffix.to_str()) {
                Some(SUMS_SUFFIX) => found.sets.push(set),
                Some(DROPPED_SUFFIX) => found.dropped.push(set),
                _ => {}
            }
        })?;
        found.sets.sort();
        found.dropped.sort();
        Ok(found)
    }

    /// Whether a journal called `name` was sealed and is kept, whatever hours it held.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub(in crate::store) fn has_sealed(&self, name: &str) -> Result<bool, StoreError> {
        let mut found = false;
        walk(self, SUMS, Window::ALL, |_, path| found |= journal_name(path) == Some(name))?;
        Ok(found)
    }

    /// What of `journals`, which were listed before, and of the sealed sets that overlap `window` is to be read.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn readable(&self, window: Window, journals: &[JournalFile]) -> Result<Readable, StoreError> {
        let found = self.sealed(window)?;
        let mut readable = Readable { journals: journals.to_vec(), ..Readable::default() };
        let mut unsealed: HashSet<&str> = journals.iter().map(JournalFile::name).collect();
        let mut sets: BTreeSet<SealedSet> = BTreeSet::new();
        for set in &found.sets {
            if !unsealed.contains(set.name()) {
                sets.insert(set.clone());
            } else if let Some(all) = self.is_sealed(set)? {
                // Only the deletion is missing. Those of its hours that came since the list was made count too.
                unsealed.remove(set.name());
                sets.extend(all.into_iter().filter(|set| set.hour.overlaps(window)));
            }
        }
        readable.journals.retain(|journal| unsealed.contains(journal.name()));
        readable.sets = sets.into_iter().collect();
        for (set, path) in self.orphans(window, &found)? {
            let what = format!("has no checksum file: nothing of {} in it is read", set.hour.name());
            readable.damage.push(Damage { file: path, offset: 0, what, torn_end: false });
        }
        Ok(readable)
    }

    /// Files that look like a set's but belong to none, in hours that overlap `window`: without their checksum file
    /// nothing of them is believed. Those of a journal that is still there are of a seal under way.
    pub(super) fn orphans(
        &self,
        window: Window,
        sets: &SealedSets,
    ) -> Result<Vec<(SealedSet, PathBuf)>, StoreError> {
        let mut orphans = Vec::new();
        for table in Table::ALL {
            walk(self, table.name(), window, |hour, path| {
                let Some(name) = journal_name(path) else { return };
                let set = SealedSet::new(self, hour, name);
                let known = sets.sets.binary_search(&set).is_ok() || sets.dropped.binary_search(&set).is_ok();
                // In this order: a journal is deleted when the checksum file is there.
                let sealing = || self.journal_path(name).exists();
                let come_or_gone = || set.exists() || set.dropped_path().exists() || !path.exists();
                if !known
                    && !sealing()
                    && !come_or_gone()
                    && path.extension().is_some_and(|suffix| suffix == "parquet")
                {
                    orphans.push((set, path.to_path_buf()));
                }
            })?;
        }
        Ok(orphans)
    }

    /// All sets that the journal of `set` was sealed to, by the word of `set`; none if one of them is not there.
    pub(super) fn is_sealed(&self, set: &SealedSet) -> Result<Option<Vec<SealedSet>>, StoreError> {
        let Some(Ok(sums)) = set.sums()? else { return Ok(None) };
        let sets = sums.hours.iter().map(|hour| {
            let (day, hour) = hour.split_once('T')?;
            let hour = Hour::parse(&format!("date={day}"), &format!("hour={hour}"))?;
            Some(SealedSet::new(self, hour, &set.name)).filter(SealedSet::exists)
        });
        Ok(sets.collect())
    }

    /// Makes the folder of `hour` in the table `table` so that it survives a power failure.
    pub(super) fn make_partition(&self, table: &str, hour: Hour) -> Result<PathBuf, StoreError> {
        let top = self.root().join(table);
        let folder = top.join(hour.folder());
        if folder.is_dir() {
            return Ok(folder);
        }
        directory::make_folder(&folder)?;
        for above in [folder.parent(), Some(top.as_path()), Some(self.root())].into_iter().flatten() {
            directory::sync_folder(above)?;
        }
        Ok(folder)
    }
}

/// The name of the journal that a file called like `path` was made from.
fn journal_name(path: &Path) -> Option<&str> {
    let as_journal = path.with_extension(crate::store::reader::SUFFIX.trim_start_matches('.'));
    JournalFile::at(&as_journal)?;
    path.file_stem()?.to_str()
}

/// Every file below `table` in the folders of hours that overlap `window`. What vanishes meanwhile is left out.
fn walk(
    store: &Store,
    table: &str,
    window: Window,
    mut each: impl FnMut(Hour, &Path),
) -> Result<(), StoreError> {
    let top = store.root().join(table);
    for (date, day) in list(&top)? {
        if !Hour::day_may_overlap(&date, window) {
            continue;
        }
        for (name, folder) in list(&day)? {
            let Some(hour) = Hour::parse(&date, &name).filter(|hour| hour.overlaps(window)) else { continue };
            list(&folder)?.iter().for_each(|(_, path)| each(hour, path));
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let error = |source| StoreError::io("list", folder, source);
    let listing = match fs::read_dir(folder) {
        Err(gone) if matches!(gone.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listing => listing.map_err(error)?,
    };
    let mut files = Vec::new();
    for file in listing {
        let file = file.map_err(error)?;
        files.extend(file.file_name().to_str().map(|name| (name.to_owned(), file.path())));
    }
    Ok(files)
}
