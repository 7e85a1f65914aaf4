//! What makes a function's stacks poor: where they end too early, which code has no name, what is missing.
//!
//! Numbers alone; in which words they are told, and what mends what, is [`crate::render`]'s. Promises: each sample
//! counts once in each row that it belongs to, so a row is a share of all samples.

use std::collections::{BTreeSet, HashMap};

use super::functions::coverage;
use super::phases::PhaseFilter;
use super::view::{Selection, View, span_at};
use crate::model::frame::{FrameName, KERNEL_UNREADABLE, LOST, TRUNCATED, UNWOUND_SHORT};
use crate::model::{Frame, FrameKind, Quality, QualityCounts, Stack};

/// Frames of a stack that the kernel walks unless it is told otherwise (`kernel.perf_event_max_stack`).
pub const KERNEL_MAX_STACK: usize = 127;
/// Module of code that is in no file.
pub const ANONYMOUS: &str = "anon";
/// Module of code that is in no mapping that was seen.
pub const UNKNOWN: &str = "unknown";
/// Modules and process names of a row; more tell nobody more.
const MAX_NAMES: usize = 16;

/// The faults of a selection's stacks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackFaults {
    /// Samples that were looked at.
    pub samples: u64,
    /// Them by what the quality of their stacks says.
    pub quality: QualityCounts,
    /// Those of the truncated ones whose stacks have about as many frames as the kernel walks.
    pub truncated_deep: u64,
    /// What stands next to the end of stacks that are short, most samples first.
    pub short_at: Vec<ShortEnd>,
    /// Modules with code that has no name, most samples first.
    pub unnamed: Vec<UnnamedModule>,
    /// Code in no file, by who ran it, most samples first.
    pub anonymous: Vec<AnonymousCode>,
    /// Samples with code in no mapping that was seen.
    pub unknown: u64,
    /// Samples with kernel code of which the names may not be read.
    pub kernel_unreadable: u64,
    /// Samples whose stacks were lost to damage of the store.
    pub damaged: u64,
    /// Samples that were lost, an estimate; of all phases.
    pub lost: u64,
    /// Share of the CPU time that samples cover, over instances of which it is known; of all phases.
    pub coverage: Option<f64>,
}

/// Where stacks end that are short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortEnd {
    /// The module of the outermost frame; none for a frame of no module.
    pub module: Option<String>,
    /// Kind of its code.
    pub kind: FrameKind,
    /// Samples that end there.
    pub samples: u64,
}

/// A file with code that has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedModule {
    /// Its name.
    pub module: String,
    /// Samples with a frame of it that has no symbol.
    pub samples: u64,
    /// Whether where its functions start is known: then it was read.
    pub has_starts: bool,
    /// Whether other code of it has symbols.
    pub has_symbols: bool,
}

/// Code made at run time that has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymousCode {
    /// Name of the thread that ran it.
    pub comm: String,
    /// Modules on the same stacks, in order of name.
    pub modules: Vec<String>,
    /// Samples.
    pub samples: u64,
}

/// What a distinct stack says.
#[derive(Default)]
struct Signs {
    quality: Quality,
    deep: bool,
    short_at: Option<(Option<String>, FrameKind)>,
    /// Modules of frames without a symbol, and whether those are function starts.
    unnamed: BTreeSet<(String, bool)>,
    named: BTreeSet<String>,
    anonymous: bool,
    unknown: bool,
    kernel_unreadable: bool,
    damaged: bool,
}

impl Signs {
    fn of(stack: &Stack) -> Signs {
        let mut signs = Signs { quality: stack.quality(), ..Signs::default() };
        let code = stack.frames().iter().filter(|frame| ![TRUNCATED, UNWOUND_SHORT].contains(&&***frame));
        // Some of what was walked is one frame here.
        signs.deep = (KERNEL_MAX_STACK * 3 / 4..=KERNEL_MAX_STACK).contains(&code.clone().count());
        let mut outermost = signs.quality.has(Quality::SHORT);
        for text in code {
            let frame = Frame::parse(text);
            if std::mem::take(&mut outermost) {
                let module = Some(frame.module.clone()).filter(|module| !module.is_empty());
                signs.short_at = Some((module, frame.kind));
            }
            match (&frame.name, frame.module.as_str()) {
                (FrameName::Marker(text), _) => {
                    signs.kernel_unreadable |= text == KERNEL_UNREADABLE;
                    signs.damaged |= text == LOST;
                }
                (FrameName::Symbol(_), _) => {
                    signs.named.insert(frame.module);
                }
                (_, ANONYMOUS) => signs.anonymous = true,
                (_, UNKNOWN) => signs.unknown = true,
                (name, _) => {
                    let start = matches!(name, FrameName::FunctionStart(_));
                    signs.unnamed.insert((frame.module, start));
                }
            }
        }
        signs
    }
}

/// The faults of `selection` in `phases`, out of a view that was opened with [`super::Scope::Threads`] or
/// [`super::Scope::All`].
pub fn stack_faults(view: &View, selection: &Selection, phases: PhaseFilter) -> StackFaults {
    let mut faults = StackFaults { coverage: coverage(view, selection), ..StackFaults::default() };
    faults.lost = view.stays(selection).map(|(_, _, _, stay)| stay.tally.lost).sum::<f64>().round() as u64;
    let mut short_at: HashMap<(Option<String>, FrameKind), u64> = HashMap::new();
    let mut unnamed: HashMap<String, UnnamedModule> = HashMap::new();
    let mut anonymous: HashMap<String, (BTreeSet<String>, u64)> = HashMap::new();
    let mut named: BTreeSet<String> = BTreeSet::new();
    for (stack, by_comm) in counts(view, selection, phases) {
        let Some(stack) = view.merged.stacks.get(stack as usize) else { continue };
        let signs = Signs::of(stack);
        let samples: u64 = by_comm.values().sum();
        let when = |sign: bool| if sign { samples } else { 0 };
        faults.samples += samples;
        faults.quality.add(signs.quality, samples);
        faults.truncated_deep += when(signs.deep && signs.quality.has(Quality::TRUNCATED));
        faults.unknown += when(signs.unknown);
        faults.kernel_unreadable += when(signs.kernel_unreadable);
        faults.damaged += when(signs.damaged);
        if let Some(end) = signs.short_at {
            *short_at.entry(end).or_default() += samples;
        }
        let modules: BTreeSet<&String> = signs.unnamed.iter().map(|(module, _)| module).collect();
        for module in modules {
            let row = unnamed.entry(module.clone()).or_insert_with(|| UnnamedModule {
                module: module.clone(),
                samples: 0,
                has_starts: false,
                has_symbols: false,
            });
            row.samples += samples;
            row.has_starts |= signs.unnamed.contains(&(module.clone(), true));
        }
        if signs.anonymous {
            for (comm, samples) in by_comm {
                let (modules, sum) = anonymous.entry(comm.to_string()).or_default();
                let beside = signs.named.iter().chain(signs.unnamed.iter().map(|(module, _)| module));
                modules.extend(beside.take(MAX_NAMES).cloned());
                *sum += samples;
            }
        }
        named.extend(signs.named);
    }
    faults.short_at =
        short_at.into_iter().map(|((module, kind), samples)| ShortEnd { module, kind, samples }).collect();
    faults.short_at.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.module.cmp(&b.module)));
    faults.unnamed = unnamed.into_values().collect();
    for row in &mut faults.unnamed {
        row.has_symbols = named.contains(&row.module);
    }
    faults.unnamed.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.module.cmp(&b.module)));
    let code = |(comm, (modules, samples)): (String, (BTreeSet<String>, u64))| {
        let modules = modules.into_iter().take(MAX_NAMES).collect();
        AnonymousCode { comm, modules, samples }
    };
    faults.anonymous = anonymous.into_iter().map(code).collect();
    faults.anonymous.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.comm.cmp(&b.comm)));
    faults
}

/// Samples by stack, and by the name of the thread that ran.
fn counts<'a>(
    view: &'a View,
    selection: &Selection,
    phases: PhaseFilter,
) -> HashMap<u32, HashMap<&'a str, u64>> {
    let mut counts: HashMap<u32, HashMap<&str, u64>> = HashMap::new();
    for part in &view.merged.parts {
        for ((sample, count), task) in part.counted().zip(&part.tasks) {
            let instance = sample.instance as usize;
            let Some(life) = view.lives.get(instance) else { continue };
            let Some(span) = life.spans.get(span_at(&life.spans, sample.time)) else { continue };
            let is_meant = span.function.is_some_and(|function| selection.has(instance, function));
            if is_meant && phases.takes(span.phase) {
                let comm = view.merged.tasks.get(*task as usize).map_or("", |task| &*task.comm);
                *counts.entry(sample.stack).or_default().entry(comm).or_default() += count;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Merger;
    use crate::query::fixture::{Journal, at_s, identity};

    #[test]
    fn every_fault_is_counted_where_it_lies() {
        let mut journal = Journal::new();
        let pi = journal.instance("aa", false, 100);
        journal.record(pi).identities = vec![(at_s(100), identity("demo", "pi", "1"))];
        let short = Quality::SHORT;
        let nameless = Quality::UNSYMBOLIZED;
        let deep = vec!["f [pi]"; KERNEL_MAX_STACK].join(";");
        for (count, stack, quality) in [
            (50, "_start [pi];main [pi]", Quality::COMPLETE),
            (10, "[unwound short];memcpy [libc.so.6]", short),
            (5, "[unwound short];libc.so.6+0x40;libc.so.6+0x80;libc.so.6+0x40", short.with(nameless)),
            (7, "_start [node];[anon]+0x0", Quality::COMPLETE.with(nameless)),
            (3, "_start [pi];[gone.so]+0x12", Quality::COMPLETE.with(nameless)),
            (2, "_start [pi];[unknown]+0x0", Quality::COMPLETE.with(nameless)),
            (4, &format!("[truncated];{deep}"), Quality::TRUNCATED),
            (6, "[truncated];f [pi]", Quality::TRUNCATED),
            (1, "f [libc.so.6]_[g];[kernel]", Quality::COMPLETE.with(Quality::GUESSED)),
            (1, "[lost]", short),
        ] {
            journal.samples_of(pi, 101_000, count, stack, quality, u32::MAX);
        }
        let mut merger = Merger::new(crate::model::Window::ALL);
        merger.add(journal.contents);
        let view = View::new(merger.finish());
        let all = view.select(None, &[]).unwrap();
        let found = stack_faults(&view, &all, PhaseFilter::Function);
        let quality = QualityCounts { complete: 63, short: 16, truncated: 10, guessed: 1, unsymbolized: 17 };
        assert_eq!((found.samples, found.quality), (89, quality));
        assert_eq!((found.truncated_deep, found.unknown), (4, 2));
        assert_eq!((found.kernel_unreadable, found.damaged), (1, 1));
        let ends: Vec<_> = found.short_at.iter().map(|end| (end.module.as_deref(), end.samples)).collect();
        assert_eq!(ends, [(Some("libc.so.6"), 15), (None, 1)]);
        let unnamed: Vec<_> = found
            .unnamed
            .iter()
            .map(|row| (&*row.module, row.samples, row.has_starts, row.has_symbols))
            .collect();
        assert_eq!(unnamed, [("libc.so.6", 5, true, true), ("gone.so", 3, false, false)]);
        let [code] = found.anonymous.as_slice() else { panic!("{:?}", found.anonymous) };
        assert_eq!((code.samples, code.modules.as_slice()), (7, &["node".to_string()][..]));
        assert_eq!(found, stack_faults(&view, &all, PhaseFilter::All));
        assert_eq!(stack_faults(&view, &all, PhaseFilter::Only(crate::query::Phase::Cold)).samples, 0);
    }
}
