//! The CPU accounts of instances: read while they run, at every end of a process, and once the last one has left.
//!
//! The last reading is hard to get, because whoever made the cgroup removes it soon after its last process: so each
//! end of a process is followed by a reading at once, and by looks at whether the cgroup is empty a few milliseconds
//! apart.

use std::collections::HashMap;

use crate::attribution::Moment;
use crate::cgroup::{Cgroups, CpuAccount};
use crate::model::{CpuSource, InstanceNo};

/// Looks after an end of a process: the first after a millisecond, each next one twice as late.
const FIRST_LOOK_NS: u64 = 1_000_000;
const LAST_LOOK_NS: u64 = 64_000_000;

/// Accounts by instance.
#[derive(Default)]
pub(super) struct Accounts {
    open: HashMap<InstanceNo, Account>,
}

struct Account {
    cpu: CpuAccount,
    path: String,
    last_exit: Option<Moment>,
    look: Option<Look>,
}

#[derive(Clone, Copy)]
struct Look {
    due_ns: u64,
    wait_ns: u64,
}

/// What a reading found.
pub(super) enum Reading {
    /// CPU time so far.
    Cpu {
        /// In microseconds.
        cpu_us: u64,
        /// How it was read.
        source: CpuSource,
    },
    /// The cgroup is gone; its last process ended then, if that was seen.
    Gone {
        /// The end of its last process.
        last_exit: Option<Moment>,
    },
}

impl Accounts {
    /// Opens the account of an instance. One whose cgroup is gone already has none.
    pub(super) fn open(&mut self, no: InstanceNo, path: &str, cgroups: &Cgroups) -> bool {
        let Ok(cpu) = cgroups.cpu_account(path) else { return false };
        self.open.insert(no, Account { cpu, path: path.into(), last_exit: None, look: None });
        true
    }

    /// Closes the account of an instance.
    pub(super) fn close(&mut self, no: InstanceNo) {
        self.open.remove(&no);
    }

    /// Instances with an open account.
    pub(super) fn instances(&self) -> Vec<InstanceNo> {
        self.open.keys().copied().collect()
    }

    /// Reads an account while its instance runs.
    pub(super) fn read(&self, no: InstanceNo) -> Option<Reading> {
        let account = self.open.get(&no)?;
        Some(account.reading(CpuSource::Running))
    }

    /// A process of the instance has ended at `at`: reads the account at once, and looks again soon.
    pub(super) fn process_ended(&mut self, no: InstanceNo, at: Moment, now_ns: u64) -> Option<Reading> {
        let account = self.open.get_mut(&no)?;
        account.last_exit = Some(at);
        account.look.get_or_insert(Look { due_ns: now_ns + FIRST_LOOK_NS, wait_ns: FIRST_LOOK_NS });
        Some(account.reading(CpuSource::Exit))
    }

    /// When the next look is due.
    pub(super) fn next_look_ns(&self) -> Option<u64> {
        self.open.values().filter_map(|account| account.look.map(|look| look.due_ns)).min()
    }

    /// Looks whose time has come: the final reading of those that are empty now.
    pub(super) fn look(&mut self, now_ns: u64, cgroups: &Cgroups) -> Vec<(InstanceNo, Reading)> {
        let mut found = Vec::new();
        for (no, account) in &mut self.open {
            let Some(look) = account.look.filter(|look| look.due_ns <= now_ns) else { continue };
            account.look = match cgroups.is_populated(&account.path) {
                Ok(true) if look.wait_ns < LAST_LOOK_NS => {
                    let wait_ns = look.wait_ns * 2;
                    Some(Look { due_ns: now_ns.saturating_add(wait_ns), wait_ns })
                }
                Ok(true) => None,
                Ok(false) => {
                    found.push((*no, account.reading(CpuSource::Final)));
                    None
                }
                Err(_) => {
                    found.push((*no, Reading::Gone { last_exit: account.last_exit }));
                    None
                }
            };
        }
        found
    }
}

impl Account {
    fn reading(&self, source: CpuSource) -> Reading {
        match self.cpu.read_us() {
            Ok(cpu_us) => Reading::Cpu { cpu_us, source },
            Err(_) => Reading::Gone { last_exit: self.last_exit },
        }
    }
}
