//! `fnscope agent`: the daemon.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use super::args::STORE_VARIABLE;
use crate::agent::{Agent as Running, Role};
use crate::config::{Config, Unwind};
use crate::identity::Functions;

/// Flags of the daemon; they go over the configuration file, which goes over the defaults.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Flags go over the configuration file; deploy/README.md lists its keys, such as what is kept and for how long:
  [store]
  max_age = \"30d\"                # \"0\": for ever
  max_bytes = \"20GiB\"            # \"0\": no limit
  [budget]                       # near these it does less, in steps, and says so
  memory = \"256MiB\"             # besides the rings
  cpu = \"2%\"                    # of all CPUs together

Examples:
  sudo fnscope agent                                      Docker's functions, to /var/lib/fnscope
  sudo fnscope agent --functions all --store /srv/prof    every container of Docker
  sudo fnscope agent --no-docker --cgroup-parent /fn      each cgroup in /fn, as /fn/resize@7.1")]
pub struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory to store profiles in [default: /var/lib/fnscope]
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE)]
    store: Option<PathBuf>,
    /// Name of this host in the store [default: its host name]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Samples a second and busy CPU [default: 199]
    #[arg(long, value_name = "N")]
    hz: Option<u32>,
    /// Let --hz go beyond 1000, up to this [at most 4999]
    #[arg(long, value_name = "N")]
    max_hz: Option<u32>,
    /// How stacks are walked: along copies of them where a function needs it, along frame pointers alone, or always along
    /// copies [default: auto]
    #[arg(long, value_name = "auto|fp|dwarf")]
    unwind: Option<Unwind>,
    /// Which containers are functions: those that a platform or a label marks, or all [default: labelled]
    #[arg(long, value_name = "WHICH")]
    functions: Option<Functions>,
    /// Docker's socket [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<PathBuf>,
    /// Do not ask Docker
    #[arg(long)]
    no_docker: bool,
    /// CPU time it may use, as a share of all CPUs, before it samples less; 0: no limit [default: 2%]
    #[arg(long, value_name = "SHARE", env = "FNSCOPE_BUDGET_CPU")]
    budget_cpu: Option<String>,
    /// Memory it may use besides its rings before it keeps less; 0: no limit [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "FNSCOPE_BUDGET_MEMORY")]
    budget_memory: Option<String>,
    /// Each child of this cgroup is a container, named function[@revision][.n]; may be given several times
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Vec<String>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(flags: Args) -> anyhow::Result<Outcome> {
    let config = resolve(flags)?;
    let reactor = super::reactor()?;
    let agent = reactor.block_on(async {
        // Before anything is opened: a signal from here on ends the agent in order.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let agent = Running::start(&config, Role::Daemon)?;
        tracing::info!(store = %config.store.path.display(), hz = agent.hz(), "watching");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Better to end, and be started again, than to go on and record nothing.
            () = agent.broken() => tracing::error!("a thread of the agent has ended; stopping"),
        }
        anyhow::Ok(agent)
    })?;
    let (captured, kept) = agent.stop()?;
    tracing::info!(
        instances = captured.instances,
        samples = captured.samples,
        written = kept.samples,
        lost = captured.lost,
        dropped = captured.dropped + kept.lost,
        side_band_lost = captured.side_band_lost,
        files_opened = captured.files.opened,
        files_known = captured.files.known,
        files_failed = captured.files.failed,
        longest_reading_us = captured.longest_reading_ns / 1_000,
        walks = captured.walks.walks,
        walks_complete = captured.walks.roots,
        walks_guessed = captured.walks.guessed,
        "stopped"
    );
    Ok(Outcome::Done)
}

fn resolve(flags: Args) -> anyhow::Result<Config> {
    let mut config = match &flags.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    config.store.path = flags.store.unwrap_or(config.store.path);
    config.node = flags.node.or(config.node);
    config.hz = flags.hz.unwrap_or(config.hz);
    config.max_hz = flags.max_hz.unwrap_or(config.max_hz);
    config.stack.unwind = flags.unwind.unwrap_or(config.stack.unwind);
    config.functions = flags.functions.unwrap_or(config.functions);
    config.docker.socket = flags.docker_socket.unwrap_or(config.docker.socket);
    config.budget.cpu = flags.budget_cpu.unwrap_or(config.budget.cpu);
    config.budget.memory = flags.budget_memory.unwrap_or(config.budget.memory);
    config.docker.enabled &= !flags.no_docker;
    config.cgroup.parents.extend(flags.cgroup_parent);
    Ok(config)
}
