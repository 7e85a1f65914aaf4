//! A cgroup's own account of its CPU time, and how much of it the samples cover.
//!
//! Readings are cumulative and some seconds apart. CPU time of a window is the difference of the last readings before
//! its two ends, never an estimate; only where a life is cut inside a window (a phase, a new name) is the reading
//! between two others interpolated. Coverage compares samples and CPU time of the same stretch, from reading to
//! reading. Promises: CPU times of adjoining windows add up.

use super::merge::Instance;
use crate::model::{CpuSource, Timestamp, Window};
use crate::store::{Usage, account};

/// A reading is of a moment that it is so near to, in microseconds.
const NEAR_US: i64 = 1_000;

/// The CPU time of an instance over its life.
#[derive(Debug)]
pub struct CpuCurve {
    readings: Vec<Usage>,
    /// When it was zero, for an instance that was seen from its birth.
    birth: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// The account of a stretch of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// CPU time used, in microseconds.
    pub cpu_us: u64,
    /// Where the last reading comes from.
    pub source: CpuSource,
    /// The stretch whose samples can be compared.
    pub compared: Window,
    /// CPU time used in that stretch, in microseconds.
    pub compared_cpu_us: u64,
}

impl CpuCurve {
    /// The curve of `instance`.
    pub fn new(instance: &Instance) -> CpuCurve {
        let mut readings = instance.usage.clone();
        let mut highest = 0;
        for reading in &mut readings {
            // A counter that seems to fall is a clock that was set back; it never fell.
            highest = highest.max(reading.cpu_us);
            reading.cpu_us = highest;
        }
        let birth = instance.info.from_birth.then_some(instance.info.started_at);
        CpuCurve { readings, birth, ended: instance.ended.map(|ended| ended.at) }
    }

    /// The account of the instance as one function, `stay`, within `window`; none without a reading in it.
    pub fn account(&self, stay: Window, window: Window) -> Option<Account> {
        let (from, to) = (stay.from.max(window.from), stay.to.min(window.to));
        let after_cut = self.readings.iter().find(|reading| stay.to < window.to && reading.at >= stay.to);
        let cut_right = after_cut.is_some();
        let last = account::last_before(&self.readings, to).or(after_cut)?;
        let first = self.readings.iter().find(|reading| reading.at >= from)?;
        if !cut_right && last.at < from {
            return None;
        }
        let complete = match last.source {
            CpuSource::Final => true,
            CpuSource::Exit => self.ended.is_some_and(|at| at < window.to),
            CpuSource::Running => false,
        };
        let (end, end_cpu) = match (cut_right, complete) {
            (true, _) => (stay.to, self.interpolated(stay.to)),
            (false, true) => (to, last.cpu_us),
            (false, false) => (last.at.plus_us(1).min(to), last.cpu_us),
        };
        let seen_before = self.birth.is_some_and(|birth| birth <= from)
            || self.readings.first().is_some_and(|reading| reading.at <= from);
        let (begin, begin_cpu) = match (stay.from > window.from, self.birth) {
            (true, _) if seen_before => (stay.from, self.interpolated(stay.from)),
            (_, Some(birth)) if birth >= from => (from, 0),
            _ => (first.at, first.cpu_us),
        };
        Some(Account {
            cpu_us: self.between(Window { from, to }, stay, window),
            source: last.source,
            compared: Window { from: begin, to: end.max(begin) },
            compared_cpu_us: end_cpu.saturating_sub(begin_cpu),
        })
    }

    /// CPU time in microseconds of `part`, a piece of `stay` within `window`: exact readings at the window's ends,
    /// interpolated ones at cuts inside of it.
    pub fn between(&self, part: Window, stay: Window, window: Window) -> u64 {
        let at = |time: Timestamp| {
            let cut_inside = window.from < time && time < window.to && stay.from <= time && time <= stay.to;
            match cut_inside {
                true => self.interpolated(time),
                false => account::cpu_before(&self.readings, self.birth, time),
            }
        };
        at(part.to.min(window.to)).saturating_sub(at(part.from.max(window.from)))
    }

    /// When it was read, in order of time; its birth first, where that was seen.
    pub fn times(&self) -> impl Iterator<Item = Timestamp> {
        self.birth.into_iter().chain(self.readings.iter().map(|reading| reading.at))
    }

    /// Whether it was read at `time`, to a millisecond: so is the account at an exec.
    pub fn is_read_at(&self, time: Timestamp) -> bool {
        let next = self.readings.partition_point(|reading| reading.at < time.plus_us(-NEAR_US));
        self.readings.get(next).is_some_and(|reading| reading.at <= time.plus_us(NEAR_US))
    }

    /// Whether the account goes beyond `time`.
    pub fn known_after(&self, time: Timestamp) -> bool {
        self.readings.last().is_some_and(|reading| reading.at > time)
    }

    fn interpolated(&self, time: Timestamp) -> u64 {
        account::cpu_at(&self.readings, self.birth, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture::{at_s, instance, usage};
    use proptest::prelude::*;

    const ALL: Window = Window::ALL;

    fn curve(from_birth: bool, readings: &[(i64, u64, CpuSource)], ended: Option<i64>) -> CpuCurve {
        let mut made = instance("c1", from_birth, 100);
        made.usage = readings.iter().map(|(at, cpu, source)| usage(*at, *cpu, *source)).collect();
        CpuCurve { ended: ended.map(at_s), ..CpuCurve::new(&made) }
    }

    #[test]
    fn the_account_is_the_cgroups_own() {
        use CpuSource::{Exit, Final, Running};
        // started at 100 s; readings (at s, cpu us, source)
        let running: &[_] = &[(110, 5_000_000, Running), (120, 9_000_000, Running)];
        let window = |from, to| Window { from: at_s(from), to: at_s(to) };
        for (name, birth, readings, ended, asked, cpu_us, compared) in [
            ("from birth", true, running, None, ALL, 9_000_000, (None, Some(120))),
            ("not from birth", false, running, None, ALL, 4_000_000, (Some(110), Some(120))),
            ("final", true, &[(130, 7, Final)][..], Some(130), ALL, 7, (None, None)),
            ("exit and ended", true, &[(130, 7, Exit)][..], Some(131), ALL, 7, (None, None)),
            ("exit of a child", true, &[(130, 7, Exit)][..], None, ALL, 7, (None, Some(130))),
            (
                "window between readings",
                true,
                running,
                None,
                window(105, 125),
                9_000_000,
                (Some(110), Some(120)),
            ),
            ("its begin a reading", true, running, None, window(110, 121), 9_000_000, (Some(110), Some(120))),
            ("its end a reading", true, running, None, window(101, 120), 5_000_000, (Some(110), Some(110))),
        ] {
            let account =
                curve(birth, readings, ended).account(ALL, asked).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(account.cpu_us, cpu_us, "{name}");
            let from = compared.0.map_or(asked.from, at_s);
            let to = compared.1.map_or(asked.to, |s| at_s(s).plus_us(1));
            assert_eq!(account.compared, Window { from, to }, "{name}");
        }
        assert_eq!(curve(true, &[], None).account(ALL, ALL), None);
        assert_eq!(curve(true, running, None).account(ALL, window(111, 119)), None, "no reading in it");
    }

    #[test]
    fn a_cut_inside_of_a_window_is_interpolated() {
        let curve = curve(true, &[(110, 10_000_000, CpuSource::Final)], Some(110));
        let part = Window { from: Timestamp::MIN, to: at_s(103) };
        assert_eq!(curve.between(part, ALL, ALL), 3_000_000);
        let rest = Window { from: at_s(103), to: Timestamp::MAX };
        assert_eq!(curve.between(rest, ALL, ALL), 7_000_000);
        let account = curve.account(rest, ALL).expect("read at its end");
        assert_eq!((account.cpu_us, account.compared_cpu_us), (7_000_000, 7_000_000));
    }

    proptest! {
        #[test]
        fn adjoining_windows_add_up(
            birth: bool,
            readings in proptest::collection::vec((0i64..300, 0u64..1_000_000), 0..9),
            cuts in [0i64..300, 0i64..300, 0i64..300],
        ) {
            let mut made = instance("c1", birth, 100);
            made.usage = readings.iter().map(|(at, cpu)| usage(*at, *cpu, CpuSource::Running)).collect();
            made.usage.sort_by_key(|usage| (usage.at, usage.cpu_us));
            let curve = CpuCurve::new(&made);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let cpu = |a: i64, b: i64| {
                let window = Window { from: at_s(a), to: at_s(b) };
                curve.account(ALL, window).map_or(0, |account| account.cpu_us)
            };
            prop_assert_eq!(cpu(cuts[0], cuts[1]) + cpu(cuts[1], cuts[2]), cpu(cuts[0], cuts[2]));
        }
    }
}
