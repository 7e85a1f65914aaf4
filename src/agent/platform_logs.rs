//! The thread that follows the logs of platforms which tell of their containers: `platform_logs.openwhisk`.
//!
//! inotify tells of a line that was written, of a file that was made or moved; then all files are looked at: what is new
//! in them is read, a file of another number is begun anew once the old one is read to its end, one that became shorter
//! from its begin. Of a file that is there at the start the last [`TAIL_BYTES`] are read, and nothing is remembered
//! beyond the agent's life. Bounded: files, bytes of a look, bytes of a line.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};

use super::control::{Command, Control, Whom};
use super::lines::Lines;
use crate::identity::{Glob, InvokerLog, Later, LogFact, LogTold};
use crate::metrics::{Metrics, Teller};
use crate::model::{ContainerId, Fact, Timestamp};
use crate::perf::{Clock, timespec};

/// What is read of a file that is there at the start, from its end.
pub(super) const TAIL_BYTES: u64 = 256 << 10;
/// Most files that are followed.
const MAX_FILES: usize = 64;
/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// Read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Most bytes that are read of a file in one look; what is there behind them waits for the next, which follows at once.
const LOOK_BYTES: u64 = 4 << 20;
/// Between looks: lines carry their own time.
const REST: Duration = Duration::from_millis(50);
/// Between looks of which nobody told: a directory that comes late, a file system that tells nothing.
const ANYWAY_NS: u64 = 30_000_000_000;
/// How far the log's clock may be from this host's to be believed, in microseconds.
pub(super) const MOST_APART_US: i64 = 10_000_000;
/// Containers of which it is known what was told last.
const MAX_TOLD: usize = 4_096;

/// Follows the files that `patterns` name until `stop` can be read.
pub(super) fn run(
    patterns: &[String],
    control: &Control,
    metrics: &Metrics,
    stop: &OwnedFd,
) -> io::Result<()> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let mut follower = Follower::new(patterns, inotify);
    let (mut facts, mut search) = (Vec::new(), true);
    loop {
        if std::mem::take(&mut search) {
            follower.find();
        }
        let more = follower.look(&mut facts);
        metrics.platform_log_errors.add(std::mem::take(&mut follower.errors));
        for command in facts.drain(..).filter_map(|fact| follower.told.news(fact)).flat_map(commands) {
            control.tell(command);
        }
        let timeout = if more { 0 } else { ANYWAY_NS };
        let mut fds = [PollFd::new(&follower.inotify, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        // Nobody told of anything: everything is looked for.
        search = !poll(&mut fds, Some(&timespec(timeout))).is_ok_and(|ready| ready > 0) && !more;
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        if !more {
            std::thread::sleep(REST);
        }
        search |= follower.drain();
    }
}

fn commands(fact: LogFact) -> impl Iterator<Item = Command> {
    let is_id = fact.container.len() == 64 && fact.container.bytes().all(|b| b.is_ascii_hexdigit());
    let whom = match is_id {
        true => Whom::Container(ContainerId(fact.container.into())),
        false => Whom::Pod(fact.container),
    };
    let at = fact.at;
    let command = match fact.what {
        LogTold::Runs(action) => {
            let later = Box::new(Later { invoked: Some(action), ..Later::default() });
            Some(Command::Later { whom, later, at, from: Teller::Log })
        }
        LogTold::Paused(paused) => Some(Command::FactOf { whom, at, fact: Fact::Frozen(paused) }),
        // Its runtime tells that.
        LogTold::Removed => None,
    };
    command.into_iter()
}

/// What was told of each container last: a warm one is invoked again and again.
#[derive(Debug, Default)]
struct Told {
    actions: HashMap<String, String>,
}

impl Told {
    fn news(&mut self, fact: LogFact) -> Option<LogFact> {
        match &fact.what {
            LogTold::Runs(action) => {
                // Initialised anew, it is another container, or another pod under the same name.
                if !fact.first && self.actions.get(&fact.container) == Some(action) {
                    return None;
                }
                if self.actions.len() >= MAX_TOLD {
                    // Told again, they change nothing.
                    self.actions.clear();
                }
                self.actions.insert(fact.container.clone(), action.clone());
            }
            LogTold::Removed => {
                self.actions.remove(&fact.container);
            }
            LogTold::Paused(_) => {}
        }
        Some(fact)
    }
}

struct Follower {
    patterns: Vec<(PathBuf, Glob)>,
    inotify: OwnedFd,
    found: Vec<PathBuf>,
    files: HashMap<PathBuf, Followed>,
    told: Told,
    errors: u64,
    /// Faults that were told, each once.
    complained: HashMap<PathBuf, io::ErrorKind>,
    at_start: bool,
}

/// A file that is followed.
struct Followed {
    file: File,
    number: (u64, u64),
    position: u64,
    lines: Lines,
    log: InvokerLog,
    /// Whether the times of the lines being read can be compared with now: not in what was there at the start.
    is_live: bool,
}

impl Follower {
    fn new(patterns: &[String], inotify: OwnedFd) -> Follower {
        let split = |pattern: &String| {
            let path = Path::new(pattern);
            let name = path.file_name()?.to_str()?;
            Some((path.parent()?.to_path_buf(), Glob(name.into())))
        };
        Follower {
            patterns: patterns.iter().filter_map(split).collect(),
            inotify,
            found: Vec::new(),
            files: HashMap::new(),
            told: Told::default(),
            errors: 0,
            complained: HashMap::new(),
            at_start: true,
        }
    }

    /// Looks at every file. True if there is more to read at once.
    fn look(&mut self, facts: &mut Vec<LogFact>) -> bool {
        let found = std::mem::take(&mut self.found);
        let mut more = false;
        for path in &found {
            match self.look_at(path, facts) {
                Ok(there_is_more) => {
                    more |= there_is_more;
                    self.complained.remove(path);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.complain(path, &error),
            }
        }
        // One that was taken away is read to its end first.
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !found.contains(path)).cloned().collect();
        for path in gone {
            if let Some(mut followed) = self.files.remove(&path) {
                let _ = followed.read(facts);
            }
        }
        (self.found, self.at_start) = (found, false);
        more
    }

    /// `path` is that of a log, or of the folder that they lie in.
    fn complain(&mut self, path: &Path, error: &io::Error) {
        self.errors += 1;
        if self.complained.len() < MAX_FILES && self.complained.insert(path.into(), error.kind()).is_none() {
            let path = path.display();
            tracing::warn!(
                "read logs, {path}: {error}; give the agent's user the right, or name another in platform_logs"
            );
        }
    }

    /// Looks which files there are now, and watches them and their directories.
    fn find(&mut self) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        let directories =
            WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        for (directory, name) in &self.patterns {
            // Watched again it is the same watch; not there yet, it is looked for later.
            let _ = inotify::add_watch(&self.inotify, directory, directories);
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries.take(MAX_ENTRIES).flatten(),
                Err(error) => {
                    faults.push((directory.clone(), error));
                    continue;
                }
            };
            self.complained.remove(directory);
            let names =
                entries.filter(|entry| entry.file_name().to_str().is_some_and(|text| name.matches(text)));
            found.extend(names.map(|entry| entry.path()));
        }
        for (directory, error) in faults {
            if error.kind() != io::ErrorKind::NotFound {
                self.complain(&directory, &error);
            }
        }
        found.sort();
        found.dedup();
        if found.len() > MAX_FILES {
            self.errors += 1;
            found.truncate(MAX_FILES);
        }
        for path in &found {
            // Such as those of Kubernetes, which are links: what is turned over is in another directory.
            if let Ok(real) = path.canonicalize() {
                let _ = real.parent().map(|parent| inotify::add_watch(&self.inotify, parent, directories));
                let _ = inotify::add_watch(&self.inotify, &real, WatchFlags::MODIFY);
            }
        }
        self.found = found;
    }

    fn look_at(&mut self, path: &Path, facts: &mut Vec<LogFact>) -> io::Result<bool> {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let number = (about.dev(), about.ino());
        let mut log = InvokerLog::default();
        if let Some(followed) = self.files.get_mut(path) {
            if followed.number == number {
                return followed.read(facts);
            }
            // Turned over: the old one to its end. What it began to tell goes on in the new one.
            let _ = followed.read(facts);
            log = std::mem::take(&mut followed.log);
        }
        let mut followed = Followed { log, ..Followed::open(path, self.at_start)? };
        let more = followed.read(facts);
        self.files.insert(path.into(), followed);
        more
    }

    /// Takes what inotify has told. True if that was anything but that a file was written.
    fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut other = false;
        while let Ok(event) = reader.next() {
            other |= !event.events().contains(ReadFlags::MODIFY);
        }
        other
    }
}

impl Followed {
    /// Opens it; `at_start`, its tail alone is read.
    fn open(path: &Path, at_start: bool) -> io::Result<Followed> {
        // Nothing that is named is to hold this thread up, such as a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
        let about = file.metadata()?;
        let position = if at_start { about.len().saturating_sub(TAIL_BYTES) } else { 0 };
        Ok(Followed {
            file,
            number: (about.dev(), about.ino()),
            position,
            lines: Lines::new(position > 0),
            log: InvokerLog::default(),
            is_live: !at_start,
        })
    }

    /// Reads what is new. True if there is more.
    fn read(&mut self, facts: &mut Vec<LogFact>) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length < self.position {
            (self.position, self.lines) = (0, Lines::new(false));
        }
        let end = length.min(self.position.saturating_add(LOOK_BYTES));
        let first = facts.len();
        let mut piece = vec![0; PIECE_BYTES];
        while self.position < end {
            let count = self.file.read_at(&mut piece, self.position)?;
            let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else { break };
            self.position = self.position.saturating_add(count as u64);
            self.lines.feed(read, |line| facts.extend(self.log.line(line)));
        }
        self.trust(facts.get_mut(first..).unwrap_or_default());
        self.is_live |= self.position >= length;
        Ok(self.position < length)
    }

    /// Of a log whose clock is another than this host's (a time zone that its lines do not tell, for one) the moment of
    /// reading counts: late, but never time of a pool's under a function. What was there at the start is compared with
    /// when the file was written last.
    fn trust(&self, facts: &mut [LogFact]) {
        let now = now();
        let with = if self.is_live { Some(now) } else { self.written() };
        let apart_us = self.log.last_written().zip(with).map(|(last, with)| with.since_us(last).abs());
        let trusted = apart_us.is_some_and(|apart| apart <= MOST_APART_US);
        for fact in facts {
            fact.at = if trusted { fact.at.min(now) } else { now };
        }
    }

    fn written(&self) -> Option<Timestamp> {
        let modified = self.file.metadata().ok()?.modified().ok()?;
        modified.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| Timestamp(since.as_micros() as i64))
    }
}

fn now() -> Timestamp {
    Clock::read().wall(Clock::monotonic_ns())
}

/// What ends the thread: a descriptor that it waits for.
pub(super) fn stop() -> io::Result<Arc<OwnedFd>> {
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    Ok(Arc::new(rustix::event::eventfd(0, flags)?))
}

/// Waits until it is to end.
pub(super) fn wait(stop: &OwnedFd) {
    let mut fds = [PollFd::new(stop, PollFlags::IN)];
    while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
}

/// Ends it.
pub(super) fn end(stop: &OwnedFd) {
    let _ = rustix::io::write(stop.as_fd(), &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn follower(dir: &Path) -> Follower {
        let pattern = dir.join("invoker*.log").to_str().expect("a plain path").to_owned();
        Follower::new(&[pattern], inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap())
    }

    fn look(follower: &mut Follower) -> Vec<String> {
        let mut facts = Vec::new();
        follower.find();
        while follower.look(&mut facts) {}
        let action = |fact: LogFact| match fact.what {
            LogTold::Runs(action) => action,
            other => format!("{other:?}"),
        };
        facts.into_iter().map(action).collect()
    }

    fn line(time: &str, action: &str) -> String {
        format!(
            "[{time}] [INFO] [#tid_x] [DockerContainer] sending arguments to /g/{action} at ContainerId(c) x\n"
        )
    }

    fn current(action: &str) -> String {
        let time = jiff::Timestamp::from_microsecond(now().0).unwrap();
        line(&format!("{time:.3}"), action)
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_is_written_turned_over_and_cut_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut follower) = (dir.path().join("invoker0.log"), follower(dir.path()));
        assert!(look(&mut follower).is_empty());
        // A line without its end waits for it.
        let text = current("one");
        append(&path, &text[..40]);
        assert!(look(&mut follower).is_empty());
        append(&path, &text[40..]);
        assert_eq!(look(&mut follower), ["/g/one"]);
        assert!(look(&mut follower).is_empty());
        // Turned over between two lines: the old one is read to its end.
        append(&path, &current("two"));
        std::fs::rename(&path, dir.path().join("invoker0.log.1")).unwrap();
        append(&path, &current("three"));
        assert_eq!(look(&mut follower), ["/g/two", "/g/three"]);
        // Cut, as `copytruncate` does.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(look(&mut follower).is_empty());
        append(&path, &current("four"));
        assert_eq!(look(&mut follower), ["/g/four"]);
        // Another invoker's; a long line; one that is none; what is no file.
        append(
            &dir.path().join("invoker1.log"),
            &format!("{}\n{}", "x".repeat(3 * Lines::MAX_BYTES), current("five")),
        );
        std::fs::create_dir(dir.path().join("invoker2.log")).unwrap();
        append(&dir.path().join("other.log"), &current("none"));
        assert_eq!(look(&mut follower), ["/g/five"]);
        assert!(follower.errors > 0, "a directory is no log");
        std::fs::remove_file(&path).unwrap();
        assert!(look(&mut follower).is_empty());
    }

    #[test]
    fn of_what_is_there_the_end_is_read_and_whole_lines_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invoker0.log");
        append(&path, &current("early"));
        append(&path, &format!("{}\n", "x".repeat(100)).repeat(1 + TAIL_BYTES as usize / 101));
        append(&path, &current("late"));
        assert_eq!(look(&mut follower(dir.path())), ["/g/late"]);
        // Cut in the midst of a line that would tell.
        let long = format!("{}{}", current("cut").trim_end(), " ".repeat(TAIL_BYTES as usize));
        std::fs::write(&path, format!("{long}\n{}", current("whole"))).unwrap();
        assert_eq!(look(&mut follower(dir.path())), ["/g/whole"]);
    }

    #[test]
    fn a_log_of_another_clock_gives_the_moment_of_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invoker0.log");
        let facts = |follower: &mut Follower| {
            let mut facts = Vec::new();
            follower.find();
            follower.look(&mut facts);
            facts
        };
        let near = |fact: &LogFact| now().since_us(fact.at).abs() < 5_000_000;
        append(&path, &line("2026-01-01T00:00:00.000Z", "old"));
        let mut at_start = follower(dir.path());
        assert!(facts(&mut at_start).iter().all(near), "the file was written just now");
        append(&path, &line("2026-01-01T00:00:01.000Z", "still"));
        let live = facts(&mut at_start);
        assert!(live.len() == 1 && live.iter().all(near));
        append(&path, &current("right"));
        let right = facts(&mut at_start);
        assert!(right.len() == 1 && right[0].at == right[0].written);
    }

    #[test]
    fn a_folder_that_may_not_be_read_is_told_of_and_one_that_is_not_there_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = follower(&dir.path().join("none"));
        assert!(look(&mut follower).is_empty());
        assert_eq!((follower.errors, follower.complained.len()), (0, 0), "it comes later");
        // Root reads any folder; what is none is refused to all.
        let folder = dir.path().join("none");
        std::fs::write(&folder, "").unwrap();
        for errors in 1..=2 {
            assert!(look(&mut follower).is_empty());
            assert_eq!((follower.errors, follower.complained.contains_key(&folder)), (errors, true));
        }
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        append(&folder.join("invoker0.log"), &current("one"));
        assert_eq!(look(&mut follower), ["/g/one"]);
        assert_eq!((follower.errors, follower.complained.len()), (2, 0), "told again should it come again");
    }

    #[test]
    fn a_warm_container_is_told_of_once() {
        let mut told = Told::default();
        let fact = |container: &str, what| LogFact {
            container: container.into(),
            at: now(),
            written: now(),
            first: false,
            what,
        };
        let runs = |action: &str| LogTold::Runs(action.into());
        assert!(told.news(fact("c", runs("/g/a"))).is_some());
        assert!(told.news(fact("c", runs("/g/a"))).is_none());
        assert!(told.news(fact("c", runs("/g/b"))).is_some());
        assert!(told.news(fact("c", LogTold::Paused(true))).is_some());
        assert!(told.news(fact("c", LogTold::Removed)).is_some());
        // On Kubernetes nobody says that a pod is gone, and the next has its name.
        assert!(told.news(fact("pod", runs("/g/a"))).is_some());
        assert!(told.news(fact("pod", runs("/g/a"))).is_none());
        assert!(told.news(LogFact { first: true, ..fact("pod", runs("/g/a")) }).is_some());
        assert!(told.news(fact("pod", runs("/g/a"))).is_none());
        for number in 0..=2 * MAX_TOLD {
            assert!(told.news(fact(&number.to_string(), runs("/g/a"))).is_some());
        }
        assert!(told.actions.len() <= MAX_TOLD);
    }
}
