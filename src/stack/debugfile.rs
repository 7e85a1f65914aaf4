//! Separate debug files: looked for by build id in folders of this host and on debuginfod servers, again and again.
//!
//! A build id is a tenant's word. It makes a path only as hexadecimal digits, and the file it leads to names the
//! frames of nobody but who claims it: tables are kept by the content of both files. What was not there is remembered
//! for each build id, within bounds, and told of when it has come.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::debuginfod::{FetchStats, Fetcher};
use super::elf::Elf;
use super::options::SymbolOptions;
use super::source::{Pinned, ReadError, Source};
use crate::model::BuildId;

/// Most files waited for. What comes beyond takes the place of those that have waited for longest.
const MAX_WAITING: usize = 4096;

/// Where debug files come from, and who waits for one.
#[derive(Debug)]
pub struct DebugFiles {
    folders: Vec<PathBuf>,
    fetcher: Option<Fetcher>,
    /// Build ids without a debug file so far, and the mapped files that claim them.
    waiting: HashMap<BuildId, HashSet<u64>>,
    /// The same build ids, in order of first sight.
    order: VecDeque<BuildId>,
    waiting_files: usize,
    look_again: Duration,
    looked: Instant,
}

impl DebugFiles {
    /// Debug files as `options` say; fetched ones are kept under `cache_dir`, and none is fetched where there is none.
    pub fn new(options: &SymbolOptions, cache_dir: Option<&Path>) -> DebugFiles {
        let fetcher = cache_dir
            .filter(|_| !options.debuginfod.is_empty())
            .map(|directory| Fetcher::start(options.debuginfod.clone(), &directory.join("debuginfod")));
        DebugFiles {
            folders: options.debug_dirs.clone(),
            fetcher,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            waiting_files: 0,
            look_again: options.look_again,
            looked: Instant::now(),
        }
    }

    /// The debug file for `build_id`, where there is one now that claims it too.
    pub fn open(&self, build_id: BuildId) -> Option<Source<'static>> {
        let fetched = self.fetcher.as_ref().map(|fetcher| fetcher.path(build_id));
        let paths = self.folders.iter().filter_map(|folder| path_in(folder, build_id));
        paths.chain(fetched).find_map(|path| {
            let mut reader = Pinned::new(open_regular(&path).ok()?);
            let elf = Elf::read(&mut reader).ok()?;
            (elf.build_id == Some(build_id)).then(|| reader.into_source())
        })
    }

    /// Remembers that the mapped file `id` would have more names with a debug file, and asks the servers for it.
    pub fn wait_for(&mut self, build_id: BuildId, id: u64) {
        if self.folders.is_empty() && self.fetcher.is_none() {
            return;
        }
        if let Some(fetcher) = &mut self.fetcher {
            fetcher.ask(build_id);
        }
        while self.waiting_files >= MAX_WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting_files -= self.waiting.remove(&oldest).map_or(0, |files| files.len());
        }
        let files = self.waiting.entry(build_id).or_default();
        if files.is_empty() {
            self.order.push_back(build_id);
        }
        self.waiting_files += usize::from(files.insert(id));
    }

    /// Mapped files whose debug file has come since they were waited for. Cheap: folders are looked into once in a
    /// while.
    pub fn arrived(&mut self, now: Instant) -> Vec<u64> {
        let mut come: Vec<BuildId> = self.fetcher.as_mut().map(Fetcher::fetched).unwrap_or_default();
        if !self.waiting.is_empty() && now.saturating_duration_since(self.looked) >= self.look_again {
            self.looked = now;
            come.extend(self.waiting.keys().filter(|id| self.is_in_folders(**id)));
            if let Some(fetcher) = &mut self.fetcher {
                self.waiting.keys().for_each(|id| fetcher.ask(*id));
            }
        }
        let files: Vec<u64> = come.iter().filter_map(|id| self.waiting.remove(id)).flatten().collect();
        self.waiting_files = self.waiting_files.saturating_sub(files.len());
        if !come.is_empty() {
            self.order.retain(|id| self.waiting.contains_key(id));
        }
        files
    }

    /// How fetching went.
    pub fn stats(&self) -> FetchStats {
        self.fetcher.as_ref().map(Fetcher::stats).unwrap_or_default()
    }

    fn is_in_folders(&self, build_id: BuildId) -> bool {
        self.folders.iter().filter_map(|folder| path_in(folder, build_id)).any(|path| path.is_file())
    }
}

/// `FOLDER/.build-id/ab/cdef.debug`; none for a build id of one byte.
fn path_in(folder: &Path, build_id: BuildId) -> Option<PathBuf> {
    let hex = build_id.to_string();
    let (first, rest) = hex.split_at_checked(2)?;
    (!rest.is_empty()).then(|| folder.join(".build-id").join(first).join(format!("{rest}.debug")))
}

fn open_regular(path: &Path) -> Result<Source<'static>, ReadError> {
    // What is no regular file is refused behind this, so opening it must not wait.
    let fd: OwnedFd = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
    )?;
    Source::file(Arc::new(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bytes: &[u8]) -> BuildId {
        BuildId::new(bytes).unwrap()
    }

    #[test]
    fn a_build_id_leads_into_its_folder_and_nowhere_else() {
        let folder = Path::new("/usr/lib/debug");
        let path = path_in(folder, id(&[0xab, 0xcd, 0xef]));
        assert_eq!(path.unwrap(), Path::new("/usr/lib/debug/.build-id/ab/cdef.debug"));
        assert_eq!(path_in(folder, id(&[0xab])), None);
        assert_eq!(path_in(folder, id(b"../../x")).unwrap().components().count(), 7);
    }

    #[test]
    fn what_comes_later_is_told_once_and_only_to_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let options = SymbolOptions {
            debug_dirs: vec![folder.path().into()],
            look_again: Duration::from_secs(60),
            ..SymbolOptions::default()
        };
        let mut files = DebugFiles::new(&options, None);
        let (wanted, other) = (id(&[1, 2, 3]), id(&[4, 5, 6]));
        files.wait_for(wanted, 7);
        files.wait_for(wanted, 8);
        files.wait_for(other, 9);
        assert!(files.open(wanted).is_none());
        let path = path_in(folder.path(), wanted).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"x").unwrap();
        let now = Instant::now();
        assert!(files.arrived(now).is_empty(), "not looked for again so soon");
        let mut arrived = files.arrived(now + Duration::from_secs(61));
        arrived.sort_unstable();
        assert_eq!(arrived, [7, 8]);
        assert!(files.arrived(now + Duration::from_secs(130)).is_empty());
        assert!(files.open(wanted).is_none(), "it is no debug file");
    }

    #[test]
    fn pipes_and_folders_are_no_debug_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open_regular(folder.path()).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
        assert!(matches!(open_regular(&pipe), Err(ReadError::NotRegular)));
    }

    #[test]
    fn who_waits_is_bounded() {
        let options = SymbolOptions { debug_dirs: vec!["/nowhere".into()], ..SymbolOptions::default() };
        let mut files = DebugFiles::new(&options, None);
        for number in 0..10_000u64 {
            files.wait_for(id(&number.to_le_bytes()), number);
        }
        assert_eq!((files.waiting.len(), files.order.len()), (MAX_WAITING, MAX_WAITING));
        assert!(
            files.waiting.contains_key(&id(&9_999u64.to_le_bytes())),
            "whoever comes last is not left out"
        );
        // One build id that many files claim.
        for number in 0..10_000u64 {
            files.wait_for(id(b"same"), number);
        }
        assert!(files.waiting_files <= MAX_WAITING && files.order.len() == files.waiting.len());
    }
}
