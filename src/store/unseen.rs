//! Samples of instances whose stacks cannot be seen: taken before it was known what runs them, and nobody's from then on.
//!
//! What a writer learns late holds for all that it has written: a reader never gives a function the samples of the
//! sandbox it runs in. Pure.

use std::collections::HashMap;

use super::contents::{InstanceRecord, JournalContents};
use crate::model::{Entry, Timestamp};

/// Takes them out of `journal`, and says of each instance how many were left out.
pub(super) fn leave_out(journal: &mut JournalContents) {
    if !journal.instances.iter().any(InstanceRecord::is_unseen) {
        return;
    }
    let JournalContents { instances, samples, waits, .. } = journal;
    let is_unseen = |at: u32| instances.get(at as usize).is_some_and(InstanceRecord::is_unseen);
    let mut left_out: HashMap<u32, (Timestamp, u64)> = HashMap::new();
    samples.retain(|sample| {
        let leave = is_unseen(sample.instance);
        if leave {
            left_out.entry(sample.instance).or_insert((sample.time, 0)).1 += 1;
        }
        !leave
    });
    waits.retain(|wait| !is_unseen(wait.back.instance));
    for (at, (first, count)) in left_out {
        if let Some(record) = instances.get_mut(at as usize) {
            record.dropped.push((first, Entry::UNSEEN.into(), count));
        }
    }
}
