//! `fnscope enter`: becomes another program inside a cgroup, so that its first instruction runs there. Hidden: what
//! `exec` and `demo` start their functions with.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

/// What to become, and where.
#[derive(Debug, Args)]
pub struct Enter {
    /// The `cgroup.procs` file to enter.
    procs: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Exit status when the program cannot be started, as `env` and shells have it.
pub(super) const NOT_FOUND: u8 = 127;

/// Enters and becomes. Returns only if that failed.
pub(super) fn run(enter: &Enter) -> anyhow::Result<Infallible> {
    std::fs::write(&enter.procs, "0").with_context(|| format!("enter {}", enter.procs.display()))?;
    let (program, arguments) = enter.command.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("start {}", Path::new(program).display()))
}

/// The command that does it.
pub(super) fn command(procs: &Path, program: &[OsString]) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("find our own program")?;
    let mut command = Command::new(own);
    command.arg("enter").arg(procs).arg("--").args(program);
    Ok(command)
}
