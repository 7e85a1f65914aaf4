//! What the capture thread is told: by runtimes, by who finds out without them, by the agent.

use std::sync::atomic::Ordering;

use super::Capture;
use crate::agent::control::Command;
use crate::agent::pace::News;
use crate::config::Config;
use crate::perf::{Clock, Mode};

impl Capture {
    /// Does what the agent's other threads ask for. True if that was to end.
    pub(super) fn commands(&mut self) -> bool {
        let mut last = false;
        while let Some(command) = self.setup.commands.take() {
            let now = self.moment(Clock::monotonic_ns());
            self.pace.heard(News::Ours, now.ns);
            let join = &mut self.setup.attribution;
            match command {
                Command::Claim(claim) => {
                    join.claim(*claim, now).into_iter().for_each(|no| self.claimed(no));
                }
                Command::Discovered { no, claim } => self.discovered(no, claim),
                Command::Runtime(runtime, state) => self.rescan |= join.runtime(runtime, state, now),
                Command::Started { container, pid, at } => self.started(&container, pid, at),
                Command::Fact { container, at, fact } => join.fact_of(&container, at, fact),
                Command::Later { whom, later, at, from } => self.told_later(whom, *later, at, from),
                Command::FactOf { whom, at, fact } => self.told_fact(&whom, at, &fact),
                Command::Exited { container, exit_code, oom, at } => {
                    join.exited(&container, exit_code, oom, at.unwrap_or(now.wall));
                    join.apart_gone(&container, at.unwrap_or(now.wall), now);
                }
                Command::Forgotten { container, runtime, at } => {
                    let at = at.unwrap_or(now.wall);
                    join.apart_gone(&container, at, now);
                    join.forgotten(&container, runtime, at);
                }
                Command::Watching { path, reply } => {
                    self.take_side_band();
                    self.follow_demand();
                    let watched = self.setup.attribution.instance_at(&path).is_some();
                    let _ = reply.send(watched && self.setup.sampler.mode() != Mode::Off);
                }
                // Whoever follows another part of it takes that here.
                Command::Reload { config, budget, taken, done } => {
                    // Whoever asked has waited too long, and said that nothing is changed.
                    if taken.swap(true, Ordering::Relaxed) {
                        continue;
                    }
                    self.governor.set_limits(budget);
                    self.reload(&config);
                    let _ = done.send(());
                }
                Command::Finish => last = true,
            }
        }
        last
    }

    /// What the configuration says from now on.
    fn reload(&mut self, config: &Config) {
        self.setup.identity = config.identity();
        self.reload_switches(&config.off_cpu);
    }
}
