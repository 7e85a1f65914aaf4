//! Symbol tables in memory and on disk, so that a name outlives the container its file came from.
//!
//! Kept under a [`Key`] of the content they were made from, never under a build id alone, which a tenant may copy. A
//! file that is damaged is taken away and made anew; a disk that is full or cannot be written costs a count, nothing
//! else. Several processes may share the directory: files appear whole, by renaming.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::memo::Memo;
use super::source::Key;
use super::table::SymbolTable;

/// What tables in memory may take, in bytes.
pub const MEMORY_BYTES: usize = 16 << 20;
/// What tables on disk may take, in bytes.
pub const DISK_BYTES: u64 = 256 << 20;
const SUFFIX: &str = ".sym";
const UNFINISHED: &str = ".unfinished";

/// What went wrong or right so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Tables read back from disk.
    pub from_disk: u64,
    /// Damaged files of the cache, taken away.
    pub corrupt: u64,
    /// Files of the cache that could not be read or written.
    pub errors: u64,
}

/// Tables by key.
#[derive(Debug)]
pub struct TableCache {
    memory: Memo<Key, Arc<SymbolTable>>,
    directory: Option<PathBuf>,
    disk_limit_bytes: u64,
    /// What the directory holds; counted at the start and when it is cleaned.
    disk_bytes: u64,
    stats: CacheStats,
}

impl TableCache {
    /// A cache in `directory`, made if need be; in memory alone where there is none.
    pub fn new(directory: Option<&Path>) -> TableCache {
        TableCache::with_limits(directory, MEMORY_BYTES, DISK_BYTES)
    }

    /// A cache with its own limits in bytes.
    pub fn with_limits(directory: Option<&Path>, memory_bytes: usize, disk_bytes: u64) -> TableCache {
        let mut cache = TableCache {
            memory: Memo::new(memory_bytes),
            directory: directory.map(Path::to_path_buf),
            disk_limit_bytes: disk_bytes,
            disk_bytes: 0,
            stats: CacheStats::default(),
        };
        if let Some(directory) = directory {
            match fs::create_dir_all(directory) {
                Ok(()) => cache.clean(),
                Err(_) => cache.stats.errors += 1,
            }
        }
        cache
    }

    /// From now on tables in memory take so many bytes.
    pub fn limit_memory(&mut self, memory_bytes: usize) {
        self.memory.limit(memory_bytes);
    }

    /// The table kept under `key`, from memory or else from disk.
    pub fn get(&mut self, key: Key) -> Option<Arc<SymbolTable>> {
        if let Some(table) = self.memory.get(&key) {
            return Some(table);
        }
        let path = self.path(key)?;
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.stats.errors += u64::from(error.kind() != io::ErrorKind::NotFound);
                return None;
            }
        };
        let table = bytes.strip_prefix(&key.0).and_then(|table| SymbolTable::from_bytes(table).ok());
        let Some(table) = table else {
            self.stats.corrupt += 1;
            let _ = fs::remove_file(&path);
            return None;
        };
        self.stats.from_disk += 1;
        // Best effort: a table that was used lately is cleaned away last.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(self.remember(key, table))
    }

    /// Keeps `table` under `key`, in memory and on disk.
    pub fn insert(&mut self, key: Key, table: SymbolTable) -> Arc<SymbolTable> {
        if let Some(path) = self.path(key) {
            match write_whole(&path, &[&key.0, &table.to_bytes()]) {
                Ok(bytes) => self.disk_bytes = self.disk_bytes.saturating_add(bytes),
                Err(_) => self.stats.errors += 1,
            }
            if self.disk_bytes > self.disk_limit_bytes {
                self.clean();
            }
        }
        self.remember(key, table)
    }

    /// Counts so far.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// Size in memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory.memory_bytes()
    }

    fn remember(&mut self, key: Key, table: SymbolTable) -> Arc<SymbolTable> {
        let table = Arc::new(table);
        self.memory.insert(key, Arc::clone(&table), table.memory_bytes());
        table
    }

    fn path(&self, key: Key) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(key.to_hex() + SUFFIX))
    }

    /// Counts what the directory holds and, above the limit, removes the oldest files down to nine tenths of it. What
    /// this cache did not name is left alone.
    fn clean(&mut self) {
        let Some(directory) = &self.directory else { return };
        let Ok(entries) = fs::read_dir(directory) else {
            self.stats.errors += 1;
            return;
        };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.ends_with(SUFFIX) || name.ends_with(UNFINISHED)
            })
            .filter_map(|entry| {
                let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((about.modified().ok()?, about.len(), entry.path()))
            })
            .collect();
        files.sort();
        self.disk_bytes = files.iter().map(|(_, bytes, _)| bytes).sum();
        if self.disk_bytes <= self.disk_limit_bytes {
            return;
        }
        for (_, bytes, path) in files {
            if self.disk_bytes <= self.disk_limit_bytes / 10 * 9 {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => self.disk_bytes = self.disk_bytes.saturating_sub(bytes),
                Err(_) => self.stats.errors += 1,
            }
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > (SymbolTable::MAX_BYTES + 32) as u64 {
        return Ok(Vec::new()); // none of ours: as good as damaged
    }
    fs::read(path)
}

/// Writes `parts` beside `path`, then renames; returns the bytes written. Nobody ever sees half a file.
fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<u64> {
    let unfinished = path.with_extension(format!("{}{UNFINISHED}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        fs::rename(&unfinished, path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    Ok(parts.iter().map(|part| part.len() as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::builder::{Candidate, Rank, TableBuilder};

    fn table(name: &str) -> SymbolTable {
        let mut builder = TableBuilder::new(vec![]);
        builder.add_named(Candidate::new(0x1000, 16, true, Rank::Global, 0), name.as_bytes()).unwrap();
        builder.finish().unwrap()
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn a_table_is_found_again_by_its_key_after_a_restart_and_by_no_other() {
        let directory = tempfile::tempdir().unwrap();
        TableCache::new(Some(directory.path())).insert(Key([1; 32]), table("main"));
        let mut cache = TableCache::new(Some(directory.path()));
        assert_eq!(*cache.get(Key([1; 32])).unwrap(), table("main"));
        assert!(cache.get(Key([2; 32])).is_none());
        let renamed = cache.path(Key([2; 32])).unwrap();
        fs::rename(cache.path(Key([1; 32])).unwrap(), renamed).unwrap();
        assert!(cache.get(Key([2; 32])).is_none(), "a renamed file names another's frames");
        assert_eq!(cache.stats(), CacheStats { from_disk: 1, corrupt: 1, errors: 0 });
    }

    #[test]
    fn a_damaged_file_is_counted_taken_away_and_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        for cut in [0, 1, 31, 33, 60] {
            TableCache::new(Some(directory.path())).insert(Key([1; 32]), table("main"));
            let path = files(directory.path()).remove(0);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..cut]).unwrap();
            let mut cache = TableCache::new(Some(directory.path()));
            assert!(cache.get(Key([1; 32])).is_none(), "cut at {cut}");
            assert_eq!((cache.stats().corrupt, files(directory.path()).len()), (1, 0));
        }
    }

    #[test]
    fn the_oldest_files_go_when_the_disk_limit_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let one = 32 + table("main").to_bytes().len() as u64;
        let mut cache = TableCache::with_limits(Some(directory.path()), 0, one * 10);
        fs::write(directory.path().join("not-ours"), [0; 4096]).unwrap();
        for number in 0..30u8 {
            let key = Key([number; 32]);
            cache.insert(key, table("main"));
            let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            File::open(cache.path(key).unwrap()).unwrap().set_modified(old).unwrap();
        }
        let left = files(directory.path());
        assert!(left.len() <= 11 && left.iter().any(|path| path.ends_with("not-ours")), "{left:?}");
        assert!(cache.path(Key([29; 32])).unwrap().exists());
        assert!(!cache.path(Key([0; 32])).unwrap().exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_counted_and_tables_stay_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut cache = TableCache::new(Some(&file.path().join("symbols")));
        cache.insert(Key([1; 32]), table("main"));
        assert!(cache.get(Key([1; 32])).is_some());
        assert_eq!(cache.stats().errors, 2);
    }
}
