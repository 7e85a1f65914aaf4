//! Addresses to frames: files opened when they are mapped, own symbol tables, kallsyms.

pub mod file;
pub mod open;
pub mod process;

pub use file::{MappedFile, Place};
pub use open::{Files, OpenStats};
pub use process::{Mapped, Mapping, Processes};
