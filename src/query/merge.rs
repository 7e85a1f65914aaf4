//! Journals to one body of facts: an instance that several journals know becomes one, and so do equal stacks.
//!
//! Not here: any question. Promises: one journal in memory at a time, and 22 bytes for each of its samples after it (of
//! sealed hours less where counts are enough, see `gathered`);
//! the order of the journals does not change an answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::loss;
use super::origin::{Host, HostTable};
use super::tasks::{Task, TaskTable};
use crate::fold::StackTable;
use crate::model::{Fact, Identity, InstanceInfo, InstanceKey, Stack, Timestamp, Window, frame};
use crate::store::archive::{SealedHour, SealedRow};
use crate::store::{Damage, Ended, InstanceRecord, JournalContents, Usage};

/// Everything the journals tell about a window.
#[derive(Debug)]
pub struct Merged {
    /// The window asked for.
    pub window: Window,
    /// Instances, oldest first.
    pub instances: Vec<Instance>,
    /// Distinct stacks.
    pub stacks: Vec<Arc<Stack>>,
    /// Threads that samples ran as.
    pub tasks: Vec<Task>,
    /// Hosts, in order of label.
    pub hosts: Vec<Host>,
    /// Samples, a part for each journal.
    pub parts: Vec<Part>,
    /// Samples of sealed hours that were counted when they were sealed, and are not among `parts`.
    pub counted: Vec<Counted>,
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
}

/// The samples of one journal.
#[derive(Debug)]
pub struct Part {
    /// Time that one of its samples stands for, in nanoseconds.
    pub period_ns: u64,
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
    /// Whose samples `row` counts, as a position in [`Merged::instances`].
    pub(super) fn number(&self, row: &SealedRow) -> Option<u32> {
        self.instances.get(row.instance as usize).copied()
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
    damage: Vec<Damage>,
    orphans: u64,
}

impl Merger {
    /// For samples of `window`.
    pub fn new(window: Window) -> Merger {
        Merger {
            window,
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
        let boot: Arc<str> = journal.writer.boot_id.as_str().into();
        let instances: Vec<u32> =
            journal.instances.iter().map(|record| self.instance(record, &boot, source)).collect();
        let stacks: Vec<u32> = journal.stacks.iter().map(|stack| self.stacks.number(stack)).collect();
        let rates = loss::rates(&journal.batches);
        let nameless: Arc<str> = frame::LOST.into();
        let mut part = Part {
            period_ns: journal.writer.period_ns,
            samples: Vec::with_capacity(journal.samples.len()),
            counts: Vec::new(),
            tasks: Vec::with_capacity(journal.samples.len()),
            cpus: Vec::with_capacity(journal.samples.len()),
            lost: Vec::new(),
        };
        for stored in journal.samples.iter().filter(|stored| self.window.contains(stored.time)) {
            let place = (instances.get(stored.instance as usize), stacks.get(stored.stack as usize));
            let (Some(&instance), Some(&stack)) = place else {
                self.orphans += 1;
                continue;
            };
            if let (Some(lost), Ok(at)) = (rates.lost_for(stored), u32::try_from(part.samples.len())) {
                part.lost.push((at, lost));
            }
            part.samples.push(Sample { time: stored.time, instance, stack });
            let comm = journal.comms.get(stored.comm as usize).unwrap_or(&nameless);
            let task = Task { pid: stored.pid, tid: stored.tid, comm: Arc::clone(comm) };
            part.tasks.push(self.tasks.number(task));
            part.cpus.push(u16::try_from(stored.cpu).unwrap_or(u16::MAX));
        }
        self.parts.push(part);
        self.damage.extend(journal.damage);
    }

    /// Adds the instances of a sealed hour; its samples come later, when it is known whose they are.
    pub(super) fn add_sealed(&mut self, mut hour: SealedHour) {
        let source = self.hosts.add_sealed(&hour, self.window);
        let boot: Arc<str> = hour.host.writer.boot_id.as_str().into();
        let instances: Vec<u32> =
            hour.instances.iter().map(|record| self.instance(record, &boot, source)).collect();
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
        let merged = Merged {
            window: self.window,
            instances: sorted.into_iter().map(|(_, instance)| instance).collect(),
            stacks: self.stacks.into_stacks(),
            tasks: self.tasks.into_tasks(),
            hosts,
            parts,
            counted: Vec::new(),
            damage: self.damage,
            orphans: self.orphans,
        };
        (merged, sealed)
    }

    fn instance(&mut self, record: &InstanceRecord, boot: &Arc<str>, source: u32) -> u32 {
        let known = self.by_key.entry(record.info.key.clone()).or_default();
        // Where damage took a boot id, the key is all there is.
        let same = |of: &Arc<str>| of == boot || of.is_empty() || boot.is_empty();
        if let Some((_, at)) = known.iter().find(|(of, _)| same(of)).cloned() {
            if let Some(known) = self.instances.get_mut(at as usize) {
                known.learn(record);
            }
            return at;
        }
        let at = u32::try_from(self.instances.len()).expect("memory ends long before 2^32 instances");
        known.push((Arc::clone(boot), at));
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
