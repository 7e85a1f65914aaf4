//! The profiles directory: a journal per writer, a folded tree per function, and readers that need no lock.

pub mod contents;

pub use contents::{BatchRecord, Damage, Ended, InstanceRecord, JournalContents, StoredSample, Usage};
