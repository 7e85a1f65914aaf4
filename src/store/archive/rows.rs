//! A journal to the rows of its sealed hours: which samples go where in which order, and what each instance did in
//! each hour. Pure; nothing of Parquet is here.
//!
//! Promises: every sample is in the hour of its own time, once. Every instance the journal knows has rows in each hour
//! in which it has samples or waits and in the journal's last one, a row for each of its names there: so whoever reads an hour
//! knows the names of all who lived in it, and a name that came late is found in the hour it came in.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Name;
use super::order::{Order, Place, RowGroup};
use super::partition::Hour;
use super::readings::{self, Mark};
use crate::model::{Fact, Quality, QualityCounts, Timestamp, Window};
use crate::store::contents::{InstanceRecord, JournalContents, StoredSample, StoredWait, Usage};
use crate::store::loss::Rates;

/// How long a start is cold where no platform tells when it was ready, in microseconds.
const COLD_US: i64 = 1_000_000;

/// A journal, ready to be written.
#[derive(Debug)]
pub(super) struct Rows {
    /// Names of functions in order.
    pub(super) names: Vec<Name>,
    /// The hours, in order.
    pub(super) hours: Vec<HourRows>,
    order: Order,
    wait_order: Order,
}

/// One hour of it.
#[derive(Debug)]
pub(super) struct HourRows {
    pub(super) hour: Hour,
    /// The time whose readings belong to it: its own, and what no other hour of the journal takes.
    pub(super) stretch: Window,
    /// Row groups of its samples.
    pub(super) groups: Vec<RowGroup>,
    /// Row groups of its waits; none where nobody waited.
    pub(super) wait_groups: Vec<RowGroup>,
    /// Rows of the instances table, by function, then by instance.
    pub(super) instances: Vec<InstanceRow>,
}

/// A row of the instances table.
#[derive(Debug)]
pub(super) struct InstanceRow {
    /// Position in [`JournalContents::instances`].
    pub(super) record: usize,
    /// Position of its name among the record's identities; none for an instance without one.
    pub(super) identity: Option<usize>,
    /// Its function.
    pub(super) rank: u32,
    /// Whether it is the instance's first row: what is the instance's, not the name's, stands there.
    pub(super) first: bool,
    /// The part of the hour's stretch that is this row's.
    pub(super) window: Window,
    pub(super) marks: Vec<Mark>,
    pub(super) counts: Counts,
    /// The row group that holds its samples.
    pub(super) group: Option<usize>,
    pub(super) waits: WaitCounts,
    /// The row group that holds its waits.
    pub(super) wait_group: Option<usize>,
}

/// What was counted of an instance's waits.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitCounts {
    pub(super) count: u64,
    pub(super) ns: u64,
    pub(super) preempted_ns: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

/// What was counted of an instance's samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) first_after_exec: Option<Timestamp>,
    pub(super) lost: f64,
    pub(super) quality: QualityCounts,
    pub(super) phases: [u64; 3],
}

/// When an instance's own code began to run and when it was warm: what its phases follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseCuts {
    /// Whether it was watched from its birth; if not, all of it is warm.
    pub from_birth: bool,
    /// The function's own exec.
    pub exec_at: Option<Timestamp>,
    /// The end of its cold start.
    pub warm_at: Option<Timestamp>,
}

impl PhaseCuts {
    /// Those of `record`.
    pub(super) fn of(record: &InstanceRecord) -> PhaseCuts {
        let exec_at = record.exec_at;
        // The platform's own word that it answers, if it came after the exec.
        let ready = |exec: Timestamp| {
            let mut said = record.facts.iter().filter(|(at, fact)| *fact == Fact::Ready && *at > exec);
            said.next().map(|(at, _)| *at)
        };
        let warm_at = exec_at.map(|exec| ready(exec).unwrap_or(exec.plus_us(COLD_US)));
        PhaseCuts { from_birth: record.info.from_birth, exec_at, warm_at }
    }

    /// The phase at `time`: 0 before the exec, 1 cold, 2 warm.
    pub fn phase(&self, time: Timestamp) -> usize {
        match (self.from_birth, self.exec_at, self.warm_at) {
            (false, _, _) => 2,
            (true, None, _) => 0,
            (true, Some(exec), _) if time < exec => 0,
            (true, _, Some(warm)) if time < warm => 1,
            _ => 2,
        }
    }

    /// Where one phase ends and the next begins.
    pub fn cuts(&self) -> impl Iterator<Item = Timestamp> {
        let cuts = [self.exec_at, self.warm_at].into_iter().flatten();
        cuts.filter(|_| self.from_birth)
    }
}

/// The window and the rank of each of an instance's names.
struct Life {
    names: Vec<(Option<usize>, Timestamp, u32)>,
    cuts: PhaseCuts,
    readings: Vec<Usage>,
}

impl Life {
    fn place(&self, time: Timestamp) -> usize {
        // The same choice as `InstanceRecord::identity_at`, by position.
        self.names.partition_point(|(_, from, _)| *from <= time).saturating_sub(1)
    }
}

impl Rows {
    /// The rows of `contents`; a row group is cut at the first end of a function from `group_rows` rows on.
    pub(super) fn of(contents: &JournalContents, rates: &Rates, group_rows: usize) -> Rows {
        let (names, lives) = lives(&contents.instances);
        let order = order(contents, contents.samples.iter(), &lives);
        let wait_order = self::order(contents, contents.waits.iter().map(|wait| &wait.back), &lives);
        let mut rows = Rows { names, hours: Vec::new(), order, wait_order };
        rows.make_hours(contents, &lives, rates, group_rows);
        rows
    }

    /// The samples of `group`, each with the rank of its function.
    pub(super) fn samples<'a>(
        &'a self,
        contents: &'a JournalContents,
        group: &RowGroup,
    ) -> impl Iterator<Item = (&'a StoredSample, u32)> + Clone {
        self.order.rows(group).filter_map(|(at, rank)| Some((contents.samples.get(at as usize)?, rank)))
    }

    /// The waits of `group`, each with the rank of its function.
    pub(super) fn waits<'a>(
        &'a self,
        contents: &'a JournalContents,
        group: &RowGroup,
    ) -> impl Iterator<Item = (&'a StoredWait, u32)> + Clone {
        self.wait_order.rows(group).filter_map(|(at, rank)| Some((contents.waits.get(at as usize)?, rank)))
    }

    fn make_hours(&mut self, contents: &JournalContents, lives: &[Life], rates: &Rates, group_rows: usize) {
        let mut hours: BTreeSet<Hour> = self.order.hours().chain(self.wait_order.hours()).collect();
        let last_told = contents.batches.iter().map(|batch| batch.to).max();
        if hours.is_empty() || last_told.is_some_and(|told| hours.iter().all(|hour| *hour < Hour::of(told))) {
            hours.insert(Hour::of(last_told.unwrap_or(contents.writer.started_at)));
        }
        let hours: Vec<Hour> = hours.into_iter().collect();
        for (at, hour) in hours.iter().enumerate() {
            let stretch = Window {
                from: hour.window().from,
                to: hours.get(at + 1).map_or(Timestamp::MAX, |next| next.window().from),
            };
            let groups = self.order.groups(*hour, group_rows);
            let wait_groups = self.wait_order.groups(*hour, group_rows);
            let is_last = at + 1 == hours.len();
            let of = [groups.as_slice(), &wait_groups];
            let instances = self.instances(contents, lives, rates, stretch, of, is_last);
            self.hours.push(HourRows { hour: *hour, stretch, groups, wait_groups, instances });
        }
    }

    fn instances(
        &self,
        contents: &JournalContents,
        lives: &[Life],
        rates: &Rates,
        stretch: Window,
        [groups, wait_groups]: [&[RowGroup]; 2],
        is_last: bool,
    ) -> Vec<InstanceRow> {
        let mut present = vec![is_last; contents.instances.len()];
        let mut mark = |sample: &StoredSample| {
            let present = contents.instance_of(sample).and_then(|record| present.get_mut(record));
            present.into_iter().for_each(|present| *present = true);
        };
        for (sample, _) in groups.iter().flat_map(|group| self.samples(contents, group)) {
            mark(sample);
        }
        for (wait, _) in wait_groups.iter().flat_map(|group| self.waits(contents, group)) {
            mark(&wait.back);
        }
        let mut rows: Vec<InstanceRow> = Vec::new();
        // Of each record the position of its first row; that of its next name follows.
        let mut firsts = vec![None; lives.len()];
        for (record, ((life, present), first)) in lives.iter().zip(present).zip(&mut firsts).enumerate() {
            if !present {
                continue;
            }
            *first = Some(rows.len());
            let begins: Vec<Timestamp> = life.names.iter().map(|(_, from, _)| *from).collect();
            let cuts: Vec<Timestamp> = begins.iter().copied().chain(life.cuts.cuts()).collect();
            let marks = readings::marks(&life.readings, stretch, &cuts);
            for (place, (identity, from, rank)) in life.names.iter().enumerate() {
                let end = begins.get(place + 1).copied().unwrap_or(Timestamp::MAX);
                rows.push(InstanceRow {
                    record,
                    identity: *identity,
                    rank: *rank,
                    first: place == 0,
                    window: Window { from: (*from).max(stretch.from), to: end.min(stretch.to) },
                    marks: marks.clone(),
                    counts: Counts::default(),
                    group: None,
                    waits: WaitCounts::default(),
                    wait_group: None,
                });
            }
        }
        let row_of = |sample: &StoredSample| {
            let record = contents.instance_of(sample)?;
            let (life, first) = (lives.get(record)?, (*firsts.get(record)?)?);
            Some((first + life.place(sample.time), life))
        };
        for (at, group) in groups.iter().enumerate() {
            for (sample, _) in self.samples(contents, group) {
                let Some((row, life)) = row_of(sample) else { continue };
                let Some(row) = rows.get_mut(row) else { continue };
                row.group = Some(at);
                let quality = contents.stacks.get(sample.stack as usize).map(|stack| stack.quality());
                row.count(sample.time, &life.cuts, quality.unwrap_or_default(), rates.lost_for(sample));
            }
        }
        for (at, group) in wait_groups.iter().enumerate() {
            for (wait, _) in self.waits(contents, group) {
                let Some(row) = row_of(&wait.back).and_then(|(row, _)| rows.get_mut(row)) else { continue };
                row.wait_group = Some(at);
                row.waits.add(wait);
            }
        }
        rows.iter_mut().for_each(InstanceRow::settle);
        rows
    }
}

/// The order of `stored`, which are all samples of a journal or all waits.
fn order<'a>(
    contents: &JournalContents,
    stored: impl ExactSizeIterator<Item = &'a StoredSample>,
    lives: &[Life],
) -> Order {
    Order::of(stored.map(|stored| {
        let life = lives.get(contents.instance_of(stored)?)?;
        let (_, _, rank) = life.names.get(life.place(stored.time))?;
        Some(Place { hour: Hour::of(stored.time), rank: *rank })
    }))
}

impl WaitCounts {
    fn add(&mut self, wait: &StoredWait) {
        let time = wait.back.time;
        self.count += 1;
        self.ns = self.ns.saturating_add(wait.ns);
        self.preempted_ns = self.preempted_ns.saturating_add(if wait.preempted { wait.ns } else { 0 });
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }
}

impl InstanceRow {
    fn count(&mut self, time: Timestamp, cuts: &PhaseCuts, quality: Quality, lost: Option<f64>) {
        let counts = &mut self.counts;
        for mark in &mut self.marks {
            // Samples come in order of time.
            mark.before += u64::from(time < mark.at);
            mark.until += u64::from(time <= mark.at);
        }
        counts.samples += 1;
        counts.first = Some(counts.first.map_or(time, |first| first.min(time)));
        counts.last = Some(counts.last.map_or(time, |last| last.max(time)));
        if cuts.exec_at.is_some_and(|exec| exec <= time) {
            let first = counts.first_after_exec.map_or(time, |first| first.min(time));
            counts.first_after_exec = Some(first);
        }
        counts.lost += lost.unwrap_or(0.0);
        counts.quality.add(quality, 1);
        if let Some(count) = counts.phases.get_mut(cuts.phase(time)) {
            *count += 1;
        }
    }

    /// Only the instance's first row and rows with samples need its readings.
    fn settle(&mut self) {
        if !self.first && self.counts.samples == 0 {
            self.marks.clear();
        }
    }
}

/// An instance's names: the position among its identities, from when on, which.
type Named = Vec<(Option<usize>, Timestamp, Name)>;

fn lives(records: &[InstanceRecord]) -> (Vec<Name>, Vec<Life>) {
    let mut names: BTreeMap<Name, u32> = BTreeMap::new();
    let named: Vec<Named> = records
        .iter()
        .map(|record| {
            let named = record.identities.iter().enumerate();
            let mut list: Vec<_> =
                named.map(|(at, (from, identity))| (Some(at), *from, Name::of(identity))).collect();
            if list.is_empty() {
                list.push((None, Timestamp::MIN, Name::unknown(record)));
            }
            // The first name holds for what came before it too.
            if let Some((_, from, _)) = list.first_mut() {
                *from = Timestamp::MIN;
            }
            list
        })
        .collect();
    names.extend(named.iter().flatten().map(|(_, _, name)| (name.clone(), 0)));
    names.values_mut().zip(0..).for_each(|(rank, at)| *rank = at);
    let life = |(record, list): (&InstanceRecord, Named)| Life {
        names: list
            .into_iter()
            .map(|(at, from, name)| (at, from, names.get(&name).copied().unwrap_or_default()))
            .collect(),
        cuts: PhaseCuts::of(record),
        readings: readings::rising(record),
    };
    let lives = records.iter().zip(named).map(life).collect();
    (names.into_keys().collect(), lives)
}
