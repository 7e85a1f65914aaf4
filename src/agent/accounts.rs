//! The CPU accounts of instances, and what else their cgroups tell: read while they run, at every end of a process, and
//! once the last one has left.
//!
//! The last reading is hard to get, because whoever made the cgroup removes it soon after its last process: so each
//! end of a process is followed by a reading at once, and by looks at whether the cgroup is empty a few milliseconds
//! apart. In a storm of ends (see `churn`) both are [`STORM_LOOK_NS`] apart: what its last processes took in that time is
//! missing where the cgroup goes as fast.

use std::collections::BTreeSet;

use super::churn::Churn;
use super::pace::is_due;
use crate::attribution::Moment;
use crate::cgroup::{Cgroups, CpuAccount, FactFiles, Population};
use crate::model::{CgroupId, CpuSource, Fact, IdMap, InstanceNo};

/// Readings while an instance runs: a second apart while it does something, up to eight while it waits.
const SHORT_WAIT_NS: u64 = 1_000_000_000;
const LONG_WAIT_NS: u64 = 8_000_000_000;
/// An empty cgroup that is still there after that was left behind, by a runtime that was killed, or by a kernel that refused.
const LEFT_NS: u64 = 10_000_000_000;
/// Between readings of throttling and pressure at ends of processes: a shell script ends hundreds a second.
const FACTS_WAIT_NS: u64 = 100_000_000;
/// Looks after an end of a process: the first after a millisecond, each next one twice as late.
const FIRST_LOOK_NS: u64 = 1_000_000;
const LAST_LOOK_NS: u64 = 64_000_000;
/// The first look after an end that is one of a storm.
const STORM_LOOK_NS: u64 = 20_000_000;

/// Most instances whose counters stay open: opening them is most of reading them, and each is three open files.
const MOST_HELD: usize = 256;

/// Accounts by instance.
#[derive(Default)]
pub(super) struct Accounts {
    open: IdMap<InstanceNo, Account>,
    /// When somebody is to be looked at, the next first.
    looks: BTreeSet<(u64, InstanceNo)>,
}

struct Account {
    /// None where it could not be opened: then only whether the cgroup is still there can be told.
    cpu: Option<CpuAccount>,
    facts: FactFiles,
    population: Population,
    churn: Churn,
    /// When an end was read last.
    end_read_ns: u64,
    /// When counters were read last.
    facts_read_ns: u64,
    path: String,
    id: CgroupId,
    last_exit: Option<Moment>,
    look: Option<Look>,
    /// When it is read next while it runs, how long it waited for that, and what was read last.
    next_read_ns: u64,
    wait_ns: u64,
    read_us: Option<u64>,
    /// When it was looked at and empty: it is about to be removed, and read every second until it is, or left behind.
    emptied_ns: Option<u64>,
}

#[derive(Clone, Copy)]
struct Look {
    due_ns: u64,
    wait_ns: u64,
    /// Whether an end is not read yet.
    owes: bool,
}

/// What a reading found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// CPU time so far.
    Cpu {
        /// In microseconds.
        cpu_us: u64,
        /// How it was read.
        source: CpuSource,
    },
    /// The cgroup is there; its CPU time cannot be read.
    Unreadable,
    /// The cgroup is gone; its last process ended then, if that was seen.
    Gone {
        /// The end of its last process.
        last_exit: Option<Moment>,
    },
}

impl Accounts {
    /// Opens the account of the instance whose cgroup is `id` at `path`. It is watched for its end even where its CPU
    /// time cannot be read.
    pub(super) fn open(&mut self, no: InstanceNo, id: CgroupId, path: &str, cgroups: &Cgroups) {
        let cpu = cgroups.cpu_account(path).ok();
        self.close(no);
        let account = Account {
            cpu,
            facts: FactFiles::open(cgroups, path),
            population: cgroups.population(path),
            churn: Churn::default(),
            end_read_ns: 0,
            facts_read_ns: 0,
            path: path.into(),
            id,
            last_exit: None,
            look: None,
            next_read_ns: 0,
            wait_ns: SHORT_WAIT_NS,
            read_us: None,
            emptied_ns: None,
        };
        self.open.insert(no, account);
    }

    /// Whether the instance has an account.
    pub(super) fn has(&self, no: InstanceNo) -> bool {
        self.open.contains_key(&no)
    }

    /// Closes the account of an instance. Returns its cgroup, if it had one.
    pub(super) fn close(&mut self, no: InstanceNo) -> Option<CgroupId> {
        let account = self.open.remove(&no)?;
        if let Some(look) = account.look {
            self.looks.remove(&(look.due_ns, no));
        }
        Some(account.id)
    }

    /// The instance does something: its account is read at the next occasion.
    pub(super) fn stir(&mut self, no: InstanceNo) {
        if let Some(account) = self.open.get_mut(&no) {
            account.next_read_ns = 0;
            account.emptied_ns = None;
        }
    }

    /// Reads an account while its instance runs.
    pub(super) fn read(&self, no: InstanceNo, cgroups: &Cgroups) -> Option<Reading> {
        Some(self.open.get(&no)?.reading(CpuSource::Running, cgroups))
    }

    /// Reads the accounts whose turn it is while their instances run.
    pub(super) fn read_due(&mut self, now_ns: u64, cgroups: &Cgroups) -> Vec<(InstanceNo, Reading)> {
        let mut found = Vec::new();
        for (no, account) in &mut self.open {
            if !is_due(account.next_read_ns, now_ns) {
                continue;
            }
            let reading = account.reading(CpuSource::Running, cgroups);
            let read_us = if let Reading::Cpu { cpu_us, .. } = reading { Some(cpu_us) } else { None };
            let left = account.is_left(now_ns);
            if left {
                account.facts.close();
                account.population.close();
            }
            let waits =
                (read_us.is_none() || read_us == account.read_us) && (left || account.emptied_ns.is_none());
            account.wait_ns = if waits { (account.wait_ns * 2).min(LONG_WAIT_NS) } else { SHORT_WAIT_NS };
            account.next_read_ns = now_ns.saturating_add(account.wait_ns);
            account.read_us = read_us;
            found.push((*no, reading));
        }
        found
    }

    /// What the cgroups of `instances` tell beside their CPU time: their counters, and whether they are frozen. Who waits
    /// is asked at seconds' distance; where a runtime tells of a pause, its word comes first. One that was left behind has
    /// nothing to tell.
    pub(super) fn facts(&mut self, instances: &[InstanceNo], now_ns: u64) -> Vec<(InstanceNo, Fact)> {
        let mut found = Vec::new();
        for no in instances {
            let account = self.open.get_mut(no).filter(|account| !account.is_left(now_ns));
            let Some(account) = account else { continue };
            let frozen = account.facts.frozen();
            let facts = self.counters(*no, now_ns).into_iter().chain(frozen);
            found.extend(facts.map(|fact| (*no, fact)));
        }
        found
    }

    /// The counters of an instance of which a process has ended, unless they were just read.
    pub(super) fn counters_at_end(&mut self, no: InstanceNo, now_ns: u64) -> Vec<Fact> {
        let due = |account: &Account| now_ns >= account.facts_read_ns.saturating_add(FACTS_WAIT_NS);
        if self.open.get(&no).is_some_and(due) { self.counters(no, now_ns) } else { Vec::new() }
    }

    /// The counters of an instance.
    pub(super) fn counters(&mut self, no: InstanceNo, now_ns: u64) -> Vec<Fact> {
        let hold = self.open.len() <= MOST_HELD;
        let Some(account) = self.open.get_mut(&no) else { return Vec::new() };
        account.facts_read_ns = now_ns;
        account.facts.counters(hold).collect()
    }

    /// A process of the instance has begun or ended.
    pub(super) fn churn(&mut self, no: InstanceNo, now_ns: u64) {
        if let Some(account) = self.open.get_mut(&no) {
            account.churn.add(now_ns);
        }
    }

    /// Whether the instance's processes begin and end so fast that nobody hurries after them.
    pub(super) fn is_in_storm(&mut self, no: InstanceNo, now_ns: u64) -> bool {
        self.open.get_mut(&no).is_some_and(|account| account.churn.is_storm(now_ns))
    }

    /// Processes of the instance have ended, the last one at `at`: reads the account at once, in a storm unless it was just
    /// read, and looks again soon, because it may have been the last.
    pub(super) fn process_ended(
        &mut self,
        no: InstanceNo,
        at: Moment,
        now_ns: u64,
        cgroups: &Cgroups,
    ) -> Option<Reading> {
        let account = self.open.get_mut(&no)?;
        account.last_exit = Some(at);
        let is_storm = account.churn.is_storm(now_ns);
        let owes = is_storm && now_ns < account.end_read_ns.saturating_add(STORM_LOOK_NS);
        if !owes {
            account.end_read_ns = now_ns;
        }
        let (wait_ns, due_ns) = if is_storm {
            (STORM_LOOK_NS, account.end_read_ns.saturating_add(STORM_LOOK_NS))
        } else {
            let due_ns = now_ns.saturating_add(FIRST_LOOK_NS);
            (FIRST_LOOK_NS, account.look.map_or(due_ns, |look| look.due_ns.min(due_ns)))
        };
        if let Some(look) = account.look.replace(Look { due_ns, wait_ns, owes }) {
            self.looks.remove(&(look.due_ns, no));
        }
        self.looks.insert((due_ns, no));
        (!owes).then(|| account.reading(CpuSource::Exit, cgroups))
    }

    /// When the next look is due.
    pub(super) fn next_look_ns(&self) -> Option<u64> {
        self.looks.first().map(|(due_ns, _)| *due_ns)
    }

    /// Looks whose time has come: the final reading of those that are empty now, and that of an end in a storm.
    pub(super) fn look(&mut self, now_ns: u64, cgroups: &Cgroups) -> Vec<(InstanceNo, Reading)> {
        let mut found = Vec::new();
        let later = match now_ns.checked_add(1) {
            Some(next) => self.looks.split_off(&(next, InstanceNo(0))),
            None => BTreeSet::new(),
        };
        let hold = self.open.len() <= MOST_HELD;
        for (_, no) in std::mem::replace(&mut self.looks, later) {
            let Some(account) = self.open.get_mut(&no) else { continue };
            let Some(look) = account.look.take() else { continue };
            let populated = account.population.is_populated(cgroups, &account.path, hold);
            if look.owes && matches!(populated, Ok(true)) {
                account.end_read_ns = now_ns;
                found.push((no, account.reading(CpuSource::Exit, cgroups)));
            }
            match populated {
                Ok(true) if look.wait_ns < LAST_LOOK_NS => {
                    let wait_ns = look.wait_ns * 2;
                    let due_ns = now_ns.saturating_add(wait_ns);
                    account.look = Some(Look { due_ns, wait_ns, owes: false });
                    self.looks.insert((due_ns, no));
                }
                Ok(true) => {}
                Ok(false) => {
                    account.next_read_ns = 0;
                    account.emptied_ns.get_or_insert(now_ns);
                    found.push((no, account.reading(CpuSource::Final, cgroups)));
                }
                Err(_) => found.push((no, Reading::Gone { last_exit: account.last_exit })),
            }
        }
        found
    }
}

impl Account {
    /// Whether it was left behind, empty.
    fn is_left(&self, now_ns: u64) -> bool {
        self.emptied_ns.is_some_and(|since_ns| now_ns >= since_ns.saturating_add(LEFT_NS))
    }

    fn reading(&self, source: CpuSource, cgroups: &Cgroups) -> Reading {
        match self.cpu.as_ref().map(CpuAccount::read_us) {
            Some(Ok(cpu_us)) => Reading::Cpu { cpu_us, source },
            None if cgroups.id(&self.path).is_ok_and(|id| id == self.id) => Reading::Unreadable,
            Some(Err(_)) | None => Reading::Gone { last_exit: self.last_exit },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use std::os::unix::fs::MetadataExt as _;

    const NO: InstanceNo = InstanceNo(1);

    /// A directory that looks like a cgroup2 hierarchy with the cgroup `/a`.
    fn host() -> (tempfile::TempDir, Cgroups, CgroupId) {
        let dir = tempfile::tempdir().unwrap();
        let mountinfo = format!("1 1 0:1 / {} rw - cgroup2 none rw", dir.path().display());
        let own = dir.path().join("a");
        std::fs::create_dir(&own).unwrap();
        let id = CgroupId(std::fs::metadata(&own).unwrap().ino());
        (dir, Cgroups::from_mountinfo(&mountinfo).unwrap(), id)
    }

    fn write(dir: &tempfile::TempDir, populated: u8) {
        std::fs::write(dir.path().join("a/cpu.stat"), "usage_usec 7\n").unwrap();
        std::fs::write(dir.path().join("a/cgroup.events"), format!("populated {populated}\n")).unwrap();
    }

    fn at(ns: u64) -> Moment {
        Moment { ns, wall: Timestamp(0) }
    }

    #[test]
    fn a_cgroup_without_an_account_is_still_watched_for_its_end() {
        let (dir, cgroups, id) = host();
        let mut accounts = Accounts::default();
        accounts.open(NO, id, "/a", &cgroups);
        assert_eq!(accounts.read(NO, &cgroups), Some(Reading::Unreadable));
        std::fs::remove_dir(dir.path().join("a")).unwrap();
        assert_eq!(accounts.read(NO, &cgroups), Some(Reading::Gone { last_exit: None }));
    }

    #[test]
    fn those_that_wait_are_read_less_and_less_until_they_stir() {
        let (dir, cgroups, id) = host();
        write(&dir, 1);
        let mut accounts = Accounts::default();
        accounts.open(NO, id, "/a", &cgroups);
        let mut turns = Vec::new();
        for second in 0..32 {
            if second == 30 {
                accounts.stir(NO);
            }
            if !accounts.read_due(second * SHORT_WAIT_NS, &cgroups).is_empty() {
                turns.push(second);
            }
        }
        assert_eq!(turns, [0, 1, 3, 7, 15, 23, 30]);
    }

    #[test]
    fn each_end_of_a_process_is_soon_followed_by_a_look() {
        let (dir, cgroups, id) = host();
        write(&dir, 1);
        let mut accounts = Accounts::default();
        accounts.open(NO, id, "/a", &cgroups);
        assert_eq!(accounts.next_look_ns(), None);
        accounts.process_ended(NO, at(0), 0, &cgroups);
        for wait_ms in [1, 3, 7, 15] {
            assert_eq!(accounts.next_look_ns(), Some(wait_ms * FIRST_LOOK_NS));
            assert_eq!(accounts.look(wait_ms * FIRST_LOOK_NS, &cgroups), []);
        }
        // The last process ends while the looks are far apart.
        accounts.process_ended(NO, at(16), 16 * FIRST_LOOK_NS, &cgroups);
        write(&dir, 0);
        assert_eq!(accounts.look(17 * FIRST_LOOK_NS - 1, &cgroups), []);
        let last = (NO, Reading::Cpu { cpu_us: 7, source: CpuSource::Final });
        assert_eq!(accounts.look(17 * FIRST_LOOK_NS, &cgroups), [last]);
        assert_eq!(accounts.next_look_ns(), None);
        accounts.process_ended(NO, at(18), 18 * FIRST_LOOK_NS, &cgroups);
        assert_eq!(accounts.look(u64::MAX, &cgroups).len(), 1, "at the end all are looked at");
        accounts.process_ended(NO, at(19), 19 * FIRST_LOOK_NS, &cgroups);
        accounts.close(NO);
        assert_eq!(accounts.next_look_ns(), None);
    }

    #[test]
    fn of_one_that_is_left_behind_a_single_file_stays_open() {
        let (dir, cgroups, id) = host();
        write(&dir, 1);
        std::fs::write(dir.path().join("a/cpu.pressure"), "some avg10=0.00 total=3\n").unwrap();
        let open = || {
            let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let its = |file: &std::fs::DirEntry| {
                std::fs::read_link(file.path()).is_ok_and(|link| link.starts_with(dir.path()))
            };
            files.filter(its).count()
        };
        let mut accounts = Accounts::default();
        accounts.open(NO, id, "/a", &cgroups);
        accounts.process_ended(NO, at(0), 0, &cgroups);
        write(&dir, 0);
        assert_eq!(accounts.look(FIRST_LOOK_NS, &cgroups).len(), 1);
        assert_eq!(accounts.facts(&[NO], FIRST_LOOK_NS).len(), 1, "its pressure");
        let held = open();
        assert!(held > 2, "{held}");
        // Read each second until it counts as left behind, and then ever less.
        let mut turns = Vec::new();
        for second in 1..30 {
            let now_ns = second * SHORT_WAIT_NS;
            if !accounts.read_due(now_ns, &cgroups).is_empty() {
                turns.push(second);
            }
            accounts.facts(&[NO], now_ns);
            assert_eq!(open(), if second <= 10 { held } else { 1 }, "{second}");
        }
        assert_eq!(turns, (1..12).chain([13, 17, 25]).collect::<Vec<_>>());
        // Somebody was moved into it.
        accounts.stir(NO);
        assert_eq!(accounts.read_due(30 * SHORT_WAIT_NS, &cgroups).len(), 1);
        assert_eq!(accounts.facts(&[NO], 30 * SHORT_WAIT_NS).len(), 1);
    }

    #[test]
    fn in_a_storm_of_ends_few_are_read_and_none_is_forgotten() {
        let (dir, cgroups, id) = host();
        write(&dir, 1);
        let mut accounts = Accounts::default();
        accounts.open(NO, id, "/a", &cgroups);
        let (mut at_once, mut later) = (0, 0);
        // A thousand a second for five seconds.
        for ms in 0..5_000 {
            let now_ns = ms * FIRST_LOOK_NS;
            accounts.churn(NO, now_ns);
            at_once += usize::from(accounts.process_ended(NO, at(ms), now_ns, &cgroups).is_some());
            later += accounts.look(now_ns, &cgroups).len();
        }
        // The burst and what was forgotten of it meanwhile, 640; then fifty a second, at once or by a look.
        assert!((830..=900).contains(&(at_once + later)), "{at_once} and {later}");
        // One that comes when nothing was read for a while is read at once, in the storm as behind it.
        let _ = accounts.look(5_030 * FIRST_LOOK_NS, &cgroups);
        let now_ns = 5_100 * FIRST_LOOK_NS;
        assert!(accounts.is_in_storm(NO, now_ns));
        let last = Reading::Cpu { cpu_us: 7, source: CpuSource::Exit };
        assert_eq!(accounts.process_ended(NO, at(5_100), now_ns, &cgroups), Some(last));
        write(&dir, 0);
        let due_ns = accounts.next_look_ns().unwrap();
        assert!(due_ns <= now_ns + STORM_LOOK_NS);
        let last = (NO, Reading::Cpu { cpu_us: 7, source: CpuSource::Final });
        assert_eq!(accounts.look(due_ns, &cgroups), [last]);
    }
}
