//! One journal's file, rewritten for every input, and the checks that hold for whatever it holds.

use std::fs;
use std::path::PathBuf;

use fnscope::model::{Timestamp, Window};
use fnscope::store::{JournalContents, JournalFile, Store};

/// A journal's file in a store of its own.
pub struct Slot {
    /// The store.
    pub store: Store,
    /// The journal.
    pub journal: JournalFile,
    _folder: tempfile::TempDir,
}

impl Slot {
    /// A new one, below `TMPDIR`: `tests/fuzz/run` puts that into memory.
    pub fn new() -> Slot {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let store = Store::create(&folder.path().join("profiles")).expect("a store in a new folder");
        fs::write(Slot::file(&store), b"").expect("a file in a new store");
        let journal = store.journals().expect("a list of one").remove(0);
        Slot { store, journal, _folder: folder }
    }

    fn file(store: &Store) -> PathBuf {
        store.root().join("journal/node-1-6e9d3f62-00000001.jnl")
    }

    /// Makes `bytes` the journal's.
    pub fn write(&self, bytes: &[u8]) {
        fs::write(self.journal.path(), bytes).expect("write to a file of our own");
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot::new()
    }
}

/// Every position lies in its list, and what is promised to be in order is.
pub fn check(contents: &JournalContents, window: Window) {
    for sample in &contents.samples {
        assert!(window.contains(sample.time));
        assert!((sample.thread as usize) < contents.threads.len());
        assert!((sample.stack as usize) < contents.stacks.len());
        assert!(sample.batch == u32::MAX || (sample.batch as usize) < contents.batches.len());
    }
    for wait in &contents.waits {
        assert!(window.contains(wait.back.time));
        assert!((wait.back.thread as usize) < contents.threads.len());
        assert!((wait.back.stack as usize) < contents.stacks.len());
    }
    for thread in &contents.threads {
        assert!((thread.instance as usize) < contents.instances.len());
        assert!((thread.comm as usize) < contents.comms.len());
    }
    assert!(contents.waits.is_sorted_by_key(|wait| wait.back.time));
    assert!(contents.samples.is_sorted_by_key(|sample| sample.time));
    for record in &contents.instances {
        assert!(record.identities.is_sorted_by_key(|(from, _)| *from));
        assert!(record.usage.is_sorted_by_key(|usage| usage.at));
        assert_eq!(record.identity_at(Timestamp(0)).is_none(), record.identities.is_empty());
    }
}

/// The lower half of time.
pub const PAST: Window = Window { from: Timestamp::MIN, to: Timestamp(1_795_420_800_000_000) };
