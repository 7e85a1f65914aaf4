//! How many samples were lost, as far as that can be told.
//!
//! The kernel counts what a CPU's ring lost, not whose it was. So a batch's losses on a CPU are shared out among all
//! samples read on it, strangers' too, and each function carries its samples' share: an estimate, and said to be one.

use super::contents::{BatchRecord, StoredSample};

/// For each batch the CPUs that lost samples, with the losses that one kept sample stands for.
#[derive(Debug)]
pub struct Rates(Vec<Vec<(u32, f64)>>);

/// The rates of `batches`.
pub fn rates(batches: &[BatchRecord]) -> Rates {
    let of_batch = |batch: &BatchRecord| {
        let lossy = batch.cpus.iter().filter(|cpu| cpu.lost > 0 && cpu.samples > 0);
        lossy.map(|cpu| (cpu.cpu, cpu.lost as f64 / cpu.samples as f64)).collect()
    };
    Rates(batches.iter().map(of_batch).collect())
}

impl Rates {
    /// Samples lost for this one; none where nothing was lost.
    pub fn lost_for(&self, sample: &StoredSample) -> Option<f64> {
        let cpus = self.0.get(sample.batch as usize)?;
        cpus.iter().find(|(cpu, _)| *cpu == sample.cpu).map(|(_, rate)| *rate)
    }
}
