//! The sampler: three rings on every online CPU, armed and disarmed as a whole.
//!
//! The ring of new cgroups always runs and always wakes. The side-band ring, what happens to processes, always runs,
//! and wakes while the sampler is armed: what went on before the first container is there to be read when it comes,
//! and costs a host without containers nothing. The sample ring runs while it is armed, and hands out only samples of
//! cgroups somebody wants. CPUs that come are opened, CPUs that go are drained and closed.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::time::Timespec;

use super::cpus::{self, Online};
use super::event::{PerfError, open_cgroups, open_sampling, open_side_band};
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
    /// Data of a ring of new cgroups in bytes. A record is some 150.
    pub cgroup_bytes: usize,
}

impl RingOptions {
    /// Sizes within `budget_bytes` for all rings of `cpus` CPUs together, at most 512, 256 and 32 KiB each.
    pub fn within(budget_bytes: usize, cpus: usize, hz: u32) -> RingOptions {
        const SAMPLE_MAX: usize = 512 << 10;
        // Of 25 parts of a CPU's share, samples get 16, the side-band 8 and cgroups 1, each a power of two of pages.
        let share = (budget_bytes / cpus.max(1) / 25 * 8).max(4096);
        let side_band_bytes = (1usize << share.ilog2()).min(SAMPLE_MAX / 2);
        let cgroup_bytes = (side_band_bytes / 8).max(4096);
        RingOptions { hz, sample_bytes: side_band_bytes * 2, side_band_bytes, cgroup_bytes }
    }
}

/// What a wait found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether the side-band has something: a new cgroup or, while it is armed, anything of a process.
    pub side_band: bool,
    /// Whether a sample ring is half full.
    pub samples: bool,
    /// Whether the descriptor of [`Sampler::watch`] is readable.
    pub watched: bool,
}

/// Marks the descriptor that is not a ring's.
const WATCHED: u64 = 0;
/// Mark a ring's kind.
const SIDE_BAND: u64 = 1;
const SAMPLES: u64 = 2;

/// The open events of this host.
pub struct Sampler {
    cpus: BTreeMap<u32, CpuRings>,
    online: Online,
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
    /// See [`cpus::coming`].
    coming: u64,
    cgroups: Ring,
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
        let online = Online::open().map_err(PerfError::Cpus)?;
        let cpus = online.read().map_err(PerfError::Cpus)?;
        let mut sampler = Sampler {
            cpus: BTreeMap::new(),
            online,
            gone: Vec::new(),
            left: Vec::new(),
            epoll,
            options,
            armed: false,
            was_armed: false,
        };
        for cpu in cpus {
            match sampler.open_cpu(cpu) {
                // Should it come again, it is followed.
                Ok(()) | Err(PerfError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sampler)
    }

    /// CPUs that are open.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Bytes of locked memory that the rings take.
    pub fn ring_bytes(&self) -> usize {
        let RingOptions { sample_bytes, side_band_bytes, cgroup_bytes, .. } = self.options;
        let pages = 3 * rustix::param::page_size();
        self.cpus.len() * (sample_bytes + side_band_bytes + cgroup_bytes + pages)
    }

    /// Whether samples are taken.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts or stops sampling, and being woken by the side-band, on all CPUs; 2-38 us a CPU. What the side-band holds
    /// already wakes nobody (the kernel tells once, and has told the epoll as it was added): drain it after arming.
    ///
    /// # Errors
    /// The kernel's, for the first CPU that refused; the others are switched all the same.
    pub fn arm(&mut self, on: bool) -> Result<(), PerfError> {
        let was_on = std::mem::replace(&mut self.armed, on);
        self.was_armed |= on;
        let mut result = Ok(());
        for (cpu, rings) in &self.cpus {
            if let Err(error) = switch(&self.epoll, *cpu, rings, on, on != was_on) {
                result = Err(error);
            }
        }
        result
    }

    /// Waits until there is something to drain, `fd` of [`Sampler::watch`] is readable, or `timeout_ns` have passed.
    ///
    /// The kernel tells of a ring once: polling this sampler's descriptor from another poll would swallow that.
    pub fn wait(&self, timeout_ns: u64) -> Ready {
        let mut events = Vec::with_capacity(3 * self.cpus.len() + 2);
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
                    SIDE_BAND => ready.side_band = true,
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

    /// Everything the rings of the side-band and of new cgroups hold, added to `out` unordered. Returns how full the
    /// fullest side-band ring was, in percent.
    pub fn drain_side_band(&mut self, out: &mut Vec<Stamped<SideBand>>) -> u64 {
        out.append(&mut self.left);
        let fullest = self.cpus.values_mut().map(|rings| rings.drain_processes(out)).max().unwrap_or(0);
        // Behind the processes: whatever one of them did in a cgroup, that was made before.
        for rings in self.cpus.values_mut() {
            rings.cgroups.drain(|bytes| out.extend(parse_side_band(bytes)));
        }
        fullest * 100 / self.options.side_band_bytes.max(1) as u64
    }

    /// Every sample that `wanted` wants, by its cgroup and its time (monotonic clock, nanoseconds); unordered.
    pub fn drain_samples(&mut self, wanted: impl Fn(CgroupId, u64) -> bool, mut each: impl FnMut(RawSample)) {
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
        wanted: impl Fn(CgroupId, u64) -> bool,
        mut each: impl FnMut(RawSample),
    ) -> Result<bool, PerfError> {
        let online = self.online.read().map_err(PerfError::Cpus)?;
        // The events of a CPU that went and came again, as all but the first do while a machine sleeps, are dead.
        let stays =
            |(cpu, rings): (&u32, &CpuRings)| online.contains(cpu) && cpus::coming(*cpu) == rings.coming;
        let gone: Vec<u32> = self.cpus.iter().filter(|open| !stays(*open)).map(|(cpu, _)| *cpu).collect();
        if gone.is_empty() && online.len() == self.cpus.len() {
            return Ok(false);
        }
        for cpu in gone {
            if let Some(mut rings) = self.cpus.remove(&cpu) {
                rings.drain_samples(&wanted, &mut each);
                rings.drain_processes(&mut self.left);
                rings.cgroups.drain(|bytes| self.left.extend(parse_side_band(bytes)));
                self.gone.push(rings.take_stats(cpu, true));
            }
        }
        let mut result = Ok(true);
        for cpu in online {
            if !self.cpus.contains_key(&cpu)
                && let Err(error) = self.open_cpu(cpu)
                && !matches!(error, PerfError::Gone { .. })
            {
                result = Err(error);
            }
        }
        result
    }

    fn open_cpu(&mut self, cpu: u32) -> Result<(), PerfError> {
        let RingOptions { hz, sample_bytes, side_band_bytes, cgroup_bytes } = self.options;
        // Before the events: one that goes meanwhile is opened again.
        let coming = cpus::coming(cpu);
        let map =
            |event, bytes| Ring::new(event, bytes).map_err(|source| PerfError::Map { cpu, bytes, source });
        let cgroups = map(open_cgroups(cpu)?, cgroup_bytes)?;
        let side_band = map(open_side_band(cpu)?, side_band_bytes)?;
        let half = u32::try_from(sample_bytes / 2).unwrap_or(u32::MAX);
        let (event, counts_lost) = open_sampling(cpu, hz, half)?;
        let samples = map(event, sample_bytes)?;
        hear(&self.epoll, cpu, &cgroups, SIDE_BAND)?;
        hear(&self.epoll, cpu, &samples, SAMPLES)?;
        let rings = CpuRings {
            coming,
            cgroups,
            side_band,
            samples,
            counts_lost,
            lost_told: 0,
            lost_reported: 0,
            seen: 0,
        };
        if self.armed {
            switch(&self.epoll, cpu, &rings, true, true)?;
        }
        self.cpus.insert(cpu, rings);
        Ok(())
    }
}

fn hear(epoll: &OwnedFd, cpu: u32, ring: &Ring, kind: u64) -> Result<(), PerfError> {
    epoll::add(epoll, ring.fd(), epoll::EventData::new_u64(kind), epoll::EventFlags::IN)
        .map_err(|e| PerfError::Other { what: "watch a ring", cpu, source: e.into() })
}

/// Starts or stops sampling on one CPU; `changes` where the side-band has to be heard, or not, from now on.
fn switch(epoll: &OwnedFd, cpu: u32, rings: &CpuRings, on: bool, changes: bool) -> Result<(), PerfError> {
    let heard = match (changes, on) {
        (true, true) => hear(epoll, cpu, &rings.side_band, SIDE_BAND),
        (true, false) => epoll::delete(epoll, rings.side_band.fd()).map_err(|e| PerfError::Other {
            what: "leave a ring",
            cpu,
            source: e.into(),
        }),
        (false, _) => Ok(()),
    };
    let what = "switch the sampling event";
    rings.samples.enable(on).map_err(|source| PerfError::Other { what, cpu, source }).and(heard)
}

impl CpuRings {
    fn drain_processes(&mut self, out: &mut Vec<Stamped<SideBand>>) -> u64 {
        self.side_band.drain(|bytes| out.extend(parse_side_band(bytes)))
    }

    fn drain_samples(&mut self, wanted: &impl Fn(CgroupId, u64) -> bool, each: &mut impl FnMut(RawSample)) {
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
            (64 << 20, 2, (512 << 10, 256 << 10, 32 << 10)),
            (64 << 20, 128, (256 << 10, 128 << 10, 16 << 10)),
            (1 << 20, 1024, (8192, 4096, 4096)),
        ] {
            let RingOptions { sample_bytes, side_band_bytes, cgroup_bytes, .. } =
                RingOptions::within(budget, cpus, 199);
            assert_eq!((sample_bytes, side_band_bytes, cgroup_bytes), expected, "{cpus} cpus");
        }
    }
}
