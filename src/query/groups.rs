//! Where the time went, by something coarser than a frame: modules, threads, phases.
//!
//! Promises: of threads and of phases every sample counts once, so their shares add up to one; of modules a sample
//! counts once as its leaf's own, and once for each module on its stack.

use std::collections::HashMap;
use std::sync::Arc;

use super::phases::{Phase, PhaseFilter};
use super::stacks::sums;
use super::tasks::Task;
use super::view::{Selection, View, span_at};
use crate::fold::{Measure, Profile, Weight};
use crate::model::Frame;

/// A module over all stacks.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleRow {
    /// Its file name; none for frames of no module (markers, names without one).
    pub module: Option<String>,
    /// What its weights are of.
    pub measure: Measure,
    /// Samples whose leaf is in it.
    pub own: Weight,
    /// Samples with a frame of it.
    pub total: Weight,
    /// `own` as a share of all samples, of waits of their time.
    pub own_share: f64,
    /// `total` likewise.
    pub total_share: f64,
}

/// A thread of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadRow {
    /// Who it is, as the host saw it.
    pub task: Task,
    /// Key of its instance.
    pub instance: String,
    /// Label of the host.
    pub host: String,
    /// Its samples.
    pub weight: Weight,
    /// What these are.
    pub measure: Measure,
    /// Them as a share of all samples, of waits of their time.
    pub share: f64,
}

/// A phase of all instances together.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSum {
    /// Which.
    pub phase: Phase,
    /// Its samples.
    pub weight: Weight,
    /// What these are.
    pub measure: Measure,
    /// Them as a share of all samples, of waits of their time.
    pub share: f64,
}

/// The modules of `profile`, those with the most samples of their own first.
pub fn by_module(profile: &Profile) -> Vec<ModuleRow> {
    let mut modules: HashMap<&Arc<str>, usize> = HashMap::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let sums = sums(profile, |frame| {
        *modules.entry(frame).or_insert_with(|| {
            let fresh = numbers.len();
            *numbers.entry(Frame::parse(frame).module).or_insert(fresh)
        })
    });
    let measure = profile.measure();
    let all = measure.amount(profile.total());
    let row = |(module, number): (String, usize)| {
        let (own, total) = sums.get(number).copied().unwrap_or_default();
        ModuleRow {
            module: Some(module).filter(|module| !module.is_empty()),
            measure,
            own,
            total,
            own_share: share(measure.amount(own), all),
            total_share: share(measure.amount(total), all),
        }
    };
    let mut rows: Vec<ModuleRow> = numbers.into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        let weight = |row: &ModuleRow| (measure.amount(row.own), measure.amount(row.total));
        weight(b).cmp(&weight(a)).then_with(|| a.module.cmp(&b.module))
    });
    rows
}

/// The threads of `selection` in `phases`, those with the most samples first.
pub fn by_thread(view: &View, selection: &Selection, phases: PhaseFilter) -> Vec<ThreadRow> {
    let mut sums: HashMap<(u32, u32), Weight> = HashMap::new();
    let measure = view.event().measure();
    let mut all = 0;
    each_sample(view, selection, |instance, task, phase, weight| {
        if phases.takes(phase) {
            all += measure.amount(weight);
            sums.entry((instance, task)).or_default().add(weight);
        }
    });
    let row = |((instance, task), weight): ((u32, u32), Weight)| {
        let instance = view.merged.instances.get(instance as usize)?;
        Some(ThreadRow {
            task: view.merged.tasks.get(task as usize)?.clone(),
            instance: instance.info.key.to_string(),
            host: instance.node.clone(),
            weight,
            measure,
            share: share(measure.amount(weight), all),
        })
    };
    let mut rows: Vec<ThreadRow> = sums.into_iter().filter_map(row).collect();
    rows.sort_by(|a, b| {
        let order = measure.amount(b.weight).cmp(&measure.amount(a.weight));
        order.then_with(|| (&a.task, &a.instance).cmp(&(&b.task, &b.instance)))
    });
    rows
}

/// The phases of `selection`, in order of time; those without a sample are left out.
pub fn by_phase(view: &View, selection: &Selection) -> Vec<PhaseSum> {
    let mut sums = Phase::ALL.map(|phase| (phase, Weight::default()));
    each_sample(view, selection, |_, _, phase, weight| {
        sums.iter_mut().filter(|(of, _)| *of == phase).for_each(|(_, sum)| sum.add(weight));
    });
    let measure = view.event().measure();
    let all = sums.iter().map(|(_, weight)| measure.amount(*weight)).sum();
    let seen = sums.into_iter().filter(|(_, weight)| weight.samples > 0);
    seen.map(|(phase, weight)| PhaseSum { phase, weight, measure, share: share(measure.amount(weight), all) })
        .collect()
}

/// Each sample of `selection`, or what was gathered: its instance, its task, its phase, and what it stands for.
pub(super) fn each_sample(view: &View, selection: &Selection, mut seen: impl FnMut(u32, u32, Phase, Weight)) {
    for part in &view.merged.parts {
        for ((sample, weight), task) in part.weighed().zip(&part.tasks) {
            let instance = sample.instance as usize;
            let Some(life) = view.lives.get(instance) else { continue };
            let Some(span) = life.spans.get(span_at(&life.spans, sample.time)) else { continue };
            if span.function.is_some_and(|function| selection.has(instance, function)) {
                seen(sample.instance, *task, span.phase, weight);
            }
        }
    }
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}
