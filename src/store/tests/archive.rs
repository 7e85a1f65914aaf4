//! Sealing: what is kept, what goes, and what is left when it fails half way.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::data::{EIGHT, batch, ended, files, identity, instance, sample, store, tidy, usage, writer};
use crate::model::{Batch, Window};
use crate::store::archive::{Detail, Retention, SealedSamples, TidyOptions};
use crate::store::{InstanceRecord, Store, StoreError};

const HOUR_US: i64 = 3_600_000_000;

/// A journal of `hours` hours from eight on, a sample a minute of two functions.
fn write(store: &Store, node: &str, hours: i64) {
    let mut journal = store.journal(writer(node)).unwrap();
    for minute in 0..hours * 60 {
        let at = EIGHT + minute * 60_000_000;
        let mut batch = Batch::default();
        if minute == 0 {
            let names = [identity(1, EIGHT, "figlet"), identity(2, EIGHT, "pi")];
            batch.entries.extend([instance(1), instance(2)].into_iter().chain(names));
        }
        batch.entries.push(usage(1, at, 7 * minute as u64));
        batch.samples.push(sample(1, at, &["main [figlet]", "a [figlet]"]));
        batch.samples.push(sample(2, at + 1, &["main [pi]"]));
        journal.append(&batch).unwrap();
    }
    let last = Batch { entries: vec![ended(1, EIGHT + hours * HOUR_US - 1)], ..Batch::default() };
    journal.append(&last).unwrap();
    journal.finish().unwrap();
}

/// All samples of all sets of `store`.
fn samples(store: &Store) -> SealedSamples {
    let mut all = SealedSamples::default();
    for set in store.sealed(Window::ALL).unwrap().sets {
        let hour = set.load(Detail::Readings).unwrap().unwrap();
        assert_eq!(hour.damage, []);
        let groups = hour.rows.iter().map(|row| row.group).collect();
        let read = hour.samples(&groups, Window::ALL, true, |_| Some(0)).unwrap().unwrap();
        assert_eq!(read.damage, []);
        all.times.extend(read.times);
    }
    all.times.sort();
    all
}

#[test]
fn each_hour_has_its_set_and_the_journal_goes() {
    let (_folder, store) = store();
    write(&store, "node-1", 3);
    write(&store, "node-2", 1);
    let tidied = tidy(&store, &TidyOptions::default());
    assert_eq!((tidied.sealed.journals, tidied.sealed.sets, tidied.sealed.samples), (4, 4, 480));
    assert_eq!((tidied.sealed.failed, store.journals().unwrap().len()), (0, 0));
    let names: Vec<String> =
        store.sealed(Window::ALL).unwrap().sets.iter().map(|set| set.hour().name()).collect();
    assert_eq!(names, ["2026-11-23T08", "2026-11-23T08", "2026-11-23T09", "2026-11-23T10"]);
    assert_eq!(samples(&store).times.len(), 480);
    for table in ["samples", "instances", "usage", "hosts", "sums"] {
        assert_eq!(files(&store.root().join(table)).len(), 4, "{table}");
    }
    assert!(files(&store.root().join("folded")).len() >= 8);
    assert_eq!(tidy(&store, &TidyOptions::default()), Default::default(), "nothing is left to do");
}

#[test]
fn a_second_that_comes_again_takes_nothing_from_what_is_sealed() {
    let (_folder, store) = store();
    // Named by this second and the ten next ones, so that the same second comes again within ten.
    (0..11).for_each(|_| write(&store, "node-1", 1));
    tidy(&store, &TidyOptions::default());
    // As an hour later, before a clock that was ahead is set back.
    for marker in files(&store.journal_folder()) {
        fs::remove_file(marker).unwrap();
    }
    write(&store, "node-1", 1);
    assert_eq!(tidy(&store, &TidyOptions::default()).sealed.samples, 120);
    assert_eq!(samples(&store).times.len(), 12 * 120);
}

#[test]
fn a_journal_that_is_being_written_is_left_alone_and_a_killed_ones_is_not() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&batch(1)).unwrap();
    assert_eq!(tidy(&store, &TidyOptions::default()).sealed.journals, 0);
    let path = journal.path().to_path_buf();
    journal.append(&batch(2)).unwrap();
    // As a kill leaves it: no closing frame, half a frame at the end.
    let bytes = fs::read(&path).unwrap();
    drop(journal);
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(tidy(&store, &TidyOptions::default()).sealed.journals, 1);
    let sets = store.sealed(Window::ALL).unwrap().sets;
    let hour = sets[0].load(Detail::Totals).unwrap().unwrap();
    assert!(hour.damage.len() == 1 && hour.damage[0].what.contains("unfinished end"), "{:?}", hour.damage);
}

#[test]
fn names_are_read_without_what_was_counted() {
    let (_folder, store) = store();
    write(&store, "node-1", 2);
    tidy(&store, &TidyOptions::default());
    for set in store.sealed(Window::ALL).unwrap().sets {
        let [names, totals] =
            [Detail::Names, Detail::Totals].map(|detail| set.load(detail).unwrap().unwrap());
        assert!(names.rows.is_empty() && names.waits.is_empty() && !totals.rows.is_empty(), "{names:?}");
        assert_eq!(names.host.writer, totals.host.writer);
        let told = |record: &InstanceRecord| {
            let info = &record.info;
            (info.key.clone(), info.container_id.clone(), info.started_at, record.identities.clone())
        };
        assert_eq!(
            names.instances.iter().map(told).collect::<Vec<_>>(),
            totals.instances.iter().map(told).collect::<Vec<_>>()
        );
        assert!(totals.instances.iter().any(|record| !record.identities.is_empty()), "{totals:?}");
    }
}

#[test]
fn a_seal_that_was_killed_half_way_is_done_again() {
    let (_folder, store) = store();
    write(&store, "node-1", 1);
    let journal = super::data::only_journal(&store);
    let (path, bytes) = (journal.path().to_path_buf(), fs::read(journal.path()).unwrap());
    tidy(&store, &TidyOptions::default());
    let whole = samples(&store).times;
    let sums = files(&store.root().join("sums")).remove(0);
    // Before the checksum file: the journal counts. After it: the set does, and only the deletion is missing.
    for has_sums in [false, true] {
        fs::write(&path, &bytes).unwrap();
        if !has_sums {
            fs::remove_file(&sums).unwrap();
        }
        let readable = store.readable(Window::ALL, &store.journals().unwrap()).unwrap();
        assert_eq!(
            (readable.journals.len(), readable.sets.len()),
            (usize::from(!has_sums), usize::from(has_sums))
        );
        assert_eq!(readable.damage, []);
        tidy(&store, &TidyOptions::default());
        assert_eq!((store.journals().unwrap().len(), samples(&store).times), (0, whole.clone()));
    }
}

#[test]
fn the_oldest_hours_go_and_nothing_else() {
    let (_folder, store) = store();
    write(&store, "node-1", 3);
    tidy(&store, &TidyOptions::default());
    let all: u64 = files(store.root()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let keep = |retention| tidy(&store, &TidyOptions { retention, ..TidyOptions::default() }).dropped;
    let bytes = |most| Retention { max_bytes: Some(most), ..Retention::default() };
    assert_eq!(keep(bytes(all)).hours, 0);
    let dropped = keep(bytes(all * 9 / 10));
    assert_eq!((dropped.hours, dropped.samples), (1, 120));
    assert!(dropped.bytes > all / 6, "{} of {all}", dropped.bytes);
    let left = files(&store.root().join("folded"));
    assert!(!left.is_empty() && left.iter().all(|path| !path.to_string_lossy().contains("T08")), "{left:?}");
    assert!(!store.root().join("samples/date=2026-11-23/hour=08").exists());
    assert_eq!(samples(&store).times.len(), 240);
    let age = Retention { max_age: Some(Duration::from_secs(1)), ..Retention::default() };
    assert_eq!((keep(age).hours, store.sealed(Window::ALL).unwrap().sets.len()), (2, 0));
    assert_eq!(files(&store.root().join("folded")), Vec::<PathBuf>::new());
}

#[test]
fn what_was_begun_to_be_dropped_is_no_set_and_goes_at_the_next_tidying() {
    let (_folder, store) = store();
    write(&store, "node-1", 1);
    tidy(&store, &TidyOptions::default());
    let sums = files(&store.root().join("sums")).remove(0);
    fs::rename(&sums, sums.with_extension("dropped")).unwrap();
    fs::remove_file(files(&store.root().join("usage")).remove(0)).unwrap();
    let readable = store.readable(Window::ALL, &[]).unwrap();
    assert_eq!((readable.sets.len(), readable.damage), (0, vec![]));
    tidy(&store, &TidyOptions::default());
    for table in ["samples", "instances", "usage", "hosts", "sums"] {
        assert_eq!(files(&store.root().join(table)), Vec::<PathBuf>::new());
    }
}

#[test]
fn without_the_folded_tree_there_is_none() {
    let (_folder, store) = store();
    let mut journal = store.journal_with(writer("node-1"), crate::store::AtClose::Keep).unwrap();
    journal.append(&batch(1)).unwrap();
    journal.finish().unwrap();
    let tidied = tidy(&store, &TidyOptions { folded: false, ..TidyOptions::default() });
    assert_eq!((tidied.sealed.journals, tidied.sealed.folded_files), (1, 0));
    assert_eq!(files(&store.root().join("folded")), Vec::<PathBuf>::new());
}

#[test]
fn a_writer_that_holds_the_lock_seals_at_every_hour_and_others_journals_too() {
    let (_folder, store) = store();
    write(&store, "node-2", 1);
    let lock = std::sync::Arc::new(store.lock().unwrap());
    assert!(matches!(store.lock(), Err(StoreError::Locked { .. })));
    let at_close = crate::store::AtClose::Seal(lock, TidyOptions::default().into());
    let mut journal = store.journal_with(writer("node-1"), at_close).unwrap();
    for n in 0..3 {
        let mut batch = batch(1);
        batch.entries.insert(0, instance(0));
        for sample in &mut batch.samples {
            sample.time = sample.time.plus_us(n * HOUR_US);
        }
        journal.append(&batch).unwrap();
    }
    journal.finish().unwrap();
    assert_eq!((store.journals().unwrap().len(), store.sealed(Window::ALL).unwrap().sets.len()), (0, 4));
}

#[test]
fn what_is_kept_may_change_while_a_writer_goes_on() {
    let (_folder, store) = store();
    let lock = std::sync::Arc::new(store.lock().unwrap());
    let options = crate::model::Swap::new(TidyOptions::default());
    let at_close = crate::store::AtClose::Seal(lock, options.clone());
    let mut journal = store.journal_with(writer("node-1"), at_close).unwrap();
    journal.append(&batch(1)).unwrap();
    let retention = Retention { max_age: Some(Duration::from_secs(1)), ..Retention::default() };
    assert_eq!(journal.dropped_hours(), 0);
    options.set(TidyOptions { retention, ..TidyOptions::default() });
    journal.rotate().unwrap();
    let begun = std::time::Instant::now();
    while journal.dropped_hours() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the hour is not dropped");
        std::thread::yield_now();
    }
    assert_eq!(journal.dropped_hours(), 1, "it is counted once");
    journal.finish().unwrap();
    assert_eq!((store.journals().unwrap().len(), store.sealed(Window::ALL).unwrap().sets.len()), (0, 0));
}
