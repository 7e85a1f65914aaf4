//! The perf maps of processes: `/tmp/perf-PID.map` below each process's own root, read as it grows.
//!
//! The file is looked for as the process sees it: below its root and never out of it, with the process's number in its
//! own PID namespace. It must be a regular file of the process's user or of root. It stays open, so that what was
//! written is still read for a moment after the process has ended. What is read goes into a [`PerfMap`].
//!
//! Bounded, whatever tenants do: bytes of a process, bytes in a stretch of time, memory and open files of all. Where
//! memory is wanted the largest map goes first, else the process that was not asked about for longest.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::apart::Parser;
use super::file::Place;
use super::file::for_reading;
use super::perf_map::PerfMap;
use crate::model::Pid;

/// How long a file is not looked at again, once all of it was read.
const AGAIN_NS: u64 = 250_000_000;
/// The same where more is there than was read.
const MORE_NS: u64 = 10_000_000;
/// Longest wait for a file that was not there: each time twice as long.
const MISSING_NS: u64 = 8_000_000_000;
/// Most bytes that are read at once, and of a process in all.
const MAX_READ: usize = 1 << 20;
const MAX_PROCESS_READ: u64 = 64 << 20;
/// Most bytes that are read of all processes in [`AGAIN_NS`]; and of each beyond that, so that none waits for others.
const MAX_STRETCH_READ: usize = 2 << 20;
/// How much less both are while less is to be read.
const LESS: usize = 8;
const MIN_READ: usize = 16 << 10;
/// Most memory of all maps, in bytes, and most processes, each with an open file.
const MAX_BYTES: usize = 32 << 20;
/// Most memory of one of them: beyond it no more is read, and others have room beside it.
const MAX_MAP_BYTES: usize = MAX_BYTES / 2;
const MAX_PROCESSES: usize = 256;
/// Most bytes of a `/proc/PID/status` that are read.
const MAX_STATUS: u64 = 16 << 10;

/// Names of code that programs make while they run.
#[derive(Debug, Default)]
pub struct PerfMaps {
    parser: Parser,
    processes: HashMap<Pid, Known>,
    reads_less: bool,
    /// Counts questions.
    asked: u64,
    /// Since when bytes are counted, and how many.
    stretch_ns: u64,
    stretch_bytes: usize,
    gone: PerfMapStats,
    stats: PerfMapStats,
}

/// How it went so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerfMapStats {
    /// Maps opened.
    pub opened: u64,
    /// Times that one was looked for and could not be opened.
    pub missing: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Lines that made no sense or for which there was no room.
    pub skipped: u64,
    /// Maps of which more is there than is read of one: too many bytes, or too many lines for nothing.
    pub cut: u64,
    /// Maps forgotten to make room for others.
    pub evicted: u64,
}

#[derive(Debug)]
struct Known {
    file: Option<Arc<OwnedFd>>,
    map: PerfMap,
    /// How far it was read.
    offset: u64,
    /// Bytes read of the process in all, though it was forgotten to make room.
    read: u64,
    /// When it is looked at again.
    next_ns: u64,
    /// How long it was waited for the last time that it was missing.
    waited_ns: u64,
    asked: u64,
}

impl PerfMaps {
    /// Maps that `parser` reads.
    pub fn new(parser: Parser) -> PerfMaps {
        PerfMaps { parser, ..PerfMaps::default() }
    }

    /// Reads less at a time from now on (`true`), or as much as ever.
    pub fn read_less(&mut self, less: bool) {
        self.reads_less = less;
    }

    /// The name of the code at `address` of `pid` at `now_ns`, a time that does not go back by much.
    pub fn name(&mut self, pid: Pid, address: u64, now_ns: u64) -> Option<Arc<str>> {
        self.asked += 1;
        let asked = self.asked;
        if !self.processes.contains_key(&pid) && self.processes.len() >= MAX_PROCESSES {
            self.evict();
        }
        let known = self.processes.entry(pid).or_insert_with(|| Known {
            file: None,
            map: PerfMap::default(),
            offset: 0,
            read: 0,
            next_ns: 0,
            waited_ns: 0,
            asked,
        });
        known.asked = asked;
        if now_ns >= known.next_ns {
            self.look(pid, now_ns);
        }
        self.processes.get(&pid)?.map.name(address)
    }

    /// `place`, which lies at `address` of `pid`, with the name of the code there if it is such code and has one.
    #[inline]
    pub fn place(&mut self, pid: Pid, address: u64, now_ns: u64, place: Place) -> Place {
        let is_jit = match &place {
            Place::Anonymous(_) => true,
            Place::File { file, .. } => file.is_made(),
            _ => false,
        };
        let name = is_jit.then(|| self.name(pid, address, now_ns)).flatten();
        name.map_or(place, |name| Place::Jit { name })
    }

    /// Forgets a process: it began anew, or became another program.
    pub fn forget(&mut self, pid: Pid) {
        if let Some(known) = self.processes.remove(&pid) {
            self.gone.skipped += known.map.skipped();
        }
    }

    /// Forgets processes of which `knows` is false: they ended a while ago, and an open file keeps the disk of a removed
    /// container.
    pub fn keep(&mut self, knows: impl Fn(Pid) -> bool) {
        let gone: Vec<Pid> = self.processes.keys().copied().filter(|pid| !knows(*pid)).collect();
        gone.into_iter().for_each(|pid| self.forget(pid));
    }

    /// How it went so far.
    pub fn stats(&self) -> PerfMapStats {
        let skipped: u64 = self.processes.values().map(|known| known.map.skipped()).sum();
        PerfMapStats { skipped: self.gone.skipped + skipped, ..self.stats }
    }

    /// What the maps take in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.processes.values().map(|known| known.map.memory_bytes()).sum()
    }

    /// Reads what was appended, as far as that is allowed now.
    fn look(&mut self, pid: Pid, now_ns: u64) {
        let Some(known) = self.processes.get_mut(&pid) else { return };
        if known.file.is_none() {
            known.file = open(pid).map(Arc::new);
            if known.file.is_none() {
                self.stats.missing += 1;
                known.waited_ns = known.waited_ns.saturating_mul(2).clamp(AGAIN_NS, MISSING_NS);
                known.next_ns = now_ns.saturating_add(known.waited_ns);
                return;
            }
            self.stats.opened += 1;
        }
        let Some(file) = &known.file else { return };
        if now_ns.saturating_sub(self.stretch_ns) >= AGAIN_NS {
            (self.stretch_ns, self.stretch_bytes) = (now_ns, 0);
        }
        let left = usize::try_from(MAX_PROCESS_READ.saturating_sub(known.read)).unwrap_or(usize::MAX);
        let part = if self.reads_less { LESS } else { 1 };
        let of_all = (MAX_STRETCH_READ / part).saturating_sub(self.stretch_bytes);
        let room = left.min(MAX_READ).min(of_all.max(MIN_READ / part));
        let (file, offset) = (Arc::clone(file), known.offset);
        let mut map = std::mem::take(&mut known.map);
        let fed = self.parser.run(move || {
            let filled = feed(&mut map, &file, offset, room);
            (map, filled)
        });
        let (map, filled) = fed.unwrap_or_default();
        known.map = map;
        known.offset += filled as u64;
        known.read += filled as u64;
        self.stretch_bytes += filled;
        self.stats.bytes += filled as u64;
        let is_full = known.read >= MAX_PROCESS_READ || known.map.memory_bytes() >= MAX_MAP_BYTES;
        let is_cut = is_full || known.map.is_hopeless();
        self.stats.cut += u64::from(is_cut && filled > 0);
        known.next_ns = match (is_cut, filled == room) {
            (true, _) => u64::MAX,
            (false, true) if of_all > room => now_ns.saturating_add(MORE_NS),
            (false, _) => now_ns.saturating_add(AGAIN_NS),
        };
        while self.memory_bytes() > MAX_BYTES && self.shrink(now_ns) {}
    }

    /// Forgets the process that was not asked about for longest, first of those without a map.
    fn evict(&mut self) {
        let has_map = |known: &Known| known.file.is_some();
        let worth = |(_, known): &(&Pid, &Known)| (has_map(known), known.asked);
        if let Some((&pid, known)) = self.processes.iter().min_by_key(worth) {
            self.stats.evicted += u64::from(has_map(known));
            self.forget(pid);
        }
    }

    /// Forgets the largest map, so that who wants more than there is loses his own. It may come back after a while, as far
    /// as its process has not been read for too much already. False if there is none.
    fn shrink(&mut self, now_ns: u64) -> bool {
        let largest = self.processes.values_mut().max_by_key(|known| known.map.memory_bytes());
        let Some(known) = largest.filter(|known| known.map.memory_bytes() > 0) else { return false };
        self.gone.skipped += known.map.skipped();
        self.stats.evicted += 1;
        (known.file, known.map, known.offset) = (None, PerfMap::default(), 0);
        known.next_ns = now_ns.saturating_add(MISSING_NS);
        true
    }
}

/// Reads on in `file` from `offset`, `room` bytes at most. Returns how many were read.
fn feed(map: &mut PerfMap, file: &OwnedFd, offset: u64, room: usize) -> usize {
    let mut bytes = vec![0; room];
    let mut filled = 0;
    while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
        match rustix::io::pread(file, free, offset + filled as u64) {
            Ok(read) if read > 0 => filled += read,
            Ok(_) | Err(_) => break,
        }
    }
    map.feed(bytes.get(..filled).unwrap_or_default());
    filled
}

/// What `/proc/PID/status` says of a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number in its own PID namespace.
    pub inner_pid: u32,
    /// Its users: real, effective, saved, of files.
    pub users: Vec<u32>,
}

/// The same from its text, for process `pid`. None where it does not say.
pub fn status(text: &str, pid: Pid) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let inner_pid = match field("NSpid") {
        Some(pids) => pids.split_ascii_whitespace().next_back()?.parse().ok()?,
        None => pid.0,
    };
    let users = field("Uid")?.split_ascii_whitespace().take(4).filter_map(|user| user.parse().ok()).collect();
    Some(Status { inner_pid, users })
}

/// The perf map of a living process.
fn open(pid: Pid) -> Option<OwnedFd> {
    let mut text = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/status")).ok()?;
    file.take(MAX_STATUS).read_to_end(&mut text).ok()?;
    let status = status(&String::from_utf8_lossy(&text), pid)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    let inside = format!("tmp/perf-{}.map", status.inner_pid);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let handle = rustix::fs::openat2(&root, inside, flags, Mode::empty(), resolve).ok()?;
    let stat = rustix::fs::fstat(&handle).ok()?;
    let is_its_own = stat.st_uid == 0 || status.users.contains(&stat.st_uid);
    (is_its_own && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        .then(|| for_reading(&handle))?
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that does nothing, and its map.
    struct Sleeper {
        child: Child,
        path: PathBuf,
    }

    impl Sleeper {
        fn new() -> Sleeper {
            let child = Command::new("sleep").arg("600").spawn().expect("run sleep");
            let path = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
            Sleeper { child, path }
        }

        fn pid(&self) -> Pid {
            Pid(self.child.id())
        }

        fn append(&self, text: &str) {
            let mut file = File::options().create(true).append(true).open(&self.path).expect("open the map");
            file.write_all(text.as_bytes()).expect("write the map");
        }

        fn end(&mut self) {
            self.child.kill().expect("end our own child");
            self.child.wait().expect("wait for our own child");
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.end();
            let _ = fs::remove_file(&self.path);
        }
    }

    fn name(maps: &mut PerfMaps, pid: Pid, address: u64, now_ns: u64) -> Option<String> {
        maps.name(pid, address, now_ns).map(|name| name.to_string())
    }

    #[test]
    fn a_map_is_read_as_it_grows_and_for_a_moment_after_the_end() {
        let mut process = Sleeper::new();
        let (mut maps, pid) = (PerfMaps::default(), process.pid());
        assert_eq!(name(&mut maps, pid, 0x1000, 1), None, "there is none yet");
        process.append("1000 10 JS:~early /app/x.js:1:1\n2000 10 hal");
        assert_eq!(name(&mut maps, pid, 0x1000, 2), None, "it is not looked for again so soon");
        let mut now = AGAIN_NS + 1;
        assert_eq!(name(&mut maps, pid, 0x1000, now).as_deref(), Some("early (x.js)"));
        assert_eq!(name(&mut maps, pid, 0x2000, now), None);
        process.append("f\n1000 10 moved\n");
        assert_eq!(name(&mut maps, pid, 0x1000, now + 1).as_deref(), Some("early (x.js)"));
        now += AGAIN_NS;
        assert_eq!(name(&mut maps, pid, 0x1000, now).as_deref(), Some("moved"), "code moves");
        assert_eq!(name(&mut maps, pid, 0x2000, now).as_deref(), Some("half"));
        process.append("3000 10 last\n");
        process.end();
        now += AGAIN_NS;
        assert_eq!(name(&mut maps, pid, 0x3000, now).as_deref(), Some("last"), "it is still open");
        let stats = maps.stats();
        assert_eq!((stats.opened, stats.missing, stats.skipped), (1, 1, 0));
        maps.forget(pid);
        assert_eq!((name(&mut maps, pid, 0x3000, now), maps.memory_bytes()), (None, 0));
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let (mut maps, process) = (PerfMaps::default(), Sleeper::new());
        // A pipe would keep whoever opens it waiting.
        let made = Command::new("mkfifo").arg(&process.path).status().expect("run mkfifo");
        assert!(made.success());
        assert_eq!(name(&mut maps, process.pid(), 0x1000, 1), None);
        fs::remove_file(&process.path).expect("remove the pipe");
        fs::create_dir(&process.path).expect("make a folder");
        assert_eq!(name(&mut maps, process.pid(), 0x1000, AGAIN_NS + 1), None);
        fs::remove_dir(&process.path).expect("remove the folder");
        std::os::unix::fs::symlink("/proc/self/exe", &process.path).expect("make a link");
        assert_eq!(name(&mut maps, process.pid(), 0x1000, 10 * AGAIN_NS), None, "no magic link is followed");
        assert_eq!(maps.stats(), PerfMapStats { missing: 3, ..PerfMapStats::default() });
        assert_eq!(name(&mut maps, Pid(u32::MAX), 0x1000, 1), None, "no such process");
    }

    #[test]
    fn maps_of_many_are_bounded() {
        let (mut maps, process) = (PerfMaps::default(), Sleeper::new());
        process.append("1000 10 mine\n");
        let mut now = 1;
        for other in 0..2 * MAX_PROCESSES as u32 {
            now += 1;
            // Numbers that no process has.
            maps.name(Pid(u32::MAX - other), 0x1000, now);
            assert_eq!(name(&mut maps, process.pid(), 0x1000, now).as_deref(), Some("mine"));
        }
        assert_eq!(
            (maps.processes.len(), maps.stats().opened),
            (MAX_PROCESSES, 1),
            "it was asked about lately"
        );
        // More than is read in one go, then in one stretch of time.
        let line = |n: usize| format!("{:x} 8 {}\n", 0x10_0000 + n * 8, "x".repeat(100));
        let text: String = (0..4 * MAX_READ / 110).map(line).collect();
        process.append(&text);
        process.append("2000 10 behind\n");
        now += AGAIN_NS;
        let before = maps.stats().bytes;
        for _ in 0..8 {
            maps.name(process.pid(), 0x1000, now);
            now += MORE_NS;
        }
        let read = maps.stats().bytes - before;
        assert_eq!(read, MAX_STRETCH_READ as u64, "no more in a quarter of a second");
        while name(&mut maps, process.pid(), 0x2000, now).is_none() {
            assert!(now < 100 * AGAIN_NS, "it is read to its end");
            now += MORE_NS;
        }
        assert!(maps.memory_bytes() < MAX_BYTES);
        // While less is to be read; then nonsense without end.
        const LESS_READ: usize = MAX_STRETCH_READ / LESS;
        let line = "nonsense\n";
        process.append(&line.repeat(32 * LESS_READ / line.len()));
        maps.read_less(true);
        let before = maps.stats();
        for _ in 0..40 {
            now += AGAIN_NS / 10;
            maps.name(process.pid(), 0x1000, now);
        }
        let read = maps.stats().bytes - before.bytes;
        assert!((3..=5).contains(&(read / LESS_READ as u64)), "{read} in a second");
        while maps.stats().cut == before.cut {
            assert!(now < 1_000 * AGAIN_NS, "it is given up");
            now += AGAIN_NS;
            maps.name(process.pid(), 0x1000, now);
        }
        // 2^18 lines of nine bytes are nine times what is read at once.
        assert!(maps.stats().bytes - before.bytes < 11 * LESS_READ as u64, "long before its end");
        maps.keep(|pid| pid != process.pid());
        assert_eq!(maps.memory_bytes(), 0);
    }

    #[test]
    fn maps_of_more_than_there_is_memory_for_take_nothing_from_small_ones() {
        let (mut maps, small, large) =
            (PerfMaps::default(), Sleeper::new(), Vec::from_iter((0..3).map(|_| Sleeper::new())));
        small.append("1000 10 mine\n");
        let line = |n: usize| format!("{:x} 8 {}\n", 0x10_0000 + n * 8, format_args!("{n:0100}"));
        let text: String = (0..20 * MAX_READ / 110).map(line).collect();
        large.iter().for_each(|process| process.append(&text));
        let mut now = 1;
        for _ in 0..1_000 {
            now += AGAIN_NS;
            large.iter().for_each(|process| drop(maps.name(process.pid(), 0x10_0000, now)));
            assert_eq!(name(&mut maps, small.pid(), 0x1000, now).as_deref(), Some("mine"));
            assert!(maps.memory_bytes() <= MAX_BYTES);
        }
        // Each stops where it has its part, and comes back as long as it is not read for too much.
        assert!(maps.stats().cut >= 3 && maps.stats().evicted > 0, "{:?}", maps.stats());
        assert!(maps.stats().bytes <= 3 * (MAX_PROCESS_READ + MAX_READ as u64) + 100);
        assert_eq!(
            maps.stats().opened - maps.stats().evicted,
            maps.processes.values().filter(|known| known.file.is_some()).count() as u64
        );
    }

    #[test]
    fn a_process_tells_its_number_and_its_users() {
        let text = "Name:\tnode\nUid:\t1000\t1001\t1000\t1000\nNSpid:\t4711\t12\t7\nSeccomp:\t2\n";
        let told = status(text, Pid(4711));
        assert_eq!(told, Some(Status { inner_pid: 7, users: vec![1000, 1001, 1000, 1000] }));
        // Kernels without the field have no such namespaces to tell of.
        assert_eq!(status("Uid:\t0\t0\t0\t0\n", Pid(9)).map(|told| told.inner_pid), Some(9));
        for text in ["", "NSpid:\nUid:\t0\n", "NSpid:\tx\nUid:\t0\n", "NSpid:\t1\n"] {
            assert_eq!(status(text, Pid(9)), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_status_is_read_or_left_and_no_name_forges_one(
            text in "((Name|Uid|NSpid|\\PC{0,5}):?[\t ]?([0-9]{1,11}[\t ]?|\\PC){0,6}\n){0,5}", name in "(Uid:\t0|NSpid:\t1|\\PC){0,15}",
        ) {
            proptest::prop_assert!(status(&text, Pid(9)).is_none_or(|told| told.users.len() <= 4));
            // The kernel writes the end of a line in it as two characters.
            let told = status(&format!("Name:\t{name}\nUid:\t1\t2\t3\t4\nNSpid:\t9\t7\n"), Pid(9));
            proptest::prop_assert_eq!(told, Some(Status { inner_pid: 7, users: vec![1, 2, 3, 4] }));
        }
    }

    #[test]
    fn only_code_made_at_run_time_is_asked_for() {
        use crate::stack::MappedFile;
        let (mut maps, process) = (PerfMaps::default(), Sleeper::new());
        process.append("1000 10 hot\n");
        let file =
            |name: &str| Place::File { file: MappedFile::new(1, name.into(), None, None).into(), offset: 0 };
        let jit = Place::Jit { name: "hot".into() };
        for (place, expected) in [
            (Place::Anonymous(0x1000), jit.clone()),
            (file("memfd:doublemapper"), jit),
            (file("node"), file("node")),
            (Place::Kernel(0x1000), Place::Kernel(0x1000)),
            (Place::Unknown(0x1000), Place::Unknown(0x1000)),
        ] {
            assert_eq!(maps.place(process.pid(), 0x1000, 1, place), expected);
        }
        let elsewhere = maps.place(process.pid(), 0x5000, 1, Place::Anonymous(0x5000));
        assert_eq!(elsewhere, Place::Anonymous(0x5000), "without a name it is what it was");
    }

    mod real {
        use super::*;

        #[test]
        fn node_names_its_code() {
            const SCRIPT: &str = "
            function hotLoop(n) { let s = 0; for (let i = 0; i < n; i++) s += Math.sqrt(i) * (i % 7); return s; }
            let r = 0; for (let i = 0; i < 3000; i++) r += hotLoop(2000);
            console.log(r); process.stdin.resume();";
            let folder = tempfile::tempdir().expect("make a folder");
            let script = folder.path().join("shop.js");
            fs::write(&script, SCRIPT).expect("write the script");
            let mut node = Command::new("node")
                .arg("--perf-basic-prof")
                .arg(&script)
                // V8 writes a log of its own where it runs.
                .current_dir(&folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("run node, which the tests need");
            let pid = Pid(node.id());
            let path = PathBuf::from(format!("/tmp/perf-{pid}.map"));
            // It speaks when the loop is done.
            let mut out = [0; 1];
            node.stdout.as_mut().expect("a pipe").read_exact(&mut out).expect("node speaks");
            let text = fs::read_to_string(&path).expect("node has written a map");
            let addresses = text
                .lines()
                .filter(|line| line.contains("hotLoop"))
                .filter_map(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
            let addresses: Vec<u64> = addresses.collect();
            assert!(!addresses.is_empty(), "{text}");
            let mut maps = PerfMaps::default();
            for address in addresses {
                assert_eq!(
                    name(&mut maps, pid, address, 1).as_deref(),
                    Some("hotLoop (shop.js)"),
                    "{address:x}"
                );
            }
            assert_eq!(maps.stats().skipped, 0, "every line is understood");
            drop(node.stdin.take());
            node.wait().expect("node ends");
            let _ = fs::remove_file(path);
        }
    }
}
