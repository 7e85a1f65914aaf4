//! Which hosts are there: a row for each, with how it was sampled and what was lost on it.
//!
//! Ring losses are the kernel's own count, of functions and strangers together: whose samples they were it does not
//! say. Also here: narrowing a selection down to hosts.

use std::collections::{BTreeMap, BTreeSet};

use super::error::QueryError;
use super::origin::{Host, short_boot};
use super::view::{Selection, View};
use crate::model::{CpuStats, OwnUse, Timestamp};

/// A host within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// What it is called here: its name, with a boot where two hosts have that name.
    pub host: String,
    /// Its name.
    pub node: String,
    /// Begins of its boot ids.
    pub boots: Vec<String>,
    /// Whether two of its boots were seen at the same time: then it is two machines of one name, and their figures
    /// stand here together.
    pub at_once: bool,
    /// Releases of its kernel.
    pub kernels: Vec<String>,
    /// What its CPUs call themselves.
    pub cpu_models: Vec<String>,
    /// Online CPUs when its newest writer began.
    pub cpus: u32,
    /// Sampled events.
    pub events: Vec<String>,
    /// Samples a second and CPU.
    pub hz: Vec<u32>,
    /// Journals that were read.
    pub journals: u64,
    /// Instances of functions.
    pub instances: u64,
    /// Samples of functions.
    pub samples: u64,
    /// Samples its rings read, those of strangers too.
    pub read: u64,
    /// Samples its rings lost.
    pub lost: u64,
    /// What each CPU's ring read and lost, in order of CPU.
    pub by_cpu: Vec<CpuStats>,
    /// Samples of container cgroups that could be given to no instance.
    pub unattributed: u64,
    /// Steps of its wall clock, in nanoseconds, and when.
    pub clock_steps: Vec<(Timestamp, i64)>,
    /// What those who sampled it used themselves, the agent above all, and the most memory one of them held; none where
    /// nobody told. What an agent used in an hour in which it wrote nothing is counted when it next did.
    pub own_use: Option<OwnUse>,
    /// First and last sign of it in the window: batches and samples.
    pub seen: Option<(Timestamp, Timestamp)>,
}

/// The hosts of `selection`, in order of name. One without a sign in the window is left out.
pub fn hosts(view: &View, selection: &Selection) -> Vec<HostRow> {
    let mut sums: Vec<(BTreeSet<usize>, u64)> = vec![Default::default(); view.hosts().len()];
    for (at, instance, _, stay) in view.stays(selection) {
        if let Some((instances, samples)) = sums.get_mut(instance.host as usize) {
            instances.insert(at);
            *samples += stay.tally.samples;
        }
    }
    let chosen = view.hosts().iter().zip(sums).filter(|(host, _)| selection.has_host(host));
    let rows = chosen.map(|(host, (instances, samples))| row(host, instances.len() as u64, samples));
    rows.filter(|row| row.seen.is_some() || row.instances > 0).collect()
}

/// Whether two boots of `host` overlap by more than a clock that is set at a boot explains.
fn at_once(host: &Host) -> bool {
    const CLOCK_SET_US: i64 = 60_000_000;
    let mut boots: BTreeMap<&str, (Timestamp, Timestamp)> = BTreeMap::new();
    for source in &host.sources {
        let Some((first, last)) = source.seen else { continue };
        let seen = boots.entry(&source.writer.boot_id).or_insert((first, last));
        *seen = (seen.0.min(first), seen.1.max(last));
    }
    let mut spans: Vec<(Timestamp, Timestamp)> = boots.into_values().collect();
    spans.sort_unstable();
    // In order of their begins it is enough to look at neighbours: the first overlap there is shows in a pair of them.
    spans.windows(2).any(|pair| match pair {
        [(_, last), (first, end)] => (*last).min(*end).since_us(*first) > CLOCK_SET_US,
        _ => false,
    })
}

fn row(host: &Host, instances: u64, samples: u64) -> HostRow {
    fn distinct<T: Ord>(of: impl Iterator<Item = T>) -> Vec<T> {
        of.collect::<BTreeSet<T>>().into_iter().collect()
    }
    let writers = || host.sources.iter().map(|source| &source.writer);
    let mut by_cpu: BTreeMap<u32, CpuStats> = BTreeMap::new();
    for stats in host.sources.iter().flat_map(|source| source.cpus.values()) {
        let sum = by_cpu.entry(stats.cpu).or_insert(CpuStats { cpu: stats.cpu, ..CpuStats::default() });
        sum.samples = sum.samples.saturating_add(stats.samples);
        sum.lost = sum.lost.saturating_add(stats.lost);
    }
    let mut clock_steps: Vec<_> =
        host.sources.iter().flat_map(|source| source.clock_steps.iter().copied()).collect();
    clock_steps.sort_unstable();
    let seen = host.sources.iter().filter_map(|source| source.seen);
    let sum = |of: fn(&CpuStats) -> u64| by_cpu.values().map(of).fold(0, u64::saturating_add);
    HostRow {
        host: host.label.clone(),
        node: host.node.clone(),
        boots: distinct(writers().map(|writer| short_boot(&writer.boot_id))),
        at_once: at_once(host),
        kernels: distinct(writers().map(|writer| writer.kernel.clone())),
        cpu_models: distinct(writers().filter_map(|writer| writer.cpu_model.clone())),
        cpus: writers().max_by_key(|writer| writer.started_at).map_or(0, |writer| writer.cpus),
        events: distinct(writers().map(|writer| writer.event.clone())),
        hz: distinct(writers().map(|writer| writer.hz)),
        journals: host.sources.len() as u64,
        instances,
        samples,
        read: sum(|cpu| cpu.samples),
        lost: sum(|cpu| cpu.lost),
        unattributed: host.sources.iter().map(|source| source.unattributed).fold(0, u64::saturating_add),
        clock_steps,
        own_use: host.sources.iter().filter_map(|source| source.own_use).reduce(OwnUse::with),
        seen: seen.reduce(|(a, b), (first, last)| (a.min(first), b.max(last))),
        by_cpu: by_cpu.into_values().collect(),
    }
}

impl View {
    /// The hosts it knows, in order of label.
    pub fn hosts(&self) -> &[Host] {
        &self.merged.hosts
    }

    /// Keys of the instances it knows, each with the platform's own names of it, oldest first.
    pub fn instance_names(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.merged.instances.iter().map(|instance| {
            let names =
                instance.identities.iter().filter_map(|(_, identity)| identity.instance_name.as_deref());
            (&*instance.info.key.0, names.collect())
        })
    }
}

impl Selection {
    /// The same on `hosts` alone (none for every host): names, or labels as answers tell them.
    ///
    /// # Errors
    /// [`QueryError::NoHost`] for a name that no host has.
    pub fn on_hosts(mut self, view: &View, hosts: &[String]) -> Result<Selection, QueryError> {
        if hosts.is_empty() {
            return Ok(self);
        }
        let is_meant = |host: &Host, wanted: &String| host.label == *wanted || host.node == *wanted;
        for wanted in hosts {
            if !view.hosts().iter().any(|host| is_meant(host, wanted)) {
                let known = view.hosts().iter().map(|host| host.label.clone()).collect();
                return Err(QueryError::NoHost { wanted: wanted.clone(), known });
            }
        }
        let chosen: Vec<bool> =
            view.hosts().iter().map(|host| hosts.iter().any(|wanted| is_meant(host, wanted))).collect();
        for (selected, instance) in self.instances.iter_mut().zip(&view.merged.instances) {
            *selected &= chosen.get(instance.host as usize).copied().unwrap_or(false);
        }
        let labels = view.hosts().iter().zip(&chosen).filter(|(_, chosen)| **chosen);
        self.hosts = Some(labels.map(|(host, _)| host.label.clone()).collect());
        Ok(self)
    }

    fn has_host(&self, host: &Host) -> bool {
        self.hosts.as_ref().is_none_or(|labels| labels.contains(&host.label))
    }
}
