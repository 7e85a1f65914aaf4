//! What the agent hands to the store: batches of samples, and entries about the instances they belong to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::ids::{CgroupId, InstanceKey};
use super::isolation::Isolation;
use super::stack::Stack;
use super::time::Timestamp;

/// An instance's number within one writer: short for its [`InstanceKey`], never reused while the writer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceNo(pub u32);

/// Who writes, where and how: the head of every journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterInfo {
    /// The host's name.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// `agent`, `exec` or `demo`.
    pub writer: String,
    /// fnscope's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// What its CPUs call themselves; a journal tells it beside this.
    #[serde(skip)]
    pub cpu_model: Option<String>,
    /// Online CPUs at the start.
    pub cpus: u32,
    /// Sampled event: [`WriterInfo::CPU_CLOCK`], or a counter such as `cycles`.
    pub event: String,
    /// Samples a second and CPU.
    pub hz: u32,
    /// Time that one sample stands for, in nanoseconds.
    pub period_ns: u64,
    /// When the writer began.
    pub started_at: Timestamp,
}

/// What does not change in an instance's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInfo {
    /// Its unique key.
    pub key: InstanceKey,
    /// `docker`, `cgroup`, `local`; none until a runtime has claimed it.
    pub runtime: Option<String>,
    /// The runtime's id of it.
    pub container_id: String,
    /// Its cgroup's path below the hierarchy's root.
    pub cgroup_path: String,
    /// Its cgroup's id.
    pub cgroup_id: CgroupId,
    /// Its image.
    pub image: Option<String>,
    /// When its cgroup was made or, where nobody saw that, its oldest process began.
    pub started_at: Timestamp,
    /// Whether it was watched from its first instruction. If not, CPU time before the first reading is not counted.
    pub from_birth: bool,
}

impl WriterInfo {
    /// The event whose samples stand for a time.
    pub const CPU_CLOCK: &str = "cpu-clock";

    /// Whether its samples are of the CPU clock, and each stands for a time. Where damage took the event, they are taken
    /// for such.
    pub fn is_clock(&self) -> bool {
        self.event == WriterInfo::CPU_CLOCK || self.event.is_empty()
    }

    /// Time that one of its samples stands for, in nanoseconds; 0 where samples of its event stand for none.
    pub fn sampled_ns(&self) -> u64 {
        if self.is_clock() { self.period_ns } else { 0 }
    }
}

impl InstanceInfo {
    /// Characters of a container's id that stand for a function nobody has named, as `docker ps` shortens it.
    const SHORT_ID: usize = 12;

    /// What stands for the function while nobody has named it: the same in every answer and in the folded tree.
    pub fn unnamed_function(&self) -> String {
        let id = if self.container_id.is_empty() { &*self.key.0 } else { self.container_id.as_str() };
        id.chars().take(Self::SHORT_ID).collect()
    }
}

/// Where a reading of a cgroup's CPU time comes from, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuSource {
    /// Read after the last process had left (`populated 0`): complete.
    Final,
    /// Read when a process of it ended: complete but for what that process still did on its way out.
    Exit,
    /// Read while it ran: samples after this reading are not covered by it.
    Running,
}

/// Something to remember about an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// It exists; said again with more detail when a runtime claims it.
    Instance {
        /// Its number from now on.
        no: InstanceNo,
        /// What it is.
        info: InstanceInfo,
    },
    /// From `from` on it is this function. Samples before the first such entry belong to it too.
    Identity {
        /// The instance.
        no: InstanceNo,
        /// Begin of the interval.
        from: Timestamp,
        /// The function.
        identity: Identity,
    },
    /// The function's own exec: the first in the cgroup that is no OCI runtime, init or tini.
    Exec {
        /// The instance.
        no: InstanceNo,
        /// When.
        at: Timestamp,
    },
    /// It ended.
    Ended {
        /// The instance.
        no: InstanceNo,
        /// When.
        at: Timestamp,
        /// Exit status of its first process, where the runtime knew it.
        exit_code: Option<i32>,
        /// Whether the kernel killed it for memory.
        oom: bool,
    },
    /// The cgroup's own account of its CPU time.
    Usage {
        /// The instance.
        no: InstanceNo,
        /// When it was read.
        at: Timestamp,
        /// CPU time since the cgroup was made, in microseconds.
        cpu_us: u64,
        /// How it was read.
        source: CpuSource,
    },
    /// Samples that were taken and could not be kept.
    Dropped {
        /// The instance.
        no: InstanceNo,
        /// When.
        at: Timestamp,
        /// Why, in a word (`backlog`, `buffer`, [`Entry::UNSEEN`]).
        reason: String,
        /// How many.
        count: u64,
    },
    /// Something else that became true of it.
    Fact {
        /// The instance.
        no: InstanceNo,
        /// When it became true or was read.
        at: Timestamp,
        /// What.
        fact: Fact,
    },
}

impl Entry {
    /// Why a sample was dropped that is a sandbox's, not the function's: no loss of anything.
    pub const UNSEEN: &str = "unseen";
}

/// What is told of an instance beside its name, its life and its CPU time. Counters are those of its cgroup since that
/// was made. Kinds are added at the end: a journal's bytes hold their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Its platform says that it answers.
    Ready,
    /// It is paused (`true`) or runs on (`false`): the freezer of its cgroup.
    Frozen(bool),
    /// Stopped by its CPU quota.
    Throttled {
        /// Periods in which it was stopped.
        count: u64,
        /// Time it stood, in microseconds.
        us: u64,
    },
    /// Time in which some task of it waited for a CPU, in microseconds (`cpu.pressure`, `some`).
    Pressure {
        /// In microseconds.
        us: u64,
    },
    /// What runs it below its runtime (`runc`, `kata`, …).
    RuntimeHandler(String),
    /// Labels that the configuration asked to keep.
    Labels(Vec<(String, String)>),
    /// Its time off the CPU is recorded from here on (`true`), or no more (`false`): its function switches too often, the
    /// budget does not allow it, or nobody asks for it any more.
    OffCpu(bool),
    /// Its stacks cannot be seen from the host: it runs behind this.
    Unseen(Isolation),
}

impl Fact {
    /// Which fact it is: a later one of the same kind takes its place.
    pub fn kind(&self) -> FactKind {
        match self {
            Fact::Ready => FactKind::Ready,
            Fact::Frozen(_) => FactKind::Frozen,
            Fact::Throttled { .. } => FactKind::Throttled,
            Fact::Pressure { .. } => FactKind::Pressure,
            Fact::RuntimeHandler(_) => FactKind::RuntimeHandler,
            Fact::Labels(_) => FactKind::Labels,
            Fact::OffCpu(_) => FactKind::OffCpu,
            Fact::Unseen(_) => FactKind::Unseen,
        }
    }
}

/// Kinds of [`Fact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum FactKind {
    Ready,
    Frozen,
    Throttled,
    Pressure,
    RuntimeHandler,
    Labels,
    OffCpu,
    Unseen,
}

/// One sample of a function.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was taken.
    pub time: Timestamp,
    /// Whose it is.
    pub instance: InstanceNo,
    /// Process, as the host sees it.
    pub pid: u32,
    /// Thread, as the host sees it.
    pub tid: u32,
    /// The process's name at that time.
    pub comm: Arc<str>,
    /// CPU it ran on.
    pub cpu: u32,
    /// Its stack.
    pub stack: Arc<Stack>,
}

/// A stretch of time that a thread spent off the CPU.
#[derive(Debug, Clone)]
pub struct Wait {
    /// Where it left: when, and its stack then.
    pub left: Sample,
    /// How long it stayed away, in nanoseconds.
    pub ns: u64,
    /// Whether it would have gone on: it was preempted, and did not wait for anything.
    pub preempted: bool,
}

/// What one CPU's ring saw and lost during a batch: the base of every function's estimate of its losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuStats {
    /// The CPU.
    pub cpu: u32,
    /// Samples read, those of strangers too.
    pub samples: u64,
    /// Samples the kernel could not write because the ring was full.
    pub lost: u64,
}

/// What the writer's own process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnUse {
    /// CPU time since the batch before, in microseconds.
    pub cpu_us: u64,
    /// Memory it holds now, in bytes.
    pub memory_bytes: u64,
}

impl OwnUse {
    /// Both together: CPU time in sum, and the most memory.
    pub fn with(self, other: OwnUse) -> OwnUse {
        OwnUse {
            cpu_us: self.cpu_us.saturating_add(other.cpu_us),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

/// About a second of work, stored whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Entries, in order; they stand before the samples that use them.
    pub entries: Vec<Entry>,
    /// Samples, in order of time.
    pub samples: Vec<Sample>,
    /// Times off the CPU that ended in it, in order of their begin.
    pub waits: Vec<Wait>,
    /// Ring statistics of the batch, CPUs with neither samples nor losses left out.
    pub cpus: Vec<CpuStats>,
    /// Samples of container cgroups that could be given to no instance.
    pub unattributed: u64,
    /// Realtime minus monotonic clock in nanoseconds when the batch was closed; shows clock steps.
    pub clock_offset_ns: i64,
    /// What the writer itself used; nothing where it does not tell.
    pub own_use: OwnUse,
}

impl Batch {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.samples.is_empty()
            && self.waits.is_empty()
            && self.unattributed == 0
            && self.cpus.iter().all(|c| c.lost == 0)
    }
}
