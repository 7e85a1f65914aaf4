//! What `fnscope doctor` says of discovery: which evidence of a container can be read on this host without asking a runtime,
//! what each is for, and the line that mends it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cgroup::Cgroups;
use crate::config::{Config, Discovery};
use crate::discovery::Source;
use crate::privilege::{self, Finding, Standing};

/// What engines call the folder of bundles in their states.
const BUNDLES: [&str; 2] = ["io.containerd.runtime.v2.task", "overlay-containers"];
/// What the kubelet calls its cgroup.
const KUBELETS: [&str; 2] = ["kubepods", "kubepods.slice"];

/// A finding for each kind of evidence, and one for what none of them holds. `answers`: whether a runtime does, so that nobody
/// needs what else would tell the names of pods.
pub(super) fn findings(config: &Config, answers: bool) -> Vec<Finding> {
    let discovery = &config.discovery;
    if !discovery.enabled {
        return vec![Finding::ok(
            "discovery",
            "containers that no runtime claims stay unnamed: discovery.enabled is false",
        )];
    }
    let missed: Vec<String> = privilege::missed().into_iter().map(|(name, _)| name).collect();
    let has_pods =
        Cgroups::detect().is_ok_and(|cgroups| KUBELETS.iter().any(|name| cgroups.dir(name).is_dir()));
    let mut findings: Vec<Finding> =
        Source::ALL.into_iter().map(|source| of(source, discovery, &missed, has_pods && !answers)).collect();
    findings.push(Finding::ok(
        &what("labels"),
        "of containers and pods are in none of it, but of pods that CRI-O runs, where they are no more than a guess: functions \
         that a platform marks by labels alone are named where a runtime answers",
    ));
    findings
}

fn what(of: impl std::fmt::Display) -> String {
    format!("discovery, {of}")
}

fn of(source: Source, discovery: &Discovery, missed: &[String], has_unnamed_pods: bool) -> Finding {
    match source {
        // What a process has mounted may be read by everybody.
        Source::Path | Source::Mounts => Finding::ok(&what(source), source.tells()),
        Source::Parent => by_rights(source, &["CAP_SYS_PTRACE"], missed),
        Source::Environment => by_rights(source, &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"], missed),
        Source::Bundle => bundles(&discovery.run),
        Source::Logs => logs(&discovery.var_log, has_unnamed_pods),
    }
}

/// Files of `/proc` of other users' processes, which take the rights `needed`.
fn by_rights(source: Source, needed: &[&str], missed: &[String]) -> Finding {
    let lacking: Vec<&str> =
        needed.iter().copied().filter(|name| missed.iter().any(|missed| missed == name)).collect();
    if lacking.is_empty() {
        return Finding::ok(&what(source), source.tells());
    }
    let lacking = lacking.join(" and ");
    Finding::bad(
        &what(source),
        Standing::Warn,
        format!("not read without {lacking}: {}", source.tells()),
        format!("give {lacking}, as above"),
    )
}

fn bundles(run: &[String]) -> Finding {
    let source = Source::Bundle;
    let (mut readable, mut refused) = (Vec::new(), Vec::new());
    for folder in run.iter().flat_map(|run| BUNDLES.map(|name| Path::new(run).join(name))) {
        match std::fs::read_dir(&folder) {
            Ok(_) => readable.push(folder.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => refused.push(format!("{}: {error}", folder.display())),
        }
    }
    if !refused.is_empty() {
        let mend = "run the agent as root; in a container mount the folder, read-only";
        return Finding::bad(&what(source), Standing::Warn, refused.join(", "), mend);
    }
    if readable.is_empty() {
        let found = format!(
            "{}; none in {}: read beside the shim or conmon that watches a container, where CAP_SYS_PTRACE is held",
            source.tells(),
            run.join(", ")
        );
        return Finding::ok(&what(source), found);
    }
    Finding::ok(&what(source), format!("{}; {}", source.tells(), readable.join(", ")))
}

fn logs(logs: &Path, has_unnamed_pods: bool) -> Finding {
    let source = Source::Logs;
    let folders: [PathBuf; 2] = ["containers", "pods"].map(|name| logs.join(name));
    let readable: Vec<_> = folders.iter().filter(|folder| std::fs::read_dir(folder).is_ok()).collect();
    if let Some(folder) = readable.first() {
        return Finding::ok(&what(source), format!("{}; {}", source.tells(), folder.display()));
    }
    let none = format!("neither containers nor pods can be read in {}", logs.display());
    if !has_unnamed_pods {
        return Finding::ok(&what(source), format!("{none}, and no pod is here that only they would name"));
    }
    Finding::bad(
        &what(source),
        Standing::Warn,
        format!("{none}: {} are not told by them", source.tells()),
        "where no runtime may be asked, mount /var/log/containers and /var/log/pods, read-only (Kubernetes: \
         components/log-links)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_judged_by_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("run/io.containerd.runtime.v2.task")).unwrap();
        std::fs::create_dir_all(path("log/containers")).unwrap();
        let run = path("run").to_string_lossy().into_owned();
        let missed = ["CAP_SYS_PTRACE".to_owned(), "CAP_DAC_READ_SEARCH".to_owned()];
        let discovery = Discovery::default();
        for (finding, standing, says) in [
            (bundles(std::slice::from_ref(&run)), Standing::Ok, "io.containerd.runtime.v2.task"),
            (bundles(&["/nowhere".into()]), Standing::Ok, "none in /nowhere"),
            (logs(&path("log"), true), Standing::Ok, "log/containers"),
            (logs(&path("none"), false), Standing::Ok, "no pod is here that"),
            (logs(&path("none"), true), Standing::Warn, "names of pod"),
            (
                of(Source::Environment, &discovery, &missed, false),
                Standing::Warn,
                "PTRACE and CAP_DAC_READ_SEARCH: ",
            ),
            (of(Source::Parent, &discovery, &missed, false), Standing::Warn, "without CAP_SYS_PTRACE: "),
            (of(Source::Parent, &discovery, &missed[1..], false), Standing::Ok, "faasd"),
            (of(Source::Mounts, &discovery, &[], false), Standing::Ok, "sandbox"),
        ] {
            assert!(finding.standing == standing && finding.found.contains(says), "{finding:?}");
            assert_eq!(finding.mend.is_some(), standing != Standing::Ok, "{finding:?}");
        }
        std::fs::remove_dir_all(path("run/io.containerd.runtime.v2.task")).unwrap();
        std::fs::write(path("run/io.containerd.runtime.v2.task"), "").unwrap();
        assert_eq!(bundles(&[run]).standing, Standing::Warn, "it is no folder");
    }
}
