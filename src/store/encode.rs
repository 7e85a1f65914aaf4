//! Batches to payloads. Pure but for the ids it gives, which the caller commits or takes back.
//!
//! Samples are columns, for compression: count, period in microseconds, then for every sample its time, task, CPU
//! and stack, column after column, all varints. A CPU's sampling timer ticks on a grid, so a time is told as whole
//! periods since the CPU's previous sample in the frame (one column) and the rest (another): about one byte where
//! the plain difference takes two or three.
//!
//! Waits are the same columns of where each left, in a period of 1, then how long each was away in nanoseconds, and
//! whether it was preempted.

use serde::Serialize;

use crate::model::{Batch, Entry, IdMap, OwnUse, Sample, Wait};

use super::dictionary::Dictionary;
use super::varint;
use super::wire::{BatchHead, Closed, Head, Machine, Stacks, Strings, Tasks, put_item, tag};

/// Appends `head`, and what it has no place for.
pub(super) fn head(out: &mut Vec<u8>, head: &Head) {
    put(out, tag::HEAD, head);
    let machine = Machine { cpu_model: head.info.cpu_model.clone() };
    if machine.cpu_model.is_some() {
        put(out, tag::MACHINE, &machine);
    }
}

/// Appends `closed`.
pub(super) fn closed(out: &mut Vec<u8>, closed: &Closed) {
    put(out, tag::CLOSED, closed);
}

/// Appends `entry`.
pub(super) fn entry(out: &mut Vec<u8>, entry: &Entry) {
    put(out, tag::ENTRY, entry);
}

/// Appends `batch`: what is new in the dictionary, its entries, its head and its samples, taken every `period_us`.
pub(super) fn batch(
    out: &mut Vec<u8>,
    dictionary: &mut Dictionary,
    batch: &Batch,
    head: &BatchHead,
    period_us: i64,
) {
    let samples = columns(dictionary, batch.samples.iter(), period_us);
    let waits = waits(dictionary, &batch.waits);
    new_ids(out, dictionary);
    batch.entries.iter().for_each(|entry| self::entry(out, entry));
    put(out, tag::BATCH, head);
    if batch.own_use != OwnUse::default() {
        put(out, tag::OWN_USE, &batch.own_use);
    }
    if !batch.samples.is_empty() {
        put_item(out, tag::SAMPLES, &samples);
    }
    if !batch.waits.is_empty() {
        put_item(out, tag::WAITS, &waits);
    }
}

fn new_ids(out: &mut Vec<u8>, dictionary: &Dictionary) {
    for (tag, table) in [(tag::STRINGS, &dictionary.strings), (tag::COMMS, &dictionary.comms)] {
        let (base, fresh) = table.fresh();
        if !fresh.is_empty() {
            put(out, tag, &Strings { base, strings: fresh.iter().map(|string| &**string).collect() });
        }
    }
    let (base, fresh) = dictionary.fresh_stacks();
    if fresh.len() > 0 {
        let stacks = fresh.map(|(stack, frames)| (stack.quality().0, frames.to_vec())).collect();
        put(out, tag::STACKS, &Stacks { base, stacks });
    }
    let (base, fresh) = dictionary.tasks.fresh();
    if !fresh.is_empty() {
        put(out, tag::TASKS, &Tasks { base, tasks: fresh.to_vec() });
    }
}

fn waits(dictionary: &mut Dictionary, waits: &[Wait]) -> Vec<u8> {
    let mut out = columns(dictionary, waits.iter().map(|wait| &wait.left), 1);
    waits.iter().for_each(|wait| varint::put(&mut out, wait.ns));
    out.extend(waits.iter().map(|wait| u8::from(wait.preempted)));
    out
}

fn columns<'a>(
    dictionary: &mut Dictionary,
    samples: impl ExactSizeIterator<Item = &'a Sample>,
    period_us: i64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(samples.len() * 6 + 16);
    let period_us = period_us.max(1);
    varint::put(&mut out, samples.len() as u64);
    varint::put_signed(&mut out, period_us);
    let (mut rests, mut tasks, mut cpus, mut stacks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut previous = IdMap::default();
    let mut latest = 0;
    for sample in samples {
        let before = previous.insert(sample.cpu, sample.time.0).unwrap_or(latest);
        latest = sample.time.0;
        let (periods, rest) = on_grid(sample.time.0.wrapping_sub(before), period_us);
        varint::put_signed(&mut out, periods);
        varint::put_signed(&mut rests, rest);
        let (task, stack) = dictionary.intern(sample);
        varint::put(&mut tasks, task.into());
        varint::put(&mut cpus, sample.cpu.into());
        varint::put(&mut stacks, stack.into());
    }
    [rests, tasks, cpus, stacks].iter().for_each(|column| out.extend_from_slice(column));
    out
}

/// `difference` as whole periods and the smallest rest.
fn on_grid(difference: i64, period: i64) -> (i64, i64) {
    let (periods, rest) = (difference.div_euclid(period), difference.rem_euclid(period));
    // A rest of over half a period needs a period of 3 or more, so `periods` is far from the end of its range.
    if rest > period / 2 { (periods + 1, rest - period) } else { (periods, rest) }
}

fn put<T: Serialize>(out: &mut Vec<u8>, tag: u8, body: &T) {
    let body = postcard::to_stdvec(body).expect("these types serialize and memory grows");
    put_item(out, tag, &body);
}
