//! What makes a sample: the CPU clock, or a counter of the CPU.

use serde::{Deserialize, Serialize};

/// What makes a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SampledEvent {
    /// The CPU clock: it is everywhere, and each sample stands for a time.
    #[default]
    CpuClock,
    /// Cycles of the CPU, of a hardware counter.
    Cycles,
    /// Instructions that were retired.
    Instructions,
    /// Misses of the last cache.
    CacheMisses,
    /// Branches that were predicted wrongly.
    BranchMisses,
}

impl SampledEvent {
    /// Every one of them.
    pub const ALL: [SampledEvent; 5] = [
        SampledEvent::CpuClock,
        SampledEvent::Cycles,
        SampledEvent::Instructions,
        SampledEvent::CacheMisses,
        SampledEvent::BranchMisses,
    ];

    /// As it is written in the configuration and in the store.
    pub fn name(self) -> &'static str {
        match self {
            SampledEvent::CpuClock => "cpu-clock",
            SampledEvent::Cycles => "cycles",
            SampledEvent::Instructions => "instructions",
            SampledEvent::CacheMisses => "cache-misses",
            SampledEvent::BranchMisses => "branch-misses",
        }
    }
}

impl std::str::FromStr for SampledEvent {
    type Err = String;

    fn from_str(text: &str) -> Result<SampledEvent, String> {
        let names = || SampledEvent::ALL.map(SampledEvent::name).join(", ");
        let found = SampledEvent::ALL.into_iter().find(|event| event.name() == text);
        found.ok_or_else(|| format!("give one of {}", names()))
    }
}
