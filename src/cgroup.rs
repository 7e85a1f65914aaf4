//! cgroups as the kernel lays them out on this host: v2, hybrid, or v1.
//!
//! Paths here are those of the hierarchy whose ids perf samples carry: the v1 `perf_event` hierarchy where one is
//! mounted, else cgroup2. CPU time is the kernel's own account: `cpu.stat` on cgroup2, `cpuacct.usage` on v1.

mod facts;
mod held;
#[cfg(test)]
mod layouts;
mod place;
mod view;
mod watch;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::model::{CgroupId, Pid};

pub use facts::FactFiles;
use held::Held;
pub use place::{Place, container_in, place_of};
use view::{Mount, Namespace};
pub use watch::{CgroupWatch, Heard};

/// The hierarchies of this host that matter to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Where the hierarchy that perf samples name is mounted.
    root: PathBuf,
    /// `cgroup2`, or v1 with its `cpuacct` mount.
    version: Version,
    mounts: facts::Mounts,
    /// Steps from the root of our cgroup namespace up to what is mounted.
    steps_up: usize,
    namespace: Namespace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    V2 { hybrid: bool },
    V1 { cpuacct: Option<PathBuf> },
}

/// Deepest tree that is walked, most cgroups of one walk, and most processes read of one cgroup: all are in tenants'
/// hands.
pub const MAX_DEPTH: usize = 32;
const MAX_CGROUPS: usize = 262_144;
const MAX_PROCS_BYTES: usize = 1 << 20;

impl Cgroups {
    /// Finds out how cgroups are mounted: where the host's tree is, and where in it our own cgroup namespace begins.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` cannot be read, or names no hierarchy that perf samples could carry, or shows only a part of it.
    pub fn detect() -> io::Result<Cgroups> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        let missing = |says: String| io::Error::new(io::ErrorKind::NotFound, says);
        let mut cgroups = Cgroups::from_mountinfo(&text).ok_or_else(|| {
            missing("no cgroup2 and no v1 perf_event hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup".into())
        })?;
        if !cgroups.is_whole() {
            return Err(missing(format!(
                "{} shows a part of the host's cgroups; mount all of them: --volume /sys/fs/cgroup:/host/cgroup:ro (docker), \
                 hostPath /sys/fs/cgroup at /host/cgroup (Kubernetes)",
                cgroups.root.display()
            )));
        }
        if cgroups.steps_up > 0 {
            cgroups = cgroups.in_own_namespace().ok_or_else(|| {
                missing(format!(
                    "our own cgroup is not found in {}; share the host's cgroup namespace: --cgroupns host (docker)",
                    cgroups.root.display()
                ))
            })?;
        }
        Ok(cgroups)
    }

    /// Whether what is mounted begins at the hierarchy's root: a file there tells, which only the root has, or lacks.
    fn is_whole(&self) -> bool {
        match self.version {
            Version::V2 { .. } => !self.root.join("cgroup.events").exists(),
            Version::V1 { .. } => self.root.join("release_agent").exists(),
        }
    }

    /// The same, seen from our own cgroup namespace: it begins above any cgroup in it, one of whose processes tells where we
    /// see it. Ours may be outside, as that of a command which an engine runs in a container.
    fn in_own_namespace(&self) -> Option<Cgroups> {
        let mut found = None;
        self.walk(|_, path| {
            if found.is_some() || path.matches('/').count() < self.steps_up {
                return;
            }
            let first = self.processes(path).unwrap_or_default().into_iter().next();
            found = first.and_then(|pid| {
                let text = read_bounded(Path::new(&format!("/proc/{pid}/cgroup")), MAX_PROCS_BYTES).ok()?;
                self.in_namespace(path, &text)
            });
        });
        found
    }

    /// The same, seen from the cgroup namespace in which the `/proc/PID/cgroup` of a process at `path` is `text`. None where
    /// the two do not fit each other, or what is mounted.
    pub fn in_namespace(&self, path: &str, text: &str) -> Option<Cgroups> {
        let namespace = Namespace::of(path, path_in(text, self.is_v1())?, self.steps_up)?;
        Some(Cgroups { namespace, ..self.clone() })
    }

    fn is_v1(&self) -> bool {
        matches!(self.version, Version::V1 { .. })
    }

    /// The same from the text of `/proc/self/mountinfo`.
    pub fn from_mountinfo(text: &str) -> Option<Cgroups> {
        let (mut v2, mut perf_event, mut any_v1) = (None, None, false);
        let (mut cpu, mut cpuacct, mut freezer) = (None, None, None);
        for line in text.lines() {
            let Some((fields, tail)) = line.split_once(" - ") else { continue };
            let mut fields = fields.split(' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
            let mount = || Mount { root: root.into(), point: unescape_octal(point) };
            let mut tail = tail.split(' ');
            let (kind, _source, options) = (tail.next(), tail.next(), tail.next().unwrap_or_default());
            let has = |controller: &str| options.split(',').any(|o| o == controller);
            match kind {
                Some("cgroup2") => v2 = Mount::better(v2, mount()),
                Some("cgroup") => {
                    any_v1 = true;
                    if has("perf_event") {
                        perf_event = Mount::better(perf_event, mount());
                    }
                    if has("cpu") {
                        cpu = Mount::better(cpu, mount());
                    }
                    if has("freezer") {
                        freezer = Mount::better(freezer, mount());
                    }
                    if has("cpuacct") {
                        cpuacct = Mount::better(cpuacct, mount());
                    }
                }
                _ => {}
            }
        }
        let point = |mount: Mount| mount.point;
        let (mounted, version) = match (perf_event, v2) {
            (Some(mounted), _) => (mounted, Version::V1 { cpuacct: cpuacct.map(point) }),
            (None, Some(mounted)) => (mounted, Version::V2 { hybrid: any_v1 }),
            (None, None) => return None,
        };
        Some(Cgroups {
            steps_up: mounted.steps_up().unwrap_or(0),
            root: mounted.point,
            version,
            mounts: facts::Mounts { cpu: cpu.map(point), freezer: freezer.map(point) },
            namespace: Namespace::default(),
        })
    }

    /// `v2`, `hybrid` or `v1`.
    pub fn version(&self) -> &'static str {
        match self.version {
            Version::V2 { hybrid: false } => "v2",
            Version::V2 { hybrid: true } => "hybrid",
            Version::V1 { .. } => "v1",
        }
    }

    /// Where the hierarchy is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the cgroup at `path`.
    pub fn dir(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The id of the cgroup at `path`.
    ///
    /// # Errors
    /// That of `stat(2)`: the cgroup is gone, for one.
    pub fn id(&self, path: &str) -> io::Result<CgroupId> {
        std::fs::metadata(self.dir(path)).map(|meta| CgroupId(meta.ino()))
    }

    /// The cgroup that process `pid` is in, by its path from the hierarchy's root, whatever our own cgroup namespace is.
    ///
    /// # Errors
    /// The process is gone, or its file names no cgroup of our hierarchy.
    pub fn of_process(&self, pid: Pid) -> io::Result<String> {
        let text = read_bounded(Path::new(&format!("/proc/{pid}/cgroup")), MAX_PROCS_BYTES)?;
        self.path_in(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/cgroup names no cgroup of {:?}", self.root),
            )
        })
    }

    /// The same from the text of its `/proc/PID/cgroup`.
    pub fn path_in(&self, text: &str) -> Option<String> {
        path_in(text, self.is_v1()).and_then(|seen| self.namespace.absolute(seen)).map(Cow::into_owned)
    }

    /// Processes of the cgroup at `path`, at most some hundred thousand.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn processes(&self, path: &str) -> io::Result<Vec<Pid>> {
        let text = read_bounded(&self.dir(path).join("cgroup.procs"), MAX_PROCS_BYTES)?;
        Ok(text.lines().filter_map(|line| line.parse().ok().map(Pid)).collect())
    }

    /// Tells of every cgroup there is, parents first. What vanishes meanwhile is left out. False if there are more than
    /// some hundred thousand, which are left out as well.
    pub fn walk(&self, each: impl FnMut(CgroupId, &str)) -> bool {
        self.walk_below("", MAX_CGROUPS, each)
    }

    /// The same for those below the cgroup at `path`, `most` of them.
    pub fn walk_below(&self, path: &str, most: usize, mut each: impl FnMut(CgroupId, &str)) -> bool {
        let mut told = 0;
        let mut open = vec![(path.to_string(), 0)];
        while let Some((path, depth)) = open.pop() {
            let Ok(children) = std::fs::read_dir(self.dir(&path)) else { continue };
            for child in children.flatten() {
                let Ok(name) = child.file_name().into_string() else { continue };
                if !child.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let path = format!("{path}/{name}");
                if let Ok(meta) = child.metadata() {
                    told += 1;
                    if told > most {
                        return false;
                    }
                    each(CgroupId(meta.ino()), &path);
                    if depth + 1 < MAX_DEPTH {
                        open.push((path, depth + 1));
                    }
                }
            }
        }
        true
    }

    /// Tells of the cgroups right below the one at `path`.
    pub fn children(&self, path: &str, mut each: impl FnMut(String)) {
        let Ok(children) = std::fs::read_dir(self.dir(path)) else { return };
        for child in children.flatten() {
            if let Ok(name) = child.file_name().into_string()
                && child.file_type().is_ok_and(|kind| kind.is_dir())
            {
                each(format!("{path}/{name}"));
            }
        }
    }

    /// Opens the CPU account of the cgroup at `path`.
    ///
    /// # Errors
    /// The cgroup is gone, or its CPU time is not accounted for (no `cpuacct` on v1).
    pub fn cpu_account(&self, path: &str) -> io::Result<CpuAccount> {
        match &self.version {
            Version::V2 { .. } => {
                Ok(CpuAccount { file: File::open(self.dir(path).join("cpu.stat"))?, nanoseconds: false })
            }
            Version::V1 { cpuacct: Some(mount) } => {
                let file = mount.join(path.trim_start_matches('/')).join("cpuacct.usage");
                Ok(CpuAccount { file: File::open(file)?, nanoseconds: true })
            }
            Version::V1 { cpuacct: None } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The file that changes when the cgroup at `path` gets its first process or loses its last.
    pub fn events_file(&self, path: &str) -> PathBuf {
        match self.version {
            Version::V2 { .. } => self.dir(path).join("cgroup.events"),
            Version::V1 { .. } => self.dir(path).join("cgroup.procs"),
        }
    }

    /// Whether any process is in the cgroup at `path` or below it.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn is_populated(&self, path: &str) -> io::Result<bool> {
        self.population(path).is_populated(self, path, false)
    }

    /// Where that is read again and again of the cgroup at `path`.
    pub fn population(&self, path: &str) -> Population {
        Population { events: Held::at(self.events_file(path)) }
    }
}

/// Whether a cgroup has processes, to be asked again and again.
#[derive(Debug)]
pub struct Population {
    events: Held,
}

impl Population {
    /// Closes its file; who asks opens it again.
    pub fn close(&mut self) {
        self.events.close();
    }

    /// Whether any process is in the cgroup, which is at `path` of `cgroups`, or below it. `hold`: whether its file stays
    /// open, for who asks again.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn is_populated(&mut self, cgroups: &Cgroups, path: &str, hold: bool) -> io::Result<bool> {
        match cgroups.version {
            Version::V2 { .. } => self.events.read(hold, |text| text.contains("populated 1")),
            // A list, which may be longer than what is read of a file that is held, and is old while it is open.
            Version::V1 { .. } => Ok(!cgroups.processes(path)?.is_empty()),
        }
    }
}

/// A cgroup's CPU account, held open: a reading costs microseconds.
#[derive(Debug)]
pub struct CpuAccount {
    file: File,
    nanoseconds: bool,
}

impl CpuAccount {
    /// CPU time since the cgroup was made, in microseconds.
    ///
    /// # Errors
    /// ENODEV once the cgroup is removed.
    pub fn read_us(&self) -> io::Result<u64> {
        let mut bytes = [0; 1024];
        let read = self.file.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(bytes.get(..read).unwrap_or_default()).unwrap_or_default();
        parse_cpu_us(text, self.nanoseconds)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no cpu time in {text:?}")))
    }
}

fn parse_cpu_us(text: &str, nanoseconds: bool) -> Option<u64> {
    if nanoseconds {
        return Some(text.trim().parse::<u64>().ok()? / 1000);
    }
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
}

/// The path in `/proc/PID/cgroup`: of the `perf_event` line on v1, else of the `0::` line. A name may end in anything but
/// the end of a line.
fn path_in(text: &str, v1: bool) -> Option<&str> {
    text.split('\n').find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let ours = if v1 { controllers.split(',').any(|c| c == "perf_event") } else { number == "0" };
        (ours && path.starts_with('/')).then_some(path)
    })
}

fn read_bounded(path: &Path, limit: usize) -> io::Result<String> {
    use std::io::Read;
    // What is usual fits at once: this is read at every exec of the host.
    let mut text = String::with_capacity(4096);
    File::open(path)?.take(limit as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Mount points in mountinfo write blanks and the like as `\040`.
fn unescape_octal(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const V1_CPU: &str = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
    const V1_PERF: &str = "32 23 0:28 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event";
    const HYBRID: &str = "33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    const HOSTS: &str = "34 23 0:26 /../../../.. /host/cgroup ro - cgroup2 cgroup2 rw";
    const V1_PART: &str = "35 23 0:28 /kubepods/pod1/a /part ro - cgroup cgroup rw,perf_event";
    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

    #[test]
    fn the_hierarchy_of_perf_ids_is_found() {
        for (lines, version, root) in [
            (vec![V2], "v2", "/sys/fs/cgroup"),
            (vec![V1_CPU, HYBRID], "hybrid", "/sys/fs/cgroup/unified"),
            (vec![V1_CPU, V1_PERF, HYBRID], "v1", "/sys/fs/cgroup/perf_event"),
            // A pod with a cgroup namespace of its own, and one without, where the host's tree is mounted beside its own part.
            (vec![V2, HOSTS], "v2", "/host/cgroup"),
            (vec![V1_PART, V1_PERF], "v1", "/sys/fs/cgroup/perf_event"),
        ] {
            let found = Cgroups::from_mountinfo(&lines.join("\n")).unwrap();
            assert_eq!((found.version(), found.root()), (version, Path::new(root)));
        }
        assert_eq!(Cgroups::from_mountinfo("1 2 0:1 / / rw - ext4 /dev/a rw"), None);
        assert_eq!(unescape_octal(r"/a\040b\\"), PathBuf::from(r"/a b\\"));
    }

    #[test]
    fn the_account_of_our_own_cgroup_is_read() {
        let cgroups = Cgroups::detect().unwrap();
        let own = cgroups.of_process(Pid(std::process::id())).unwrap();
        assert!(cgroups.id(&own).unwrap().0 > 0);
        assert!(cgroups.processes(&own).unwrap().contains(&Pid(std::process::id())));
    }

    #[test]
    fn cpu_time_is_read_in_microseconds() {
        for (text, nanoseconds, expected) in [
            ("usage_usec 1234\nuser_usec 1000\n", false, Some(1234)),
            ("1234567\n", true, Some(1234)),
            ("user_usec 5\n", false, None),
            ("", true, None),
        ] {
            assert_eq!(parse_cpu_us(text, nanoseconds), expected, "{text}");
        }
    }

    #[test]
    fn containers_are_found_in_paths_of_every_layout() {
        for (path, expected) in [
            (format!("/docker/{ID}"), Some(format!("/docker/{ID}"))),
            (
                format!("/system.slice/docker-{ID}.scope/init.scope"),
                Some(format!("/system.slice/docker-{ID}.scope")),
            ),
            (
                format!("/docker/{}/docker/{ID}", "a".repeat(64)),
                Some(format!("/docker/{}/docker/{ID}", "a".repeat(64))),
            ),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), None),
            ("/user.slice/user-1000.slice".into(), None),
            (String::new(), None),
            ("/".into(), None),
        ] {
            assert_eq!(container_in(&path).map(|(_, p)| p.to_string()), expected, "{path}");
        }
    }

    #[test]
    fn the_line_of_our_hierarchy_is_taken() {
        let text = "7:perf_event:/a\n4:cpu,cpuacct:/b\n0::/c:d\r\n";
        assert_eq!((path_in(text, true), path_in(text, false)), (Some("/a"), Some("/c:d\r")));
        assert_eq!(path_in("0::c\n", false), None, "no path from a root");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(.|\\PC|\n|/|:){0,200}") {
            let _ = Cgroups::from_mountinfo(&text);
            let _ = container_in(&text);
            let _ = parse_cpu_us(&text, false);
            let _ = path_in(&text, true);
        }
    }
}
