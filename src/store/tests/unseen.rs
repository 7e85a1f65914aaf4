//! Instances whose stacks cannot be seen: whatever was written of them before that was known is given to nobody.

use super::data::{EIGHT, identity, instance, only_journal, sample, store, writer};
use crate::model::{Batch, Entry, Fact, InstanceNo, Isolation, Timestamp, Wait, Window};
use crate::store::JournalContents;

fn unseen(no: u32) -> Entry {
    let fact = Fact::Unseen(Isolation::Gvisor);
    Entry::Fact { no: InstanceNo(no), at: Timestamp(EIGHT + 50), fact }
}

fn dropped(contents: &JournalContents, no: usize) -> Vec<(&str, u64)> {
    contents.instances[no].dropped.iter().map(|(_, why, count)| (why.as_str(), *count)).collect()
}

#[test]
fn samples_from_before_it_was_known_are_left_out_and_counted() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let mut first = Batch::default();
    for no in 0..2 {
        first.entries.extend([instance(no), identity(no, EIGHT, &format!("f{no}"))]);
        let at = EIGHT + i64::from(no);
        first.samples.extend((0..5).map(|n| sample(no, at + 10 * n, &["sentry [runsc]"])));
        let left = sample(no, at + 3, &["wait [runsc]"]);
        first.waits.push(Wait { left, ns: 7_000, preempted: false });
    }
    first.samples.sort_by_key(|sample| sample.time);
    journal.append(&first).unwrap();
    let before = only_journal(&store).load(Window::ALL).unwrap();
    assert_eq!((before.samples.len(), before.waits.len()), (10, 2));
    journal.append(&Batch { entries: vec![unseen(0)], ..Batch::default() }).unwrap();

    let contents = only_journal(&store).load(Window::ALL).unwrap();
    assert!(contents.samples.iter().all(|sample| contents.instance_of(sample) == Some(1)));
    assert!(contents.waits.iter().all(|wait| contents.instance_of(&wait.back) == Some(1)));
    assert_eq!((contents.samples.len(), contents.waits.len()), (5, 1));
    assert_eq!((dropped(&contents, 0), dropped(&contents, 1)), (vec![(Entry::UNSEEN, 5)], vec![]));
    let window = Window { from: Timestamp(EIGHT + 20), to: Timestamp::MAX };
    assert_eq!(dropped(&only_journal(&store).load(window).unwrap(), 0), [(Entry::UNSEEN, 3)]);

    // Nor are they in what is made of the journal.
    journal.finish().unwrap();
    let folded = store.write_folded(&only_journal(&store)).unwrap();
    assert_eq!(folded.samples, 5, "those of the other one");
}
