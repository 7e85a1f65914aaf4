//! Opening what processes map, at once, because a container of 30 ms takes its files with it.
//!
//! A file is known by name, inode, size, times and build id, and by its device unless that is an overlay: each container
//! has one of its own. The same file is held once for all processes. Files held are bounded; one that has to go before
//! its symbols were needed is counted and stays without names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::file::{Handle, MappedFile, Stamp};
use super::space::{Mapped, Mapping};
use crate::model::{BuildId, InstanceNo, Pid, tables};

/// How often it is looked, each few seconds, whether anybody has mapped a file, before one that nobody has is closed
/// although who had it lives: his next process may be gone before the file can be opened again.
const CLOSED_AFTER: u8 = 8;
/// And before it is forgotten. It costs opening it again; where an engine gives each container files of its own, none
/// comes again.
const FORGOTTEN_AFTER: u8 = 30;
/// Most files that are remembered by their owners, and the longest path of one, in bytes.
const MAX_OWNED: usize = 8_192;
const MAX_OWNED_PATH: usize = 256;
/// Most bytes of a `/proc/PID/maps` that are read, a matter of tens of thousands of mappings.
const MAX_MAPS_BYTES: u64 = 4 << 20;

/// Files that are or were mapped.
#[derive(Debug, Default)]
pub struct Files {
    known: HashMap<FileKey, Known>,
    /// By who mapped them first, in order of first sight: what goes first when there are too many.
    order: HashMap<InstanceNo, VecDeque<FileKey>>,
    /// Files by build id and path within one owner, who can mislead nobody but himself: for processes that are gone
    /// before their files can be opened, and to open less.
    owned: HashMap<(InstanceNo, BuildId, Box<str>), Weak<MappedFile>>,
    next_id: u64,
    stats: OpenStats,
}

/// A file, who had it first, and how often it was seen that nobody has it mapped.
#[derive(Debug)]
struct Known {
    file: Arc<MappedFile>,
    owner: InstanceNo,
    unused: u8,
}

/// How opening went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OpenStats {
    /// Files found, and held from then on.
    pub opened: u64,
    /// Mappings of a file that was known already.
    pub known: u64,
    /// Files that were gone, or refused, before they could be opened.
    pub failed: u64,
    /// Files let go of for others.
    pub evicted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileKey {
    stamp: Stamp,
    device: Option<u64>,
    build_id: Option<BuildId>,
    /// A file may have many names, and frames show the one it was mapped by.
    name: Box<str>,
}

impl Files {
    /// Most files that are kept, open or already read. When there are more, one of those goes whose first owner has most.
    pub const MOST: usize = 512;

    /// Whether what the kernel names so is a file.
    pub fn is_file(path: &str) -> bool {
        path.starts_with('/') && !path.starts_with("//anon") && path != "/dev/zero (deleted)"
    }

    /// What process `pid` of `owner` has mapped at `start..end` from `path`, which is as the kernel told it.
    pub fn mapped(
        &mut self,
        owner: InstanceNo,
        pid: Pid,
        start: u64,
        end: u64,
        path: &str,
        build_id: Option<BuildId>,
    ) -> Mapped {
        if path == "[vdso]" {
            return Mapped::Vdso;
        }
        if !Self::is_file(path) {
            return Mapped::Anonymous;
        }
        let Some(handle) = open_mapping(pid, start, end, path).and_then(Handle::new) else {
            self.stats.failed += 1;
            return Mapped::File(self.make(path, build_id, None));
        };
        let name = file_name(path).into();
        let key = FileKey { stamp: handle.stamp(), device: handle.device(), build_id, name };
        let handle = match self.known_as(&key, owner, handle) {
            Ok(file) => return Mapped::File(file),
            Err(handle) => handle,
        };
        self.stats.opened += 1;
        let file = self.make(path, build_id, Some(handle));
        self.known.insert(key.clone(), Known { file: file.clone(), owner, unused: 0 });
        self.order.entry(owner).or_default().push_back(key);
        while self.known.len() > Self::MOST && self.let_go() {}
        Mapped::File(file)
    }

    /// What a process of `owner` has mapped from `path`, if one of its processes mapped the same before.
    pub fn owned(&mut self, owner: InstanceNo, path: &str, build_id: Option<BuildId>) -> Option<Mapped> {
        let file =
            self.owned.get(&(owner, build_id?, path.into()))?.upgrade().filter(|file| file.is_open())?;
        self.stats.known += 1;
        Some(Mapped::File(file))
    }

    /// Remembers that `mapped` is what processes of `owner` map from `path`.
    pub fn own(&mut self, owner: InstanceNo, path: &str, build_id: Option<BuildId>, mapped: &Mapped) {
        let (Some(id), Mapped::File(file)) = (build_id, mapped) else { return };
        if path.len() > MAX_OWNED_PATH || file.was_never_open() {
            return;
        }
        if self.owned.len() >= MAX_OWNED {
            self.owned.retain(|(other, ..), _| *other != owner);
            if self.owned.len() >= MAX_OWNED / 8 * 7 {
                self.owned.clear();
            }
        }
        self.owned.insert((owner, id, path.into()), Arc::downgrade(file));
    }

    /// What a process has mapped that maps more than anybody looks at: a file known by its name alone.
    pub fn unopened(&mut self, path: &str, build_id: Option<BuildId>) -> Mapped {
        self.stats.failed += 1;
        Mapped::File(self.make(path, build_id, None))
    }

    /// Closes files that nobody has mapped any more: an open one keeps the disk of a removed container. They are still
    /// known when they come again soon, and stay open a while where one of their owners `lives`. What owners had that are
    /// not `wanted` any more is forgotten.
    pub fn release(&mut self, lives: impl Fn(InstanceNo) -> bool, wanted: impl Fn(InstanceNo) -> bool) {
        self.owned.retain(|(owner, ..), file| file.strong_count() > 0 && wanted(*owner));
        let of_living = self.owned.iter().filter(|((owner, ..), _)| lives(*owner));
        let of_living: HashSet<_> = of_living.map(|(_, file)| file.as_ptr()).collect();
        self.known.retain(|_, Known { file, unused, .. }| {
            if Arc::strong_count(file) > 1 {
                *unused = 0;
                return true;
            }
            *unused += 1;
            if *unused >= CLOSED_AFTER || !of_living.contains(&Arc::as_ptr(file)) {
                file.close();
            }
            *unused < FORGOTTEN_AFTER
        });
        self.order.retain(|_, keys| {
            keys.retain(|key| self.known.contains_key(key));
            !keys.is_empty()
        });
        tables::keep_little(&mut self.known);
        tables::keep_little(&mut self.owned);
    }

    /// How opening went so far.
    pub fn stats(&self) -> OpenStats {
        self.stats
    }

    /// The file that is known as `key`, held by `handle` too where it was closed or another's. The handle where `owner`
    /// may not have it: what its first owner has made of it since is his alone.
    fn known_as(
        &mut self,
        key: &FileKey,
        owner: InstanceNo,
        handle: Handle,
    ) -> Result<Arc<MappedFile>, Handle> {
        let Some(known) = self.known.get_mut(key) else { return Err(handle) };
        known.unused = 0;
        let (file, was_open) = (known.file.clone(), known.file.is_open());
        if known.owner != owner {
            file.share(handle).inspect_err(|_| self.forget(key))?;
        } else if !was_open {
            file.hold(handle);
        }
        *(if was_open { &mut self.stats.known } else { &mut self.stats.opened }) += 1;
        Ok(file)
    }

    /// Lets go of what is known as `key`: who has it has changed it, and loses its names alone.
    fn forget(&mut self, key: &FileKey) {
        let Some(known) = self.known.remove(key) else { return };
        known.file.close();
        if let Some(keys) = self.order.get_mut(&known.owner) {
            keys.retain(|other| other != key);
        }
    }

    fn make(&mut self, path: &str, build_id: Option<BuildId>, handle: Option<Handle>) -> Arc<MappedFile> {
        self.next_id += 1;
        let (id, name) = (self.next_id, file_name(path).to_owned());
        Arc::new(match handle {
            Some(handle) => MappedFile::unread(id, name, build_id, handle),
            None => MappedFile::new(id, name, build_id, None),
        })
    }

    /// Lets go of the oldest file of whoever has most, first of those that he has for himself. False if there is none.
    fn let_go(&mut self) -> bool {
        let most = self.order.iter_mut().max_by_key(|(_, keys)| keys.len());
        let Some((&owner, keys)) = most else { return false };
        let is_his = |key: &FileKey| self.known.get(key).is_some_and(|known| !known.file.is_shared());
        let at = keys.iter().position(is_his).unwrap_or(0);
        let key = keys.remove(at);
        if keys.is_empty() {
            self.order.remove(&owner);
        }
        let known = key.and_then(|key| self.known.remove(&key));
        self.stats.evicted += u64::from(known.is_some_and(|known| known.file.close()));
        true
    }
}

/// The executable mappings of a process that was not watched from its start; `what` says what each is.
///
/// # Errors
/// The process is gone or may not be looked at.
pub fn mappings_of(pid: Pid, mut what: impl FnMut(&MapsLine<'_>) -> Mapped) -> std::io::Result<Vec<Mapping>> {
    let mut text = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/maps"))?.take(MAX_MAPS_BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(parse_maps_line);
    let mapping = |line: MapsLine<'_>| Mapping {
        start: line.start,
        end: line.end,
        file_offset: line.file_offset,
        what: what(&line),
    };
    Ok(lines.map(mapping).collect())
}

/// A line of `/proc/PID/maps` that is executable.
#[derive(Debug, PartialEq, Eq)]
pub struct MapsLine<'a> {
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// What is mapped, as the kernel tells it; empty for memory without a name.
    pub path: &'a str,
}

/// What a line of `/proc/PID/maps` says; none if it is not executable, or no such line.
pub fn parse_maps_line(line: &str) -> Option<MapsLine<'_>> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let file_offset = fields.next()?;
    let (_device, _inode) = (fields.next()?, fields.next()?);
    let path = fields.next().unwrap_or_default().trim_start();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    permissions.contains('x').then_some(())?;
    Some(MapsLine { start: hex(start)?, end: hex(end)?, file_offset: hex(file_offset)?, path })
}

/// The name in a path, as people know the file.
fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

/// A handle on the very file that is mapped, whatever its path leads to now; else on what its path leads to inside the
/// process's root, never out of it. Not open for reading: it may be a device or a pipe.
fn open_mapping(pid: Pid, start: u64, end: u64, path: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    rustix::fs::open(&link, flags, Mode::empty()).ok().or_else(|| {
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
        let inside = Path::new(path.strip_suffix(" (deleted)").unwrap_or(path));
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, inside, flags, Mode::empty(), resolve).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What this process has mapped, as one of `owner`.
    fn ours(files: &mut Files, owner: InstanceNo) -> Vec<Mapping> {
        let own = Pid(std::process::id());
        mappings_of(own, |line| files.mapped(owner, own, line.start, line.end, line.path, None)).unwrap()
    }

    #[test]
    fn our_own_program_is_found_and_opened_once() {
        let mut files = Files::default();
        let name = std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap().to_string();
        let find = |mappings: Vec<Mapping>| {
            mappings.into_iter().find_map(|m| match m.what {
                Mapped::File(file) if file.name == name => Some(file),
                _ => None,
            })
        };
        let first = find(ours(&mut files, InstanceNo(1))).expect("our program is mapped");
        let second = find(ours(&mut files, InstanceNo(1))).expect("our program is mapped");
        assert_eq!(first.id, second.id);
        assert!(first.close());
        assert_eq!(files.stats().failed, 0);
    }

    #[test]
    fn a_file_of_the_same_owner_is_known_when_its_process_is_gone() {
        let mut files = Files::default();
        let build_id = BuildId::new(&[7; 20]);
        let (owner, other, gone) = (InstanceNo(1), InstanceNo(2), Pid(u32::MAX));
        let path = std::env::current_exe().unwrap().to_str().unwrap().to_string();
        let own = ours(&mut files, InstanceNo(1));
        let own = own.into_iter().map(|m| m.what).find(|what| matches!(what, Mapped::File(_))).unwrap();
        files.own(owner, &path, build_id, &own);
        let id =
            |mapped: Option<Mapped>| if let Some(Mapped::File(file)) = mapped { Some(file.id) } else { None };
        assert_eq!(id(files.owned(owner, &path, build_id)), id(Some(own)));
        assert!(files.owned(other, &path, build_id).is_none(), "a build id proves nothing to others");
        assert!(files.owned(owner, &path, None).is_none());
        let failed = files.mapped(other, gone, 0, 4096, &path, build_id);
        files.own(other, &path, build_id, &failed);
        assert!(files.owned(other, &path, build_id).is_none(), "without content it is worth another try");
        let again = files.owned(owner, &path, build_id).unwrap();
        files.release(|_| true, |no| no != owner);
        assert!(files.owned(owner, &path, build_id).is_none(), "nobody asks for what one that has gone had");
        files.own(owner, &path, build_id, &again);
        drop(again);
        while files.let_go() {}
        assert!(files.owned(owner, &path, build_id).is_none(), "let go of unread");
    }

    #[test]
    fn a_file_whose_owner_lives_stays_open_a_while() {
        let mut files = Files::default();
        let (owner, path, build_id) = (InstanceNo(1), "/usr/bin/own", BuildId::new(&[7; 20]));
        let mappings = ours(&mut files, owner);
        let own = mappings.iter().find(|mapping| matches!(mapping.what, Mapped::File(_))).unwrap();
        files.own(owner, path, build_id, &own.what);
        drop(mappings);
        for look in 1..CLOSED_AFTER {
            files.release(|no| no == owner, |_| true);
            assert!(files.owned(owner, path, build_id).is_some(), "look {look}");
        }
        files.release(|no| no == owner, |_| true);
        assert!(files.owned(owner, path, build_id).is_none(), "closed");
        let mappings = ours(&mut files, owner);
        assert!(files.owned(owner, path, build_id).is_some(), "open again");
        drop(mappings);
        files.release(|_| false, |_| true);
        assert!(files.owned(owner, path, build_id).is_none(), "its owner is gone: closed at once");
    }

    #[test]
    fn files_nobody_has_mapped_any_more_are_closed() {
        let mut files = Files::default();
        let mappings = ours(&mut files, InstanceNo(1));
        let open = |files: &Files| files.known.values().filter(|known| known.file.is_open()).count();
        let all = files.known.len();
        assert!(all > 0);
        files.release(|_| false, |_| true);
        assert_eq!(open(&files), all);
        drop(mappings);
        files.release(|_| false, |_| true);
        assert_eq!((open(&files), files.known.len()), (0, all));
        let again = ours(&mut files, InstanceNo(1));
        assert_eq!((open(&files), files.known.len()), (all, all), "the same files, open again: {again:?}");
        drop(again);
        for left in (1..FORGOTTEN_AFTER).rev() {
            files.release(|_| false, |_| true);
            assert_eq!((open(&files), files.known.len()), (0, all), "{left} to go");
        }
        files.release(|_| false, |_| true);
        assert_eq!((files.known.len(), files.order.len()), (0, 0));
    }

    #[test]
    fn whoever_maps_the_most_files_loses_his_own() {
        let (mut files, dir) = (Files::default(), tempfile::tempdir().unwrap());
        let (hostile, other) = (InstanceNo(1), InstanceNo(2));
        let map = |files: &mut Files, owner, number: usize| {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, number.to_string()).unwrap();
            // A process maps nothing at this place, so its path is followed.
            match files.mapped(owner, Pid(std::process::id()), 0, 1, path.to_str().unwrap(), None) {
                Mapped::File(file) => file,
                other => panic!("{other:?}"),
            }
        };
        let its: Vec<_> = (0..20).map(|number| map(&mut files, other, number)).collect();
        let many: Vec<_> = (20..620).map(|number| map(&mut files, hostile, number)).collect();
        assert!(its.iter().all(|file| file.is_open()));
        assert_eq!(many.iter().filter(|file| file.is_open()).count(), Files::MOST - its.len());
        assert_eq!(files.stats().evicted, 600 + 20 - Files::MOST as u64);
    }

    #[test]
    fn a_process_that_is_gone_leaves_a_file_without_content() {
        let mut files = Files::default();
        let Mapped::File(file) =
            files.mapped(InstanceNo(1), Pid(u32::MAX), 0, 4096, "/bin/gone (deleted)", None)
        else {
            panic!("a path is a file")
        };
        assert_eq!((file.name.as_str(), file.fd().is_none()), ("gone", true));
        assert_eq!(files.stats().failed, 1);
    }

    #[test]
    fn lines_of_maps_are_read() {
        for (line, expected) in [
            (
                "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/my prog",
                Some((0x1000, "/usr/bin/my prog")),
            ),
            ("7fff0000-7fff1000 r-xp 00000000 00:00 0                          [vdso]", Some((0, "[vdso]"))),
            ("7f0000-7f1000 r-xp 00000000 00:00 0 ", Some((0, ""))),
            ("00400000-00452000 r--p 00000000 08:02 173521 /usr/bin/x", None),
            ("x-y r-xp 0 0 0", None),
            ("", None),
        ] {
            assert_eq!(parse_maps_line(line).map(|l| (l.file_offset, l.path)), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in ".{0,80}") {
            let _ = parse_maps_line(&line);
            let _ = file_name(&line);
        }
    }
}
