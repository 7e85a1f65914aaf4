//! What is inside a frame, once decompressed: items `tag u8 | length varint | body`, bodies in postcard but for
//! samples and waits, which are columns. Pure.
//!
//! A reader skips a tag it does not know, so an item can be added without a new format; changing the body of one
//! needs a new tag. The bodies are made of the model's own types: a test holds their bytes still.
//!
//! | tag | body | when |
//! |---|---|---|
//! | 1 head | [`Head`] | frames 0 and 1 and every [`KEY_FRAMES`]th |
//! | 2 strings, 3 comms, 4 stacks, 5 tasks | [`Strings`], [`Stacks`], [`Tasks`]: what is new, from an explicit id on | before their first use |
//! | 6 entry | [`crate::model::Entry`] | one each |
//! | 7 batch | [`BatchHead`] | one a batch |
//! | 8 samples | columns, see `encode` | one a batch |
//! | 9 closed | [`Closed`] | the last frame of a journal that was closed in peace |
//! | 10 machine | [`Machine`] | behind each head |
//! | 11 own use | [`crate::model::OwnUse`] | behind the batch it was told with |
//! | 12 waits | columns, see `encode` | one a batch that has some |

use serde::{Deserialize, Serialize};

use crate::model::{CpuStats, InstanceNo, Timestamp, WriterInfo};

use super::varint;

/// Every so many frames the head is told again and tasks are numbered anew, so that one damaged frame costs at most
/// about four minutes of what depends on it.
pub(super) const KEY_FRAMES: u32 = 256;
/// Longest frame in bytes once decompressed.
pub(super) const MAX_RAW_BYTES: usize = 128 << 20;

/// Tags of items.
pub(super) mod tag {
    pub(in crate::store) const HEAD: u8 = 1;
    pub(in crate::store) const STRINGS: u8 = 2;
    pub(in crate::store) const COMMS: u8 = 3;
    pub(in crate::store) const STACKS: u8 = 4;
    pub(in crate::store) const TASKS: u8 = 5;
    pub(in crate::store) const ENTRY: u8 = 6;
    pub(in crate::store) const BATCH: u8 = 7;
    pub(in crate::store) const SAMPLES: u8 = 8;
    pub(in crate::store) const CLOSED: u8 = 9;
    pub(in crate::store) const MACHINE: u8 = 10;
    pub(in crate::store) const OWN_USE: u8 = 11;
    pub(in crate::store) const WAITS: u8 = 12;
}

/// Who writes this journal, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The writer.
    pub info: WriterInfo,
    /// When this journal was begun.
    pub opened_at: Timestamp,
}

/// What of a writer's info its head has no place for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// [`WriterInfo::cpu_model`].
    pub cpu_model: Option<String>,
}

/// New strings (frames of stacks) or process names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Strings<'a> {
    /// Id of the first.
    pub base: u32,
    /// The strings.
    #[serde(borrow)]
    pub strings: Vec<&'a str>,
}

/// New stacks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stacks {
    /// Id of the first.
    pub base: u32,
    /// Quality, and the ids of the frames' strings, root first.
    pub stacks: Vec<(u8, Vec<u32>)>,
}

/// Where samples come from: an instance's thread under a name. Nearly all samples share a few of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Task {
    /// The instance.
    pub instance: InstanceNo,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Id of the process's name.
    pub comm: u32,
}

/// New tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tasks {
    /// Id of the first.
    pub base: u32,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// A batch without its samples and entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchHead {
    /// Its first sample; without samples, its first entry.
    pub from: Timestamp,
    /// Its last.
    pub to: Timestamp,
    /// Ring statistics.
    pub cpus: Vec<CpuStats>,
    /// Samples without an instance.
    pub unattributed: u64,
    /// Realtime minus monotonic clock in nanoseconds.
    pub clock_offset_ns: i64,
}

/// What a journal held, told when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    /// The earliest sample or entry.
    pub from: Timestamp,
    /// The latest.
    pub to: Timestamp,
    /// How many samples.
    pub samples: u64,
}

/// Appends an item.
pub(super) fn put_item(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    varint::put(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// The items of a decompressed payload, in order; ends early, with an error, where the bytes make no item.
pub(super) fn items(payload: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    let mut rest = Some(payload).filter(|bytes| !bytes.is_empty());
    std::iter::from_fn(move || {
        let mut bytes = rest.take()?;
        let item = (|| {
            let (&tag, tail) = bytes.split_first()?;
            bytes = tail;
            let len = usize::try_from(varint::take(&mut bytes)?).ok()?;
            let (body, tail) = bytes.split_at_checked(len)?;
            rest = Some(tail).filter(|bytes| !bytes.is_empty());
            Some((tag, body))
        })();
        Some(item.ok_or(Malformed("an item that ends beyond its frame")))
    })
}

/// What made no sense inside a frame whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);
