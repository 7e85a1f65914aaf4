//! How long unwind tables are read for one container.
//!
//! The tables of all files stay within a budget; a program with more of them than that has them read again and again,
//! by the thread that must not wait. So reading has an allowance for each instance. Beyond it stacks are the kernel's
//! chains. Pure: the caller tells the time.

use crate::model::{IdMap, InstanceNo, tables};

/// Nanoseconds of reading at once.
const AT_ONCE_NS: u64 = 4_000_000_000;
/// What part of the time that passes is added: 1 in 100.
const PART: u64 = 100;
/// Instances of which it is remembered what they took.
const MAX_INSTANCES: usize = 4_096;

/// Allowances of those that took some.
#[derive(Debug, Default)]
pub(super) struct Readings {
    taken: IdMap<InstanceNo, Taken>,
    refused: u64,
}

#[derive(Debug)]
struct Taken {
    ns: u64,
    at_ns: u64,
}

impl Taken {
    fn left_of_it_ns(&self, now_ns: u64) -> u64 {
        self.ns.saturating_sub(now_ns.saturating_sub(self.at_ns) / PART)
    }
}

impl Readings {
    /// Whether tables may be read for `no` at `now_ns`, a time that may go back a little.
    pub(super) fn may(&mut self, no: InstanceNo, now_ns: u64) -> bool {
        let may = self.taken.get(&no).is_none_or(|taken| taken.left_of_it_ns(now_ns) < AT_ONCE_NS);
        self.refused += u64::from(!may);
        may
    }

    /// Reading tables for `no` took so long.
    pub(super) fn took(&mut self, no: InstanceNo, ns: u64, now_ns: u64) {
        if self.taken.len() >= MAX_INSTANCES && !self.taken.contains_key(&no) {
            let most = |taken: &Taken| taken.left_of_it_ns(now_ns) >= AT_ONCE_NS / 2;
            self.taken.retain(|_, taken| most(taken));
            if self.taken.len() >= MAX_INSTANCES {
                self.taken.clear();
            }
        }
        let taken = self.taken.entry(no).or_insert(Taken { ns: 0, at_ns: now_ns });
        let before = taken.left_of_it_ns(now_ns);
        *taken = Taken { ns: before.saturating_add(ns), at_ns: taken.at_ns.max(now_ns) };
    }

    /// Forgets who has all of it again.
    pub(super) fn age(&mut self, now_ns: u64) {
        self.taken.retain(|_, taken| taken.left_of_it_ns(now_ns) > 0);
        tables::keep_little(&mut self.taken);
    }

    /// Samples that were not walked since this was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_read_for_long_reads_a_hundredth_of_the_time_and_others_as_they_like() {
        let (mut readings, hostile, other) = (Readings::default(), InstanceNo(1), InstanceNo(2));
        let (mut read_ns, mut now_ns) = (0, 1);
        for _ in 0..100_000 {
            now_ns += 1_000_000;
            if readings.may(hostile, now_ns) {
                readings.took(hostile, 10_000_000, now_ns);
                read_ns += 10_000_000;
            }
            assert!(readings.may(other, now_ns));
        }
        // Four seconds, and one of a hundred.
        assert!((4_990_000_000..=5_010_000_000).contains(&read_ns), "{read_ns}");
        assert_eq!(readings.take_refused(), 100_000 - read_ns / 10_000_000);
        readings.age(now_ns + 399_000_000_000);
        assert_eq!(readings.taken.len(), 1, "it has not all of it again");
        readings.age(now_ns + 402_000_000_000);
        assert!(readings.taken.is_empty());
        for no in 0..3 * MAX_INSTANCES as u32 {
            readings.took(InstanceNo(no), 1, now_ns);
        }
        assert!(readings.taken.len() <= MAX_INSTANCES);
    }
}
