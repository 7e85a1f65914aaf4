//! What several targets share: a journal's file that a target writes as it likes, and what must hold of anything that
//! is read from one.

pub mod answers;
pub mod elf;
pub mod folder;
pub mod journal;
pub mod sealed_store;
pub mod symbols;
pub mod unwinding;
