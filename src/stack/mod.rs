//! Addresses to frames: files opened when they are mapped, own symbol tables, kallsyms.
//!
//! A [`Place`] says where an instruction lies, a [`Symbolizer`] turns places into frames and stacks. The way there:
//!
//! | file | what |
//! |---|---|
//! | [`open`], [`process`], [`space`], [`mod@file`] | files opened when they are mapped, what processes have mapped, places |
//! | [`chain`] | addresses with the space that they lie in, to be looked up later |
//! | [`apart`] | where they are parsed: by whom has no rights beyond that
//! | [`source`] | a file's bytes, read in bounds and pinned by digests |
//! | [`elf`], [`gopclntab`], [`gomodule`], [`ehframe`], [`plt`], [`debugdata`] | what files say of their functions |
//! | [`debugfile`], [`debuginfod`] | separate debug files: found by build id on this host, fetched |
//! | [`dwarf`], [`entries`], [`inlines`] | which functions were inlined at an address |
//! | [`plan`] | which of that is read, and the key that stands for it |
//! | [`builder`], [`names`], [`table`] | a small sorted table that outlives its file |
//! | [`cache`], [`memo`] | tables kept in memory and on disk; bounded maps |
//! | [`kernel`], [`vdso`] | code that is in no file |
//! | [`perf_map`], [`perf_maps`] | names that programs write of the code they make |
//! | `root` | where a thread's stack really begins |
//! | [`unwind`] | from the copy of a stack to the addresses of its frames |
//! | [`demangle`] | names as they were written |
//! | [`symbolize`], [`options`] | all of it together, and what may be chosen |
//!
//! Everything read here is a tenant's and hostile: it is read by `pread` in bounds, never mapped, and what makes no
//! sense is an error that is counted. Doors for tests over bytes: [`SymbolTable::from_elf_bytes`],
//! [`SymbolTable::from_bytes`], [`PerfMap::feed`], [`gopclntab::parse`], [`debugdata::unpack_bytes`],
//! [`inlines::names_in`], [`kernel::KernelSymbols::parse`], [`demangle::demangle`].

pub mod apart;
pub mod builder;
pub mod cache;
pub mod chain;
pub mod debugdata;
pub mod debugfile;
pub mod debuginfod;
#[cfg(test)]
mod debuginfod_tests;
pub mod demangle;
pub mod dwarf;
pub mod ehframe;
pub mod elf;
#[cfg(test)]
mod elf_tests;
pub mod entries;
pub mod file;
pub mod gomodule;
pub mod gopclntab;
pub mod inlines;
#[cfg(test)]
mod inlines_tests;
pub mod kernel;
pub mod memo;
pub mod names;
pub mod open;
pub mod options;
pub mod perf_map;
pub mod perf_maps;
pub mod plan;
pub mod plt;
pub mod process;
pub mod recurring;
mod root;
pub mod source;
pub mod space;
pub mod symbolize;
#[cfg(test)]
mod symbolize_tests;
pub mod table;
#[cfg(test)]
mod tools_tests;
pub mod unwind;
pub mod vdso;

pub use chain::Chain;
pub use file::{MappedFile, Place, content_digest};
pub use kernel::KernelSymbols;
pub use open::{Files, MapsLine, OpenStats, mappings_of};
pub use options::SymbolOptions;
pub use perf_map::PerfMap;
pub use perf_maps::{PerfMapStats, PerfMaps};
pub use process::{Processes, Refused};
pub use recurring::Recurring;
pub use space::{AddressSpace, Mapped, Mapping, Mappings};
pub use symbolize::{SymbolStats, Symbolizer};
pub use table::SymbolTable;
