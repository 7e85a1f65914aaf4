//! What was started, done and read, a JSON object a line: the truth that the store is compared with. It outlives the
//! program, so a soak that was interrupted goes on with it.
//!
//! All times are of the monotonic clock: the wall clock is stepped on purpose.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry {
    /// A container, from its start to its end.
    Life(Life),
    /// An agent, from when it watched to its end.
    Agent(AgentLife),
    /// Something that was done to the host.
    Fault(Fault),
    /// What the agent held.
    Reading(Reading),
    /// A question that the store was asked.
    Question(Question),
    /// How long before a kill the last sample was that the store has.
    Loss(Loss),
    /// Something that must never be, seen while the soak ran.
    Broken(Broken),
}

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Life {
    /// `docker` or `cgroup`.
    pub runtime: String,
    /// Docker's id, or the name of the cgroup.
    pub name: String,
    /// Which command of the example function ran in it, which is its function's name too.
    pub function: String,
    /// From here.
    pub begin_ns: u64,
    /// To here.
    pub end_ns: u64,
    /// CPU time by its cgroup's own account, read when all of it had ended.
    pub account_us: Option<u64>,
    /// CPU time that the program told of itself, from its exec on.
    pub told_us: Option<u64>,
    /// When the program said that it was done, by itself.
    pub done_ns: Option<u64>,
    /// Whether it was killed.
    pub killed: bool,
}

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentLife {
    /// Counted from 1.
    pub number: u32,
    /// When it watched.
    pub begin_ns: u64,
    /// When it was told to end, or had ended.
    pub end_ns: u64,
    /// `TERM`, `KILL`, or `itself`.
    pub how: String,
    /// From the signal to its end.
    pub drain_ms: u64,
    /// Its warnings and errors.
    pub log: Vec<String>,
}

/// A fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// Its name.
    pub kind: String,
    /// From here.
    pub begin_ns: u64,
    /// To here.
    pub end_ns: u64,
    /// What was done, or why it could not be.
    pub note: String,
    /// Whether it was done.
    pub done: bool,
}

/// A reading of the agent's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reading {
    /// Which agent.
    pub agent: u32,
    /// When.
    pub at_ns: u64,
    /// Memory besides the rings.
    pub memory_kib: u64,
    /// Open files.
    pub files: u64,
    /// What they are, and how many of each: where their number rises, the first question.
    pub kinds: BTreeMap<String, u64>,
}

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// As it was typed.
    pub asked: String,
    /// When.
    pub at_ns: u64,
    /// How long the answer took.
    pub took_ms: u64,
    /// What was wrong with it.
    pub wrong: Option<String>,
}

/// What a kill cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Loss {
    /// When it was killed.
    pub at_ns: u64,
    /// From the last sample stored to the kill.
    pub lost_ms: u64,
}

/// What must never be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Broken {
    /// When it was seen.
    pub at_ns: u64,
    /// Which invariant.
    pub invariant: String,
    /// What was seen.
    pub seen: String,
}

/// The file.
pub struct Ledger {
    file: Mutex<File>,
}

impl Ledger {
    /// Goes on with the one at `path`, or begins it.
    pub fn open(path: &Path) -> anyhow::Result<Ledger> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Ledger { file: Mutex::new(file.with_context(|| format!("open {}", path.display()))?) })
    }

    /// Writes `entry` down.
    pub fn write(&self, entry: Entry) {
        let line = serde_json::to_string(&entry).expect("texts and numbers are JSON") + "\n";
        let mut file = self.file.lock().expect("nobody panics while writing");
        file.write_all(line.as_bytes()).expect("room for a line of the ledger");
    }

    /// All that was written at `path`, without an unfinished last line.
    pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Now, by the monotonic clock.
pub fn now_ns() -> u64 {
    fnscope::perf::Clock::monotonic_ns()
}
