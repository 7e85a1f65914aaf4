//! What every parser yields: one reading of one stack, or several equal ones; and what it left out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::Timestamp;

/// One or more equal samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When; none where the format does not tell.
    pub time: Option<Timestamp>,
    /// Name of the process, empty where it is not known.
    pub comm: Arc<str>,
    /// Process, 0 where it is not known.
    pub pid: u32,
    /// Thread, 0 where it is not known.
    pub tid: u32,
    /// CPU, 0 where it is not known.
    pub cpu: u32,
    /// Its stack, root first, each frame fit for the store.
    pub frames: Vec<Arc<str>>,
    /// How many samples it stands for.
    pub count: u64,
    /// Time that each of them stands for, in nanoseconds; none where the format does not tell.
    pub period_ns: Option<u64>,
}

impl Event {
    /// An event of which only the stack is known.
    pub fn of(frames: Vec<Arc<str>>, count: u64) -> Event {
        let (time, comm, pid, tid, cpu, period_ns) = (None, "".into(), 0, 0, 0, None);
        Event { time, comm, pid, tid, cpu, frames, count, period_ns }
    }
}

/// Why something of an input was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A line longer than is read.
    LongLine,
    /// A line that is neither an event nor a frame, or folded text without a count.
    NotUnderstood,
    /// A frame before the first event.
    FrameWithoutEvent,
    /// An event without a time, where none was given for all.
    NoTime,
    /// An event without a stack.
    NoStack,
    /// An event so far from the first that its time is no time.
    FarTime,
    /// A stack that was not seen.
    ZeroCount,
    /// A sample that refers to what the file does not have.
    Dangling,
    /// An event of another kind than the first, which would be another unit.
    OtherEvent,
    /// Time off the CPU, which is no sample.
    OffCpu,
}

impl Reason {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Reason::LongLine => "lines longer than 1 MiB",
            Reason::NotUnderstood => "lines that are not understood",
            Reason::FrameWithoutEvent => "frames before the first event",
            Reason::NoTime => "events without a time",
            Reason::NoStack => "events without a stack",
            Reason::FarTime => "events more than 400 days from the first",
            Reason::ZeroCount => "stacks with a count of zero",
            Reason::Dangling => "samples that refer to what the file does not have",
            Reason::OtherEvent => "events of another kind than the first",
            Reason::OffCpu => "events of time off the CPU, which are no samples",
        }
    }

    /// In a word, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::LongLine => "long-line",
            Reason::NotUnderstood => "not-understood",
            Reason::FrameWithoutEvent => "frame-without-event",
            Reason::NoTime => "no-time",
            Reason::NoStack => "no-stack",
            Reason::FarTime => "far-time",
            Reason::ZeroCount => "zero-count",
            Reason::Dangling => "dangling",
            Reason::OtherEvent => "other-event",
            Reason::OffCpu => "off-cpu",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What was left out: by reason how often, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped(BTreeMap<Reason, (u64, u64)>);

impl Skipped {
    /// Counts one more at line, or sample, `at`.
    pub fn add(&mut self, reason: Reason, at: u64) {
        self.0.entry(reason).or_insert((0, at)).0 += 1;
    }

    /// Counts what `others` has too.
    pub fn add_all(&mut self, others: &Skipped) {
        for (reason, (count, first)) in &others.0 {
            let known = self.0.entry(*reason).or_insert((0, *first));
            *known = (known.0 + count, known.1.min(*first));
        }
    }

    /// Reasons with how often, and the line (sample of a pprof file) of the first.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64, u64)> {
        self.0.iter().map(|(reason, (count, first))| (*reason, *count, *first))
    }

    /// How often for `reason`.
    pub fn count(&self, reason: Reason) -> u64 {
        self.0.get(&reason).map_or(0, |(count, _)| *count)
    }
}
