//! What is settled goes to the keeper, which is never waited for: what does not fit its queue is counted and dropped.

use std::sync::atomic::Ordering;
use std::sync::mpsc::TrySendError;

use super::Capture;
use crate::agent::AgentStats;
use crate::agent::work::{Work, dropped, shorten};

impl Capture {
    pub(super) fn hand_over(&mut self, flush: bool) {
        self.collect();
        let something = self.pending.has_something();
        // Nobody is woken to write nothing; what the rings saw of strangers waits for the next batch.
        self.pending.flush |= flush && (something || self.unwritten);
        if !something && !self.pending.flush {
            return;
        }
        self.unwritten = !self.pending.flush;
        self.told.is_old = true;
        let queued = &self.setup.queued_bytes;
        let waits = self.pending.waits.iter().map(|(_, wait)| wait.left.bytes());
        self.pending.bytes = self.pending.samples.iter().map(|(_, sample)| sample.bytes()).chain(waits).sum();
        if queued.load(Ordering::Relaxed).saturating_add(self.pending.bytes) > self.most_queued_bytes() {
            let work = std::mem::take(&mut self.pending);
            return self.keep_back(work);
        }
        queued.fetch_add(self.pending.bytes, Ordering::Relaxed);
        match self.setup.keeper.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => {}
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => {
                self.setup.queued_bytes.fetch_sub(work.bytes, Ordering::Relaxed);
                self.keep_back(work);
            }
        }
    }

    /// The keeper is behind: what happened to instances waits for it, samples are counted and dropped.
    pub(super) fn keep_back(&mut self, work: Work) {
        self.stats.dropped += work.samples.iter().map(|(_, sample)| u64::from(sample.count)).sum::<u64>();
        let lost =
            dropped(work.samples.iter().map(|(no, sample)| (*no, sample.time, sample.count)), "backlog");
        self.stats.waits_dropped += work.waits.len() as u64;
        self.pending = Work { samples: Vec::new(), waits: Vec::new(), bytes: 0, ..work };
        self.pending.entries.extend(lost);
        shorten(&mut self.pending.entries);
    }

    pub(super) fn finish(mut self) -> AgentStats {
        self.collect();
        self.pending.flush = true;
        self.pending.bytes = 0;
        // Before the last batch: the keeper may never take it.
        self.publish();
        // The end is the one place where waiting for the keeper is right.
        if self.setup.keeper.send(self.pending).is_err() {
            tracing::error!("the last batch could not be handed to the store");
        }
        AgentStats { files: self.files.stats(), ring_bytes: self.setup.sampler.ring_bytes(), ..self.stats }
    }
}
