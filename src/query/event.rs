//! What a question counts: samples of the CPU clock, samples of a counter, or waits. One of them, never a mix.
//!
//! Not here: what is written about it.

use std::fmt;

use crate::fold::Measure;
use crate::model::WriterInfo;

/// What a question counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Event {
    /// Samples of the CPU clock.
    #[default]
    CpuClock,
    /// Samples of another event, by its name: `cycles`, `instructions`, …
    Counter(String),
    /// Waits: time off the CPU.
    OffCpu(Preempted),
}

/// Which waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preempted {
    /// Those in which a thread waited for something.
    #[default]
    Exclude,
    /// All of them.
    Include,
    /// Those in which it would have gone on, had the CPU not been taken.
    Only,
}

impl Event {
    /// What [`Event::OffCpu`] is called.
    pub const OFF_CPU: &str = "off-cpu";

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Event::CpuClock => WriterInfo::CPU_CLOCK,
            Event::Counter(name) => name,
            Event::OffCpu(_) => Event::OFF_CPU,
        }
    }

    /// What weights are of it.
    pub fn measure(&self) -> Measure {
        match self {
            Event::CpuClock => Measure::Clock,
            Event::Counter(_) => Measure::Counter,
            Event::OffCpu(_) => Measure::Waits,
        }
    }

    /// Whether the samples of `writer` are of it.
    pub(super) fn takes(&self, writer: &WriterInfo) -> bool {
        match self {
            Event::CpuClock => writer.is_clock(),
            Event::Counter(name) => writer.event == *name,
            Event::OffCpu(_) => false,
        }
    }
}

impl Preempted {
    /// Whether a wait is one of them.
    pub(super) fn takes(self, preempted: bool) -> bool {
        match self {
            Preempted::Exclude => !preempted,
            Preempted::Include => true,
            Preempted::Only => preempted,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
