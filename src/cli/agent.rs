//! `fnscope agent`: the daemon.

use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use super::settings::Settings;
use crate::agent::{Agent as Running, Reloaded, Role};
use crate::config::Sources;

/// Arguments of `agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Flags go over variables of the environment, and those over the configuration file; deploy/README.md lists its keys, such \
as what is kept and for how long:
  [store]
  max_age = \"30d\"                # \"0\": for ever; FNSCOPE_STORE_MAX_AGE=30d is the same
  max_bytes = \"20GiB\"            # \"0\", the default: no limit
`fnscope config check` tells what is in force. SIGHUP reads all of it again, takes over what it can and names the rest.

Examples:
  sudo fnscope agent                                      Docker's functions, to /var/lib/fnscope
  sudo fnscope agent --functions all --store /srv/prof    every container of Docker
  sudo fnscope agent --no-docker --cgroup-parent /fn      each cgroup in /fn, as /fn/resize@7.1")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let sources = args.settings.sources();
    let config = sources.load()?.config;
    let reactor = super::reactor()?;
    let agent = reactor.block_on(async {
        // Before anything is opened: a signal from here on ends the agent in order.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let agent = Running::start(&config, Role::Daemon)?;
        tracing::info!(store = %config.store.path.display(), hz = agent.hz(), "watching");
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(&agent, &sources),
                // Better to end, and be started again, than to go on and record nothing.
                () = agent.broken() => {
                    tracing::error!("a thread of the agent has ended; stopping");
                    break;
                }
            }
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

/// Reads the configuration again. One with a fault changes nothing.
fn reload(agent: &Running, sources: &Sources) {
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
