//! Which readings of an instance's counters an hour keeps beside its totals. Pure.
//!
//! The totals of a whole hour need few readings: the last one before it, its first and its last, and those on both
//! sides of every cut in the instance's life (a new name, an exec, the end of its cold start). With them an answer
//! about whole hours is the same as with all readings. A window that cuts an hour reads the usage table too, which has
//! one every ten seconds.

use serde::{Deserialize, Serialize};

use crate::model::{CpuSource, Fact, FactKind, Timestamp, Window};
use crate::store::account;
use crate::store::contents::{InstanceRecord, Usage};

/// Rows of the usage table are so far apart, in microseconds.
pub(super) const SPACING_US: i64 = 10_000_000;

/// A reading that a row of the instances table keeps, and how many of the row's samples lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was read.
    pub at: Timestamp,
    /// CPU time since the cgroup was made, in microseconds.
    pub cpu_us: u64,
    /// How it was read.
    pub source: CpuSource,
    /// Samples of the row from before.
    pub before: u64,
    /// The same with those at that very microsecond.
    pub until: u64,
}

/// The readings of `record`, none lower than an earlier one: a counter that seems to fall is a clock that was set back.
pub(super) fn rising(record: &InstanceRecord) -> Vec<Usage> {
    let mut highest = 0;
    let raise = |usage: &Usage| {
        highest = highest.max(usage.cpu_us);
        Usage { cpu_us: highest, ..*usage }
    };
    record.usage.iter().map(raise).collect()
}

/// Whether one of `readings` is of `time`, to a millisecond: so is the account at an exec.
pub(super) fn is_read_at(readings: &[Usage], time: Timestamp) -> bool {
    const NEAR_US: i64 = 1_000;
    let next = readings.partition_point(|usage| usage.at < time.plus_us(-NEAR_US));
    readings.get(next).is_some_and(|usage| usage.at <= time.plus_us(NEAR_US))
}

/// The marks of an instance for the stretch `own`; `cuts` are the cuts in its life.
pub(super) fn marks(readings: &[Usage], own: Window, cuts: &[Timestamp]) -> Vec<Mark> {
    let begin = readings.partition_point(|usage| usage.at < own.from);
    let end = readings.partition_point(|usage| usage.at < own.to);
    let mut kept: Vec<usize> = Vec::new();
    kept.extend(begin.checked_sub(1));
    if begin < end {
        kept.extend([begin, end - 1]);
    }
    for cut in cuts.iter().filter(|cut| own.contains(**cut)) {
        let (first, behind) = (
            readings.partition_point(|usage| usage.at < *cut),
            readings.partition_point(|usage| usage.at <= *cut),
        );
        kept.extend(first.checked_sub(1).into_iter().chain(behind.checked_sub(1)).chain([first, behind]));
    }
    kept.sort_unstable();
    kept.dedup();
    let mark = |usage: &Usage| Mark {
        at: usage.at,
        cpu_us: usage.cpu_us,
        source: usage.source,
        before: 0,
        until: 0,
    };
    kept.into_iter().filter_map(|at| readings.get(at)).map(mark).collect()
}

/// The facts that a row of the stretch `own` keeps: of counters the last before, the first and the last, of all else
/// everything.
pub(super) fn facts(record: &InstanceRecord, own: Window) -> Vec<(Timestamp, Fact)> {
    let mut kept: Vec<(Timestamp, Fact)> = Vec::new();
    for kind in [FactKind::Throttled, FactKind::Pressure] {
        let of_kind: Vec<_> = record.facts.iter().filter(|(_, fact)| fact.kind() == kind).collect();
        let begin = of_kind.partition_point(|(at, _)| *at < own.from);
        let end = of_kind.partition_point(|(at, _)| *at < own.to);
        let mut places: Vec<usize> = begin.checked_sub(1).into_iter().collect();
        if begin < end {
            places.extend([begin, end - 1]);
        }
        places.dedup();
        kept.extend(places.into_iter().filter_map(|at| of_kind.get(at)).map(|fact| (*fact).clone()));
    }
    let is_counter = |fact: &Fact| matches!(fact.kind(), FactKind::Throttled | FactKind::Pressure);
    kept.extend(record.facts.iter().filter(|(_, fact)| !is_counter(fact)).cloned());
    kept.sort();
    kept
}

/// A row of the usage table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsageRow {
    pub(super) at: Timestamp,
    pub(super) cpu: Option<(u64, CpuSource)>,
    pub(super) throttled: Option<(u64, u64)>,
    pub(super) pressure_us: Option<u64>,
    pub(super) frozen: Option<bool>,
}

/// The rows of `record` for the stretch `own`: each counter's first, its last, and one every [`SPACING_US`] between.
pub(super) fn usage_rows(record: &InstanceRecord, readings: &[Usage], own: Window) -> Vec<UsageRow> {
    let empty = |at| UsageRow { at, cpu: None, throttled: None, pressure_us: None, frozen: None };
    let mut rows: Vec<UsageRow> = Vec::new();
    let cpu = readings.iter().filter(|usage| own.contains(usage.at));
    rows.extend(
        thinned(cpu.map(|usage| (usage.at, (usage.cpu_us, usage.source))))
            .map(|(at, cpu)| UsageRow { cpu: Some(cpu), ..empty(at) }),
    );
    let told = |pick: fn(&Fact) -> Option<(u64, u64)>| {
        let of_kind = record.facts.iter().filter(|(at, _)| own.contains(*at));
        thinned(of_kind.filter_map(move |(at, fact)| Some((*at, pick(fact)?))))
    };
    rows.extend(
        told(|fact| match fact {
            Fact::Throttled { count, us } => Some((*count, *us)),
            _ => None,
        })
        .map(|(at, throttled)| UsageRow { throttled: Some(throttled), ..empty(at) }),
    );
    rows.extend(
        told(|fact| match fact {
            Fact::Pressure { us } => Some((*us, 0)),
            _ => None,
        })
        .map(|(at, (us, _))| UsageRow { pressure_us: Some(us), ..empty(at) }),
    );
    rows.sort_by_key(|row| row.at);
    rows.dedup_by(|later, row| {
        let same = later.at == row.at
            && !(later.cpu.is_some() && row.cpu.is_some())
            && !(later.throttled.is_some() && row.throttled.is_some())
            && !(later.pressure_us.is_some() && row.pressure_us.is_some());
        if same {
            row.cpu = row.cpu.or(later.cpu);
            row.throttled = row.throttled.or(later.throttled);
            row.pressure_us = row.pressure_us.or(later.pressure_us);
        }
        same
    });
    for row in &mut rows {
        row.frozen = frozen_at(record, row.at);
    }
    rows
}

/// The first, the last, and between them what is [`SPACING_US`] behind the one before.
fn thinned<T: Copy>(values: impl Iterator<Item = (Timestamp, T)>) -> impl Iterator<Item = (Timestamp, T)> {
    let values: Vec<(Timestamp, T)> = values.collect();
    let last = values.len().saturating_sub(1);
    let mut before: Option<Timestamp> = None;
    values.into_iter().enumerate().filter_map(move |(position, (at, value))| {
        let due = before.is_none_or(|before| at.since_us(before) >= SPACING_US) || position == last;
        if due {
            before = Some(at);
        }
        due.then_some((at, value))
    })
}

fn frozen_at(record: &InstanceRecord, time: Timestamp) -> Option<bool> {
    let told = record.facts.iter().filter(|(at, _)| *at <= time);
    told.filter_map(|(_, fact)| match fact {
        Fact::Frozen(frozen) => Some(*frozen),
        _ => None,
    })
    .next_back()
}

/// Time within `own` that `record` stood frozen, in microseconds; none if nobody ever told.
pub(super) fn frozen_us(record: &InstanceRecord, own: Window) -> Option<u64> {
    let told: Vec<(Timestamp, bool)> = record
        .facts
        .iter()
        .filter_map(|(at, fact)| match fact {
            Fact::Frozen(frozen) => Some((*at, *frozen)),
            _ => None,
        })
        .collect();
    let end = record.ended.map_or(own.to, |ended| ended.at.min(own.to));
    let ends = told.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let spans = told.iter().zip(ends).filter(|((_, frozen), _)| *frozen);
    let clipped = spans.map(|((from, _), to)| to.min(end).since_us((*from).max(own.from)).max(0));
    let total = clipped.fold(0i64, i64::saturating_add);
    (!told.is_empty()).then(|| total.unsigned_abs())
}

/// What a counter of `record`, of the kind `kind`, grew by within `own`; none if nobody ever told.
pub(super) fn growth(
    record: &InstanceRecord,
    own: Window,
    kind: FactKind,
    pick: impl Fn(&Fact) -> Option<u64>,
) -> Option<u64> {
    let told: Vec<(Timestamp, u64)> =
        record.facts.iter().filter_map(|(at, fact)| Some((*at, pick(fact)?))).collect();
    let first = told.first()?.1;
    let from_birth = record.info.from_birth && !record.retold.facts.contains(&kind);
    let base = if from_birth { 0 } else { first };
    let at = |time: Timestamp| {
        let before = told.iter().rev().find(|(at, _)| *at < time);
        before.map_or(base, |(_, value)| *value)
    };
    Some(at(own.to).saturating_sub(at(own.from)))
}

/// CPU time of `record` within `part` of the stretch `own`, in microseconds: readings at the stretch's ends,
/// interpolated between two of them at cuts inside; none without a reading.
pub(super) fn cpu_us(record: &InstanceRecord, readings: &[Usage], part: Window, own: Window) -> Option<u64> {
    readings.first()?;
    let from_birth = record.info.from_birth && !record.retold.usage;
    let birth = from_birth.then_some(record.info.started_at);
    let at = |time: Timestamp| match own.from < time && time < own.to {
        true => account::cpu_at(readings, birth, time),
        false => account::cpu_before(readings, birth, time),
    };
    Some(at(part.to).saturating_sub(at(part.from)))
}
