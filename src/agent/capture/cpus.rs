//! CPUs that come and go: their rings are opened and drained, and what nobody told meanwhile is looked for.

use super::{Capture, Happening};
use crate::perf::Clock;

impl Capture {
    /// Opens CPUs that have come, closes those that have gone.
    pub(super) fn follow_cpus(&mut self) {
        let Capture { setup, order, .. } = self;
        let join = &setup.attribution;
        let followed = setup.sampler.follow_cpus(
            |id, _| join.wants(id),
            |sample| {
                order.push(sample.time_ns, Happening::Sample { sample, count: 1 });
            },
        );
        let trouble = followed.as_ref().err().map(ToString::to_string);
        match (followed, &trouble) {
            (Ok(true), _) => {
                tracing::info!(cpus = self.setup.sampler.cpu_count(), "cpus came or went");
                // What one that came did before it was followed, nobody told.
                self.rescan = true;
                // A thread that left on one that has gone may be back elsewhere, or have left unseen.
                self.order.push(Clock::monotonic_ns(), Happening::SwitchesLost);
            }
            // It is tried again each second, and told once.
            (Err(error), trouble) if *trouble != self.cpu_trouble => tracing::warn!("{error}"),
            (Ok(false) | Err(_), _) => {}
        }
        self.cpus_told = self.hears_of_cpus && trouble.is_none();
        self.tell_cpus(trouble);
    }
}
