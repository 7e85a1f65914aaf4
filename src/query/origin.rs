//! Where journals come from: hosts, and what each of its journals tells of the host itself.
//!
//! Journals of one boot are of one host, whichever store they lie in; so are journals of one node name in one store,
//! boot after boot. The same name in two stores, never with the same boot, may be two machines and stays two hosts:
//! their labels then carry the boot (`node-1@6e9d3f62`). Not here: the answer for people, see [`super::hosts`].

use std::collections::{BTreeMap, HashMap};

use crate::model::{CpuStats, OwnUse, Timestamp, Window, WriterInfo};
use crate::store::archive::SealedHour;
use crate::store::{BatchRecord, JournalContents, own_use};

/// A step of the wall clock is what exceeds so many nanoseconds beside what a clock that is being steered may drift.
const STEP_NS: u64 = 1_000_000;
/// Fastest steering of the wall clock by the kernel: 500 parts per million.
const SLEW_DIVISOR: u64 = 2_000;
/// An hour.
const HOUR_NS: u64 = 3_600_000_000_000;
/// Digits of a boot id in a label, as in an instance's key.
const BOOT_DIGITS: usize = 8;

/// A host, as all of its journals tell it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// What it is called here: its name, with a boot where two hosts have that name.
    pub label: String,
    /// Its name.
    pub node: String,
    /// What its journals tell, in the order they were read; never empty.
    pub sources: Vec<Source>,
}

/// What one journal tells of its host.
#[derive(Debug, Clone)]
pub struct Source {
    /// Who wrote it, where and how.
    pub writer: WriterInfo,
    /// Position of the store it lies in.
    pub store: u32,
    /// What each CPU's ring read and lost.
    pub cpus: BTreeMap<u32, CpuStats>,
    /// Samples of container cgroups that could be given to no instance.
    pub unattributed: u64,
    /// First and last sign in the window: batches and samples.
    pub seen: Option<(Timestamp, Timestamp)>,
    /// Steps of the wall clock between two batches, in nanoseconds, and when.
    pub clock_steps: Vec<(Timestamp, i64)>,
    /// What its writer used, and the most memory it held; none where it did not tell.
    pub own_use: Option<OwnUse>,
}

impl Source {
    fn of(journal: &JournalContents, store: u32) -> Source {
        let mut cpus: BTreeMap<u32, CpuStats> = BTreeMap::new();
        let mut unattributed = 0u64;
        for batch in &journal.batches {
            unattributed = unattributed.saturating_add(batch.unattributed);
            for stats in &batch.cpus {
                let sum = cpus.entry(stats.cpu).or_insert(CpuStats { cpu: stats.cpu, ..CpuStats::default() });
                sum.samples = sum.samples.saturating_add(stats.samples);
                sum.lost = sum.lost.saturating_add(stats.lost);
            }
        }
        let batches = journal.batches.iter().flat_map(|batch| [batch.from, batch.to]);
        let samples = [journal.samples.first(), journal.samples.last()];
        let signs = batches.chain(samples.into_iter().flatten().map(|sample| sample.time));
        let seen = signs.fold(None, |seen: Option<(Timestamp, Timestamp)>, at| {
            Some(seen.map_or((at, at), |(first, last)| (first.min(at), last.max(at))))
        });
        let clock_steps = clock_steps(&journal.batches);
        let own_use = own_use(journal.batches.iter());
        Source { writer: journal.writer.clone(), store, cpus, unattributed, seen, clock_steps, own_use }
    }
}

impl Source {
    fn of_sealed(hour: &SealedHour, window: Window, store: u32) -> Source {
        let host = &hour.host;
        let rows = hour.rows.iter().filter(|row| window.overlaps(row.first, row.last));
        let seen = rows.fold(None, |seen: Option<(Timestamp, Timestamp)>, row| {
            let (first, last) = (row.first.max(window.from), row.last.min(window.to.plus_us(-1)));
            Some(seen.map_or((first, last), |(from, to)| (from.min(first), to.max(last))))
        });
        let of = hour.set.hour().window();
        let overlaps = window.overlaps(of.from, of.to);
        let (first, last) = host.clock_offsets_ns.unwrap_or_default();
        let step = last.saturating_sub(first);
        // What steering can do in an hour is no step.
        let is_step = overlaps && step.unsigned_abs() > STEP_NS.saturating_add(HOUR_NS / SLEW_DIVISOR);
        Source {
            writer: host.writer.clone(),
            store,
            cpus: if overlaps {
                host.cpus.iter().map(|cpu| (cpu.cpu, *cpu)).collect()
            } else {
                BTreeMap::new()
            },
            unattributed: if overlaps { host.unattributed } else { 0 },
            seen,
            clock_steps: if is_step { vec![(of.to, step)] } else { Vec::new() },
            own_use: host.own_use.filter(|_| overlaps),
        }
    }
}

/// Steps between one batch and the next, in the order they were written: a clock that was set back puts times, not
/// batches, out of order.
fn clock_steps(batches: &[BatchRecord]) -> Vec<(Timestamp, i64)> {
    let mut steps = Vec::new();
    for pair in batches.windows(2) {
        let [before, after] = pair else { continue };
        let step = after.clock_offset_ns.saturating_sub(before.clock_offset_ns);
        let elapsed_ns = after.to.since_us(before.to).unsigned_abs().saturating_mul(1_000);
        // A step is part of the time that seems to have passed.
        let drift_ns = elapsed_ns.saturating_sub(step.unsigned_abs()) / SLEW_DIVISOR;
        if step.unsigned_abs() > STEP_NS.saturating_add(drift_ns) {
            steps.push((after.to, step));
        }
    }
    steps
}

/// Hosts in the making.
#[derive(Debug, Default)]
pub struct HostTable {
    sources: Vec<Source>,
    store: u32,
}

impl HostTable {
    /// What is added from here on lies in the store with this number.
    pub fn in_store(&mut self, store: u32) {
        self.store = store;
    }

    /// Adds what `journal` tells; the number of this source.
    pub fn add(&mut self, journal: &JournalContents) -> u32 {
        let number = u32::try_from(self.sources.len()).expect("memory ends long before 2^32 journals");
        self.sources.push(Source::of(journal, self.store));
        number
    }

    /// The same of a sealed hour: its rings as they were in all of it.
    pub(super) fn add_sealed(&mut self, hour: &SealedHour, window: Window) -> u32 {
        let number = u32::try_from(self.sources.len()).expect("memory ends long before 2^32 hours");
        self.sources.push(Source::of_sealed(hour, window, self.store));
        number
    }

    /// The hosts, and for each source the position of its host. In order of label.
    pub fn finish(self) -> (Vec<Host>, Vec<u32>) {
        let groups = self.groups();
        let mut hosts: BTreeMap<usize, Host> = BTreeMap::new();
        for (source, group) in self.sources.into_iter().zip(&groups) {
            let host = hosts.entry(*group).or_default();
            host.node.clone_from(&source.writer.node);
            host.sources.push(source);
        }
        let mut named: HashMap<String, usize> = HashMap::new();
        hosts.values().for_each(|host| *named.entry(host.node.clone()).or_default() += 1);
        for host in hosts.values_mut() {
            let one_of_many = named.get(&host.node).is_some_and(|count| *count > 1);
            let boot = host.sources.iter().max_by_key(|source| source.writer.started_at);
            let boot = boot.filter(|_| one_of_many).map(|source| short_boot(&source.writer.boot_id));
            host.label = host.node.clone() + &boot.map(|boot| format!("@{boot}")).unwrap_or_default();
        }
        let mut order: Vec<(usize, Host)> = hosts.into_iter().collect();
        order.sort_by(|(_, a), (_, b)| a.label.cmp(&b.label));
        let places: HashMap<usize, u32> = order.iter().map(|(group, _)| *group).zip(0..).collect();
        let of_source = groups.iter().map(|group| places.get(group).copied().unwrap_or(0)).collect();
        (order.into_iter().map(|(_, host)| host).collect(), of_source)
    }

    /// For each source, the first source of its host.
    fn groups(&self) -> Vec<usize> {
        let mut groups: Vec<usize> = (0..self.sources.len()).collect();
        let mut first_of: HashMap<(Option<u32>, &str, &str), usize> = HashMap::new();
        for (at, source) in self.sources.iter().enumerate() {
            let writer = &source.writer;
            let by_boot = (None, writer.node.as_str(), writer.boot_id.as_str());
            let by_store = (Some(source.store), writer.node.as_str(), "");
            for key in [by_boot, by_store] {
                let other = *first_of.entry(key).or_insert(at);
                let (a, b) = (root(&groups, other), root(&groups, at));
                if let Some(group) = groups.get_mut(a.max(b)) {
                    *group = a.min(b);
                }
            }
        }
        (0..groups.len()).map(|at| root(&groups, at)).collect()
    }
}

/// The source that stands for the group of `at`. Each points to itself or to an earlier one.
fn root(groups: &[usize], mut at: usize) -> usize {
    while let Some(&before) = groups.get(at).filter(|before| **before < at) {
        at = before;
    }
    at
}

/// The digits of a boot id that stand for it.
pub fn short_boot(boot_id: &str) -> String {
    boot_id.chars().filter(char::is_ascii_hexdigit).take(BOOT_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fixture::{Journal, at_s};

    /// A journal of `node`, booted as `boot`.
    fn journal(node: &str, boot: &str) -> JournalContents {
        let mut contents = Journal::new().contents;
        contents.writer.node = node.into();
        contents.writer.boot_id = boot.into();
        contents
    }

    #[test]
    fn one_name_is_one_host_only_where_a_boot_or_a_store_says_so() {
        for (stores, labels) in [
            // One store: a reboot is the same host.
            (vec![vec![("a", "b1111111"), ("a", "b2222222"), ("z", "b3333333")]], vec!["a", "z"]),
            // The same boot in two stores is one host.
            (vec![vec![("a", "b1111111")], vec![("a", "b1111111")]], vec!["a"]),
            // One name, two boots, two stores: two machines as far as anybody knows.
            (vec![vec![("a", "b1111111")], vec![("a", "b2222222")]], vec!["a@b1111111", "a@b2222222"]),
            // A third store that has both boots joins them, in whatever order they are read.
            (
                vec![
                    vec![("a", "b1111111")],
                    vec![("a", "b2222222")],
                    vec![("a", "b2222222"), ("a", "b1111111")],
                ],
                vec!["a"],
            ),
        ] {
            let mut table = HostTable::default();
            for (number, store) in (0..).zip(&stores) {
                table.in_store(number);
                for (node, boot) in store {
                    table.add(&journal(node, boot));
                }
            }
            let (hosts, of_source) = table.finish();
            let found: Vec<&str> = hosts.iter().map(|host| host.label.as_str()).collect();
            assert_eq!(found, labels, "{stores:?}");
            assert_eq!(of_source.len(), stores.iter().map(Vec::len).sum::<usize>());
            let sources: usize = hosts.iter().map(|host| host.sources.len()).sum();
            assert_eq!(sources, of_source.len());
        }
    }

    #[test]
    fn a_step_of_the_clock_is_told_from_its_steering() {
        // Seconds, offset in nanoseconds; whether the last is a step.
        for (offsets, steps) in [
            (vec![(0, 0), (1, 400_000), (2, 800_000)], vec![]),
            (vec![(0, 0), (3_600, 1_500_000_000)], vec![]),
            (vec![(0, 0), (1, 0), (3_601, 3_600_000_000_000)], vec![3_600_000_000_000]),
            (vec![(0, 5_000_000), (1, 0)], vec![-5_000_000]),
            (vec![(0, i64::MAX), (1, i64::MIN)], vec![i64::MIN]),
        ] {
            let mut made = Journal::new();
            for (seconds, offset) in &offsets {
                made.batch(1, 0);
                let batch = made.contents.batches.last_mut().unwrap();
                (batch.from, batch.to, batch.clock_offset_ns) = (at_s(*seconds), at_s(*seconds), *offset);
            }
            let found: Vec<i64> =
                clock_steps(&made.contents.batches).into_iter().map(|(_, step)| step).collect();
            assert_eq!(found, steps, "{offsets:?}");
        }
    }
}
