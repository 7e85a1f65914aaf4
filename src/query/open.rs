//! The one place where questions meet the disk: journals and sealed hours are read one by one and merged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::merge::Merger;
use super::sealed::{self, Scope};
use super::selector::FunctionId;
use super::view::View;
use crate::model::{Timestamp, Window};
use crate::store::{Store, StoreError};

/// A name may be told so long after the samples it belongs to, in microseconds.
const LATE_NAME_US: i64 = 3_600_000_000;

/// How often what vanishes while it is read is looked for again: a journal that is being sealed becomes a set.
const ATTEMPTS: usize = 5;

/// The view of the store at `root` for `window`, of which any question can be asked. `progress` is told how many
/// journals and sealed hours were read, and of how many.
///
/// # Errors
/// If there is no store, or the system refuses to read a file of it.
pub fn open(root: &Path, window: Window, progress: impl FnMut(usize, usize)) -> anyhow::Result<View> {
    open_for(root, window, Scope::All, progress)
}

/// The same for questions that `scope` is enough for.
///
/// Journals that closed before the window begin, and hours before it, are not read: whoever still lived then is told of
/// again in the next. A journal whose head is damaged is told as damage. Takes no lock: what is sealed meanwhile is
/// found as a journal or as a set, never as both and never as none.
///
/// # Errors
/// If there is no store, or the system refuses to read a file of it.
pub fn open_for(
    root: &Path,
    window: Window,
    scope: Scope<'_>,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<View> {
    let advice = || format!("open the store {}; name another with --store", root.display());
    let store = Store::open(root).with_context(advice)?;
    let mut attempt = 1;
    loop {
        match read(&store, window, scope, attempt < ATTEMPTS, &mut progress)? {
            Some(view) => return Ok(view),
            None => attempt += 1,
        }
    }
}

/// One attempt; none if something vanished that may be found elsewhere now, and `again` allows another.
fn read(
    store: &Store,
    window: Window,
    scope: Scope<'_>,
    again: bool,
    progress: &mut impl FnMut(usize, usize),
) -> anyhow::Result<Option<View>> {
    let reach = Window { from: window.from, to: window.to.plus_us(LATE_NAME_US) };
    // Journals first: what is sealed between the two lists is in both.
    let journals = store.journals()?;
    let around = Window { from: window.from.plus_us(-LATE_NAME_US), to: reach.to };
    let listed = store.readable(around, &journals)?;
    let all = listed.journals.len() + 2 * listed.sets.len();
    let mut done = 0;
    let mut step = |progress: &mut dyn FnMut(usize, usize)| {
        progress(done, all);
        done += 1;
    };
    let mut merger = Merger::new(window);
    for journal in &listed.journals {
        step(progress);
        let read = match journal.may_overlap(reach) {
            Ok(false) => continue,
            Ok(true) => journal.load(window),
            Err(error) => Err(error),
        };
        match read {
            Ok(contents) => merger.add(contents),
            // Sealed since it was listed, or deleted: then its time has passed.
            Err(error) if error.is_gone() && again => return Ok(None),
            Err(error) if error.is_gone() => {}
            // Nothing of it can be used; that is no reason to hide the others.
            Err(StoreError::NoHead { path }) => merger.unusable(path),
            Err(error) => return Err(error.into()),
        }
    }
    listed.damage.into_iter().for_each(|damage| merger.add_damage(damage));
    for set in &listed.sets {
        step(progress);
        if let Some(hour) = set.load(set.hour().is_cut_by(window))? {
            merger.add_sealed(hour);
        }
    }
    let (mut merged, parts) = merger.finish_sealed();
    sealed::add(&mut merged, parts, scope, || step(progress))?;
    progress(all, all);
    Ok(Some(View::new(merged)))
}

/// The functions in the store at `root` that can be found within `limit`, newest first, for a shell that completes
/// a name. Whatever cannot be read is left out.
pub fn names(root: &Path, limit: Duration) -> Vec<FunctionId> {
    let begin = Instant::now();
    let no_samples = Window { from: Timestamp::MAX, to: Timestamp::MAX };
    let mut merger = Merger::new(no_samples);
    let Ok(store) = Store::open(root) else { return Vec::new() };
    let journals = store.journals().unwrap_or_default();
    let listed = store.readable(Window::ALL, &journals).unwrap_or_default();
    for journal in listed.journals.iter().rev().take_while(|_| begin.elapsed() < limit) {
        let read: Result<_, StoreError> = journal.load(no_samples);
        if let Ok(contents) = read {
            merger.add(contents);
        }
    }
    for set in listed.sets.iter().rev().take_while(|_| begin.elapsed() < limit) {
        if let Ok(Some(hour)) = set.load(false) {
            merger.add_sealed(hour);
        }
    }
    View::new(merger.finish()).functions().to_vec()
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
