//! What happens to processes: which of them are of an instance, and what they have mapped.
//!
//! The half of the capture thread that is in a hurry: a file is opened while the process that mapped it lives. What its
//! samples need of that waits in the order of time, in the file above.

use std::ops::Range;

use super::{Capture, Happening};
use crate::agent::accounts::Reading;
use crate::agent::budget::Step;
use crate::agent::degraded::Cut;
use crate::agent::pace::News;
use crate::model::{BuildId, InstanceNo, Pid};
use crate::perf::{Clock, SideBand, Stamped};
use crate::stack::{Files, Mapped, Mapping};

/// Files of an instance that are opened between two flushes: one that maps in a loop would have this thread for itself.
/// A program that starts maps some hundred, what its instance has mapped before is not opened again, and of more than are
/// kept some would be closed before anybody has read them.
const MAX_OPENED: usize = Files::MOST;
/// The same while fewer reads must do.
const FEWER_OPENED: usize = 200;

impl Capture {
    /// Reads the side-band rings: what was in them, and how full the fullest was in percent.
    pub(super) fn take_side_band(&mut self) -> (News, u64) {
        self.take_newcomers();
        self.side_band_read_ns = Clock::monotonic_ns();
        let mut records = std::mem::take(&mut self.side_band);
        let full = self.setup.sampler.drain_side_band(&mut records);
        records.sort_by_key(|record| record.time_ns);
        self.exited.clear();
        self.exited.extend(records.iter().filter_map(|record| match record.value {
            SideBand::Exit { pid, tid } if pid == tid => Some(pid),
            _ => None,
        }));
        let news = records.drain(..).map(|record| self.side_band_record(record)).max();
        let news = news.unwrap_or(News::Strangers);
        self.side_band = records;
        for (no, at) in std::mem::take(&mut self.ended) {
            let now_ns = Clock::monotonic_ns();
            let reading = self.accounts.process_ended(no, at, now_ns, &self.setup.cgroups);
            self.reading(no, reading);
            let facts = self.accounts.counters_at_end(no, now_ns);
            self.facts(facts.into_iter().map(|fact| (no, fact)));
        }
        self.pace.heard(news, Clock::monotonic_ns());
        (news, full)
    }

    /// Takes in one record. What is in a storm does not hurry anybody: it is read like strangers.
    fn side_band_record(&mut self, record: Stamped<SideBand>) -> News {
        let (time_ns, made) = (record.time_ns, matches!(record.value, SideBand::Cgroup { .. }));
        match self.happened(record) {
            Some((no, _)) if self.accounts.is_in_storm(no, time_ns) => News::Strangers,
            Some((_, news)) => news,
            None if made => News::Ours,
            None => News::Strangers,
        }
    }

    /// Takes in one record. What concerns a function waits for its turn.
    fn happened(&mut self, record: Stamped<SideBand>) -> Option<(InstanceNo, News)> {
        let time_ns = record.time_ns;
        match record.value {
            SideBand::Cgroup { id, path } => {
                let moment = self.moment(time_ns);
                self.cgroup_seen(id, &path, moment, true);
                None
            }
            SideBand::Fork { pid, parent, tid } if pid == tid && pid != parent => {
                // A stranger's child may have the number of a member whose end was not told.
                self.lineage.remove(&pid);
                let no = self.member(parent).filter(|no| self.lineage.insert(pid, *no))?;
                let no = self.sampled(no)?;
                self.order.push(time_ns, Happening::Fork { pid, parent });
                Some((no, News::Ours))
            }
            SideBand::Comm { pid, exec: true, comm, .. } => {
                self.nested.forget(pid);
                // A process moved into a cgroup leaves no record of that: ask at every exec, while anybody cares.
                let no = self.member(pid).or_else(|| self.member_by_cgroup(pid))?;
                // What a sandbox runs on the host says nothing of the function in it.
                let no = self.sampled(no)?;
                let moment = self.moment(time_ns);
                if self.setup.attribution.exec(no, &comm, moment.wall) {
                    if let Some(Reading::Cpu { cpu_us, .. }) = self.accounts.read(no, &self.setup.cgroups) {
                        self.setup.attribution.usage_at_exec(no, cpu_us);
                    }
                    self.unclaimed_exec(no, pid);
                }
                self.may_name(no, pid, moment);
                self.plain.remove(&no);
                self.accounts.churn(no, time_ns);
                self.order.push(time_ns, Happening::Exec { pid, no, comm });
                Some((no, News::Begun))
            }
            SideBand::Comm { pid, tid, exec: false, comm } => {
                let no = self.member(pid)?;
                self.order.push(time_ns, Happening::Name { pid, tid, comm });
                Some((no, News::Ours))
            }
            SideBand::Mmap { pid, start, len, file_offset, build_id, path, .. } => {
                let no = self.member(pid).and_then(|no| self.sampled(no))?;
                let end = start.saturating_add(len);
                let what = self.what_is_mapped(no, pid, start..end, &path, build_id);
                let mapping = Mapping { start, end, file_offset, what };
                self.order.push(time_ns, Happening::Mmap { pid, mapping });
                Some((no, News::Ours))
            }
            SideBand::Exit { pid, tid } if pid == tid => {
                let no = self.lineage.remove(&pid)?;
                self.ended.insert(no, self.moment(time_ns));
                self.accounts.churn(no, time_ns);
                self.order.push(time_ns, Happening::Exit { pid });
                Some((no, News::Ours))
            }
            SideBand::Exit { pid, tid } => {
                let no = self.member(pid)?;
                self.order.push(time_ns, Happening::ThreadExit { pid, tid });
                Some((no, News::Ours))
            }
            SideBand::Fork { .. } => None,
            SideBand::Lost { count } => {
                self.stats.side_band_lost = self.stats.side_band_lost.saturating_add(count);
                self.rescan = true;
                None
            }
        }
    }

    fn sampled(&self, no: InstanceNo) -> Option<InstanceNo> {
        self.setup.attribution.is_sampled(no).then_some(no)
    }

    /// What a process of an instance has mapped.
    pub(super) fn what_is_mapped(
        &mut self,
        no: InstanceNo,
        pid: Pid,
        range: Range<u64>,
        path: &str,
        build_id: Option<BuildId>,
    ) -> Mapped {
        if let Some(known) = self.files.owned(no, path, build_id) {
            return known;
        }
        if Files::is_file(path) {
            let opened = self.opened.entry(no).or_default();
            *opened += 1;
            let most = if self.governor.is_in_force(Step::Reads) { FEWER_OPENED } else { MAX_OPENED };
            if *opened > most {
                self.setup.degraded.cut(Cut::Files, 1);
                return self.files.unopened(path, build_id);
            }
        }
        let mapped = self.files.mapped(no, pid, range.start, range.end, path, build_id);
        self.files.own(no, path, build_id, &mapped);
        mapped
    }

    /// The instance a process belongs to, if that is or may be a function.
    fn member(&mut self, pid: Pid) -> Option<InstanceNo> {
        let no = *self.lineage.get(&pid)?;
        if self.setup.attribution.is_wanted(no) {
            return Some(no);
        }
        self.lineage.remove(&pid);
        None
    }

    fn member_by_cgroup(&mut self, pid: Pid) -> Option<InstanceNo> {
        if !self.setup.attribution.should_sample() || self.exited.contains(&pid) {
            return None;
        }
        let path = self.setup.cgroups.of_process(pid).ok()?;
        let no =
            self.setup.attribution.instance_at(&path).filter(|no| self.setup.attribution.is_wanted(*no))?;
        self.lineage.insert(pid, no).then_some(no)
    }
}
