//! What a journal holds once it is read: the same shape whichever file it came from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{
    CpuSource, CpuStats, Fact, FactKind, Identity, InstanceInfo, Isolation, OwnUse, Stack, Timestamp,
    WriterInfo,
};

/// A journal, read for a window of time.
#[derive(Debug)]
pub struct JournalContents {
    /// Who wrote it.
    pub writer: WriterInfo,
    /// Every instance the journal knows, those without a sample in the window too.
    pub instances: Vec<InstanceRecord>,
    /// Stacks that samples refer to by position.
    pub stacks: Vec<Arc<Stack>>,
    /// Process names that threads refer to by position.
    pub comms: Vec<Arc<str>>,
    /// Threads that samples refer to by position.
    pub threads: Vec<StoredThread>,
    /// Samples of the window, in order of time.
    pub samples: Vec<StoredSample>,
    /// Waits that ended in the window, in order of their ends.
    pub waits: Vec<StoredWait>,
    /// Ring statistics of the batches that overlap the window.
    pub batches: Vec<BatchRecord>,
    /// What could not be read, empty for a sound journal.
    pub damage: Vec<Damage>,
}

/// An instance as one journal tells it. Another journal may tell more of the same key.
#[derive(Debug, Clone)]
pub struct InstanceRecord {
    /// What does not change.
    pub info: InstanceInfo,
    /// Which function it is, from when on; in order of time. Empty: unknown so far.
    pub identities: Vec<(Timestamp, Identity)>,
    /// The function's own exec.
    pub exec_at: Option<Timestamp>,
    /// Its end.
    pub ended: Option<Ended>,
    /// Readings of its CPU time, cumulative, in order of time.
    pub usage: Vec<Usage>,
    /// Samples that could not be kept: when, why, how many.
    pub dropped: Vec<(Timestamp, String, u64)>,
    /// What else became true of it, and when; in order of time.
    pub facts: Vec<(Timestamp, Fact)>,
    /// What of this an earlier journal had told.
    pub retold: Retold,
}

/// Counters whose first reading is an earlier journal's last: that one counted what they had until then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retold {
    /// CPU time.
    pub usage: bool,
    /// Those among the facts.
    pub facts: Vec<FactKind>,
}

impl InstanceRecord {
    /// Of which nothing else is known.
    pub fn new(info: InstanceInfo) -> InstanceRecord {
        InstanceRecord {
            info,
            identities: Vec::new(),
            exec_at: None,
            ended: None,
            usage: Vec::new(),
            dropped: Vec::new(),
            facts: Vec::new(),
            retold: Retold::default(),
        }
    }

    /// What hides its stacks from the host, where anything does.
    pub fn unseen(&self) -> Option<Isolation> {
        self.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::Unseen(isolation) => Some(*isolation),
            _ => None,
        })
    }

    /// Whether its stacks cannot be seen from the host.
    pub fn is_unseen(&self) -> bool {
        self.unseen().is_some()
    }

    /// Which function it was at `time`: the last identity from before, else the first there is.
    pub fn identity_at(&self, time: Timestamp) -> Option<&Identity> {
        let before = self.identities.iter().rev().find(|(from, _)| *from <= time);
        before.or(self.identities.first()).map(|(_, identity)| identity)
    }
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Exit status of its first process, where the runtime knew it.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed it for memory.
    pub oom: bool,
}

/// A reading of a cgroup's CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// When it was read.
    pub at: Timestamp,
    /// CPU time since the cgroup was made, in microseconds.
    pub cpu_us: u64,
    /// How it was read.
    pub source: CpuSource,
}

impl JournalContents {
    /// The instance that `sample` is of: position among the instances. None if there is no such thread.
    pub fn instance_of(&self, sample: &StoredSample) -> Option<usize> {
        self.threads.get(sample.thread as usize).map(|thread| thread.instance as usize)
    }
}

/// A thread of an instance, under one of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredThread {
    /// Position in [`JournalContents::instances`].
    pub instance: u32,
    /// Process, as the host saw it.
    pub pid: u32,
    /// Thread, as the host saw it.
    pub tid: u32,
    /// Position in [`JournalContents::comms`].
    pub comm: u32,
}

/// One stored sample. There are a million of them in memory while a journal is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSample {
    /// When it was taken.
    pub time: Timestamp,
    /// Position in [`JournalContents::threads`].
    pub thread: u32,
    /// CPU it ran on.
    pub cpu: u32,
    /// Position in [`JournalContents::stacks`].
    pub stack: u32,
    /// Position in [`JournalContents::batches`] of the batch it came in; `u32::MAX` where that was not kept.
    pub batch: u32,
}

/// One stored wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredWait {
    /// Who waited and where it left the CPU, but for its time, which is when it came back: a wait is known, and counts,
    /// when it is over.
    pub back: StoredSample,
    /// How long it was away, in nanoseconds.
    pub ns: u64,
    /// Whether it would have gone on.
    pub preempted: bool,
}

/// Ring statistics of one batch.
#[derive(Debug, Clone)]
pub struct BatchRecord {
    /// First sample of the batch; without samples, its first entry.
    pub from: Timestamp,
    /// Last sample of the batch; without samples, its last entry.
    pub to: Timestamp,
    /// Per CPU, those with neither samples nor losses left out.
    pub cpus: Vec<CpuStats>,
    /// Samples of container cgroups that could be given to no instance.
    pub unattributed: u64,
    /// Realtime minus monotonic clock in nanoseconds.
    pub clock_offset_ns: i64,
    /// What its writer used.
    pub own_use: OwnUse,
}

/// Adds to `identities`, which are in order of time, that it is `identity` from `from` on. What was told earlier of that
/// same moment was told worse, and goes.
pub(super) fn rename(identities: &mut Vec<(Timestamp, Identity)>, from: Timestamp, identity: Identity) {
    match identities.binary_search_by_key(&from, |(from, _)| *from) {
        Ok(at) => identities[at].1 = identity,
        Err(at) => {
            // Nearly all have one name, and left to itself a list begins with room for four.
            identities.reserve_exact(usize::from(identities.is_empty()));
            identities.insert(at, (from, identity));
        }
    }
}

/// What the writer of `batches` used in all of them: CPU time in sum, and the most memory; none where it never told.
pub fn own_use<'a>(batches: impl Iterator<Item = &'a BatchRecord>) -> Option<OwnUse> {
    let told = batches.map(|batch| batch.own_use).filter(|own_use| *own_use != OwnUse::default());
    told.reduce(OwnUse::with)
}

/// A part of a journal that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What was found.
    pub what: String,
    /// Whether only the unfinished end is missing (a writer that was killed), not something in the middle.
    pub torn_end: bool,
}
