//! All unsafe code of fnscope, a file for each subject: perf events and their rings, filters of system calls and of
//! datagrams, the allocator, files that are waited for.
//!
//! What it promises: safe functions; what a call means and when it is made is the caller's business.
#![expect(unsafe_code, reason = "the one place for it: each block says why it holds here")]

mod clock;
mod datagrams;
mod filter;
mod memory;
mod perf;
mod readiness;

pub use clock::clock_is_synchronised;
pub use datagrams::keep_datagrams;
pub use filter::install_filter;
pub use memory::{keep_little_freed_memory, release_freed_memory};
pub use perf::{
    RingMemory, Target, perf_bindings, perf_event_enable, perf_event_id, perf_event_open,
    perf_event_redirect, set_realtime,
};
pub use readiness::wait_readable;
