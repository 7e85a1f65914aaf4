//! Any names of files in a store's folders: listed or left alone, and nothing outside of it is touched.
#![no_main]

use std::fs;
use std::path::Path;

use fnscope::model::Window;
use fnscope::query::{Scope, functions, open_for};
use fnscope::store::Store;
use fnscope_fuzz::folder::folder;
use libfuzzer_sys::fuzz_target;

thread_local! {
    // The thread's, so that it goes with it.
    static ROOT: tempfile::TempDir = folder();
}

/// Folders that are looked into, with and without the parts of an hour.
const FOLDERS: [&str; 6] =
    ["journal", "samples", "sums", "sums/date=2026-11-23", "sums/date=2026-11-23/hour=08", "hosts"];

fuzz_target!(|input: (&str, Vec<(u8, bool, &str)>)| {
    ROOT.with(|folder| look(folder.path(), input.0, &input.1));
});

/// Looks at a store in `folder` with files and folders of such names, whose format's file says `format`.
fn look(folder: &Path, format: &str, names: &[(u8, bool, &str)]) {
    let root = folder.join("profiles");
    let store = Store::create(&root).expect("a store in a folder of our own");
    for (folder, is_folder, name) in names.iter().take(8) {
        let plain = name.replace(['/', '\0'], "_");
        if plain.is_empty() || plain == "." || plain == ".." || plain.len() > 200 {
            continue;
        }
        let folder = root.join(FOLDERS[usize::from(*folder) % FOLDERS.len()]);
        fs::create_dir_all(&folder).expect("a folder of our own");
        if *is_folder {
            fs::create_dir_all(folder.join(&plain))
                .or_else(|_| fs::write(folder.join(&plain), ""))
                .expect("room");
        } else if !folder.join(&plain).is_dir() {
            fs::write(folder.join(&plain), name).expect("room");
        }
    }
    let _ = store.journals().map(|journals| journals.len());
    let _ = store.sealed(Window::ALL).map(|_| ());
    if let Ok(view) = open_for(&[&root], Window::ALL, Scope::All, |_, _| {}) {
        let all = view.select(None, &[]).expect("everything is there");
        assert!(functions(&view, &all).is_empty(), "names are no samples");
    }
    if let Ok(lock) = store.lock() {
        let _ = store.tidy(&lock, &Default::default(), |_, _| {});
    }
    for begin in ["", "fnscope profiles ", "fnscope profiles 1", "fnscope profiles 2"] {
        check_format(&root, &format!("{begin}{format}"));
    }
    let _ = fs::remove_dir_all(&root);
}

/// A store whose file says `text` of its format is ours to read and to write, or is left as it is.
fn check_format(root: &Path, text: &str) {
    let file = root.join("FORMAT");
    fs::write(&file, text).expect("write to a file of our own");
    let is_read = Store::open(root).is_ok();
    // So much is read of it.
    let version = text.get(..4096).unwrap_or(text).strip_prefix("fnscope profiles ");
    let version = version.and_then(|rest| rest.lines().next()?.trim().parse::<u32>().ok());
    assert!(!is_read || version.is_some_and(|version| version <= 1), "{text:?} is none that we know");
    assert_eq!(Store::create(root).is_ok(), is_read, "{text:?}");
    let now = fs::read(&file).expect("it is there");
    if is_read {
        assert!(
            now == text.as_bytes() || now.starts_with(b"fnscope profiles 1\n"),
            "{text:?} became {now:?}"
        );
        assert!(Store::open(root).is_ok());
    } else {
        assert_eq!(now, text.as_bytes(), "what is not ours is left");
    }
}
