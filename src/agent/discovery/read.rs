//! Reading the evidence: of `/proc`, of an engine's state, of the kubelet's folders of logs. All bounded, all for reading.
//!
//! Of a container nothing is opened but the files of `/proc` on its process; its root is not entered. A process is
//! believed to be in the container if its cgroup says so before and its start time says so afterwards. What stands above
//! it counts if it is root's, runs in no part of the container, and is the program that it should be.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Ask;
use crate::cgroup::{Cgroups, Place};
use crate::config::Discovery;
use crate::discovery::conclude::HOST_NAME;
use crate::discovery::parent::parent_and_start;
use crate::discovery::{Bundle, Evidence, LogNames, Parent, Writer, bundle, logs, mountinfo, parent};
use crate::identity::{Keys, MAX_ENVIRON_BYTES, variables};
use crate::model::Pid;

/// Most entries of a folder of logs that are looked at.
const MAX_LOGS: usize = 16_384;
/// From this many bytes on the path of a program that runs containers is not believed: it would be cut short.
const MAX_PROGRAM: usize = 254;
/// Most processes of a container among which the first is looked for.
const MAX_PROCESSES: usize = 256;
/// Most processes between a container's and what watches it: inits.
const MAX_CLIMB: usize = 16;
/// The namespaces that are tried where nothing tells which.
const NAMESPACES: [&str; 2] = ["k8s.io", "moby"];

/// Where to read.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Reader {
    cgroups: Cgroups,
    run: Vec<PathBuf>,
    logs: PathBuf,
    host_name: Option<String>,
}

impl Reader {
    /// Where `config` says that things are.
    pub(in crate::agent) fn new(cgroups: Cgroups, config: &Discovery) -> Reader {
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Reader {
            cgroups,
            run: config.run.iter().map(PathBuf::from).collect(),
            logs: config.var_log.clone(),
            host_name: host_name.map(|name| name.trim().to_owned()),
        }
    }

    /// Whether there are folders of logs.
    pub(super) fn has_logs(&self) -> bool {
        self.logs.join("containers").is_dir() || self.logs.join("pods").is_dir()
    }

    /// Whether plain containerd has a bundle for `id` in `namespace`: then a cgroup of that path is a container's.
    pub(in crate::agent) fn has_bundle(&self, namespace: &str, id: &str) -> bool {
        self.run.iter().any(|run| of_containerd(run, namespace, id).is_dir())
    }

    /// Reads into `evidence` what is not there yet. Whether its process is just starting, and all there is to wait for is
    /// its environment.
    pub(super) fn read(&self, ask: &Ask, place: &Place<'_>, keys: &Keys, evidence: &mut Evidence) -> bool {
        if evidence.host_name.is_none() {
            evidence.host_name.clone_from(&self.host_name);
        }
        let (mut is_starting, mut watcher, writer) = (false, None, Writer::of(place));
        if evidence.env.is_none() {
            let process =
                ask.pid.filter(|pid| self.is_in(*pid, place.path)).or_else(|| self.first(place.path));
            if let Some(pid) = process {
                (is_starting, watcher) = self.read_process(pid, place, keys, evidence);
            }
        }
        if evidence.bundle.is_none() {
            let id = &*place.container.0;
            let parent = evidence.parent.as_ref();
            evidence.bundle =
                self.bundles(place, parent, watcher, id).find_map(|path| bundle_at(&path, writer, keys));
        }
        // CRI-O writes down the labels of a pod, with its sandbox.
        if place.runtime == Some("cri-o")
            && evidence.sandbox.is_none()
            && let Some(sandbox) = evidence.bundle.as_ref().and_then(|own| own.sandbox.clone())
        {
            let parent = evidence.parent.as_ref();
            let mut paths = self.bundles(place, parent, watcher, &sandbox);
            evidence.sandbox = paths.find_map(|path| bundle_at(&path, writer, keys));
        }
        let is_named = evidence.log.as_ref().is_some_and(|log| log.container.is_some());
        if !is_named && place.runtime_namespace.is_none() {
            evidence.log = self.log(place).or(evidence.log.take());
        }
        is_starting && evidence.bundle.is_none()
    }

    /// What process `pid` of the container shows. Whether it is just starting, and the process that watches it.
    fn read_process(
        &self,
        pid: Pid,
        place: &Place<'_>,
        keys: &Keys,
        evidence: &mut Evidence,
    ) -> (bool, Option<Pid>) {
        let Some((above, start)) = stat(pid) else { return (false, None) };
        let of = |file: &str| PathBuf::from(format!("/proc/{pid}/{file}"));
        let env = read(&of("environ"), MAX_ENVIRON_BYTES);
        let mounts = read(&of("mountinfo"), mountinfo::MAX_BYTES);
        let watcher = self.watcher(above, place.path);
        // Another process may have its number by now.
        if stat(pid).is_none_or(|(_, now)| now != start) {
            return (false, None);
        }
        evidence.task = Some(format!("{pid}+{start}"));
        evidence.mounts = mounts.map(|text| mountinfo::parse(&String::from_utf8_lossy(&text)));
        let is_starting = env.as_ref().is_some_and(Vec::is_empty);
        if let Some(block) = env.filter(|block| !block.is_empty()) {
            evidence.env = Some(variables(&block, |key| key == HOST_NAME || keys.reads_env(key)));
        }
        match watcher {
            Some((parent, watcher)) => {
                evidence.parent = Some(parent);
                (is_starting, Some(watcher))
            }
            None => (is_starting, None),
        }
    }

    /// Whether process `pid` is in the cgroup at `path` or below it.
    fn is_in(&self, pid: Pid, path: &str) -> bool {
        let of = self.cgroups.of_process(pid);
        of.is_ok_and(|of| of.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// The process of the cgroup at `path` that began first.
    fn first(&self, path: &str) -> Option<Pid> {
        let processes = self.cgroups.processes(path).ok()?.into_iter().take(MAX_PROCESSES);
        processes
            .filter_map(|pid| Some((stat(pid)?.1, pid)))
            .min_by_key(|(start, pid)| (*start, pid.0))
            .map(|(_, pid)| pid)
    }

    /// What watches a container whose process has the parent `above`.
    fn watcher(&self, mut above: Pid, path: &str) -> Option<(Parent, Pid)> {
        for _ in 0..MAX_CLIMB {
            if above.0 <= 1 {
                return None;
            }
            if !self.is_in(above, path) {
                return watched_by(above).map(|parent| (parent, above));
            }
            above = stat(above)?.0;
        }
        None
    }

    /// Where the bundle of container `id` may lie: beside the one that its watcher works in, in the folder that it was
    /// told, in the states of engines.
    fn bundles(
        &self,
        place: &Place<'_>,
        parent: Option<&Parent>,
        watcher: Option<Pid>,
        id: &str,
    ) -> impl Iterator<Item = PathBuf> {
        let mut folders = Vec::new();
        let mut namespaces: Vec<&str> = place.runtime_namespace.into_iter().collect();
        match parent {
            Some(Parent::Shim { namespace, .. }) => {
                namespaces = vec![namespace];
                // As the shim's own files are seen, whatever of the host is mounted here.
                folders.extend(watcher.map(|shim| PathBuf::from(format!("/proc/{shim}/cwd/..")).join(id)));
            }
            Some(Parent::Conmon { bundle: Some(bundle), .. }) => {
                let root = watcher.map(|conmon| format!("/proc/{conmon}/root"));
                // Beside it lie those of others, its pod's sandbox among them: `…/<id>/userdata`.
                let beside = Path::new(bundle).parent().and_then(Path::parent);
                folders.extend(root.zip(beside).map(|(root, beside)| {
                    PathBuf::from(format!("{root}{}", beside.display())).join(id).join("userdata")
                }));
            }
            _ => {}
        }
        if namespaces.is_empty() {
            namespaces.extend(NAMESPACES);
        }
        for run in &self.run {
            folders.extend(namespaces.iter().map(|namespace| of_containerd(run, namespace, id)));
            folders.push(run.join("overlay-containers").join(id).join("userdata"));
        }
        folders.into_iter().map(|folder| folder.join("config.json"))
    }

    /// The names of its log, else those of its pod's folder.
    fn log(&self, place: &Place<'_>) -> Option<LogNames> {
        let by_link = names(&self.logs.join("containers")).find_map(|name| {
            let (names, id) = logs::of_link(&name)?;
            (id == &*place.container.0).then_some(names)
        });
        let uid = place.pod_uid.as_deref();
        by_link.or_else(|| {
            let of_pod = |names: &LogNames| names.pod_uid.as_deref() == uid;
            uid.and_then(|_| {
                names(&self.logs.join("pods")).filter_map(|name| logs::of_folder(&name)).find(of_pod)
            })
        })
    }
}

/// What process `pid` watches, where it is root's and runs the program that does so. Its words alone are nobody's: a user
/// of this host can call a program of root's, such as `su`, whatever he likes. Which program it is takes the right to look
/// into it.
fn watched_by(pid: Pid) -> Option<Parent> {
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}{name}"));
    if !std::fs::metadata(of("")).is_ok_and(|of| of.uid() == 0) {
        return None;
    }
    let program = std::fs::read_link(of("/exe")).ok()?.into_os_string().into_string().ok()?;
    // An update has taken its file away.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    parent::parse(program, &read(&of("/cmdline"), parent::MAX_BYTES)?)
}

/// Where containerd with the state `run` keeps the bundle of `id`. Both are plain names.
fn of_containerd(run: &Path, namespace: &str, id: &str) -> PathBuf {
    run.join("io.containerd.runtime.v2.task").join(namespace).join(id)
}

/// The names in `folder`, as far as they are text.
fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_LOGS);
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The bundle at `path`, where there is one, with the program that runc's shim writes beside it.
fn bundle_at(path: &Path, writer: Writer, keys: &Keys) -> Option<Bundle> {
    let text = read(path, bundle::MAX_BYTES + 1)?;
    let parsed = bundle::parse(&text, writer, keys);
    let mut bundle = parsed.inspect_err(|error| tracing::debug!("{}: {error}", path.display())).ok()?;
    if writer == Writer::Containerd {
        let program =
            read(&path.with_file_name("runtime"), MAX_PROGRAM).and_then(|text| String::from_utf8(text).ok());
        let program = program.map(|program| program.trim().to_owned());
        bundle.handler = program.filter(|program| !program.is_empty() && program.len() < MAX_PROGRAM);
    }
    Some(bundle)
}

/// The parent of process `pid`, and when it began in ticks since the boot.
fn stat(pid: Pid) -> Option<(Pid, u64)> {
    let text = read(Path::new(&format!("/proc/{pid}/stat")), 4_096)?;
    let (parent, start) = parent_and_start(&String::from_utf8_lossy(&text))?;
    Some((Pid(parent), start))
}

/// At most `most` bytes of a plain file. A link in its last place is not followed, and a pipe is not waited for.
fn read(path: &Path, most: usize) -> Option<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().is_ok_and(|of| of.is_file()) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod real {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

    /// `shell` under the name of a conmon, with words of one; it lives until its standard input ends. It has spoken: the
    /// kernel shows the words of a program a moment after its start is told.
    fn called_conmon(shell: &Path) -> (Child, Pid) {
        let mut command = Command::new(shell);
        command.arg0("/usr/bin/conmon").args(["-s", "--", "-c", ID, "-n", "web"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start a shell");
        child.stdin.as_mut().expect("a pipe").write_all(b"echo here\n").expect("ask it");
        let mut line = String::new();
        let mut answers = BufReader::new(child.stdout.as_mut().expect("a pipe"));
        answers.read_line(&mut line).expect("hear it");
        assert_eq!(line, "here\n");
        let pid = Pid(child.id());
        (child, pid)
    }

    fn end(mut child: Child) {
        child.stdin.take().expect("a pipe").write_all(b"exit 7\n").expect("tell it to end");
        assert_eq!(child.wait().expect("wait").code(), Some(7));
    }

    #[test]
    fn what_watches_is_known_by_its_program_and_not_by_its_words() {
        let shell = Path::new("/bin/sh");
        let (child, pid) = called_conmon(shell);
        let words = read(Path::new(&format!("/proc/{pid}/cmdline")), parent::MAX_BYTES).expect("its words");
        assert!(parent::parse("/usr/bin/conmon", &words).is_some(), "they would do");
        assert_eq!(watched_by(pid), None, "it is a shell");
        end(child);
        let folder = tempfile::tempdir().expect("make a folder");
        let conmon = folder.path().join("conmon");
        // By another process: what this one has open for writing, it cannot run.
        assert!(Command::new("cp").args([shell, &conmon]).status().expect("run cp").success());
        let (child, pid) = called_conmon(&conmon);
        let expected = Parent::Conmon {
            id: ID.into(),
            name: Some("web".into()),
            bundle: None,
            handler: None,
            log: None,
        };
        assert_eq!(watched_by(pid).as_ref(), Some(&expected));
        // As an update leaves it.
        std::fs::remove_file(&conmon).expect("remove it");
        assert_eq!(watched_by(pid).as_ref(), Some(&expected));
        end(child);
        assert_eq!(watched_by(pid), None, "it is gone");
    }

    #[test]
    fn the_program_beside_a_bundle_is_what_runs_it() {
        let folder = tempfile::tempdir().expect("make a folder");
        let config = folder.path().join("config.json");
        std::fs::write(&config, "{}").expect("write a file");
        let handler = |writer| bundle_at(&config, writer, &Keys::default()).expect("a bundle").handler;
        assert_eq!(handler(Writer::Containerd), None);
        let long = "x".repeat(MAX_PROGRAM);
        for (text, expected) in [
            ("/usr/local/bin/runsc\n", Some("/usr/local/bin/runsc")),
            ("", None),
            (long.as_str(), None),
            (&long[1..], Some(&long[1..])),
        ] {
            std::fs::write(folder.path().join("runtime"), text).expect("write a file");
            assert_eq!(handler(Writer::Containerd).as_deref(), expected, "{text}");
            assert_eq!(handler(Writer::CriO), None, "{text}");
        }
    }
}
