//! A folder for what a target writes anew in every run: in memory, or a run is waiting for a disk.

use std::path::Path;

use tempfile::TempDir;

/// A new one: below `TMPDIR` where that is given, as `tests/fuzz/run` does.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let there = std::env::var_os("TMPDIR").is_none().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    there.unwrap_or_else(|| tempfile::tempdir().expect("a folder for temporary files"))
}
