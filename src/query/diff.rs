//! Two sides compared: two revisions of a function, two windows of one, two hosts.
//!
//! A frame is matched by its name and module; what changes from build to build without meaning is left aside:
//! addresses (a module's frames without a name are one), and the hash that ends a Rust symbol. Whether it was inlined
//! is left aside too. How differences are judged is said in [`super::significance`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::cold::is_cold_start;
use super::phases::PhaseFilter;
use super::significance::{CpuTimes, Difference, Share, difference};
use super::view::{Selection, View, span_at};
use crate::fold::Measure;
use crate::model::frame::FrameName;
use crate::model::{Frame, FrameKind};

/// What tells a frame from another, whatever build it is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameKey {
    /// Its name without module and kind.
    pub frame: String,
    /// File name of its module; none for a frame of no module.
    pub module: Option<String>,
}

impl FrameKey {
    /// The key of a frame in the grammar of frames, and its kind of code.
    pub fn of(text: &str) -> (FrameKey, FrameKind) {
        let frame = Frame::parse(text);
        let kind = frame.kind;
        let name = match &frame.name {
            FrameName::Symbol(_) => without_hash(&frame.label()).to_owned(),
            FrameName::Marker(text) => text.clone(),
            FrameName::FunctionStart(_) | FrameName::Offset(_) => format!("[{}]", frame.module),
        };
        (FrameKey { frame: name, module: Some(frame.module).filter(|module| !module.is_empty()) }, kind)
    }
}

/// `core::fmt::write::h0123456789abcdef` without its end.
fn without_hash(symbol: &str) -> &str {
    const HASH: usize = "::h0123456789abcdef".len();
    let end = symbol.len().checked_sub(HASH).and_then(|at| symbol.split_at_checked(at));
    match end.and_then(|(name, end)| Some((name, end.strip_prefix("::h")?))) {
        Some((name, hash)) if hash.bytes().all(|b| b.is_ascii_hexdigit()) && !name.is_empty() => name,
        _ => symbol,
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Samples counted, or waits.
    pub samples: u64,
    /// What these are.
    pub measure: Measure,
    /// CPU time of each instance in the phases asked for; where waits are counted, their time.
    pub cpu: CpuTimes,
    /// The same of those instances whose cold start the window shows.
    pub starts: CpuTimes,
    /// See [`Share::least_effect`].
    least_effect: f64,
    frames: Vec<(FrameKey, FrameKind)>,
    /// For each distinct stack of an instance: its instance, how often (of waits how long, in nanoseconds), its frames
    /// once each, its leaf.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone)]
struct Seen {
    instance: u32,
    samples: u64,
    /// Positions in [`Side::frames`], each once.
    frames: Arc<[u32]>,
    leaf: Option<u32>,
}

/// The side that `selection` of `view` is, in `phases`.
pub fn side(view: &View, selection: &Selection, phases: PhaseFilter) -> Side {
    let measure = view.event().measure();
    let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let (mut samples, mut squares) = (0u64, 0.0);
    for part in &view.merged.parts {
        for (at, (sample, count)) in part.counted().enumerate() {
            let instance = sample.instance as usize;
            let Some(life) = view.lives.get(instance) else { continue };
            let Some(span) = life.spans.get(span_at(&life.spans, sample.time)) else { continue };
            let meant = span.function.is_some_and(|function| selection.has(instance, function));
            if meant && phases.takes(span.phase) {
                let amount = measure.amount(part.weight(at, count));
                let sum = counts.entry((sample.instance, sample.stack)).or_default();
                *sum = sum.saturating_add(amount);
                samples += count;
                squares += part.lengths.get(at).map_or(0.0, |length| length.squares);
            }
        }
    }
    let all = counts.values().fold(0u64, |sum, amount| sum.saturating_add(*amount));
    let least_effect = (squares / all.max(1) as f64).max(1.0);
    let mut side = Side { samples, measure, least_effect, ..Side::default() };
    side.count(view, &counts);
    if measure == Measure::Waits {
        side.time_off(view, selection, &counts);
    } else {
        side.account(view, selection, phases, &counts);
    }
    side
}

impl Side {
    fn count(&mut self, view: &View, counts: &BTreeMap<(u32, u32), u64>) {
        let mut numbers: HashMap<FrameKey, u32> = HashMap::new();
        let mut of_text: HashMap<&Arc<str>, u32> = HashMap::new();
        let mut of_stack: HashMap<u32, (Arc<[u32]>, Option<u32>)> = HashMap::new();
        for (&(instance, stack), &samples) in counts {
            let (frames, leaf) = of_stack.entry(stack).or_insert_with(|| {
                let texts = view.merged.stacks.get(stack as usize).map_or(&[][..], |stack| stack.frames());
                let mut frames: Vec<u32> = texts
                    .iter()
                    .map(|text| {
                        *of_text.entry(text).or_insert_with(|| {
                            let (key, kind) = FrameKey::of(text);
                            let fresh = u32::try_from(self.frames.len())
                                .expect("memory ends long before 2^32 frames");
                            *numbers.entry(key).or_insert_with_key(|key| {
                                self.frames.push((key.clone(), kind));
                                fresh
                            })
                        })
                    })
                    .collect();
                let leaf = frames.last().copied();
                frames.sort_unstable();
                frames.dedup();
                (frames.into(), leaf)
            });
            self.seen.push(Seen { instance, samples, frames: Arc::clone(frames), leaf: *leaf });
        }
    }

    /// What each instance waited.
    fn time_off(&mut self, view: &View, selection: &Selection, counts: &BTreeMap<(u32, u32), u64>) {
        let mut each: BTreeMap<usize, (f64, bool)> = BTreeMap::new();
        for (at, instance, _, stay) in view.stays(selection) {
            each.entry(at).or_default().1 |= is_cold_start(view.window(), instance, stay);
        }
        for ((instance, _), ns) in counts {
            each.entry(*instance as usize).or_default().0 += *ns as f64 / 1e3;
        }
        let times = |wanted: &dyn Fn(bool) -> bool| CpuTimes {
            each_us: each.values().filter(|(_, started)| wanted(*started)).map(|(us, _)| *us).collect(),
            accounted: false,
            samples: self.samples,
        };
        (self.cpu, self.starts) = (times(&|_| true), times(&|started| started));
    }

    /// CPU time by the kernel's account; the part of it that lies in `phases` by the part of the samples there.
    fn account(
        &mut self,
        view: &View,
        selection: &Selection,
        phases: PhaseFilter,
        counts: &BTreeMap<(u32, u32), u64>,
    ) {
        let mut each: BTreeMap<usize, (f64, bool, bool)> = BTreeMap::new();
        for (at, instance, life, stay) in view.stays(selection) {
            let spans = life.spans.get(stay.spans.clone()).unwrap_or_default();
            let taken = || spans.iter().zip(&stay.by_span).filter(|(span, _)| phases.takes(span.phase));
            let samples: u64 = taken().map(|(_, count)| count).sum();
            let cpu_us = match stay.account {
                // A cgroup that went with its last process takes the end of its account along: samples tell of the rest.
                Some(account) if stay.tally.samples > 0 => {
                    let rest_us = stay.tally.time_ns.saturating_sub(stay.tally.compared_ns) as f64 / 1e3;
                    let whole_us = account.compared_cpu_us as f64 + rest_us;
                    whole_us * samples as f64 / stay.tally.samples as f64
                }
                Some(_) => taken()
                    .map(|(span, _)| life.curve.between(span.window, stay.window, view.window()) as f64)
                    .sum(),
                None => stay.tally.time_ns as f64 / 1e3 * samples as f64 / stay.tally.samples.max(1) as f64,
            };
            let (sum, accounted, started) = each.entry(at).or_insert((0.0, true, false));
            *sum += cpu_us;
            *accounted &= stay.account.is_some();
            *started |= is_cold_start(view.window(), instance, stay);
        }
        let sampled = |instances: &dyn Fn(usize) -> bool| {
            counts.iter().filter(|((at, _), _)| instances(*at as usize)).map(|(_, count)| count).sum()
        };
        let started = |at: usize| each.get(&at).is_some_and(|(_, _, started)| *started);
        let times_of = |wanted: &dyn Fn(usize) -> bool| CpuTimes {
            each_us: each.iter().filter(|(at, _)| wanted(**at)).map(|(_, (cpu, _, _))| *cpu).collect(),
            accounted: each.iter().filter(|(at, _)| wanted(**at)).all(|(_, (_, accounted, _))| *accounted),
            samples: sampled(wanted),
        };
        self.cpu = times_of(&|_| true);
        self.starts = times_of(&started);
    }

    /// Shares of the frames that `wanted` says yes to, all of them together: as the leaf, and anywhere on the stack.
    pub fn share_of(&self, wanted: impl Fn(&FrameKey) -> bool) -> (Share, Share) {
        let chosen: Vec<bool> = self.frames.iter().map(|(key, _)| wanted(key)).collect();
        let is_chosen = |frame: &u32| chosen.get(*frame as usize).copied().unwrap_or(false);
        let mut counts: BTreeMap<u32, (u64, u64, u64)> = BTreeMap::new();
        for seen in &self.seen {
            let (own, total, all) = counts.entry(seen.instance).or_default();
            *all += seen.samples;
            *own += if seen.leaf.as_ref().is_some_and(is_chosen) { seen.samples } else { 0 };
            *total += if seen.frames.iter().any(is_chosen) { seen.samples } else { 0 };
        }
        let own = Share::of_instances(counts.values().map(|(own, _, all)| (*own, *all)));
        let total = Share::of_instances(counts.values().map(|(_, total, all)| (*total, *all)));
        let least_effect = self.least_effect.max(1.0);
        (Share { least_effect, ..own }, Share { least_effect, ..total })
    }

    /// Whether `wanted` says yes to one of its frames.
    pub fn has_frame(&self, wanted: impl Fn(&FrameKey) -> bool) -> bool {
        self.frames.iter().any(|(key, _)| wanted(key))
    }

    /// The shares of every frame: as the leaf, and anywhere on the stack.
    fn shares(&self) -> Vec<(Share, Share)> {
        // Of all instances; a frame that an instance lacks counts there with 0 of its samples.
        let mut none = Share::NONE;
        let mut sums = vec![(Share::NONE, Share::NONE); self.frames.len()];
        for of_instance in self.seen.chunk_by(|a, b| a.instance == b.instance) {
            let all: u64 = of_instance.iter().map(|seen| seen.samples).sum();
            let mut counts: HashMap<u32, (u64, u64)> = HashMap::new();
            for seen in of_instance {
                for frame in seen.frames.iter() {
                    counts.entry(*frame).or_default().1 += seen.samples;
                }
                if let Some(leaf) = seen.leaf {
                    counts.entry(leaf).or_default().0 += seen.samples;
                }
            }
            none.of += all;
            none.instances += 1;
            none.squares[2] += all as f64 * all as f64;
            for (frame, (own, total)) in counts {
                let Some(sums) = sums.get_mut(frame as usize) else { continue };
                for (share, samples) in [(&mut sums.0, own), (&mut sums.1, total)] {
                    share.samples += samples;
                    share.squares[0] += samples as f64 * samples as f64;
                    share.squares[1] += samples as f64 * all as f64;
                }
            }
        }
        let whole = |share: Share| Share {
            of: none.of,
            instances: none.instances,
            squares: [share.squares[0], share.squares[1], none.squares[2]],
            least_effect: self.least_effect.max(1.0),
            ..share
        };
        sums.into_iter().map(|(own, total)| (whole(own), whole(total))).collect()
    }
}

/// A frame on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffRow {
    /// Which.
    pub key: FrameKey,
    /// Kind of code, that of B where it is there.
    pub kind: FrameKind,
    /// What shares are of: samples, or nanoseconds of waits.
    pub measure: Measure,
    /// Samples with it as the leaf, of A and B.
    pub own: [Share; 2],
    /// Samples with it anywhere on the stack, of A and B.
    pub total: [Share; 2],
    /// How the first differ.
    pub own_difference: Difference,
    /// How the second differ.
    pub total_difference: Difference,
    /// CPU time in microseconds with it on the stack, for each instance of A and of B.
    pub us_per_instance: [Option<f64>; 2],
    /// The same for each cold start.
    pub us_per_start: [Option<f64>; 2],
}

impl DiffRow {
    /// Whether either share differs by more than chance.
    pub fn is_significant(&self) -> bool {
        self.own_difference.significant || self.total_difference.significant
    }

    /// The larger of both differences, in absolute value.
    fn change(&self) -> f64 {
        self.own_difference.delta.value.abs().max(self.total_difference.delta.value.abs())
    }
}

/// Every frame of `a` and `b`: differences that are more than chance first, the largest first.
pub fn diff(a: &Side, b: &Side) -> Vec<DiffRow> {
    let none = |side: &Side| Share {
        samples: 0,
        squares: [0.0; 3],
        ..side.shares().first().map_or(Share::NONE, |(own, _)| *own)
    };
    let missing = [none(a), none(b)];
    let mut both: BTreeMap<&FrameKey, (FrameKind, [Share; 2], [Share; 2])> = BTreeMap::new();
    for (at, side) in [a, b].into_iter().enumerate() {
        for ((key, kind), (own, total)) in side.frames.iter().zip(side.shares()) {
            let row = both.entry(key).or_insert((*kind, missing, missing));
            row.0 = *kind;
            row.1[at] = own;
            row.2[at] = total;
        }
    }
    let per = |of: fn(&Side) -> &CpuTimes, total: [Share; 2]| {
        [(a, 0), (b, 1)].map(|(side, at)| Some(of(side).mean_us()? * total[at].value()))
    };
    let row = |(key, (kind, own, total)): (&FrameKey, (FrameKind, [Share; 2], [Share; 2]))| DiffRow {
        key: key.clone(),
        kind,
        measure: b.measure,
        own,
        total,
        own_difference: difference(&own[0], &own[1]),
        total_difference: difference(&total[0], &total[1]),
        us_per_instance: per(|side| &side.cpu, total),
        us_per_start: per(|side| &side.starts, total),
    };
    let mut rows: Vec<DiffRow> = both.into_iter().map(row).collect();
    rows.sort_by(|x, y| {
        let order = y.is_significant().cmp(&x.is_significant());
        order.then_with(|| y.change().total_cmp(&x.change())).then_with(|| x.key.cmp(&y.key))
    });
    rows
}
