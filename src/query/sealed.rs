//! Sealed hours in a view: totals where they are as good as the samples, samples where they are not.
//!
//! A row of totals stands for its samples if nothing that the answer tells apart changes between its first and its
//! last one: the window, the function, the phase, the stretch that is compared with the cgroup's account. Each of that
//! is decided by what all journals together know now, not by what was known at the seal: so a name that came late
//! counts, and where a row does not tell enough its samples are read.

use std::collections::{BTreeSet, HashMap};

use super::event::Event;
use super::gathered::gather;
use super::merge::{Counted, Merged, Part, Sample, SealedPart};
use super::phases::Phase;
use super::selector::{FunctionId, Selector};
use super::tasks::{Task, TaskTable};
use super::view::{Life, View};
use super::waits::{self, Length, OffCpu, Waited};
use crate::fold::{StackTable, Weight};
use crate::model::{Timestamp, Window, frame};
use crate::store::StoreError;
use crate::store::archive::{SealedRow, SealedSamples, SealedThread, SealedWaits};

/// What a question reads.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Every sample of the window: any question can be asked.
    All,
    /// No more than counts need: lists of functions and of instances.
    Counts,
    /// The samples of these functions (none: of all), and of these instances alone if any are named. Questions about
    /// others find their instances and no samples. Of many samples their counts, as [`super::Stacks`] and
    /// [`super::Side`] need them, and not each.
    Samples(&'a [Selector], &'a [String]),
    /// The same, and which thread and CPU each ran on; [`Scope::All`] has that too, the others leave it out.
    Threads(&'a [Selector], &'a [String]),
}

/// Samples that are kept one by one where counts are enough: some 20 MB. Fewer are not worth the work.
const MAX_RAW: usize = 1 << 20;

/// What is to be done with an instance's rows of one sealed set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Nothing,
    Count,
    Read,
}

/// Takes `parts` into `merged`.
///
/// # Errors
/// If the system refuses to read a file.
pub(super) fn add(
    merged: &mut Merged,
    parts: Vec<SealedPart>,
    scope: Scope<'_>,
    mut progress: impl FnMut(),
) -> Result<(), StoreError> {
    if parts.is_empty() {
        return Ok(());
    }
    let (lives, functions) = View::lives(merged);
    let wanted = wanted(merged, &lives, &functions, scope);
    let (window, event) = (merged.window, merged.event.clone());
    let threads = matches!(scope, Scope::All | Scope::Threads(..));
    let mut tasks = TaskTable::from(std::mem::take(&mut merged.tasks));
    let mut stacks = StackTable::default();
    for stack in &merged.stacks {
        // They are distinct, so each keeps its number.
        let _ = stacks.number(stack);
    }
    let (mut raw, mut gathered) = (0, 0);
    for part in parts {
        progress();
        let hour = &part.hour;
        if matches!(scope, Scope::All | Scope::Counts) && !matches!(event, Event::OffCpu(_)) {
            add_totals(merged, &part, &lives)?;
        }
        let mut uses: HashMap<u32, Use> = HashMap::new();
        let rows = hour.rows.iter().filter(|_| event.takes(&hour.host.writer));
        for row in rows.clone() {
            let Some(instance) = part.number(row.instance) else { continue };
            let life = lives.get(instance as usize);
            let of_row = match scope {
                _ if !window.overlaps(row.first, row.last) => Use::Nothing,
                Scope::Counts if life.is_some_and(|life| is_enough(row, life, window)) => Use::Count,
                Scope::Samples(..) | Scope::Threads(..) if !wanted.contains(&instance) => Use::Nothing,
                _ => Use::Read,
            };
            let of_instance = uses.entry(instance).or_insert(Use::Nothing);
            // Rows of an instance may share a row group: its samples are read all together or not at all.
            *of_instance = match (*of_instance, of_row) {
                (Use::Read, _) | (_, Use::Read) => Use::Read,
                (Use::Count, _) | (_, Use::Count) => Use::Count,
                _ => Use::Nothing,
            };
        }
        let of = |row: &SealedRow| part.number(row.instance).map(|instance| (instance, uses.get(&instance)));
        for row in rows.clone().filter(|row| window.overlaps(row.first, row.last)) {
            if let Some((instance, Some(Use::Count))) = of(row) {
                let row = row.clone();
                merged.counted.push(Counted { instance, period_ns: hour.period_ns, row });
            }
        }
        let read = |row: &&SealedRow| matches!(of(row), Some((_, Some(Use::Read))));
        let mut groups: BTreeSet<u32> = rows
            .filter(|row| window.overlaps(row.first, row.last))
            .filter(read)
            .map(|row| row.group)
            .collect();
        if matches!(event, Event::OffCpu(_)) {
            for row in hour.waits.iter().filter(|row| window.overlaps(row.first, row.last)) {
                let instance = part.number(row.instance);
                let is_wanted = |at: &u32| matches!(scope, Scope::All | Scope::Counts) || wanted.contains(at);
                if let Some(instance) = instance.filter(is_wanted) {
                    uses.insert(instance, Use::Read);
                    groups.insert(row.group);
                }
            }
        }
        if groups.is_empty() {
            continue;
        }
        let number = |key: &str| {
            let instance = *part.by_key.get(key)?;
            (uses.get(&instance) == Some(&Use::Read)).then_some(instance)
        };
        // Dropped since it was listed: its time has passed.
        let read = match event {
            Event::OffCpu(_) => hour.off_cpu(&groups, window, threads, number)?,
            _ => hour.samples(&groups, window, threads, number)?,
        };
        let Some(samples) = read else { continue };
        let samples = without_left_out(samples, &event, &mut merged.left_out);
        let places: Vec<u32> = samples.distinct.iter().map(|stack| stacks.number(stack)).collect();
        let rows = samples.times.iter().zip(&samples.instances).zip(&samples.stacks);
        let sample = |((time, instance), stack): ((&Timestamp, &u32), &u32)| Sample {
            time: *time,
            instance: *instance,
            stack: places.get(*stack as usize).copied().unwrap_or_default(),
        };
        let nameless = || Task { pid: 0, tid: 0, comm: frame::LOST.into() };
        let task_of = |thread: &SealedThread| {
            let comm = samples.comms.get(thread.comm as usize).cloned();
            Task { pid: thread.pid, tid: thread.tid, comm: comm.unwrap_or_else(|| frame::LOST.into()) }
        };
        let (ran, on) = if threads {
            let ran = samples.threads.iter().map(|thread| tasks.number(task_of(thread))).collect();
            (ran, samples.threads.iter().map(|thread| thread.cpu).collect())
        } else {
            (vec![tasks.number(nameless()); samples.times.len()], vec![0; samples.times.len()])
        };
        raw += samples.times.len();
        merged.parts.push(Part {
            period_ns: hour.period_ns,
            lengths: samples.lengths.iter().map(|(ns, _)| Length::of(*ns)).collect(),
            samples: rows.map(sample).collect(),
            counts: Vec::new(),
            tasks: ran,
            cpus: on,
            lost: samples.lost,
        });
        merged.damage.extend(samples.damage);
        if raw > MAX_RAW && !threads {
            for part in merged.parts.iter_mut().skip(gathered) {
                gather(part, &merged.instances, &lives);
            }
            (raw, gathered) = (0, merged.parts.len());
        }
    }
    merged.stacks = stacks.into_stacks();
    merged.tasks = tasks.into_tasks();
    Ok(())
}

/// Adds what the instances of `part` waited: as totals where those are enough, else each wait.
fn add_totals(merged: &mut Merged, part: &SealedPart, lives: &[Life]) -> Result<(), StoreError> {
    let window = merged.window;
    let mut groups: BTreeSet<u32> = BTreeSet::new();
    let mut whole: HashMap<u32, bool> = HashMap::new();
    let in_window = || part.hour.waits.iter().filter(|row| window.overlaps(row.first, row.last));
    let number = |row: &SealedWaits| part.number(row.instance);
    for row in in_window() {
        let Some(instance) = number(row) else { continue };
        let life = lives.get(instance as usize);
        let enough = life.is_some_and(|life| waits::is_enough(row, life, window));
        // Rows of an instance may share a row group: all of them are read or none.
        *whole.entry(instance).or_insert(true) &= enough;
    }
    for row in in_window() {
        let Some(instance) = number(row) else { continue };
        if whole.get(&instance) == Some(&true) {
            merged.waits.push(Waited { instance, at: row.first, time: OffCpu::of_sealed(row) });
        } else {
            groups.insert(row.group);
        }
    }
    if groups.is_empty() {
        return Ok(());
    }
    let number = |key: &str| {
        let instance = *part.by_key.get(key)?;
        (whole.get(&instance) == Some(&false)).then_some(instance)
    };
    let Some(read) = part.hour.off_cpu(&groups, window, false, number)? else { return Ok(()) };
    let each = read.times.iter().zip(&read.instances).zip(&read.lengths);
    merged.waits.extend(each.map(|((at, instance), (ns, preempted))| Waited {
        instance: *instance,
        at: *at,
        time: OffCpu::of(*ns, *preempted),
    }));
    merged.damage.extend(read.damage);
    Ok(())
}

/// `read` without the waits that `event` does not count; those are added to `left_out`.
fn without_left_out(
    read: SealedSamples,
    event: &Event,
    left_out: &mut HashMap<u32, Weight>,
) -> SealedSamples {
    let Event::OffCpu(preempted) = event else { return read };
    let mut kept = SealedSamples {
        distinct: read.distinct,
        comms: read.comms,
        damage: read.damage,
        ..SealedSamples::default()
    };
    for (at, length) in read.lengths.iter().enumerate() {
        let Some(instance) = read.instances.get(at) else { continue };
        if !preempted.takes(length.1) {
            left_out.entry(*instance).or_default().add(Weight { samples: 1, time_ns: length.0 });
            continue;
        }
        kept.times.extend(read.times.get(at));
        kept.instances.push(*instance);
        kept.stacks.extend(read.stacks.get(at));
        kept.threads.extend(read.threads.get(at));
        kept.lengths.push(*length);
    }
    kept
}

/// The instances whose samples `scope` asks for.
fn wanted(
    merged: &Merged,
    lives: &[Life],
    functions: &[FunctionId],
    scope: Scope<'_>,
) -> std::collections::HashSet<u32> {
    let (Scope::Samples(selectors, named) | Scope::Threads(selectors, named)) = scope else {
        return Default::default();
    };
    let is_meant = |id| selectors.is_empty() || selectors.iter().any(|selector| selector.matches(id));
    let chosen: Vec<bool> = functions.iter().map(is_meant).collect();
    let is_chosen = |function: u32| chosen.get(function as usize).copied().unwrap_or(false);
    let instances = merged.instances.iter().zip(lives).zip(0..);
    let meant = instances.filter(|((instance, life), _)| {
        life.stays.iter().any(|stay| is_chosen(stay.function))
            && (named.is_empty() || named.iter().any(|name| super::view::is_meant(name, instance)))
    });
    meant.map(|(_, number)| number).collect()
}

/// Whether the totals of `row` tell as much as its samples.
fn is_enough(row: &SealedRow, life: &Life, window: Window) -> bool {
    let inside = |cut: Timestamp| row.first < cut && cut <= row.last;
    if !window.contains(row.first) || !window.contains(row.last) {
        return false;
    }
    // No cut of this life that the row does not tell of, and none in the row that is no longer one.
    let cuts: Vec<Timestamp> =
        life.spans.iter().map(|span| span.window.from).filter(|from| inside(*from)).collect();
    let told: Vec<Timestamp> = row.cuts.cuts().filter(|cut| inside(*cut)).collect();
    if cuts.iter().ne(&told) {
        return false;
    }
    let at = super::view::span_at(&life.spans, row.first);
    let spans = life.spans.get(at..=at + cuts.len()).unwrap_or_default();
    let same_phase = spans.iter().all(|span| {
        let time = span.window.from.max(row.first);
        Phase::ALL.get(row.cuts.phase(time)) == Some(&span.phase)
    });
    let Some(first) = spans.first() else { return false };
    if !same_phase || spans.iter().any(|span| span.function != first.function) {
        return false;
    }
    let stay = life.stays.iter().find(|stay| stay.spans.contains(&at));
    let compared = stay.and_then(|stay| stay.account).map(|account| account.compared);
    compared.is_none_or(|compared| {
        row.samples_before(compared.from).is_some() && row.samples_before(compared.to).is_some()
    })
}

/// Samples of `row` that lie in `window`, whose ends it can tell.
pub(super) fn samples_in(row: &SealedRow, window: Window) -> u64 {
    let before = |time| row.samples_before(time).unwrap_or(0);
    before(window.to).saturating_sub(before(window.from))
}

/// The phase that the samples counted in `row.phases[at]` are of.
pub(super) fn phase(at: usize) -> Option<Phase> {
    Phase::ALL.get(at).copied()
}
