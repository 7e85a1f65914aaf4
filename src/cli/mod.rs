//! The command line: one file per command, and here what they share: the list of them, and what comes out at the end.
//!
//! stdout is data, stderr is talk. Exit codes: 0 ok, 1 nothing found or a check failed, 2 error, 64 wrong usage.

mod agent;
mod args;
mod cold;
mod complete;
mod completions;
mod config;
mod cost;
mod demo;
mod diff;
mod discovery_doctor;
mod doctor;
mod enter;
mod exec;
mod export;
mod flame;
mod folded;
mod health;
mod hosts;
mod identify;
mod import;
mod instances;
mod late_doctor;
mod log;
mod ls;
mod man;
mod open;
mod output;
mod own_cgroup;
mod report;
mod seal;
mod settings;
mod stack_doctor;
mod throttled;
mod top;
mod tunables;

use std::ffi::OsStr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::LogFormat;
use crate::query::QueryError;
use crate::render::escape;

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// Nothing was found, or a check failed; why has been said.
    Nothing,
    /// The exit code of a command that was run, or what stands for it.
    Exit(u8),
}

/// See inside serverless functions from the host.
#[derive(Debug, Parser)]
#[command(name = "fnscope", version, about, long_about = None, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Functions are named `platform/namespace/function@revision` or by any end of that: `pi`, `demo/pi`, `pi@2`.

Examples:
  fnscope ls                           which functions are there, and what did each use
  fnscope top pi --since 10m           where the last ten minutes of `pi` went
  fnscope flame pi -o pi.svg           a flame graph of it

Exit codes: 0 ok, 1 nothing found or a check failed, 2 error, 64 wrong usage.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host until SIGTERM: containers of Docker, containerd, CRI-O, podman and of configured cgroups.
    Agent(agent::Args),
    /// Run one command as a function and profile it from its first instruction.
    Exec(exec::Args),
    /// Run example functions and show where their time went.
    Demo(demo::Args),
    /// List functions, a row for each revision.
    Ls(ls::Args),
    /// List a function's instances: when each lived, how it began, what it used.
    Instances(instances::Args),
    /// Show the frames that took the most time.
    Top(top::Args),
    /// Show a function's cold starts: how long, how much, and what for.
    Cold(cold::Args),
    /// Compare two revisions, windows or hosts of a function; fail a build.
    Diff(Box<diff::Args>),
    /// Print a function's stacks as folded text.
    Folded(folded::Args),
    /// Draw a flame graph.
    Flame(flame::Args),
    /// Write a function's samples for another tool: perf-script, pprof, speedscope, Firefox.
    Export(export::Args),
    /// Store what another tool sampled: perf-script, folded text, pprof.
    Import(import::Args),
    /// List hosts: how each was sampled, and what was lost on it.
    Hosts(hosts::Args),
    /// List functions that were held back: by a quota, by others, by a freezer.
    Throttled(throttled::Args),
    /// Show the CPU seconds of functions, and what they cost.
    Cost(cost::Args),
    /// Seal closed journals to Parquet, and drop hours that are too old or too many.
    Seal(seal::Args),
    /// Say which function a container is, by which rule, and what was looked at.
    Identify(identify::Args),
    /// Say what this host allows, what is missing, and the line that mends it.
    Doctor(doctor::Args),
    /// Check the configuration, and show where each value comes from.
    Config(config::Args),
    /// Ask a running agent whether it is well.
    Health(health::Args),
    /// Become another program inside a cgroup.
    #[command(hide = true)]
    Enter(enter::Args),
    /// Print a script that completes commands and names of functions in a shell.
    Completions(completions::Args),
    /// Print a manual page, or write all.
    Man(man::Args),
}

/// Reads the command line, and the variables that stand for options of it.
///
/// # Errors
/// Help, or wrong usage.
pub fn parse() -> Result<Cli, clap::Error> {
    let matches = without_empty_variables(Cli::command()).try_get_matches()?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))
}

/// `command`, in which no option takes its value from an empty variable: one is as good as none, as for the agent's
/// configuration.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| {
        let empty = arg.get_env().is_some_and(is_empty);
        if empty { arg.env(None::<&'static str>) } else { arg }
    });
    command.mut_subcommands(without_empty_variables)
}

/// Does what `cli` says, in a program that was built from `revision`, if that is known.
pub fn run(cli: Cli, revision: Option<&'static str>) -> anyhow::Result<Outcome> {
    // The agent's configuration says how it logs.
    if !matches!(cli.command, Command::Agent(_)) {
        log::init(LogFormat::Text);
    }
    match cli.command {
        Command::Agent(args) => agent::run(args, revision),
        Command::Exec(args) => exec::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Instances(args) => instances::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Cold(args) => cold::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Folded(args) => folded::run(&args),
        Command::Flame(args) => flame::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Hosts(args) => hosts::run(&args),
        Command::Throttled(args) => throttled::run(&args),
        Command::Cost(args) => cost::run(&args),
        Command::Seal(args) => seal::run(&args),
        Command::Identify(args) => identify::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(args),
        Command::Health(args) => health::run(&args),
        Command::Enter(args) => enter::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The event loop of a command that talks to Docker or waits for signals.
fn reactor() -> anyhow::Result<tokio::runtime::Runtime> {
    // Its threads for what waits (a reload, the end) hold as little as the one that starts them, whose name they have.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("fnscope")
        .build()
        .context("make the event loop")
}

/// Answers a shell that completes a line, if one asks; true if that was all there is to do.
pub fn answered_shell() -> bool {
    complete::answered()
}

/// The exit code of wrong usage, help and version being none; what `error` says has been printed.
pub fn usage(error: &clap::Error) -> ExitCode {
    const USAGE: u8 = 64;
    // A closed pipe is the reader's choice; there is nobody left to tell of any other failure.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The exit code of what a command came to; an error is told on stderr.
pub fn finish(result: anyhow::Result<Outcome>) -> ExitCode {
    const NOTHING: u8 = 1;
    const ERROR: u8 = 2;
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Nothing) => return ExitCode::from(NOTHING),
        Ok(Outcome::Exit(code)) => return ExitCode::from(code),
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        return usage(error);
    }
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    output::tell(&escape::lines(&format!("fnscope: {error:#}")));
    match error.downcast_ref::<QueryError>() {
        Some(QueryError::Ambiguous { .. }) | None => ExitCode::from(ERROR),
        Some(_) => ExitCode::from(NOTHING),
    }
}

#[cfg(test)]
mod tests;
