//! Samples as a gzipped pprof profile: `samples/count` and `cpu/nanoseconds` for each distinct stack, with labels for
//! function, revision, instance, phase and host. Of waits `waits/count` and `off-cpu/nanoseconds`; of a counter
//! `cycles/samples` alone.
//!
//! The format is one message with its tables, so it stands in memory before it is written: memory grows with distinct
//! stacks and labels, not with samples. Promises: the first mapping is the main program; samples of different periods
//! are never one, so that their time over their count is their period.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use flate2::{Compression, GzBuilder};
use prost::Message as _;

use super::pprof_wire::{COMMENT, Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::{Source, text};
use crate::fold::{Measure, Weight};
use crate::model::frame::{Frame, FrameName, UNWOUND_SHORT};
use crate::model::{FrameKind, Stack, Timestamp};
use crate::query::{Event, FunctionId, Phase, SampleRow};

/// Writes the profile of `source`; how many samples are in it.
///
/// # Errors
/// If `out` cannot be written to or the store cannot be read.
pub fn write(source: &Source<'_>, out: &mut dyn Write) -> anyhow::Result<u64> {
    let event = source.view.event();
    let mut gathered = Gathered { waits: event.measure() == Measure::Waits, ..Gathered::default() };
    source.each(|row| {
        gathered.add(&row);
        Ok(())
    })?;
    let samples = gathered.weights.values().map(|weight| weight.samples).sum();
    let bytes = gathered.profile(event).encode_to_vec();
    let mut gzip = GzBuilder::new().write(out, Compression::default());
    gzip.write_all(&bytes)?;
    gzip.finish()?;
    Ok(samples)
}

/// What a sample of the profile is one for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    stack: Arc<Stack>,
    owner: u32,
    period_ns: u64,
}

/// Whose a sample is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    function: FunctionId,
    instance: Arc<str>,
    node: String,
    phase: Phase,
}

#[derive(Default)]
struct Gathered {
    /// Each has a length of its own then, which tells no two apart.
    waits: bool,
    weights: HashMap<Key, Weight>,
    owners: Vec<Owner>,
    owner_numbers: HashMap<Owner, u32>,
    /// The last sample's owner: mostly the next one's too.
    last: Option<u32>,
    /// How often a process's name was the begin of a module's: tells which program is the main one.
    named: HashMap<String, u64>,
    first: Option<Timestamp>,
    latest: Option<Timestamp>,
    periods: HashMap<u64, u64>,
}

impl Gathered {
    fn add(&mut self, row: &SampleRow<'_>) {
        let owner = self.owner(row);
        let period_ns = if self.waits { 0 } else { row.period_ns };
        let key = Key { stack: Arc::clone(row.stack), owner, period_ns };
        self.weights.entry(key).or_default().add_sample(row.period_ns);
        *self.periods.entry(period_ns).or_default() += 1;
        match self.named.get_mut(row.comm) {
            Some(count) => *count += 1,
            None => drop(self.named.insert(row.comm.into(), 1)),
        }
        self.first.get_or_insert(row.time);
        self.latest = Some(row.time);
    }

    fn owner(&mut self, row: &SampleRow<'_>) -> u32 {
        let is = |owner: &Owner| {
            owner.phase == row.phase
                && owner.instance == row.instance.info.key.0
                && owner.function == *row.function
        };
        if let Some(last) = self.last
            && self.owners.get(last as usize).is_some_and(is)
        {
            return last;
        }
        let owner = Owner {
            function: row.function.clone(),
            instance: Arc::clone(&row.instance.info.key.0),
            node: row.instance.node.clone(),
            phase: row.phase,
        };
        let next = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        let number = *self.owner_numbers.entry(owner.clone()).or_insert(next);
        if number == next {
            self.owners.push(owner);
        }
        self.last = Some(number);
        number
    }

    fn profile(&self, event: &Event) -> Profile {
        let measure = event.measure();
        let mut made = Tables::default();
        made.string("");
        // What is counted, and the time where there is one: name and unit.
        let names: &[[&str; 2]] = match measure {
            Measure::Clock => &[["samples", "count"], ["cpu", "nanoseconds"]],
            Measure::Counter => &[[event.name(), "samples"]],
            Measure::Waits => &[["waits", "count"], [Event::OFF_CPU, "nanoseconds"]],
        };
        let types: Vec<ValueType> = names
            .iter()
            .map(|[name, unit]| ValueType { r#type: made.string(name), unit: made.string(unit) })
            .collect();
        let period_type = types.last().cloned();
        made.mapping(&self.main_module());
        let mut keyed: Vec<(&Key, &Weight)> = self.weights.iter().collect();
        // The heaviest first; the rest of the order makes two runs equal.
        keyed.sort_by(|(a, x), (b, y)| {
            let rest = |key: &Key| (key.owner, key.period_ns);
            measure
                .amount(**y)
                .cmp(&measure.amount(**x))
                .then_with(|| rest(a).cmp(&rest(b)))
                .then_with(|| a.stack.frames().cmp(b.stack.frames()))
        });
        let owners: Vec<Vec<Label>> = self.owners.iter().map(|owner| made.labels(owner)).collect();
        let sample = |(key, weight): (&Key, &Weight)| Sample {
            location_id: made.locations(&key.stack),
            value: [weight.samples, weight.time_ns]
                .into_iter()
                .take(names.len())
                .map(|n| i64::try_from(n).unwrap_or(i64::MAX))
                .collect(),
            label: owners.get(key.owner as usize).cloned().unwrap_or_default(),
        };
        let sample = keyed.into_iter().map(sample).collect();
        let period = self.periods.iter().max_by_key(|(period, count)| (**count, **period));
        let nanos = |time: Option<Timestamp>| time.map_or(0, |time| time.0.saturating_mul(1000));
        Profile {
            default_sample_type: period_type.as_ref().map_or(0, |of| of.r#type),
            sample_type: types,
            sample,
            time_nanos: nanos(self.first),
            duration_nanos: nanos(self.latest).saturating_sub(nanos(self.first)),
            period_type,
            period: period.map_or(0, |(period, _)| i64::try_from(*period).unwrap_or(i64::MAX)),
            comment: vec![made.string(COMMENT)],
            mapping: made.mappings,
            location: made.locations,
            function: made.functions,
            string_table: made.strings,
        }
    }

    /// The module that most samples' processes are named after; without one, the module that most samples begin in.
    fn main_module(&self) -> String {
        /// What the kernel keeps of a program's name.
        const COMM_BYTES: usize = 15;
        let mut scores: HashMap<String, (u64, u64)> = HashMap::new();
        for (key, weight) in &self.weights {
            let native = |frame: &&Arc<str>| {
                let frame = Frame::parse(frame);
                (frame.kind != FrameKind::Kernel && !frame.module.is_empty()).then_some(frame.module)
            };
            let root = key.stack.frames().iter().find_map(|frame| native(&frame));
            if let Some(module) = root {
                scores.entry(module).or_default().1 += weight.samples;
            }
            for module in key.stack.frames().iter().filter_map(|frame| native(&frame)) {
                scores.entry(module).or_default();
            }
        }
        for (module, (named, _)) in &mut scores {
            let begin = module.get(..module.len().min(COMM_BYTES)).unwrap_or(module);
            *named = self.named.get(begin).copied().unwrap_or_default();
        }
        let best = scores.into_iter().max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a)));
        best.map_or_else(String::new, |(module, _)| module)
    }
}

/// The tables of a profile in the making.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    positions: HashMap<String, i64>,
    mappings: Vec<Mapping>,
    mapping_ids: HashMap<String, u64>,
    functions: Vec<Function>,
    locations: Vec<Location>,
    location_ids: HashMap<Arc<str>, u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(position) = self.positions.get(text) {
            return *position;
        }
        let position = i64::try_from(self.strings.len()).unwrap_or(i64::MAX);
        self.strings.push(text.into());
        self.positions.insert(text.into(), position);
        position
    }

    fn labels(&mut self, owner: &Owner) -> Vec<Label> {
        let texts = [
            ("function", owner.function.function.text()),
            ("revision", owner.function.revision.text()),
            ("instance", Some(owner.instance.to_string())),
            ("phase", Some(owner.phase.name().into())),
            ("host", Some(owner.node.clone())),
        ];
        let mut labels = Vec::new();
        for (key, text) in texts {
            // A label without a text would be one with a number.
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            let text = text::frame(&text).into_owned();
            labels.push(Label { key: self.string(key), str: self.string(&text) });
        }
        labels
    }

    fn mapping(&mut self, module: &str) -> u64 {
        if let Some(id) = self.mapping_ids.get(module) {
            return *id;
        }
        let id = self.mappings.len() as u64 + 1;
        let filename = self.string(&text::frame(module));
        // Addresses are not known; each file has a range of its own, so that no tool takes two for one.
        let memory_start = id << 44;
        let memory_limit = memory_start + (1 << 44);
        self.mappings.push(Mapping { id, memory_start, memory_limit, filename, has_functions: true });
        self.mapping_ids.insert(module.into(), id);
        id
    }

    fn locations(&mut self, stack: &Stack) -> Vec<u64> {
        match stack.frames() {
            [] => vec![self.location(&UNWOUND_SHORT.into())],
            frames => frames.iter().rev().map(|frame| self.location(frame)).collect(),
        }
    }

    fn location(&mut self, frame: &Arc<str>) -> u64 {
        if let Some(id) = self.location_ids.get(frame) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        let parsed = Frame::parse(frame);
        let (name, module) = text::name_and_module(&parsed);
        let mapping_id = module.map_or(0, |module| self.mapping(module));
        let name = self.string(&name);
        let system_name = self.string(&text::frame(frame));
        let filename = module.map_or(0, |module| self.string(&text::frame(module)));
        self.functions.push(Function { id, name, system_name, filename });
        // Tools take places of one address for one: the number keeps them apart where no offset does.
        let offset = match parsed.name {
            FrameName::Offset(offset) | FrameName::FunctionStart(offset) => {
                (1 << 43) | (offset & ((1 << 43) - 1))
            }
            _ => id,
        };
        let address = if mapping_id == 0 { 0 } else { (mapping_id << 44) + offset };
        self.locations.push(Location { id, mapping_id, address, line: vec![Line { function_id: id }] });
        self.location_ids.insert(Arc::clone(frame), id);
        id
    }
}
