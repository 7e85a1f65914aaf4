//! Questions over the store: which functions, which instances, which stacks.
//!
//! Journals and sealed hours are merged ([`merge`]) to a [`View`] of a window; [`View::select`] says what a question is about; each
//! question is a function of both that returns plain rows. All of it is pure but [`open`] and [`open_for`]. How answers look is
//! [`crate::render`]'s.

mod coverage;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod functions;
mod instances;
mod loss;
pub mod merge;
mod open;
mod phases;
mod sealed;
#[cfg(test)]
mod sealed_damage;
#[cfg(test)]
mod sealed_tests;
mod selector;
mod stacks;
#[cfg(test)]
mod tests;
mod view;
mod when;

pub use error::{QueryError, shortest};
pub use functions::{FunctionRow, coverage, functions};
pub use instances::{InstanceRow, PhaseRow, instances};
pub use merge::Merger;
pub use open::{names, open, open_for};
pub use phases::{COLD_US, Phase, PhaseFilter};
pub use sealed::Scope;
pub use selector::{FunctionId, Part, Selector, SelectorError};
pub use stacks::{FrameRow, Stacks, stacks, top};
pub use view::{Selection, View};
pub use when::{When, WhenError};
