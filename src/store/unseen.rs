//! Samples of instances whose stacks cannot be seen: taken before it was known what runs them, and nobody's from then on.
//!
//! What a writer learns late holds for all that it has written: a reader never gives a function the samples of the
//! sandbox it runs in. Pure.

use std::collections::HashMap;

use super::contents::{InstanceRecord, JournalContents, StoredSample};
use crate::model::{Entry, Timestamp};

/// Takes them out of `journal`, and says of each instance how many were left out.
pub(super) fn leave_out(journal: &mut JournalContents) {
    if !journal.instances.iter().any(InstanceRecord::is_unseen) {
        return;
    }
    let JournalContents { instances, threads, samples, waits, .. } = journal;
    let unseen: Vec<bool> = instances.iter().map(InstanceRecord::is_unseen).collect();
    let unseen_of = |sample: &StoredSample| {
        let of = threads.get(sample.thread as usize)?.instance;
        unseen.get(of as usize)?.then_some(of)
    };
    let mut left_out: HashMap<u32, (Timestamp, u64)> = HashMap::new();
    samples.retain(|sample| {
        let unseen = unseen_of(sample);
        if let Some(instance) = unseen {
            left_out.entry(instance).or_insert((sample.time, 0)).1 += 1;
        }
        unseen.is_none()
    });
    waits.retain(|wait| unseen_of(&wait.back).is_none());
    for (at, (first, count)) in left_out {
        if let Some(record) = instances.get_mut(at as usize) {
            record.dropped.push((first, Entry::UNSEEN.into(), count));
        }
    }
}
