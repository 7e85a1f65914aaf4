//! Answers made visible: tables for people, JSON for programs, folded text, flame graphs.
//!
//! Pure: rows go in, text comes out. Promises: whatever a tenant named, what leaves here cannot act on a terminal or
//! in a browser.

mod answers;
pub mod cold;
pub mod cost;
pub mod diff;
pub mod escape;
pub mod flame;
pub mod folded;
pub mod groups;
pub mod hosts;
pub mod json;
pub mod stack_faults;
mod table;
pub mod throttled;
pub mod time;
pub mod unseen;

pub use answers::{frames, functions, functions_by_host, instance, instances};
pub use table::{Column, table};
