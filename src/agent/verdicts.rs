//! Of which programs the kernel's chains suffice, learned by comparing them with walks along copies.
//!
//! A chain loses the caller of a function that keeps no frame, so callers are compared and not only whether a root is
//! reached. What was learned holds for a while and is then learned again, because a program does other things later; it
//! is taken back when chains differ. It is remembered in the store's cache by the content of the program's file, which
//! nobody can choose for another one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use crate::model::tables;
use crate::stack::{MappedFile, content_digest};

/// Comparisons that a verdict rests on, and how many of them may differ: 1 in 100.
const COMPARED: u32 = 256;
const MOST_DIFFERENT: u32 = 2;
/// How long it holds: ten minutes.
const HOLDS_NS: u64 = 600_000_000_000;
/// Most programs that are remembered, here and in the store's cache: who makes a new program each time fills neither.
const MAX_PROGRAMS: usize = 4_096;
/// Largest file that is remembered over a restart, in bytes: its content is read for that.
const MAX_CONTENT_BYTES: u64 = 32 << 20;

#[derive(Debug)]
struct Program {
    /// Once it is gone nobody asks: a file that is opened again has another number.
    file: Weak<MappedFile>,
    compared: u32,
    different: u32,
    suffices_since_ns: Option<u64>,
}

/// What is known of programs, by file.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    programs: HashMap<u64, Program>,
    directory: Option<PathBuf>,
}

impl Verdicts {
    /// Remembers in `directory` of the store's cache, if there is one.
    pub(super) fn new(directory: Option<&Path>) -> Verdicts {
        Verdicts { directory: directory.map(Path::to_path_buf), ..Verdicts::default() }
    }

    /// A chain of a process that runs `main` was compared with a walk along its copy.
    pub(super) fn compared(&mut self, main: &Arc<MappedFile>, agrees: bool, now_ns: u64) {
        let Verdicts { programs, directory } = self;
        if programs.len() >= MAX_PROGRAMS && !programs.contains_key(&main.id) {
            programs.clear();
        }
        let known_before = |file| directory.as_deref().is_some_and(|folder| remembered(folder, file));
        let program = programs.entry(main.id).or_insert_with(|| {
            let suffices_since_ns = known_before(main).then_some(now_ns);
            Program { file: Arc::downgrade(main), compared: 0, different: 0, suffices_since_ns }
        });
        program.compared += 1;
        program.different += u32::from(!agrees);
        if program.compared < COMPARED {
            return;
        }
        let (suffices, sufficed) = (program.different <= MOST_DIFFERENT, program.suffices_since_ns.is_some());
        if suffices != sufficed {
            program.suffices_since_ns = suffices.then_some(now_ns);
            if let Some(folder) = directory {
                remember(folder, main, suffices);
            }
        }
        (program.compared, program.different) = (0, 0);
    }

    /// Whether chains suffice for `main`.
    pub(super) fn suffices(&self, main: &MappedFile) -> bool {
        self.programs.get(&main.id).is_some_and(|program| program.suffices_since_ns.is_some())
    }

    /// Whether there is no program of which they do.
    pub(super) fn none_suffices(&self) -> bool {
        self.programs.values().all(|program| program.suffices_since_ns.is_none())
    }

    /// What was learned long before `now_ns` is to be learned again, and that of files that are gone is forgotten.
    pub(super) fn expire(&mut self, now_ns: u64) {
        self.programs.retain(|_, program| {
            let is_old = |since: u64| now_ns.saturating_sub(since) >= HOLDS_NS;
            if program.suffices_since_ns.is_some_and(is_old) {
                (program.compared, program.different, program.suffices_since_ns) = (0, 0, None);
            }
            program.file.strong_count() > 0
        });
        tables::keep_little(&mut self.programs);
    }
}

/// The file that stands for what was learned of `file`; none if it cannot be read or is too large for that.
fn path(folder: &Path, file: &MappedFile) -> Option<PathBuf> {
    Some(folder.join(content_digest(file, MAX_CONTENT_BYTES)?))
}

fn remembered(folder: &Path, file: &MappedFile) -> bool {
    // Most folders stay empty: then no program is read for nothing.
    let empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    !empty && path(folder, file).is_some_and(|path| path.exists())
}

fn remember(folder: &Path, file: &MappedFile, suffices: bool) {
    let written = std::fs::create_dir_all(folder).and_then(|()| match path(folder, file) {
        Some(path) if suffices => {
            if std::fs::read_dir(folder)?.count() >= MAX_PROGRAMS {
                // Whoever is in use is learned of again.
                std::fs::remove_dir_all(folder).and_then(|()| std::fs::create_dir_all(folder))?;
            }
            std::fs::write(path, [])
        }
        Some(path) => std::fs::remove_file(path),
        None => Ok(()),
    });
    if let Err(error) = written {
        tracing::debug!("remember that chains suffice: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(id: u64, path: &str) -> Arc<MappedFile> {
        let fd = std::fs::File::open(path).unwrap().into();
        Arc::new(MappedFile::new(id, path.into(), None, Some(fd)))
    }

    fn compare(verdicts: &mut Verdicts, file: &Arc<MappedFile>, different: u32, now_ns: u64) -> bool {
        (0..COMPARED).for_each(|n| verdicts.compared(file, n >= different, now_ns));
        verdicts.suffices(file)
    }

    #[test]
    fn chains_suffice_where_they_hardly_ever_differ_and_for_a_while() {
        let mut verdicts = Verdicts::new(None);
        let (good, poor) = (program(1, "/bin/true"), program(2, "/bin/true"));
        assert!(verdicts.none_suffices() && !verdicts.suffices(&good));
        assert!(!compare(&mut verdicts, &poor, MOST_DIFFERENT + 1, 0));
        assert!(verdicts.none_suffices());
        assert!(compare(&mut verdicts, &good, MOST_DIFFERENT, 1_000));
        verdicts.expire(HOLDS_NS + 999);
        assert!(verdicts.suffices(&good));
        verdicts.expire(HOLDS_NS + 1_000);
        assert!(!verdicts.suffices(&good) && verdicts.none_suffices());
        assert!(compare(&mut verdicts, &good, 0, 2 * HOLDS_NS));
        drop((good, poor));
        verdicts.expire(2 * HOLDS_NS);
        assert!(verdicts.none_suffices() && verdicts.programs.is_empty(), "nobody has these files");
    }

    #[test]
    fn what_was_learned_is_known_after_a_restart_by_content() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("chains");
        let mut verdicts = Verdicts::new(Some(&folder));
        assert!(compare(&mut verdicts, &program(1, "/bin/true"), 0, 0));
        let mut verdicts = Verdicts::new(Some(&folder));
        let (same, other) = (program(7, "/bin/true"), program(8, "/bin/false"));
        verdicts.compared(&same, false, 0);
        verdicts.compared(&other, true, 0);
        assert!(verdicts.suffices(&same) && !verdicts.suffices(&other));
        // It does something else now: what was learned is taken back, here and for later.
        (1..COMPARED).for_each(|_| verdicts.compared(&same, false, 0));
        assert!(!verdicts.suffices(&same));
        let mut verdicts = Verdicts::new(Some(&folder));
        verdicts.compared(&same, true, 0);
        assert!(!verdicts.suffices(&same));
    }

    #[test]
    fn programs_that_never_come_again_do_not_fill_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("chains");
        std::fs::create_dir(&folder).unwrap();
        (0..MAX_PROGRAMS).for_each(|n| std::fs::write(folder.join(n.to_string()), []).unwrap());
        let program = program(1, "/bin/true");
        assert!(compare(&mut Verdicts::new(Some(&folder)), &program, 0, 0));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(remembered(&folder, &program));
    }
}
