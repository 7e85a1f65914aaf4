//! cgroup id to container instance to function, as time intervals, late where it must be.
//!
//! Samples and side-band come from the kernel, containers from their runtimes; neither knows the other, and either may
//! come first. Here they meet. An instance begins as *undecided*: its samples wait in a bounded buffer. A runtime's
//! claim makes it a function (the samples go on, the buffered ones too) or foreign (they are dropped). Unclaimed by
//! every live runtime for ten seconds it is foreign. While a runtime is down nothing is decided: samples go on without
//! an identity, which may follow, because *which* function it is is settled by intervals when the store is read.
//!
//! Pure: no I/O and no clock; the caller says what happened when. Samples are of the caller's type.

mod claim;
mod instance;
mod late;
mod nested;
mod runtimes;
mod unseen;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use claim::Runtimes;
pub use claim::{Claim, RuntimeState};
pub use instance::is_runtime_command;
use instance::{Fate, Instance};

use crate::model::{
    CgroupId, ContainerId, CpuSource, Entry, Fact, IdMap, Identity, InstanceInfo, InstanceKey, InstanceNo,
    Timestamp, tables,
};

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, in nanoseconds: for spans.
    pub ns: u64,
    /// Wall clock: for the record.
    pub wall: Timestamp,
}

/// A cgroup that a runtime may claim as a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The container's id, as its path tells it.
    pub container: ContainerId,
    /// The claim, where the path alone settles it.
    pub claim: Option<Claim>,
    /// The runtime whose it can only be, where the path says so: `docker`, `containerd`, `cri-o`, `podman`.
    pub owner: Option<&'static str>,
}

/// Bounds of what waits for a name.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an instance may stay undecided while every runtime answers.
    pub undecided_ns: u64,
    /// How many bytes of samples may wait in all, and of one instance: a quarter, so that one does not have it all.
    pub buffer_bytes: usize,
    /// How many cgroups below its own are an instance's at most. What runs in more is nobody's.
    pub nested: usize,
    /// How long an instance is remembered after its cgroup is gone.
    pub dead_ns: u64,
    /// How many dead instances are remembered at most.
    pub dead_count: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            undecided_ns: 10_000_000_000,
            buffer_bytes: 16 << 20,
            nested: 4_096,
            dead_ns: 120_000_000_000,
            dead_count: 2_048,
        }
    }
}

/// What is settled and goes on to the store.
#[derive(Debug)]
pub struct Settled<S> {
    /// What to remember of instances, before the samples that need it.
    pub entries: Vec<Entry>,
    /// Samples with their instance.
    pub samples: Vec<(InstanceNo, S)>,
}

/// The state of the join.
pub struct Attribution<S> {
    boot_id: String,
    limits: Limits,
    next_no: u32,
    instances: IdMap<InstanceNo, Instance<S>>,
    /// Every cgroup of an instance, nested ones too.
    by_cgroup: IdMap<CgroupId, InstanceNo>,
    /// The instance's own cgroup by its path, while it exists.
    by_path: BTreeMap<String, InstanceNo>,
    /// The latest instance of a container: a restarted one has several in its life.
    by_container: HashMap<ContainerId, InstanceNo>,
    claims: HashMap<ContainerId, Claim>,
    /// Whose claim is no runtime's, but what was found out without one.
    discovered: HashSet<ContainerId>,
    runtimes: Runtimes,
    buffered_bytes: usize,
    /// Instances whose cgroup is gone, in that order.
    dead: std::collections::VecDeque<(u64, InstanceNo)>,
    live_wanted: usize,
    /// Those of them whose samples are wanted.
    live_sampled: usize,
    refused_cgroups: u64,
    /// Instances of which time alone may settle something, or of which there is something to tell.
    restless: BTreeSet<InstanceNo>,
    out: Settled<S>,
}

impl<S> Attribution<S> {
    /// A join with nothing known, on the host that booted as `boot_id`; `runtimes` are those that may claim.
    pub fn new(boot_id: &str, runtimes: &[&'static str], limits: Limits, now: Moment) -> Attribution<S> {
        Attribution {
            boot_id: boot_id.into(),
            limits,
            next_no: 0,
            instances: IdMap::default(),
            by_cgroup: IdMap::default(),
            by_path: BTreeMap::new(),
            by_container: HashMap::new(),
            claims: HashMap::new(),
            discovered: HashSet::new(),
            runtimes: Runtimes::new(runtimes, now.ns),
            buffered_bytes: 0,
            dead: std::collections::VecDeque::new(),
            live_wanted: 0,
            live_sampled: 0,
            refused_cgroups: 0,
            restless: BTreeSet::new(),
            out: Settled { entries: Vec::new(), samples: Vec::new() },
        }
    }

    /// A cgroup exists: made just now (`from_birth`), or found there. Returns the instance it begins, if it begins one.
    ///
    /// A cgroup below an instance's own belongs to that instance, unless it is itself a container that a runtime has
    /// claimed and that lives nowhere else: a tenant may name its inner cgroups as it likes.
    pub fn cgroup_seen(
        &mut self,
        id: CgroupId,
        path: &str,
        candidate: Option<Candidate>,
        at: Moment,
        from_birth: bool,
    ) -> Option<InstanceNo> {
        let claimed = candidate.as_ref().is_some_and(|c| {
            c.claim.is_some() || (self.claims.contains_key(&c.container) && !self.has_instance(&c.container))
        });
        if let Some(of) = self.by_cgroup.get(&id).copied() {
            // Of one that is gone, the id may be another's: if the kernel says that it was made just now.
            let is_others = from_birth && self.instances.get(&of).is_none_or(|instance| instance.gone);
            if !(is_others || claimed && self.take_nested(of, id)) {
                return None;
            }
            self.by_cgroup.remove(&id);
        }
        let is_sure = candidate.as_ref().is_some_and(|c| ContainerId::is_hex(&c.container.0));
        let is_guess = |no: &InstanceNo| self.instances.get(no).is_some_and(Instance::is_guess);
        let ancestor = self.ancestor(path).filter(|no| !(is_sure && is_guess(no)));
        match (candidate, ancestor) {
            (candidate, Some(no)) if candidate.is_none() || !claimed => {
                match self.instances.get_mut(&no) {
                    Some(instance) if instance.nested.len() >= self.limits.nested => {
                        self.refused_cgroups += 1
                    }
                    Some(instance) => {
                        instance.nested.push(id);
                        self.by_cgroup.insert(id, no);
                    }
                    None => {}
                }
                None
            }
            (Some(candidate), _) => Some(self.begin(id, path, candidate, at, from_birth)),
            (None, _) => None,
        }
    }

    /// A runtime says what a container is; again when it knows better. Returns its instances, of which there are several
    /// where it ran several times under a name that is used again.
    pub fn claim(&mut self, claim: Claim, at: Moment) -> Vec<InstanceNo> {
        let container = claim.container.clone();
        let surer = |known: &Claim| {
            known.forgotten.is_none() && claim::rank(&known.runtime) < claim::rank(&claim.runtime)
        };
        if self.claims.get(&container).is_some_and(surer) {
            return Vec::new();
        }
        let since = claim.since;
        self.discovered.remove(&container);
        self.claims.insert(container.clone(), claim);
        let Some(latest) = self.by_container.get(&container).copied() else { return Vec::new() };
        let runs: Vec<InstanceNo> = if since.is_some() {
            let of_it = self.instances.values().filter(|i| *i.info.container_id == *container.0);
            // What is said of the same container's next run is not about the ones before.
            of_it.filter(|i| i.no == latest || i.claimed_since != since).map(|i| i.no).collect()
        } else {
            vec![latest]
        };
        runs.into_iter().filter(|no| self.settle(*no, at)).collect()
    }

    /// Something became true of a container, as its runtime tells.
    pub fn fact_of(&mut self, container: &ContainerId, at: Timestamp, fact: Fact) {
        if let Some(no) = self.life_at(container, at) {
            self.fact(no, at, fact);
        }
    }

    /// A container's first process ended, as its runtime tells.
    pub fn exited(&mut self, container: &ContainerId, exit_code: Option<i32>, oom: bool, at: Timestamp) {
        let ended = self.life_at(container, at);
        if let Some(instance) = ended.and_then(|no| self.instances.get_mut(&no)) {
            instance.exited(exit_code, oom, at, &mut self.out.entries);
        }
    }

    /// Nobody will say any more what is undecided: its samples go on unnamed. Whoever comes next may name it.
    pub fn give_up(&mut self, at: Moment) {
        let waiting = self.instances.values().filter(|instance| instance.holds_samples());
        let waiting: Vec<_> = waiting.map(|instance| instance.no).collect();
        waiting.into_iter().for_each(|no| self.decide(no, Fate::Unknown, None, at));
    }

    /// `runtime` has forgotten the container at `at`: its claim goes with its last instance. What another claims stays.
    pub fn forgotten(&mut self, container: &ContainerId, runtime: &str, at: Timestamp) {
        // By whom it is believed, not by name: a claim has the name of who answers, `runtime` is what it is watched as,
        // and podman may answer on a socket that is watched as Docker's.
        let rank = claim::rank(claim::kind(runtime));
        if self.claims.get(container).is_none_or(|claim| claim::rank(&claim.runtime) != rank) {
            return;
        }
        if !self.by_container.contains_key(container) {
            self.claims.remove(container);
        } else if let Some(claim) = self.claims.get_mut(container) {
            claim.forgotten = Some(at);
        }
    }

    /// A process of the instance called `execve` and is now named `comm`. True if that was the function's own exec.
    pub fn exec(&mut self, no: InstanceNo, comm: &str, at: Timestamp) -> bool {
        let Some(instance) = self.instances.get_mut(&no) else { return false };
        self.restless.insert(no);
        instance.exec(comm, at, &mut self.out.entries)
    }

    /// The account of the instance as it was read right behind the function's own exec, for whose moment it stands.
    pub fn usage_at_exec(&mut self, no: InstanceNo, cpu_us: u64) {
        if let Some(instance) = self.instances.get_mut(&no) {
            instance.usage_at_exec(cpu_us, &mut self.out.entries);
        }
    }

    /// The instance's CPU account was read.
    pub fn usage(&mut self, no: InstanceNo, at: Timestamp, cpu_us: u64, source: CpuSource) {
        if let Some(instance) = self.instances.get_mut(&no) {
            instance.usage(at, cpu_us, source);
            self.restless.insert(no);
        }
    }

    /// What the instance is, as far as anybody has said.
    pub fn identity(&self, no: InstanceNo) -> Option<&Identity> {
        self.instances.get(&no)?.identity()
    }

    /// Something was read of the instance at `at`.
    pub fn fact(&mut self, no: InstanceNo, at: Timestamp, fact: Fact) {
        if let Some(instance) = self.instances.get_mut(&no)
            && instance.fact(at, fact)
        {
            self.restless.insert(no);
        }
    }

    /// The instance's own cgroup is gone; its last process ended at `ended`.
    pub fn cgroup_gone(&mut self, no: InstanceNo, ended: Timestamp, at: Moment) {
        let Some(instance) = self.instances.get_mut(&no) else { return };
        if instance.gone {
            return;
        }
        instance.cgroup_gone(ended, &mut self.out.entries);
        self.restless.insert(no);
        let fate = instance.fate;
        self.count_live(fate, false);
        let Some(instance) = self.instances.get(&no) else { return };
        if self.by_path.get(&instance.info.cgroup_path) == Some(&no) {
            self.by_path.remove(&instance.info.cgroup_path);
        }
        self.dead.push_back((at.ns, no));
    }

    /// A sample of `cgroup` that stands for `count`, taking some `bytes` of memory while it waits. False if nobody wants
    /// it.
    pub fn offer(&mut self, cgroup: CgroupId, at: Timestamp, bytes: usize, count: u64, sample: S) -> bool {
        let Some(&no) = self.by_cgroup.get(&cgroup) else { return false };
        let Some(instance) = self.instances.get_mut(&no) else { return false };
        if instance.first_sample.is_none() {
            instance.first_sample = Some(at);
            self.restless.insert(no);
        }
        match instance.fate {
            Fate::Function | Fate::Unknown => self.out.samples.push((no, sample)),
            Fate::Undecided
                if self.buffered_bytes + bytes <= self.limits.buffer_bytes
                    && instance.buffer_bytes + bytes <= self.limits.buffer_bytes / 4 =>
            {
                self.buffered_bytes += bytes;
                instance.buffer.push(sample);
                instance.buffer_bytes += bytes;
                instance.buffer_count += count;
            }
            Fate::Undecided => instance.dropped += count,
            Fate::Unseen => {
                instance.hide(count);
                self.restless.insert(no);
            }
            Fate::Foreign => return false,
        }
        true
    }

    /// Whether samples of `cgroup` are wanted, by an instance that is or may be a function.
    pub fn wants(&self, cgroup: CgroupId) -> bool {
        self.instance_of(cgroup).and_then(|no| self.instances.get(&no)).is_some_and(|i| i.fate.is_wanted())
    }

    /// How many live that are or may be functions.
    pub fn live_wanted(&self) -> usize {
        self.live_wanted
    }

    /// How many functions and revisions have an instance that lives.
    pub fn functions_living(&self) -> usize {
        let living = self.instances.values().filter(|instance| !instance.gone && instance.fate.is_wanted());
        let name = |identity: &Identity| {
            let Identity { platform, namespace, function, revision, .. } = identity;
            [platform, namespace, function, revision].map(Option::clone)
        };
        let functions: HashSet<_> = living.filter_map(Instance::identity).map(name).collect();
        functions.len()
    }

    /// The instance that `cgroup` belongs to.
    pub fn instance_of(&self, cgroup: CgroupId) -> Option<InstanceNo> {
        self.by_cgroup.get(&cgroup).copied()
    }

    /// The instance that the cgroup at `path` is, or lies in.
    pub fn instance_at(&self, path: &str) -> Option<InstanceNo> {
        self.by_path.get(path).copied().or_else(|| self.ancestor(path))
    }

    /// Whether the instance is or may be a function.
    pub fn is_wanted(&self, no: InstanceNo) -> bool {
        self.instances.get(&no).is_some_and(|i| i.fate.is_wanted())
    }

    /// Instances that are no functions and whose cgroup was there when last heard of.
    pub fn foreign(&self) -> impl Iterator<Item = (InstanceNo, &InstanceInfo)> {
        let foreign = |instance: &&Instance<S>| instance.fate == Fate::Foreign && !instance.gone;
        self.instances.values().filter(foreign).map(|instance| (instance.no, &instance.info))
    }

    /// Instances that are functions, can be seen, and whose cgroup is there.
    pub fn functions(&self) -> impl Iterator<Item = InstanceNo> {
        let lives = |instance: &&Instance<S>| instance.fate == Fate::Function && !instance.gone;
        self.instances.values().filter(lives).map(|instance| instance.no)
    }

    /// What the instance is, while its cgroup is there.
    pub fn living(&self, no: InstanceNo) -> Option<&InstanceInfo> {
        self.instances.get(&no).filter(|instance| !instance.gone).map(|instance| &instance.info)
    }

    /// Whether the container has an instance that lives.
    pub fn has_instance(&self, container: &ContainerId) -> bool {
        self.by_container.get(container).and_then(|no| self.instances.get(no)).is_some_and(|i| !i.gone)
    }

    /// Lets time pass: decides what has waited long enough, tells readings that changed, forgets the dead. Returns
    /// instances that are foreign from now on or forgotten: nothing of them needs watching any more.
    pub fn tick(&mut self, now: Moment) -> Vec<InstanceNo> {
        let (mut settled, mut released) = (Vec::new(), Vec::new());
        for instance in self.restless.iter().filter_map(|no| self.instances.get(no)) {
            let waited = now.ns.saturating_sub(instance.born_ns);
            let decided = match (instance.fate, self.runtimes.all_up_for(now.ns, instance.owner)) {
                (Fate::Undecided, None) => Some(Fate::Unknown),
                (Fate::Undecided, Some(up)) if waited.min(up) >= self.limits.undecided_ns => {
                    Some(Fate::Foreign)
                }
                // What ended while nobody could tell stays unknown; what lives and is nobody's is not ours.
                (Fate::Unknown, Some(up)) if up >= self.limits.undecided_ns && !instance.gone => {
                    Some(Fate::Foreign)
                }
                _ => None,
            };
            settled.extend(decided.map(|fate| (instance.no, fate)));
        }
        for (no, fate) in settled {
            self.decide(no, fate, None, now);
            if fate == Fate::Foreign {
                released.push(no);
            }
        }
        let Attribution { restless, instances, out, .. } = self;
        restless.retain(|no| instances.get_mut(no).is_some_and(|i| i.tick(now, &mut out.entries)));
        while let Some((gone_ns, no)) = self.dead.front().copied() {
            let foreign = self.instances.get(&no).is_none_or(|i| i.fate == Fate::Foreign);
            let old = now.ns.saturating_sub(gone_ns) >= self.limits.dead_ns;
            if !(foreign || old || self.dead.len() > self.limits.dead_count) {
                break;
            }
            self.dead.pop_front();
            // So many have died that there is no time left for its name.
            if self.instances.get(&no).is_some_and(Instance::holds_samples) {
                self.decide(no, Fate::Unknown, None, now);
                if let Some(instance) = self.instances.get_mut(&no) {
                    instance.tick(now, &mut self.out.entries);
                }
            }
            self.forget(no);
            released.push(no);
        }
        released
    }

    /// Gives back what its tables took for more than they hold now.
    pub fn keep_little(&mut self) {
        let Attribution { instances, by_cgroup, by_container, claims, .. } = self;
        tables::keep_little(instances);
        tables::keep_little(by_cgroup);
        tables::keep_little(by_container);
        tables::keep_little(claims);
    }

    /// What is settled since the last call.
    pub fn take(&mut self) -> Settled<S> {
        std::mem::replace(&mut self.out, Settled { entries: Vec::new(), samples: Vec::new() })
    }

    /// Cgroups below an instance's own that were too many since it was asked last.
    pub fn take_refused_cgroups(&mut self) -> u64 {
        std::mem::take(&mut self.refused_cgroups)
    }

    /// How many instances are known, dead ones too.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The instance that the container was at `at`: of a restarted one the end may be told when it lives again.
    fn life_at(&self, container: &ContainerId, at: Timestamp) -> Option<InstanceNo> {
        let latest = self.instances.get(self.by_container.get(container)?)?;
        if latest.gone || latest.info.started_at <= at {
            return Some(latest.no);
        }
        let before = |i: &&Instance<S>| *i.info.container_id == *container.0 && i.info.started_at <= at;
        self.instances.values().filter(before).max_by_key(|i| i.info.started_at).map(|i| i.no)
    }

    fn begin(
        &mut self,
        id: CgroupId,
        path: &str,
        candidate: Candidate,
        at: Moment,
        from_birth: bool,
    ) -> InstanceNo {
        let no = InstanceNo(self.next_no);
        self.next_no += 1;
        let Candidate { container, claim, owner } = candidate;
        if !path.is_empty() {
            self.apart_gone(&container, at.wall, at);
        }
        let info = InstanceInfo {
            key: InstanceKey::new(&container.0, &self.boot_id, id),
            runtime: None,
            container_id: container.0.to_string(),
            cgroup_path: path.into(),
            cgroup_id: id,
            image: None,
            started_at: at.wall,
            from_birth,
        };
        self.instances.insert(no, Instance::new(no, info, owner, at.ns));
        self.restless.insert(no);
        self.count_live(Fate::Undecided, true);
        if !path.is_empty() {
            self.by_cgroup.insert(id, no);
            self.by_path.insert(path.into(), no);
        }
        self.by_container.insert(container.clone(), no);
        if let Some(claim) = claim {
            self.claims.insert(container, claim);
        }
        self.settle(no, at);
        no
    }

    /// Applies the claim on an instance's container, if there is one that is about it. True if there is.
    fn settle(&mut self, no: InstanceNo, at: Moment) -> bool {
        let Some(instance) = self.instances.get_mut(&no) else { return false };
        let container = ContainerId(instance.info.container_id.as_str().into());
        let Some(claim) = self.claims.get(&container) else { return false };
        let (began, lives) = (instance.info.started_at, !instance.gone);
        if !claim.may_begin(began) || !claim.is_about(began, instance.claimed_since, lives, at.wall) {
            return false;
        }
        instance.claimed_since = claim.since;
        let claim = claim.clone();
        self.decide(no, claim.fate(), Some(&claim), at);
        true
    }

    fn decide(&mut self, no: InstanceNo, fate: Fate, claim: Option<&Claim>, at: Moment) {
        let Some(instance) = self.instances.get_mut(&no) else { return };
        self.restless.insert(no);
        let was = instance.fate;
        self.buffered_bytes = self.buffered_bytes.saturating_sub(instance.buffer_bytes);
        instance.decide(fate, claim, at, &mut self.out);
        if !instance.gone {
            self.count_live(was, false);
            self.count_live(fate, true);
        }
    }

    fn forget(&mut self, no: InstanceNo) {
        let Some(instance) = self.instances.remove(&no) else { return };
        self.buffered_bytes = self.buffered_bytes.saturating_sub(instance.buffer_bytes);
        for id in instance.nested.iter().chain([&instance.info.cgroup_id]) {
            if self.by_cgroup.get(id) == Some(&no) {
                self.by_cgroup.remove(id);
            }
        }
        let container = ContainerId(instance.info.container_id.as_str().into());
        if self.by_container.get(&container) == Some(&no) {
            self.by_container.remove(&container);
            if self.claims.get(&container).is_some_and(|claim| claim.forgotten.is_some()) {
                self.claims.remove(&container);
                self.discovered.remove(&container);
            }
        }
    }
}

#[cfg(test)]
mod claim_tests;
#[cfg(test)]
mod nested_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unseen_tests;
