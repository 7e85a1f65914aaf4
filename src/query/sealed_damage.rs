//! Sealed files that are cut, flipped, missing or not ours: each answer is whole, or names the file and what of it is
//! missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::sealed_tests::{long_life, sealed_store};
use super::*;
use crate::model::Window;
use crate::store::Store;
use crate::store::archive::TidyOptions;
use crate::store::tests::data::{files, tidy};

type Counts = BTreeMap<String, u64>;

/// Samples by folded stack, over everything; and the files that were named.
fn told(root: &Path, scope: Scope<'_>) -> (Counts, u64, Vec<PathBuf>) {
    let view = open_for(&[root], Window::ALL, scope, |_, _| {}).unwrap();
    let all = view.select(None, &[]).unwrap();
    let folded = stacks(&view, &all, PhaseFilter::All).profile.folded();
    let counts = folded.into_iter().map(|(stack, weight)| (stack, weight.samples)).collect();
    let samples = functions(&view, &all).iter().map(|row| row.samples).sum();
    (counts, samples, view.damage().iter().map(|damage| damage.file.clone()).collect())
}

fn sealed_files(root: &Path) -> Vec<PathBuf> {
    ["samples", "instances", "usage", "hosts", "sums"]
        .iter()
        .flat_map(|table| files(&root.join(table)))
        .collect()
}

/// Checks what is told of the store at `root` in which only `changed` is not as it was.
fn check(root: &Path, whole: &(Counts, u64, Vec<PathBuf>), changed: &Path, what: &str) -> bool {
    let mut named = false;
    for scope in [Scope::All, Scope::Counts] {
        let (counts, samples, files) = told(root, scope);
        for (stack, count) in &counts {
            let before = whole.0.get(stack).copied().unwrap_or(0);
            assert!(*count <= before, "{what}: {stack} {count} times, {before} before");
        }
        assert!(samples <= whole.1, "{what}");
        if samples < whole.1 || matches!(scope, Scope::All) && counts != whole.0 {
            assert!(files.iter().any(|file| file.file_stem() == changed.file_stem()), "{what}: {files:?}");
        }
        named |= !files.is_empty();
    }
    named
}

#[test]
fn a_flipped_bit_is_never_read_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = sealed_store(folder.path(), &long_life());
    let whole = told(&root, Scope::All);
    assert!(whole.1 > 400 && whole.2.is_empty());
    let (mut state, mut named, mut tried) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    for file in sealed_files(&root) {
        let bytes = fs::read(&file).unwrap();
        for _ in 0..12 {
            let (at, bit) = (random(bytes.len()), random(8));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&file, &flipped).unwrap();
            tried += 1;
            named +=
                usize::from(check(&root, &whole, &file, &format!("{} bit {bit} of {at}", file.display())));
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(named * 3 > tried, "{named} of {tried} were noticed; the others lie where nothing was read");
    assert_eq!(told(&root, Scope::All), whole);
}

#[test]
fn a_file_that_is_cut_or_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = sealed_store(folder.path(), &long_life());
    let whole = told(&root, Scope::All);
    for file in sealed_files(&root) {
        let bytes = fs::read(&file).unwrap();
        for cut in (0..9).map(|part| bytes.len() * part / 9).chain([bytes.len() - 1]) {
            fs::write(&file, &bytes[..cut]).unwrap();
            check(&root, &whole, &file, &format!("{} cut at {cut}", file.display()));
        }
        fs::remove_file(&file).unwrap();
        let table = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let named = check(&root, &whole, &file, &format!("{} missing", file.display()));
        let matters = ["samples", "instances", "hosts", "sums"].iter().any(|name| table.as_os_str() == *name);
        assert_eq!(named, matters, "{}", file.display());
        fs::write(&file, &bytes).unwrap();
    }
    assert_eq!(told(&root, Scope::All), whole);
}

#[test]
fn files_that_are_not_ours_and_a_store_without_rights_to_write_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = sealed_store(folder.path(), &long_life());
    let whole = told(&root, Scope::All);
    let sample = files(&root.join("samples")).remove(0);
    let hour = sample.parent().unwrap();
    fs::copy(&sample, hour.join("part-00000.parquet")).unwrap();
    fs::write(hour.join("_SUCCESS"), "").unwrap();
    fs::write(root.join("samples/date=2026-11-23/hour=8"), "no folder").unwrap();
    fs::create_dir_all(root.join("sums/date=2026-11-23/hour=99")).unwrap();
    fs::create_dir_all(root.join("instances/date=yesterday/hour=01")).unwrap();
    assert_eq!(told(&root, Scope::All), whole);
    // What carries the name of a set and is none.
    let stray = hour.join("node-9-6e9d3f62-00000001.parquet");
    fs::copy(&sample, &stray).unwrap();
    let (counts, samples, named) = told(&root, Scope::All);
    assert_eq!((counts, samples, named), (whole.0, whole.1, vec![stray]));
}

#[test]
fn readers_see_every_sample_once_while_journals_are_sealed_and_deleted_under_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    for node in 0..12 {
        super::sealed_tests::write(&store, &format!("node-{node}"), &long_life()[..40], 20);
    }
    let root = folder.path();
    let whole = told(root, Scope::All);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while rounds < 3 || !Store::open(root).unwrap().journals().unwrap().is_empty() {
                        assert_eq!(told(root, Scope::All), whole);
                        assert_eq!(told(root, Scope::Counts).1, whole.1);
                        rounds += 1;
                    }
                })
            })
            .collect();
        tidy(&store, &TidyOptions::default());
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert!(store.journals().unwrap().is_empty());
    assert_eq!(told(root, Scope::All), whole);
}
