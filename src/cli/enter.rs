//! `fnscope enter`: becomes another program inside a cgroup, so that its first instruction runs there. Hidden: what
//! `exec` and `demo` start their functions with.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{Outcome, output};

/// What to become, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The `cgroup.procs` file to enter.
    procs: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Exit status when the program is not there, and when it is and cannot be run, as `env` and shells have it.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Enters and becomes. Returns only if that failed.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    std::fs::write(&args.procs, "0").with_context(|| format!("enter {}", args.procs.display()))?;
    let (program, arguments) = args.command.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    output::tell(&format!("fnscope: start {}: {error}", Path::new(program).display()));
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    Ok(Outcome::Exit(if missing { NOT_FOUND } else { NOT_RUN }))
}

/// The command that does it.
pub(super) fn command(procs: &Path, program: &[OsString]) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("find our own program")?;
    let mut command = Command::new(own);
    command.arg("enter").arg(procs).arg("--").args(program);
    Ok(command)
}
