//! A disk that is full or read-only. Needs root, for a small file system of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::data::{batch, only_journal, told, truth, writer};
use crate::model::{Batch, Window};
use crate::store::{JournalWriter, Store, StoreError};

/// A file system that is gone when this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn tmpfs(options: &str) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "fnscope-test"]).arg(folder.path()));
        Mounted(folder)
    }

    pub fn make_read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()));
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.0.path()));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}; these tests need root");
}

#[test]
fn a_full_disk_costs_the_batches_that_do_not_fit_and_nothing_else() {
    let mounted = Mounted::tmpfs("size=256k");
    let store = Store::create(&mounted.path().join("profiles")).unwrap();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let batches: Vec<Batch> = (0..2_000).map(batch).collect();
    let mut stored = Vec::new();
    let mut refused = 0;
    let mut length = 0;
    let file_bytes = |journal: &JournalWriter| fs::metadata(journal.path()).unwrap().len();
    let ballast = mounted.path().join("ballast");
    for (n, batch) in batches.iter().enumerate() {
        if n == 100 {
            // Fills what is left: fewer bytes are written than asked for.
            let _ = fs::write(&ballast, vec![0; 1 << 20]);
        }
        if refused == 20 && ballast.exists() {
            fs::remove_file(&ballast).unwrap();
        }
        match journal.append(batch) {
            Ok(_) => {
                stored.push(batch);
                length = file_bytes(&journal);
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                assert_eq!(file_bytes(&journal), length, "nothing of it is left");
                refused += 1;
            }
        }
        if refused > 0 && stored.len() > 300 {
            break;
        }
    }
    assert!(refused >= 20 && stored.len() > 300, "{refused} refused, {} stored", stored.len());
    let contents = only_journal(&store).load(Window::ALL).unwrap();
    assert_eq!(contents.damage, []);
    let (read, mut expected) = (told(&contents), truth(stored));
    // An instance whose introduction was refused is not known; its samples are there.
    for (read, expected) in
        read.iter().zip(&mut expected).filter(|(read, _)| read.instance.starts_with("lost."))
    {
        expected.instance.clone_from(&read.instance);
    }
    assert_eq!(read, expected);
}

#[test]
fn a_new_journal_that_does_not_fit_leaves_the_old_one_in_use() {
    let mounted = Mounted::tmpfs("size=256k,nr_inodes=16");
    let store = Store::create(&mounted.path().join("profiles")).unwrap();
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&batch(0)).unwrap();
    let ballast = |number: u32| mounted.path().join(format!("ballast-{number}"));
    let count = (0..).find(|number| fs::File::create_new(ballast(*number)).is_err()).unwrap();
    assert!(count > 0);
    assert!(journal.rotate().unwrap_err().is_full());
    journal.append(&batch(1)).unwrap();
    let contents = only_journal(&store).load(Window::ALL).unwrap();
    assert_eq!(told(&contents), truth(&[batch(0), batch(1)]));
    (0..count).for_each(|number| fs::remove_file(ballast(number)).unwrap());
    journal.rotate().unwrap();
    assert_eq!(store.journals().unwrap().len(), 2);
}

#[test]
fn a_read_only_disk_can_be_read_and_is_told() {
    let mounted = Mounted::tmpfs("size=256k");
    let root = mounted.path().join("profiles");
    let store = Store::create(&root).unwrap();
    store.journal(writer("node-1")).unwrap().append(&batch(0)).unwrap();
    mounted.make_read_only();
    for error in [
        Store::create(&root).unwrap_err(),
        store.lock().unwrap_err(),
        store.journal(writer("b")).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    let reader = Store::open(&root).unwrap();
    assert_eq!(told(&only_journal(&reader).load(Window::ALL).unwrap()), truth(&[batch(0)]));
}
