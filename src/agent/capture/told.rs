//! What the capture thread tells of itself: numbers that it holds anyway, once in a flush that had something to hand
//! over. A flush that found nothing touches none of it.

use std::sync::atomic::Ordering;

use super::Capture;
use crate::agent::degraded::Cut;
use crate::metrics::Sampled;
use crate::model::Entry;
use crate::perf::Mode;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Whether something has happened since.
    pub(super) is_old: bool,
    /// Whether functions have come, gone or changed their names since.
    functions_changed: bool,
    living: usize,
    has_cpu_trouble: bool,
    cpus: usize,
}

impl Capture {
    /// Takes what is settled, to be handed over.
    pub(super) fn collect(&mut self) {
        let settled = self.setup.attribution.take();
        for entry in &settled.entries {
            match entry {
                Entry::Instance { .. } | Entry::Identity { .. } | Entry::Ended { .. } => {
                    self.told.functions_changed = true;
                }
                Entry::Dropped { reason, count, .. } if reason == Entry::UNSEEN => {
                    self.stats.unseen += count;
                }
                Entry::Dropped { count, .. } => self.stats.dropped_waiting += count,
                _ => {}
            }
        }
        self.stats.settled += settled.samples.iter().map(|(_, sample)| u64::from(sample.count)).sum::<u64>();
        self.pending.entries.extend(settled.entries);
        if self.pending.samples.is_empty() {
            self.pending.samples = settled.samples;
        } else {
            self.pending.samples.extend(settled.samples);
        }
    }

    /// Tells what has changed, if anything has.
    pub(super) fn publish_news(&mut self) {
        if self.told.is_old || self.setup.attribution.live_wanted() != self.told.living {
            self.publish();
        }
    }

    /// Tells all of it.
    pub(super) fn publish(&mut self) {
        let Capture { setup, stats, told, files, .. } = self;
        let (metrics, files) = (&setup.metrics, files.stats());
        metrics.samples.set(stats.samples);
        metrics.samples_settled.set(stats.settled);
        metrics.samples_lost.set(stats.lost);
        metrics.samples_unattributed.set(stats.unattributed);
        metrics.dropped_backlog.set(stats.dropped);
        metrics.dropped_buffer.set(stats.dropped_waiting);
        metrics.samples_unseen.set(stats.unseen);
        metrics.side_band_lost.set(stats.side_band_lost);
        metrics.longest_reading_ns.set(stats.longest_reading_ns);
        metrics.off_cpu_stopped.set(stats.switching_stopped);
        metrics.switches_lost.set(stats.switches_lost);
        metrics.waits_dropped_backlog.set(stats.waits_dropped);
        metrics.waits_dropped_away.set(stats.waits_refused);
        metrics.unattached.set(stats.unattached);
        // More while switches are watched.
        metrics.ring_bytes.set(setup.sampler.ring_bytes() as u64);
        for (cut, value) in Cut::ALL.into_iter().zip(&metrics.cuts) {
            value.set(setup.degraded.cuts(cut));
        }
        metrics.queued_bytes.set(setup.queued_bytes.load(Ordering::Relaxed) as u64);
        metrics.instances.set(stats.instances);
        metrics.files_opened.set(files.opened);
        metrics.files_known.set(files.known);
        metrics.files_failed.set(files.failed);
        metrics.files_evicted.set(files.evicted);
        metrics.walks.set(stats.walks.walks);
        metrics.walks_complete.set(stats.walks.roots);
        metrics.walks_short.set(stats.walks.short);
        metrics.walks_truncated.set(stats.walks.truncated);
        metrics.walks_guessed.set(stats.walks.guessed);
        metrics.unwind_table_bytes.set(stats.walks.table_bytes);
        metrics.perf_maps_opened.set(stats.perf_maps.opened);
        metrics.perf_map_bytes.set(stats.perf_maps.bytes);
        told.is_old = false;
        told.living = setup.attribution.live_wanted();
        metrics.instances_living.set(told.living as u64);
        if std::mem::take(&mut told.functions_changed) {
            metrics.functions_living.set(setup.attribution.functions_living() as u64);
        }
    }

    /// What is sampled has changed, or could not be.
    pub(super) fn tell_mode(&self, armed: bool) {
        let metrics = &self.setup.metrics;
        metrics.arm_failing.set((!armed).into());
        metrics.set_sampled(match self.setup.sampler.mode() {
            Mode::Off => Sampled::Off,
            Mode::Chains => Sampled::Chains,
            Mode::Copies => Sampled::Copies,
        });
    }

    /// Which CPUs are followed, and why one is not.
    pub(super) fn tell_cpus(&mut self, trouble: Option<String>) {
        let (cpus, has_trouble) = (self.setup.sampler.cpu_count(), trouble.is_some());
        self.cpu_trouble = trouble;
        if (cpus, has_trouble) != (self.told.cpus, self.told.has_cpu_trouble) {
            (self.told.cpus, self.told.has_cpu_trouble) = (cpus, has_trouble);
            self.setup.metrics.cpus.set(cpus as u64);
            self.setup.metrics.ring_bytes.set(self.setup.sampler.ring_bytes() as u64);
            self.setup.metrics.cpu_trouble.set(has_trouble.into());
        }
    }
}
