//! When a journal ends and the next begins, and that each stands alone.

use std::sync::Arc;

use super::data::{EIGHT, batch, ended, identity, instance, sample, store, told, usage, writer};
use crate::model::{Batch, Entry, InstanceNo, Sample, Stack, Timestamp, Window};
use crate::store::JournalContents;

const HOUR: i64 = 3_600_000_000;

fn with(entries: Vec<Entry>, samples: Vec<Sample>) -> Batch {
    Batch { entries, samples, ..Batch::default() }
}

/// Functions, by the last part of the instance's key.
fn functions(contents: &JournalContents) -> Vec<(u32, Vec<String>)> {
    let number = |key: &str| u32::from_str_radix(key.rsplit('.').next().unwrap(), 16).unwrap();
    let names = contents.instances.iter().map(|record| {
        let names = record.identities.iter().map(|(_, identity)| identity.function.clone().unwrap());
        (number(&record.info.key.0), names.collect())
    });
    names.collect()
}

#[test]
fn each_journal_stands_alone() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let frames = ["main [figlet]", "a [figlet]"];
    let first = with(
        vec![
            instance(1),
            identity(1, EIGHT, "figlet"),
            Entry::Exec { no: InstanceNo(1), at: Timestamp(EIGHT + 1) },
            instance(2),
            identity(2, EIGHT, "pi"),
            usage(1, EIGHT + 3, 30),
            usage(1, EIGHT + 9, 90),
            instance(3),
            instance(4),
            ended(3, EIGHT + 5),
            ended(4, EIGHT + 5),
        ],
        vec![sample(1, EIGHT + 5, &frames), sample(2, EIGHT + 6, &frames)],
    );
    assert!(!journal.append(&first).unwrap().rotated);
    let late = with(vec![], vec![sample(1, EIGHT + HOUR - 2, &frames)]);
    assert!(!journal.append(&late).unwrap().rotated);
    let next = with(vec![], vec![sample(1, EIGHT + HOUR - 1, &frames), sample(1, EIGHT + HOUR, &frames)]);
    assert!(journal.append(&next).unwrap().rotated, "the hour is full");
    // Late samples of the hour before do not go back; a late name of one who ended finds its instance.
    let late = with(vec![identity(3, EIGHT, "late")], vec![sample(2, EIGHT + HOUR - 1, &frames)]);
    assert!(!journal.append(&late).unwrap().rotated);
    let back = with(vec![], vec![sample(1, EIGHT - 5 * HOUR, &frames)]);
    assert!(journal.append(&back).unwrap().rotated, "the clock was set back");
    // An end of long ago, told by a runtime, is no reason.
    assert!(!journal.append(&with(vec![ended(2, EIGHT - 90 * HOUR)], vec![])).unwrap().rotated);
    let paths = [journal.path().to_path_buf()];
    journal.rotate().unwrap();
    assert_ne!(journal.path(), paths[0]);
    journal.append(&with(vec![identity(2, EIGHT + 1, "again")], vec![sample(2, EIGHT, &frames)])).unwrap();
    journal.finish().unwrap();

    let journals = store.journals().unwrap();
    let contents: Vec<_> = journals.iter().map(|journal| journal.load(Window::ALL).unwrap()).collect();
    let figlet = || (1, vec!["figlet".to_owned()]);
    let pi = || (2, vec!["pi".to_owned()]);
    let expected = [
        vec![figlet(), pi(), (3, vec![]), (4, vec![])],
        vec![figlet(), pi(), (3, vec!["late".to_owned()])],
        vec![figlet(), pi()],
        vec![figlet(), (2, vec!["pi".to_owned(), "again".to_owned()])],
    ];
    assert_eq!(contents.iter().map(functions).collect::<Vec<_>>(), expected);
    for contents in &contents {
        assert_eq!(contents.damage, []);
        assert_eq!(contents.instances[0].exec_at, Some(Timestamp(EIGHT + 1)));
        assert!(
            told(contents).iter().all(|told| told.frames == frames && !told.instance.starts_with("lost"))
        );
    }
    assert_eq!(contents[0].instances[0].usage.len(), 2);
    assert_eq!(contents[1].instances[0].usage.iter().map(|usage| usage.cpu_us).collect::<Vec<_>>(), [90]);
    assert!(contents[3].instances[1].ended.is_some());
    assert_eq!(contents.iter().map(|contents| contents.samples.len()).collect::<Vec<_>>(), [3, 3, 1, 1]);
}

#[test]
fn a_journal_grows_neither_too_long_nor_too_costly() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&with(vec![instance(1), identity(1, EIGHT, "figlet")], vec![])).unwrap();
    let mut rotated = Vec::new();
    let many = with(vec![], vec![sample(1, EIGHT, &["main [figlet]"]); 125_000]);
    for n in 0..9 {
        if journal.append(&many).unwrap().rotated {
            rotated.push(n);
        }
    }
    assert_eq!(rotated, [8], "1 M samples");
    let stacks = |n: u32| {
        (0..8_000u32).map(move |i| Sample {
            stack: Arc::new(Stack::new(
                vec![format!("{n}-{i}-{} [m]", "x".repeat(900)).into()],
                Default::default(),
            )),
            ..sample(1, EIGHT, &[])
        })
    };
    let rotated: Vec<bool> =
        (0..5).map(|n| journal.append(&with(vec![], stacks(n).collect())).unwrap().rotated).collect();
    assert_eq!(rotated, [false, false, false, false, true], "32 MiB of stacks");
    journal.finish().unwrap();
    for journal in store.journals().unwrap() {
        let contents = journal.load(Window::ALL).unwrap();
        assert_eq!((contents.damage.len(), functions(&contents)), (0, vec![(1, vec!["figlet".to_owned()])]));
    }
}

#[test]
fn a_batch_too_large_to_be_read_is_refused_and_the_next_is_not() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let huge = "x".repeat(130 << 20);
    let error = journal.append(&with(vec![instance(1)], vec![sample(1, EIGHT, &[&huge])])).unwrap_err();
    assert!(matches!(error, crate::store::StoreError::TooBig { .. }), "{error}");
    journal.append(&batch(0)).unwrap();
    let contents = super::data::only_journal(&store).load(Window::ALL).unwrap();
    assert_eq!(told(&contents), super::data::truth(&[batch(0)]));
}

#[test]
fn thousands_of_instances_are_introduced_again() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let entries = (0..20_000).flat_map(|no| [instance(no), identity(no, EIGHT, &format!("f{no}"))]).collect();
    journal.append(&with(entries, vec![])).unwrap();
    journal.rotate().unwrap();
    journal.append(&batch(0)).unwrap();
    let last = store.journals().unwrap().pop().unwrap();
    let contents = last.load(Window::ALL).unwrap();
    assert_eq!((contents.instances.len(), contents.damage.len()), (20_000, 0));
    assert!(contents.instances.iter().all(|record| record.identities.len() == 1));
}
