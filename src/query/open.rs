//! The one place where questions meet the disk: journals and sealed hours are read one by one and merged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::event::Event;
use super::merge::Merger;
use super::sealed::{self, Scope};
use super::selector::FunctionId;
use super::view::View;
use crate::model::{Timestamp, Window, WriterInfo};
use crate::store::archive::{Detail, Readable, SealedHour, SealedSet};
use crate::store::{JournalFile, Store, StoreError};

/// A name may be told so long after the samples it belongs to, in microseconds.
const LATE_NAME_US: i64 = 3_600_000_000;

/// Sets that are read before a person is told how far it is.
const SETS_AT_ONCE: usize = 48;
/// Most threads that read them.
const MAX_THREADS: usize = 8;
/// How often what vanishes while it is read is looked for again: a journal that is being sealed becomes a set. Each time
/// means that another was sealed meanwhile, so this is never reached but in a store of as many.
const ATTEMPTS: usize = 64;

/// The view of the store at `root` for `window`, of which any question can be asked; see [`open_for`].
///
/// # Errors
/// If there is no store, or the system refuses to read a file of it.
pub fn open(root: &Path, window: Window, progress: impl FnMut(usize, usize)) -> anyhow::Result<View> {
    open_for(&[root], window, Scope::All, progress)
}

/// The view of the stores at `roots` together, for `window` and for questions that `scope` is enough for. `progress` is
/// told how many journals and sealed hours were read, and of how many. What lies in two of them (a copy) counts once.
///
/// Journals that closed before the window begin, and hours before it, are not read: whoever still lived then is told of
/// again in the next. A journal whose head is damaged is told as damage. Takes no lock: what is sealed meanwhile is
/// found as a journal or as a set, never as both and never as none.
///
/// # Errors
/// If one of them is no store, or the system refuses to read a file of it.
pub fn open_for<P: AsRef<Path>>(
    roots: &[P],
    window: Window,
    scope: Scope<'_>,
    progress: impl FnMut(usize, usize),
) -> anyhow::Result<View> {
    open_event(roots, window, scope, &Event::CpuClock, progress)
}

/// The same for questions that count `event`.
///
/// # Errors
/// As [`open_for`].
pub fn open_event<P: AsRef<Path>>(
    roots: &[P],
    window: Window,
    scope: Scope<'_>,
    event: &Event,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<View> {
    let mut stores: Vec<(PathBuf, Store)> = Vec::new();
    for root in roots.iter().map(AsRef::as_ref) {
        let advice = || format!("open the store {}; name another with --store", root.display());
        let store = Store::open(root).with_context(advice)?;
        let real = root.canonicalize().with_context(advice)?;
        if stores.iter().all(|(known, _)| *known != real) {
            stores.push((real, store));
        }
    }
    let mut attempt = 1;
    loop {
        match read(&stores, window, (scope, event), attempt < ATTEMPTS, &mut progress)? {
            Some(view) => return Ok(view),
            None => attempt += 1,
        }
    }
}

/// Who wrote what was read, by the name of its file: a name alone is unique in its store, not beyond.
type Copies = HashMap<String, Vec<(u32, WriterInfo)>>;

/// One attempt; none if something vanished that may be found elsewhere now, and `again` allows another.
fn read(
    stores: &[(PathBuf, Store)],
    window: Window,
    (scope, event): (Scope<'_>, &Event),
    again: bool,
    progress: &mut impl FnMut(usize, usize),
) -> anyhow::Result<Option<View>> {
    let around = Window { from: window.from.plus_us(-LATE_NAME_US), to: window.to.plus_us(LATE_NAME_US) };
    let mut listed: Vec<Readable> = Vec::new();
    for (_, store) in stores {
        // Journals first: what is sealed between the two lists is in both.
        let journals = store.journals()?;
        listed.push(store.readable(around, &journals)?);
    }
    let all = listed.iter().map(|listed| listed.journals.len() + 2 * listed.sets.len()).sum();
    let mut done = 0;
    let mut step = |progress: &mut dyn FnMut(usize, usize)| {
        progress(done, all);
        done += 1;
    };
    let mut copies = Copies::default();
    let totals = matches!(scope, Scope::All | Scope::Counts);
    let mut merger = Merger::counting(window, event.clone(), totals);
    // Journals before sets: they vanish when they are sealed, sets stay.
    for (at, of_store) in (0u32..).zip(&listed) {
        merger.in_store(at);
        for journal in &of_store.journals {
            step(progress);
            if is_outdone(&listed, at, journal)? {
                continue;
            }
            let is_wanted = |name: &str, writer: &WriterInfo| is_new(&mut copies, name, at, writer);
            if !add_journal(&mut merger, journal, window, is_wanted)? && again {
                return Ok(None);
            }
        }
    }
    for (at, listed) in (0u32..).zip(listed) {
        merger.in_store(at);
        listed.damage.into_iter().for_each(|damage| merger.add_damage(damage));
        for sets in listed.sets.chunks(SETS_AT_ONCE) {
            for hour in load(sets, window) {
                step(progress);
                let Some(hour) = hour? else { continue };
                let (set, writer) = (&hour.set, &hour.host.writer);
                let name = format!("{} {}", set.hour().name(), set.name());
                // Where another store has the journal it was made from, that has been read.
                if !is_elsewhere(&copies, set.name(), at, writer) && is_new(&mut copies, &name, at, writer) {
                    merger.add_sealed(hour);
                }
            }
        }
    }
    let (mut merged, parts) = merger.finish_sealed();
    sealed::add(&mut merged, parts, scope, || step(progress))?;
    progress(all, all);
    Ok(Some(View::new(merged)))
}

/// The instances of `sets`, in their order, read by as many threads as there are CPUs: what takes time is unpacking
/// some forty small columns of each.
fn load(sets: &[SealedSet], window: Window) -> Vec<Result<Option<SealedHour>, StoreError>> {
    let one = |set: &SealedSet| {
        set.load(if set.hour().is_cut_by(window) { Detail::Readings } else { Detail::Totals })
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    if threads == 1 || sets.len() < 4 {
        return sets.iter().map(one).collect();
    }
    let share = sets.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts = sets.chunks(share);
        let readers: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>())).collect();
        let read = |reader: std::thread::ScopedJoinHandle<'_, Vec<_>>| match reader.join() {
            Ok(hours) => hours,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        readers.into_iter().flat_map(read).collect()
    })
}

/// Whether what has that name and that writer was read from another store than `store`.
fn is_elsewhere(copies: &Copies, name: &str, store: u32, writer: &WriterInfo) -> bool {
    let known = copies.get(name).map(Vec::as_slice).unwrap_or_default();
    known.iter().any(|(of, known)| *of != store && known == writer)
}

/// Whether another store than `store` has more of `journal`: a copy that was taken while its writer went on ends early.
fn is_outdone(listed: &[Readable], store: u32, journal: &JournalFile) -> Result<bool, StoreError> {
    let others = || listed.iter().zip(0u32..).filter(|(_, at)| *at != store).map(|(listed, _)| listed);
    let length = |journal: &JournalFile| std::fs::metadata(journal.path()).map_or(0, |meta| meta.len());
    // A damaged head has no writer; then both are read, and what is wrong is told.
    let own = || journal.writer().ok();
    for other in others().flat_map(|other| &other.journals).filter(|other| other.name() == journal.name()) {
        if length(other) > length(journal) && own().is_some_and(|own| other.writer().ok() == Some(own)) {
            return Ok(true);
        }
    }
    let mut sets = others().flat_map(|other| &other.sets).filter(|set| set.name() == journal.name());
    let Some(set) = sets.next() else { return Ok(false) };
    if journal.is_closed().unwrap_or(true) {
        return Ok(false);
    }
    let sealed = set.load(Detail::Names)?;
    Ok(sealed.is_some_and(|hour| own().is_some_and(|own| hour.host.writer == own)))
}

/// Whether it was not; remembers it.
fn is_new(copies: &mut Copies, name: &str, store: u32, writer: &WriterInfo) -> bool {
    let is_new = !is_elsewhere(copies, name, store, writer);
    if is_new {
        copies.entry(name.to_owned()).or_default().push((store, writer.clone()));
    }
    is_new
}

/// Adds `journal` if something of it may lie in `window` and `is_wanted` wants it. False if it is gone: it was sealed
/// since it was listed, or its time has passed.
fn add_journal(
    merger: &mut Merger,
    journal: &JournalFile,
    window: Window,
    is_wanted: impl FnOnce(&str, &WriterInfo) -> bool,
) -> anyhow::Result<bool> {
    let reach = Window { from: window.from, to: window.to.plus_us(LATE_NAME_US) };
    let read = match journal.may_overlap(reach) {
        Ok(false) => return Ok(true),
        Ok(true) => journal.load(window),
        Err(error) => Err(error),
    };
    match read {
        Ok(contents) => {
            if is_wanted(journal.name(), &contents.writer) {
                merger.add(contents);
            }
        }
        Err(error) if error.is_gone() => return Ok(false),
        // Nothing of it can be used; that is no reason to hide the others.
        Err(StoreError::NoHead { path }) => merger.unusable(path),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// What the stores at `roots` know without their samples, as far as it is found within `limit`, newest first: for a
/// shell that completes a name. Whatever cannot be read is left out.
pub fn glance<P: AsRef<Path>>(roots: &[P], limit: Duration) -> View {
    let begin = Instant::now();
    let no_samples = Window { from: Timestamp::MAX, to: Timestamp::MAX };
    let mut merger = Merger::new(no_samples);
    for (at, root) in (0u32..).zip(roots) {
        merger.in_store(at);
        let Ok(store) = Store::open(root.as_ref()) else { continue };
        let journals = store.journals().unwrap_or_default();
        let listed = store.readable(Window::ALL, &journals).unwrap_or_default();
        for journal in listed.journals.iter().rev().take_while(|_| begin.elapsed() < limit) {
            let read: Result<_, StoreError> = journal.load(no_samples);
            if let Ok(contents) = read {
                merger.add(contents);
            }
        }
        for set in listed.sets.iter().rev().take_while(|_| begin.elapsed() < limit) {
            if let Ok(Some(hour)) = set.load(Detail::Names) {
                merger.add_sealed(hour);
            }
        }
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
