//! `fnscope exec`: one command as a function, in a cgroup of its own, from its first instruction.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::STORE_VARIABLE;
use super::own_cgroup::OwnCgroup;
use super::{Outcome, enter, output, report};
use crate::agent::{Agent, Role};
use crate::config::{Cgroup, Config, DEFAULT_STORE, OffCpu, Runtimes, StackConfig, Unwind};
use crate::model::{InstanceKey, Timestamp, Window};
use crate::perf::Clock;
use crate::render::escape;
use crate::{query, render};

/// Runs a command and profiles it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with the command's own status, 128 + N where signal N ended it, 125 where fnscope itself failed, \
127 where the command could not be started. The summary goes to stderr; stdout is the command's.

Examples:
  sudo fnscope exec --name pi -- ./pi 1000000
  sudo fnscope exec --name resize --revision 7 -o resize.svg -- python3 resize.py big.jpg
  sudo fnscope exec --name pi --json pi.json --hz 997 -- ./pi 1000000")]
pub struct Args {
    /// Name of the function [default: the program's file name]
    #[arg(long, value_name = "FUNCTION")]
    name: Option<String>,
    /// Its revision
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Directory to store profiles in; an agent may be writing to it
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, default_value = DEFAULT_STORE)]
    store: PathBuf,
    /// Samples a second and busy CPU [default: 199]
    #[arg(long, value_name = "N")]
    hz: Option<u32>,
    /// How stacks are walked: along copies of them where the program needs it, along frame pointers alone, or always along
    /// copies [default: auto]
    #[arg(long, value_name = "auto|fp|dwarf")]
    unwind: Option<Unwind>,
    /// Record where its threads wait, and how long, as well
    #[arg(long)]
    off_cpu: bool,
    /// Draw a flame graph (SVG) into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the summary to this file as JSON, as `instances` has it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Exit status when fnscope itself fails, as `env` and `docker run` have it.
pub(super) const OWN_FAILURE: u8 = 125;

/// Runs the command, then says what it did.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    run_command(args).or_else(|error| {
        output::tell(&escape::lines(&format!("fnscope: {error:#}")));
        Ok(Outcome::Exit(OWN_FAILURE))
    })
}

fn run_command(args: &Args) -> anyhow::Result<Outcome> {
    let component = component(args)?;
    let started_at = Clock::read().wall(Clock::monotonic_ns());
    let cgroups = crate::cgroup::Cgroups::detect()?;
    let mut own = OwnCgroup::new(&cgroups, "exec")?;
    let config = Config {
        store: args.store.clone().into(),
        hz: args.hz.unwrap_or(crate::config::DEFAULT_HZ),
        stack: StackConfig { unwind: args.unwind.unwrap_or(Unwind::Auto), ..StackConfig::default() },
        off_cpu: OffCpu {
            functions: args.off_cpu.then(|| "*".into()).into_iter().collect(),
            ..OffCpu::default()
        },
        runtimes: Runtimes::off(),
        cgroup: Cgroup { parents: vec![own.path().into()] },
        ..Config::default()
    };
    let agent = Agent::start(&config, Role::Exec)?;
    let path = own.child(&component)?;
    agent.wait_until_watching(&path)?;
    let key = key(&cgroups, &path)?;
    let status = run_to_end(args, &own, &path);
    if let Ok(status) = status {
        agent.exited(&path, i32::from(exit_code(status)));
    }
    // The account is read before the cgroup goes.
    agent.stop()?;
    drop(own);
    let status = status?;
    if let Err(error) = summarize(args, &key, started_at) {
        output::tell(&format!("fnscope: {error:#}"));
        return Ok(Outcome::Exit(OWN_FAILURE));
    }
    Ok(Outcome::Exit(exit_code(status)))
}

/// The cgroup's name, which the `cgroup` runtime reads back as function and revision; the number keeps a name that
/// ends in one whole.
fn component(args: &Args) -> anyhow::Result<String> {
    let program = args.command.first().map(std::path::Path::new);
    let default = || program.and_then(|p| p.file_name()).map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(default).context("no name")?;
    let revision = args.revision.as_deref();
    for (what, text) in [("--name", Some(name.as_str())), ("--revision", revision)] {
        let Some(text) = text else { continue };
        let bad = |c: char| c == '/' || c == '@' || c.is_control();
        if text.is_empty() || text.len() > 100 || text.contains(bad) || text.starts_with('.') {
            bail!(
                "{what} {text:?}: give 1 to 100 bytes without `/`, `@` and control characters, not beginning with `.`"
            );
        }
    }
    Ok(match revision {
        Some(revision) => format!("{name}@{revision}.0"),
        None => format!("{name}.0"),
    })
}

fn key(cgroups: &crate::cgroup::Cgroups, path: &str) -> anyhow::Result<InstanceKey> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    let id = cgroups.id(path).context("find the id of our cgroup")?;
    Ok(InstanceKey::new(path.trim_start_matches('/'), boot_id.trim(), id))
}

fn run_to_end(args: &Args, own: &OwnCgroup, path: &str) -> anyhow::Result<ExitStatus> {
    let reactor = super::reactor()?;
    reactor.block_on(async {
        // Signals from here on are the command's to answer, not ours.
        let mut signals = Signals::new()?;
        let mut child = enter::command(&own.procs_file(path), &args.command)?.spawn().context("start the command")?;
        let pid = rustix::process::Pid::from_child(&child);
        let waited = tokio::task::spawn_blocking(move || wait(&mut child));
        tokio::pin!(waited);
        loop {
            tokio::select! {
                status = &mut waited => return status.context("wait for the command")?.context("wait for the command"),
                signal = signals.next() => {
                    // It may have ended this very moment.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    })
}

fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.wait()
}

struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> rustix::process::Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return rustix::process::Signal::TERM,
                _ = self.hangup.recv() => return rustix::process::Signal::HUP,
                // A terminal sends it to the command too; twice would be once too often.
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OWN_FAILURE)
}

fn summarize(args: &Args, key: &InstanceKey, started_at: Timestamp) -> anyhow::Result<()> {
    let view = report::open(&args.store, Window { from: started_at, to: Timestamp::MAX })?;
    let selection = view.select(None, &[key.to_string()])?;
    let rows = query::instances(&view, &selection);
    for row in &rows {
        let hottest = report::hottest(&view, &selection, 5);
        output::tell(&format!("fnscope: {}", report::instance_lines(row, &hottest)));
    }
    if let Some(path) = &args.json {
        output::file(path, |out| output::write_json(&render::json::instances(&rows), out))?;
    }
    if let (Some(path), Some(row)) = (&args.output, rows.first()) {
        if row.samples == 0 {
            bail!("no sample was taken of the command: too short for a flame graph; try --hz 997");
        }
        report::write_flame(&view, &selection, &row.id.to_string().parse()?, path)?;
        output::tell(&format!("fnscope: flame graph in {}", path.display()));
    }
    Ok(())
}
