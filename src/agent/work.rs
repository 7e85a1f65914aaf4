//! What the capture thread hands to the keeper.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{CpuStats, Entry, InstanceNo, Timestamp};
use crate::stack::{Chain, Place};

/// A sample's stack, so that it outlives its process.
#[derive(Debug, Clone)]
pub(super) enum Trace {
    /// Addresses, with what was mapped there.
    Chain(Arc<Chain>),
    /// What was walked, or has names that are not to be had later: leaf first.
    Places(Box<[Place]>),
}

impl Trace {
    /// Its innermost `count` places, leaf first.
    pub(super) fn leaf(&self, count: usize) -> Vec<Place> {
        match self {
            Trace::Chain(chain) => {
                let mut mapped = chain.space().mappings();
                chain.frames().take(count).map(|frame| frame.place(&mut mapped)).collect()
            }
            Trace::Places(places) => {
                places.iter().filter(|place| !place.is_end()).take(count).cloned().collect()
            }
        }
    }

    /// Its places, leaf first.
    #[cfg(test)]
    pub(super) fn places(&self) -> std::borrow::Cow<'_, [Place]> {
        match self {
            Trace::Chain(chain) => chain.places().into(),
            Trace::Places(places) => std::borrow::Cow::Borrowed(places),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Trace::Chain(chain) => chain.bytes(),
            Trace::Places(places) => size_of_val(&**places),
        }
    }
}

/// A sample that is to be named.
#[derive(Debug, Clone)]
pub(super) struct PlacedSample {
    pub(super) time: Timestamp,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) comm: Arc<str>,
    pub(super) cpu: u32,
    /// How many samples it stands for: more than one where not all were looked at.
    pub(super) count: u32,
    pub(super) trace: Trace,
}

impl PlacedSample {
    /// Memory it takes while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<PlacedSample>() + self.trace.bytes()
    }
}

/// A time off the CPU, placed as a sample is.
#[derive(Debug)]
pub(super) struct PlacedWait {
    pub(super) left: PlacedSample,
    pub(super) ns: u64,
    pub(super) preempted: bool,
}

/// Most entries that wait for a keeper or a store that is behind; past it the oldest go.
const MAX_WAITING_ENTRIES: usize = 262_144;

/// A tick's work for the keeper.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) entries: Vec<Entry>,
    pub(super) samples: Vec<(InstanceNo, PlacedSample)>,
    pub(super) waits: Vec<(InstanceNo, PlacedWait)>,
    pub(super) cpus: Vec<CpuStats>,
    pub(super) unattributed: u64,
    pub(super) clock_offset_ns: i64,
    /// Memory of `samples` and `waits` in bytes.
    pub(super) bytes: usize,
    /// Whether it is time to write.
    pub(super) flush: bool,
}

impl Work {
    /// Whether there is more to store than what the rings saw of strangers.
    pub(super) fn has_something(&self) -> bool {
        !self.entries.is_empty()
            || !self.samples.is_empty()
            || !self.waits.is_empty()
            || self.unattributed > 0
            || self.cpus.iter().any(|cpu| cpu.lost > 0)
    }
}

/// Adds what the rings saw and lost to what is known of it.
pub(super) fn add_stats(sums: &mut Vec<CpuStats>, more: &[CpuStats]) {
    for add in more {
        match sums.iter_mut().find(|sum| sum.cpu == add.cpu) {
            Some(sum) => {
                sum.samples += add.samples;
                sum.lost += add.lost;
            }
            None => sums.push(*add),
        }
    }
}

/// Counts samples that have to go, each with how many it stands for, an entry for each instance.
pub(super) fn dropped(
    samples: impl Iterator<Item = (InstanceNo, Timestamp, u32)>,
    reason: &'static str,
) -> impl Iterator<Item = Entry> {
    let mut lost: HashMap<InstanceNo, (u64, Timestamp)> = HashMap::new();
    for (no, time, count) in samples {
        lost.entry(no).or_insert((0, time)).0 += u64::from(count);
    }
    lost.into_iter().map(move |(no, (count, at))| Entry::Dropped { no, at, reason: reason.into(), count })
}

/// Bounds entries that have to wait: of an instance's readings the last stays, its drops become one, and what is too
/// much even then goes, the oldest first.
pub(super) fn shorten(entries: &mut Vec<Entry>) {
    if entries.len() <= MAX_WAITING_ENTRIES / 4 {
        return;
    }
    let mut readings: HashMap<InstanceNo, usize> = HashMap::new();
    let mut drops: HashMap<(InstanceNo, String), u64> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Usage { no, .. } => {
                readings.insert(*no, at);
            }
            Entry::Dropped { no, reason, count, .. } => {
                *drops.entry((*no, reason.clone())).or_default() += count;
            }
            _ => {}
        }
    }
    let mut at = 0;
    entries.retain_mut(|entry| {
        at += 1;
        match entry {
            Entry::Usage { no, .. } => readings.get(no) == Some(&(at - 1)),
            Entry::Dropped { no, reason, count, .. } => match drops.remove(&(*no, reason.clone())) {
                Some(sum) => {
                    *count = sum;
                    true
                }
                None => false,
            },
            _ => true,
        }
    });
    let excess = entries.len().saturating_sub(MAX_WAITING_ENTRIES);
    entries.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CpuSource;

    #[test]
    fn entries_that_wait_for_days_stay_few_and_keep_their_sums() {
        let mut entries = Vec::new();
        for n in 0..1_000_000u32 {
            let (no, at) = (InstanceNo(n % 300), Timestamp(n.into()));
            entries.push(match n % 1000 {
                0 => Entry::Exec { no, at },
                1 => Entry::Dropped { no, at, reason: "backlog".into(), count: 2 },
                _ => Entry::Usage { no, at, cpu_us: n.into(), source: CpuSource::Running },
            });
            shorten(&mut entries);
        }
        assert!(entries.len() < MAX_WAITING_ENTRIES, "{}", entries.len());
        let lost: u64 =
            entries.iter().map(|e| if let Entry::Dropped { count, .. } = e { *count } else { 0 }).sum();
        assert_eq!(lost, 2000);
        assert_eq!(entries.iter().filter(|e| matches!(e, Entry::Exec { .. })).count(), 1000);
        let last = |e: &Entry| matches!(e, Entry::Usage { at: Timestamp(999_999), .. });
        assert!(entries.iter().any(last), "the last reading is kept");
        entries.extend((0..MAX_WAITING_ENTRIES).map(|_| Entry::Exec { no: InstanceNo(1), at: Timestamp(0) }));
        shorten(&mut entries);
        assert_eq!(entries.len(), MAX_WAITING_ENTRIES);
    }
}
