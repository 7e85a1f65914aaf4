//! Sealing: a closed journal to its hours' sets, and then the journal goes.
//!
//! Promises: a journal is deleted when all that was made of it is on disk under its name, not before. What fails leaves
//! the journal and no unfinished set; trying again is always right.
//!
//! Memory: one journal at a time, all of it. A journal holds a million samples at most, so that is the bound whatever
//! an hour holds: 59 MiB at the peak, the program's own included, for an hour of five million samples
//! (`accept-damage-sealing`).

use std::fs;
use std::path::Path;

use parquet::errors::ParquetError;

use super::columns::Written;
use super::order::RowGroup;
use super::rows::{HourRows, Rows};
use super::schema::Table;
use super::set::{SUMS, SealedSet};
use super::sums::{FileSums, Sums};
use super::write::{self, Texts};
use crate::model::Window;
use crate::store::contents::JournalContents;
use crate::store::directory::{self, Store};
use crate::store::error::StoreError;
use crate::store::reader::JournalFile;
use crate::store::{folded, loss};

/// A row group ends with the first function from so many rows on.
const GROUP_ROWS: usize = 8_192;
/// More hours than this a sound clock does not give one journal.
const MAX_HOURS: usize = 256;

/// What was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Journals that are sealed now and were not before.
    pub journals: u64,
    /// Sets made of them.
    pub sets: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of the sets.
    pub bytes: u64,
    /// Bytes of the journals, which are gone.
    pub journal_bytes: u64,
    /// Files of the folded tree.
    pub folded_files: u64,
    /// Journals that could not be sealed; they stay and are read as they are.
    pub failed: u64,
}

impl Sealed {
    /// Adds `other`.
    pub(super) fn add(&mut self, other: Sealed) {
        self.journals += other.journals;
        self.sets += other.sets;
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.journal_bytes += other.journal_bytes;
        self.folded_files += other.folded_files;
        self.failed += other.failed;
    }
}

impl Store {
    /// Seals `journal`, which must be closed, and deletes it. Its folded tree is written first, unless `folded` says
    /// no. The caller holds the store's lock.
    ///
    /// # Errors
    /// If it cannot be read or a file cannot be written: then the journal stays and nothing else does.
    pub fn seal(&self, journal: &JournalFile, folded: bool) -> Result<Sealed, StoreError> {
        let mut sealed = Sealed { journals: 1, ..Sealed::default() };
        sealed.journal_bytes = fs::metadata(journal.path()).map_or(0, |meta| meta.len());
        let contents = journal.load(Window::ALL)?;
        if folded && !folded::marker(journal.path()).exists() {
            sealed.folded_files = self.write_folded_of(journal, &contents)?.files;
        }
        let mut made = Vec::new();
        let published = self.publish(journal, &contents, &mut made, &mut sealed);
        if published.is_err() {
            // Without the other hours these count for nothing; they would only take space.
            for set in &made {
                if let Err(error) = set.remove() {
                    tracing::debug!(%error, "an unfinished set stays until the next seal");
                }
            }
        }
        published?;
        self.delete_journal(journal)?;
        Ok(sealed)
    }

    /// Deletes a journal that is sealed. A marker stays for a while, so that its name does not come again.
    pub(super) fn delete_journal(&self, journal: &JournalFile) -> Result<(), StoreError> {
        let marker = folded::marker(journal.path());
        if !marker.exists()
            && let Err(error) = directory::replace(&self.journal_folder(), &marker, b"")
        {
            if !error.is_full() {
                return Err(error);
            }
            // Where not even an empty file has room, the journal is its own marker: what is sealed must not count as
            // unsealed once one of its hours is dropped.
            fs::rename(journal.path(), &marker)
                .map_err(|source| StoreError::io("write (rename)", journal.path(), source))?;
            return directory::sync_folder(&self.journal_folder());
        }
        match fs::remove_file(journal.path()) {
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|source| StoreError::io("write (delete)", journal.path(), source))?,
        }
        directory::sync_folder(&self.journal_folder())
    }

    fn publish(
        &self,
        journal: &JournalFile,
        contents: &JournalContents,
        made: &mut Vec<SealedSet>,
        sealed: &mut Sealed,
    ) -> Result<(), StoreError> {
        let failed =
            |error: ParquetError| StoreError::Seal { path: journal.path().into(), what: error.to_string() };
        let rates = loss::rates(&contents.batches);
        let rows = Rows::of(contents, &rates, GROUP_ROWS);
        if rows.hours.len() > MAX_HOURS {
            let what = format!("its samples lie in {} different hours", rows.hours.len());
            return Err(StoreError::Seal { path: journal.path().into(), what });
        }
        let texts = Texts::of(contents, &rows);
        let hours: Vec<String> = rows.hours.iter().map(|hour| hour.hour.name()).collect();
        let mut sums: Vec<(SealedSet, Vec<u8>)> = Vec::new();
        for hour in &rows.hours {
            let set = SealedSet::new(self, hour.hour, journal.name());
            made.push(set.clone());
            let mut files = Vec::new();
            for table in Table::ALL {
                let written = match table {
                    Table::Samples => write::samples(contents, &rows, hour, &texts, &rates).map(Some),
                    Table::Instances => write::instances(contents, hour, &texts).map(Some),
                    Table::Usage => write::usage(contents, hour, &texts).map(Some),
                    Table::Hosts => write::hosts(contents, hour).map(Some),
                    Table::OffCpu => write::off_cpu(contents, &rows, hour, &texts),
                };
                if let Some(written) = written.map_err(failed)? {
                    files.push(self.write_table(&set, table, &written, sealed)?);
                }
            }
            let of_hour = sums_of(contents, hour, &hours, files);
            sealed.samples += of_hour.samples;
            sums.push((set, of_hour.to_bytes()));
        }
        // The last hour's last of all: whoever finds it finds the others.
        for (set, bytes) in sums {
            let folder = self.make_partition(SUMS, set.hour)?;
            sealed.bytes += bytes.len() as u64;
            sealed.sets += 1;
            directory::replace(&self.root().join(SUMS), &set.sums_path(), &bytes)?;
            directory::sync_folder(&folder)?;
        }
        Ok(())
    }

    fn write_table(
        &self,
        set: &SealedSet,
        table: Table,
        written: &Written,
        sealed: &mut Sealed,
    ) -> Result<FileSums, StoreError> {
        let path = set.path(table);
        let sums = FileSums::of(written).ok_or_else(|| StoreError::Seal {
            path: path.clone(),
            what: "its footer does not describe it".into(),
        })?;
        let folder = self.make_partition(table.name(), set.hour)?;
        directory::replace(&self.root().join(table.name()), &path, &written.bytes)?;
        directory::sync_folder(&folder)?;
        sealed.bytes += written.bytes.len() as u64;
        Ok(sums)
    }
}

fn sums_of(contents: &JournalContents, hour: &HourRows, hours: &[String], tables: Vec<FileSums>) -> Sums {
    let samples: usize = hour.groups.iter().map(RowGroup::rows).sum();
    Sums {
        hours: hours.to_vec(),
        samples: samples as u64,
        node: contents.writer.node.clone(),
        period_ns: contents.writer.sampled_ns(),
        damage: damage_texts(contents),
        tables,
    }
}

/// What of a journal could not be read when it was sealed, in words.
pub(super) fn damage_texts(contents: &JournalContents) -> Vec<String> {
    const MOST: usize = 20;
    let told = |damage: &crate::store::Damage| {
        let name = damage.file.file_name().map(Path::new).unwrap_or(&damage.file);
        let end = if damage.torn_end { " (unfinished end, its writer was killed)" } else { "" };
        format!("{}: at byte {}: {}{end}", name.display(), damage.offset, damage.what)
    };
    let mut texts: Vec<String> = contents.damage.iter().take(MOST).map(told).collect();
    let more = contents.damage.len().saturating_sub(MOST);
    texts.extend((more > 0).then(|| format!("{more} more such places")));
    texts
}
