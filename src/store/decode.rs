//! Payloads to items. Pure.
//!
//! Promises: any bytes give an error or an item, never a panic; nothing is allocated by a length that the bytes
//! only claim.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{DCtx, ResetDirective};

use crate::model::{Entry, OwnUse, Timestamp};

use super::varint;
use super::wire::{BatchHead, Closed, Head, MAX_RAW_BYTES, Machine, Malformed, Stacks, Strings, Tasks, tag};

/// Largest window in powers of two that a frame may make its reader keep; level 1 needs 19.
const MAX_WINDOW_LOG: u32 = 24;

/// An item.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Head(Head),
    Strings(Strings<'a>),
    Comms(Strings<'a>),
    Stacks(Stacks),
    Tasks(Tasks),
    Entry(Entry),
    Batch(BatchHead),
    Samples(Vec<EncodedSample>),
    Waits(Vec<EncodedWait>),
    Closed(Closed),
    Machine(Machine),
    OwnUse(OwnUse),
    /// Of a later version: to be skipped.
    Unknown,
}

/// A sample that speaks in ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodedSample {
    pub time: Timestamp,
    pub task: u32,
    pub cpu: u32,
    pub stack: u32,
}

/// A wait that speaks in ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodedWait {
    pub left: EncodedSample,
    pub ns: u64,
    pub preempted: bool,
}

/// Payloads to what they were before compression, one behind the other: a context of zstd is 100 KiB, and a journal of an
/// hour has 3,600 frames.
#[derive(Default)]
pub(super) struct Decompressor {
    context: DCtx<'static>,
    /// What the last one gives back.
    raw: Vec<u8>,
}

impl Decompressor {
    /// The payload as it was before compression. Lent until it is [given back](Decompressor::give_back).
    pub(super) fn decompress(&mut self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        const BAD: Malformed = Malformed("a frame that cannot be decompressed");
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        // The last one may have ended in the middle.
        self.context.reset(ResetDirective::SessionOnly).map_err(|_| BAD)?;
        let mut decoder = Decoder::with_context(payload, &mut self.context);
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(|_| BAD)?;
        decoder.take(MAX_RAW_BYTES as u64 + 1).read_to_end(&mut raw).map_err(|_| BAD)?;
        if raw.len() > MAX_RAW_BYTES {
            return Err(Malformed("a frame that is too large decompressed"));
        }
        Ok(raw)
    }

    /// Takes back the memory of what was decompressed. Of a large one it is not kept.
    pub(super) fn give_back(&mut self, raw: Vec<u8>) {
        const MOST_KEPT: usize = 1 << 20;
        self.raw = if raw.capacity() > MOST_KEPT { Vec::new() } else { raw };
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The item of tag `tag` in `body`.
pub(super) fn item(tag: u8, body: &[u8]) -> Result<Item<'_>, Malformed> {
    Ok(match tag {
        tag::HEAD => Item::Head(body_of(body, "a head that cannot be read")?),
        tag::STRINGS => Item::Strings(body_of(body, "strings that cannot be read")?),
        tag::COMMS => Item::Comms(body_of(body, "process names that cannot be read")?),
        tag::STACKS => Item::Stacks(body_of(body, "stacks that cannot be read")?),
        tag::TASKS => Item::Tasks(body_of(body, "tasks that cannot be read")?),
        tag::ENTRY => Item::Entry(body_of(body, "an entry that cannot be read")?),
        tag::BATCH => Item::Batch(body_of(body, "a batch that cannot be read")?),
        tag::SAMPLES => Item::Samples(samples(body).ok_or(Malformed("samples that cannot be read"))?),
        tag::WAITS => Item::Waits(waits(body).ok_or(Malformed("waits that cannot be read"))?),
        tag::CLOSED => Item::Closed(body_of(body, "a closing item that cannot be read")?),
        tag::MACHINE => Item::Machine(body_of(body, "a machine that cannot be read")?),
        tag::OWN_USE => Item::OwnUse(body_of(body, "an own use that cannot be read")?),
        _ => Item::Unknown,
    })
}

fn body_of<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, Malformed> {
    postcard::from_bytes(body).map_err(|_| Malformed(what))
}

fn samples(mut body: &[u8]) -> Option<Vec<EncodedSample>> {
    let samples = columns(&mut body)?;
    body.is_empty().then_some(samples)
}

fn waits(mut body: &[u8]) -> Option<Vec<EncodedWait>> {
    let left = columns(&mut body)?;
    let mut lengths = Vec::with_capacity(left.len());
    for _ in &left {
        lengths.push(varint::take(&mut body)?);
    }
    let waits = left.into_iter().zip(lengths).zip(body);
    let waits: Option<Vec<EncodedWait>> = waits
        .map(|((left, ns), preempted)| {
            (*preempted < 2).then_some(EncodedWait { left, ns, preempted: *preempted == 1 })
        })
        .collect();
    waits.filter(|waits| waits.len() == body.len())
}

/// The columns that samples and waits have in common.
fn columns(body: &mut &[u8]) -> Option<Vec<EncodedSample>> {
    let count = usize::try_from(varint::take(body)?).ok()?;
    let period_us = varint::take_signed(body)?;
    // Every sample takes at least a byte in each of five columns.
    if count.checked_mul(5)? > body.len() {
        return None;
    }
    let empty = EncodedSample { time: Timestamp(0), task: 0, cpu: 0, stack: 0 };
    let mut samples = vec![empty; count];
    for sample in &mut samples {
        sample.time.0 = varint::take_signed(body)?.wrapping_mul(period_us);
    }
    for sample in &mut samples {
        sample.time.0 = sample.time.0.wrapping_add(varint::take_signed(body)?);
    }
    for sample in &mut samples {
        sample.task = varint::take_u32(body)?;
    }
    for sample in &mut samples {
        sample.cpu = varint::take_u32(body)?;
    }
    let mut previous = Previous::default();
    let mut latest = 0i64;
    for sample in &mut samples {
        sample.stack = varint::take_u32(body)?;
        let before = previous.of(sample.cpu);
        latest = before.unwrap_or(latest).wrapping_add(sample.time.0);
        sample.time.0 = latest;
        *before = Some(latest);
    }
    Some(samples)
}

/// The times of the samples before on each CPU.
#[derive(Default)]
struct Previous {
    /// Of CPUs as there are.
    near: Vec<Option<i64>>,
    /// A file says which CPUs: their hash has a key of its own.
    far: HashMap<u32, Option<i64>, ahash::RandomState>,
}

impl Previous {
    /// That of `cpu`.
    fn of(&mut self, cpu: u32) -> &mut Option<i64> {
        const NEAR: usize = 4_096;
        let at = cpu as usize;
        if at < NEAR && at >= self.near.len() {
            self.near.resize(at + 1, None);
        }
        match self.near.get_mut(at) {
            Some(near) => near,
            None => self.far.entry(cpu).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::items;
    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_items_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..400), tag in 0u8..14) {
            let _ = Decompressor::default().decompress(&bytes);
            let _ = item(tag, &bytes);
            for (tag, body) in items(&bytes).flatten() {
                let _ = item(tag, body);
            }
        }
    }

    proptest! {
        /// One that cannot be decompressed, or ends in the middle, is nothing to the next.
        #[test]
        fn frames_are_decompressed_one_behind_the_other(
            frames in proptest::collection::vec((proptest::collection::vec(0u8..9, 0..5_000), 0usize..3), 1..8),
        ) {
            let mut decompressor = Decompressor::default();
            for (bytes, harm) in frames {
                let mut payload = zstd::bulk::compress(&bytes, 1).unwrap();
                match harm {
                    0 => {}
                    1 => payload.truncate(payload.len() / 2),
                    _ => payload.iter_mut().skip(1).step_by(3).for_each(|byte| *byte ^= 0x55),
                }
                let raw = decompressor.decompress(&payload);
                if harm == 0 {
                    prop_assert_eq!(raw.as_ref().ok(), Some(&bytes));
                }
                raw.into_iter().for_each(|raw| decompressor.give_back(raw));
            }
        }

        #[test]
        fn the_time_before_is_that_of_the_same_cpu(cpus in proptest::collection::vec(0u32..9_000, 0..40)) {
            let (mut previous, mut model) = (Previous::default(), HashMap::new());
            for (at, cpu) in (0..).zip(cpus) {
                let before = previous.of(cpu);
                prop_assert_eq!(*before, model.insert(cpu, at));
                *before = Some(at);
            }
        }
    }

    #[test]
    fn a_bomb_and_a_lying_count_are_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_RAW_BYTES + 1], 1).unwrap();
        let mut decompressor = Decompressor::default();
        assert!(bomb.len() < 100_000 && decompressor.decompress(&bomb).is_err());
        let mut lie = Vec::new();
        varint::put(&mut lie, u64::MAX / 8);
        varint::put_signed(&mut lie, 1);
        assert!(item(tag::SAMPLES, &lie).is_err());
        assert!(item(tag::WAITS, &lie).is_err());
        assert!(matches!(item(200, b"later"), Ok(Item::Unknown)));
    }
}
