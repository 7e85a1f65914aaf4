//! A pprof profile, bytes of a stranger, to events.
//!
//! The top level is walked field by field, so that what a few bytes claim to be many takes no memory: samples stay as
//! they are in the file until one after the other is looked at. Promises: an error before the first event where the
//! file is cut off or no profile of CPU time; memory of a small multiple of the file.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use thiserror::Error;

use super::event::{Event, Reason, Skipped};
use super::pprof_wire::{COMMENT, Function, Location, Sample, ValueType};
use super::text;
use crate::model::FrameKind;
use crate::model::Timestamp;
use crate::model::frame::{Frame, UNWOUND_SHORT};

/// Largest profile in bytes, unzipped.
pub const MAX_BYTES: usize = 128 << 20;
/// Largest message in it: one stack with its labels.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Most functions inlined at one place that are read.
const MAX_LINES: usize = 256;

/// Why bytes are no profile that can be imported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PprofError {
    /// Not the format, or a part of a file.
    #[error("byte {offset} of the profile: {what}; it is cut off or no pprof file")]
    Malformed {
        /// Where.
        offset: usize,
        /// What was found.
        what: &'static str,
    },
    /// Nothing in it counts samples or CPU time.
    #[error("it is a profile of {}, not of CPU time", types(.0))]
    NotCpu(Vec<String>),
}

/// Reads `bytes`, unzipped, and tells each sample to `each` with its number from 1.
///
/// # Errors
/// [`PprofError`] before anything is told, or of `each`.
pub fn read(
    bytes: &[u8],
    skipped: &mut Skipped,
    each: &mut dyn FnMut(Event, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let tables = Tables::read(bytes)?;
    let values = tables.values()?;
    let time = (tables.time_nanos != 0).then(|| Timestamp(tables.time_nanos.div_euclid(1000)));
    // Every sample is looked at before the first is told: what is cut off is not imported in part.
    for sample in &tables.samples {
        decode::<Sample>(bytes, sample)?;
    }
    let mut places: HashMap<u64, Option<Vec<Arc<str>>>> = HashMap::new();
    for (at, sample) in tables.samples.iter().enumerate() {
        let number = at as u64 + 1;
        let sample: Sample = decode(bytes, sample)?;
        let (count, period_ns) = match values.of(&sample.value) {
            Some((0, _)) => {
                skipped.add(Reason::ZeroCount, number);
                continue;
            }
            Some(found) => found,
            None => {
                skipped.add(Reason::Dangling, number);
                continue;
            }
        };
        let mut frames = Vec::new();
        let mut dangling = false;
        for id in sample.location_id.iter().rev() {
            match places.entry(*id).or_insert_with(|| tables.place(bytes, *id)) {
                Some(place) => frames.extend(place.iter().cloned()),
                None => dangling = true,
            }
        }
        if dangling {
            skipped.add(Reason::Dangling, number);
            continue;
        }
        if frames.is_empty() {
            frames.push(UNWOUND_SHORT.into());
        }
        each(Event { time, period_ns, ..Event::of(frames, count) }, number)?;
    }
    Ok(())
}

/// Whether `begin` may be the begin of a profile: fields of the right kinds, as far as it goes.
pub fn looks_like(begin: &[u8]) -> bool {
    let mut fields = Fields { bytes: begin, offset: 0 };
    let mut seen = 0;
    loop {
        match fields.next() {
            Ok(Some(_)) => seen += 1,
            Ok(None) => return seen > 0,
            // Beyond what we were given; a field of which the begin is there counts.
            Err(PprofError::Malformed { what, .. }) => {
                return what == BEYOND && (seen > 0 || begin.len() > 16);
            }
            Err(PprofError::NotCpu(_)) => return false,
        }
    }
}

const BEYOND: &str = "a field that goes beyond the end";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    start: usize,
    end: usize,
}

/// A field of the top level.
enum Field {
    Message(u32, Place),
    Number(u32, u64),
}

struct Fields<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Fields<'_> {
    fn next(&mut self) -> Result<Option<Field>, PprofError> {
        let offset = self.offset;
        let error = |what| PprofError::Malformed { offset, what };
        let mut rest = self.bytes.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let before = rest.len();
        let (tag, kind) = decode_key(&mut rest).map_err(|_| error("no key of a field"))?;
        let number = decode_varint(&mut rest);
        let after = offset + (before - rest.len());
        match (tag, kind) {
            (1..=6 | 11 | 13, WireType::LengthDelimited) => {
                let len = number
                    .ok()
                    .and_then(|len| usize::try_from(len).ok())
                    .ok_or(error("no length of a field"))?;
                let end =
                    after.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(error(BEYOND))?;
                self.offset = end;
                Ok(Some(Field::Message(tag, Place { start: after, end })))
            }
            // 15 is a text's address in newer files, by position.
            (7..=10 | 12..=15, WireType::Varint) => {
                self.offset = after;
                number.map(|number| Some(Field::Number(tag, number))).map_err(|_| error(BEYOND))
            }
            _ => Err(error("a field that pprof does not have")),
        }
    }
}

/// What samples refer to.
#[derive(Default)]
struct Tables {
    types: Vec<ValueType>,
    samples: Vec<Place>,
    mappings: HashMap<u64, i64>,
    /// Where in the bytes the place of an id is told.
    locations: HashMap<u64, Place>,
    functions: HashMap<u64, (i64, i64)>,
    strings: Vec<Place>,
    texts: Vec<Arc<str>>,
    time_nanos: i64,
    period_type: Option<ValueType>,
    period: i64,
    ours: bool,
}

impl Tables {
    fn read(bytes: &[u8]) -> Result<Tables, PprofError> {
        use super::pprof_wire::Mapping;
        let mut tables = Tables::default();
        let mut comments = Vec::new();
        let mut fields = Fields { bytes, offset: 0 };
        while let Some(field) = fields.next()? {
            match field {
                Field::Message(1, place) => tables.types.push(decode(bytes, &place)?),
                Field::Message(2, place) => tables.samples.push(place),
                Field::Message(3, place) => {
                    let mapping: Mapping = decode(bytes, &place)?;
                    tables.mappings.insert(mapping.id, mapping.filename);
                }
                Field::Message(4, place) => {
                    let location: Location = decode(bytes, &place)?;
                    tables.locations.insert(location.id, place);
                }
                Field::Message(5, place) => {
                    let function: Function = decode(bytes, &place)?;
                    tables.functions.insert(function.id, (function.name, function.system_name));
                }
                Field::Message(6, place) => tables.strings.push(place),
                Field::Message(11, place) => tables.period_type = Some(decode(bytes, &place)?),
                Field::Message(13, place) => {
                    let mut rest = bytes.get(place.start..place.end).unwrap_or_default();
                    while let Ok(comment) = decode_varint(&mut rest) {
                        comments.push(comment);
                    }
                }
                Field::Number(9, number) => tables.time_nanos = number.cast_signed(),
                Field::Number(12, number) => tables.period = number.cast_signed(),
                Field::Number(13, number) => comments.push(number),
                Field::Message(..) | Field::Number(..) => {}
            }
        }
        let text = |place: &Place| {
            let bytes = bytes.get(place.start..place.end).unwrap_or_default();
            let bytes = bytes.get(..bytes.len().min(4 * text::MAX_FRAME_BYTES)).unwrap_or_default();
            Arc::from(&*String::from_utf8_lossy(bytes))
        };
        tables.texts = tables.strings.drain(..).map(|place| text(&place)).collect();
        tables.ours = comments.iter().any(|at| tables.text(at.cast_signed()) == COMMENT);
        Ok(tables)
    }

    fn text(&self, position: i64) -> &str {
        usize::try_from(position).ok().and_then(|at| self.texts.get(at)).map_or("", |text| text)
    }

    /// Which values of a sample count what.
    fn values(&self) -> Result<Values, PprofError> {
        let position = |wanted: &dyn Fn(&str, &str) -> bool| {
            self.types.iter().position(|kind| wanted(self.text(kind.r#type), self.text(kind.unit)))
        };
        let count = position(&|kind, unit| unit == "count" && matches!(kind, "samples" | "sample" | "cpu"));
        let time =
            position(&|kind, unit| matches!(kind, "cpu" | "wall" | "time") && nanoseconds(unit).is_some());
        let unit = time.and_then(|at| self.types.get(at)).and_then(|kind| nanoseconds(self.text(kind.unit)));
        let period_unit = self.period_type.and_then(|kind| nanoseconds(self.text(kind.unit)));
        let period_ns = period_unit
            .and_then(|unit| u64::try_from(self.period).ok()?.checked_mul(unit))
            .filter(|ns| *ns > 0);
        if count.is_none() && (time.is_none() || period_ns.is_none()) {
            let name = |kind: &ValueType| {
                format!("{}/{}", text::comm(self.text(kind.r#type)), text::comm(self.text(kind.unit)))
            };
            return Err(PprofError::NotCpu(self.types.iter().take(9).map(name).collect()));
        }
        Ok(Values { count, time, unit: unit.unwrap_or(1), period_ns })
    }

    /// The frames of place `id`, root first; none if there is no such place.
    fn place(&self, bytes: &[u8], id: u64) -> Option<Vec<Arc<str>>> {
        let location: Location = decode(bytes, self.locations.get(&id)?).ok()?;
        let module = self.mappings.get(&location.mapping_id).map_or("", |filename| self.text(*filename));
        let module = module.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
        let module = module.trim_matches(['[', ']']);
        let last = location.line.len().saturating_sub(1);
        let mut frames = Vec::new();
        for (at, line) in location.line.iter().enumerate().take(MAX_LINES) {
            let (name, system_name) = self.functions.get(&line.function_id).copied()?;
            let (name, system_name) = (self.text(name), self.text(system_name));
            let frame = match (self.ours, name.is_empty(), module.is_empty()) {
                (true, _, _) => system_name.to_owned(),
                (false, true, _) => Frame::offset(module, location.address, FrameKind::Native).format(),
                (false, false, true) => name.to_owned(),
                (false, false, false) => {
                    // What was inlined stands before the function it was inlined into.
                    let kind = if at < last { FrameKind::Inlined } else { FrameKind::Native };
                    Frame::symbol(name, module, kind).format()
                }
            };
            frames.push(Arc::from(&*text::frame(&frame)));
        }
        if frames.is_empty() {
            let frame = Frame::offset(module, location.address, FrameKind::Native).format();
            frames.push(Arc::from(&*text::frame(&frame)));
        }
        frames.reverse();
        Some(frames)
    }
}

struct Values {
    count: Option<usize>,
    time: Option<usize>,
    /// Nanoseconds in the unit of the time.
    unit: u64,
    period_ns: Option<u64>,
}

impl Values {
    /// How many samples, and the time each stands for in nanoseconds; none for values that are missing or below zero.
    fn of(&self, values: &[i64]) -> Option<(u64, Option<u64>)> {
        let value = |at: usize| values.get(at).and_then(|value| u64::try_from(*value).ok());
        let time_ns = match self.time {
            Some(at) => Some(value(at)?.checked_mul(self.unit)?),
            None => None,
        };
        match (self.count, time_ns, self.period_ns) {
            (Some(at), time_ns, period_ns) => {
                let count = value(at)?;
                let own = time_ns.filter(|_| count > 0).map(|ns| ns / count).filter(|ns| *ns > 0);
                Some((count, own.or(period_ns)))
            }
            (None, Some(time_ns), Some(period_ns)) => {
                Some((time_ns.checked_add(period_ns / 2)? / period_ns, Some(period_ns)))
            }
            (None, ..) => None,
        }
    }
}

/// Nanoseconds in a unit of time.
fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "nanoseconds" => 1,
        "microseconds" => 1_000,
        "milliseconds" => 1_000_000,
        "seconds" => 1_000_000_000,
        _ => return None,
    })
}

fn decode<T: Message + Default>(bytes: &[u8], place: &Place) -> Result<T, PprofError> {
    let error = |what| PprofError::Malformed { offset: place.start, what };
    if place.end - place.start > MAX_MESSAGE_BYTES {
        return Err(error("a message over 1 MiB"));
    }
    T::decode(bytes.get(place.start..place.end).unwrap_or_default())
        .map_err(|_| error("a message that cannot be read"))
}

fn types(types: &[String]) -> String {
    if types.is_empty() { "nothing".into() } else { types.join(", ") }
}
