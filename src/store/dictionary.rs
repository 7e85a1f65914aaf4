//! The ids a writer gave within one journal: strings, process names, stacks, tasks. Pure, and it can take a step
//! back: what was new in a frame that could not be written is forgotten again, so the next frame defines it.
//!
//! Strings and stacks, of which an hour may bring a great many, are known by their fingerprints: held are those alone that
//! the frame being written defines, and some strings that came lately, which are known by where they lie.
//!
//! Ids are given in order and never twice in a journal. Each frame tells the first id of what it defines, so a
//! reader that lost a frame knows which ids it does not know.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{Fingerprint, Sample, Stack};

use super::wire::Task;

/// Estimated memory of an entry beside its text, in bytes: keys, ids and the table's own slack.
const ENTRY_BYTES: usize = 64;
/// Estimated memory of a frame in a stack, in bytes: where its text is, and how long.
const FRAME_BYTES: usize = size_of::<Arc<str>>();

/// Strings that came lately are remembered in so many places, by address.
const NEAR: usize = 1 << 10;

/// The same of tasks, by thread.
const NEAR_TASKS: usize = 1 << 6;

/// What is given an id.
pub(super) trait Named: Clone {
    /// What it is known by from then on.
    type Key: Eq + Hash;

    /// That of this one.
    fn key(&self) -> Self::Key;
}

impl Named for Arc<str> {
    type Key = Fingerprint;

    fn key(&self) -> Fingerprint {
        Fingerprint::of(&**self)
    }
}

impl Named for Arc<Stack> {
    type Key = Fingerprint;

    fn key(&self) -> Fingerprint {
        self.fingerprint()
    }
}

impl Named for Task {
    type Key = Task;

    fn key(&self) -> Task {
        *self
    }
}

/// Ids for what was seen.
#[derive(Debug)]
pub(super) struct Table<T: Named> {
    ids: FxHashMap<T::Key, u32>,
    fresh: Vec<T>,
    next: u32,
}

impl<T: Named> Table<T> {
    fn new() -> Table<T> {
        Table { ids: FxHashMap::default(), fresh: Vec::new(), next: 0 }
    }

    /// The id of `named` and whether it is new.
    fn intern(&mut self, named: &T) -> (u32, bool) {
        match self.ids.entry(named.key()) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(place) => {
                let id = *place.insert(self.next);
                self.fresh.push(named.clone());
                self.next = self.next.saturating_add(1);
                (id, true)
            }
        }
    }

    /// The first id of what is new, and what is new.
    pub(super) fn fresh(&self) -> (u32, &[T]) {
        (self.next.saturating_sub(self.fresh.len() as u32), &self.fresh)
    }

    /// The id of `named`, where it was given one.
    pub(super) fn id(&self, named: &T) -> Option<u32> {
        self.ids.get(&named.key()).copied()
    }

    fn roll_back(&mut self) {
        self.next = self.fresh().0;
        for named in self.fresh.drain(..) {
            self.ids.remove(&named.key());
        }
    }
}

/// A string that came lately, with its id.
type Near = Option<(Arc<str>, u32)>;

/// All ids of one journal.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// Frames of stacks.
    pub strings: Table<Arc<str>>,
    /// Process names.
    pub comms: Table<Arc<str>>,
    /// Stacks.
    pub stacks: Table<Arc<Stack>>,
    /// Tasks.
    pub tasks: Table<Task>,
    /// Of each new stack the ids of its frames.
    fresh_frames: Vec<Vec<u32>>,
    /// Strings that came lately, each where its address tells, with its id: a fingerprint takes longer.
    near: Vec<Near>,
    /// The same of tasks and the names they had: a process runs on, most often, as it did.
    near_tasks: Vec<Option<(Arc<str>, Task, u32)>>,
    bytes: usize,
    fresh_bytes: usize,
}

impl Dictionary {
    /// An empty one.
    pub(super) fn new() -> Dictionary {
        let (strings, comms) = (Table::new(), Table::new());
        let (stacks, tasks, near) = (Table::new(), Table::new(), vec![None; NEAR]);
        Dictionary {
            strings,
            comms,
            stacks,
            tasks,
            fresh_frames: Vec::new(),
            near,
            near_tasks: vec![None; NEAR_TASKS],
            bytes: 0,
            fresh_bytes: 0,
        }
    }

    /// The ids of `sample`'s task and stack.
    pub(super) fn intern(&mut self, sample: &Sample) -> (u32, u32) {
        let task = self.task(sample);
        let (stack, new) = self.stacks.intern(&sample.stack);
        if new {
            self.grow(true, FRAME_BYTES * sample.stack.frames().len());
            let frames = sample.stack.frames().iter().map(|frame| self.string(frame)).collect();
            self.fresh_frames.push(frames);
        }
        (task, stack)
    }

    fn task(&mut self, sample: &Sample) -> u32 {
        let Sample { instance, pid, tid, ref comm, .. } = *sample;
        let at = tid as usize % NEAR_TASKS;
        if let Some(Some((name, known, id))) = self.near_tasks.get(at)
            && Arc::ptr_eq(name, comm)
            && (known.instance, known.pid, known.tid) == (instance, pid, tid)
        {
            return *id;
        }
        let (name, new) = self.comms.intern(comm);
        self.grow(new, comm.len());
        let task = Task { instance, pid, tid, comm: name };
        let (id, new) = self.tasks.intern(&task);
        self.grow(new, 0);
        if let Some(place) = self.near_tasks.get_mut(at) {
            *place = Some((Arc::clone(comm), task, id));
        }
        id
    }

    fn string(&mut self, text: &Arc<str>) -> u32 {
        // Allocations lie 16 bytes apart.
        let at = (text.as_ptr() as usize >> 4) % NEAR;
        if let Some(Some((known, id))) = self.near.get(at)
            && Arc::ptr_eq(known, text)
        {
            return *id;
        }
        let (id, new) = self.strings.intern(text);
        self.grow(new, text.len());
        if let Some(place) = self.near.get_mut(at) {
            *place = Some((Arc::clone(text), id));
        }
        id
    }

    /// The first id of new stacks, and each of them with the ids of its frames.
    pub(super) fn fresh_stacks(&self) -> (u32, impl ExactSizeIterator<Item = (&Stack, &[u32])>) {
        let (base, fresh) = self.stacks.fresh();
        (base, fresh.iter().zip(&self.fresh_frames).map(|(stack, frames)| (&**stack, &**frames)))
    }

    /// Memory that a reader of the journal takes for what has an id, in bytes, estimated. A writer takes less.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was new is written.
    pub(super) fn commit(&mut self) {
        self.fresh_bytes = 0;
        self.strings.fresh.clear();
        self.comms.fresh.clear();
        self.stacks.fresh.clear();
        self.fresh_frames.clear();
        self.tasks.fresh.clear();
    }

    /// What was new is not written: as if it had never been seen.
    pub(super) fn roll_back(&mut self) {
        self.bytes = self.bytes.saturating_sub(self.fresh_bytes);
        self.fresh_bytes = 0;
        self.strings.roll_back();
        self.comms.roll_back();
        self.stacks.roll_back();
        self.fresh_frames.clear();
        self.near.fill(None);
        self.near_tasks.fill(None);
        self.tasks.roll_back();
    }

    /// Forgets the tasks' ids, not that they were given: each task is defined again under a new id.
    pub(super) fn renumber_tasks(&mut self) {
        self.bytes = self.bytes.saturating_sub(self.tasks.ids.len() * ENTRY_BYTES);
        self.tasks.ids.clear();
        self.near_tasks.fill(None);
    }

    fn grow(&mut self, new: bool, text_bytes: usize) {
        if new {
            self.bytes = self.bytes.saturating_add(ENTRY_BYTES + text_bytes);
            self.fresh_bytes = self.fresh_bytes.saturating_add(ENTRY_BYTES + text_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceNo, Quality, Timestamp};

    fn sample(frames: &[&Arc<str>]) -> Sample {
        let stack = Stack::new(frames.iter().map(|frame| Arc::clone(frame)).collect(), Quality::default());
        let (time, instance, comm) = (Timestamp(0), InstanceNo(1), "f".into());
        Sample { time, instance, pid: 1, tid: 1, comm, cpu: 0, stack: Arc::new(stack) }
    }

    /// Ids that new strings are defined by, and those that new stacks use.
    fn fresh(dictionary: &Dictionary) -> (Vec<(u32, &str)>, Vec<Vec<u32>>) {
        let (base, strings) = dictionary.strings.fresh();
        let strings = (base..).zip(strings.iter().map(|text| &**text)).collect();
        (strings, dictionary.fresh_stacks().1.map(|(_, frames)| frames.to_vec()).collect())
    }

    #[test]
    fn what_was_not_written_is_defined_again_under_the_ids_that_are_next() {
        let [one, two, three]: [Arc<str>; 3] = ["one", "two", "three"].map(Arc::from);
        let mut dictionary = Dictionary::new();
        let (kept, refused) = (sample(&[&one]), sample(&[&one, &two]));
        dictionary.intern(&kept);
        dictionary.commit();
        dictionary.intern(&refused);
        assert_eq!(fresh(&dictionary), (vec![(1, "two")], vec![vec![0, 1]]));
        dictionary.roll_back();
        assert_eq!(fresh(&dictionary), (vec![], vec![]));
        // The very same strings, behind another one.
        dictionary.intern(&sample(&[&three]));
        dictionary.intern(&refused);
        assert_eq!(fresh(&dictionary), (vec![(1, "three"), (2, "two")], vec![vec![1], vec![0, 2]]));
        dictionary.commit();
        dictionary.intern(&refused);
        assert_eq!(fresh(&dictionary), (vec![], vec![]));
    }
}
