//! The folded tree: what each function did in an hour, for people and for flame graph tools.
//!
//! ```text
//! folded/<platform>/<namespace or ->/<function or ->/<revision or ->/<hour>-<journal>.folded.gz
//! …/<hour>-<journal>.off-cpu.folded.gz    time off the CPU
//! …/<hour>-<journal>.cycles.folded.gz     samples of another event than the CPU clock
//! ```
//!
//! One file for each function, UTC hour and journal; lines `frame;frame;frame COUNT`, root first, sorted, where the
//! count is of samples, or of microseconds off the CPU in waits that were over in that hour and were no preemption.
//! Left out: samples from before the function's own exec (the runtime making the container),
//! and containers that are known to be no function. A container that the journal has no name for stands under
//! platform `unknown` with its id as the function: a name that came later, in the next journal, does not move it.
//!
//! Written when a journal is closed; a marker beside the journal tells that it is done. Writing it again gives the
//! same files.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::{Compression, GzBuilder};

use crate::model::{IdMap, Identity, Stack, Timestamp, Window, frame};

use super::contents::{InstanceRecord, JournalContents, StoredSample};
use super::directory::{self, Store};
use super::error::StoreError;
use super::names::{self, encode_optional};
use super::reader::JournalFile;
use super::writer::{HOUR_US, hour};

/// Files that are synced one by one; more take a second for each hundred so, and are synced all at once, with
/// whatever else waits to be written to that disk.
const MAX_SYNCED: usize = 100;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Folded {
    /// Journals that have their tree now and had none before.
    pub journals: u64,
    /// Files written.
    pub files: u64,
    /// Samples in them.
    pub samples: u64,
}

impl Store {
    /// Writes the folded files of `journal`, which must be closed.
    ///
    /// # Errors
    /// If the journal cannot be read or a file cannot be written; files that were written stay.
    pub fn write_folded(&self, journal: &JournalFile) -> Result<Folded, StoreError> {
        self.write_folded_of(journal, &journal.load(Window::ALL)?)
    }

    /// The same where `contents`, all of the journal, are at hand.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn write_folded_of(
        &self,
        journal: &JournalFile,
        contents: &JournalContents,
    ) -> Result<Folded, StoreError> {
        let (folders, files) = counted(contents);
        let writer = &contents.writer;
        let of_samples = match writer.is_clock() {
            true => String::new(),
            false => format!(".{}", names::encode(&writer.event)),
        };
        let many = files.len() > MAX_SYNCED;
        let mut folded = Folded { journals: 1, ..Folded::default() };
        for ((folder, hour, is_wait), mut counts) in files {
            let Some(folder) = folders.list.get(folder) else { continue };
            let folder = self.folded_folder().join(folder);
            directory::make_folder(&folder)?;
            let event = if is_wait { ".off-cpu" } else { &of_samples };
            if is_wait {
                // A sum of none is no line.
                counts.values_mut().for_each(|ns| *ns = ns.saturating_add(500) / 1_000);
                counts.retain(|_, us| *us > 0);
            }
            let path = folder.join(format!("{}-{}{event}.folded.gz", hour_name(hour), journal.name()));
            let bytes = gzip(&contents.stacks, &counts)
                .map_err(|source| StoreError::io("compress", &path, source))?;
            if many {
                directory::replace_unsynced(&self.folded_folder(), &path, &bytes)?;
            } else {
                directory::replace(&self.folded_folder(), &path, &bytes)?;
                directory::sync_folder(&folder)?;
            }
            folded.files += 1;
            folded.samples += if is_wait { 0 } else { counts.values().sum::<u64>() };
        }
        if many {
            directory::sync_everything(&self.folded_folder())?;
        }
        directory::replace(&self.journal_folder(), &marker(journal.path()), b"")?;
        Ok(folded)
    }

    /// Writes the folded files of closed journals that have none because their writer was killed, and removes what
    /// such a writer left unfinished. Leaves `own` alone. One journal that cannot be read does not stop the others.
    ///
    /// # Errors
    /// If the journals cannot be listed.
    pub fn fold_leftovers(&self, own: Option<&Path>) -> Result<Folded, StoreError> {
        self.sweep();
        let mut total = Folded::default();
        for journal in self.journals()? {
            if Some(journal.path()) == own || marker(journal.path()).exists() {
                continue;
            }
            let folded = match journal.is_being_written() {
                Ok(true) => continue,
                Ok(false) => self.write_folded(&journal),
                Err(error) => Err(error),
            };
            match folded {
                Ok(folded) => {
                    total.journals += 1;
                    total.files += folded.files;
                    total.samples += folded.samples;
                }
                Err(error) => {
                    tracing::warn!(%error, journal = journal.name(), "no folded files of a journal")
                }
            }
        }
        Ok(total)
    }
}

/// The functions' folders, each once.
#[derive(Default)]
struct Folders {
    list: Vec<PathBuf>,
    positions: HashMap<PathBuf, usize>,
}

impl Folders {
    fn position(&mut self, folder: PathBuf) -> usize {
        *self.positions.entry(folder).or_insert_with_key(|folder| {
            self.list.push(folder.clone());
            self.list.len() - 1
        })
    }
}

/// Counts by stack for each file: of a folder, an hour, and whether it is of waits.
type Files = BTreeMap<(usize, i64, bool), IdMap<u32, u64>>;

/// What of `contents` goes into which file.
fn counted(contents: &JournalContents) -> (Folders, Files) {
    let mut folders = Folders::default();
    let places: Vec<Places> =
        contents.instances.iter().map(|record| Places::of(record, &mut folders)).collect();
    let samples = contents.samples.iter().map(|sample| (sample, 1, false));
    let waits = contents.waits.iter().filter(|wait| !wait.preempted).map(|wait| (&wait.back, wait.ns, true));
    let mut files = Files::new();
    for (sample, weight, is_wait) in samples.chain(waits) {
        let places = contents.instance_of(sample).and_then(|instance| places.get(instance));
        let place = places.and_then(|places| places.at(sample));
        if let Some(folder) = place {
            let counts = files.entry((folder, hour(sample.time), is_wait)).or_default();
            let sum = counts.entry(sample.stack).or_default();
            *sum = sum.saturating_add(weight);
        }
    }
    (folders, files)
}

/// Where the samples of an instance go.
struct Places<'a> {
    record: &'a InstanceRecord,
    /// Positions of folders, one for each identity, in their order; a single one without identities. None: not to be
    /// kept.
    folders: Vec<Option<usize>>,
}

impl Places<'_> {
    fn of<'a>(record: &'a InstanceRecord, folders: &mut Folders) -> Places<'a> {
        let mut folder =
            |parts: [Option<&str>; 4]| folders.position(parts.map(encode_optional).iter().collect());
        let folders = if record.identities.is_empty() {
            let stand_in = record.info.unnamed_function();
            vec![Some(folder([Some(Identity::UNKNOWN_PLATFORM), None, Some(&stand_in), None]))]
        } else {
            let names = |of: &Identity| {
                let parts = [&of.platform, &of.namespace, &of.function, &of.revision];
                of.function_container.then(|| folder(parts.map(|part| part.as_deref())))
            };
            record.identities.iter().map(|(_, identity)| identity).map(names).collect()
        };
        Places { record, folders }
    }

    fn at(&self, sample: &StoredSample) -> Option<usize> {
        if self.record.exec_at.is_some_and(|exec| sample.time < exec) {
            return None;
        }
        // The same choice as `InstanceRecord::identity_at`, by position.
        let before = self.record.identities.partition_point(|(from, _)| *from <= sample.time);
        self.folders.get(before.saturating_sub(1)).copied().flatten()
    }
}

/// The lines of `counts`, sorted and zipped; stacks that differ only in their quality are one. Lines are made as they
/// are written: a hundred thousand deep stacks would be a hundred megabytes of text.
fn gzip(stacks: &[Arc<Stack>], counts: &IdMap<u32, u64>) -> io::Result<Vec<u8>> {
    let counted = counts.iter().filter_map(|(stack, count)| Some((&**stacks.get(*stack as usize)?, *count)));
    let mut sorted: Vec<(&Stack, u64)> = counted.collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| compared(a, b));
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
    let mut line = String::new();
    for equal in sorted.chunk_by(|(a, _), (b, _)| compared(a, b).is_eq()) {
        if let Some((stack, _)) = equal.first() {
            let count: u64 = equal.iter().map(|(_, count)| count).sum();
            line.clear();
            put_line(stack, &mut line);
            writeln!(encoder, "{line} {count}")?;
        }
    }
    encoder.finish()
}

/// Which of two stacks has the first line, without making lines.
fn compared(a: &Stack, b: &Stack) -> Ordering {
    let alike = texts(a).zip(texts(b)).take_while(|(a, b)| a == b).count();
    let rest = |stack| {
        let frames = texts(stack).enumerate().skip(alike);
        frames
            .flat_map(|(at, text)| (at > 0).then_some(';').into_iter().chain(text.chars().flat_map(escaped)))
    };
    rest(a).cmp(rest(b))
}

/// Appends the line of `stack`, without its count.
pub(super) fn put_line(stack: &Stack, line: &mut String) {
    for (at, text) in texts(stack).enumerate() {
        if at > 0 {
            line.push(';');
        }
        match text.contains(is_escaped) {
            true => line.extend(text.chars().flat_map(escaped)),
            false => line.push_str(text),
        }
    }
}

/// The frames of `stack`; a marker where its line would be empty.
fn texts(stack: &Stack) -> impl Iterator<Item = &str> {
    let frames = match stack.frames() {
        [only] if only.is_empty() => &[],
        frames => frames,
    };
    frames.is_empty().then_some(frame::UNWOUND_SHORT).into_iter().chain(frames.iter().map(|frame| &**frame))
}

/// Frames come escaped; what did not come from our own symbolizer is not trusted to.
fn is_escaped(c: char) -> bool {
    c == ';' || c.is_control()
}

/// `c` as it stands in a line; two digits are enough for what is escaped.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let digit = |shift: u32| char::from_digit(u32::from(c) >> shift & 0xf, 16).unwrap_or('0');
    match is_escaped(c) {
        true => ['\\', 'x', digit(4), digit(0)].into_iter().take(4),
        false => [c; 4].into_iter().take(1),
    }
}

/// `2026-11-23T08`, in UTC; the bare number where no calendar has such an hour.
fn hour_name(hour: i64) -> String {
    let time = hour.checked_mul(HOUR_US).map(|us| Timestamp(us).to_string());
    let name = time.and_then(|text| text.split_once(':').map(|(hour, _)| hour.to_owned()));
    name.unwrap_or_else(|| format!("{hour}h"))
}

/// Tells that the files of the journal at `path` are written.
pub(super) fn marker(path: &Path) -> PathBuf {
    path.with_extension("folded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Quality;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stacks_are_in_the_order_of_their_lines(
            a in proptest::collection::vec("[ab;<\u{85}é]{0,2}", 0..4),
            b in proptest::collection::vec("[ab;<\u{85}é]{0,2}", 0..4),
        ) {
            let stack = |frames: &[String]| {
                Stack::new(frames.iter().map(|frame| Arc::from(frame.as_str())).collect(), Quality::COMPLETE)
            };
            let (a, b) = (stack(&a), stack(&b));
            let line = |stack: &Stack| {
                let mut line = String::new();
                put_line(stack, &mut line);
                line
            };
            let (line_a, line_b) = (line(&a), line(&b));
            prop_assert_eq!(compared(&a, &b), line_a.cmp(&line_b), "{} {}", line_a, line_b);
            prop_assert!(!line_a.is_empty() && !line_a.contains(char::is_control));
        }
    }
}
