//! perf events to records: rings on every CPU, for new cgroups, for what happens to processes, and for samples.
//!
//! Not here: containers, functions, files. A sample carries a cgroup id, and whose that is others know.
//! Promise: a sample is handed out, or counted as lost.

mod cpus;
mod event;
mod hotplug;
mod options;
mod order;
mod record;
mod ring;
mod sample_ring;
mod sampler;
#[cfg(test)]
mod sampler_tests;
mod scoped;
#[cfg(test)]
mod scoped_tests;
mod switches;
mod told;
mod wait;

pub use cpus::{online_cpus, parse_cpu_list};
pub use event::{Clock, PerfError, period_ns};
pub use hotplug::Hotplug;
pub use options::{CopyOptions, RingOptions};
pub use order::{Order, keep_little};
pub use record::{
    Context, Layout, REGISTERS, RawSample, Record, SideBand, Stamped, Switch, UserState, context,
    parse_sample, parse_side_band, parse_switch,
};
pub use sampler::{Mode, Sampler};
pub use wait::{CpuWait, Ready, timespec};
