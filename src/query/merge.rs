//! Journals to one body of facts: an instance that several journals know becomes one, and so do equal stacks.
//!
//! Not here: any question. Promises: one journal in memory at a time, and 22 bytes for each of its samples after it (of
//! sealed hours less where counts are enough, see `gathered`);
//! the order of the journals does not change an answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::event::Event;
use super::loss;
use super::origin::{Host, HostTable};
use super::tasks::{Task, TaskTable};
use super::waits::{self, Length, OffCpu, Waited};
use crate::fold::{StackTable, Weight};
use crate::model::{Fact, Identity, InstanceInfo, InstanceKey, Stack, Timestamp, Window, WriterInfo, frame};
use crate::store::archive::{SealedHour, SealedRow};
use crate::store::{Damage, Ended, InstanceRecord, JournalContents, StoredSample, Usage};

/// Everything the journals tell about a window.
#[derive(Debug)]
pub struct Merged {
    /// The window asked for.
    pub window: Window,
    /// What of it is counted.
    pub event: Event,
    /// Instances, oldest first.
    pub instances: Vec<Instance>,
    /// Distinct stacks.
    pub stacks: Vec<Arc<Stack>>,
    /// Threads that samples ran as.
    pub tasks: Vec<Task>,
    /// Hosts, in order of label.
    pub hosts: Vec<Host>,
    /// Samples, or waits where those are counted, a part for each journal.
    pub parts: Vec<Part>,
    /// Samples of sealed hours that were counted when they were sealed, and are not among `parts`.
    pub counted: Vec<Counted>,
    /// Time off the CPU, beside samples that are counted.
    pub waits: Vec<Waited>,
    /// Of each instance the waits that are not counted, for being preemption or for not being it.
    pub left_out: HashMap<u32, Weight>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Samples that refer to an instance or a stack their journal does not have.
    pub orphans: u64,
}

/// An instance as all journals together tell it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What does not change.
    pub info: InstanceInfo,
    /// The host it ran on: position in [`Merged::hosts`].
    pub host: u32,
    /// That host's label.
    pub node: String,
    /// Which function it is, from when on; in order of time.
    pub identities: Vec<(Timestamp, Identity)>,
    /// The function's own exec.
    pub exec_at: Option<Timestamp>,
    /// Its end.
    pub ended: Option<Ended>,
    /// Cumulative readings of its CPU time, in order of time.
    pub usage: Vec<Usage>,
    /// Samples that could not be kept: when and how many.
    pub dropped: Vec<(Timestamp, String, u64)>,
    /// What else became true of it, and when; in order of time.
    pub facts: Vec<(Timestamp, Fact)>,
    /// Whether a writer that samples the CPU clock knew it.
    pub by_clock: bool,
    /// Whether the window has samples of it by another event, so that those of the clock are not all there is.
    pub by_counter: bool,
}

/// The samples of one journal.
#[derive(Debug)]
pub struct Part {
    /// Time that one of its samples stands for, in nanoseconds.
    pub period_ns: u64,
    /// Of waits instead: for each sample how long those took that it stands for.
    pub lengths: Vec<Length>,
    /// Its samples.
    pub samples: Vec<Sample>,
    /// For each of them how many it stands for; empty where each is one. See [`Part::counted`].
    pub counts: Vec<u32>,
    /// For each of them the thread it ran as: position in [`Merged::tasks`].
    pub tasks: Vec<u32>,
    /// And the CPU it ran on; the last there is for those beyond it.
    pub cpus: Vec<u16>,
    /// Samples the ring lost for one that it kept: position in `samples`, how many. Only where there were any.
    pub lost: Vec<(u32, f64)>,
}

impl Part {
    /// Its samples, each with how many it stands for.
    pub fn counted(&self) -> impl Iterator<Item = (&Sample, u64)> {
        let counts = self.counts.iter().map(|count| u64::from(*count)).chain(std::iter::repeat(1));
        self.samples.iter().zip(counts)
    }

    /// The same with their weights.
    pub fn weighed(&self) -> impl Iterator<Item = (&Sample, Weight)> {
        let weight = |(at, (sample, count)): (usize, (_, u64))| (sample, self.weight(at, count));
        self.counted().enumerate().map(weight)
    }

    /// The weight of the sample at `at`, which stands for `count`.
    pub fn weight(&self, at: usize, count: u64) -> Weight {
        match self.lengths.get(at) {
            Some(length) => Weight { samples: count, time_ns: length.ns },
            None => Weight::of(count, self.period_ns),
        }
    }
}

/// Samples of an instance that stand here as their totals.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Position in [`Merged::instances`].
    pub instance: u32,
    /// Time that one of them stands for, in nanoseconds.
    pub period_ns: u64,
    /// The totals.
    pub row: SealedRow,
}

/// A sealed hour whose samples have not been looked at.
#[derive(Debug)]
pub(super) struct SealedPart {
    pub(super) hour: SealedHour,
    /// For each of its instances, the position in [`Merged::instances`].
    pub(super) instances: Vec<u32>,
    /// The same by key.
    pub(super) by_key: HashMap<Arc<str>, u32>,
}

impl SealedPart {
    /// Instance `of_hour` of the hour as a position in [`Merged::instances`].
    pub(super) fn number(&self, of_hour: u32) -> Option<u32> {
        self.instances.get(of_hour as usize).copied()
    }
}

/// What questions need of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub time: Timestamp,
    /// Position in [`Merged::instances`].
    pub instance: u32,
    /// Position in [`Merged::stacks`].
    pub stack: u32,
}

/// Merges journals one by one.
#[derive(Debug)]
pub struct Merger {
    window: Window,
    instances: Vec<Instance>,
    /// By key, and then by whole boot id: a key holds no more than the begin of that.
    by_key: HashMap<InstanceKey, Vec<(Arc<str>, u32)>>,
    stacks: StackTable,
    tasks: TaskTable,
    hosts: HostTable,
    parts: Vec<Part>,
    sealed: Vec<SealedPart>,
    event: Event,
    totals: bool,
    waits: Vec<Waited>,
    left_out: HashMap<u32, Weight>,
    damage: Vec<Damage>,
    orphans: u64,
}

impl Merger {
    /// For samples of the CPU clock in `window`, and totals of waits.
    pub fn new(window: Window) -> Merger {
        Merger::counting(window, Event::CpuClock, true)
    }

    /// For what `event` says; with `totals` of waits beside samples.
    pub fn counting(window: Window, event: Event, totals: bool) -> Merger {
        Merger {
            window,
            event,
            totals,
            waits: Vec::new(),
            left_out: HashMap::new(),
            instances: Vec::new(),
            by_key: HashMap::new(),
            stacks: StackTable::default(),
            tasks: TaskTable::default(),
            hosts: HostTable::default(),
            parts: Vec::new(),
            sealed: Vec::new(),
            damage: Vec::new(),
            orphans: 0,
        }
    }

    /// What is added from here on lies in the store with this number.
    pub fn in_store(&mut self, store: u32) {
        self.hosts.in_store(store);
    }

    /// Adds a journal.
    pub fn add(&mut self, journal: JournalContents) {
        let source = self.hosts.add(&journal);
        let instances: Vec<u32> =
            journal.instances.iter().map(|record| self.instance(record, &journal.writer, source)).collect();
        let stacks: Vec<u32> = journal.stacks.iter().map(|stack| self.stacks.number(stack)).collect();
        let window = self.window;
        if !journal.writer.is_clock() {
            for stored in journal.samples.iter().filter(|stored| window.contains(stored.time)) {
                let instance = journal.instance_of(stored).and_then(|at| instances.get(at));
                self.by_counter(instance.copied());
            }
        }
        let waits = || journal.waits.iter().filter(|wait| window.contains(wait.back.time));
        let mut part = Part {
            period_ns: journal.writer.sampled_ns(),
            lengths: Vec::new(),
            samples: Vec::new(),
            counts: Vec::new(),
            tasks: Vec::new(),
            cpus: Vec::new(),
            lost: Vec::new(),
        };
        if let Event::OffCpu(preempted) = self.event {
            let left_out = &mut self.left_out;
            let chosen = waits::chosen(waits(), preempted, |wait, weight| {
                if let Some(instance) = journal.instance_of(&wait.back).and_then(|at| instances.get(at)) {
                    left_out.entry(*instance).or_default().add(weight);
                }
            });
            for wait in chosen {
                if self.take(&mut part, &wait.back, &journal, &instances, &stacks) {
                    part.lengths.push(Length::of(wait.ns));
                }
            }
        } else if self.event.takes(&journal.writer) {
            let rates = loss::rates(&journal.batches);
            part.samples.reserve(journal.samples.len());
            part.tasks.reserve(journal.samples.len());
            part.cpus.reserve(journal.samples.len());
            for stored in journal.samples.iter().filter(|stored| window.contains(stored.time)) {
                let at = u32::try_from(part.samples.len());
                if self.take(&mut part, stored, &journal, &instances, &stacks)
                    && let (Some(lost), Ok(at)) = (rates.lost_for(stored), at)
                {
                    part.lost.push((at, lost));
                }
            }
        }
        if self.totals && !matches!(self.event, Event::OffCpu(_)) {
            let total = |wait: &crate::store::StoredWait| {
                let instance = *instances.get(journal.instance_of(&wait.back)?)?;
                Some(Waited { instance, at: wait.back.time, time: OffCpu::of(wait.ns, wait.preempted) })
            };
            self.waits.extend(waits().filter_map(total));
        }
        self.parts.push(part);
        self.damage.extend(journal.damage);
    }

    /// Adds `stored` of `journal` to `part`; false if it refers to what the journal does not have.
    fn take(
        &mut self,
        part: &mut Part,
        stored: &StoredSample,
        journal: &JournalContents,
        instances: &[u32],
        stacks: &[u32],
    ) -> bool {
        let place = || {
            let thread = journal.threads.get(stored.thread as usize)?;
            let (instance, stack) =
                (instances.get(thread.instance as usize)?, stacks.get(stored.stack as usize)?);
            Some((thread, *instance, *stack))
        };
        let Some((thread, instance, stack)) = place() else {
            self.orphans += 1;
            return false;
        };
        part.samples.push(Sample { time: stored.time, instance, stack });
        let comm = journal.comms.get(thread.comm as usize);
        let comm = comm.map_or_else(|| frame::LOST.into(), Arc::clone);
        let task = Task { pid: thread.pid, tid: thread.tid, comm };
        part.tasks.push(self.tasks.number(task));
        part.cpus.push(u16::try_from(stored.cpu).unwrap_or(u16::MAX));
        true
    }

    fn by_counter(&mut self, instance: Option<u32>) {
        if let Some(instance) = instance.and_then(|at| self.instances.get_mut(at as usize)) {
            instance.by_counter = true;
        }
    }

    /// Adds the instances of a sealed hour; its samples come later, when it is known whose they are.
    pub(super) fn add_sealed(&mut self, mut hour: SealedHour) {
        let source = self.hosts.add_sealed(&hour, self.window);
        let writer = hour.host.writer.clone();
        let instances: Vec<u32> =
            hour.instances.iter().map(|record| self.instance(record, &writer, source)).collect();
        if !writer.is_clock() {
            let window = self.window;
            for row in hour.rows.iter().filter(|row| window.overlaps(row.first, row.last)) {
                self.by_counter(instances.get(row.instance as usize).copied());
            }
        }
        let keys = hour.instances.iter().map(|record| Arc::clone(&record.info.key.0));
        let by_key = keys.zip(instances.iter().copied()).collect();
        self.damage.append(&mut hour.damage);
        hour.instances.clear();
        self.sealed.push(SealedPart { hour, instances, by_key });
    }

    /// Tells of a place in the store that cannot be read.
    pub(super) fn add_damage(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// Tells of a journal of which nothing can be used.
    pub fn unusable(&mut self, file: PathBuf) {
        let what = "its head is damaged, nothing of it can be used; move it away".into();
        self.damage.push(Damage { file, offset: 0, what, torn_end: false });
    }

    /// All of them together.
    pub fn finish(self) -> Merged {
        self.finish_sealed().0
    }

    /// All of them together, and the sealed hours whose samples are not among them yet.
    pub(super) fn finish_sealed(self) -> (Merged, Vec<SealedPart>) {
        let mut instances = self.instances;
        instances.iter_mut().for_each(Instance::settle);
        let (hosts, host_of) = self.hosts.finish();
        for instance in &mut instances {
            instance.host = host_of.get(instance.host as usize).copied().unwrap_or(0);
            let host = hosts.get(instance.host as usize);
            instance.node = host.map(|host| host.label.clone()).unwrap_or_default();
        }
        let mut order: Vec<usize> = (0..instances.len()).collect();
        order.sort_by_cached_key(|&at| {
            let info = &instances[at].info;
            (info.started_at, info.key.clone())
        });
        let mut moved = vec![0u32; instances.len()];
        for (to, &from) in order.iter().enumerate() {
            moved[from] = u32::try_from(to).expect("as many as were numbered in 32 bits");
        }
        let mut sorted: Vec<(u32, Instance)> = moved.iter().copied().zip(instances).collect();
        sorted.sort_by_key(|(to, _)| *to);
        let mut parts = self.parts;
        for sample in parts.iter_mut().flat_map(|part| &mut part.samples) {
            sample.instance = moved[sample.instance as usize];
        }
        let mut sealed = self.sealed;
        for part in &mut sealed {
            for instance in part.instances.iter_mut().chain(part.by_key.values_mut()) {
                *instance = moved[*instance as usize];
            }
        }
        let mut waits = self.waits;
        waits.iter_mut().for_each(|waited| waited.instance = moved[waited.instance as usize]);
        let left_out = self.left_out.into_iter().map(|(at, weight)| (moved[at as usize], weight)).collect();
        let merged = Merged {
            window: self.window,
            event: self.event,
            instances: sorted.into_iter().map(|(_, instance)| instance).collect(),
            stacks: self.stacks.into_stacks(),
            tasks: self.tasks.into_tasks(),
            hosts,
            parts,
            counted: Vec::new(),
            waits,
            left_out,
            damage: self.damage,
            orphans: self.orphans,
        };
        (merged, sealed)
    }

    fn instance(&mut self, record: &InstanceRecord, writer: &WriterInfo, source: u32) -> u32 {
        let boot = writer.boot_id.as_str();
        let known = self.by_key.entry(record.info.key.clone()).or_default();
        // Where damage took a boot id, the key is all there is.
        let same = |of: &Arc<str>| **of == *boot || of.is_empty() || boot.is_empty();
        if let Some((_, at)) = known.iter().find(|(of, _)| same(of)).cloned() {
            if let Some(known) = self.instances.get_mut(at as usize) {
                known.learn(record);
                known.by_clock |= writer.is_clock();
            }
            return at;
        }
        let at = u32::try_from(self.instances.len()).expect("memory ends long before 2^32 instances");
        known.push((boot.into(), at));
        self.instances.push(Instance {
            info: record.info.clone(),
            host: source,
            node: String::new(),
            identities: record.identities.clone(),
            exec_at: record.exec_at,
            ended: record.ended,
            usage: record.usage.clone(),
            dropped: record.dropped.clone(),
            facts: record.facts.clone(),
            by_clock: writer.is_clock(),
            by_counter: false,
        });
        at
    }
}

impl Instance {
    /// Adds what another journal tells of it.
    fn learn(&mut self, record: &InstanceRecord) {
        let (known, told) = (&mut self.info, &record.info);
        known.runtime = known.runtime.take().or_else(|| told.runtime.clone());
        known.image = known.image.take().or_else(|| told.image.clone());
        if known.container_id.len() < told.container_id.len() {
            known.container_id.clone_from(&told.container_id);
        }
        // Who saw its birth knows its start; a later writer only knows its oldest process.
        if told.from_birth != known.from_birth {
            known.started_at = if told.from_birth { told.started_at } else { known.started_at };
            known.from_birth = true;
        } else {
            known.started_at = known.started_at.min(told.started_at);
        }
        self.identities.extend(record.identities.iter().cloned());
        self.exec_at = [self.exec_at, record.exec_at].into_iter().flatten().min();
        // The same whichever journal comes first.
        let worth = |ended: &Ended| (ended.exit_code.is_some(), ended.at, ended.exit_code, ended.oom);
        self.ended = self.ended.into_iter().chain(record.ended).max_by_key(worth);
        self.usage.extend(record.usage.iter().copied());
        self.dropped.extend(record.dropped.iter().cloned());
        self.facts.extend(record.facts.iter().cloned());
    }

    /// Brings what came from several journals into order, each thing once.
    fn settle(&mut self) {
        // Of two names from the same moment on, in two journals, that of the surer rule: it was told later.
        let doubt = |identity: &Identity| (identity.function_container, identity.confidence);
        self.identities.sort_by(|(a, first), (b, other)| {
            let order = a.cmp(b).then_with(|| doubt(first).cmp(&doubt(other)));
            order.then_with(|| (&first.rule, &first.function).cmp(&(&other.rule, &other.function)))
        });
        self.identities.dedup_by_key(|(from, _)| *from);
        self.usage.sort_by_key(|usage| (usage.at, usage.cpu_us));
        self.usage.dedup();
        self.dropped.sort();
        self.dropped.dedup();
        self.facts.sort();
        self.facts.dedup();
        // What a sandbox execs on the host is not the function's own program.
        if self.unseen().is_some() {
            self.exec_at = None;
        }
    }

    /// Whether all of its samples that are known are of the CPU clock: only then do they tell of its CPU time.
    pub fn is_by_clock(&self) -> bool {
        self.by_clock && !self.by_counter
    }

    /// The last time there was a sign of life of it outside of its samples.
    pub fn last_sign(&self) -> Timestamp {
        if let Some(ended) = self.ended {
            return ended.at;
        }
        let signs = [Some(self.info.started_at), self.exec_at, self.usage.last().map(|usage| usage.at)];
        let named = self.identities.last().map(|(from, _)| *from);
        let told = self.facts.last().map(|(at, _)| *at);
        signs.into_iter().chain([named, told]).flatten().max().unwrap_or(self.info.started_at)
    }
}
