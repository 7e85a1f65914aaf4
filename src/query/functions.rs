//! Which functions are there, and how much did each use: a row for each revision.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::cold::is_cold_start;
use super::merge::Instance;
use super::selector::{FunctionId, Part};
use super::view::{Selection, View};
use super::waits::OffCpu;
use crate::model::{Isolation, QualityCounts, Timestamp};

/// A revision of a function within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionRow {
    /// Which.
    pub id: FunctionId,
    /// Instances that were there.
    pub instances: u64,
    /// Those of them whose stacks cannot be seen, by what hides them.
    pub unseen: BTreeMap<Isolation, u64>,
    /// Samples.
    pub samples: u64,
    /// CPU time by its cgroups' own account, in microseconds; none where no instance has one.
    pub cpu_us: Option<u64>,
    /// Time that its samples stand for, in nanoseconds; see [`FunctionRow::no_clock`].
    pub sampled_ns: u64,
    /// Whether its samples stand for no time, because another event than the CPU clock is counted or was sampled.
    pub no_clock: bool,
    /// Time off the CPU; none where none was recorded.
    pub off_cpu: Option<OffCpu>,
    /// Share of the CPU time that samples cover, over instances of which it is known.
    pub coverage: Option<f64>,
    /// Samples lost, an estimate.
    pub lost: u64,
    /// Samples by what the quality of their stacks says.
    pub quality: QualityCounts,
    /// Instances watched from birth whose start lies in the window.
    pub cold_starts: u64,
    /// First sign of it.
    pub first_seen: Timestamp,
    /// Last sign of it.
    pub last_seen: Timestamp,
}

impl FunctionRow {
    /// How many of its instances cannot be seen.
    pub fn unseen_instances(&self) -> u64 {
        self.unseen.values().sum()
    }

    /// Share of the samples whose stack reaches the thread's root; none without samples.
    pub fn complete(&self) -> Option<f64> {
        share(self.quality.complete, self.samples)
    }

    /// Share of the samples of which every frame has a symbol; none without samples.
    pub fn named(&self) -> Option<f64> {
        share(self.quality.named(self.samples), self.samples)
    }
}

/// `part` of `samples`; none without samples.
pub(super) fn share(part: u64, samples: u64) -> Option<f64> {
    (samples > 0).then(|| part as f64 / samples as f64)
}

/// Adds up the coverage of many instances.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CoverageSum {
    sampled_ns: u64,
    cpu_us: u64,
}

impl CoverageSum {
    pub(super) fn add(&mut self, compared: Option<(u64, u64)>) {
        let (sampled_ns, cpu_us) = compared.unwrap_or_default();
        self.sampled_ns = self.sampled_ns.saturating_add(sampled_ns);
        self.cpu_us = self.cpu_us.saturating_add(cpu_us);
    }

    pub(super) fn share(self) -> Option<f64> {
        (self.cpu_us > 0).then(|| self.sampled_ns as f64 / (self.cpu_us as f64 * 1e3))
    }
}

#[derive(Default)]
struct Sums {
    instances: BTreeSet<usize>,
    unseen: BTreeMap<Isolation, BTreeSet<usize>>,
    samples: u64,
    cpu_us: Option<u64>,
    sampled_ns: u64,
    by_clock: bool,
    off_cpu: OffCpu,
    coverage: CoverageSum,
    lost: f64,
    quality: QualityCounts,
    cold_starts: u64,
    seen: Option<(Timestamp, Timestamp)>,
}

/// The rows of `selection`: functions with the most samples first, newest revision first.
pub fn functions(view: &View, selection: &Selection) -> Vec<FunctionRow> {
    let sums = sums(view, selection, |_| 0).into_iter();
    sorted(sums.filter_map(|((_, function), sums)| sums.row(view, function)).collect())
}

/// The same, a row for each host that ran it, hosts in order of label.
pub fn functions_by_host(view: &View, selection: &Selection) -> Vec<(String, FunctionRow)> {
    let mut by_host: BTreeMap<u32, Vec<FunctionRow>> = BTreeMap::new();
    for ((host, function), sums) in sums(view, selection, |instance| instance.host) {
        by_host.entry(host).or_default().extend(sums.row(view, function));
    }
    let mut all = Vec::new();
    for (host, rows) in by_host {
        let Some(host) = view.hosts().get(host as usize) else { continue };
        all.extend(sorted(rows).into_iter().map(|row| (host.label.clone(), row)));
    }
    all
}

/// What each function used, told apart by `host` too.
fn sums(view: &View, selection: &Selection, host: impl Fn(&Instance) -> u32) -> BTreeMap<(u32, u32), Sums> {
    let mut all: BTreeMap<(u32, u32), Sums> = BTreeMap::new();
    for (at, instance, _, stay) in view.stays(selection) {
        let sums = all.entry((host(instance), stay.function)).or_default();
        sums.instances.insert(at);
        if let Some(isolation) = instance.unseen() {
            sums.unseen.entry(isolation).or_default().insert(at);
        }
        sums.samples += stay.tally.samples;
        sums.sampled_ns = sums.sampled_ns.saturating_add(stay.tally.time_ns);
        if let Some(account) = stay.account {
            sums.cpu_us = Some(sums.cpu_us.unwrap_or(0).saturating_add(account.cpu_us));
        }
        sums.by_clock |= stay.clock;
        sums.off_cpu.add(stay.tally.off_cpu);
        sums.coverage.add(stay.compared());
        sums.lost += stay.tally.lost;
        sums.quality.add_all(stay.tally.quality);
        sums.cold_starts += u64::from(is_cold_start(view.window(), instance, stay));
        let (first, last) = stay.seen(instance);
        sums.seen = Some(sums.seen.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    }
    all
}

impl Sums {
    fn row(self, view: &View, function: u32) -> Option<FunctionRow> {
        let (first_seen, last_seen) = self.seen?;
        Some(FunctionRow {
            id: view.functions.get(function as usize)?.clone(),
            instances: self.instances.len() as u64,
            unseen: self.unseen.into_iter().map(|(by, of)| (by, of.len() as u64)).collect(),
            samples: self.samples,
            cpu_us: self.cpu_us,
            sampled_ns: self.sampled_ns,
            no_clock: !self.by_clock,
            off_cpu: self.off_cpu.some(),
            coverage: self.coverage.share(),
            lost: self.lost.round() as u64,
            quality: self.quality,
            cold_starts: self.cold_starts,
            first_seen,
            last_seen,
        })
    }
}

fn sorted(mut rows: Vec<FunctionRow>) -> Vec<FunctionRow> {
    fn of(row: &FunctionRow) -> [&Part; 3] {
        [&row.id.platform, &row.id.namespace, &row.id.function]
    }
    rows.sort_by(|a, b| {
        let by_function = of(a).cmp(&of(b)).then_with(|| b.last_seen.cmp(&a.last_seen));
        by_function.then_with(|| a.id.revision.cmp(&b.id.revision))
    });
    let mut totals = Vec::with_capacity(rows.len());
    for revisions in rows.chunk_by(|a, b| of(a) == of(b)) {
        let total = revisions.iter().fold(0, |sum: u64, row| sum.saturating_add(row.samples));
        totals.extend(revisions.iter().map(|_| total));
    }
    let mut all: Vec<(u64, FunctionRow)> = totals.into_iter().zip(rows).collect();
    all.sort_by_key(|(total, _)| Reverse(*total));
    all.into_iter().map(|(_, row)| row).collect()
}

/// The coverage of everything in `selection` together.
pub fn coverage(view: &View, selection: &Selection) -> Option<f64> {
    let mut sum = CoverageSum::default();
    view.stays(selection).for_each(|(_, _, _, stay)| sum.add(stay.compared()));
    sum.share()
}
