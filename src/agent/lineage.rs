//! Which processes are of which instance, as far as the side-band has been read.
//!
//! Bounded for each instance: one that forks without end has the rest of its processes not followed, and takes nothing
//! from others.

use crate::model::{IdMap, InstanceNo, Pid, tables};

/// Most processes of an instance that are followed: no container in its right mind has so many, and they take half a
/// megabyte.
pub(super) const MAX_OF_ONE: u32 = 16_384;

/// Processes by id.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    by_pid: IdMap<Pid, InstanceNo>,
    of_one: IdMap<InstanceNo, u32>,
    refused: u64,
}

impl Lineage {
    /// The process is of `no` from now on. False if that has too many.
    pub(super) fn insert(&mut self, pid: Pid, no: InstanceNo) -> bool {
        if self.by_pid.get(&pid) == Some(&no) {
            return true;
        }
        self.remove(&pid);
        let count = self.of_one.entry(no).or_default();
        if *count >= MAX_OF_ONE {
            self.refused += 1;
            return false;
        }
        *count += 1;
        self.by_pid.insert(pid, no);
        true
    }

    /// The process is nobody's.
    pub(super) fn remove(&mut self, pid: &Pid) -> Option<InstanceNo> {
        let no = self.by_pid.remove(pid)?;
        if let Some(count) = self.of_one.get_mut(&no) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(&no);
            }
        }
        Some(no)
    }

    /// The instance of a process.
    pub(super) fn get(&self, pid: &Pid) -> Option<&InstanceNo> {
        self.by_pid.get(pid)
    }

    /// Whether the process is of any.
    pub(super) fn contains_key(&self, pid: &Pid) -> bool {
        self.by_pid.contains_key(pid)
    }

    /// Every process with its instance.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Pid, &InstanceNo)> {
        self.by_pid.iter()
    }

    /// Keeps processes for which `stays` holds.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(Pid, InstanceNo) -> bool) {
        let gone: Vec<Pid> =
            self.by_pid.iter().filter(|(pid, no)| !stays(**pid, **no)).map(|(pid, _)| *pid).collect();
        for pid in gone {
            self.remove(&pid);
        }
    }

    /// Gives back what its tables took for more than they hold now.
    pub(super) fn keep_little(&mut self) {
        tables::keep_little(&mut self.by_pid);
        tables::keep_little(&mut self.of_one);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_pid.clear();
        self.of_one.clear();
    }

    /// Processes that were not followed since it was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_forks_without_end_takes_nothing_from_others() {
        let (mut lineage, hostile, other) = (Lineage::default(), InstanceNo(1), InstanceNo(2));
        for pid in 0..MAX_OF_ONE {
            assert!(lineage.insert(Pid(pid), hostile));
        }
        assert!(!lineage.insert(Pid(MAX_OF_ONE), hostile));
        assert!(lineage.insert(Pid(0), hostile), "it is known");
        assert!(lineage.insert(Pid(0), other), "its number is another's now");
        assert!(lineage.insert(Pid(MAX_OF_ONE), hostile), "one has gone");
        assert_eq!((lineage.take_refused(), lineage.take_refused()), (1, 0));
        lineage.retain(|_, no| no == other);
        assert_eq!(lineage.iter().collect::<Vec<_>>(), [(&Pid(0), &other)]);
        assert_eq!((lineage.remove(&Pid(0)), lineage.of_one.len()), (Some(other), 0));
    }
}
