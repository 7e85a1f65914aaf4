//! Which functions are there, and how much did each use: a row for each revision.

use std::collections::BTreeSet;

use super::cold::is_cold_start;
use super::selector::FunctionId;
use super::view::{Selection, View};
use crate::model::Timestamp;

/// A revision of a function within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionRow {
    /// Which.
    pub id: FunctionId,
    /// Instances that were there.
    pub instances: u64,
    /// Samples.
    pub samples: u64,
    /// CPU time by its cgroups' own account, in microseconds; none where no instance has one.
    pub cpu_us: Option<u64>,
    /// Time that its samples stand for, in nanoseconds.
    pub sampled_ns: u64,
    /// Share of the CPU time that samples cover, over instances of which it is known.
    pub coverage: Option<f64>,
    /// Samples lost, an estimate.
    pub lost: u64,
    /// Samples whose stack reached the depth limit.
    pub truncated: u64,
    /// Samples with a frame that has no symbol.
    pub unsymbolized: u64,
    /// Instances watched from birth whose start lies in the window.
    pub cold_starts: u64,
    /// First sign of it.
    pub first_seen: Timestamp,
    /// Last sign of it.
    pub last_seen: Timestamp,
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
    samples: u64,
    cpu_us: Option<u64>,
    sampled_ns: u64,
    coverage: CoverageSum,
    lost: f64,
    truncated: u64,
    unsymbolized: u64,
    cold_starts: u64,
    seen: Option<(Timestamp, Timestamp)>,
}

/// The rows of `selection`: functions with the most samples first, newest revision first.
pub fn functions(view: &View, selection: &Selection) -> Vec<FunctionRow> {
    let mut sums: Vec<Sums> = view.functions.iter().map(|_| Sums::default()).collect();
    for (at, instance, _, stay) in view.stays(selection) {
        let Some(sums) = sums.get_mut(stay.function as usize) else { continue };
        sums.instances.insert(at);
        sums.samples += stay.tally.samples;
        sums.sampled_ns = sums.sampled_ns.saturating_add(stay.tally.time_ns);
        if let Some(account) = stay.account {
            sums.cpu_us = Some(sums.cpu_us.unwrap_or(0).saturating_add(account.cpu_us));
        }
        sums.coverage.add(stay.compared());
        sums.lost += stay.tally.lost;
        sums.truncated += stay.tally.truncated;
        sums.unsymbolized += stay.tally.unsymbolized;
        sums.cold_starts += u64::from(is_cold_start(view.window(), instance, stay));
        let (first, last) = stay.seen(instance);
        sums.seen = Some(sums.seen.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    }
    let row = |(id, sums): (&FunctionId, Sums)| {
        let (first_seen, last_seen) = sums.seen?;
        Some(FunctionRow {
            id: id.clone(),
            instances: sums.instances.len() as u64,
            samples: sums.samples,
            cpu_us: sums.cpu_us,
            sampled_ns: sums.sampled_ns,
            coverage: sums.coverage.share(),
            lost: sums.lost.round() as u64,
            truncated: sums.truncated,
            unsymbolized: sums.unsymbolized,
            cold_starts: sums.cold_starts,
            first_seen,
            last_seen,
        })
    };
    let mut rows: Vec<FunctionRow> = view.functions.iter().zip(sums).filter_map(row).collect();
    sort(&mut rows);
    rows
}

/// The same, a row for each host that ran it, hosts in order of label.
pub fn functions_by_host(view: &View, selection: &Selection) -> Vec<(String, FunctionRow)> {
    let mut all = Vec::new();
    for (at, host) in view.hosts().iter().enumerate() {
        let mut on_host = selection.clone();
        for (chosen, instance) in on_host.instances.iter_mut().zip(&view.merged.instances) {
            *chosen &= instance.host as usize == at;
        }
        all.extend(functions(view, &on_host).into_iter().map(|row| (host.label.clone(), row)));
    }
    all
}

fn sort(rows: &mut [FunctionRow]) {
    let mut totals = std::collections::HashMap::new();
    for row in rows.iter() {
        *totals.entry(row.id.any_revision()).or_insert(0u64) += row.samples;
    }
    rows.sort_by_cached_key(|row| {
        let function = row.id.any_revision();
        let total = totals.get(&function).copied().unwrap_or(0);
        (std::cmp::Reverse(total), function.to_string(), std::cmp::Reverse(row.last_seen), row.id.clone())
    });
}

/// The coverage of everything in `selection` together.
pub fn coverage(view: &View, selection: &Selection) -> Option<f64> {
    let mut sum = CoverageSum::default();
    view.stays(selection).for_each(|(_, _, _, stay)| sum.add(stay.compared()));
    sum.share()
}
