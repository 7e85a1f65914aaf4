//! Where the time went: the stacks of a function, and the frames in them.

use std::collections::HashMap;
use std::sync::Arc;

use super::phases::{Phase, PhaseFilter};
use super::view::{Selection, View, span_at};
use crate::fold::{Measure, Profile, Weight};
use crate::model::{Frame, FrameKind, Timestamp};

/// The stacks of a selection in the phases asked for.
#[derive(Debug, Clone, Default)]
pub struct Stacks {
    /// Them.
    pub profile: Profile,
    /// Samples of the selection in other phases, in order of phases; none with zero.
    pub left_out: Vec<(Phase, u64)>,
    /// First and last sample.
    pub seen: Option<(Timestamp, Timestamp)>,
}

/// What to do with the samples of a span.
#[derive(Clone, Copy)]
enum Use {
    Stranger,
    LeftOut(Phase),
    Counted,
}

/// The stacks of `selection` in `phases`.
pub fn stacks(view: &View, selection: &Selection, phases: PhaseFilter) -> Stacks {
    let uses: Vec<Vec<Use>> = view
        .lives
        .iter()
        .enumerate()
        .map(|(at, life)| {
            let of_span = |span: &super::phases::Span| match span.function {
                Some(function) if selection.has(at, function) && phases.takes(span.phase) => Use::Counted,
                Some(function) if selection.has(at, function) => Use::LeftOut(span.phase),
                _ => Use::Stranger,
            };
            life.spans.iter().map(of_span).collect()
        })
        .collect();
    let mut weights = vec![Weight::default(); view.merged.stacks.len()];
    let mut left_out = Phase::ALL.map(|phase| (phase, 0u64));
    let mut seen: Option<(Timestamp, Timestamp)> = None;
    for part in &view.merged.parts {
        for (sample, of_sample) in part.weighed() {
            let instance = sample.instance as usize;
            let (Some(life), Some(uses)) = (view.lives.get(instance), uses.get(instance)) else { continue };
            match uses.get(span_at(&life.spans, sample.time)) {
                Some(Use::Counted) => {
                    if let Some(weight) = weights.get_mut(sample.stack as usize) {
                        weight.add(of_sample);
                    }
                    seen = Some(seen.map_or((sample.time, sample.time), |(a, b)| {
                        (a.min(sample.time), b.max(sample.time))
                    }));
                }
                Some(Use::LeftOut(phase)) => {
                    left_out
                        .iter_mut()
                        .filter(|(of, _)| of == phase)
                        .for_each(|(_, sum)| *sum += of_sample.samples);
                }
                Some(Use::Stranger) | None => {}
            }
        }
    }
    Stacks {
        profile: Profile::from_weights(&view.merged.stacks, &weights).measured(view.event().measure()),
        left_out: left_out.into_iter().filter(|(_, count)| *count > 0).collect(),
        seen,
    }
}

/// A frame over all stacks.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameRow {
    /// Its name without module and kind.
    pub frame: String,
    /// File name of its module; none for a frame of no module.
    pub module: Option<String>,
    /// Kind of code.
    pub kind: FrameKind,
    /// What its weights are of.
    pub measure: Measure,
    /// Samples in which it is the leaf.
    pub own: Weight,
    /// Samples in which it stands at all, once for each however often it recurs.
    pub total: Weight,
    /// `own` as a share of all samples, of waits of their time.
    pub own_share: f64,
    /// `total` likewise.
    pub total_share: f64,
}

/// For each number that `number` gives to frames, counted from 0 as they come: the weight of stacks that end in one of
/// its frames, and of those that hold any.
pub(super) fn sums<'a>(
    profile: &'a Profile,
    mut number: impl FnMut(&'a Arc<str>) -> usize,
) -> Vec<(Weight, Weight)> {
    // The last stack a number was counted in keeps it from counting twice there.
    let mut sums: Vec<(Weight, Weight, Option<usize>)> = Vec::new();
    for (at, (stack, weight)) in profile.stacks().iter().enumerate() {
        let leaf = stack.frames().len().saturating_sub(1);
        for (depth, frame) in stack.frames().iter().enumerate() {
            let number = number(frame);
            if number == sums.len() {
                sums.push((Weight::default(), Weight::default(), None));
            }
            let Some((own, total, last)) = sums.get_mut(number) else { continue };
            if *last != Some(at) {
                total.add(*weight);
                *last = Some(at);
            }
            if depth == leaf {
                own.add(*weight);
            }
        }
    }
    sums.into_iter().map(|(own, total, _)| (own, total)).collect()
}

/// The frames of `profile`, those with the most samples of their own first.
pub fn top(profile: &Profile) -> Vec<FrameRow> {
    let mut numbers: HashMap<&Arc<str>, usize> = HashMap::new();
    let sums = sums(profile, |frame| {
        let fresh = numbers.len();
        *numbers.entry(frame).or_insert(fresh)
    });
    let measure = profile.measure();
    let all = measure.amount(profile.total()).max(1) as f64;
    let row = |(text, number): (&Arc<str>, usize)| {
        let (own, total) = sums.get(number).copied().unwrap_or_default();
        let frame = Frame::parse(text);
        FrameRow {
            frame: frame.label(),
            module: Some(frame.module).filter(|module| !module.is_empty()),
            kind: frame.kind,
            measure,
            own,
            total,
            own_share: measure.amount(own) as f64 / all,
            total_share: measure.amount(total) as f64 / all,
        }
    };
    let mut rows: Vec<FrameRow> = numbers.into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        let weight = |row: &FrameRow| (measure.amount(row.own), measure.amount(row.total));
        weight(b).cmp(&weight(a)).then_with(|| (&a.frame, &a.module).cmp(&(&b.frame, &b.module)))
    });
    rows
}
