//! A ring of samples on one CPU: of one event of the whole host, or of events that are scoped by cgroups.

use std::io;
use std::os::fd::BorrowedFd;

use super::event::{PerfError, Sampling, open_owner, open_sampling};
use super::record::{RawSample, Record, parse_sample_by};
use super::ring::Ring;
use super::scoped::Scoped;
use super::told::Told;
use crate::model::CgroupId;

/// A ring of samples.
pub(super) struct SampleRing {
    ring: Ring,
    sampling: Sampling,
    /// The events that write into it, where they are scoped.
    scoped: Option<Scoped>,
    counts_lost: bool,
    /// Lost samples told in records, where the kernel does not count them for us.
    lost_told: u64,
    lost_reported: u64,
    seen: u64,
}

impl SampleRing {
    /// Opens what is sampled on `cpu`, stopped, and maps `bytes` for it.
    pub(super) fn open(cpu: u32, sampling: Sampling, bytes: usize) -> Result<SampleRing, PerfError> {
        let half = u32::try_from(bytes / 2).unwrap_or(u32::MAX);
        let scoped = sampling.layout.scoped;
        let (event, counts_lost) =
            if scoped { (open_owner(cpu, half)?, false) } else { open_sampling(cpu, &sampling, half, None)? };
        let map = |source| PerfError::Map { cpu, bytes, source };
        let ring = Ring::new(event, bytes, sampling.layout).map_err(map)?;
        let scoped = scoped.then(Scoped::default);
        Ok(SampleRing { ring, sampling, scoped, counts_lost, lost_told: 0, lost_reported: 0, seen: 0 })
    }

    /// Whether its samples copy stacks.
    pub(super) fn copies(&self) -> bool {
        self.ring.layout().copies
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }

    /// Starts or stops what writes into it.
    pub(super) fn enable(&self, on: bool) -> io::Result<()> {
        match &self.scoped {
            Some(scoped) => scoped.enable(on),
            None => self.ring.enable(on),
        }
    }

    /// Samples the cgroup of directory `dir` too, at once if `on`. Nothing to do where the whole host is sampled.
    pub(super) fn attach(
        &mut self,
        cpu: u32,
        cgroup: CgroupId,
        dir: BorrowedFd<'_>,
        on: bool,
    ) -> Result<(), PerfError> {
        let Some(scoped) = &mut self.scoped else { return Ok(()) };
        let (event, _) = open_sampling(cpu, &self.sampling, 0, Some(dir))?;
        let failed = |source| PerfError::Other { what: "scope an event by a cgroup", cpu, source };
        scoped.add(cgroup, event, self.ring.fd(), on).map_err(failed)
    }

    /// No more.
    pub(super) fn detach(&mut self, cgroup: CgroupId) {
        if let Some(scoped) = &mut self.scoped {
            scoped.remove(cgroup);
        }
    }

    /// Every sample that `wanted` wants; `told` knows chains that came before.
    pub(super) fn drain(
        &mut self,
        wanted: &impl Fn(CgroupId, u64) -> bool,
        each: &mut impl FnMut(RawSample),
        told: &mut Told,
    ) {
        let SampleRing { ring, scoped, lost_told, .. } = self;
        let layout = ring.layout();
        let cgroup_of = |word: u64| match &*scoped {
            Some(scoped) => scoped.cgroup(word),
            None => Some(CgroupId(word)),
        };
        let wanted = |word, time_ns| cgroup_of(word).is_some_and(|cgroup| wanted(cgroup, time_ns));
        self.seen += ring.drain_samples(wanted, |bytes| {
            match parse_sample_by(bytes, layout, |chain| told.chain(chain)) {
                Some(Record::Sample(sample)) => {
                    if let Some(cgroup) = cgroup_of(sample.cgroup.0) {
                        each(RawSample { cgroup, ..sample });
                    }
                }
                Some(Record::Lost(count)) => *lost_told = lost_told.saturating_add(count),
                Some(Record::Throttled | Record::Other) | None => {}
            }
        });
        if let Some(scoped) = scoped {
            scoped.settle();
        }
    }

    /// Samples that were read since it was asked last.
    pub(super) fn take_seen(&mut self) -> u64 {
        std::mem::take(&mut self.seen)
    }

    /// Samples lost since it was asked last.
    pub(super) fn take_lost(&mut self, ask: bool) -> u64 {
        let counted = if ask && self.counts_lost { self.ring.lost() } else { None };
        // A LOST record comes with the next sample that fits; the kernel's own count is never behind it.
        let total = counted.unwrap_or(0).max(self.lost_told);
        let lost = total.saturating_sub(self.lost_reported);
        self.lost_reported = self.lost_reported.max(total);
        lost
    }
}
