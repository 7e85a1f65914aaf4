//! Who was held back: stopped by a CPU quota, waiting for a CPU, frozen.
//!
//! Counters are cumulative since the cgroup was made; a window's part is the last reading before its end less the last
//! before its begin, so adjoining windows add up. What a counter already had when an instance was found running is not
//! counted. An instance that is frozen at its last word stays so until its end, or until its host's last sign.

use std::collections::BTreeSet;

use super::merge::Instance;
use super::selector::FunctionId;
use super::view::{Selection, Stay, View};
use crate::model::{Fact, Timestamp, Window};

/// A function's revision within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottledRow {
    /// Which.
    pub id: FunctionId,
    /// Instances that were there.
    pub instances: u64,
    /// Instances that a quota stopped.
    pub throttled_instances: u64,
    /// Time a quota stopped them, in microseconds, all instances together; none where nothing was read.
    pub throttled_us: Option<u64>,
    /// Periods in which it did.
    pub throttled_count: Option<u64>,
    /// Time in which some task of an instance waited for a CPU, in microseconds.
    pub pressure_us: Option<u64>,
    /// Time they were frozen, in microseconds.
    pub frozen_us: Option<u64>,
    /// How often they were frozen.
    pub frozen_count: Option<u64>,
    /// CPU time by the account, in microseconds.
    pub cpu_us: Option<u64>,
}

/// The rows of `selection` of which any of that is known, the longest throttled first.
pub fn throttled(view: &View, selection: &Selection) -> Vec<ThrottledRow> {
    let empty = |id: &FunctionId| ThrottledRow {
        id: id.clone(),
        instances: 0,
        throttled_instances: 0,
        throttled_us: None,
        throttled_count: None,
        pressure_us: None,
        frozen_us: None,
        frozen_count: None,
        cpu_us: None,
    };
    let mut rows: Vec<(ThrottledRow, BTreeSet<usize>)> =
        view.functions().iter().map(|id| (empty(id), BTreeSet::new())).collect();
    for (at, instance, _, stay) in view.stays(selection) {
        let Some((row, instances)) = rows.get_mut(stay.function as usize) else { continue };
        instances.insert(at);
        let window = Window {
            from: stay.window.from.max(view.window().from),
            to: stay.window.to.min(view.window().to),
        };
        row.add(instance, stay, window, view.hosts().get(instance.host as usize));
    }
    let known = |row: &ThrottledRow| {
        row.throttled_us.is_some() || row.pressure_us.is_some() || row.frozen_us.is_some()
    };
    let mut rows: Vec<ThrottledRow> = rows
        .into_iter()
        .map(|(row, instances)| ThrottledRow { instances: instances.len() as u64, ..row })
        .filter(known)
        .collect();
    rows.sort_by(|a, b| {
        let weight = |row: &ThrottledRow| (row.throttled_us, row.pressure_us, row.frozen_us);
        weight(b).cmp(&weight(a)).then_with(|| a.id.cmp(&b.id))
    });
    rows
}

impl ThrottledRow {
    fn add(&mut self, instance: &Instance, stay: &Stay, window: Window, host: Option<&super::origin::Host>) {
        fn add(sum: &mut Option<u64>, part: Option<u64>) {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0).saturating_add(part));
            }
        }
        let counter = |of: fn(&Fact) -> Option<u64>| {
            let readings = instance.facts.iter().filter_map(|(at, fact)| Some((*at, of(fact)?)));
            between(readings, instance.info.from_birth, window)
        };
        let stopped = counter(|fact| match fact {
            Fact::Throttled { us, .. } => Some(*us),
            _ => None,
        });
        self.throttled_instances += u64::from(stopped.is_some_and(|us| us > 0));
        add(&mut self.throttled_us, stopped);
        add(
            &mut self.throttled_count,
            counter(|fact| match fact {
                Fact::Throttled { count, .. } => Some(*count),
                _ => None,
            }),
        );
        add(
            &mut self.pressure_us,
            counter(|fact| match fact {
                Fact::Pressure { us } => Some(*us),
                _ => None,
            }),
        );
        let known_until = host.and_then(|host| {
            host.sources.iter().filter_map(|source| source.seen).map(|(_, last)| last).max()
        });
        if let Some((us, count)) = frozen(instance, window, known_until) {
            add(&mut self.frozen_us, Some(us));
            add(&mut self.frozen_count, Some(count));
        }
        add(&mut self.cpu_us, stay.account.map(|account| account.cpu_us));
    }
}

/// The part of a cumulative counter that lies in `window`; none without a reading.
fn between(
    readings: impl Iterator<Item = (Timestamp, u64)>,
    from_birth: bool,
    window: Window,
) -> Option<u64> {
    let (mut base, mut before, mut until) = (None, None, None);
    let mut highest = 0;
    for (at, value) in readings {
        // What seems to fall is a clock that was set back.
        highest = highest.max(value);
        base.get_or_insert(if from_birth { 0 } else { value });
        if at < window.from {
            before = Some(highest);
        }
        if at < window.to {
            until = Some(highest);
        }
    }
    let base = base?;
    Some(until.unwrap_or(base).saturating_sub(before.unwrap_or(base)))
}

/// How long and how often `instance` was frozen in `window`; none where nothing tells.
fn frozen(instance: &Instance, window: Window, known_until: Option<Timestamp>) -> Option<(u64, u64)> {
    let states = instance.facts.iter().filter_map(|(at, fact)| match fact {
        Fact::Frozen(frozen) => Some((*at, *frozen)),
        _ => None,
    });
    let (mut since, mut known, mut us, mut count) = (None, false, 0u64, 0u64);
    let mut add = |from: Timestamp, to: Timestamp| {
        let (from_in, to_in) = (from.max(window.from), to.min(window.to));
        if from_in < to_in {
            us = us.saturating_add(to_in.since_us(from_in).unsigned_abs());
            count += u64::from(window.contains(from));
        }
    };
    for (at, is_frozen) in states {
        known = true;
        match (since, is_frozen) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                add(from, at);
                since = None;
            }
            _ => {}
        }
    }
    if let Some(from) = since {
        let end = instance.ended.map(|ended| ended.at).or(known_until).unwrap_or(from);
        add(from, end.max(from));
    }
    known.then_some((us, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture::{Journal, at_s, identity};
    use crate::query::{Merger, View};

    fn rows(window: Window) -> Vec<ThrottledRow> {
        let mut journal = Journal::new();
        for (name, birth) in [("aa", true), ("bb", false)] {
            let number = journal.instance(name, birth, 10);
            let record = journal.record(number);
            record.identities = vec![(at_s(10), identity("demo", name, "1"))];
            let throttled = |count, us| Fact::Throttled { count, us };
            record.facts = vec![
                (at_s(20), throttled(5, 1_000)),
                (at_s(22), Fact::Frozen(true)),
                (at_s(25), Fact::Frozen(false)),
                (at_s(30), throttled(9, 4_000)),
                (at_s(30), Fact::Pressure { us: 700 }),
                (at_s(40), throttled(8, 3_000)),
                (at_s(41), Fact::Frozen(true)),
            ];
            journal.samples(number, 10_000, 1, "main [pi]");
        }
        journal.samples(0, 50_000, 1, "main [pi]");
        let mut merger = Merger::new(window);
        merger.add(journal.contents);
        let view = View::new(merger.finish());
        throttled(&view, &view.select(None, &[]).unwrap())
    }

    #[test]
    fn counters_are_told_for_the_window() {
        let window = |from, to| Window { from: at_s(from), to: at_s(to) };
        // Window; of the one from birth and the other: throttled time and count, frozen time and count.
        for (window, first, other) in [
            (Window::ALL, (4_000, 9, 12, 2), (3_000, 4, 12, 2)),
            (window(25, 60), (3_000, 4, 9, 1), (3_000, 4, 9, 1)),
            (window(10, 24), (1_000, 5, 2, 1), (0, 0, 2, 1)),
            (window(24, 25), (0, 0, 1, 0), (0, 0, 1, 0)),
        ] {
            let rows = rows(window);
            let told = |name: &str| {
                let row = rows.iter().find(|row| row.id.to_string().contains(name)).unwrap();
                let frozen_s = row.frozen_us.unwrap() / 1_000_000;
                (row.throttled_us.unwrap(), row.throttled_count.unwrap(), frozen_s, row.frozen_count.unwrap())
            };
            // The last freeze lasts until the host's last sign, at 50 s.
            assert_eq!((told("aa"), told("bb")), (first, other), "{window:?}");
        }
    }

    #[test]
    fn windows_add_up() {
        let sum = |from: i64, to: i64| {
            let rows = rows(Window { from: at_s(from), to: at_s(to) });
            rows.iter().filter_map(|row| row.throttled_us).sum::<u64>()
        };
        for cut in [15, 20, 21, 30, 35, 41] {
            assert_eq!(sum(10, cut) + sum(cut, 60), sum(10, 60), "{cut}");
        }
    }
}
