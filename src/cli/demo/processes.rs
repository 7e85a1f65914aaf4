//! The demonstration's functions as processes in cgroups of their own.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::plan::Start;
use crate::agent::Agent;
use crate::cli::enter;
use crate::cli::own_cgroup::OwnCgroup;

/// Starts them one after the other, the warm one beside them.
pub(super) fn run(
    agent: &Agent,
    own: &mut OwnCgroup,
    program: &Path,
    plan: &[Start],
    progress: &ProgressBar,
) -> anyhow::Result<()> {
    let mut warm = Vec::new();
    for (n, start) in plan.iter().enumerate() {
        progress.set_message(format!("{}@{}", start.function, start.revision));
        let path = own.child(&format!("{}@{}.{n}", start.function, start.revision))?;
        agent.wait_until_watching(&path)?;
        let child = begin(own, &path, program, start)?;
        if start.warm {
            warm.push((path, child));
        } else {
            end(agent, &path, child, progress)?;
        }
    }
    progress.set_message("warm");
    warm.into_iter().try_for_each(|(path, child)| end(agent, &path, child, progress))
}

fn begin(own: &OwnCgroup, path: &str, program: &Path, start: &Start) -> anyhow::Result<Child> {
    let dir = program.parent().context("the program lies in a directory")?;
    let program = std::fs::canonicalize(program).context("find the program")?;
    let command: Vec<OsString> = std::iter::once(program.into_os_string())
        .chain(start.arguments().into_iter().map(OsString::from))
        .collect();
    let mut command = enter::command(&own.procs_file(path), &command)?;
    command.current_dir(dir).env("TMPDIR", ".").stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("start {}", start.function))
}

fn end(agent: &Agent, path: &str, mut child: Child, progress: &ProgressBar) -> anyhow::Result<()> {
    let status = child.wait().context("wait for a function")?;
    agent.exited(path, status.code().unwrap_or(-1));
    progress.inc(1);
    if !status.success() {
        bail!("a function of the demonstration ended with {status}");
    }
    Ok(())
}
