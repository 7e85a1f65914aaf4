//! Truth programs: programs in C, C++, Rust and Go whose call graph is known and that tell how long they ran where, by
//! their own clocks. Their stacks as fnscope stored them are judged by that.
//!
//! Sources: `tests/programs`. Tests judge a few hundred samples, measurements thousands.

pub mod graph;
pub mod judge;
pub mod programs;
