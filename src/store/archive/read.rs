//! Sealed sets to what questions are made of: instances with their totals, and samples of the row groups asked for.
//!
//! Promises: what cannot be read is told with the file and with what is missing; nothing else is left out. A set that
//! was dropped meanwhile is none.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::decode::{self, Fault, TableFile};
use super::host::SealedHost;
use super::instances::{InstanceColumns, parse_source};
use super::readings::Mark;
use super::rows::PhaseCuts;
use super::schema::Table;
use super::set::SealedSet;
use super::sums::Sums;
use super::threads::{SealedThread, Threads};
use crate::model::{Fact, Quality, QualityCounts, Stack, Timestamp, Window};
use crate::store::contents::{Damage, InstanceRecord, Usage};
use crate::store::error::StoreError;

/// A sealed set's instances.
#[derive(Debug)]
pub struct SealedHour {
    /// Which set.
    pub set: SealedSet,
    /// The host, its writer and rings.
    pub host: SealedHost,
    /// Time that one of its samples stands for, in nanoseconds.
    pub period_ns: u64,
    /// Everybody the journal knew in that hour. Their readings and counters are those that totals of a whole hour
    /// need, unless all were asked for ([`Detail`]).
    pub instances: Vec<InstanceRecord>,
    /// What was counted, a row for each stretch of an instance's samples under one name.
    pub rows: Vec<SealedRow>,
    /// What was counted of waits, a row for each instance that waited under one name.
    pub waits: Vec<SealedWaits>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    sums: Sums,
}

/// Samples of one instance under one name, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedRow {
    /// Position in [`SealedHour::instances`].
    pub instance: u32,
    /// When its phases changed, as far as was known when they were counted.
    pub cuts: PhaseCuts,
    /// The first sample.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// The first from the function's own exec on.
    pub first_after_exec: Option<Timestamp>,
    /// How many, at least one.
    pub samples: u64,
    /// Samples lost for them, an estimate.
    pub lost: f64,
    /// Those by what the quality of their stacks says.
    pub quality: QualityCounts,
    /// Those of each phase: before the exec, cold, warm.
    pub phases: [u64; 3],
    /// Readings, and how many samples lie before each.
    pub marks: Vec<Mark>,
    /// The row group that holds them.
    pub group: u32,
}

impl SealedRow {
    /// How many of its samples are from before `time`; none if only the samples themselves can tell.
    pub fn samples_before(&self, time: Timestamp) -> Option<u64> {
        if time <= self.first {
            return Some(0);
        }
        if time > self.last {
            return Some(self.samples);
        }
        self.marks.iter().find_map(|mark| match time.since_us(mark.at) {
            0 => Some(mark.before),
            1 => Some(mark.until),
            _ => None,
        })
    }
}

/// Waits of one instance under one name, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedWaits {
    /// Position in [`SealedHour::instances`].
    pub instance: u32,
    /// When the first was over.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// How many, at least one.
    pub count: u64,
    /// Time off the CPU, in microseconds.
    pub us: u64,
    /// What of it was preemption, in microseconds.
    pub preempted_us: u64,
    /// The row group that holds them.
    pub group: u32,
}

/// Samples of a set, or waits.
#[derive(Debug, Default)]
pub struct SealedSamples {
    /// The time of each.
    pub times: Vec<Timestamp>,
    /// Whose it is, as the caller numbers instances.
    pub instances: Vec<u32>,
    /// Position in `distinct`.
    pub stacks: Vec<u32>,
    /// Their stacks; two may be equal.
    pub distinct: Vec<Arc<Stack>>,
    /// Where each ran, if that was asked for.
    pub threads: Vec<SealedThread>,
    /// Names of threads.
    pub comms: Vec<Arc<str>>,
    /// Samples the ring lost for one that it kept: position, how many. Only where there were any.
    pub lost: Vec<(u32, f64)>,
    /// Of waits, how long each was in nanoseconds, and whether it was preempted.
    pub lengths: Vec<(u64, bool)>,
    /// What could not be read.
    pub damage: Vec<Damage>,
}

/// How much of a set's instances is read, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Who they were, where and since when: neither totals nor readings.
    Names,
    /// The totals of their samples too.
    Totals,
    /// All kept readings too.
    Readings,
}

/// Which samples of a row group.
struct Wanted<N> {
    window: Window,
    threads: bool,
    number: N,
    /// Most samples that the group's rows may stand for.
    most: u64,
}

impl SealedSet {
    /// Reads its instances, as far as `detail` says. None if it is gone.
    ///
    /// # Errors
    /// If the system refuses to read it.
    pub fn load(&self, detail: Detail) -> Result<Option<SealedHour>, StoreError> {
        let sums = match self.sums()? {
            None => return Ok(None),
            Some(Ok(sums)) => sums,
            Some(Err(damage)) => return Ok(Some(SealedHour::empty(self, Sums::nothing(), vec![damage]))),
        };
        let told = sums.damage.iter().map(|what| Damage {
            file: self.path(Table::Samples),
            offset: 0,
            what: format!("of the journal it was made from, {what}"),
            torn_end: false,
        });
        let mut hour = SealedHour::empty(self, sums.clone(), told.collect());
        let missing = format!("all of {}, {} samples", self.hour.name(), sums.samples);
        match hour.read_instances(detail) {
            Ok(()) => {}
            Err(Fault::Gone) if !self.exists() => return Ok(None),
            Err(Fault::Io(error)) => {
                return Err(StoreError::io("read", &self.path(Table::Instances), error));
            }
            Err(fault) => {
                hour.instances.clear();
                hour.rows.clear();
                hour.waits.clear();
                hour.damage.push(decode::damage(&self.path(Table::Instances), fault, &missing));
                return Ok(Some(hour));
            }
        }
        match hour.read_host() {
            Ok(host) => hour.host = host,
            Err(Fault::Gone) if !self.exists() => return Ok(None),
            Err(Fault::Io(error)) => return Err(StoreError::io("read", &self.path(Table::Hosts), error)),
            Err(fault) => {
                let missing = "what the host was in that hour, and what its rings lost";
                hour.damage.push(decode::damage(&self.path(Table::Hosts), fault, missing));
            }
        }
        if detail >= Detail::Readings {
            let mut read = hour.instances.clone();
            match hour.read_usage(&mut read) {
                Ok(()) => hour.instances = read,
                Err(Fault::Gone) if !self.exists() => return Ok(None),
                Err(Fault::Io(error)) => return Err(StoreError::io("read", &self.path(Table::Usage), error)),
                Err(fault) => {
                    let missing = "readings within the hour; CPU times of parts of it are less exact";
                    hour.damage.push(decode::damage(&self.path(Table::Usage), fault, missing));
                }
            }
        }
        Ok(Some(hour))
    }
}

impl SealedHour {
    fn empty(set: &SealedSet, sums: Sums, damage: Vec<Damage>) -> SealedHour {
        SealedHour {
            set: set.clone(),
            host: SealedHost::unknown(&sums),
            period_ns: sums.period_ns,
            instances: Vec::new(),
            rows: Vec::new(),
            waits: Vec::new(),
            damage,
            sums,
        }
    }

    pub(super) fn open(&self, table: Table) -> Result<TableFile, Fault> {
        let sums = self.sums.table(table).ok_or(Fault::Gone)?;
        TableFile::open(&self.set.path(table), table, sums)
    }

    /// The samples within `window` of those instances that `number` numbers, out of the row groups `groups`; with
    /// `threads` where each ran. None if the set is gone.
    ///
    /// # Errors
    /// If the system refuses to read it.
    pub fn samples(
        &self,
        groups: &BTreeSet<u32>,
        window: Window,
        threads: bool,
        number: impl Fn(&str) -> Option<u32>,
    ) -> Result<Option<SealedSamples>, StoreError> {
        self.taken(Table::Samples, groups, Wanted { window, threads, number, most: self.sums.samples })
    }

    /// The same of waits that were over within `window`.
    ///
    /// # Errors
    /// If the system refuses to read it.
    pub fn off_cpu(
        &self,
        groups: &BTreeSet<u32>,
        window: Window,
        threads: bool,
        number: impl Fn(&str) -> Option<u32>,
    ) -> Result<Option<SealedSamples>, StoreError> {
        let most = self.waits.iter().fold(0u64, |sum, waits| sum.saturating_add(waits.count));
        self.taken(Table::OffCpu, groups, Wanted { window, threads, number, most })
    }

    fn taken(
        &self,
        table: Table,
        groups: &BTreeSet<u32>,
        wanted: Wanted<impl Fn(&str) -> Option<u32>>,
    ) -> Result<Option<SealedSamples>, StoreError> {
        let mut read = SealedSamples::default();
        let path = self.set.path(table);
        let what = if table == Table::OffCpu { "waits" } else { "samples" };
        let file = match self.open(table) {
            Ok(file) => file,
            Err(Fault::Gone) if !self.set.exists() => return Ok(None),
            Err(Fault::Io(error)) => return Err(StoreError::io("read", &path, error)),
            Err(fault) => {
                let missing = format!("the {} {what} of {}", wanted.most, self.set.hour.name());
                read.damage.push(decode::damage(&path, fault, &missing));
                return Ok(Some(read));
            }
        };
        let (mut stacks, mut frames) = (HashMap::new(), HashSet::new());
        for group in groups.iter().map(|group| *group as usize) {
            let kept = (read.times.len(), read.distinct.len(), read.lost.len());
            let comms = read.comms.len();
            match read.group((&file, table), group, &wanted, &mut stacks, &mut frames) {
                Ok(()) => {}
                Err(Fault::Io(error)) => return Err(StoreError::io("read", &path, error)),
                Err(fault) => {
                    read.times.truncate(kept.0);
                    read.instances.truncate(kept.0);
                    read.stacks.truncate(kept.0);
                    read.threads.truncate(kept.0);
                    read.lengths.truncate(kept.0);
                    read.comms.truncate(comms);
                    read.distinct.truncate(kept.1);
                    read.lost.truncate(kept.2);
                    stacks.retain(|_, at| (*at as usize) < kept.1);
                    let missing = format!("{} {what} of {}", file.rows(group), self.set.hour.name());
                    read.damage.push(file.damage(fault, &missing));
                }
            }
        }
        Ok(Some(read))
    }

    fn read_instances(&mut self, detail: Detail) -> Result<(), Fault> {
        let file = self.open(Table::Instances)?;
        let mut known: HashMap<String, u32> = HashMap::new();
        for group in 0..file.groups() {
            let columns = InstanceColumns::read(&file, group, detail)?;
            for row in 0..file.rows(group) {
                let incomplete =
                    || Fault::Damaged { offset: 0, what: "has rows that make no instance".into() };
                let key = columns.keys.get(row).cloned().flatten().ok_or_else(incomplete)?;
                let at = match known.get(&key) {
                    Some(at) => *at,
                    None => {
                        let at = self.instances.len() as u32;
                        self.instances.push(columns.record(row, &key).ok_or_else(incomplete)?);
                        known.insert(key, at);
                        at
                    }
                };
                let record = self.instances.get_mut(at as usize).ok_or_else(incomplete)?;
                record.identities.extend(columns.identity(row));
                self.waits.extend(columns.waits(row, at));
                self.rows.extend(columns.counts(
                    row,
                    at,
                    PhaseCuts { warm_at: columns.warm_at(row), ..PhaseCuts::of(record) },
                ));
            }
        }
        self.instances.iter_mut().for_each(settle);
        Ok(())
    }

    fn read_usage(&self, instances: &mut [InstanceRecord]) -> Result<(), Fault> {
        let file = self.open(Table::Usage)?;
        let numbers: HashMap<Arc<str>, usize> =
            instances.iter().enumerate().map(|(at, record)| (record.info.key.0.clone(), at)).collect();
        for group in 0..file.groups() {
            let (times, keys) = (file.ints(group, "time")?, file.texts(group, "instance")?);
            let (cpu, sources) = (file.int_options(group, "cpu_us")?, file.text_options(group, "source")?);
            let counts = file.int_options(group, "throttled_count")?;
            let throttled = file.int_options(group, "throttled_us")?;
            let pressure = file.int_options(group, "pressure_us")?;
            for (row, (time, key)) in times.into_iter().zip(&keys).enumerate() {
                let number = numbers.get(file.utf8("instance", key)?);
                let Some(record) = number.and_then(|at| instances.get_mut(*at)) else { continue };
                let at = Timestamp(time);
                let get =
                    |column: &[Option<i64>]| column.get(row).copied().flatten().map(|value| value as u64);
                let source = sources.get(row).and_then(|text| parse_source(text.as_deref()?));
                if let (Some(cpu_us), Some(source)) = (get(&cpu), source) {
                    record.usage.push(Usage { at, cpu_us, source });
                }
                if let (Some(count), Some(us)) = (get(&counts), get(&throttled)) {
                    record.facts.push((at, Fact::Throttled { count, us }));
                }
                record.facts.extend(get(&pressure).map(|us| (at, Fact::Pressure { us })));
            }
        }
        instances.iter_mut().for_each(settle);
        Ok(())
    }
}

fn settle(record: &mut InstanceRecord) {
    record.identities.sort_by_key(|(from, _)| *from);
    record.usage.sort_by_key(|usage| (usage.at, usage.cpu_us));
    record.usage.dedup();
    record.facts.sort();
    record.facts.dedup();
}

impl SealedSamples {
    fn group(
        &mut self,
        (file, table): (&TableFile, Table),
        group: usize,
        wanted: &Wanted<impl Fn(&str) -> Option<u32>>,
        stacks: &mut HashMap<(Vec<u8>, u8), u32>,
        frames: &mut HashSet<Arc<str>>,
    ) -> Result<(), Fault> {
        let Wanted { window, threads, number, most } = wanted;
        let times = file.ints(group, "time")?;
        let keys = file.texts(group, "instance")?;
        let ran = threads.then(|| Threads::read(file, group, &mut self.comms)).transpose()?;
        let texts = file.texts(group, "stack")?;
        let qualities = file.shorts(group, "quality")?;
        let waits = table == Table::OffCpu;
        let losses = if waits || file.is_null(group, "lost") {
            Vec::new()
        } else {
            file.float_options(group, "lost")?
        };
        let (lengths, preempted) = if waits {
            (file.ints(group, "weight_ns")?, file.bool_options(group, "preempted")?)
        } else {
            (Vec::new(), Vec::new())
        };
        let counts = counts(file, group, *most)?;
        // Equal values of a dictionary share their bytes: where they lie is as good as what they are.
        let mut numbers: HashMap<(usize, usize), Option<u32>> = HashMap::new();
        let mut seen: HashMap<(usize, usize, i32), u32> = HashMap::new();
        let place = |text: &parquet::data_type::ByteArray| (text.data().as_ptr() as usize, text.len());
        for (row, (((time, key), text), quality)) in
            times.iter().zip(&keys).zip(&texts).zip(&qualities).enumerate()
        {
            let time = Timestamp(*time);
            if !window.contains(time) {
                continue;
            }
            let instance = match numbers.get(&place(key)) {
                Some(instance) => *instance,
                None => {
                    let instance = number(file.utf8("instance", key)?);
                    numbers.insert(place(key), instance);
                    instance
                }
            };
            let Some(instance) = instance else { continue };
            let (at, len) = place(text);
            let stack = match seen.get(&(at, len, *quality)) {
                Some(stack) => *stack,
                None => {
                    let flags = u8::try_from(*quality).unwrap_or_default();
                    let made = match stacks.get(&(text.data().to_vec(), flags)) {
                        Some(made) => *made,
                        None => {
                            let made = self.distinct.len() as u32;
                            self.distinct.push(Arc::new(stack_of(
                                file.utf8("stack", text)?,
                                Quality(flags),
                                frames,
                            )));
                            stacks.insert((text.data().to_vec(), flags), made);
                            made
                        }
                    };
                    seen.insert((at, len, *quality), made);
                    made
                }
            };
            let count = counts.as_ref().map_or(1, |counts| counts.get(row).copied().unwrap_or(0));
            if let Some(lost) = losses.get(row).copied().flatten().filter(|_| count > 0) {
                self.lost.push((self.times.len() as u32, lost));
            }
            for _ in 0..count {
                self.times.push(time);
                self.threads.extend(ran.as_ref().map(|ran| ran.of(row)));
                self.instances.push(instance);
                self.stacks.push(stack);
                self.lengths.extend(lengths.get(row).map(|ns| {
                    let preempted = preempted.get(row).copied().flatten().unwrap_or(false);
                    (u64::try_from(*ns).unwrap_or(0), preempted)
                }));
            }
        }
        Ok(())
    }
}

/// How many samples each row of `group` stands for; none where each stands for one, as in all that fnscope writes.
/// Others may have put equal samples together. The checksum file says how many there are, so that a row cannot claim
/// more than memory has.
fn counts(file: &TableFile, group: usize, most: u64) -> Result<Option<Vec<u64>>, Fault> {
    if file.only(group, "count") == Some(1) {
        return Ok(None);
    }
    let counts = file.ints(group, "count")?.into_iter().map(u64::try_from).collect::<Result<Vec<u64>, _>>();
    let counts = counts.map_err(|_| Fault::damaged(0, "column count has a number below 0"))?;
    let sum = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    if sum > most {
        let what = format!("its rows stand for {sum} samples, where its checksum file tells of {most}");
        return Err(Fault::damaged(0, what));
    }
    Ok(Some(counts))
}

/// The stack of `text`; a frame that `known` has is that very one, since stacks share most of theirs.
fn stack_of(text: &str, quality: Quality, known: &mut HashSet<Arc<str>>) -> Stack {
    let mut frames = Vec::with_capacity(text.bytes().filter(|byte| *byte == b';').count() + 1);
    for frame in text.split(';').filter(|_| !text.is_empty()) {
        frames.push(match known.get(frame) {
            Some(frame) => Arc::clone(frame),
            None => {
                let fresh: Arc<str> = frame.into();
                known.insert(Arc::clone(&fresh));
                fresh
            }
        });
    }
    Stack::new(frames, quality)
}
