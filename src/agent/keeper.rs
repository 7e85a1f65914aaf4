//! The keeper thread: names the frames of what was captured, and writes it to the store once a second.
//!
//! It may be slow; the capture thread never waits for it. When the store cannot be written, samples of that batch are
//! counted as lost and what happened to instances waits for the next one.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;

use super::work::{PlacedSample, Work};
use crate::model::{Batch, CpuStats, Entry, InstanceNo, Sample, Timestamp};
use crate::stack::{SymbolStats, Symbolizer};
use crate::store::JournalWriter;

/// Most entries that wait for a store that cannot be written; past it the oldest go.
const MAX_WAITING_ENTRIES: usize = 262_144;

/// How keeping went.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeeperStats {
    /// Batches written.
    pub batches: u64,
    /// Samples written.
    pub samples: u64,
    /// Samples lost because the store could not be written.
    pub lost: u64,
    /// How naming went.
    pub symbols: SymbolStats,
}

pub(super) struct Keeper {
    pub(super) symbolizer: Symbolizer,
    pub(super) journal: JournalWriter,
    pub(super) batch: Batch,
    pub(super) stats: KeeperStats,
    failing: bool,
}

impl Keeper {
    pub(super) fn new(symbolizer: Symbolizer, journal: JournalWriter) -> Keeper {
        Keeper { symbolizer, journal, batch: Batch::default(), stats: KeeperStats::default(), failing: false }
    }

    /// Runs until the capture thread has ended, then closes the journal.
    pub(super) fn run(mut self, work: &Receiver<Work>) -> KeeperStats {
        while let Ok(work) = work.recv() {
            self.take(work);
        }
        self.write();
        if let Err(error) = self.journal.finish() {
            tracing::error!("close the journal: {error}");
        }
        self.stats.symbols = self.symbolizer.stats();
        self.stats
    }

    fn take(&mut self, work: Work) {
        self.batch.entries.extend(work.entries);
        for (no, sample) in work.samples {
            let named = self.name(no, sample);
            self.batch.samples.push(named);
        }
        self.batch.unattributed += work.unattributed;
        add_stats(&mut self.batch.cpus, &work.cpus);
        if work.clock_offset_ns != 0 {
            self.batch.clock_offset_ns = work.clock_offset_ns;
        }
        if work.flush {
            self.write();
        }
    }

    fn name(&mut self, instance: InstanceNo, sample: PlacedSample) -> Sample {
        let PlacedSample { time, pid, tid, comm, cpu, places } = sample;
        Sample { time, instance, pid, tid, comm, cpu, stack: self.symbolizer.stack(&places) }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            self.batch.cpus.clear();
            return;
        }
        // Samples that waited for a name come behind later ones.
        self.batch.samples.sort_by_key(|sample| sample.time);
        let batch = std::mem::take(&mut self.batch);
        match self.journal.append(&batch) {
            Ok(_) => {
                self.stats.batches += 1;
                self.stats.samples += batch.samples.len() as u64;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the store can be written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("write the store: {error}; samples are lost until it can be written");
                }
                self.keep_back(batch);
            }
        }
    }

    fn keep_back(&mut self, batch: Batch) {
        let mut lost: HashMap<InstanceNo, (u64, Timestamp)> = HashMap::new();
        for sample in &batch.samples {
            let slot = lost.entry(sample.instance).or_insert((0, sample.time));
            slot.0 += 1;
        }
        self.stats.lost += batch.samples.len() as u64;
        self.batch.entries = batch.entries;
        let dropped = lost.into_iter().map(|(no, (count, at))| Entry::Dropped {
            no,
            at,
            reason: "store".into(),
            count,
        });
        self.batch.entries.extend(dropped);
        let excess = self.batch.entries.len().saturating_sub(MAX_WAITING_ENTRIES);
        self.batch.entries.drain(..excess);
    }
}

fn add_stats(sums: &mut Vec<CpuStats>, more: &[CpuStats]) {
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
