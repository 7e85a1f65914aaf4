//! What `fnscope doctor` says of late names: whether the logs of platforms that are named can be read, and whether Kubernetes
//! tells the labels of pods, where it is to be asked. What is not configured is no finding.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
    let files = match named_by(pattern) {
        Ok(files) => files,
        Err(error) => {
            let mend = "mount the folder read-only, or name the one that the invoker writes its log to";
            return bad(format!("{pattern}: {error}: stem cells stay pools"), mend);
        }
    };
    // The thread that reads it holds no capability.
    let refused = files.iter().find(|(_, may_read)| !may_read);
    match (files.is_empty(), refused) {
        (true, _) => bad(
            format!("{pattern}: no file has that name yet: stem cells stay pools until one has"),
            "name the files that the invoker writes, such as \"/var/log/openwhisk/invoker*_logs.log\"",
        ),
        (_, Some((name, _))) => bad(
            format!("{pattern}: {name} may not be read by the agent's user: its stem cells stay pools"),
            "chmod o+r the log, or give the agent a group that may read it: its capabilities do not open another user's",
        ),
        _ => Finding::ok(what, format!("{pattern}: {} files", files.len())),
    }
}

/// Files that `pattern` names, and whether they may be read without a capability.
fn named_by(pattern: &str) -> io::Result<Vec<(String, bool)>> {
    let path = Path::new(pattern);
    let name = Glob(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let entries = std::fs::read_dir(path.parent().unwrap_or(path))?.take(MAX_ENTRIES).flatten();
    let named = entries.filter_map(|entry| {
        let text = entry.file_name().into_string().ok().filter(|text| name.matches(text))?;
        let may_read =
            File::open(entry.path()).and_then(|file| file.metadata()).is_ok_and(|about| may_read(&about));
        Some((text, may_read))
    });
    Ok(named.collect())
}

fn may_read(about: &Metadata) -> bool {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let groups = rustix::process::getgroups().unwrap_or_default();
    let in_group = about.gid() == group || groups.iter().any(|group| group.as_raw() == about.gid());
    let bit = match (about.uid() == user, in_group) {
        (true, _) => 0o400,
        (false, true) => 0o040,
        (false, false) => 0o004,
    };
    about.mode() & bit != 0
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
