//! The one place where questions meet the disk: journals are read one by one and merged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::merge::Merger;
use super::selector::FunctionId;
use super::view::View;
use crate::model::{Timestamp, Window, WriterInfo};
use crate::store::{JournalFile, Store, StoreError};

/// A name may be told so long after the samples it belongs to, in microseconds.
const LATE_NAME_US: i64 = 3_600_000_000;

/// The view of the store at `root` for `window`; see [`open_all`].
///
/// # Errors
/// If there is no store, or the system refuses to read a journal of it.
pub fn open(root: &Path, window: Window, progress: impl FnMut(usize, usize)) -> anyhow::Result<View> {
    open_all(&[root], window, progress)
}

/// The view of the stores at `roots` together, for `window`. `progress` is told how many journals were read, and of
/// how many. Journals that closed before the window begin are not read: whoever still lived then is told of again in
/// the next. A journal that lies in two of them (a copy) counts once.
///
/// A journal whose head is damaged is told as damage.
///
/// # Errors
/// If one of them is no store, or the system refuses to read a journal of it.
pub fn open_all<P: AsRef<Path>>(
    roots: &[P],
    window: Window,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<View> {
    let mut stores: Vec<(PathBuf, Vec<JournalFile>)> = Vec::new();
    for root in roots.iter().map(AsRef::as_ref) {
        let advice = || format!("open the store {}; name another with --store", root.display());
        let store = Store::open(root).with_context(advice)?;
        let real = root.canonicalize().with_context(advice)?;
        if stores.iter().all(|(known, _)| *known != real) {
            stores.push((real, store.journals()?));
        }
    }
    let all = stores.iter().map(|(_, journals)| journals.len()).sum();
    let mut merger = Merger::new(window);
    let mut copies = Copies::default();
    let mut done = 0;
    for (_, journals) in &stores {
        for journal in journals {
            progress(done, all);
            done += 1;
            add(&mut merger, journal, window, &mut copies)?;
        }
        merger.next_store();
    }
    progress(all, all);
    Ok(View::new(merger.finish()))
}

/// Journals that were read, by name: a name alone is unique in its store, not beyond.
type Copies = HashMap<String, Vec<WriterInfo>>;

/// Adds `journal` if something of it may lie in `window`.
fn add(
    merger: &mut Merger,
    journal: &JournalFile,
    window: Window,
    copies: &mut Copies,
) -> anyhow::Result<()> {
    let reach = Window { from: window.from, to: window.to.plus_us(LATE_NAME_US) };
    let read = match journal.may_overlap(reach) {
        Ok(false) => return Ok(()),
        Ok(true) => journal.load(window),
        Err(error) => Err(error),
    };
    match read {
        Ok(contents) => {
            let known = copies.entry(journal.name().to_owned()).or_default();
            if !known.contains(&contents.writer) {
                known.push(contents.writer.clone());
                merger.add(contents);
            }
        }
        // Deleted since it was listed: its time has passed.
        Err(error) if error.is_gone() => {}
        // Nothing of it can be used; that is no reason to hide the others.
        Err(StoreError::NoHead { path }) => merger.unusable(path),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What the stores at `roots` know without their samples, as far as it is found within `limit`, newest first: for a
/// shell that completes a name. Whatever cannot be read is left out.
pub fn glance<P: AsRef<Path>>(roots: &[P], limit: Duration) -> View {
    let begin = Instant::now();
    let no_samples = Window { from: Timestamp::MAX, to: Timestamp::MAX };
    let mut merger = Merger::new(no_samples);
    for root in roots {
        let journals = Store::open(root.as_ref()).and_then(|store| store.journals()).unwrap_or_default();
        for journal in journals.iter().rev().take_while(|_| begin.elapsed() < limit) {
            let read: Result<_, StoreError> = journal.load(no_samples);
            if let Ok(contents) = read {
                merger.add(contents);
            }
        }
        merger.next_store();
    }
    View::new(merger.finish())
}

/// The functions in the store at `root` that can be found within `limit`; see [`glance`].
pub fn names(root: &Path, limit: Duration) -> Vec<FunctionId> {
    glance(&[root], limit).functions().to_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Batch, Entry, InstanceNo, Quality, Sample, Stack, WriterInfo};
    use crate::query::fixture::{Journal, at_ms, at_s, identity};
    use crate::query::{PhaseFilter, functions, stacks};

    /// A writer that stores `samples` of instance `container`, named at `named` seconds, one each millisecond.
    fn write(root: &Path, node: &str, container: &str, named: i64, samples: i64) {
        let mut made = Journal::new();
        let at = made.instance(container, true, 0);
        let info = made.record(at).info.clone();
        let no = InstanceNo(0);
        let entries = vec![
            Entry::Instance { no, info },
            Entry::Identity { no, from: at_s(named), identity: identity("demo", container, "1") },
            Entry::Exec { no, at: at_s(1) },
        ];
        let stack = Arc::new(Stack::new(vec!["main [pi]".into()], Quality::COMPLETE));
        let sample = |ms| Sample {
            time: at_ms(ms),
            instance: no,
            pid: 1,
            tid: 1,
            comm: "main".into(),
            cpu: 0,
            stack: Arc::clone(&stack),
        };
        let store = Store::create(root).unwrap();
        let mut journal = store.journal(WriterInfo { node: node.into(), ..made.contents.writer }).unwrap();
        journal
            .append(&Batch { entries, samples: (0..samples).map(sample).collect(), ..Batch::default() })
            .unwrap();
        journal.finish().unwrap();
    }

    #[test]
    fn a_store_of_two_writers_is_one_view() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "node-1", "aa", 0, 3_000);
        write(folder.path(), "node-2", "bb", 2, 500);
        let mut told = Vec::new();
        let view = open(folder.path(), Window::ALL, |done, all| told.push((done, all))).unwrap();
        assert_eq!(told.last(), Some(&(2, 2)));
        let selection = view.select(None, &[]).unwrap();
        let rows = functions(&view, &selection);
        let samples: Vec<_> = rows.iter().map(|row| (row.id.to_string(), row.samples)).collect();
        assert_eq!(samples, [("custom/demo/aa@1".into(), 3_000), ("custom/demo/bb@1".into(), 500)]);
        let stacks = stacks(&view, &selection, PhaseFilter::Function);
        assert_eq!(stacks.profile.total().samples, 2_000, "a second of it was before the exec");

        let window = Window { from: at_s(1), to: at_s(2) };
        let view = open(folder.path(), window, |_, _| {}).unwrap();
        let rows = functions(&view, &view.select(None, &[]).unwrap());
        assert_eq!(rows.iter().map(|row| row.samples).sum::<u64>(), 1_000);
    }

    #[test]
    fn names_are_found_and_a_missing_store_is_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "node-1", "aa", 0, 10);
        let found = names(folder.path(), Duration::from_secs(10));
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["custom/demo/aa@1"]);
        let missing = folder.path().join("nothing");
        assert!(names(&missing, Duration::from_secs(10)).is_empty());
        let error = open(&missing, Window::ALL, |_, _| {}).expect_err("no such store");
        assert!(format!("{error:#}").contains("nothing; name another with --store"), "{error:#}");
    }
}
