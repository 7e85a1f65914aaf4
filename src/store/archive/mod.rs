//! The archive: closed journals, sealed to Parquet by hour, that any engine can read.
//!
//! ```text
//! samples/date=2026-11-23/hour=08/<journal>.parquet     a row a sample, by function, then by time
//! instances/…                                           a row an instance, name and hour, with its totals
//! usage/…                                               readings of an instance's counters, one every ten seconds
//! hosts/…                                               a row a writer and hour
//! off_cpu/…                                             a row a wait, where there are any
//! sums/date=2026-11-23/hour=08/<journal>.sums           CRC32 of each column chunk and footer of those
//! ```
//!
//! | file | what |
//! |---|---|
//! | `schema` | the columns, which are frozen, and how they are encoded |
//! | `partition` | hours and their folders |
//! | `rows`, `order`, `readings`, `names` | a journal to rows: pure |
//! | `write`, `columns`, `coded`, `runs` | rows to the bytes of Parquet files |
//! | `sums` | the checksum file |
//! | `set` | a sealed set: where it lies, which there are |
//! | `seal`, `tidy` | making sets of journals; doing it for all that are closed, and dropping what is old |
//! | `retention` | which hours go |
//! | `read`, `host`, `threads`, `decode` | sets to records and samples, every byte checked before it is believed |
//!
//! Promises: what is read was written; a flipped bit, a missing end or a missing file is told as damage that names the
//! file and what is missing.

mod coded;
mod columns;
mod decode;
#[cfg(test)]
mod grouped_tests;
mod host;
mod instances;
mod names;
mod order;
mod pages;
mod partition;
mod read;
mod readings;
mod retention;
mod rows;
mod runs;
mod schema;
mod seal;
mod set;
mod sums;
mod threads;
mod tidy;
mod write;

pub use host::SealedHost;
pub use partition::Hour;
pub use read::{Detail, SealedHour, SealedRow, SealedSamples, SealedWaits};
pub use readings::Mark;
pub use retention::Retention;
pub use rows::PhaseCuts;
pub use seal::Sealed;
pub use set::{Readable, SealedSet, SealedSets};
pub use threads::SealedThread;
pub use tidy::{Dropped, Tidied, TidyOptions};
