//! Data for a store, made by rule from a seed and written as the agent writes: batches into journals, which are sealed.
//!
//! The shape, on which bytes a sample depend: an instance is a container with one process of four threads, the first
//! of which has half of its samples; it lives for a stretch of the time, or for all of it. Its samples are spread
//! evenly over its life, each at any microsecond of its batch, on any CPU, with one of its function's stacks: that of
//! rank r of n is taken with a probability that falls as r^(-0.6). Stacks are 6 to 40 frames deep; their frames come
//! from 400 that all functions share (a runtime's), 60 of the function's own and, on top of every fourth, 40 of the
//! kernel. One stack in 16 is truncated and one in 16 has a frame without a symbol. A cgroup's CPU time is read every
//! ten seconds and at the end; instances of every third function are throttled. Ring losses: one sample in 8 of CPU 0,
//! in every tenth batch. One instance in 50 that ends dies for want of memory.
//!
//! Promises: the same shape is the same data; what was fed in is counted by function, revision and hour.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use fnscope::model::{
    Batch, CgroupId, Confidence, CpuSource, CpuStats, Entry, Fact, Frame, FrameKind, Identity, InstanceInfo,
    InstanceKey, InstanceNo, Quality, Sample, Stack, Timestamp, Wait, WriterInfo, frame,
};
use fnscope::store::archive::{Tidied, TidyOptions};
use fnscope::store::{AtClose, JournalWriter, Store};

/// 2026-11-23T00:00:00Z in microseconds.
pub const MIDNIGHT: i64 = 1_795_392_000_000_000;
/// An hour in microseconds.
pub const HOUR_US: i64 = 3_600_000_000;
/// Time that a sample stands for: 10 ms.
pub const PERIOD_NS: u64 = 10_000_000;
const PERIOD_US: u64 = PERIOD_NS / 1_000;
const READING_US: i64 = 10_000_000;
const THREADS: u64 = 4;
/// From an instance's start to its exec.
const INIT_US: i64 = 100_000;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Where the dice begin.
    pub seed: u64,
    /// The hour of the first day in which it begins.
    pub first: i64,
    /// How many hours.
    pub hours: i64,
    /// Functions, called `fn-000` and so on.
    pub functions: u32,
    /// Revisions of each; instances take them in turn.
    pub revisions: u32,
    /// Instances of all functions, which take them in turn.
    pub instances: u32,
    /// Samples of each instance.
    pub samples: u64,
    /// How long an instance lives; none for all of the time.
    pub life_us: Option<i64>,
    /// Distinct stacks of each function.
    pub stacks: u32,
    /// CPUs of the host.
    pub cpus: u32,
    /// How much time is one batch.
    pub batch_us: i64,
}

impl Shape {
    /// Its begin and its end.
    fn stretch(&self) -> (i64, i64) {
        (MIDNIGHT + self.first * HOUR_US, MIDNIGHT + (self.first + self.hours) * HOUR_US)
    }

    /// Samples of all instances.
    pub fn all(&self) -> u64 {
        self.samples * u64::from(self.instances)
    }
}

/// 5 million samples over 24 hours: 10 functions, 10 instances each, 2,000 stacks.
pub const A: Shape = Shape {
    seed: 1,
    first: 0,
    hours: 24,
    functions: 10,
    revisions: 1,
    instances: 100,
    samples: 50_000,
    life_us: None,
    stacks: 200,
    cpus: 8,
    batch_us: 30_000_000,
};

/// 5,000 containers with 40 samples each in one hour: 893 functions with 20 stacks each.
pub const B: Shape = Shape {
    seed: 2,
    first: 23,
    hours: 1,
    functions: 893,
    revisions: 1,
    instances: 5_000,
    samples: 40,
    life_us: Some(600_000),
    stacks: 20,
    cpus: 8,
    batch_us: 2_000_000,
};

/// 50 million samples, else as [`A`].
pub const BIG: Shape = Shape { seed: 3, samples: 500_000, ..A };

/// What was fed in.
#[derive(Debug, Default)]
pub struct Fed {
    /// Samples.
    pub samples: u64,
    /// Samples by function, revision and hour since the first midnight.
    pub totals: BTreeMap<(String, String, i64), u64>,
    /// Samples that CPUs' rings lost.
    pub ring_lost: u64,
    /// Instances that died for want of memory, by name.
    pub oom: Vec<String>,
    /// Times each function was throttled, and for how many microseconds.
    pub throttled: BTreeMap<String, (u64, u64)>,
    /// CPU time of the appends, in nanoseconds.
    pub append_ns: u64,
}

/// A store in the making.
pub struct Making {
    store: Store,
    writer: JournalWriter,
    shape: Shape,
    dice: Dice,
    lives: Vec<Life>,
    stacks: Vec<Vec<Arc<Stack>>>,
    /// Each sample of so many has a wait that ends with it; none unless it is set.
    pub wait_every: Option<usize>,
    /// What was fed in so far.
    pub fed: Fed,
}

struct Life {
    no: InstanceNo,
    function: u32,
    revision: u32,
    from: i64,
    to: i64,
    samples: u64,
    done: u64,
    told_us: u64,
    stopped: (u64, u64),
    comm: Arc<str>,
}

impl Making {
    /// Begins a store of `shape` at `root`.
    pub fn begin(root: &Path, shape: Shape) -> anyhow::Result<Making> {
        let info = WriterInfo {
            node: "node-1".into(),
            boot_id: "6e9d3f62-1111-2222-3333-444455556666".into(),
            writer: "agent".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: "6.8.0".into(),
            cpu_model: None,
            cpus: shape.cpus,
            event: "cpu-clock".into(),
            hz: 100,
            period_ns: PERIOD_NS,
            started_at: Timestamp(shape.stretch().0),
        };
        let store = Store::create(root)?;
        let writer = store.journal_with(info, AtClose::Keep)?;
        let mut dice = Dice(shape.seed);
        let (begin, end) = shape.stretch();
        let lives = (0..shape.instances).map(|no| {
            let (from, to) = match shape.life_us {
                None => (begin, end),
                Some(length) => {
                    let room = end - begin - length;
                    let from = begin + room * i64::from(no) / i64::from(shape.instances.max(1));
                    (from, from + length)
                }
            };
            Life {
                no: InstanceNo(no),
                function: no % shape.functions,
                revision: no / shape.functions % shape.revisions + 1,
                from,
                to,
                samples: shape.samples,
                done: 0,
                told_us: 0,
                stopped: (0, 0),
                comm: format!("{}-main", function(no % shape.functions)).into(),
            }
        });
        let lives = lives.collect();
        let shared = frames(&mut dice, 400, "runtime", "libruntime.so.6", FrameKind::Native);
        let kernel = frames(&mut dice, 40, "sys", "kernel", FrameKind::Kernel);
        let stacks = (0..shape.functions).map(|of| {
            let own = frames(&mut dice, 60, &format!("handler{of}"), &function(of), FrameKind::Native);
            (0..shape.stacks).map(|_| Arc::new(stack(&mut dice, &shared, &own, &kernel))).collect()
        });
        let stacks = stacks.collect();
        Ok(Making { store, writer, shape, dice, lives, stacks, wait_every: None, fed: Fed::default() })
    }

    /// Writes all of it; `each` sees the batches before they are stored.
    pub fn write(&mut self, mut each: impl FnMut(&Batch) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (begin, end) = self.shape.stretch();
        let (mut from, mut nth) = (begin, 0u64);
        while from < end {
            let to = (from + self.shape.batch_us).min(end);
            let batch = self.batch(from, to, nth);
            each(&batch)?;
            let before = thread_cpu_ns();
            self.writer.append(&batch).context("append a batch")?;
            self.fed.append_ns += thread_cpu_ns().saturating_sub(before);
            (from, nth) = (to, nth + 1);
        }
        Ok(())
    }

    /// Seals what is closed, as `fnscope seal` does; the journal being written stays. The CPU time it took, in
    /// nanoseconds.
    pub fn seal(&self, folded: bool) -> anyhow::Result<(Tidied, u64)> {
        seal(&self.store, folded)
    }

    /// Closes the last journal, which stays as it is.
    pub fn close(self) -> anyhow::Result<Fed> {
        self.writer.finish().context("close the journal")?;
        Ok(self.fed)
    }

    /// Closes the last journal and seals everything. What was fed in, what was sealed and the CPU time of that, in
    /// nanoseconds.
    pub fn finish(self, folded: bool) -> anyhow::Result<(Fed, Tidied, u64)> {
        self.writer.finish().context("close the journal")?;
        let (tidied, cpu_ns) = seal(&self.store, folded)?;
        Ok((self.fed, tidied, cpu_ns))
    }

    fn batch(&mut self, from: i64, to: i64, nth: u64) -> Batch {
        let mut batch = Batch::default();
        let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
        // Those that live in this batch: they begin in the order in which they are numbered.
        let first = self.lives.partition_point(|life| life.to <= from);
        for at in first..self.lives.len() {
            let Some(life) = self.lives.get_mut(at).filter(|life| life.from < to) else { break };
            let dice = &mut self.dice;
            if life.from >= from {
                life.begin(&mut batch.entries);
            }
            let (begin, end) = (life.from.max(from), life.to.min(to));
            let due = life.due(end) - life.done;
            life.done += due;
            let stacks = self.stacks.get(life.function as usize).map(Vec::as_slice).unwrap_or_default();
            for _ in 0..due {
                let sample = life.sample(dice, begin, end, stacks, self.shape.cpus);
                *seen.entry(sample.cpu).or_default() += 1;
                let hour = (sample.time.0 - MIDNIGHT) / HOUR_US;
                let key = (function(life.function), life.revision.to_string(), hour);
                *self.fed.totals.entry(key).or_default() += 1;
                batch.samples.push(sample);
            }
            life.readings(dice, begin, end, &mut batch.entries);
            if life.to <= to {
                life.end(&mut batch.entries, &mut self.fed);
            }
        }
        batch.samples.sort_by_key(|sample| sample.time);
        self.fed.samples += batch.samples.len() as u64;
        for (at, sample) in self
            .wait_every
            .into_iter()
            .flat_map(|every| batch.samples.iter().enumerate().step_by(every.max(1)))
        {
            let us = 1 + at as i64 * 7_919 % 90_000;
            let left = Sample { time: sample.time.plus_us(-us), ..sample.clone() };
            batch.waits.push(Wait { left, ns: us as u64 * 1_000, preempted: at.is_multiple_of(5) });
        }
        batch.waits.sort_by_key(|wait| wait.left.time);
        for (cpu, samples) in seen {
            // What the ring saw of strangers makes it a multiple of 8: a loss of one in 8 is a number that adds up
            // without an error.
            let samples = samples.div_ceil(8) * 8;
            let lost = if cpu == 0 && nth.is_multiple_of(10) { samples / 8 } else { 0 };
            self.fed.ring_lost += lost;
            batch.cpus.push(CpuStats { cpu, samples, lost });
        }
        batch
    }
}

/// Name of function number `no`.
pub fn function(no: u32) -> String {
    format!("fn-{no:03}")
}

/// CPU time of this thread so far, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn seal(store: &Store, folded: bool) -> anyhow::Result<(Tidied, u64)> {
    let lock = store.lock()?;
    let before = thread_cpu_ns();
    let options = TidyOptions { folded, ..TidyOptions::default() };
    let tidied = store.tidy(&lock, &options, |_, _| {})?;
    anyhow::ensure!(tidied.sealed.failed == 0, "{} journals could not be sealed", tidied.sealed.failed);
    Ok((tidied, thread_cpu_ns().saturating_sub(before)))
}

impl Life {
    fn begin(&mut self, entries: &mut Vec<Entry>) {
        let (no, name) = (self.no, function(self.function));
        let container_id = format!("{:016x}", Dice(u64::from(no.0) + 1_000).next()).repeat(4);
        let cgroup_id = CgroupId(u64::from(no.0) + 100);
        let started_at = Timestamp(self.from);
        let info = InstanceInfo {
            key: InstanceKey::new(&container_id, "6e9d3f62-1111", cgroup_id),
            runtime: Some("docker".into()),
            cgroup_path: format!("/docker/{container_id}"),
            cgroup_id,
            image: Some(format!("registry.example/{name}:{}", self.revision)),
            container_id,
            started_at,
            from_birth: true,
        };
        let identity = Identity {
            function_container: true,
            platform: Some("openfaas".into()),
            namespace: Some("openfaas-fn".into()),
            instance_name: Some(self.name()),
            function: Some(name),
            revision: Some(self.revision.to_string()),
            confidence: Confidence::Exact,
            rule: "openfaas".into(),
        };
        entries.push(Entry::Instance { no, info });
        entries.push(Entry::Identity { no, from: started_at, identity });
        let at = started_at.plus_us(INIT_US);
        entries.push(Entry::Exec { no, at });
        self.told_us = self.due(at.0) * PERIOD_US;
        entries.push(Entry::Usage { no, at, cpu_us: self.told_us, source: CpuSource::Running });
    }

    fn name(&self) -> String {
        format!("{}-{}", function(self.function), self.no.0)
    }

    /// Samples it has until `time`.
    fn due(&self, time: i64) -> u64 {
        let share = i128::from(self.samples) * i128::from((time.min(self.to) - self.from).max(0));
        u64::try_from(share / i128::from((self.to - self.from).max(1))).unwrap_or_default()
    }

    fn sample(&self, dice: &mut Dice, begin: i64, end: i64, stacks: &[Arc<Stack>], cpus: u32) -> Sample {
        let pid = 20_000 + self.no.0 * 7;
        let thread = if dice.below(2) == 0 { 0 } else { dice.below(THREADS) as u32 };
        let rank = (stacks.len() as f64 * dice.share().powf(2.5)) as usize;
        Sample {
            time: Timestamp(begin + dice.below((end - begin).max(1) as u64) as i64),
            instance: self.no,
            pid,
            tid: pid + thread,
            comm: Arc::clone(&self.comm),
            cpu: dice.below(cpus.into()) as u32,
            stack: Arc::clone(stacks.get(rank).unwrap_or(&stacks[0])),
        }
    }

    fn readings(&mut self, dice: &mut Dice, begin: i64, end: i64, entries: &mut Vec<Entry>) {
        // Nobody's clock ticks with the hour.
        let begun = self.from + i64::from(self.no.0 % 97) * 100_003 + 1;
        let mut at = begun + (begin - begun).max(0).div_euclid(READING_US) * READING_US;
        if at < begin {
            at += READING_US;
        }
        while at < end {
            if at > self.from {
                // Not what was sampled to the microsecond: the account ticks by itself.
                let cpu_us = self.due(at) * PERIOD_US + dice.below(PERIOD_US / 2);
                self.told_us = self.told_us.max(cpu_us);
                let (no, at, cpu_us) = (self.no, Timestamp(at), self.told_us);
                entries.push(Entry::Usage { no, at, cpu_us, source: CpuSource::Running });
                if self.function.is_multiple_of(3) {
                    self.stop(dice, at, entries);
                }
            }
            at += READING_US;
        }
    }

    fn stop(&mut self, dice: &mut Dice, at: Timestamp, entries: &mut Vec<Entry>) {
        let (no, times) = (self.no, dice.below(4));
        self.stopped.0 += times;
        self.stopped.1 += times * (1_000 + dice.below(50_000));
        let (count, us) = self.stopped;
        entries.push(Entry::Fact { no, at, fact: Fact::Throttled { count, us } });
    }

    fn end(&mut self, entries: &mut Vec<Entry>, fed: &mut Fed) {
        let (no, at) = (self.no, Timestamp(self.to));
        let oom = no.0 % 50 == 7;
        let exit_code = Some(if oom { 137 } else { 0 });
        let cpu_us = (self.samples * PERIOD_US).max(self.told_us);
        entries.push(Entry::Usage { no, at: at.plus_us(-1), cpu_us, source: CpuSource::Final });
        entries.push(Entry::Ended { no, at: at.plus_us(-1), exit_code, oom });
        if oom {
            fed.oom.push(self.name());
        }
        if self.stopped.0 > 0 {
            let sum = fed.throttled.entry(function(self.function)).or_default();
            *sum = (sum.0 + self.stopped.0, sum.1 + self.stopped.1);
        }
    }
}

fn frames(dice: &mut Dice, count: usize, what: &str, module: &str, kind: FrameKind) -> Vec<Arc<str>> {
    let word = ["read", "parse", "encode", "visit", "resolve", "merge", "flush", "apply"];
    let mut pick = || word[dice.below(word.len() as u64) as usize];
    let symbols = (0..count).map(|at| format!("{what}::{}_{}_{at}", pick(), pick()));
    symbols.map(|symbol| Frame::symbol(&symbol, module, kind).format().into()).collect()
}

fn stack(dice: &mut Dice, shared: &[Arc<str>], own: &[Arc<str>], kernel: &[Arc<str>]) -> Stack {
    let pick = |dice: &mut Dice, from: &[Arc<str>]| Arc::clone(&from[dice.below(from.len() as u64) as usize]);
    let (depth, flaw) = (6 + dice.below(35) as usize, dice.below(16));
    let mut quality = Quality::COMPLETE;
    let mut all: Vec<Arc<str>> = Vec::new();
    if flaw == 0 {
        all.push(frame::TRUNCATED.into());
        quality = Quality::TRUNCATED;
    }
    all.extend((0..depth / 2).map(|_| pick(dice, shared)));
    all.extend((0..depth - depth / 2).map(|_| pick(dice, own)));
    if flaw == 1 {
        all.push(Frame::offset("libodd.so", 0x1000 + dice.below(0x4000), FrameKind::Native).format().into());
        quality = quality.with(Quality::UNSYMBOLIZED);
    }
    if dice.below(4) == 0 {
        all.push(pick(dice, kernel));
    }
    Stack::new(all, quality)
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit.max(1))) >> 64) as u64
    }

    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
