//! The sampler: two rings on every online CPU, armed and disarmed as a whole.
//!
//! The side-band ring always runs: what happens to processes and cgroups. The sample ring runs while it is armed, and
//! hands out only samples of cgroups somebody wants. CPUs that come are opened, CPUs that go are drained and closed.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::time::Timespec;

use super::cpus;
use super::event::{PerfError, open_sampling, open_side_band};
use super::record::{RawSample, Record, SideBand, Stamped, parse_sample, parse_side_band};
use super::ring::Ring;
use crate::model::{CgroupId, CpuStats};

/// Sizes and rate.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// Samples a second and busy CPU.
    pub hz: u32,
    /// Data of a sample ring in bytes. 512 KiB lose nothing at 4999 Hz with a sweep each 100 ms.
    pub sample_bytes: usize,
    /// Data of a side-band ring in bytes.
    pub side_band_bytes: usize,
}

impl RingOptions {
    /// Sizes within `budget_bytes` for all rings of `cpus` CPUs together, at most 512 KiB and 256 KiB each.
    pub fn within(budget_bytes: usize, cpus: usize, hz: u32) -> RingOptions {
        const SAMPLE_MAX: usize = 512 << 10;
        // The largest power of two that fits a third of a CPU's share; samples get two thirds.
        let third = (budget_bytes / cpus.max(1) / 3).max(4096);
        let side_band_bytes = (1usize << third.ilog2()).min(SAMPLE_MAX / 2);
        RingOptions { hz, sample_bytes: side_band_bytes * 2, side_band_bytes }
    }
}

/// What a wait found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether the side-band has something.
    pub side_band: bool,
    /// Whether a sample ring is half full.
    pub samples: bool,
    /// Whether the descriptor of [`Sampler::watch`] is readable.
    pub watched: bool,
}

/// Marks the descriptor that is not a ring's.
const WATCHED: u64 = u64::MAX;

/// The open events of this host.
pub struct Sampler {
    cpus: BTreeMap<u32, CpuRings>,
    /// Statistics of CPUs that went away before they were asked for.
    gone: Vec<CpuStats>,
    /// What their side-band rings still held.
    left: Vec<Stamped<SideBand>>,
    epoll: OwnedFd,
    options: RingOptions,
    armed: bool,
    /// Whether samples were taken at any time since the statistics were asked for.
    was_armed: bool,
}

struct CpuRings {
    side_band: Ring,
    samples: Ring,
    counts_lost: bool,
    /// Lost samples told in records, where the kernel does not count them for us.
    lost_told: u64,
    lost_reported: u64,
    seen: u64,
}

impl Sampler {
    /// Opens both events on every online CPU; samples are not taken before [`Sampler::arm`].
    ///
    /// # Errors
    /// Says which CPU, what was refused and what would allow it.
    pub fn open(options: RingOptions) -> Result<Sampler, PerfError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| PerfError::Other {
            what: "create an epoll",
            cpu: 0,
            source: e.into(),
        })?;
        let mut sampler = Sampler {
            cpus: BTreeMap::new(),
            gone: Vec::new(),
            left: Vec::new(),
            epoll,
            options,
            armed: false,
            was_armed: false,
        };
        for cpu in cpus::online().map_err(PerfError::Cpus)? {
            sampler.open_cpu(cpu)?;
        }
        Ok(sampler)
    }

    /// CPUs that are open.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Bytes of locked memory that the rings take.
    pub fn ring_bytes(&self) -> usize {
        let pages = 2 * rustix::param::page_size();
        self.cpus.len() * (self.options.sample_bytes + self.options.side_band_bytes + pages)
    }

    /// Whether samples are taken.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts or stops sampling on all CPUs; 2-38 us a CPU.
    ///
    /// # Errors
    /// The kernel's, for the first CPU that refused; the others are switched all the same.
    pub fn arm(&mut self, on: bool) -> Result<(), PerfError> {
        self.armed = on;
        self.was_armed |= on;
        let mut result = Ok(());
        for (cpu, rings) in &self.cpus {
            if let Err(source) = rings.samples.enable(on) {
                result = Err(PerfError::Other { what: "switch the sampling event", cpu: *cpu, source });
            }
        }
        result
    }

    /// Waits until there is something to drain, `fd` of [`Sampler::watch`] is readable, or `timeout_ns` have passed.
    ///
    /// The kernel tells of a ring once: polling this sampler's descriptor from another poll would swallow that.
    pub fn wait(&self, timeout_ns: u64) -> Ready {
        let mut events = Vec::with_capacity(2 * self.cpus.len() + 2);
        let mut ready = Ready::default();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(timeout_ns % 1_000_000_000).unwrap_or(0),
        };
        // Interrupted or timed out, the caller looks at everything anyway.
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).is_ok() {
            for event in &events {
                match event.data.u64() {
                    WATCHED => ready.watched = true,
                    data if data & 1 == 0 => ready.side_band = true,
                    _ => ready.samples = true,
                }
            }
        }
        ready
    }

    /// Lets [`Sampler::wait`] return when `fd` is readable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&self, fd: BorrowedFd<'_>) -> Result<(), PerfError> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(WATCHED), epoll::EventFlags::IN)
            .map_err(|e| PerfError::Other { what: "watch a descriptor", cpu: 0, source: e.into() })
    }

    /// Everything the side-band rings hold, added to `out` unordered.
    pub fn drain_side_band(&mut self, out: &mut Vec<Stamped<SideBand>>) {
        out.append(&mut self.left);
        for rings in self.cpus.values_mut() {
            rings.side_band.drain(|bytes| out.extend(parse_side_band(bytes)));
        }
    }

    /// Every sample of a cgroup that `wanted` wants, unordered.
    pub fn drain_samples(&mut self, wanted: impl Fn(CgroupId) -> bool, mut each: impl FnMut(RawSample)) {
        for rings in self.cpus.values_mut() {
            rings.drain_samples(&wanted, &mut each);
        }
    }

    /// Samples seen and lost on each CPU since the last call.
    pub fn take_stats(&mut self) -> Vec<CpuStats> {
        let mut stats = std::mem::take(&mut self.gone);
        // Asking for the kernel's count interrupts the CPU: only where samples were taken at all.
        let ask = std::mem::replace(&mut self.was_armed, self.armed);
        stats.extend(self.cpus.iter_mut().map(|(cpu, rings)| rings.take_stats(*cpu, ask)));
        stats
    }

    /// Opens CPUs that have come and closes those that have gone, draining them first. True if anything changed.
    ///
    /// # Errors
    /// The list cannot be read, or a new CPU refuses; the others go on.
    pub fn follow_cpus(
        &mut self,
        wanted: impl Fn(CgroupId) -> bool,
        mut each: impl FnMut(RawSample),
    ) -> Result<bool, PerfError> {
        let online = cpus::online().map_err(PerfError::Cpus)?;
        if online.iter().eq(self.cpus.keys()) {
            return Ok(false);
        }
        let gone: Vec<u32> = self.cpus.keys().filter(|cpu| !online.contains(cpu)).copied().collect();
        for cpu in gone {
            if let Some(mut rings) = self.cpus.remove(&cpu) {
                rings.drain_samples(&wanted, &mut each);
                rings.side_band.drain(|bytes| self.left.extend(parse_side_band(bytes)));
                self.gone.push(rings.take_stats(cpu, true));
            }
        }
        let mut result = Ok(true);
        for cpu in online {
            if !self.cpus.contains_key(&cpu)
                && let Err(error) = self.open_cpu(cpu)
            {
                result = Err(error);
            }
        }
        result
    }

    fn open_cpu(&mut self, cpu: u32) -> Result<(), PerfError> {
        let RingOptions { hz, sample_bytes, side_band_bytes } = self.options;
        let map =
            |event, bytes| Ring::new(event, bytes).map_err(|source| PerfError::Map { cpu, bytes, source });
        let side_band = map(open_side_band(cpu)?, side_band_bytes)?;
        let half = u32::try_from(sample_bytes / 2).unwrap_or(u32::MAX);
        let (event, counts_lost) = open_sampling(cpu, hz, half)?;
        let samples = map(event, sample_bytes)?;
        for (ring, is_samples) in [(&side_band, 0), (&samples, 1)] {
            let data = epoll::EventData::new_u64(u64::from(cpu) << 1 | is_samples);
            epoll::add(&self.epoll, ring.fd(), data, epoll::EventFlags::IN)
                .map_err(|e| PerfError::Other { what: "watch a ring", cpu, source: e.into() })?;
        }
        if self.armed {
            samples.enable(true).map_err(|source| PerfError::Other {
                what: "switch the sampling event",
                cpu,
                source,
            })?;
        }
        let rings = CpuRings { side_band, samples, counts_lost, lost_told: 0, lost_reported: 0, seen: 0 };
        self.cpus.insert(cpu, rings);
        Ok(())
    }
}

impl CpuRings {
    fn drain_samples(&mut self, wanted: &impl Fn(CgroupId) -> bool, each: &mut impl FnMut(RawSample)) {
        let told = &mut self.lost_told;
        self.seen += self.samples.drain_samples(wanted, |bytes| match parse_sample(bytes) {
            Some(Record::Sample(sample)) => each(sample),
            Some(Record::Lost(count)) => *told = told.saturating_add(count),
            Some(Record::Throttled | Record::Other) | None => {}
        });
    }

    fn take_stats(&mut self, cpu: u32, ask: bool) -> CpuStats {
        let counted = if ask && self.counts_lost { self.samples.lost() } else { None };
        // A LOST record comes with the next sample that fits; the kernel's own count is never behind it.
        let total = counted.unwrap_or(0).max(self.lost_told);
        let lost = total.saturating_sub(self.lost_reported);
        self.lost_reported = self.lost_reported.max(total);
        CpuStats { cpu, samples: std::mem::take(&mut self.seen), lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_stay_within_their_budget() {
        for (budget, cpus, expected) in [
            (64 << 20, 2, (512 << 10, 256 << 10)),
            (64 << 20, 128, (256 << 10, 128 << 10)),
            (1 << 20, 1024, (8192, 4096)),
        ] {
            let options = RingOptions::within(budget, cpus, 199);
            assert_eq!((options.sample_bytes, options.side_band_bytes), expected, "{cpus} cpus");
        }
    }
}
