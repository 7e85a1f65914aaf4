//! `fnscope agent`: the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::args::STORE_VARIABLE;
use super::health::LISTEN_VARIABLE;
use super::{Outcome, log};
use crate::agent::{Agent as Running, Role};
use crate::config::{Config, LogFormat, Unwind};
use crate::health::judge;
use crate::health::systemd::Systemd;
use crate::http::serve;
use crate::identity::Functions;
use crate::metrics::Metrics;

/// Flags of the daemon; they go over the configuration file, which goes over the defaults.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Flags go over the configuration file; deploy/README.md lists its keys, such as what is kept and for how long:
  [store]
  max_age = \"30d\"                # \"0\": for ever
  max_bytes = \"20GiB\"            # \"0\", the default: no limit

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
    /// Each child of this cgroup is a container, named function[@revision][.n]; may be given several times
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Vec<String>,
    /// Where health and metrics are told, or `off` [default: 127.0.0.1:9878]
    #[arg(long, value_name = "ADDRESS:PORT", env = LISTEN_VARIABLE)]
    listen_health: Option<String>,
}

/// How long it may take to write what is left, of the five seconds that an end may take.
const DRAIN: Duration = Duration::from_secs(4);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(flags: Args) -> anyhow::Result<Outcome> {
    let config = resolve(flags).inspect_err(|_| log::init(LogFormat::Text))?;
    log::init(config.log.format);
    match (config.log.format, watch(&config)) {
        // Who reads JSON reads nothing else.
        (LogFormat::Json, Err(error)) => {
            tracing::error!("{error:#}");
            Ok(Outcome::Exit(2))
        }
        (_, outcome) => outcome,
    }
}

fn watch(config: &Config) -> anyhow::Result<Outcome> {
    // Before anything else is opened, so that nothing has to be undone. A fault is told with all others, at the start.
    let health = config.listen.health().ok().flatten();
    let health = health.map(|address| serve::listen(address, "listen.health")).transpose()?;
    // The port may have been left to the kernel.
    let told_at = health.as_ref().map(|listener| listener.local_addr()).transpose()?;
    let told_at = told_at.map(|address| address.to_string());
    let systemd = Systemd::of_environment()?;
    let reactor = super::reactor()?;
    let (captured, kept) = reactor.block_on(async {
        // Before anything is opened: a signal from here on ends the agent in order.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let agent = Running::start(config, Role::Daemon)?;
        let metrics = agent.metrics().clone();
        let (_served, end) = tokio::sync::oneshot::channel::<()>();
        if let Some(listener) = health {
            tracing::info!(address = told_at, "health and metrics");
            tokio::spawn(tell_health(listener, metrics.clone(), end));
        }
        systemd.ready(&format!("watching at {} Hz", agent.hz()));
        tracing::info!(store = %config.store.path.display(), hz = agent.hz(), "watching");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Better to end, and be started again, than to go on and record nothing.
            () = agent.broken() => tracing::error!("a thread of the agent has ended; stopping"),
            () = keep_watchdog(&systemd, &metrics) => {}
        }
        systemd.stopping();
        // In a thread of its own: it waits, and who asks for health meanwhile is answered.
        let stopped = tokio::task::spawn_blocking(move || agent.stop_within(DRAIN)).await;
        stopped.context("end the agent")?
    })?;
    if kept.left_to_seal {
        tracing::info!("closed journals are left to be sealed by the next agent");
    }
    tracing::info!(
        instances = captured.instances,
        samples = captured.samples,
        written = kept.samples,
        lost = captured.lost,
        dropped = captured.dropped + captured.dropped_waiting + kept.lost + kept.let_go,
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

/// Serves health and metrics until `end` breaks.
async fn tell_health(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    end: tokio::sync::oneshot::Receiver<()>,
) {
    let end = async {
        let _ = end.await;
    };
    if let Err(error) = serve::run(listener, crate::http::health::routes(metrics), end).await {
        tracing::error!("serve health: {error}");
    }
}

/// Tells the service manager that the agent works, for as long as it does. Without one that asks, rests for ever.
async fn keep_watchdog(systemd: &Systemd, metrics: &Metrics) {
    let Some(interval) = systemd.watchdog_interval() else { return std::future::pending().await };
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_live = true;
    loop {
        interval.tick().await;
        let report = judge::live(metrics, crate::metrics::now_ns());
        if report.ok {
            systemd.works();
        } else if was_live {
            tracing::error!(
                "the watchdog is not told that the agent works: {}",
                report.text().replace('\n', "; ")
            );
        }
        was_live = report.ok;
    }
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
    config.docker.enabled &= !flags.no_docker;
    config.cgroup.parents.extend(flags.cgroup_parent);
    config.listen.health = flags.listen_health.unwrap_or(config.listen.health);
    Ok(config)
}
