//! What the capture thread hands to the keeper.

use std::sync::Arc;

use crate::model::{CpuStats, Entry, InstanceNo, Timestamp};
use crate::stack::Place;

/// A sample whose addresses are places in files, so that it outlives its process.
#[derive(Debug)]
pub(super) struct PlacedSample {
    pub(super) time: Timestamp,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) comm: Arc<str>,
    pub(super) cpu: u32,
    /// Leaf first.
    pub(super) places: Box<[Place]>,
}

impl PlacedSample {
    /// Memory it takes while it waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of::<PlacedSample>() + std::mem::size_of_val(&*self.places)
    }
}

/// A tick's work for the keeper.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) entries: Vec<Entry>,
    pub(super) samples: Vec<(InstanceNo, PlacedSample)>,
    pub(super) cpus: Vec<CpuStats>,
    pub(super) unattributed: u64,
    pub(super) clock_offset_ns: i64,
    /// Whether it is time to write.
    pub(super) flush: bool,
}
