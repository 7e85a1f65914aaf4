//! The instances of a function: when each lived, how it began, and what it used in each phase.

use super::coverage::Account;
use super::functions::share;
use super::merge::Instance;
use super::phases::Phase;
use super::selector::FunctionId;
use super::view::{Life, Selection, Stay, View};
use super::waits::OffCpu;
use crate::model::{Confidence, CpuSource, Fact, Isolation, QualityCounts, Timestamp, Window};

/// An instance as one function within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceRow {
    /// Its unique key.
    pub key: String,
    /// The platform's own name of it.
    pub instance_name: Option<String>,
    /// Which function.
    pub id: FunctionId,
    /// How sure that is; none where nobody has named it.
    pub confidence: Option<Confidence>,
    /// The host.
    pub node: String,
    /// Its image.
    pub image: Option<String>,
    /// What runs it below its runtime (`runc`, `kata`, …), as that runtime calls it.
    pub runtime_handler: Option<String>,
    /// What hides its stacks from the host.
    pub unseen: Option<Isolation>,
    /// The labels that the configuration asked to keep, in order of name.
    pub labels: Vec<(String, String)>,
    /// When its cgroup was made.
    pub started_at: Timestamp,
    /// The function's own exec.
    pub exec_at: Option<Timestamp>,
    /// Its end.
    pub ended_at: Option<Timestamp>,
    /// Exit status of its first process.
    pub exit_code: Option<i32>,
    /// CPU time by the cgroup's own account, in microseconds.
    pub cpu_us: Option<u64>,
    /// Time that its samples stand for, in nanoseconds.
    pub sampled_ns: u64,
    /// Share of the CPU time that samples cover.
    pub coverage: Option<f64>,
    /// Where the last reading of the CPU time comes from.
    pub coverage_source: Option<CpuSource>,
    /// Whether its samples stand for no time, because another event than the CPU clock is counted or was sampled.
    pub no_clock: bool,
    /// Time off the CPU; none where none was recorded.
    pub off_cpu: Option<OffCpu>,
    /// Since when it is recorded no more, where that ended before the instance: it switched too often, the agent came near
    /// its budget, or nobody asked for it any more. Told where nothing had been recorded until then, too.
    pub off_cpu_until: Option<Timestamp>,
    /// Samples.
    pub samples: u64,
    /// Samples by what the quality of their stacks says.
    pub quality: QualityCounts,
    /// From the exec to the first sample after it, in microseconds; none where the window does not show it.
    pub first_sample_after_exec_us: Option<i64>,
    /// The phases the window shows, in order of time.
    pub phases: Vec<PhaseRow>,
}

impl InstanceRow {
    /// Share of the samples whose stack reaches the thread's root; none without samples.
    pub fn complete(&self) -> Option<f64> {
        share(self.quality.complete, self.samples)
    }

    /// Share of the samples of which every frame has a symbol; none without samples.
    pub fn named(&self) -> Option<f64> {
        share(self.quality.named(self.samples), self.samples)
    }
}

/// A phase of an instance within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseRow {
    /// Which.
    pub phase: Phase,
    /// Its begin, or the window's.
    pub from: Timestamp,
    /// Its end, or the window's; none while it lasts.
    pub to: Option<Timestamp>,
    /// Samples.
    pub samples: u64,
    /// CPU time in microseconds. The account is read at the exec, so that what is the runtime's and what the function's
    /// is exact; where it was not, the phase's part of the samples tells its part of the account. Other ends of a phase
    /// lie between readings a second apart, and are interpolated.
    pub cpu_us: Option<u64>,
}

/// The rows of `selection`, oldest instance first.
pub fn instances(view: &View, selection: &Selection) -> Vec<InstanceRow> {
    let rows = view.stays(selection).filter_map(|(_, instance, life, stay)| {
        let id = view.functions.get(stay.function as usize)?.clone();
        Some(row(view.window(), id, instance, life, stay))
    });
    rows.collect()
}

fn row(window: Window, id: FunctionId, instance: &Instance, life: &Life, stay: &Stay) -> InstanceRow {
    let exec_shown = instance.exec_at.filter(|exec| window.contains(*exec) && stay.window.contains(*exec));
    let first_after = exec_shown.and_then(|exec| Some(stay.tally.first_after_exec?.since_us(exec)));
    InstanceRow {
        key: instance.info.key.to_string(),
        instance_name: name_of(instance, stay),
        id,
        confidence: confidence_of(instance, stay),
        node: instance.node.clone(),
        image: instance.info.image.clone(),
        runtime_handler: instance.handler().map(str::to_owned),
        unseen: instance.unseen(),
        labels: told(instance, |fact| match fact {
            Fact::Labels(labels) => Some(labels.clone()),
            _ => None,
        })
        .unwrap_or_default(),
        started_at: instance.info.started_at,
        exec_at: instance.exec_at,
        ended_at: instance.ended.map(|ended| ended.at),
        exit_code: instance.ended.and_then(|ended| ended.exit_code),
        cpu_us: stay.account.map(|account| account.cpu_us),
        sampled_ns: stay.tally.time_ns,
        coverage: stay.compared().map(|(sampled_ns, cpu_us)| sampled_ns as f64 / (cpu_us as f64 * 1e3)),
        coverage_source: stay.account.map(|account| account.source),
        no_clock: !stay.clock,
        off_cpu: stay.tally.off_cpu.some(),
        off_cpu_until: off_cpu_until(instance, window, stay),
        samples: stay.tally.samples,
        quality: stay.tally.quality,
        first_sample_after_exec_us: first_after,
        phases: phases(window, instance, life, stay),
    }
}

/// The last that `pick` picks of what became true of `instance`.
fn told<T>(instance: &Instance, pick: impl Fn(&Fact) -> Option<T>) -> Option<T> {
    instance.facts.iter().rev().find_map(|(_, fact)| pick(fact))
}

/// When the time off the CPU of `instance` was recorded no more, by the last word on it within `window` and `stay`.
fn off_cpu_until(instance: &Instance, window: Window, stay: &Stay) -> Option<Timestamp> {
    let mut words = instance.facts.iter().rev().filter_map(|(at, fact)| match fact {
        Fact::OffCpu(recorded) => Some((*at, *recorded)),
        _ => None,
    });
    let last = words.find(|(at, _)| window.contains(*at) && stay.window.contains(*at));
    last.filter(|(_, recorded)| !recorded).map(|(at, _)| at)
}

/// The platform's own name of `instance` during `stay`.
pub(super) fn name_of(instance: &Instance, stay: &Stay) -> Option<String> {
    let named = instance.identities.iter().rev().filter(|(from, _)| *from < stay.window.to);
    named.filter_map(|(_, identity)| identity.instance_name.clone()).next()
}

/// How sure it is that `instance` was this function during `stay`.
fn confidence_of(instance: &Instance, stay: &Stay) -> Option<Confidence> {
    // What was before the first name belongs to that.
    let first = instance.identities.first();
    let named = instance.identities.iter().rev().find(|(from, _)| *from < stay.window.to);
    named.or(first).map(|(_, identity)| identity.confidence)
}

pub(super) fn phases(window: Window, instance: &Instance, life: &Life, stay: &Stay) -> Vec<PhaseRow> {
    let spans = life.spans.get(stay.spans.clone()).unwrap_or_default();
    let end = instance.ended.map_or(Timestamp::MAX, |ended| ended.at);
    let exec_shown = instance.exec_at.filter(|exec| window.contains(*exec) && stay.window.contains(*exec));
    // Readings are then too far apart for what lies on the two sides of the exec.
    let by_samples = stay.tally.samples > 0
        && instance.info.from_birth
        && exec_shown.is_some_and(|exec| !life.curve.is_read_at(exec));
    let rows = spans.iter().zip(&stay.by_span).filter_map(|(span, &samples)| {
        let from = span.window.from.max(window.from).max(instance.info.started_at.min(span.window.to));
        let to = span.window.to.min(window.to).min(end.max(from));
        let known = stay.account.filter(|_| by_samples || life.curve.known_after(from));
        let cpu_us = |account: Account| {
            if by_samples {
                let part = samples as f64 / stay.tally.samples as f64;
                return (account.cpu_us as f64 * part.min(1.0)).round() as u64;
            }
            life.curve.between(span.window, stay.window, window)
        };
        (from < to || samples > 0).then(|| PhaseRow {
            phase: span.phase,
            from,
            to: Some(to).filter(|to| *to != Timestamp::MAX),
            samples,
            cpu_us: known.map(cpu_us),
        })
    });
    rows.collect()
}
