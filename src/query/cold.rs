//! Cold starts: how each instance began, how long that took and what it cost.
//!
//! A cold start is an instance that was watched from birth and began in the window. It is ready when its platform
//! says so; where none does, its first sample after the exec tells the latest moment at which its code ran. Not here:
//! which frames cost at a cold start, see [`super::diff`] of the cold phase against the warm one.

use std::collections::HashMap;

use super::groups::each_sample;
use super::instances::{PhaseRow, name_of, phases};
use super::merge::Instance;
use super::phases::{Phase, ready_at};
use super::selector::FunctionId;
use super::view::{Life, Selection, Stay, View};
use crate::fold::Weight;
use crate::model::{Timestamp, Window};

/// An instance's start.
#[derive(Debug, Clone, PartialEq)]
pub struct ColdStart {
    /// Its unique key.
    pub key: String,
    /// The platform's own name of it.
    pub instance_name: Option<String>,
    /// Which function.
    pub id: FunctionId,
    /// Label of the host.
    pub node: String,
    /// When its cgroup was made.
    pub started_at: Timestamp,
    /// The function's own exec.
    pub exec_at: Option<Timestamp>,
    /// When its platform first said that it answers.
    pub ready_at: Option<Timestamp>,
    /// From the start to the exec, in microseconds.
    pub init_us: Option<i64>,
    /// From the exec until it was ready, in microseconds.
    pub ready_us: Option<i64>,
    /// From the exec to the first sample after it, in microseconds.
    pub first_sample_us: Option<i64>,
    /// From the start until it was ready, or to that first sample, in microseconds.
    pub total_us: Option<i64>,
    /// CPU time before the exec, in microseconds: that of [`ColdStart::phases`]; without an account the samples are the
    /// measure.
    pub init_cpu_us: Option<u64>,
    /// CPU time of the cold phase, in microseconds, likewise.
    pub cold_cpu_us: Option<u64>,
    /// The phases the window shows, in order of time.
    pub phases: Vec<PhaseRow>,
}

/// What is said of many values: nearest-rank percentiles, so each is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Half are no larger.
    pub median: i64,
    /// 95 of 100 are no larger.
    pub p95: i64,
    /// None is larger.
    pub max: i64,
}

/// All cold starts together; in microseconds, none where none of them tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColdSummary {
    /// How many.
    pub starts: u64,
    /// From the start to the exec.
    pub init: Option<Spread>,
    /// From the exec until it was ready.
    pub ready: Option<Spread>,
    /// From the exec to the first sample.
    pub first_sample: Option<Spread>,
    /// From the start until it was ready, or to the first sample.
    pub total: Option<Spread>,
    /// CPU time before the exec.
    pub init_cpu: Option<Spread>,
    /// CPU time of the cold phase.
    pub cold_cpu: Option<Spread>,
}

/// Whether `stay` of `instance` begins with a cold start that `window` shows. Where no exec was seen the first sample
/// tells of the start, if the window reaches back to it.
pub(super) fn is_cold_start(window: Window, instance: &Instance, stay: &Stay) -> bool {
    let first = stay.tally.first.filter(|_| window.contains(instance.info.started_at));
    let start = instance.exec_at.or(first).filter(|time| window.contains(*time));
    instance.info.from_birth && start.is_some_and(|time| stay.window.contains(time))
}

/// The cold starts of `selection`, those that took longest first.
pub fn cold_starts(view: &View, selection: &Selection) -> Vec<ColdStart> {
    let mut by_phase: HashMap<(u32, Phase), Weight> = HashMap::new();
    each_sample(view, selection, |instance, _, phase, weight| {
        by_phase.entry((instance, phase)).or_default().add(weight);
    });
    let starts = view.stays(selection).filter(|(_, instance, _, stay)| {
        let begun = instance.exec_at.is_some() || stay.tally.first.is_some();
        begun && is_cold_start(view.window(), instance, stay)
    });
    let mut rows: Vec<ColdStart> = starts
        .filter_map(|(at, instance, life, stay)| {
            let number = u32::try_from(at).ok()?;
            let weight = |phase| by_phase.get(&(number, phase)).copied().unwrap_or_default();
            let id = view.functions.get(stay.function as usize)?.clone();
            Some(row(view.window(), id, (instance, life, stay), weight))
        })
        .collect();
    rows.sort_by(|a, b| b.total_us.cmp(&a.total_us).then_with(|| a.key.cmp(&b.key)));
    rows
}

fn row(
    window: Window,
    id: FunctionId,
    (instance, life, stay): (&Instance, &Life, &Stay),
    weight: impl Fn(Phase) -> Weight,
) -> ColdStart {
    let started = instance.info.started_at;
    let ready_at = ready_at(instance);
    let after_exec = |at: Option<Timestamp>| Some(at?.since_us(instance.exec_at?));
    let running = ready_at.or(stay.tally.first_after_exec).or(instance.exec_at).or(stay.tally.first);
    let rows = phases(window, instance, life, stay);
    let cpu_us = |phase: Phase| {
        if stay.account.is_some() {
            let own = rows.iter().filter(|row| row.phase == phase).map(|row| row.cpu_us);
            return own.reduce(|sum, cpu_us| Some(sum?.saturating_add(cpu_us?))).flatten();
        }
        let of_phase = weight(phase);
        (of_phase.samples > 0).then_some(of_phase.time_ns / 1_000)
    };
    ColdStart {
        key: instance.info.key.to_string(),
        instance_name: name_of(instance, stay),
        id,
        node: instance.node.clone(),
        started_at: started,
        exec_at: instance.exec_at,
        ready_at,
        init_us: instance.exec_at.map(|exec| exec.since_us(started)),
        ready_us: after_exec(ready_at),
        first_sample_us: after_exec(stay.tally.first_after_exec),
        total_us: running.map(|at| at.since_us(started)),
        init_cpu_us: cpu_us(Phase::RuntimeInit),
        cold_cpu_us: cpu_us(Phase::Cold),
        phases: rows,
    }
}

/// What `rows` have in common.
pub fn summary(rows: &[ColdStart]) -> ColdSummary {
    let signed = |cpu_us: Option<u64>| cpu_us.map(|us| i64::try_from(us).unwrap_or(i64::MAX));
    ColdSummary {
        starts: rows.len() as u64,
        init: Spread::of(rows.iter().filter_map(|row| row.init_us)),
        ready: Spread::of(rows.iter().filter_map(|row| row.ready_us)),
        first_sample: Spread::of(rows.iter().filter_map(|row| row.first_sample_us)),
        total: Spread::of(rows.iter().filter_map(|row| row.total_us)),
        init_cpu: Spread::of(rows.iter().filter_map(|row| signed(row.init_cpu_us))),
        cold_cpu: Spread::of(rows.iter().filter_map(|row| signed(row.cold_cpu_us))),
    }
}

impl Spread {
    /// Of `values`; none of none.
    pub fn of(values: impl Iterator<Item = i64>) -> Option<Spread> {
        let mut sorted: Vec<i64> = values.collect();
        sorted.sort_unstable();
        // The smallest value that so many per cent are no larger than.
        let ranked = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        let (median, p95, max) = (ranked(50)?, ranked(95)?, sorted.last()?);
        Some(Spread { count: sorted.len() as u64, median: *median, p95: *p95, max: *max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuSource, Fact};
    use crate::query::fixture::{Journal, at_ms, at_s, identity, usage};
    use crate::query::{Merger, Selector, functions};
    use crate::store::Usage;

    /// Three starts of `pi`: exec after 100, 200 and 300 ms; the last is told to be ready. A fourth was found running.
    fn view(window: Window) -> View {
        let mut journal = Journal::new();
        for (at, name) in ["aa", "bb", "cc", "dd"].iter().enumerate() {
            let second = 10 * (at as i64 + 1);
            let number = journal.instance(name, at < 3, second);
            let exec_ms = second * 1_000 + 100 * (at as i64 + 1);
            let record = journal.record(number);
            record.identities = vec![(at_s(second), identity("demo", "pi", "1"))];
            record.exec_at = Some(at_ms(exec_ms));
            record.usage = vec![usage(second + 5, 2_000_000, CpuSource::Final)];
            if at == 2 {
                record.facts = vec![(at_ms(exec_ms + 2_500), Fact::Ready)];
            }
            journal.samples(number, second * 1_000 + 10, 50, "init [runc]");
            journal.samples(number, exec_ms + 40, 100, "load [pi]");
            journal.samples(number, exec_ms + 1_500, 50, "serve [pi]");
        }
        let mut merger = Merger::new(window);
        merger.add(journal.contents);
        View::new(merger.finish())
    }

    /// CPU time of a phase as `instances` tells it.
    fn of_phase(row: &ColdStart, phase: Phase) -> Option<u64> {
        row.phases.iter().find(|row| row.phase == phase).and_then(|row| row.cpu_us)
    }

    #[test]
    fn the_reading_at_the_exec_parts_the_account_exactly() {
        let mut journal = Journal::new();
        let number = journal.instance("aa", true, 10);
        let record = journal.record(number);
        record.identities = vec![(at_s(10), identity("demo", "pi", "1"))];
        record.exec_at = Some(at_ms(10_300));
        let at_exec = Usage { at: at_ms(10_300), cpu_us: 70_001, source: CpuSource::Running };
        record.usage =
            vec![at_exec, usage(12, 1_000_000, CpuSource::Running), usage(13, 1_200_000, CpuSource::Final)];
        // Samples that would tell otherwise: most of them before the exec.
        journal.samples(number, 10_010, 200, "init [runc]");
        journal.samples(number, 10_340, 40, "load [pi]");
        let mut merger = Merger::new(Window::ALL);
        merger.add(journal.contents);
        let view = View::new(merger.finish());
        let all = view.select(None, &[]).unwrap();
        let rows = cold_starts(&view, &all);
        assert_eq!(rows[0].init_cpu_us, Some(70_001));
        let cold = rows[0].cold_cpu_us.unwrap();
        let warm = of_phase(&rows[0], Phase::Warm).unwrap();
        assert_eq!(70_001 + cold + warm, 1_200_000);
        assert_eq!(rows[0].phases, crate::query::instances(&view, &all)[0].phases);
        // A second of the 1.7 s between the exec and the next reading.
        assert!((cold as f64 - 929_999.0 / 1.7).abs() < 2.0, "{cold}");
    }

    #[test]
    fn every_start_is_told_and_the_longest_first() {
        let view = view(Window::ALL);
        let selector: Selector = "pi".parse().unwrap();
        let selection = view.select(Some(&selector), &[]).unwrap();
        let rows = cold_starts(&view, &selection);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (&row.key[..2], row.init_us, row.ready_us, row.first_sample_us, row.total_us))
            .collect();
        assert_eq!(
            told,
            [
                ("cc", Some(300_000), Some(2_500_000), Some(40_000), Some(2_800_000)),
                ("bb", Some(200_000), None, Some(40_000), Some(240_000)),
                ("aa", Some(100_000), None, Some(40_000), Some(140_000)),
            ]
        );
        // A quarter of 2 s before the exec. Told to be ready late: all that follows is cold.
        assert_eq!((rows[1].init_cpu_us, rows[1].cold_cpu_us), (Some(500_000), Some(1_000_000)));
        assert_eq!((rows[0].init_cpu_us, rows[0].cold_cpu_us), (Some(500_000), Some(1_500_000)));
        for row in &rows {
            assert_eq!(of_phase(row, Phase::RuntimeInit), row.init_cpu_us);
            assert_eq!(of_phase(row, Phase::Cold), row.cold_cpu_us);
        }
        let summary = summary(&rows);
        assert_eq!(summary.starts, 3);
        assert_eq!(summary.init, Some(Spread { count: 3, median: 200_000, p95: 300_000, max: 300_000 }));
        assert_eq!(summary.ready.map(|spread| spread.count), Some(1));
        // The same number as `ls` says, whatever the window.
        for window in [
            Window::ALL,
            Window { from: at_s(15), to: at_s(25) },
            Window { from: at_s(20), to: at_ms(20_100) },
        ] {
            let view = self::view(window);
            let all = view.select(None, &[]).unwrap();
            let counted: u64 = functions(&view, &all).iter().map(|row| row.cold_starts).sum();
            assert_eq!(cold_starts(&view, &all).len() as u64, counted, "{window:?}");
        }
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        for (values, expected) in [
            (vec![], None),
            (vec![7], Some((7, 7, 7))),
            (vec![3, 1, 2, 4], Some((2, 4, 4))),
            ((1..=100).collect(), Some((50, 95, 100))),
        ] {
            let found = Spread::of(values.into_iter()).map(|spread| (spread.median, spread.p95, spread.max));
            assert_eq!(found, expected);
        }
    }
}
