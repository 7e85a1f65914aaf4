//! The store as one window shows it: every instance's life in spans, each with its samples counted.
//!
//! Every question starts here; none reads samples twice for counts. Not here: stacks, see [`super::stacks`].

use std::collections::BTreeSet;
use std::ops::Range;

use super::coverage::{Account, CpuCurve};
use super::error::QueryError;
use super::event::Event;
use super::merge::{Counted, Instance, Merged};
use super::phases::{FunctionTable, Span, spans};
use super::sealed;
use super::selector::{FunctionId, Selector};
use super::waits::OffCpu;
use crate::fold::Weight;
use crate::model::{Entry, Quality, QualityCounts, Timestamp, Window};

/// What a window shows.
#[derive(Debug)]
pub struct View {
    pub(super) merged: Merged,
    pub(super) functions: Vec<FunctionId>,
    /// For each instance.
    pub(super) lives: Vec<Life>,
}

/// An instance's life.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) spans: Vec<Span>,
    pub(super) stays: Vec<Stay>,
    pub(super) curve: CpuCurve,
}

/// A stretch of a life as one function, with what was counted in it.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) function: u32,
    pub(super) window: Window,
    /// Its spans.
    pub(super) spans: Range<usize>,
    pub(super) account: Option<Account>,
    /// Whether its samples tell of CPU time: see [`Instance::is_by_clock`].
    pub(super) clock: bool,
    /// Whether its stacks cannot be seen, so that samples tell of nothing.
    pub(super) unseen: bool,
    pub(super) tally: Tally,
    /// Samples of each of its spans.
    pub(super) by_span: Vec<u64>,
}

/// Counts of a stay within the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) samples: u64,
    pub(super) time_ns: u64,
    /// Time of those samples that the account covers.
    pub(super) compared_ns: u64,
    pub(super) lost: f64,
    pub(super) quality: QualityCounts,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) first_after_exec: Option<Timestamp>,
    /// Beside all that, unless waits are what is counted.
    pub(super) off_cpu: OffCpu,
}

/// Which functions and instances a question is about.
#[derive(Debug, Clone)]
pub struct Selection {
    pub(super) functions: Vec<bool>,
    pub(super) instances: Vec<bool>,
    /// Labels of the hosts, where it was narrowed down to some.
    pub(super) hosts: Option<Vec<String>>,
}

impl Selection {
    pub(super) fn has(&self, instance: usize, function: u32) -> bool {
        self.instances.get(instance).copied().unwrap_or(false)
            && self.functions.get(function as usize).copied().unwrap_or(false)
    }
}

impl View {
    /// The view of what `merged` holds.
    pub fn new(merged: Merged) -> View {
        let (mut lives, functions) = View::lives(&merged);
        count(&merged, &mut lives);
        View { merged, functions, lives }
    }

    /// The lives of all instances, nothing counted yet, and the functions they were.
    pub(super) fn lives(merged: &Merged) -> (Vec<Life>, Vec<FunctionId>) {
        let mut functions = FunctionTable::default();
        let window = merged.window;
        let mut lives: Vec<Life> =
            merged.instances.iter().map(|instance| Life::new(instance, window, &mut functions)).collect();
        if merged.event != Event::CpuClock {
            lives.iter_mut().flat_map(|life| &mut life.stays).for_each(|stay| stay.clock = false);
        }
        (lives, functions.into_ids())
    }

    /// The window it shows.
    pub fn window(&self) -> Window {
        self.merged.window
    }

    /// What of it is counted.
    pub fn event(&self) -> &Event {
        &self.merged.event
    }

    /// Waits of `selection` that its event leaves out: preempted ones, or those that were not.
    pub fn left_out(&self, selection: &Selection) -> Weight {
        let mut sum = Weight::default();
        for (at, weight) in &self.merged.left_out {
            let life = self.lives.get(*at as usize);
            if life
                .is_some_and(|life| life.stays.iter().any(|stay| selection.has(*at as usize, stay.function)))
            {
                sum.add(*weight);
            }
        }
        sum
    }

    /// The events that those sampled who knew the instances of `selection`, but for the CPU clock.
    pub fn counters(&self, selection: &Selection) -> Vec<String> {
        let hosts: BTreeSet<u32> = self
            .stays(selection)
            .filter(|(_, instance, _, _)| !instance.is_by_clock())
            .map(|(_, instance, _, _)| instance.host)
            .collect();
        let of_host = |at: &u32| self.merged.hosts.get(*at as usize).map(|host| host.sources.iter());
        let writers = hosts.iter().filter_map(of_host).flatten().map(|source| &source.writer);
        let events: BTreeSet<&str> =
            writers.filter(|writer| !writer.is_clock()).map(|writer| writer.event.as_str()).collect();
        events.into_iter().map(str::to_owned).collect()
    }

    /// What could not be read of it.
    pub fn damage(&self) -> &[crate::store::Damage] {
        &self.merged.damage
    }

    /// Samples that refer to what their journal does not have.
    pub fn orphans(&self) -> u64 {
        self.merged.orphans
    }

    /// The functions it knows, with a sample in the window or not.
    pub fn functions(&self) -> &[FunctionId] {
        &self.functions
    }

    /// What `selector` (none for every function) and `instances` (none for every instance) mean here.
    pub fn select(&self, selector: Option<&Selector>, instances: &[String]) -> Result<Selection, QueryError> {
        if let Some(selector) = selector {
            QueryError::check(selector, &self.functions)?;
        }
        let chosen = |id: &FunctionId| selector.is_none_or(|selector| selector.matches(id));
        let mut selection = Selection {
            functions: self.functions.iter().map(chosen).collect(),
            instances: vec![instances.is_empty(); self.merged.instances.len()],
            hosts: None,
        };
        for wanted in instances {
            let mut found = false;
            for (chosen, instance) in selection.instances.iter_mut().zip(&self.merged.instances) {
                let is_meant = is_meant(wanted, instance);
                *chosen |= is_meant;
                found |= is_meant;
            }
            if !found {
                return Err(QueryError::NoInstance { wanted: wanted.clone() });
            }
        }
        Ok(selection)
    }

    /// Each stay that `selection` means and the window shows, with its instance.
    pub(super) fn stays<'a>(
        &'a self,
        selection: &'a Selection,
    ) -> impl Iterator<Item = (usize, &'a Instance, &'a Life, &'a Stay)> {
        let lives = self.merged.instances.iter().zip(&self.lives).enumerate();
        lives.flat_map(move |(at, (instance, life))| {
            let stays = life.stays.iter().filter(move |stay| {
                selection.has(at, stay.function) && stay.is_present(instance, self.merged.window)
            });
            stays.map(move |stay| (at, instance, life, stay))
        })
    }
}

/// Whether a person who wrote `wanted` means `instance`.
pub(super) fn is_meant(wanted: &str, instance: &Instance) -> bool {
    let named = |name: Option<&String>| name.is_some_and(|name| name == wanted);
    !wanted.is_empty()
        && (instance.info.key.0.starts_with(wanted)
            || instance.info.container_id.starts_with(wanted)
            || instance.identities.iter().any(|(_, identity)| named(identity.instance_name.as_ref())))
}

impl Life {
    fn new(instance: &Instance, window: Window, functions: &mut FunctionTable) -> Life {
        let spans = spans(instance, functions);
        let curve = CpuCurve::new(instance);
        let mut stays: Vec<Stay> = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            let Some(function) = span.function else { continue };
            match stays.last_mut() {
                Some(stay) if stay.function == function && stay.spans.end == at => {
                    stay.window.to = span.window.to;
                    stay.spans.end = at + 1;
                }
                _ => stays.push(Stay {
                    function,
                    window: span.window,
                    spans: at..at + 1,
                    account: None,
                    clock: instance.is_by_clock(),
                    unseen: instance.unseen().is_some(),
                    tally: Tally::default(),
                    by_span: Vec::new(),
                }),
            }
        }
        for stay in &mut stays {
            stay.account = curve.account(stay.window, window);
            stay.by_span = vec![0; stay.spans.len()];
        }
        Life { spans, stays, curve }
    }

    /// The stay at `time`, and which of its spans.
    fn at(&mut self, time: Timestamp) -> Option<(&mut Stay, usize)> {
        let at = span_at(&self.spans, time);
        let stay = self.stays.iter_mut().find(|stay| stay.spans.contains(&at))?;
        let of_stay = at - stay.spans.start;
        Some((stay, of_stay))
    }
}

/// Which of `spans` holds `time`.
pub(super) fn span_at(spans: &[Span], time: Timestamp) -> usize {
    spans.partition_point(|span| span.window.to <= time).min(spans.len().saturating_sub(1))
}

impl Stay {
    /// Whether the window shows anything of it.
    fn is_present(&self, instance: &Instance, window: Window) -> bool {
        let (from, to) = self.seen(instance);
        let counted = self.tally.samples > 0 || self.tally.lost > 0.0 || self.tally.off_cpu.waits > 0;
        counted || (from <= to && window.overlaps(from, to))
    }

    /// When it was there, as far as is known: the first and the last sign of it.
    pub(super) fn seen(&self, instance: &Instance) -> (Timestamp, Timestamp) {
        let begin = self.window.from.max(instance.info.started_at);
        let end = instance.last_sign().min(self.window.to);
        let first = self.tally.first.map_or(begin, |first| first.min(begin));
        (first, self.tally.last.map_or(end, |last| last.max(end)))
    }

    /// Its coverage as two numbers to be summed: sampled nanoseconds, and CPU microseconds of the same stretch. None
    /// where samples do not stand for a time, or cannot be the function's.
    pub(super) fn compared(&self) -> Option<(u64, u64)> {
        let told = self.clock && !self.unseen;
        let account = self.account.filter(|account| told && account.compared_cpu_us > 0)?;
        Some((self.tally.compared_ns, account.compared_cpu_us))
    }
}

fn count(merged: &Merged, lives: &mut [Life]) {
    for part in &merged.parts {
        for (sample, weight) in part.weighed() {
            let exec_at =
                merged.instances.get(sample.instance as usize).and_then(|instance| instance.exec_at);
            let Some((stay, span)) =
                lives.get_mut(sample.instance as usize).and_then(|life| life.at(sample.time))
            else {
                continue;
            };
            let stack = merged.stacks.get(sample.stack as usize);
            let quality = stack.map(|stack| stack.quality()).unwrap_or_default();
            stay.count(sample.time, weight, span, quality, exec_at);
        }
        for (at, lost) in &part.lost {
            let sample = part.samples.get(*at as usize);
            let life = sample.and_then(|sample| Some((sample, lives.get_mut(sample.instance as usize)?)));
            if let Some((stay, _)) = life.and_then(|(sample, life)| life.at(sample.time)) {
                stay.tally.lost += lost;
            }
        }
    }
    for counted in &merged.counted {
        let Some(life) = lives.get_mut(counted.instance as usize) else { continue };
        let at = span_at(&life.spans, counted.row.first);
        if let Some(stay) = life.stays.iter_mut().find(|stay| stay.spans.contains(&at)) {
            let phases: Vec<_> = life
                .spans
                .get(stay.spans.clone())
                .unwrap_or_default()
                .iter()
                .map(|span| span.phase)
                .collect();
            stay.add(counted, &phases);
        }
    }
    for waited in &merged.waits {
        let life = lives.get_mut(waited.instance as usize);
        if let Some((stay, _)) = life.and_then(|life| life.at(waited.at)) {
            stay.tally.off_cpu.add(waited.time);
        }
    }
    for (instance, life) in merged.instances.iter().zip(lives) {
        // What was a sandbox's is no loss of the function's.
        let lost =
            |(at, why, _): &&(Timestamp, String, u64)| why != Entry::UNSEEN && merged.window.contains(*at);
        for (at, _, dropped) in instance.dropped.iter().filter(lost) {
            if let Some((stay, _)) = life.at(*at) {
                stay.tally.lost += *dropped as f64;
            }
        }
    }
}

impl Stay {
    fn count(
        &mut self,
        time: Timestamp,
        Weight { samples: number, time_ns }: Weight,
        span: usize,
        quality: Quality,
        exec_at: Option<Timestamp>,
    ) {
        let tally = &mut self.tally;
        tally.samples += number;
        tally.time_ns = tally.time_ns.saturating_add(time_ns);
        if self.account.is_some_and(|account| account.compared.contains(time)) {
            tally.compared_ns = tally.compared_ns.saturating_add(time_ns);
        }
        tally.quality.add(quality, number);
        tally.first = Some(tally.first.map_or(time, |first| first.min(time)));
        tally.last = Some(tally.last.map_or(time, |last| last.max(time)));
        if exec_at.is_some_and(|exec| exec <= time) {
            tally.first_after_exec = Some(tally.first_after_exec.map_or(time, |first| first.min(time)));
        }
        if let Some(count) = self.by_span.get_mut(span) {
            *count += number;
        }
    }

    /// Adds totals; `phases` are those of its spans.
    fn add(&mut self, counted: &Counted, phases: &[super::phases::Phase]) {
        let (row, period_ns) = (&counted.row, counted.period_ns);
        let tally = &mut self.tally;
        tally.samples += row.samples;
        tally.time_ns = tally.time_ns.saturating_add(row.samples.saturating_mul(period_ns));
        if let Some(account) = self.account {
            let compared = sealed::samples_in(row, account.compared);
            tally.compared_ns = tally.compared_ns.saturating_add(compared.saturating_mul(period_ns));
        }
        tally.lost += row.lost;
        tally.quality.add_all(row.quality);
        tally.first = Some(tally.first.map_or(row.first, |first| first.min(row.first)));
        tally.last = Some(tally.last.map_or(row.last, |last| last.max(row.last)));
        tally.first_after_exec = [tally.first_after_exec, row.first_after_exec].into_iter().flatten().min();
        for (at, samples) in row.phases.iter().enumerate() {
            let span = sealed::phase(at).and_then(|phase| phases.iter().position(|of| *of == phase));
            if let Some(count) = span.and_then(|span| self.by_span.get_mut(span)) {
                *count += samples;
            }
        }
    }
}
