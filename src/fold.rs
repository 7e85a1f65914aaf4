//! Samples of a window to a profile: distinct stacks, each with how often it was seen and for how long.
//!
//! Not here: which samples count (that is [`crate::query`]) and how a profile looks (that is [`crate::render`]).
//! Promises: no allocation for a sample, only for a stack that was not seen before; sums are kept, so a profile of
//! two adjoining windows is the sum of theirs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::Stack;
use crate::model::frame::UNWOUND_SHORT;

/// How often, and for how long: sampled periods may differ from journal to journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Samples, or waits.
    pub samples: u64,
    /// Time these samples stand for, or waits took, in nanoseconds.
    pub time_ns: u64,
}

impl Weight {
    /// Of so many samples that stand for `period_ns` nanoseconds each.
    pub fn of(samples: u64, period_ns: u64) -> Weight {
        Weight { samples, time_ns: samples.saturating_mul(period_ns) }
    }

    /// Counts one sample that stands for `period_ns` nanoseconds.
    pub fn add_sample(&mut self, period_ns: u64) {
        self.samples += 1;
        self.time_ns = self.time_ns.saturating_add(period_ns);
    }

    /// Counts all of `other`.
    pub fn add(&mut self, other: Weight) {
        self.samples += other.samples;
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
    }

    /// The time in seconds.
    pub fn seconds(self) -> f64 {
        self.time_ns as f64 / 1e9
    }
}

/// What weights are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measure {
    /// Samples of the CPU clock, each of which stands for a time.
    #[default]
    Clock,
    /// Samples of a counter, which stand for no time.
    Counter,
    /// Waits, whose time is what counts.
    Waits,
}

impl Measure {
    /// What shares are taken of: samples, of waits nanoseconds.
    pub fn amount(self, weight: Weight) -> u64 {
        if self == Measure::Waits { weight.time_ns } else { weight.samples }
    }

    /// The weight as folded text and graphs tell it: samples, of waits microseconds, to the nearest.
    pub fn told(self, weight: Weight) -> u64 {
        match self {
            Measure::Clock | Measure::Counter => weight.samples,
            Measure::Waits => weight.time_ns.saturating_add(500) / 1_000,
        }
    }

    /// The time in seconds; none where samples stand for none.
    pub fn seconds(self, weight: Weight) -> Option<f64> {
        (self != Measure::Counter).then(|| weight.seconds())
    }
}

/// Distinct stacks by number, over as many journals as there are.
#[derive(Debug, Default)]
pub struct StackTable {
    stacks: Vec<Arc<Stack>>,
    numbers: HashMap<Arc<Stack>, u32>,
}

impl StackTable {
    /// The number of `stack`, a new one for a stack that was not seen before.
    pub fn number(&mut self, stack: &Arc<Stack>) -> u32 {
        if let Some(number) = self.numbers.get(stack) {
            return *number;
        }
        let number = u32::try_from(self.stacks.len()).expect("memory ends long before 2^32 stacks");
        self.stacks.push(Arc::clone(stack));
        self.numbers.insert(Arc::clone(stack), number);
        number
    }

    /// The stacks in the order of their numbers.
    pub fn into_stacks(self) -> Vec<Arc<Stack>> {
        self.stacks
    }
}

/// Distinct stacks with their weights.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    stacks: Vec<(Arc<Stack>, Weight)>,
    measure: Measure,
}

impl Profile {
    /// The profile of `weights`, one for each of `stacks`; stacks that were never seen are left out.
    pub fn from_weights(stacks: &[Arc<Stack>], weights: &[Weight]) -> Profile {
        let seen = stacks.iter().zip(weights).filter(|(_, weight)| weight.samples > 0);
        let stacks = seen.map(|(stack, weight)| (Arc::clone(stack), *weight)).collect();
        Profile { stacks, measure: Measure::Clock }
    }

    /// The same, its weights those of `measure`.
    #[must_use]
    pub fn measured(self, measure: Measure) -> Profile {
        Profile { measure, ..self }
    }

    /// What its weights are of.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Its stacks, in no order. Two may differ in quality alone.
    pub fn stacks(&self) -> &[(Arc<Stack>, Weight)] {
        &self.stacks
    }

    /// The sum of all weights.
    pub fn total(&self) -> Weight {
        let mut total = Weight::default();
        self.stacks.iter().for_each(|(_, weight)| total.add(*weight));
        total
    }

    /// Its stacks as people and tools exchange them, `root;…;leaf`, each distinct one once, in order of text.
    /// A stack without a frame is told as the marker that it is, so that counts stay whole.
    pub fn folded(&self) -> BTreeMap<String, Weight> {
        let mut lines: BTreeMap<String, Weight> = BTreeMap::new();
        for (stack, weight) in &self.stacks {
            let text = match stack.frames() {
                [] => UNWOUND_SHORT.to_string(),
                frames => frames.join(";"),
            };
            lines.entry(text).or_default().add(*weight);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Quality;

    fn stack(frames: &[&str], quality: Quality) -> Arc<Stack> {
        Arc::new(Stack::new(frames.iter().map(|f| (*f).into()).collect(), quality))
    }

    #[test]
    fn equal_stacks_have_one_number_and_counts_stay_whole() {
        let mut table = StackTable::default();
        let stacks = [
            stack(&["a", "b"], Quality::COMPLETE),
            stack(&["a", "b"], Quality::COMPLETE),
            stack(&["a", "b"], Quality::SHORT),
            stack(&[], Quality::SHORT),
        ];
        let numbers: Vec<u32> = stacks.iter().map(|s| table.number(s)).collect();
        assert_eq!(numbers, [0, 0, 1, 2]);
        let mut weights = vec![Weight::default(); 3];
        numbers.iter().for_each(|n| weights[*n as usize].add_sample(10));
        let profile = Profile::from_weights(&table.into_stacks(), &weights);
        assert_eq!(profile.total(), Weight { samples: 4, time_ns: 40 });
        let folded = profile.folded();
        assert_eq!(folded.get("a;b").map(|w| w.samples), Some(3), "one line, whatever the quality");
        assert_eq!(folded.values().map(|w| w.samples).sum::<u64>(), 4);
    }
}
