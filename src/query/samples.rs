//! Single samples in order of time, each with all that the store knows of it: what an export needs and no count does.
//!
//! Promises: those samples that [`super::stacks`] counts, each once, in order of time over all writers; 16 bytes for
//! each while they are told.

use std::sync::Arc;

use super::merge::Instance;
use super::phases::{Phase, PhaseFilter};
use super::selector::FunctionId;
use super::tasks::Task;
use super::view::{Selection, View, span_at};
use crate::model::{Stack, Timestamp};

/// One sample.
#[derive(Debug, Clone, Copy)]
pub struct SampleRow<'a> {
    /// When it was taken.
    pub time: Timestamp,
    /// Which function it is of.
    pub function: &'a FunctionId,
    /// Which instance.
    pub instance: &'a Instance,
    /// In which phase of the instance's life.
    pub phase: Phase,
    /// Process, as the host saw it.
    pub pid: u32,
    /// Thread, as the host saw it.
    pub tid: u32,
    /// The process's name at that time.
    pub comm: &'a str,
    /// CPU it ran on.
    pub cpu: u32,
    /// Its stack. Equal stacks are one.
    pub stack: &'a Arc<Stack>,
    /// Time it stands for, or a wait took, in nanoseconds.
    pub period_ns: u64,
}

/// Tells `each` every sample of a view that was opened with [`super::Scope::All`] or [`super::Scope::Threads`], of `selection` in `phases`, in order of time.
///
/// # Errors
/// Of `each`, at once.
pub fn each_sample(
    view: &View,
    selection: &Selection,
    phases: PhaseFilter,
    mut each: impl FnMut(SampleRow<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut places: Vec<(Timestamp, u32, u32)> = Vec::new();
    for (number, part) in (0u32..).zip(&view.merged.parts) {
        let chosen =
            (0u32..).zip(&part.samples).filter(|(at, _)| row(view, number, *at, selection, phases).is_some());
        places.extend(chosen.map(|(at, sample)| (sample.time, number, at)));
    }
    places.sort_unstable();
    places.iter().filter_map(|(_, part, at)| row(view, *part, *at, selection, phases)).try_for_each(&mut each)
}

/// Sample `at` of part `part`, if it is asked for.
fn row<'a>(
    view: &'a View,
    part: u32,
    at: u32,
    selection: &Selection,
    phases: PhaseFilter,
) -> Option<SampleRow<'a>> {
    let part = view.merged.parts.get(part as usize)?;
    let at = at as usize;
    let sample = part.samples.get(at)?;
    let instance = sample.instance as usize;
    let life = view.lives.get(instance)?;
    let span = life.spans.get(span_at(&life.spans, sample.time))?;
    let function = span.function.filter(|function| selection.has(instance, *function))?;
    if !phases.takes(span.phase) {
        return None;
    }
    let Task { pid, tid, comm } = view.merged.tasks.get(*part.tasks.get(at)? as usize)?;
    Some(SampleRow {
        time: sample.time,
        function: view.functions.get(function as usize)?,
        instance: view.merged.instances.get(instance)?,
        phase: span.phase,
        pid: *pid,
        tid: *tid,
        comm,
        cpu: u32::from(*part.cpus.get(at)?),
        stack: view.merged.stacks.get(sample.stack as usize)?,
        period_ns: part.weight(at, 1).time_ns,
    })
}
