//! Truth programs: programs in C, C++, Rust and Go whose call graph is known and that tell how long they ran where, by
//! their own clocks. Their stacks as fnscope stored them are judged by that.
//!
//! Sources: `tests/programs`. Tests judge a few hundred samples, measurements thousands.

mod graph;
mod judge;
mod programs;

pub use graph::{normalized, own_name};
pub use judge::{Tally, distance, wilson};
pub use programs::{Build, Language, Link, Program, Told};
