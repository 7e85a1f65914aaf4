//! An instance's life in spans: which function it is, and in which phase.
//!
//! `runtime-init` is before the function's own exec, `cold` from there until its platform says that it is ready (one
//! second where none says so), `warm` the rest. What was running when it was first seen is warm. Promises: an instance's spans cover all of time and do not overlap.

use std::collections::HashMap;
use std::fmt;

use super::merge::Instance;
use super::selector::FunctionId;
use crate::model::{Fact, Timestamp, Window};

/// How long a start stays cold where no platform tells when it was ready, in microseconds.
pub const COLD_US: i64 = 1_000_000;

/// A phase of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Before the function's own exec: the runtime sets the container up.
    RuntimeInit,
    /// From the exec until it is ready, for [`COLD_US`] where no platform tells.
    Cold,
    /// After that.
    Warm,
}

impl Phase {
    /// All of them, in order of time.
    pub const ALL: [Phase; 3] = [Phase::RuntimeInit, Phase::Cold, Phase::Warm];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::RuntimeInit => "runtime-init",
            Phase::Cold => "cold",
            Phase::Warm => "warm",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The phases a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PhaseFilter {
    /// All of them.
    All,
    /// The function's own: cold and warm.
    #[default]
    Function,
    /// This one.
    Only(Phase),
}

impl PhaseFilter {
    /// Whether `phase` is among them.
    pub fn takes(self, phase: Phase) -> bool {
        match self {
            PhaseFilter::All => true,
            PhaseFilter::Function => phase != Phase::RuntimeInit,
            PhaseFilter::Only(only) => phase == only,
        }
    }
}

impl fmt::Display for PhaseFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PhaseFilter::All => "all",
            PhaseFilter::Function => "function",
            PhaseFilter::Only(phase) => phase.name(),
        })
    }
}

/// A part of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When; the first begins and the last ends with time itself.
    pub window: Window,
    /// Which function it was, by number; none for a container that is no function.
    pub function: Option<u32>,
    /// In which phase.
    pub phase: Phase,
}

/// Functions by number.
#[derive(Debug, Default)]
pub struct FunctionTable {
    ids: Vec<FunctionId>,
    numbers: HashMap<FunctionId, u32>,
}

impl FunctionTable {
    fn number(&mut self, id: FunctionId) -> u32 {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        let number = u32::try_from(self.ids.len()).expect("memory ends long before 2^32 functions");
        self.ids.push(id.clone());
        self.numbers.insert(id, number);
        number
    }

    /// The functions in the order of their numbers.
    pub fn into_ids(self) -> Vec<FunctionId> {
        self.ids
    }
}

/// The spans of `instance`, in order of time.
pub fn spans(instance: &Instance, functions: &mut FunctionTable) -> Vec<Span> {
    let mut names: Vec<(Timestamp, Option<u32>)> = Vec::new();
    for (from, identity) in &instance.identities {
        let function = FunctionId::of(identity).map(|id| functions.number(id));
        // The first name holds for what came before it too.
        let from = if names.is_empty() { Timestamp::MIN } else { *from };
        match names.last_mut() {
            Some((_, last)) if *last == function => {}
            Some((at, last)) if *at == from => *last = function,
            _ => names.push((from, function)),
        }
    }
    if names.is_empty() {
        names.push((Timestamp::MIN, Some(functions.number(FunctionId::unknown(&instance.info)))));
    }
    let mut cuts: Vec<Timestamp> = names.iter().map(|(from, _)| *from).collect();
    let phases = phases(instance);
    cuts.extend(phases.iter().map(|(from, _)| *from));
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1).copied().chain([Timestamp::MAX]);
    let span = |(from, to): (Timestamp, Timestamp)| {
        let name = names.iter().rev().find(|(at, _)| *at <= from);
        let phase = phases.iter().rev().find(|(at, _)| *at <= from);
        Span {
            window: Window { from, to },
            function: name.and_then(|(_, function)| *function),
            phase: phase.map_or(Phase::Warm, |(_, phase)| *phase),
        }
    };
    cuts.iter().copied().zip(ends).map(span).collect()
}

fn phases(instance: &Instance) -> Vec<(Timestamp, Phase)> {
    match instance.exec_at {
        _ if !instance.info.from_birth => vec![(Timestamp::MIN, Phase::Warm)],
        None => vec![(Timestamp::MIN, Phase::RuntimeInit)],
        Some(exec) => vec![
            (Timestamp::MIN, Phase::RuntimeInit),
            (exec, Phase::Cold),
            (ready_at(instance).unwrap_or(exec.plus_us(COLD_US)), Phase::Warm),
        ],
    }
}

/// When its platform first said that it answers; none before its exec, which would be another one's word.
pub fn ready_at(instance: &Instance) -> Option<Timestamp> {
    let exec = instance.exec_at?;
    let mut said = instance.facts.iter().filter(|(_, fact)| *fact == Fact::Ready);
    said.find(|(at, _)| *at > exec).map(|(at, _)| *at)
}
