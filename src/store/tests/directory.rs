//! The directory: made, recognized, locked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::data::{batch, only_journal, store, told, truth, writer};
use crate::model::Window;
use crate::store::{Store, StoreError};

#[test]
fn a_missing_or_empty_directory_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (folder.path().join("a/b"), folder.path().join("empty"));
    fs::create_dir_all(empty.join("lost+found")).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).unwrap();
    for root in [&missing, &empty] {
        let error = Store::open(root).unwrap_err();
        assert!(
            matches!(error, StoreError::Missing { .. }) && error.to_string().contains("fnscope exec"),
            "{error}"
        );
        let store = Store::create(root).unwrap();
        assert!(fs::read_to_string(root.join("FORMAT")).unwrap().starts_with("fnscope profiles 1\n"));
        assert!(store.cache_dir().is_dir());
        assert_eq!(store.root(), root);
        Store::create(root).unwrap();
        assert_eq!(Store::open(root).unwrap().journals().unwrap(), []);
    }
    let mode = |root: &Path| fs::metadata(root).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&missing), mode(&empty)), (0o700, 0o750));
    // Whoever opens a store to others has his way, and what everybody may write to is left as it is.
    fs::set_permissions(&missing, fs::Permissions::from_mode(0o755)).unwrap();
    Store::create(&missing).unwrap();
    let everybodys = folder.path().join("everybodys");
    fs::create_dir(&everybodys).unwrap();
    fs::set_permissions(&everybodys, fs::Permissions::from_mode(0o1777)).unwrap();
    Store::create(&everybodys).unwrap();
    assert_eq!((mode(&missing), mode(&everybodys)), (0o755, 0o1777));
}

#[test]
fn what_is_no_store_or_a_newer_one_is_left_alone() {
    for (file, content, expected) in [
        ("notes.txt", "", "no FORMAT of fnscope"),
        ("FORMAT", "something else", "no FORMAT of fnscope"),
        ("FORMAT", "\u{0}\u{1}", "no FORMAT of fnscope"),
        ("FORMAT", "", "no FORMAT of fnscope"),
        (
            "FORMAT",
            "fnscope profiles 7\nmore",
            "made by a newer fnscope (format 7; this one reads 1): upgrade fnscope",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), content).unwrap();
        for opened in [Store::create(folder.path()), Store::open(folder.path())] {
            let error = opened.unwrap_err().to_string();
            assert!(error.contains(expected), "{content:?}: {error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_store_of_the_version_before_goes_on_as_this_one() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&batch(0)).unwrap();
    journal.finish().unwrap();
    fs::write(store.root().join("FORMAT"), "fnscope profiles 0\nold\n").unwrap();
    let old = Store::open(store.root()).unwrap();
    assert_eq!(told(&only_journal(&old).load(Window::ALL).unwrap()), truth([&batch(0)]));
    assert!(
        fs::read_to_string(store.root().join("FORMAT")).unwrap().contains("old"),
        "reading changes nothing"
    );
    Store::create(store.root()).unwrap();
    assert!(fs::read_to_string(store.root().join("FORMAT")).unwrap().starts_with("fnscope profiles 1\n"));
    let lock = old.lock().unwrap();
    assert_eq!(old.tidy(&lock, &Default::default(), |_, _| {}).unwrap().sealed.journals, 1);
    assert_eq!(old.sealed(Window::ALL).unwrap().sets.len(), 1);
}

proptest::proptest! {
    #[test]
    fn any_bytes_for_a_format_are_a_store_or_an_error(bytes: Vec<u8>, text in "(fnscope profiles )?[0-9+ ]{0,12}\n?") {
        let folder = tempfile::tempdir().unwrap();
        for content in [&bytes[..], text.as_bytes()] {
            fs::write(folder.path().join("FORMAT"), content).unwrap();
            if let Ok(store) = Store::open(folder.path()) {
                assert!(content.starts_with(b"fnscope profiles "));
                assert_eq!(store.journals().unwrap(), []);
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for root in [file.path().to_path_buf(), file.path().join("profiles"), "/proc/profiles".into()] {
        let error = Store::create(&root).unwrap_err().to_string();
        assert!(error.contains(&root.display().to_string()), "{error}");
    }
}

#[test]
fn one_holds_the_lock() {
    let (_folder, store) = store();
    let lock = store.lock().unwrap();
    let again = Store::open(store.root()).unwrap();
    let error = again.lock().unwrap_err();
    let StoreError::Locked { pid, since, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    assert!(error.to_string().contains("locked by another agent (pid "), "{error}");
    drop(lock);
    again.lock().unwrap();
}

#[test]
fn strangers_among_the_journals_are_no_journals() {
    let (_folder, store) = store();
    for name in
        ["README", "x.jnl", "-.jnl", ".new-1-2-3", "a-6e9d3f62-0000000g.jnl", "a-6e9d3f62-00000000.jnl.bak"]
    {
        fs::write(store.root().join("journal").join(name), "").unwrap();
    }
    assert_eq!(store.journals().unwrap(), []);
}

#[test]
fn a_deleted_directory_is_made_again_by_its_writer() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&batch(0)).unwrap();
    fs::remove_dir_all(store.root()).unwrap();
    assert!(journal.append(&batch(2)).unwrap().rotated);
    let contents = only_journal(&store).load(Window::ALL).unwrap();
    assert_eq!(told(&contents), truth(&[batch(2)]), "with the instance that the deleted journal introduced");
    assert!(Path::new(&store.root().join("FORMAT")).exists());
}
