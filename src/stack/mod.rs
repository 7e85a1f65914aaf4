//! Addresses to frames: files opened when they are mapped, own symbol tables, kallsyms.

pub mod file;

pub use file::{MappedFile, Place};
