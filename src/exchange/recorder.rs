//! Events into the store: a writer of its own, one instance of one function, batches as they come.
//!
//! Promises: nothing is made before the first event; memory for a batch and a bounded memo, however many events; what
//! was appended stays, whatever happens after it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use thiserror::Error;

use super::event::{Event, Reason, Skipped};
use super::text;
use crate::model::identity::bounded_name;
use crate::model::{
    Batch, CgroupId, Confidence, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo, Sample, Stack,
    Timestamp, WriterInfo,
};
use crate::store::{JournalWriter, Store};

/// Where to, as which function.
#[derive(Debug, Clone)]
pub struct Target {
    /// The store's directory.
    pub store: PathBuf,
    /// The function.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
    /// The platform it is filed under.
    pub platform: String,
    /// The host it ran on.
    pub node: String,
    /// Time that each sample stands for, in nanoseconds, whatever the input says.
    pub period_ns: Option<u64>,
    /// The same where the input does not say.
    pub default_period_ns: u64,
    /// When the first event was, whatever the input says.
    pub at: Option<Timestamp>,
    /// When it was where the input does not say.
    pub default_at: Timestamp,
    /// Most samples that counts may stand for.
    pub max_counted: u64,
}

/// A count that would fill the disk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("its counts stand for more than {max} samples; are they nanoseconds? --max-samples raises the limit")]
pub struct TooManySamples {
    max: u64,
}

/// Samples of a batch.
const BATCH_SAMPLES: usize = 16 << 10;
/// Bytes of new stacks of a batch, roughly.
const BATCH_BYTES: usize = 4 << 20;
/// A batch waits no longer for more, if anything comes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of stacks and frames that are remembered, roughly.
const MEMO_BYTES: usize = 32 << 20;
/// Different periods that get a journal each; more are counted with the first.
const MAX_PERIODS: usize = 16;
/// Times before this are of a clock that began when the host did: 2000-01-01.
const EARLIEST_US: i64 = 946_684_800_000_000;
/// Times so far from the first are no times.
const FAR_US: i64 = 400 * 86_400_000_000;
const NO: InstanceNo = InstanceNo(0);

/// Takes events.
pub struct Recorder<'a> {
    target: &'a Target,
    info: Option<InstanceInfo>,
    journals: BTreeMap<u64, Journal>,
    frames: HashMap<Arc<str>, Arc<str>>,
    stacks: HashMap<Vec<Arc<str>>, Arc<Stack>>,
    memo_bytes: usize,
    first_told: Option<Timestamp>,
    shift_us: i64,
    recorded: Recorded,
}

/// What was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Events.
    pub events: u64,
    /// Samples they stand for.
    pub samples: u64,
    /// Time they stand for, in nanoseconds.
    pub time_ns: u64,
    /// First and last, as they are stored.
    pub seen: Option<(Timestamp, Timestamp)>,
    /// The first event's own time, where it was moved.
    pub moved_from: Option<Timestamp>,
    /// Whether a period was made up.
    pub assumed_period: bool,
    /// Samples whose own period is not theirs in the store.
    pub other_period: u64,
}

struct Journal {
    writer: JournalWriter,
    samples: Vec<Sample>,
    bytes: usize,
    since: Instant,
    introduced: bool,
}

impl<'a> Recorder<'a> {
    /// For `target`.
    pub fn new(target: &'a Target) -> Recorder<'a> {
        Recorder {
            target,
            info: None,
            journals: BTreeMap::new(),
            frames: HashMap::new(),
            stacks: HashMap::new(),
            memo_bytes: 0,
            first_told: None,
            shift_us: 0,
            recorded: Recorded::default(),
        }
    }

    /// Takes an event of line, or sample, `line`.
    ///
    /// # Errors
    /// If the store cannot be written to, or [`TooManySamples`].
    pub fn add(&mut self, event: Event, line: u64, skipped: &mut Skipped) -> anyhow::Result<()> {
        let Some(time) = self.time(event.time) else {
            skipped.add(Reason::FarTime, line);
            return Ok(());
        };
        let total = self.recorded.samples.checked_add(event.count);
        if event.count > 1 && total.is_none_or(|total| total > self.target.max_counted) {
            return Err(TooManySamples { max: self.target.max_counted }.into());
        }
        let told = self.target.period_ns.or(event.period_ns);
        self.recorded.assumed_period |= told.is_none();
        let mut period_ns = told.unwrap_or(self.target.default_period_ns).max(1);
        if !self.journals.contains_key(&period_ns) && self.journals.len() >= MAX_PERIODS {
            self.recorded.other_period += event.count;
            period_ns = self.journals.keys().next().copied().unwrap_or(period_ns);
        }
        let (stack, new_bytes) = self.stack(event.frames);
        let comm = self.interned(&event.comm);
        self.recorded.events += 1;
        self.recorded.samples += event.count;
        self.recorded.time_ns = self.recorded.time_ns.saturating_add(event.count.saturating_mul(period_ns));
        let (first, last) = self.recorded.seen.unwrap_or((time, time));
        self.recorded.seen = Some((first.min(time), last.max(time)));
        if !self.journals.contains_key(&period_ns) {
            let journal = self.journal(period_ns, time)?;
            self.journals.insert(period_ns, journal);
        }
        let info = self.info.get_or_insert_with(|| instance(self.target, time)).clone();
        let Some(journal) = self.journals.get_mut(&period_ns) else { return Ok(()) };
        journal.bytes += new_bytes;
        for _ in 0..event.count {
            journal.samples.push(Sample {
                time,
                instance: NO,
                pid: event.pid,
                tid: event.tid,
                comm: Arc::clone(&comm),
                cpu: event.cpu,
                stack: Arc::clone(&stack),
            });
            let due = journal.samples.len() >= BATCH_SAMPLES || journal.bytes >= BATCH_BYTES;
            if due || (journal.samples.len() % 256 == 1 && journal.since.elapsed() > PATIENCE) {
                journal.flush(self.target, &info)?;
            }
        }
        Ok(())
    }

    /// Appends what is left, ends the instance and closes the journals; what was recorded.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn finish(self) -> anyhow::Result<Recorded> {
        if let (Some(info), Some((_, last))) = (&self.info, self.recorded.seen) {
            for (_, mut journal) in self.journals {
                journal.flush(self.target, info)?;
                let ended = Entry::Ended { no: NO, at: last, exit_code: None, oom: false };
                journal.append(&Batch { entries: vec![ended], ..Batch::default() })?;
                journal.writer.finish().context("write the folded files of what was imported")?;
            }
        }
        Ok(self.recorded)
    }

    /// What was recorded so far.
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// When an event was that says it was at `told`; none for what is no time.
    fn time(&mut self, told: Option<Timestamp>) -> Option<Timestamp> {
        let at = self.target.at.unwrap_or(self.target.default_at);
        let Some(told) = told else { return Some(at) };
        let first = match self.first_told {
            Some(first) => first,
            None => {
                self.first_told = Some(told);
                if self.target.at.is_some() || told.0 < EARLIEST_US {
                    self.shift_us = at.since_us(told);
                    self.recorded.moved_from = Some(told);
                }
                told
            }
        };
        (told.since_us(first).unsigned_abs() <= FAR_US.unsigned_abs()).then(|| told.plus_us(self.shift_us))
    }

    fn stack(&mut self, frames: Vec<Arc<str>>) -> (Arc<Stack>, usize) {
        if let Some(stack) = self.stacks.get(&frames) {
            return (Arc::clone(stack), 0);
        }
        if self.memo_bytes > MEMO_BYTES {
            self.frames.clear();
            self.stacks.clear();
            self.memo_bytes = 0;
        }
        let frames: Vec<Arc<str>> = frames.iter().map(|frame| self.interned(frame)).collect();
        let bytes = 64 + frames.iter().map(|frame| frame.len() + 16).sum::<usize>();
        self.memo_bytes += 64 + 32 * frames.len();
        let stack = Arc::new(text::stack(frames.clone()));
        self.stacks.insert(frames, Arc::clone(&stack));
        (stack, bytes)
    }

    fn interned(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.frames.get(text) {
            return Arc::clone(known);
        }
        self.memo_bytes += text.len() + 64;
        self.frames.insert(Arc::clone(text), Arc::clone(text));
        Arc::clone(text)
    }

    fn journal(&self, period_ns: u64, started_at: Timestamp) -> anyhow::Result<Journal> {
        let hz = 1_000_000_000u64.checked_div(period_ns).unwrap_or(0);
        let info = WriterInfo {
            node: self.target.node.clone(),
            boot_id: "0".repeat(32),
            writer: "import".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: String::new(),
            cpu_model: None,
            cpus: 0,
            event: "cpu-clock".into(),
            hz: u32::try_from(hz).unwrap_or(u32::MAX),
            period_ns,
            started_at,
        };
        let writer = Store::create(&self.target.store).and_then(|store| store.journal(info))?;
        Ok(Journal { writer, samples: Vec::new(), bytes: 0, since: Instant::now(), introduced: false })
    }
}

impl Journal {
    fn flush(&mut self, target: &Target, info: &InstanceInfo) -> anyhow::Result<()> {
        self.since = Instant::now();
        if self.samples.is_empty() {
            return Ok(());
        }
        let mut samples = std::mem::take(&mut self.samples);
        samples.sort_by_key(|sample| sample.time);
        let mut entries = Vec::new();
        if !self.introduced {
            entries.push(Entry::Instance { no: NO, info: info.clone() });
            entries.push(Entry::Identity { no: NO, from: info.started_at, identity: identity(target) });
        }
        let batch = Batch { entries, samples, ..Batch::default() };
        self.append(&batch)?;
        self.introduced = true;
        self.bytes = 0;
        self.samples = batch.samples;
        self.samples.clear();
        Ok(())
    }

    fn append(&mut self, batch: &Batch) -> anyhow::Result<()> {
        self.writer.append(batch).context("store what was imported").map(drop)
    }
}

fn instance(target: &Target, started_at: Timestamp) -> InstanceInfo {
    // The time of the import makes the key its own; nothing else looks at the number.
    let now = jiff::Timestamp::now().as_nanosecond();
    let id = CgroupId(u64::try_from(now).unwrap_or(0));
    let name = bounded_name(&target.name);
    InstanceInfo {
        key: InstanceKey::new(&format!("import-{name}"), "0".repeat(8).as_str(), id),
        runtime: Some("import".into()),
        container_id: String::new(),
        cgroup_path: String::new(),
        cgroup_id: id,
        image: None,
        started_at,
        from_birth: false,
    }
}

fn identity(target: &Target) -> Identity {
    Identity {
        function_container: true,
        platform: Some(bounded_name(&target.platform)),
        namespace: target.namespace.as_deref().map(bounded_name),
        function: Some(bounded_name(&target.name)),
        revision: target.revision.as_deref().map(bounded_name),
        instance_name: None,
        confidence: Confidence::Exact,
        rule: "import".into(),
    }
}
