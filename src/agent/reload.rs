//! What of a new configuration a running agent takes over, and what waits for a restart.
//!
//! [`LIVE`] says which keys; [`Reloader::reload`] hands them to those who use them. Promises: what is told as applied is in
//! use, for containers that begin from then on and for hours that end from then on; nothing else changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Agent;
use super::budget::Limits;
use super::control::{Command, Control};
use crate::config::{Config, keys};
use crate::identity::{IdentityConfig, Keys};
use crate::model::Swap;
use crate::store::archive::TidyOptions;

/// Keys that a running agent takes over; one that ends with a dot stands for all that begin so. A key belongs here once
/// something uses its new value.
const LIVE: &[&str] = &[
    "store.max_age",
    "store.max_bytes",
    "store.min_free_bytes",
    "store.folded",
    "functions",
    "identity.",
    "isolation.",
    "off_cpu.",
    "budget.",
];

/// Keys that the agent has no use for.
const NOT_THE_AGENTS: &[&str] = &["cost."];

/// How long the capture thread may take: it answers between two ticks.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Keys whose new value is in use.
    pub applied: Vec<String>,
    /// Keys that have a new value which only a restart takes over.
    pub needs_restart: Vec<String>,
}

/// The parts of a running agent that can be changed.
pub(super) struct Live {
    /// The configuration that is in use.
    config: Mutex<Config>,
    pub(super) tidy: Swap<TidyOptions>,
    pub(super) identity: Swap<IdentityConfig>,
    pub(super) keys: Swap<Keys>,
}

impl Live {
    pub(super) fn new(config: &Config, tidy: TidyOptions) -> Live {
        let identity = config.identity();
        Live {
            config: Mutex::new(config.clone()),
            tidy: tidy.into(),
            keys: identity.keys().into(),
            identity: identity.into(),
        }
    }
}

/// Changes the configuration of a running agent, from any thread.
#[derive(Clone)]
pub struct Reloader {
    control: Control,
    live: Arc<Live>,
}

impl Agent {
    /// What changes its configuration.
    pub fn reloader(&self) -> Reloader {
        Reloader { control: self.control.clone(), live: self.live.clone() }
    }
}

impl Reloader {
    /// Takes over what it can of `new`, a configuration without faults. Waits for the capture thread.
    ///
    /// # Errors
    /// It has faults after all, or the capture thread does not answer in ten seconds, or has ended; nothing changes then,
    /// later either.
    pub fn reload(&self, new: &Config) -> anyhow::Result<Reloaded> {
        let mut running = self.live.config.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, reloaded) = merged(&running, new)?;
        let tidy = super::options::tidy_options(&next.store)?;
        let budget = super::options::budget(&next)?;
        let identity = next.identity();
        self.hand_over(&next, budget, PATIENCE)?;
        self.live.tidy.set(tidy);
        // Before the rules that read them.
        let keys = identity.keys();
        if *self.live.keys.get() != keys {
            self.live.keys.set(keys);
        }
        self.live.identity.set(identity);
        *running = next;
        Ok(reloaded)
    }

    fn hand_over(&self, next: &Config, budget: Limits, patience: Duration) -> anyhow::Result<()> {
        let (done, is_done) = channel();
        let taken = Arc::<AtomicBool>::default();
        let config = Box::new(next.clone());
        self.control.ask(Command::Reload { config, budget, taken: taken.clone(), done });
        let late = "the capture thread does not take over the configuration";
        match is_done.recv_timeout(patience) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) if !taken.swap(true, Ordering::Relaxed) => bail!(late),
            // It is at it just now, or has ended.
            Err(_) => is_done.recv().context(late),
        }
    }
}

/// `running` with what can be taken over of `new`, and what that is.
fn merged(running: &Config, new: &Config) -> anyhow::Result<(Config, Reloaded)> {
    let (old_values, new_values) = (keys::values(running)?, keys::values(new)?);
    let mut reloaded = Reloaded::default();
    for ((key, old), (_, new)) in old_values.iter().zip(&new_values) {
        if old == new || is_one_of(NOT_THE_AGENTS, key) {
            continue;
        }
        let list = if is_one_of(LIVE, key) { &mut reloaded.applied } else { &mut reloaded.needs_restart };
        list.push(key.clone());
    }
    Ok((running.taking(new, |key| is_one_of(LIVE, key))?, reloaded))
}

fn is_one_of(keys: &[&str], key: &str) -> bool {
    keys.iter().any(|known| *known == key || known.ends_with('.') && key.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{File, Layers, resolve};

    fn config(text: &str) -> Config {
        let file = File { path: "a.toml".into(), text: text.into() };
        resolve(&Layers { file: Some(file), ..Layers::default() }).unwrap_or_else(|f| panic!("{f}")).config
    }

    #[test]
    fn what_can_be_is_taken_over_and_the_rest_is_named() {
        let running = config("hz = 99\nnode = \"a\"\n[identity]\nenv = [\"A\"]\n");
        let new = config(
            "hz = 199\nfunctions = \"all\"\n[store]\nmax_age = \"7d\"\npath = \"/x\"\n[cost]\ncurrency = \"EUR\"\n\
             [[identity.rules]]\nimage = \"*\"\nfunction = \"${name}\"\n",
        );
        let (next, reloaded) = merged(&running, &new).unwrap();
        assert_eq!(reloaded.applied, ["store.max_age", "functions", "identity.env", "identity.rules"]);
        assert_eq!(reloaded.needs_restart, ["store.path", "node", "hz"]);
        assert_eq!((next.hz, next.node.as_deref(), next.store.max_age.as_str()), (99, Some("a"), "7d"));
        assert_eq!(next.identity(), new.identity());
        // A second reload still names what a restart has not taken over.
        let (again, reloaded) = merged(&next, &new).unwrap();
        assert_eq!((again == next, reloaded.applied.len(), reloaded.needs_restart.len()), (true, 0, 3));
    }

    #[test]
    fn what_nobody_took_over_in_time_is_not_taken_over_later() {
        let config = config("hz = 99\n");
        let (control, commands, _wake) = Control::new().unwrap();
        let tidy = crate::agent::options::tidy_options(&config.store).unwrap();
        let reloader = Reloader { control, live: Live::new(&config, tidy).into() };
        let budget = crate::agent::options::budget(&config).unwrap();
        let late = reloader.hand_over(&config, budget, Duration::ZERO);
        assert!(late.unwrap_err().to_string().contains("does not take over"));
        let Some(Command::Reload { taken, .. }) = commands.take() else { panic!("it was asked for") };
        assert!(taken.swap(true, Ordering::Relaxed), "the capture thread finds it taken, and leaves it");
        drop(commands);
        assert!(reloader.hand_over(&config, budget, PATIENCE).is_err(), "it has ended");
        // One that is at it when the time is over.
        let (control, commands, _wake) = Control::new().unwrap();
        let reloader = Reloader { control, ..reloader };
        let capture = std::thread::spawn(move || {
            let Ok(Command::Reload { taken, done, .. }) = commands.asked.recv() else {
                panic!("it was asked for")
            };
            let first = !taken.swap(true, Ordering::Relaxed);
            if first {
                done.send(()).unwrap();
            }
            first
        });
        let done = reloader.hand_over(&config, budget, Duration::ZERO).is_ok();
        assert_eq!(capture.join().unwrap(), done);
    }

    #[test]
    fn the_documents_say_the_same() {
        let table = include_str!("../../deploy/README.md");
        for key in keys::all() {
            let is_row = |line: &&str| {
                let first = line.strip_prefix("| ").and_then(|row| row.split(" |").next());
                first.is_some_and(|cell| cell.split(", ").any(|name| name == format!("`{key}`")))
            };
            let row = table.lines().find(is_row);
            let row = row.unwrap_or_else(|| panic!("{key} is not in deploy/README.md"));
            let reload = row.split('|').rev().nth(1).unwrap_or_default().trim();
            let expected = match key {
                key if is_one_of(LIVE, key) => "SIGHUP",
                key if is_one_of(NOT_THE_AGENTS, key) => "",
                _ => "restart",
            };
            assert_eq!(reload, expected, "{key}: {row}");
        }
        for key in LIVE.iter().chain(NOT_THE_AGENTS) {
            assert!(keys::all().any(|known| is_one_of(&[*key], known)), "{key} is no key");
        }
    }
}
