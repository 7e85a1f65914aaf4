//! A writer that is killed at a random moment: what it was told is on disk is on disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::data::{batch, told, truth, writer};
use crate::model::{Batch, Window};
use crate::store::{Store, StoreError};

const NAME: &str = "store::tests::kill::acknowledged_batches_survive_a_kill";
const CHILD: &str = "FNSCOPE_TEST_WRITE_TO";

#[test]
fn acknowledged_batches_survive_a_kill() {
    if let Some(root) = std::env::var_os(CHILD) {
        write_for_ever(Path::new(&root));
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("profiles");
    let store = Store::create(&root).unwrap();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(CHILD, &root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), round);
        let wait_for = random % 300;
        let mut acknowledged = 0;
        for line in lines.by_ref().filter(|line| line.starts_with("ack ")) {
            acknowledged = line[4..].parse::<u32>().unwrap() + 1;
            if u64::from(acknowledged) > wait_for {
                break;
            }
        }
        assert!(u64::from(acknowledged) > wait_for, "the writer ended by itself");
        let error = store.lock().unwrap_err();
        assert!(matches!(&error, StoreError::Locked { pid, .. } if *pid == Some(child.id())), "{error}");
        // Somewhere in the next appends: half a millisecond is about one.
        std::thread::park_timeout(std::time::Duration::from_micros(random >> 32 & 0x7ff));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged += lines.filter(|line| line.starts_with("ack ")).count() as u32;

        store.lock().unwrap();
        let journal = store.journals().unwrap().pop().unwrap();
        assert!(!journal.is_being_written().unwrap());
        let contents = journal.load(Window::ALL).unwrap();
        assert!(contents.damage.iter().all(|damage| damage.torn_end), "{:?}", contents.damage);
        let expected: Vec<Batch> = (0..acknowledged + 2).map(batch).collect();
        let (read, expected) = (told(&contents), truth(&expected));
        let sure = truth(&(0..acknowledged).map(batch).collect::<Vec<_>>()).len();
        assert!(read.len() >= sure, "{} of {sure} acknowledged samples", read.len());
        assert_eq!(read, expected[..read.len()]);
        let folded = store.fold_leftovers(None).unwrap();
        assert_eq!((folded.journals, folded.samples), (1, read.len() as u64));
        // A deleted journal's name, and so its folded files, must not be taken by the next.
        std::fs::remove_file(journal.path()).unwrap();
    }
}

fn write_for_ever(root: &Path) -> ! {
    let store = Store::create(root).unwrap();
    let _lock = store.lock().unwrap();
    let mut journal = store.journal(writer("node-1")).unwrap();
    for n in 0.. {
        journal.append(&batch(n)).unwrap();
        println!("ack {n}");
    }
    unreachable!("killed long before");
}
