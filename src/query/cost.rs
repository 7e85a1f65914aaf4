//! What functions used: CPU time by function, revision, host and day, by the kernel's account, with samples as a check.
//!
//! Days are UTC. CPU time between two readings that lie on two sides of a midnight is shared out evenly over the time
//! between them. Not here: money, which is seconds times a price. Promises: rows add up to the selection's CPU time
//! however they are cut.

use std::collections::{BTreeMap, BTreeSet};

use super::functions::CoverageSum;
use super::selector::FunctionId;
use super::view::{Life, Selection, Stay, View};
use crate::model::{Timestamp, Window};

/// What makes a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CostBy {
    /// A day, UTC.
    Day,
    /// A function, whatever its revision.
    Function,
    /// A function's revision.
    Revision,
    /// A host.
    Host,
}

/// What one row's instances used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostRow {
    /// The day's begin, where days are told apart.
    pub day: Option<Timestamp>,
    /// The function, where functions are told apart; its revision is to be left aside unless those are too.
    pub id: Option<FunctionId>,
    /// The host's label, where hosts are told apart.
    pub host: Option<String>,
    /// Instances that were there.
    pub instances: u64,
    /// CPU time by the account, in microseconds.
    pub cpu_us: u64,
    /// Time that samples stand for, in nanoseconds.
    pub sampled_ns: u64,
    /// That of instances without an account: what is known of them at all.
    pub unaccounted_ns: u64,
    /// Share of the CPU time that samples cover; none where days are told apart, as readings do not end with them.
    pub coverage: Option<f64>,
}

impl CostRow {
    /// CPU time to be paid for, in microseconds: the account, and samples where there is none.
    pub fn charged_us(&self) -> u64 {
        self.cpu_us.saturating_add(self.unaccounted_ns / 1_000)
    }
}

const DAY_US: i64 = 86_400_000_000;

type Key = (Option<Timestamp>, Option<FunctionId>, Option<u32>);

#[derive(Default)]
struct Sums {
    row: CostRow,
    instances: BTreeSet<usize>,
    coverage: CoverageSum,
}

/// The rows of `selection`, told apart by all of `by`: by day, then the most CPU time first.
pub fn cost(view: &View, selection: &Selection, by: &[CostBy]) -> Vec<CostRow> {
    let by_day = by.contains(&CostBy::Day);
    let mut sampled = by_day.then(|| sampled_by_day(view));
    let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
    for (at, instance, life, stay) in view.stays(selection) {
        let id = view
            .functions()
            .get(stay.function as usize)
            .filter(|_| by.contains(&CostBy::Function) || by.contains(&CostBy::Revision));
        let id = id.map(|id| match by.contains(&CostBy::Revision) {
            true => id.clone(),
            false => FunctionId { revision: super::selector::Part::Null, ..id.clone() },
        });
        let host = by.contains(&CostBy::Host).then_some(instance.host);
        let parts = match &mut sampled {
            None => vec![(None, stay.account.map(|account| account.cpu_us), stay.tally.time_ns)],
            Some(sampled) => {
                let of_stay = sampled.remove(&(at, stay.spans.start)).unwrap_or_default();
                by_days(view.window(), life, stay, &of_stay)
            }
        };
        for (day, cpu_us, sampled_ns) in parts {
            let sums = sums.entry((day, id.clone(), host)).or_default();
            sums.instances.insert(at);
            sums.row.sampled_ns = sums.row.sampled_ns.saturating_add(sampled_ns);
            match cpu_us {
                Some(cpu_us) => sums.row.cpu_us = sums.row.cpu_us.saturating_add(cpu_us),
                None => sums.row.unaccounted_ns = sums.row.unaccounted_ns.saturating_add(sampled_ns),
            }
            if !by_day {
                sums.coverage.add(stay.compared());
            }
        }
    }
    let host = |at: u32| view.hosts().get(at as usize).map(|host| host.label.clone()).unwrap_or_default();
    let mut rows: Vec<CostRow> = sums
        .into_iter()
        .map(|((day, id, at), sums)| CostRow {
            day,
            id,
            host: at.map(host),
            instances: sums.instances.len() as u64,
            coverage: sums.coverage.share(),
            ..sums.row
        })
        .collect();
    rows.sort_by(|a, b| a.day.cmp(&b.day).then_with(|| b.charged_us().cmp(&a.charged_us())));
    rows
}

/// Begin of the day of `at`.
fn day_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(DAY_US).saturating_mul(DAY_US))
}

/// Sampled nanoseconds of each stay (its instance, its first span) by day.
fn sampled_by_day(view: &View) -> BTreeMap<(usize, usize), BTreeMap<Timestamp, u64>> {
    let mut days: BTreeMap<(usize, usize), BTreeMap<Timestamp, u64>> = BTreeMap::new();
    for part in &view.merged.parts {
        for (sample, count) in part.counted() {
            let instance = sample.instance as usize;
            let Some(life) = view.lives.get(instance) else { continue };
            let span = super::view::span_at(&life.spans, sample.time);
            let Some(stay) = life.stays.iter().find(|stay| stay.spans.contains(&span)) else { continue };
            let of_stay = days.entry((instance, stay.spans.start)).or_default();
            let time = of_stay.entry(day_of(sample.time)).or_default();
            *time = time.saturating_add(part.period_ns.saturating_mul(count));
        }
    }
    days
}

/// A stay by days: the CPU time of each, where there is an account, and its sampled time. Days on which nothing was
/// read nor sampled are one with the last before them, so the work is bounded by what was stored.
fn by_days(
    window: Window,
    life: &Life,
    stay: &Stay,
    sampled: &BTreeMap<Timestamp, u64>,
) -> Vec<(Option<Timestamp>, Option<u64>, u64)> {
    let (from, to) = (stay.window.from.max(window.from), stay.window.to.min(window.to));
    let mut days: BTreeSet<Timestamp> = sampled.keys().copied().collect();
    if stay.account.is_some() {
        // CPU time before the first reading in the window belongs to the day of the instance's begin, or the window's.
        let times = life.curve.times().filter(|at| *at <= to).map(|at| at.max(from));
        days.extend(times.filter(|at| *at != Timestamp::MIN).map(day_of));
    }
    let begins: Vec<Timestamp> = days.into_iter().collect();
    // CPU time until a cut, no more than the window has: the reading a cut is interpolated to may lie beyond it.
    let until = |to: Timestamp| {
        let part = Window { from: stay.window.from, to: to.min(stay.window.to) };
        life.curve.between(part, stay.window, window)
    };
    let whole = until(Timestamp::MAX);
    let mut before = 0;
    let parts = begins.iter().enumerate().map(|(at, day)| {
        let end = begins.get(at + 1).copied().unwrap_or(Timestamp::MAX);
        let cpu_us = stay.account.map(|_| {
            let after = until(end).clamp(before, whole);
            after - std::mem::replace(&mut before, after)
        });
        (Some(*day), cpu_us, sampled.get(day).copied().unwrap_or(0))
    });
    parts.filter(|(_, cpu_us, sampled_ns)| cpu_us.is_some_and(|us| us > 0) || *sampled_ns > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CpuSource;
    use crate::query::fixture::{Journal, at_s, identity, usage};
    use crate::query::{Merger, View};

    /// An hour around the midnight after the fixture's day with 36 s of CPU time, and two lives without a midnight;
    /// the last has no account.
    fn view(window: Window) -> View {
        let mut journal = Journal::new();
        let long = journal.instance("aa", true, 84_600);
        let record = journal.record(long);
        record.identities = vec![(at_s(84_600), identity("demo", "pi", "1"))];
        record.usage =
            vec![usage(84_600, 0, CpuSource::Running), usage(88_200, 36_000_000, CpuSource::Final)];
        journal.samples(long, 86_000_000, 100, "main [pi]");
        journal.samples(long, 87_000_000, 50, "main [pi]");
        let short = journal.instance("bb", true, 100);
        let record = journal.record(short);
        record.identities = vec![(at_s(100), identity("demo", "pi", "2"))];
        record.usage = vec![usage(110, 2_000_000, CpuSource::Final)];
        journal.samples(short, 101_000, 200, "main [pi]");
        let unknown = journal.instance("cc", true, 200);
        journal.record(unknown).identities = vec![(at_s(200), identity("demo", "fib", "1"))];
        journal.samples(unknown, 201_000, 30, "main [fib]");
        let mut merger = Merger::new(window);
        merger.add(journal.contents);
        View::new(merger.finish())
    }

    #[test]
    fn seconds_are_told_by_what_was_asked_and_add_up() {
        let view = view(Window::ALL);
        let all = view.select(None, &[]).unwrap();
        let told = |by: &[CostBy]| {
            let rows = cost(&view, &all, by);
            let sum: u64 = rows.iter().map(CostRow::charged_us).sum();
            assert_eq!(sum, 38_300_000, "{by:?}");
            let ns: u64 = rows.iter().map(|row| row.sampled_ns).sum();
            assert_eq!(ns, 3_800_000_000, "{by:?}");
            rows
        };
        let days: Vec<_> = told(&[CostBy::Day]).iter().map(|row| (row.day, row.cpu_us)).collect();
        assert_eq!(days, [(Some(at_s(0)), 20_000_000), (Some(at_s(86_400)), 18_000_000)]);
        let functions = told(&[CostBy::Function]);
        assert_eq!(functions.iter().map(|row| row.cpu_us).collect::<Vec<_>>(), [38_000_000, 0]);
        assert_eq!((functions[1].unaccounted_ns, functions[1].coverage), (300_000_000, None));
        assert_eq!(told(&[CostBy::Revision]).len(), 3);
        assert_eq!(told(&[CostBy::Day, CostBy::Revision, CostBy::Host]).len(), 4);
        assert_eq!(told(&[])[0].instances, 3);
    }

    #[test]
    fn windows_add_up() {
        let sum = |from: i64, to: i64| {
            let view = view(Window { from: at_s(from), to: at_s(to) });
            let all = view.select(None, &[]).unwrap();
            let one = |by| cost(&view, &all, by).iter().map(CostRow::charged_us).sum::<u64>();
            assert_eq!(one(&[CostBy::Day]), one(&[CostBy::Function]));
            one(&[])
        };
        for cut in [150, 85_000, 86_400, 88_000] {
            assert_eq!(sum(0, cut) + sum(cut, 90_000), sum(0, 90_000), "{cut}");
        }
    }
}
