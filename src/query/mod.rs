//! Questions over the store: which functions, which instances, which stacks.
//!
//! Journals and sealed hours are merged ([`merge`]) to a [`View`] of a window; [`View::select`] says what a question is about; each
//! question is a function of both that returns plain rows. All of it is pure but [`open`] and [`open_for`]. How answers look is
//! [`crate::render`]'s.

mod cold;
mod condition;
mod cost;
mod coverage;
mod diff;
mod error;
mod event;
#[cfg(test)]
pub(crate) mod fixture;
mod functions;
mod gathered;
mod groups;
mod hosts;
mod instances;
mod loss;
pub mod merge;
mod open;
pub mod origin;
mod phases;
mod samples;
mod sealed;
#[cfg(test)]
mod sealed_damage;
#[cfg(test)]
mod sealed_tests;
mod selector;
pub mod significance;
mod stack_faults;
mod stacks;
pub mod tasks;
#[cfg(test)]
mod tests;
mod throttled;
mod unseen;
mod verdict;
mod view;
mod waits;
mod when;

pub use cold::{ColdStart, ColdSummary, Spread, cold_starts, summary};
pub use condition::{Condition, ConditionError, Cpu, Frames, Pattern, Quantity};
pub use cost::{CostBy, CostRow, cost};
pub use diff::{DiffRow, FrameKey, Side, diff, side};
pub use error::{QueryError, shortest_names};
pub use event::{Event, Preempted};
pub use functions::{FunctionRow, coverage, functions, functions_by_host};
pub use groups::{ModuleRow, PhaseSum, ThreadRow, by_module, by_phase, by_thread};
pub use hosts::{HostRow, hosts};
pub use instances::{InstanceRow, PhaseRow, instances};
pub use merge::Merger;
pub use open::{glance, names, open, open_event, open_for};
pub use phases::{COLD_US, Phase, PhaseFilter};
pub use samples::{SampleRow, each_sample};
pub use sealed::Scope;
pub use selector::{FunctionId, Part, Selector, SelectorError};
pub use stack_faults::{AnonymousCode, KERNEL_MAX_STACK, ShortEnd, StackFaults, UnnamedModule, stack_faults};
pub use stacks::{FrameRow, Stacks, stacks, top};
pub use throttled::{ThrottledRow, throttled};
pub use unseen::{Unseen, unseen};
pub use verdict::{Outcome as VerdictOutcome, Verdict, judge};
pub use view::{Selection, View};
pub use waits::OffCpu;
pub use when::{When, WhenError};
