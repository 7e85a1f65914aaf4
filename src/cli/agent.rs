//! `fnscope agent`: the daemon.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::settings::Settings;
use super::{Outcome, log, tunables};
use crate::agent::{Agent as Running, Reloaded, Reloader, Role};
use crate::config::{Config, LogFormat, Sources};
use crate::health::judge;
use crate::health::systemd::Systemd;
use crate::http::serve;
use crate::metrics::Metrics;

/// Arguments of `agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Flags go over variables of the environment, and those over the configuration file; deploy/README.md lists its keys, such \
as what is kept and for how long:
  [store]
  max_age = \"30d\"                # \"0\": for ever; FNSCOPE_STORE_MAX_AGE=30d is the same
  max_bytes = \"20GiB\"            # \"0\": no limit
  [budget]                       # near these it does less, in steps, and says so
  memory = \"256MiB\"             # besides the rings
  cpu = \"2%\"                    # of all CPUs together
`fnscope config check` tells what is in force. SIGHUP reads all of it again, takes over what it can and names the rest.

Examples:
  sudo fnscope agent                                      this host's functions, to /var/lib/fnscope
  sudo fnscope agent --functions all --store /srv/prof    every container
  sudo fnscope agent --no-docker --cgroup-parent /fn      each cgroup in /fn, as /fn/resize@7.1")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// How long it may take to write what is left, of the five seconds that an end may take.
const DRAIN: Duration = Duration::from_millis(3_500);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: Args, revision: Option<&'static str>) -> anyhow::Result<Outcome> {
    tunables::turn_off_thread_caches();
    let sources = args.settings.sources();
    let config = match sources.load() {
        Ok(resolved) => resolved.config,
        Err(faults) => {
            log::init(LogFormat::Text);
            return Err(faults.into());
        }
    };
    log::init(config.log.format);
    match (config.log.format, watch(&config, &sources, revision)) {
        // Who reads JSON reads nothing else.
        (LogFormat::Json, Err(error)) => {
            tracing::error!("{error:#}");
            Ok(Outcome::Exit(2))
        }
        (_, outcome) => outcome,
    }
}

fn watch(config: &Config, sources: &Sources, revision: Option<&'static str>) -> anyhow::Result<Outcome> {
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
        let mut hangup = signal(SignalKind::hangup())?;
        let agent = Running::start(config, Role::Daemon)?;
        let metrics = agent.metrics().clone();
        if let Some(revision) = revision {
            metrics.tell_revision(revision);
        }
        let (_served, end) = tokio::sync::oneshot::channel::<()>();
        if let Some(listener) = health {
            tracing::info!(address = told_at, "health and metrics");
            tokio::spawn(tell_health(listener, metrics.clone(), end));
        }
        systemd.ready(&format!("watching at {} Hz", agent.hz()));
        tracing::info!(store = %config.store.path.display(), hz = agent.hz(), "watching");
        let watchdog = keep_watchdog(&systemd, &metrics);
        tokio::pin!(watchdog);
        let mut reloading = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv(), if reloading.is_none() => {
                    systemd.reloading();
                    let (reloader, sources) = (agent.reloader(), sources.clone());
                    // In a thread of its own: it waits for the capture thread.
                    reloading = Some(tokio::task::spawn_blocking(move || reload(&reloader, &sources)));
                }
                () = end_of(&mut reloading) => {
                    reloading = None;
                    systemd.ready(&format!("watching at {} Hz", agent.hz()));
                }
                // Better to end, and be started again, than to go on and record nothing.
                () = agent.broken() => {
                    tracing::error!("a thread of the agent has ended; stopping");
                    break;
                }
                () = &mut watchdog => {}
            }
        }
        systemd.stopping();
        // In a thread of its own: it waits, and who asks for health meanwhile is answered.
        let stopped = tokio::task::spawn_blocking(move || agent.stop_within(DRAIN)).await;
        stopped.context("end the agent")?
    })?;
    // A reload that still waits is not waited for.
    reactor.shutdown_background();
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

/// Waits for the end of `task`; for ever where there is none.
async fn end_of(task: &mut Option<JoinHandle<()>>) {
    match task {
        // One that panicked has said so.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Reads the configuration again. One with a fault changes nothing.
fn reload(agent: &Reloader, sources: &Sources) {
    let reloaded = sources
        .load()
        .map_err(|faults| faults.in_a_line())
        .and_then(|resolved| agent.reload(&resolved.config).map_err(|error| format!("{error:#}")));
    match reloaded {
        Ok(Reloaded { applied, needs_restart }) => {
            let applied = if applied.is_empty() { "nothing".into() } else { applied.join(", ") };
            tracing::info!("configuration read again; applied: {applied}");
            if !needs_restart.is_empty() {
                tracing::warn!("needs a restart to be applied: {}", needs_restart.join(", "));
            }
        }
        Err(faults) => tracing::error!("configuration read again and refused, nothing is changed: {faults}"),
    }
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
