//! Which containers there are: cgroups to instances, and the processes that were in them before us.
//!
//! The half of the capture thread that looks at cgroups; the rings and the samples are in the file above.

use std::collections::HashSet;
use std::time::Duration;

use super::Capture;
use crate::agent::accounts::Reading;
use crate::agent::places;
use crate::attribution::{Candidate, Claim, Moment};
use crate::cgroup;
use crate::identity::identify;
use crate::model::{CgroupId, ContainerId, InstanceInfo, InstanceNo, Pid, Timestamp};
use crate::perf::Clock;
use crate::runtime::cgroup::{self as cgroup_runtime, Found};

/// Cgroups below a container's own that are worth a look at which of them are still there.
const MANY_NESTED: usize = 256;
/// Most of them that are looked at: twice what is kept. Readers wait meanwhile, some microseconds for each.
const MOST_LOOKED_AT: usize = 8_192;
/// Between looks for what nobody tells the end of: half a minute.
const SWEEP_NS: u64 = 30_000_000_000;
/// Flushes from one look for files that are mapped no more to the next: seconds, while anything happens.
const RELEASE_FLUSHES: u64 = 4;
/// From a cgroup's making to its first process: a runtime takes milliseconds.
const LEFT_AFTER: Duration = Duration::from_secs(60);

impl Capture {
    /// A container whose cgroup was not seen being made (records were lost): found by its first process. Or one that has
    /// none here, because it runs in a virtual machine with its pod.
    pub(super) fn started(&mut self, container: &ContainerId, pid: Option<Pid>, at: Option<Timestamp>) {
        if self.setup.attribution.has_instance(container) {
            return;
        }
        let path = pid.and_then(|pid| self.setup.cgroups.of_process(pid).ok()).unwrap_or_default();
        // A cgroup that does not carry its id is not its own: whoever else is in it is not this function.
        let place = cgroup::place_of(&path).filter(|place| place.key() == *container);
        if let Some(place) = place
            && let Ok(id) = self.setup.cgroups.id(place.path)
        {
            let candidate = Candidate { container: container.clone(), claim: None, owner: place.runtime };
            self.begin(id, place.path, Some(candidate), self.moment(Clock::monotonic_ns()), false);
            return;
        }
        // Its cgroup's own record may wait in a ring.
        self.take_side_band();
        let now = self.moment(Clock::monotonic_ns());
        let begins = Moment { wall: at.unwrap_or(now.wall), ..now };
        if self.setup.attribution.began_apart(container, begins).is_some() {
            self.stats.instances += 1;
        }
    }

    /// A cgroup exists. `from_birth`: it was made just now.
    pub(super) fn cgroup_seen(&mut self, id: CgroupId, path: &str, at: Moment, from_birth: bool) {
        let candidate = self.candidate(path);
        if let Some((candidate, own)) = candidate {
            if own == path {
                self.begin(id, path, Some(candidate), at, from_birth);
                return;
            }
            // A container's inner cgroup without its outer one: that record was lost.
            if self.setup.attribution.instance_at(&own).is_none()
                && let Ok(outer) = self.setup.cgroups.id(&own)
            {
                self.begin(outer, &own, Some(candidate), at, false);
            }
        }
        self.begin(id, path, None, at, from_birth);
    }

    /// What container the cgroup at `path` is or lies in, as far as its path tells, and that container's own path.
    fn candidate(&self, path: &str) -> Option<(Candidate, String)> {
        if let Some(Found { mut container, path: own }) =
            cgroup_runtime::container_at(&self.setup.parents, path)
        {
            container.runtime = self.setup.parents_runtime.into();
            let answer = identify(&container, &self.setup.identity);
            // Two parents may have children of one name: the path tells them apart.
            let id = container_id(own);
            let claim = Claim {
                container: id.clone(),
                runtime: container.runtime,
                name: container.name,
                image: None,
                identity: answer.into_stored(),
                facts: Vec::new(),
                since: None,
                forgotten: Some(Timestamp::MAX),
            };
            return Some((Candidate { container: id, claim: Some(claim), owner: None }, own.into()));
        }
        let place = cgroup::place_of(path)?;
        let join = &self.setup.attribution;
        let may_be = match (place.runtime_namespace, place.runtime) {
            // No more than likely: two names are other things' too, where no containerd is, and none of its bundles.
            (Some(namespace), Some(runtime)) => {
                join.is_here(runtime) || self.unclaimed.has_bundle(namespace, &place.container)
            }
            (_, owner) => join.may_own(owner) || self.unclaimed.is_on(),
        };
        may_be.then(|| {
            (Candidate { container: place.key(), claim: None, owner: place.runtime }, place.path.into())
        })
    }

    fn begin(
        &mut self,
        id: CgroupId,
        path: &str,
        candidate: Option<Candidate>,
        at: Moment,
        from_birth: bool,
    ) {
        let begins = candidate.is_some() && self.setup.attribution.instance_of(id).is_none();
        // Whoever runs in it after all is told by its runtime.
        let by_id = candidate.as_ref().is_some_and(|candidate| candidate.claim.is_none());
        if begins && by_id && !from_birth && self.is_leftover(path) {
            return;
        }
        let at = if from_birth || !begins { at } else { self.found_running(path, at) };
        let container = candidate.as_ref().filter(|_| by_id).map(|candidate| candidate.container.clone());
        let Some(no) = self.setup.attribution.cgroup_seen(id, path, candidate, at, from_birth) else {
            self.adopt_processes(path, from_birth);
            return;
        };
        self.stats.instances += 1;
        // Its runtime may have told of it before.
        self.hear_early(no);
        self.waiting_stale = true;
        if by_id {
            self.await_claim(no, from_birth);
        }
        // Nobody has said yet what it is.
        if let Some((asker, container)) = self.setup.asker.as_ref().zip(container)
            && self.setup.attribution.identity(no).is_none()
        {
            asker.begun(&container, path);
        }
        if !self.setup.attribution.is_wanted(no) {
            return;
        }
        self.accounts.open(no, id, path, &self.setup.cgroups);
        if !self.setup.attribution.is_unseen(no) {
            self.attach(id, path);
            self.follow_switches(no);
        }
        let reading = self.accounts.read(no, &self.setup.cgroups);
        // A newborn's account begins at nothing, which says nothing of what it will use; unless it has already ended.
        if !from_birth || matches!(reading, Some(Reading::Gone { .. })) {
            self.reading(no, reading);
        }
        if from_birth {
            self.await_arrival(no);
        } else {
            // It execs no more for us to see: its oldest process stands for that.
            self.setup.attribution.exec(no, "", at.wall);
            self.adopt_processes(path, from_birth);
        }
    }

    /// A runtime has said what an instance is: what is wanted is watched, what is not is not.
    pub(super) fn claimed(&mut self, no: InstanceNo) {
        self.hear_early(no);
        self.waiting_stale = true;
        let now = self.moment(Clock::monotonic_ns());
        if self.setup.attribution.is_unseen(no) {
            return self.hidden(no);
        }
        let unsure = self.setup.attribution.open_identity(no).and(self.setup.attribution.living(no));
        if let Some(path) = unsure.map(|info| info.cgroup_path.clone()) {
            let pids = self.setup.cgroups.processes(&path).unwrap_or_default();
            self.may_be_named_by(no, pids, now);
        }
        let join = &self.setup.attribution;
        if !join.is_wanted(no) {
            self.leave(no);
            return;
        }
        if self.accounts.has(no) {
            return self.follow_switches(no);
        }
        let Some(info) = join.living(no) else { return };
        // It was taken for none until now, and its processes have been forgotten.
        let (id, path) = (info.cgroup_id, info.cgroup_path.clone());
        self.accounts.open(no, id, &path, &self.setup.cgroups);
        self.attach(id, &path);
        self.follow_switches(no);
        self.adopt_processes(&path, false);
        let reading = self.accounts.read(no, &self.setup.cgroups);
        self.reading(no, reading);
    }

    /// What can be seen of an instance is its sandbox's: its account is read, and nothing else.
    fn hidden(&mut self, no: InstanceNo) {
        let Some(info) = self.setup.attribution.living(no) else { return };
        let (id, path) = (info.cgroup_id, info.cgroup_path.clone());
        if path.is_empty() {
            return;
        }
        self.setup.sampler.detach(id);
        self.follow_switches(no);
        self.plain.remove(&no);
        if !self.accounts.has(no) {
            self.accounts.open(no, id, &path, &self.setup.cgroups);
            self.adopt_processes(&path, false);
            let reading = self.accounts.read(no, &self.setup.cgroups);
            self.reading(no, reading);
        }
    }

    /// Whether the cgroup at `path` is what a container that is no more has left behind, as engines that were killed do.
    fn is_leftover(&self, path: &str) -> bool {
        let cgroups = &self.setup.cgroups;
        if cgroups.is_populated(path).unwrap_or(true) {
            return false;
        }
        let mut nested = false;
        cgroups.children(path, |_| nested = true);
        let made = std::fs::metadata(cgroups.dir(path)).and_then(|folder| folder.modified());
        // Younger ones may be about to get their first process.
        !nested && made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > LEFT_AFTER))
    }

    /// The same moment, but by the wall clock when the oldest process of the cgroup began.
    fn found_running(&self, path: &str, at: Moment) -> Moment {
        let processes = self.setup.cgroups.processes(path).unwrap_or_default();
        let oldest = processes.into_iter().filter_map(|pid| places::started_at(pid, self.clock)).min();
        Moment { wall: oldest.unwrap_or(at.wall), ..at }
    }

    /// Processes that were in the cgroup before it was known.
    fn adopt_processes(&mut self, path: &str, from_birth: bool) {
        if from_birth {
            return;
        }
        let Some(no) = self.setup.attribution.instance_at(path) else { return };
        let pids = self.setup.cgroups.processes(path).unwrap_or_default();
        self.adopt(no, pids);
    }

    /// From now on these processes are of instance `no`.
    pub(super) fn adopt(&mut self, no: InstanceNo, pids: impl IntoIterator<Item = Pid>) {
        for pid in pids {
            self.lineage.insert(pid, no);
        }
    }

    /// Walks the tree: at the start, and after side-band records were lost.
    pub(super) fn scan(&mut self) {
        let mut found = Vec::new();
        let whole = self.setup.cgroups.walk(|id, path| found.push((id, path.to_string())));
        if !whole {
            tracing::warn!(
                cgroups = found.len(),
                "more cgroups than are looked at: containers may be missed"
            );
        }
        // Parents before their children, so that nested cgroups find the container above them.
        found.sort_by_key(|(_, path)| path.len());
        // What was made since the rings were opened is told there too, and that it was just born.
        self.take_side_band();
        for (id, path) in &found {
            let at = self.moment(Clock::monotonic_ns());
            self.cgroup_seen(*id, path, at, false);
            if self.setup.attribution.instance_at(path).is_none() {
                self.listen_below(path);
            }
        }
        if whole && self.newcomers.is_some() {
            self.look_again(found.into_iter().map(|(id, _)| id).collect());
        }
        self.take_newcomers();
    }

    /// Takes in what was made below a cgroup after that was walked and before it was listened to: nobody tells of it.
    /// `known` are those that were there before.
    fn look_again(&mut self, known: HashSet<CgroupId>) {
        let mut late = Vec::new();
        self.setup.cgroups.walk(|id, path| {
            if !known.contains(&id) {
                late.push(path.to_string());
            }
        });
        late.iter().for_each(|path| self.made(path));
    }

    /// Lets go of files that are mapped no more, and, if it is time, forgets what nobody tells the end of: containers that
    /// are no functions, cgroups below containers. True if it did.
    pub(super) fn sweep(&mut self, now_ns: u64) -> bool {
        let Capture { files, setup, flushes, .. } = &mut *self;
        if flushes.is_multiple_of(RELEASE_FLUSHES) {
            let join = &setup.attribution;
            files.release(|no| join.living(no).is_some(), |no| join.is_wanted(no));
        }
        if now_ns < self.next_sweep_ns {
            return false;
        }
        self.next_sweep_ns = now_ns.saturating_add(SWEEP_NS);
        let overgrown = self.setup.attribution.overgrown(MANY_NESTED);
        let overgrown: Vec<_> = overgrown.map(|(no, info)| (no, info.cgroup_path.clone())).collect();
        for (no, path) in overgrown {
            let mut there = HashSet::new();
            let all = self.setup.cgroups.walk_below(&path, MOST_LOOKED_AT, |id, _| {
                there.insert(id);
            });
            // Of one that was not looked at nobody knows whether it is there.
            if all {
                self.setup.attribution.keep_nested(no, &there);
            }
        }
        let cgroups = &self.setup.cgroups;
        let is_gone =
            |info: &InstanceInfo| !cgroups.id(&info.cgroup_path).is_ok_and(|id| id == info.cgroup_id);
        let gone: Vec<_> =
            self.setup.attribution.foreign().filter(|(_, info)| is_gone(info)).map(|(no, _)| no).collect();
        let now = self.moment(Clock::monotonic_ns());
        gone.into_iter().for_each(|no| self.setup.attribution.cgroup_gone(no, now.wall, now));
        self.setup.attribution.keep_little();
        self.lineage.keep_little();
        true
    }
}

/// The id of a container that is known by its cgroup's path alone.
pub(in crate::agent) fn container_id(path: &str) -> ContainerId {
    ContainerId(path.trim_start_matches('/').into())
}
