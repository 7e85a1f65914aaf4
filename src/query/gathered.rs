//! Samples of a part that no count tells apart, as one entry with their number.
//!
//! Not for questions about single samples or threads: those need every one. Promises: sums by stack, instance, phase,
//! day and stretch of the account stay the same, and so do first and last times.

use std::collections::HashMap;

use super::merge::{Instance, Part, Sample};
use super::view::{Life, span_at};
use super::waits::Length;
use crate::model::{Timestamp, Window};

/// A day in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// What counts tell samples apart by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    instance: u32,
    stack: u32,
    span: u32,
    day: i64,
    compared: bool,
    after_exec: bool,
}

struct Entry {
    first: Timestamp,
    last: Timestamp,
    count: u32,
    length: Length,
}

/// Gathers the samples of `part`; `lives` are those of `instances`.
pub(super) fn gather(part: &mut Part, instances: &[Instance], lives: &[Life]) {
    let mut numbers: HashMap<Key, u32> = HashMap::new();
    let mut entries: Vec<(Sample, Entry)> = Vec::new();
    // The positions of samples that stand for a loss, with the entry each went to.
    let mut lost = part.lost.iter().peekable();
    let mut lost_at: Vec<(u32, f64)> = Vec::new();
    for (at, (sample, count)) in (0u32..).zip(part.counted()) {
        let (instance, life) = (instances.get(sample.instance as usize), lives.get(sample.instance as usize));
        let key = key(sample, instance, life);
        let number = *numbers.entry(key).or_insert_with(|| {
            entries.push((
                *sample,
                Entry { first: sample.time, last: sample.time, count: 0, length: Length::default() },
            ));
            // There are no more than samples, which are numbered in 32 bits.
            (entries.len() - 1) as u32
        });
        if let Some((_, entry)) = entries.get_mut(number as usize) {
            entry.first = entry.first.min(sample.time);
            entry.last = entry.last.max(sample.time);
            entry.count = entry.count.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            if let Some(length) = part.lengths.get(at as usize) {
                entry.length.add(*length);
            }
        }
        while let Some((_, samples)) = lost.next_if(|(of, _)| *of == at) {
            lost_at.push((number, *samples));
        }
    }
    let task = part.tasks.first().copied().unwrap_or_default();
    let (mut samples, mut counts) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
    // All of an entry's time stands with its first sample.
    let mut lengths: Vec<Length> = match part.lengths.is_empty() {
        true => Vec::new(),
        false => entries.iter().map(|(_, entry)| entry.length).collect(),
    };
    for (sample, entry) in &entries {
        samples.push(Sample { time: entry.first, ..*sample });
        // Whoever looks for the last time finds it.
        counts.push(if entry.last > entry.first { entry.count - 1 } else { entry.count });
    }
    for (sample, entry) in entries.iter().filter(|(_, entry)| entry.last > entry.first) {
        samples.push(Sample { time: entry.last, ..*sample });
        counts.push(1);
    }
    if !lengths.is_empty() {
        lengths.resize(samples.len(), Length::default());
    }
    part.lengths = lengths;
    (part.tasks, part.cpus) = (vec![task; samples.len()], vec![0; samples.len()]);
    (part.samples, part.counts, part.lost) = (samples, counts, lost_at);
}

fn key(sample: &Sample, instance: Option<&Instance>, life: Option<&Life>) -> Key {
    let span = life.map_or(0, |life| span_at(&life.spans, sample.time));
    let stay = life.and_then(|life| life.stays.iter().find(|stay| stay.spans.contains(&span)));
    let compared: Option<Window> = stay.and_then(|stay| Some(stay.account?.compared));
    Key {
        instance: sample.instance,
        stack: sample.stack,
        // A life has as many as names and phases it had.
        span: u32::try_from(span).unwrap_or(u32::MAX),
        day: sample.time.0.div_euclid(DAY_US),
        compared: compared.is_some_and(|window| window.contains(sample.time)),
        after_exec: instance.and_then(|instance| instance.exec_at).is_some_and(|exec| exec <= sample.time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuSource, Window};
    use crate::query::fixture::{Journal, at_ms, at_s, identity, usage};
    use crate::query::merge::Merged;
    use crate::query::{
        CostBy, Merger, PhaseFilter, View, by_phase, cold_starts, cost, diff, functions, instances, side,
        stacks,
    };

    /// Two instances: one over midnight, with losses and readings in the middle of its samples, one found running.
    fn merged() -> Merged {
        let mut journal = Journal::new();
        let long = journal.instance("aa", true, 86_000);
        let record = journal.record(long);
        record.identities =
            vec![(at_s(86_000), identity("demo", "pi", "1")), (at_s(86_500), identity("demo", "pi", "2"))];
        record.exec_at = Some(at_ms(86_000_250));
        record.usage =
            vec![usage(86_100, 100_000, CpuSource::Running), usage(86_900, 900_000, CpuSource::Running)];
        let batch = journal.batch(100, 50);
        for ms in [86_000_000, 86_000_400, 86_099_990, 86_399_990, 86_499_990, 86_899_990] {
            journal.samples_of(long, ms, 30, "main [pi];a [pi]", crate::model::Quality::TRUNCATED, batch);
            journal.samples(long, ms + 5, 20, "main [pi];b [pi]");
        }
        let found = journal.instance("bb", false, 86_200);
        let record = journal.record(found);
        record.identities = vec![(at_s(86_200), identity("demo", "fib", "1"))];
        record.exec_at = Some(at_ms(86_300_015));
        journal.samples(found, 86_300_000, 40, "main [fib]");
        let mut merger = Merger::new(Window::ALL);
        merger.add(journal.contents);
        merger.finish()
    }

    #[test]
    fn no_count_tells_what_was_gathered_from_the_samples() {
        let plain = View::new(merged());
        let mut merged = merged();
        let (lives, _) = View::lives(&merged);
        for part in &mut merged.parts {
            let before = part.samples.len();
            gather(part, &merged.instances, &lives);
            assert!(part.samples.len() < before / 4, "{} of {before}", part.samples.len());
            // What was gathered once is gathered again without a loss.
            gather(part, &merged.instances, &lives);
        }
        let gathered = View::new(merged);
        let all = plain.select(None, &[]).unwrap();
        assert_eq!(functions(&gathered, &all), functions(&plain, &all));
        assert_eq!(instances(&gathered, &all), instances(&plain, &all));
        assert_eq!(cold_starts(&gathered, &all), cold_starts(&plain, &all));
        assert_eq!(by_phase(&gathered, &all), by_phase(&plain, &all));
        for by in [&[CostBy::Day, CostBy::Revision][..], &[CostBy::Function]] {
            assert_eq!(cost(&gathered, &all, by), cost(&plain, &all, by));
        }
        for phases in [PhaseFilter::All, PhaseFilter::Function] {
            let (one, other) = (stacks(&gathered, &all, phases), stacks(&plain, &all, phases));
            assert_eq!(one.profile.folded(), other.profile.folded());
            assert_eq!((one.left_out, one.seen), (other.left_out, other.seen));
            let sides = [&gathered, &plain].map(|view| side(view, &all, phases));
            assert!(
                diff(&sides[0], &sides[1])
                    .iter()
                    .all(|row| row.own[0] == row.own[1] && row.total[0] == row.total[1])
            );
        }
        assert!(functions(&plain, &all).iter().any(|row| row.lost > 0 && row.quality.truncated > 0));
    }
}
