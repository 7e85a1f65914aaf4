//! Sizes of rings and copies within a budget, and the rate.

use crate::model::SampledEvent;

/// Sizes and rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// Samples a second and busy CPU.
    pub hz: u32,
    /// Data of a sample ring in bytes. 512 KiB lose nothing at 4999 Hz with a sweep each 100 ms.
    pub sample_bytes: usize,
    /// Data of a side-band ring in bytes.
    pub side_band_bytes: usize,
    /// Data of a ring of new cgroups in bytes. A record is some 150.
    pub cgroup_bytes: usize,
    /// Samples that copy their stack, where there are such.
    pub copies: Option<CopyOptions>,
    /// What makes a sample.
    pub event: SampledEvent,
    /// Whether events are scoped by cgroups, instead of one for the whole host.
    pub scoped: bool,
}

/// Sizes of copied stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOptions {
    /// How much of a stack is copied, in bytes.
    pub stack_bytes: u32,
    /// Data of a ring of such samples in bytes.
    pub ring_bytes: usize,
}

/// Data of a ring of switches in bytes: a tenth of a second of the most that is watched, two of a usual function's.
pub(super) const SWITCH_BYTES: usize = 1 << 20;
/// How much of a stack is copied at a switch, in bytes: where threads wait, few frames are large.
pub(super) const SWITCH_COPY_BYTES: u32 = 8 << 10;

/// Bytes of locked memory that a ring of switches takes.
pub(super) fn switch_bytes() -> usize {
    SWITCH_BYTES + rustix::param::page_size()
}

/// Largest ring of each kind, but for samples at high rates.
const SAMPLE_MAX: usize = 512 << 10;
/// Above this rate samples get twice as much where the budget has it: the kernel wakes a reader each time that half of a ring
/// was written, though a tick has read it meanwhile; at 997 Hz and 200 bytes that would be nearly as often as there are ticks.
const USUAL_HZ: u32 = 499;
const COPIES_MAX: usize = 8 << 20;
/// A record beside its copy: chain, registers and the rest.
const RECORD_BYTES: usize = 1_280;
/// Least of a stack that is worth a copy; below it, the rate gives way.
const LEAST_COPY: usize = 4_096;
/// A ring of copies holds a fifth of a second at least: its reader is woken at its half.
const RINGS_A_SECOND: usize = 5;

impl RingOptions {
    /// Sizes within `budget_bytes` for all rings of `cpus` CPUs together, at most 512, 256 and 32 KiB each, 1 MiB for
    /// samples above 499 Hz, and 8 MiB for copies of `copy_bytes`, if any are wanted. Where the budget is too small for
    /// them, less is copied, and below 4 KiB the rate is lower: compare what was asked for.
    pub fn within(budget_bytes: usize, cpus: usize, hz: u32, copy_bytes: Option<u32>) -> RingOptions {
        let cpu_budget = budget_bytes / cpus.max(1);
        let (budget, copies_budget) =
            if copy_bytes.is_some() { (cpu_budget / 4, cpu_budget / 2) } else { (cpu_budget, 0) };
        // Of 25 parts of a CPU's share, samples get 16, the side-band 8 and cgroups 1, each a power of two of pages.
        let share = (budget / 25 * 8).max(4096);
        let side_band_bytes = (1usize << share.ilog2()).min(SAMPLE_MAX / 2);
        let cgroup_bytes = (side_band_bytes / 8).max(4096);
        let mut options = RingOptions {
            hz,
            sample_bytes: side_band_bytes * 2,
            side_band_bytes,
            cgroup_bytes,
            copies: None,
            event: SampledEvent::CpuClock,
            scoped: false,
        };
        if let Some(copy_bytes) = copy_bytes {
            let ring_bytes = (1usize << copies_budget.max(16 << 10).ilog2()).min(COPIES_MAX);
            let a_second = ring_bytes * RINGS_A_SECOND;
            let most = (a_second / usize::try_from(hz.max(1)).unwrap_or(1)).saturating_sub(RECORD_BYTES);
            let stack_bytes =
                most.max(LEAST_COPY).min(usize::try_from(copy_bytes).unwrap_or(LEAST_COPY)) & !7;
            let most_hz = u32::try_from(a_second / (stack_bytes + RECORD_BYTES)).unwrap_or(u32::MAX);
            options.hz = hz.min(most_hz).max(1);
            let stack_bytes = u32::try_from(stack_bytes).unwrap_or(copy_bytes);
            options.copies = Some(CopyOptions { stack_bytes, ring_bytes });
        }
        if options.hz > USUAL_HZ && options.cpu_bytes() + options.sample_bytes <= cpu_budget {
            options.sample_bytes *= 2;
        }
        options
    }

    /// Bytes of locked memory that the rings of one CPU take.
    pub(super) fn cpu_bytes(&self) -> usize {
        let copies = self.copies.map_or(0, |copies| copies.ring_bytes);
        let pages = if self.copies.is_some() { 4 } else { 3 } * rustix::param::page_size();
        self.sample_bytes + self.side_band_bytes + self.cgroup_bytes + copies + pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_stay_within_their_budget() {
        for (budget, cpus, hz, expected) in [
            (64 << 20, 2, 199, (512 << 10, 256 << 10, 32 << 10)),
            (64 << 20, 2, 499, (512 << 10, 256 << 10, 32 << 10)),
            (64 << 20, 2, 997, (1 << 20, 256 << 10, 32 << 10)),
            (64 << 20, 128, 199, (256 << 10, 128 << 10, 16 << 10)),
            (64 << 20, 128, 997, (256 << 10, 128 << 10, 16 << 10)),
            (1 << 20, 1024, 199, (8192, 4096, 4096)),
        ] {
            let options = RingOptions::within(budget, cpus, hz, None);
            let RingOptions { sample_bytes, side_band_bytes, cgroup_bytes, .. } = options;
            assert_eq!((sample_bytes, side_band_bytes, cgroup_bytes), expected, "{cpus} cpus, {hz} Hz");
            assert!(options.cpu_bytes() <= budget / cpus || budget < 4 << 20, "{cpus} cpus, {hz} Hz");
        }
    }

    #[test]
    fn copies_shrink_first_and_then_the_rate() {
        for (cpus, hz, stack_bytes, ring_bytes, got_hz) in [
            (2, 199, 32 << 10, 8 << 20, 199),
            (2, 997, 32 << 10, 8 << 20, 997),
            (16, 199, 32 << 10, 2 << 20, 199),
            (64, 199, 11_888, 512 << 10, 199),
            (256, 997, 4_096, 128 << 10, 121),
        ] {
            let options = RingOptions::within(64 << 20, cpus, hz, Some(32 << 10));
            let expected = Some(CopyOptions { stack_bytes, ring_bytes });
            assert_eq!((options.copies, options.hz), (expected, got_hz), "{cpus} cpus");
            assert!(options.cpu_bytes() * cpus <= 64 << 20, "{cpus} cpus");
        }
    }
}
