//! The profiles directory: a journal per writer, sealed hours, a folded tree per function, and readers that need no
//! lock.
//!
//! | file | what |
//! |---|---|
//! | [`contents`] | what a reader returns |
//! | [`directory`] | [`Store`]: making, opening and locking the directory |
//! | [`writer`] | [`JournalWriter`]: appends batches, rotates by itself |
//! | [`reader`] | [`JournalFile`]: one journal, listed and read |
//! | [`archive`] | closed journals sealed to Parquet by hour, read back, dropped when they are due |
//! | [`folded`], `folding` | the folded tree; the thread that closed journals are handed to |
//! | [`account`] | CPU time at a moment, by the readings of it |
//! | [`loss`] | samples lost, an estimate |
//! | [`error`] | [`StoreError`] |
//! | `frame`, `scan` | framing: bytes in and out; finding frames in a damaged file |
//! | `wire`, `encode`, `decode`, `varint` | what is inside a frame |
//! | `dictionary`, `living` | what a writer remembers: ids it gave, instances it must tell the next journal of |
//! | `current`, `tail` | the journal being written; the growing end of its file |
//! | `replay` | a reader's state while frames go by |
//! | `unseen` | samples of sandboxes, left out |
//! | `names` | any name to a safe file name |
//!
//! Not here: any question over more than one journal.
//!
//! Promises: a batch whose append returned survives a kill at any moment, and some seconds later a power failure; whatever
//! a file holds, reading it neither panics nor gives a sample to an instance or a stack that is not its own.

pub mod account;
pub mod archive;
pub mod contents;
mod current;
mod decode;
mod dictionary;
pub mod directory;
mod encode;
pub mod error;
pub mod folded;
mod folding;
mod frame;
mod living;
pub mod loss;
mod names;
pub mod reader;
mod replay;
mod scan;
mod tail;
mod unseen;
mod varint;
mod wire;
pub mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use contents::{
    BatchRecord, Damage, Ended, InstanceRecord, JournalContents, Retold, StoredSample, StoredThread,
    StoredWait, Usage, own_use,
};
pub use directory::{Store, StoreLock};
pub use error::StoreError;
pub use folded::Folded;
pub use folding::AtClose;
pub use reader::JournalFile;
pub use writer::{Appended, JournalWriter};
