//! A reader's state while a journal's frames go by: ids to what they stand for, instances as they become known.
//! Pure.
//!
//! What was in a lost frame is never guessed. A sample whose stack was lost has the one frame `[lost]`; a stack some
//! of whose frames were lost has `[lost]` in their place; an instance that was lost is one of its own, unknown, named
//! after the journal and its number, to which later entries of that number still apply; a sample whose task was
//! lost cannot be given to anybody and is counted, and so is a wait's. Ids beyond those that could have been given are refused.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{
    CgroupId, Entry, InstanceInfo, InstanceKey, InstanceNo, OwnUse, Quality, Stack, Timestamp, frame,
};

use super::contents::{self, Ended, InstanceRecord, StoredSample, StoredThread, StoredWait, Usage};
use super::decode::{self, Decompressor, EncodedSample, EncodedWait, Item};
use super::living::number;
use super::wire::{BatchHead, Closed, Head, Malformed, Stacks, Task, items, tag};

/// Most ids that lost frames can have taken between two that were read.
const MAX_HOLE: usize = 1 << 20;

/// What went by so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    name: String,
    pub head: Option<Head>,
    pub instances: Vec<InstanceRecord>,
    pub stacks: Vec<Arc<Stack>>,
    pub comms: Vec<Arc<str>>,
    pub threads: Vec<StoredThread>,
    pub closed: Option<Closed>,
    /// Samples whose task was lost.
    pub lost_samples: u64,
    /// Waits whose task was lost.
    pub lost_waits: u64,
    decompressor: Decompressor,
    /// The file says which there are: their hash has a key of its own.
    numbers: HashMap<InstanceNo, u32, ahash::RandomState>,
    strings: Ids<Arc<str>>,
    comm_ids: Ids<u32>,
    stack_ids: Ids<u32>,
    tasks: Ids<Known>,
    introducing: bool,
    lost_comm: Option<u32>,
    lost_stack: Option<u32>,
}

/// A task that was introduced.
#[derive(Debug)]
struct Known {
    task: Task,
    /// Its place among the threads, once a sample refers to it.
    thread: Option<u32>,
}

/// What a caller looks at as it goes by.
#[derive(Debug)]
pub(super) enum Seen {
    /// A frame begins: what follows has nothing to do with the last batch.
    Frame,
    /// A batch begins.
    Batch(BatchHead),
    /// What its writer used.
    OwnUse(OwnUse),
    /// A sample of it; its field `batch` is not set.
    Sample(StoredSample),
    /// A wait of it; the field `batch` of its sample is not set.
    Wait(StoredWait),
}

impl Replay {
    /// Of the journal called `name`.
    pub(super) fn of(name: &str) -> Replay {
        Replay { name: name.into(), ..Replay::default() }
    }

    /// Takes in a frame's payload; returns what in it made no sense.
    pub(super) fn frame(&mut self, payload: &[u8], seen: &mut impl FnMut(Seen)) -> Vec<Malformed> {
        seen(Seen::Frame);
        let raw = match self.decompressor.decompress(payload) {
            Ok(raw) => raw,
            Err(malformed) => return vec![malformed],
        };
        // The frames that a journal begins with introduce who lived then, and are no batch.
        self.introducing = !items(&raw).flatten().any(|(tag, _)| tag == tag::BATCH || tag == tag::CLOSED);
        let one = |item: Result<(u8, &[u8]), Malformed>| {
            let (tag, body) = item?;
            self.item(decode::item(tag, body)?, seen)
        };
        let malformed = items(&raw).map(one).filter_map(Result::err).collect();
        self.decompressor.give_back(raw);
        malformed
    }

    fn item(&mut self, item: Item<'_>, seen: &mut impl FnMut(Seen)) -> Result<(), Malformed> {
        match item {
            Item::Head(head) => drop(self.head.get_or_insert(head)),
            Item::Machine(machine) => {
                if let Some(head) = &mut self.head {
                    head.info.cpu_model = head.info.cpu_model.take().or(machine.cpu_model);
                }
            }
            Item::OwnUse(own_use) => seen(Seen::OwnUse(own_use)),
            Item::Strings(new) => self.strings.define(new.base, new.strings.into_iter().map(Arc::from))?,
            Item::Comms(new) => {
                let first = self.comms.len() as u32;
                self.comm_ids.define(new.base, (first..).take(new.strings.len()))?;
                self.comms.extend(new.strings.into_iter().map(Arc::<str>::from));
            }
            Item::Stacks(new) => self.define_stacks(new)?,
            Item::Tasks(new) => {
                let known = |task| Known { task, thread: None };
                self.tasks.define(new.base, new.tasks.into_iter().map(known))?;
            }
            Item::Entry(entry) => self.entry(entry),
            Item::Batch(batch) => seen(Seen::Batch(batch)),
            Item::Samples(samples) => {
                samples
                    .into_iter()
                    .filter_map(|sample| self.sample(sample))
                    .for_each(|sample| seen(Seen::Sample(sample)));
            }
            Item::Waits(waits) => {
                waits.into_iter().filter_map(|wait| self.wait(wait)).for_each(|wait| seen(Seen::Wait(wait)));
            }
            Item::Closed(closed) => self.closed = Some(closed),
            Item::Unknown => {}
        }
        Ok(())
    }

    fn define_stacks(&mut self, new: Stacks) -> Result<(), Malformed> {
        let first = self.stacks.len() as u32;
        self.stack_ids.define(new.base, (first..).take(new.stacks.len()))?;
        let lost: Arc<str> = frame::LOST.into();
        for (quality, frames) in new.stacks {
            let name = |id: &u32| self.strings.get(*id).unwrap_or(&lost).clone();
            self.stacks.push(Arc::new(Stack::new(frames.iter().map(name).collect(), Quality(quality))));
        }
        Ok(())
    }

    fn sample(&mut self, sample: EncodedSample) -> Option<StoredSample> {
        let stored = self.stored(sample);
        self.lost_samples += u64::from(stored.is_none());
        stored
    }

    fn wait(&mut self, wait: EncodedWait) -> Option<StoredWait> {
        let Some(mut back) = self.stored(wait.left) else {
            self.lost_waits += 1;
            return None;
        };
        back.time = wait_end(back.time, wait.ns);
        Some(StoredWait { back, ns: wait.ns, preempted: wait.preempted })
    }

    fn stored(&mut self, sample: EncodedSample) -> Option<StoredSample> {
        let thread = self.thread(sample.task, sample.time)?;
        let stacks = &mut self.stacks;
        let stack = self.stack_ids.get(sample.stack).copied().unwrap_or_else(|| {
            let lost = || Arc::new(Stack::new(vec![frame::LOST.into()], Quality::SHORT));
            *self.lost_stack.get_or_insert_with(|| push(stacks, lost()))
        });
        Some(StoredSample { time: sample.time, thread, cpu: sample.cpu, stack, batch: u32::MAX })
    }

    /// Where the thread is that ran as `task`, of which there is a sample at `seen_at`.
    fn thread(&mut self, task: u32, seen_at: Timestamp) -> Option<u32> {
        let known = self.tasks.get(task)?;
        if known.thread.is_some() {
            return known.thread;
        }
        let Task { instance, pid, tid, comm } = known.task;
        let comms = &mut self.comms;
        let comm = self
            .comm_ids
            .get(comm)
            .copied()
            .unwrap_or_else(|| *self.lost_comm.get_or_insert_with(|| push(comms, frame::LOST.into())));
        let instance = self.position(instance, seen_at);
        let thread = push(&mut self.threads, StoredThread { instance, pid, tid, comm });
        self.tasks.get_mut(task)?.thread = Some(thread);
        Some(thread)
    }

    fn entry(&mut self, entry: Entry) {
        let seen_at = match &entry {
            Entry::Instance { info, .. } => info.started_at,
            Entry::Identity { from: at, .. }
            | Entry::Exec { at, .. }
            | Entry::Ended { at, .. }
            | Entry::Usage { at, .. }
            | Entry::Dropped { at, .. }
            | Entry::Fact { at, .. } => *at,
        };
        let position = self.position(number(&entry), seen_at);
        let Some(record) = self.instances.get_mut(position as usize) else { return };
        match &entry {
            Entry::Usage { .. } if self.introducing => record.retold.usage = true,
            Entry::Fact { fact, .. } if self.introducing => record.retold.facts.push(fact.kind()),
            _ => {}
        }
        match entry {
            Entry::Instance { info, .. } => record.info = info,
            Entry::Identity { from, identity, .. } => {
                contents::rename(&mut record.identities, from, identity);
            }
            Entry::Exec { at, .. } => drop(record.exec_at.get_or_insert(at)),
            Entry::Ended { at, exit_code, oom, .. } => {
                let before = record.ended;
                let exit_code = exit_code.or(before.and_then(|ended| ended.exit_code));
                record.ended =
                    Some(Ended { at, exit_code, oom: oom || before.is_some_and(|ended| ended.oom) });
            }
            Entry::Usage { at, cpu_us, source, .. } => {
                let place = record.usage.partition_point(|usage| usage.at <= at);
                record.usage.insert(place, Usage { at, cpu_us, source });
            }
            Entry::Dropped { at, reason, count, .. } => record.dropped.push((at, reason, count)),
            Entry::Fact { at, fact, .. } => {
                let place = record.facts.partition_point(|(before, _)| *before <= at);
                record.facts.insert(place, (at, fact));
            }
        }
    }

    /// Where instance `no` is; an unknown one, first seen at `seen_at`, if it was never introduced.
    fn position(&mut self, no: InstanceNo, seen_at: Timestamp) -> u32 {
        *self.numbers.entry(no).or_insert_with(|| {
            let info = InstanceInfo {
                key: InstanceKey(format!("lost.{}.{}", self.name, no.0).into()),
                runtime: None,
                container_id: String::new(),
                cgroup_path: String::new(),
                cgroup_id: CgroupId(0),
                image: None,
                started_at: seen_at,
                from_birth: false,
            };
            push(&mut self.instances, InstanceRecord::new(info))
        })
    }
}

/// When a wait of `ns` nanoseconds that began at `left` was over.
pub(super) fn wait_end(left: Timestamp, ns: u64) -> Timestamp {
    left.plus_us(i64::try_from(ns / 1_000).unwrap_or(i64::MAX))
}

fn push<T>(list: &mut Vec<T>, value: T) -> u32 {
    list.push(value);
    (list.len() - 1) as u32
}

/// What ids stand for. Those that were lost stand for nothing and take no memory, however many a frame claims.
#[derive(Debug)]
struct Ids<T> {
    /// Runs of ids without a hole, each with its first one, ascending.
    runs: Vec<(u32, Vec<T>)>,
    /// The first id that cannot have been given yet.
    next: usize,
}

impl<T> Default for Ids<T> {
    fn default() -> Ids<T> {
        Ids { runs: Vec::new(), next: 0 }
    }
}

impl<T> Ids<T> {
    fn define(&mut self, base: u32, values: impl Iterator<Item = T>) -> Result<(), Malformed> {
        let hole = (base as usize).checked_sub(self.next).ok_or(Malformed("ids that were given before"))?;
        if hole > MAX_HOLE {
            return Err(Malformed("ids that cannot have been given"));
        }
        let before = self.runs.last_mut().filter(|_| hole == 0);
        let given = match before {
            Some((_, run)) => {
                let length = run.len();
                run.extend(values);
                run.len() - length
            }
            None => {
                let run: Vec<T> = values.collect();
                let length = run.len();
                self.runs.push((base, run));
                length
            }
        };
        self.next = (base as usize).saturating_add(given);
        Ok(())
    }

    fn get(&self, id: u32) -> Option<&T> {
        let (run, at) = self.place(id)?;
        self.runs.get(run)?.1.get(at)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (run, at) = self.place(id)?;
        self.runs.get_mut(run)?.1.get_mut(at)
    }

    /// The run in which `id` may be, and where there.
    fn place(&self, id: u32) -> Option<(usize, usize)> {
        let run = self.runs.partition_point(|(first, _)| *first <= id).checked_sub(1)?;
        let (first, _) = self.runs.get(run)?;
        Some((run, (id - first) as usize))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn claimed_ids_take_no_memory() {
        let mut ids = Ids::default();
        for n in 1..4_000u32 {
            ids.define(n * (MAX_HOLE as u32), std::iter::once(n)).unwrap();
        }
        assert!(ids.runs.iter().map(|(_, run)| run.capacity()).sum::<usize>() < 100_000);
        assert_eq!((ids.get(7 * MAX_HOLE as u32), ids.get(7 * MAX_HOLE as u32 + 1)), (Some(&7), None));
        assert!(ids.define(u32::MAX, std::iter::once(0)).is_err(), "more than a hole can be");
    }

    proptest! {
        /// Against a list with a place for every id.
        #[test]
        fn ids_are_found_where_they_were_defined(steps in proptest::collection::vec((0u32..5, 0u32..4), 0..30)) {
            let (mut ids, mut model) = (Ids::default(), Vec::new());
            for (hole, count) in steps {
                let base = model.len() as u32 + hole;
                model.resize(base as usize, None);
                ids.define(base, base..base + count).unwrap();
                model.extend((base..base + count).map(Some));
                prop_assert!(base == 0 || ids.define(base - 1, 0..1).is_err());
            }
            for id in 0..model.len() as u32 + 5 {
                prop_assert_eq!(ids.get(id).copied(), model.get(id as usize).copied().flatten());
            }
        }
    }
}
