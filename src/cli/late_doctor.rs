//! What `fnscope doctor` says of late names: whether the logs of platforms that are named can be read, and whether Kubernetes
//! tells the labels of pods, where it is to be asked. What is not configured is no finding.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::agent;
use crate::config::Config;
use crate::identity::Glob;
use crate::kubernetes::{Answers, Told};
use crate::model::Timestamp;
use crate::perf::Clock;
use crate::privilege::{Finding, Standing};

/// Most entries of a log's directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// A finding for each log that is named, and one for Kubernetes where it is asked.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let logs = config.platform_logs.openwhisk.iter().map(|pattern| log(pattern));
    logs.chain(kubernetes(config)).collect()
}

fn log(pattern: &str) -> Finding {
    let what = "platform_logs.openwhisk";
    let bad = |found: String, mend: &str| Finding::bad(what, Standing::Warn, found, mend);
    let path = Path::new(pattern);
    let folder = path.parent().unwrap_or(path);
    // The thread that reads them holds no capability.
    if let Some(closed) = closed(folder, READ | ENTER) {
        return bad(
            format!(
                "{pattern}: the agent's user may not look into {}: stem cells stay pools",
                closed.display()
            ),
            "chmod o+rx the folder, or give the agent a group that may read it: its capabilities do not open another user's",
        );
    }
    let name = Glob(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let files = match named_by(folder, &name) {
        Ok(files) => files,
        Err(error) => {
            let mend = "mount the folder read-only, or name the one that the invoker writes its log to";
            return bad(format!("{pattern}: {error}: stem cells stay pools"), mend);
        }
    };
    let refused = files.iter().find_map(|(name, fault)| Some((name, fault.as_ref()?)));
    match (files.is_empty(), refused) {
        (true, _) => bad(
            format!("{pattern}: no file has that name yet: stem cells stay pools until one has"),
            "name the files that the invoker writes, such as \"/var/log/openwhisk/invoker*_logs.log\"",
        ),
        (_, Some((name, Fault::NoFile))) => bad(
            format!("{pattern}: {name} is no file: nothing is read of it"),
            "name the files that the invoker writes alone",
        ),
        (_, Some((name, Fault::Refused))) => bad(
            format!("{pattern}: {name} may not be read by the agent's user: its stem cells stay pools"),
            "chmod o+r the log, or give the agent a group that may read it: its capabilities do not open another user's",
        ),
        (_, Some((name, Fault::Closed(folder)))) => bad(
            format!(
                "{pattern}: {name} leads through {}, which the agent's user may not enter: its stem cells stay pools",
                folder.display()
            ),
            "chmod o+x the folder, or give the agent a group that may enter it: its capabilities do not open another user's",
        ),
        _ => Finding::ok(what, format!("{pattern}: {} files", files.len())),
    }
}

/// Why a file that is named cannot be followed.
enum Fault {
    NoFile,
    Refused,
    /// It is a link, and the agent's user may not enter this folder on its way.
    Closed(PathBuf),
}

/// Files in `folder` that `name` names, and what is wrong with each. None is opened: a pipe would wait for a writer.
fn named_by(folder: &Path, name: &Glob) -> io::Result<Vec<(String, Option<Fault>)>> {
    let entries = std::fs::read_dir(folder)?.take(MAX_ENTRIES).flatten();
    let named = entries.filter_map(|entry| {
        let text = entry.file_name().into_string().ok().filter(|text| name.matches(text))?;
        let (path, about) = (entry.path(), std::fs::metadata(entry.path()));
        // A link whose file has gone, or is not there yet.
        if about.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let leads_to = path.canonicalize().or_else(|_| path.read_link().map(|link| folder.join(link)));
        let closed = leads_to.ok().and_then(|file| closed(file.parent()?, ENTER));
        let fault = match (closed, about) {
            (Some(closed), _) => Some(Fault::Closed(closed)),
            (None, Ok(about)) if !about.is_file() => Some(Fault::NoFile),
            (None, Ok(about)) if may(&about, READ) => None,
            (None, _) => Some(Fault::Refused),
        };
        Some((text, fault))
    });
    Ok(named.collect())
}

/// What a mode allows.
const READ: u32 = 0o4;
const ENTER: u32 = 0o1;

/// The first folder on the way to `folder` that the agent's user may not enter without a capability, or that one itself
/// if he may not do there what `bits` say.
fn closed(folder: &Path, bits: u32) -> Option<PathBuf> {
    let mut way: Vec<&Path> = folder.ancestors().collect();
    way.reverse();
    let needs = |on_it: &Path| if on_it == folder { bits } else { ENTER };
    let is_closed = |on_it: &&Path| std::fs::metadata(on_it).is_ok_and(|about| !may(&about, needs(on_it)));
    way.into_iter().find(is_closed).map(Into::into)
}

/// Whether this user may do what `bits` say, by its mode alone.
fn may(about: &Metadata, bits: u32) -> bool {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let groups = rustix::process::getgroups().unwrap_or_default();
    let in_group = about.gid() == group || groups.iter().any(|group| group.as_raw() == about.gid());
    let shift = match (about.uid() == user, in_group) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    (about.mode() >> shift) & bits == bits
}

fn kubernetes(config: &Config) -> Option<Finding> {
    let what = "kubernetes.api";
    let bad = |found: String, mend: &str| Finding::bad(what, Standing::Warn, found, mend);
    let server = match agent::pod_server(config) {
        Ok(server) => server?,
        // What to do is of the fault.
        Err(fault) => {
            let fault = fault.to_string();
            let (found, mend) = fault.split_once(": ").unwrap_or((&fault, "name it in kubernetes.url"));
            return Some(bad(found.into(), mend));
        }
    };
    let mut pods = Counted(0);
    Some(match server.watch().ask(&mut pods) {
        Ok(()) => Finding::ok(what, format!("{} tells of {} pods of functions", server.url, pods.0)),
        Err(fault) => bad(
            format!("{fault}; containers of pools stay pools until it answers"),
            "see deploy/README.md, Late names, for the role that it needs, and kubernetes.url, .ca and .token",
        ),
    })
}

/// Pods that were told.
struct Counted(usize);

impl Answers for Counted {
    fn now(&self) -> Timestamp {
        Clock::read().wall(Clock::monotonic_ns())
    }

    fn told(&mut self, _: Told) {
        self.0 += 1;
    }

    fn goes_on(&self) -> bool {
        false
    }
}
