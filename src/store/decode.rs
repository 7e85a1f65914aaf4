//! Payloads to items. Pure.
//!
//! Promises: any bytes give an error or an item, never a panic; nothing is allocated by a length that the bytes
//! only claim.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;

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

/// The payload as it was before compression.
pub(super) fn decompress(payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    let bad = |_| Malformed("a frame that cannot be decompressed");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).map_err(bad)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(bad)?;
    let mut raw = Vec::new();
    decoder.take(MAX_RAW_BYTES as u64 + 1).read_to_end(&mut raw).map_err(bad)?;
    if raw.len() > MAX_RAW_BYTES { Err(Malformed("a frame that is too large decompressed")) } else { Ok(raw) }
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
    // A file says which CPUs: their hash has a key of its own.
    let mut previous = HashMap::with_hasher(ahash::RandomState::new());
    let mut latest = 0i64;
    for sample in &mut samples {
        sample.stack = varint::take_u32(body)?;
        let before = previous.get(&sample.cpu).copied().unwrap_or(latest);
        latest = before.wrapping_add(sample.time.0);
        sample.time.0 = latest;
        previous.insert(sample.cpu, latest);
    }
    Some(samples)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::items;
    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_items_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..400), tag in 0u8..14) {
            let _ = decompress(&bytes);
            let _ = item(tag, &bytes);
            for (tag, body) in items(&bytes).flatten() {
                let _ = item(tag, body);
            }
        }
    }

    #[test]
    fn a_bomb_and_a_lying_count_are_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_RAW_BYTES + 1], 1).unwrap();
        assert!(bomb.len() < 100_000 && decompress(&bomb).is_err());
        let mut lie = Vec::new();
        varint::put(&mut lie, u64::MAX / 8);
        varint::put_signed(&mut lie, 1);
        assert!(item(tag::SAMPLES, &lie).is_err());
        assert!(item(tag::WAITS, &lie).is_err());
        assert!(matches!(item(200, b"later"), Ok(Item::Unknown)));
    }
}
