//! Waits: read as they were written, cut and damaged like samples, sealed to a table of their own, dropped with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::data::{EIGHT, files, identity, instance, only_journal, sample, store, tidy, writer};
use crate::model::{Batch, Timestamp, Wait, Window, frame as grammar};
use crate::store::archive::{Detail, Retention, TidyOptions};
use crate::store::{JournalContents, JournalFile, Store};

const HOUR_US: i64 = 3_600_000_000;

/// A wait with everything it refers to: when it was over, whose, its frames, how long, whether it was preempted.
type Told = (i64, String, u32, Vec<String>, u64, bool);

fn wait(no: u32, left: i64, ns: u64, preempted: bool) -> Wait {
    let leaf = format!("read_{} [figlet]", left % 3);
    Wait { left: sample(no, left, &["main [figlet]", &leaf]), ns, preempted }
}

/// The `n`th batch: an instance, sometimes a name, samples, and waits that began before them.
fn batch(n: u32) -> Batch {
    let at = EIGHT + i64::from(n) * 1_000_000;
    let mut batch = Batch { samples: vec![sample(n, at, &["main [figlet]"])], ..Batch::default() };
    batch.entries.extend([instance(n), identity(n, EIGHT, &format!("function-{n}"))]);
    for i in 0..1 + i64::from(n % 4) {
        // Of a thread of the batch before too, which that named.
        let (no, since) = if i == 2 { (n - 1, 1_000_000) } else { (n, i * 300_000) };
        batch.waits.push(wait(no, at - since, 7_000_123 + 1_000 * i as u64, i % 2 == 1));
    }
    batch.waits.sort_by_key(|wait| wait.left.time);
    batch
}

fn truth<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<Told> {
    let told = |wait: &Wait| {
        let frames = wait.left.stack.frames().iter().map(ToString::to_string).collect();
        let key = super::data::info(wait.left.instance.0).key.to_string();
        let over = wait.left.time.plus_us((wait.ns / 1_000).try_into().unwrap_or(i64::MAX));
        (over.0, key, wait.left.tid, frames, wait.ns, wait.preempted)
    };
    let mut all: Vec<Told> = batches.into_iter().flat_map(|batch| batch.waits.iter().map(told)).collect();
    all.sort();
    all
}

fn told(contents: &JournalContents) -> Vec<Told> {
    assert!(contents.waits.is_sorted_by_key(|wait| wait.back.time));
    let told = |wait: &crate::store::StoredWait| {
        let stack = &contents.stacks[wait.back.stack as usize];
        let frames = stack.frames().iter().map(ToString::to_string).collect();
        let thread = &contents.threads[wait.back.thread as usize];
        let key = contents.instances[thread.instance as usize].info.key.to_string();
        (wait.back.time.0, key, thread.tid, frames, wait.ns, wait.preempted)
    };
    let mut all: Vec<Told> = contents.waits.iter().map(told).collect();
    all.sort();
    all
}

/// A closed journal of `batches`, and its length after each.
fn journal(batches: &[Batch]) -> (Vec<u8>, Vec<usize>) {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let mut ends = vec![fs::metadata(journal.path()).unwrap().len() as usize];
    for batch in batches {
        journal.append(batch).unwrap();
        ends.push(fs::metadata(journal.path()).unwrap().len() as usize);
    }
    let file = only_journal(&store);
    journal.finish().unwrap();
    (fs::read(file.path()).unwrap(), ends)
}

fn load(folder: &Path, bytes: &[u8]) -> JournalContents {
    let path = folder.join("node-1-6e9d3f62-00000000.jnl");
    fs::write(&path, bytes).unwrap();
    JournalFile::at(&path).unwrap().load(Window::ALL).unwrap()
}

#[test]
fn cut_anywhere_the_waits_of_all_frames_before_the_cut_are_read() {
    let batches: Vec<Batch> = (0..5).map(batch).collect();
    let (bytes, ends) = journal(&batches);
    let folder = tempfile::tempdir().unwrap();
    for cut in ends[0]..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let contents = load(folder.path(), &bytes[..cut]);
        assert_eq!(told(&contents), truth(&batches[..whole]), "{cut}");
        assert_eq!(contents.damage.is_empty(), cut == bytes.len(), "{cut}");
    }
}

#[test]
fn no_flipped_bit_makes_a_wrong_wait_and_what_is_lost_is_told() {
    let batches: Vec<Batch> = (0..12).map(batch).collect();
    let (bytes, ends) = journal(&batches);
    let all: BTreeSet<Told> = truth(&batches).into_iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let (mut lost_tasks, mut lost_stacks) = (0, 0);
    for at in ends[0]..*ends.last().unwrap() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let contents = load(folder.path(), &flipped);
        assert!(!contents.damage.is_empty(), "byte {at} went unnoticed");
        lost_tasks +=
            contents.damage.iter().filter(|damage| damage.what.contains("waits of threads")).count();
        for (over, key, tid, frames, ns, preempted) in told(&contents) {
            let same = |of: &&Told| {
                let named = key == of.1 || key.starts_with("lost.");
                let alike = frames == [grammar::LOST]
                    || frames.iter().zip(&of.3).all(|(a, b)| a == b || a == grammar::LOST);
                (over, tid, ns, preempted) == (of.0, of.2, of.4, of.5) && named && alike
            };
            assert!(all.iter().any(|of| same(&of)), "byte {at}: {over} {key} {frames:?}");
            lost_stacks += usize::from(frames.iter().any(|frame| frame == grammar::LOST));
        }
    }
    assert!(lost_tasks > 0 && lost_stacks > 0, "{lost_tasks} {lost_stacks}: the test cuts what it should");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_wait_is_read_as_it_was_written(
        waits in vec((0u32..3, 0..i64::MAX, any::<u64>(), any::<bool>()), 1..20),
        near in vec((0u32..3, 0i64..10_000_000, 0u64..20_000_000_000, any::<bool>()), 0..20),
    ) {
        let (_folder, store) = store();
        let mut journal = store.journal(writer("node-1")).unwrap();
        let mut batch = Batch { entries: (0..3).map(instance).collect(), ..Batch::default() };
        let near = near.into_iter().map(|(no, left, ns, preempted)| (no, EIGHT + left, ns, preempted));
        batch.waits =
            waits.into_iter().chain(near).map(|(no, left, ns, preempted)| wait(no, left, ns, preempted)).collect();
        journal.append(&batch).unwrap();
        let contents = only_journal(&store).load(Window::ALL).unwrap();
        // The end of time lies in no window.
        let expected: Vec<Told> =
            truth([&batch]).into_iter().filter(|told| told.0 != Timestamp::MAX.0).collect();
        prop_assert_eq!(told(&contents), expected);
        prop_assert!(contents.samples.is_empty());
    }
}

/// A journal of two hours, waits in the second alone: one began in the first.
fn two_hours(store: &Store) -> Vec<Batch> {
    let mut journal = store.journal(writer("node-1")).unwrap();
    let mut batches = vec![Batch {
        entries: vec![instance(1), identity(1, EIGHT, "figlet"), instance(2)],
        samples: vec![sample(1, EIGHT + 5, &["main [figlet]"])],
        ..Batch::default()
    }];
    let second = EIGHT + HOUR_US;
    batches.push(Batch {
        samples: vec![sample(2, second, &["main [figlet]"])],
        waits: vec![
            wait(1, second - 10_000_000, 20_000_000_000, false),
            wait(1, second + 1_000_000, 3_000_000, true),
            wait(2, second + 2_000_000, 4_000_499, false),
        ],
        ..Batch::default()
    });
    for batch in &batches {
        journal.append(batch).unwrap();
    }
    journal.finish().unwrap();
    batches
}

#[test]
fn a_sealed_hour_has_the_table_where_somebody_waited() {
    let (_folder, store) = store();
    let batches = two_hours(&store);
    tidy(&store, &TidyOptions::default());
    let sets = store.sealed(Window::ALL).unwrap().sets;
    assert_eq!(
        sets.iter().map(|set| set.hour().name()).collect::<Vec<_>>(),
        ["2026-11-23T08", "2026-11-23T09"]
    );
    assert_eq!(files(&store.root().join("off_cpu")).len(), 1, "the first hour has none");
    let mut found = Vec::new();
    for set in &sets {
        let hour = set.load(Detail::Readings).unwrap().unwrap();
        assert_eq!(hour.damage, []);
        let samples = hour.rows.iter().map(|row| row.samples).sum::<u64>();
        assert_eq!(samples, 1, "a wait is no sample");
        let groups: BTreeSet<u32> = hour.waits.iter().map(|row| row.group).collect();
        if groups.is_empty() {
            continue;
        }
        let totals: BTreeMap<String, (u64, u64, u64)> = hour
            .waits
            .iter()
            .map(|row| {
                let key = hour.instances[row.instance as usize].info.key.to_string();
                (key, (row.count, row.us, row.preempted_us))
            })
            .collect();
        let expected = [(1, (2, 20_003_000, 3_000)), (2, (1, 4_000, 0))];
        let expected = expected.map(|(no, sums)| (super::data::info(no).key.to_string(), sums));
        assert_eq!(totals, BTreeMap::from(expected));
        let number = |key: &str| {
            (0..hour.instances.len() as u32).find(|at| *hour.instances[*at as usize].info.key.0 == *key)
        };
        let read = hour.off_cpu(&groups, Window::ALL, true, number).unwrap().unwrap();
        assert_eq!(read.damage, []);
        for (at, (ns, preempted)) in read.lengths.iter().enumerate() {
            let key = hour.instances[read.instances[at] as usize].info.key.to_string();
            let stack = &read.distinct[read.stacks[at] as usize];
            let frames = stack.frames().iter().map(ToString::to_string).collect();
            found.push((read.times[at].0, key, read.threads[at].tid, frames, *ns, *preempted));
        }
    }
    found.sort();
    assert_eq!(found, truth(&batches));
}

#[test]
fn what_is_dropped_takes_its_waits_along() {
    let (_folder, store) = store();
    two_hours(&store);
    tidy(&store, &TidyOptions::default());
    let before: u64 = files(store.root()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let retention = Retention { max_age: Some(Duration::from_secs(0)), ..Retention::default() };
    tidy(&store, &TidyOptions { retention, ..TidyOptions::default() });
    for folder in ["samples", "instances", "usage", "hosts", "off_cpu", "sums", "folded"] {
        assert_eq!(files(&store.root().join(folder)), Vec::<PathBuf>::new(), "{folder}");
    }
    assert!(before > 0);
}

#[test]
fn a_missing_or_damaged_table_is_told_and_samples_are_not_touched() {
    let (_folder, store) = store();
    two_hours(&store);
    tidy(&store, &TidyOptions::default());
    let path = files(&store.root().join("off_cpu")).remove(0);
    let whole = fs::read(&path).unwrap();
    let set = store.sealed(Window::ALL).unwrap().sets.pop().unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        Some(bytes)
    };
    let cases = [None, Some(whole[..whole.len() - 1].to_vec()), flipped(12), flipped(whole.len() - 20)];
    for bytes in cases {
        match &bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let hour = set.load(Detail::Totals).unwrap().unwrap();
        assert_eq!((hour.damage.as_slice(), hour.rows.len()), (&[][..], 1));
        let groups = hour.waits.iter().map(|row| row.group).collect();
        let read = hour.off_cpu(&groups, Window::ALL, false, |_| Some(0)).unwrap().unwrap();
        let told = read.damage.first().expect("damage");
        assert!(told.file == path && told.what.contains("waits of 2026-11-23T09"), "{told:?}");
        assert_eq!(read.times.len(), 0);
    }
    fs::remove_file(files(&store.root().join("sums")).pop().unwrap()).unwrap();
    fs::write(&path, &whole).unwrap();
    let readable = store.readable(Window::ALL, &[]).unwrap();
    assert!(readable.damage.iter().any(|damage| damage.file == path), "{:?}", readable.damage);
}

#[test]
fn waits_have_folded_files_of_their_own_in_microseconds() {
    let (_folder, store) = store();
    two_hours(&store);
    let found = files(&store.root().join("folded"));
    let read = |file: &PathBuf| {
        let mut text = String::new();
        flate2::read::GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
        text
    };
    let waits: Vec<String> = found
        .iter()
        .filter(|file| file.to_string_lossy().ends_with(".off-cpu.folded.gz"))
        .map(read)
        .collect();
    let left = EIGHT + HOUR_US - 10_000_000;
    let expected = format!("main [figlet];read_{} [figlet] 20000000\n", left % 3);
    assert!(waits.contains(&expected), "preemption is left out: {waits:?}");
    assert!(waits.iter().any(|text| text.ends_with(" 4000\n")), "to the nearest: {waits:?}");
    assert_eq!((waits.len(), found.len()), (2, 4), "{found:?}");
}
