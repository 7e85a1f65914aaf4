//! Other tools' formats: profiles out of the store for them, and theirs into it.
//!
//! | file | what |
//! |---|---|
//! | [`source`] | what is exported: samples and stacks of one question |
//! | [`perf_script_out`], [`pprof_out`], [`speedscope_out`], [`firefox_out`] | a format out, each |
//! | [`perf_script_in`], [`folded_in`], [`pprof_in`] | a format in, each |
//! | [`perf_frame`] | one line of a stack as `perf script` writes it, both ways |
//! | [`pprof_wire`] | the messages of pprof |
//! | [`detect`], [`input`], [`lines`] | which format it is; bytes and lines of a stranger, bounded |
//! | [`text`] | frames and names of strangers made fit for the store |
//! | [`event`] | what every parser yields |
//! | [`recorder`] | events into a journal of their own |
//! | [`mod@import`] | all of it together |
//!
//! Folded text out is [`crate::render::folded`]. Not here: which samples ([`crate::query`]), files and options
//! ([`crate::cli`]).
//!
//! Promises: an export counts what `folded` counts; what was exported as perf-script, folded text or pprof and is
//! imported again has the same stacks with the same counts; whatever an input holds, memory is bounded, nothing
//! panics, and what is left out is counted with its reason.

pub mod detect;
pub mod event;
pub mod firefox_out;
pub mod folded_in;
pub mod import;
pub mod input;
pub mod lines;
pub mod perf_frame;
pub mod perf_script_in;
pub mod perf_script_out;
pub mod pprof_in;
pub mod pprof_out;
pub mod pprof_wire;
pub mod recorder;
pub mod source;
pub mod speedscope_out;
pub mod text;

#[cfg(test)]
mod tests;

pub use detect::Format;
pub use event::{Event, Skipped};
pub use import::{ImportError, Imported, Options, import};
pub use source::Source;
