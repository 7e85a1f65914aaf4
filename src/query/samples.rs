//! Single samples in order of time, each with all that the store knows of it: what an export needs and no count does.
//!
//! A view keeps of a sample only when, whose and which stack; the rest is read here a second time. Not here: which
//! samples a question is about, that is the view's and the selection's.
//!
//! Promises: those samples that [`super::stacks`] counts, each once, in order of time; only journals whose time
//! overlaps are in memory together, however many there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::merge::Instance;
use super::phases::{Phase, PhaseFilter};
use super::selector::FunctionId;
use super::view::{Selection, View, span_at};
use crate::model::{InstanceKey, Stack, Timestamp, Window};
use crate::store::{JournalContents, JournalFile, Store, StoreError, StoredSample};

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
    /// Its stack. Equal stacks of one journal are one.
    pub stack: &'a Arc<Stack>,
    /// Time it stands for, in nanoseconds.
    pub period_ns: u64,
}

/// Tells `each` every sample of `selection` in `phases`, in order of time. `root` is the store that `view` was opened
/// from; what was appended to it since may be told too.
///
/// # Errors
/// Of `each`, at once; or if the system refuses to read a journal.
pub fn each_sample(
    root: &Path,
    view: &View,
    selection: &Selection,
    phases: PhaseFilter,
    mut each: impl FnMut(SampleRow<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let judge = Judge::new(view, selection, phases);
    let mut sources = sources(root, view.window())?;
    // Which journal comes when: known without a look where there is but one.
    let mut next = BinaryHeap::new();
    let single = sources.len() == 1;
    for (at, source) in sources.iter().enumerate() {
        if single {
            next.push(Reverse((Timestamp::MIN, at)));
        } else if let Some(first) = Loaded::new(source, &judge)?.and_then(|loaded| loaded.next_time()) {
            next.push(Reverse((first, at)));
        }
    }
    let mut loaded: Vec<Option<Loaded>> = sources.iter().map(|_| None).collect();
    while let Some(Reverse((_, at))) = next.pop() {
        let (Some(slot), Some(source)) = (loaded.get_mut(at), sources.get_mut(at)) else { continue };
        if slot.is_none() {
            *slot = Loaded::new(source, &judge)?;
        }
        let Some(journal) = slot else { continue };
        // As long as no other journal has an earlier one.
        let until = next.peek().map_or(Timestamp::MAX, |Reverse((time, _))| *time);
        while let Some(time) = journal.next_time().filter(|time| *time <= until) {
            if let Some(row) = journal.row(&judge) {
                each(row)?;
            }
            journal.position += 1;
            debug_assert!(journal.next_time().is_none_or(|later| time <= later));
        }
        match journal.next_time() {
            Some(time) => next.push(Reverse((time, at))),
            None => *slot = None,
        }
    }
    Ok(())
}

/// Says of a stored sample whether it is asked for.
struct Judge<'a> {
    view: &'a View,
    selection: &'a Selection,
    phases: PhaseFilter,
    by_key: HashMap<&'a InstanceKey, usize>,
}

impl<'a> Judge<'a> {
    fn new(view: &'a View, selection: &'a Selection, phases: PhaseFilter) -> Judge<'a> {
        let numbered = view.merged.instances.iter().enumerate();
        let by_key = numbered.map(|(at, instance)| (&instance.info.key, at)).collect();
        Judge { view, selection, phases, by_key }
    }

    /// Function and phase of a sample of instance `at` (as the view numbers them) at `time`, if it is asked for.
    fn verdict(&self, at: usize, time: Timestamp) -> Option<(&'a FunctionId, Phase)> {
        let life = self.view.lives.get(at)?;
        let span = life.spans.get(span_at(&life.spans, time))?;
        let function = span.function.filter(|function| self.selection.has(at, *function))?;
        let id = self.view.functions.get(function as usize)?;
        self.phases.takes(span.phase).then_some((id, span.phase))
    }
}

/// A journal of which the samples asked for are left.
struct Loaded {
    contents: JournalContents,
    /// For each instance of the journal, its number in the view.
    instances: Vec<Option<usize>>,
    position: usize,
}

impl Loaded {
    fn new(source: &JournalFile, judge: &Judge<'_>) -> anyhow::Result<Option<Loaded>> {
        let Some(mut contents) = load(source, judge.view.window())? else { return Ok(None) };
        let instances: Vec<Option<usize>> =
            contents.instances.iter().map(|record| judge.by_key.get(&record.info.key).copied()).collect();
        let (stacks, comms) = (contents.stacks.len(), contents.comms.len());
        contents.samples.retain(|sample| {
            let at = instances.get(sample.instance as usize).copied().flatten();
            at.is_some_and(|at| judge.verdict(at, sample.time).is_some())
                && (sample.stack as usize) < stacks
                && (sample.comm as usize) < comms
        });
        contents.samples.shrink_to_fit();
        Ok(Some(Loaded { contents, instances, position: 0 }))
    }

    fn next(&self) -> Option<&StoredSample> {
        self.contents.samples.get(self.position)
    }

    fn next_time(&self) -> Option<Timestamp> {
        self.next().map(|sample| sample.time)
    }

    fn row<'a>(&'a self, judge: &Judge<'a>) -> Option<SampleRow<'a>> {
        let sample = self.next()?;
        let at = self.instances.get(sample.instance as usize).copied().flatten()?;
        let (function, phase) = judge.verdict(at, sample.time)?;
        Some(SampleRow {
            time: sample.time,
            function,
            instance: judge.view.merged.instances.get(at)?,
            phase,
            pid: sample.pid,
            tid: sample.tid,
            comm: self.contents.comms.get(sample.comm as usize)?,
            cpu: sample.cpu,
            stack: self.contents.stacks.get(sample.stack as usize)?,
            period_ns: self.contents.writer.period_ns,
        })
    }
}

/// The files that may hold samples of `window`. This and [`load`] are all that is known here of how the store keeps
/// them.
fn sources(root: &Path, window: Window) -> anyhow::Result<Vec<JournalFile>> {
    let mut sources = Vec::new();
    for journal in Store::open(root)?.journals()? {
        match journal.may_overlap(window) {
            Ok(true) => sources.push(journal),
            Ok(false) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sources)
}

/// What `source` holds of `window`; none if it is gone or nothing of it can be used, which opening the view has told.
fn load(source: &JournalFile, window: Window) -> anyhow::Result<Option<JournalContents>> {
    match source.load(window) {
        Ok(contents) => Ok(Some(contents)),
        Err(StoreError::NoHead { .. }) => Ok(None),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
