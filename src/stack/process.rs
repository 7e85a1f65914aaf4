//! What a process has mapped, so that an address of it becomes a place in a file.
//!
//! Fed in order of time: what is known is what was true at the time of the next sample. Bounded, because mappings and
//! processes are in tenants' hands; what does not fit is unknown, not wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::file::MappedFile;
use super::space::{AddressSpace, LentBytes, Mapped, Mapping, Table};
use crate::model::{IdMap, InstanceNo, Pid, tables};

/// Most executable mappings kept of all together (a table that processes share counts once), some 64 bytes each.
const MAX_ALL_MAPPINGS: usize = 1 << 20;
const MAX_PROCESSES: usize = 65_536;
/// Most mappings of a process whose address space is lent, and most memory of all that are, in bytes.
const MOST_LENT: usize = 1_024;
const MOST_LENT_BYTES: usize = 16 << 20;
/// The share of one instance in both: an eighth. Nobody can take the rest from the others.
const MAX_MAPPINGS_OF_ONE: usize = MAX_ALL_MAPPINGS / 8;
const MAX_PROCESSES_OF_ONE: usize = MAX_PROCESSES / 8;
/// Most named threads kept of a process.
const MAX_THREADS: usize = 512;
/// Threads of a process that ends go within this time, one after the other.
const LEAVING_NS: u64 = 100_000_000;
/// How long a process is known after its end: samples are at most a second late.
const DEAD_NS: u64 = 3_000_000_000;

/// Processes by id.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: IdMap<Pid, Process>,
    /// Ended processes, and the birth count of the one that ended: a reused id is not it.
    dead: VecDeque<(u64, Pid, u64)>,
    births: u64,
    /// Mappings in all tables.
    mappings: usize,
    shares: IdMap<InstanceNo, Share>,
    refused: Refused,
    lent: LentBytes,
}

/// What one instance takes of the whole.
#[derive(Debug, Default)]
struct Share {
    processes: usize,
    mappings: usize,
}

/// What there was no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Processes that are not known.
    pub processes: u64,
    /// Mappings that are not known.
    pub mappings: u64,
}

#[derive(Debug, Clone)]
struct Process {
    owner: InstanceNo,
    birth: u64,
    /// Since when it stands among the dead, if it does.
    ended_ns: Option<u64>,
    /// Whether something may have happened to it that was not told.
    doubtful: bool,
    comm: Arc<str>,
    threads: IdMap<Pid, Arc<str>>,
    /// Shared with the parent until one of them changes it.
    table: Arc<Table>,
    /// The same, as somebody may have it.
    lent: Weak<AddressSpace>,
    /// The file of its program: what it mapped first.
    main: Option<Arc<MappedFile>>,
}

impl Processes {
    /// Whether the process is known, beyond doubt.
    pub fn knows(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| !process.doubtful)
    }

    /// What the process has mapped now, for as long as somebody has it. None of a process that is not known, and where it
    /// would be too much: a program may map something else between any two samples.
    pub fn lend(&mut self, pid: Pid) -> Option<Arc<AddressSpace>> {
        let Process { table, lent, .. } = self.by_pid.get_mut(&pid)?;
        if let Some(space) = lent.upgrade().filter(|space| space.version() == table.version()) {
            return Some(space);
        }
        if table.sorted().len() > MOST_LENT || self.lent.get() > MOST_LENT_BYTES {
            return None;
        }
        let space = Arc::new(table.lend(&self.lent));
        *lent = Arc::downgrade(&space);
        Some(space)
    }

    /// What stands for all that the process has mapped now, as [`AddressSpace::version`]; 0 of one that is not known.
    pub fn version(&self, pid: Pid) -> u64 {
        self.by_pid.get(&pid).map_or(0, |process| process.table.version())
    }

    /// Whether so much is lent that soon there will be no more: who keeps spaces of the past is to give them back.
    pub fn has_lent_much(&self) -> bool {
        self.lent.get() > MOST_LENT_BYTES / 2
    }

    /// Whether one of `addresses` of a process may be code that is made at run time.
    pub fn has_made(&self, pid: Pid, addresses: impl Iterator<Item = u64>) -> bool {
        self.by_pid.get(&pid).is_some_and(|process| process.table.has_made(addresses))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// What there was no room for since it was asked last.
    pub fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// A process of `owner` as it was found running.
    pub fn found(&mut self, pid: Pid, owner: InstanceNo, comm: &str, mappings: Vec<Mapping>) {
        self.unmap(pid);
        if let Some(process) = self.enter(pid, owner) {
            (process.comm, process.threads, process.main) = (comm.into(), IdMap::default(), None);
        }
        mappings.into_iter().for_each(|mapping| self.mmap(pid, mapping));
    }

    /// A process began as a copy of its parent.
    pub fn fork(&mut self, pid: Pid, parent: Pid) {
        let Some(process) = self.by_pid.get(&parent) else { return };
        let (comm, table, doubtful) = (process.comm.clone(), process.table.clone(), process.doubtful);
        let (main, owner) = (process.main.clone(), process.owner);
        self.unmap(pid);
        if let Some(process) = self.enter(pid, owner) {
            (process.comm, process.table, process.doubtful) = (comm, table, doubtful);
            process.main = main;
            process.threads.clear();
        }
    }

    /// Records were lost: what is known of any process may be of a program it no longer is.
    pub fn doubt(&mut self) {
        self.by_pid.values_mut().for_each(|process| process.doubtful = true);
    }

    /// A process was looked for and is not there any more: what is known of it, if anything, must do.
    pub fn missed(&mut self, pid: Pid, owner: InstanceNo, now_ns: u64) {
        match self.by_pid.get_mut(&pid) {
            Some(process) => process.doubtful = false,
            None => self.found(pid, owner, "?", Vec::new()),
        }
        self.exit(pid, now_ns);
    }

    /// A process became another program: nothing mapped before is there any more.
    pub fn exec(&mut self, pid: Pid, owner: InstanceNo, comm: &str) {
        self.found(pid, owner, comm, Vec::new());
    }

    /// A thread got a name.
    pub fn name(&mut self, pid: Pid, tid: Pid, comm: &str) {
        let Some(process) = self.by_pid.get_mut(&pid) else { return };
        if pid == tid {
            process.comm = comm.into();
        } else if process.threads.len() < MAX_THREADS {
            process.threads.insert(tid, comm.into());
        }
    }

    /// A process mapped something executable; what lay there before is gone.
    pub fn mmap(&mut self, pid: Pid, mapping: Mapping) {
        let Some(process) = self.by_pid.get_mut(&pid) else { return };
        if mapping.start >= mapping.end {
            return;
        }
        if let (None, Mapped::File(file)) = (&process.main, &mapping.what) {
            process.main = Some(file.clone());
        }
        let own = if Arc::strong_count(&process.table) == 1 { process.table.sorted().len() } else { 0 };
        // A mapping may split another one, and a table that is shared is copied first.
        let more = process.table.sorted().len() + 2 - own;
        let share = self.shares.entry(process.owner).or_default();
        if self.mappings + more > MAX_ALL_MAPPINGS || share.mappings + more > MAX_MAPPINGS_OF_ONE {
            self.refused.mappings += 1;
            self.unmap(pid);
            return;
        }
        self.births += 1;
        let table = Arc::make_mut(&mut process.table);
        table.map(mapping, self.births);
        self.mappings = self.mappings - own + table.sorted().len();
        share.mappings = share.mappings - own + table.sorted().len();
    }

    /// A thread ended; its number may come again.
    pub fn thread_exit(&mut self, pid: Pid, tid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.threads.remove(&tid);
        }
    }

    /// A process ended; it stays known for the samples that are still to come.
    pub fn exit(&mut self, pid: Pid, now_ns: u64) {
        if let Some(process) = self.by_pid.get_mut(&pid)
            && process.ended_ns.is_none()
        {
            process.ended_ns = Some(now_ns);
            self.dead.push_back((now_ns, pid, process.birth));
        }
    }

    /// A thread ran at `at_ns`. True if its process was taken for ended long before: its first thread has left it to the
    /// others, which is told like the end of all. It lives again.
    pub fn ran(&mut self, pid: Pid, tid: Pid, at_ns: u64) -> bool {
        let Some(process) = self.by_pid.get_mut(&pid).filter(|_| pid != tid) else { return false };
        let outlived = process.ended_ns.is_some_and(|ended_ns| at_ns.saturating_sub(ended_ns) > LEAVING_NS);
        if outlived {
            self.births += 1;
            (process.birth, process.ended_ns) = (self.births, None);
        }
        outlived
    }

    /// Counts every process as ended now that is not one of `members` any more: its end was not told, or nobody is
    /// interested in it.
    pub fn keep(&mut self, members: impl Fn(Pid) -> bool, now_ns: u64) {
        for (pid, process) in &mut self.by_pid {
            if process.ended_ns.is_none() && !members(*pid) {
                process.ended_ns = Some(now_ns);
                self.dead.push_back((now_ns, *pid, process.birth));
            }
        }
    }

    /// Forgets processes that ended long before `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some(&(ended_ns, pid, birth)) = self.dead.front() {
            if now_ns.saturating_sub(ended_ns) < DEAD_NS && self.dead.len() < MAX_PROCESSES / 2 {
                break;
            }
            self.dead.pop_front();
            if self.by_pid.get(&pid).is_some_and(|process| process.birth == birth) {
                self.forget(pid);
            }
        }
        tables::keep_little(&mut self.by_pid);
    }

    /// Forgets a process at once.
    pub fn forget(&mut self, pid: Pid) {
        self.unmap(pid);
        if let Some(process) = self.by_pid.remove(&pid) {
            self.leave(process.owner);
        }
    }

    /// The name of a thread, or of its process where it has none of its own.
    pub fn comm(&self, pid: Pid, tid: Pid) -> Arc<str> {
        let process = self.by_pid.get(&pid);
        let comm = process.map(|process| process.threads.get(&tid).unwrap_or(&process.comm));
        comm.cloned().unwrap_or_else(|| "?".into())
    }

    /// Whose a process is.
    pub fn owner(&self, pid: Pid) -> Option<InstanceNo> {
        self.by_pid.get(&pid).map(|process| process.owner)
    }

    /// The file of the program that a process runs, as far as is known.
    pub fn main(&self, pid: Pid) -> Option<&Arc<MappedFile>> {
        self.by_pid.get(&pid)?.main.as_ref()
    }

    /// What a process has mapped, sorted by start.
    pub fn mappings(&self, pid: Pid) -> &[Mapping] {
        self.by_pid.get(&pid).map_or(&[], |process| process.table.sorted())
    }

    /// Takes all mappings of a process away.
    fn unmap(&mut self, pid: Pid) {
        let Some(process) = self.by_pid.get_mut(&pid) else { return };
        // Where it was shared, it is still somebody's.
        let freed =
            Arc::into_inner(std::mem::take(&mut process.table)).map_or(0, |table| table.sorted().len());
        self.mappings -= freed;
        if let Some(share) = self.shares.get_mut(&process.owner) {
            share.mappings -= freed;
        }
    }

    /// A process of `owner` is not known any more.
    fn leave(&mut self, owner: InstanceNo) {
        if let Some(share) = self.shares.get_mut(&owner) {
            share.processes = share.processes.saturating_sub(1);
            if share.processes == 0 {
                self.shares.remove(&owner);
            }
        }
    }

    /// The entry of a process of `owner` that begins now, without mappings; none when there are too many.
    fn enter(&mut self, pid: Pid, owner: InstanceNo) -> Option<&mut Process> {
        if self.by_pid.get(&pid).is_none_or(|process| process.owner != owner) {
            self.forget(pid);
            let share = self.shares.get(&owner).map_or(0, |share| share.processes);
            if self.by_pid.len() >= MAX_PROCESSES || share >= MAX_PROCESSES_OF_ONE {
                self.refused.processes += 1;
                return None;
            }
            self.shares.entry(owner).or_default().processes += 1;
        }
        self.births += 1;
        let fresh = Process {
            owner,
            birth: self.births,
            ended_ns: None,
            doubtful: false,
            comm: "?".into(),
            threads: IdMap::default(),
            table: Arc::default(),
            lent: Weak::new(),
            main: None,
        };
        let process = self.by_pid.entry(pid).or_insert(fresh);
        process.birth = self.births;
        (process.ended_ns, process.doubtful) = (None, false);
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::file::Place;
    use crate::stack::space::{MAX_MAPPINGS, Mappings};
    use proptest::prelude::*;

    const OWNER: InstanceNo = InstanceNo(1);

    fn file(id: u64) -> Arc<MappedFile> {
        Arc::new(MappedFile::new(id, format!("f{id}"), None, None))
    }

    fn mapping(start: u64, end: u64, file_offset: u64, id: u64) -> Mapping {
        Mapping { start, end, file_offset, what: Mapped::File(file(id)) }
    }

    fn place(processes: &Processes, pid: Pid, ip: u64) -> Place {
        Mappings::new(processes.mappings(pid)).place(ip)
    }

    fn offset(place: &Place) -> Option<(u64, u64)> {
        if let Place::File { file, offset } = place { Some((file.id, *offset)) } else { None }
    }

    #[test]
    fn a_later_mapping_replaces_what_it_covers() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        processes.mmap(Pid(1), mapping(0x1000, 0x5000, 0x100, 1));
        processes.mmap(Pid(1), mapping(0x2000, 0x3000, 0, 2));
        for (ip, expected) in [
            (0x0fff, None),
            (0x1000, Some((1, 0x100))),
            (0x1fff, Some((1, 0x10ff))),
            (0x2000, Some((2, 0))),
            (0x3000, Some((1, 0x2100))),
            (0x5000, None),
        ] {
            assert_eq!(offset(&place(&processes, Pid(1), ip)), expected, "{ip:x}");
        }
    }

    #[test]
    fn a_child_has_its_parents_mappings_until_it_execs() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        processes.mmap(Pid(1), mapping(0, 10, 0, 1));
        processes.fork(Pid(2), Pid(1));
        processes.mmap(Pid(2), mapping(20, 30, 0, 2));
        assert_eq!(offset(&place(&processes, Pid(2), 5)), Some((1, 5)));
        assert_eq!(place(&processes, Pid(1), 25), Place::Unknown(25));
        processes.exec(Pid(2), OWNER, "b");
        assert_eq!(place(&processes, Pid(2), 5), Place::Unknown(5));
        assert_eq!(&*processes.comm(Pid(2), Pid(2)), "b");
    }

    #[test]
    fn a_process_whose_first_thread_has_left_lives_with_the_others() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        processes.mmap(Pid(1), mapping(0, 10, 0, 1));
        assert!(!processes.ran(Pid(1), Pid(2), 5), "it has not ended");
        processes.exit(Pid(1), 10);
        assert!(!processes.ran(Pid(1), Pid(2), 10 + LEAVING_NS), "its last threads are on their way out");
        assert!(!processes.ran(Pid(1), Pid(1), 11 + LEAVING_NS), "the first does not come back");
        assert!(processes.ran(Pid(1), Pid(2), 11 + LEAVING_NS));
        assert!(!processes.ran(Pid(1), Pid(2), 12 + LEAVING_NS));
        processes.expire(2 * DEAD_NS);
        assert_eq!(offset(&place(&processes, Pid(1), 5)), Some((1, 5)));
        processes.exit(Pid(1), 2 * DEAD_NS);
        processes.expire(3 * DEAD_NS);
        assert!(!processes.knows(Pid(1)));
    }

    #[test]
    fn the_dead_are_known_for_a_while_and_a_reused_id_is_not_them() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        processes.exit(Pid(1), 0);
        processes.expire(1);
        assert!(processes.knows(Pid(1)));
        processes.exec(Pid(2), OWNER, "x");
        processes.exit(Pid(2), 0);
        processes.exec(Pid(2), OWNER, "new");
        processes.expire(DEAD_NS + 1);
        assert!(!processes.knows(Pid(1)) && processes.knows(Pid(2)));
    }

    #[test]
    fn after_a_loss_the_living_are_looked_at_again_and_the_dead_keep_their_names() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        processes.mmap(Pid(1), mapping(0, 10, 0, 1));
        processes.doubt();
        processes.fork(Pid(2), Pid(1));
        assert!(!processes.knows(Pid(1)) && !processes.knows(Pid(2)));
        processes.missed(Pid(1), OWNER, 0);
        assert!(processes.knows(Pid(1)));
        assert_eq!(offset(&place(&processes, Pid(1), 5)), Some((1, 5)));
        processes.found(Pid(2), OWNER, "b", vec![mapping(0, 10, 0, 2)]);
        assert_eq!(offset(&place(&processes, Pid(2), 5)), Some((2, 5)));
        assert!(processes.knows(Pid(2)));
    }

    #[test]
    fn what_is_lent_stays_as_it_was_and_is_bounded() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        let page = 0x1000;
        (0..1_000).for_each(|n| processes.mmap(Pid(1), mapping(n * page, (n + 1) * page, 0, n)));
        let first = processes.lend(Pid(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &processes.lend(Pid(1)).unwrap()), "nothing was mapped between");
        let mut lent = vec![first];
        // A program that maps something between any two samples, and has them wait.
        for n in 1..1_000 {
            processes.mmap(Pid(1), mapping(0, page, 0, 10_000 + n));
            lent.extend(processes.lend(Pid(1)));
        }
        assert_eq!(offset(&lent[0].mappings().place(5)), Some((0, 5)));
        assert_eq!(offset(&lent[1].mappings().place(5)), Some((10_001, 5)));
        let bytes = processes.lent.get();
        assert!((MOST_LENT_BYTES..MOST_LENT_BYTES * 11 / 10).contains(&bytes), "{bytes} of {}", lent.len());
        assert!(processes.lend(Pid(1)).is_none());
        lent.clear();
        assert_eq!(processes.lent.get(), 0);
        assert!(processes.lend(Pid(1)).is_some() && processes.lend(Pid(2)).is_none());
        processes.forget(Pid(1));
        assert_eq!(processes.mappings, 0, "whoever has some does not change what is counted");
    }

    #[test]
    fn children_that_copy_large_tables_stay_within_bounds_and_leave_nothing() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        let page = 0x1000;
        (0..MAX_MAPPINGS as u64)
            .for_each(|n| processes.mmap(Pid(1), mapping(n * page, (n + 1) * page, 0, n)));
        for pid in 2..400 {
            processes.fork(Pid(pid), Pid(1));
            processes.mmap(Pid(pid), mapping(0, page, 0, 77));
            let place = offset(&place(&processes, Pid(pid), 5));
            assert!(place.is_none_or(|place| place == (77, 5)), "unknown, not wrong");
        }
        let tables: usize = processes.by_pid.values().map(|p| p.table.sorted().len()).sum();
        assert!(processes.mappings == tables && tables <= MAX_ALL_MAPPINGS, "{tables}");
        (1..400).for_each(|pid| processes.forget(Pid(pid)));
        assert_eq!(processes.mappings, 0);
    }

    #[test]
    fn names_of_threads_go_with_them() {
        let mut processes = Processes::default();
        processes.exec(Pid(1), OWNER, "a");
        for tid in 2..2000 {
            processes.name(Pid(1), Pid(tid), "worker");
            assert_eq!(&*processes.comm(Pid(1), Pid(tid)), "worker", "{tid}");
            processes.thread_exit(Pid(1), Pid(tid));
        }
        assert_eq!(&*processes.comm(Pid(1), Pid(2)), "a");
    }

    #[test]
    fn who_is_no_member_any_more_is_forgotten_like_the_dead() {
        let mut processes = Processes::default();
        (1..=3).for_each(|pid| processes.exec(Pid(pid), OWNER, "a"));
        processes.exit(Pid(3), 0);
        processes.keep(|pid| pid == Pid(1), 1);
        processes.keep(|pid| pid == Pid(1), 2);
        assert_eq!(processes.dead.len(), 2, "each once");
        processes.exec(Pid(3), OWNER, "again");
        processes.expire(DEAD_NS + 2);
        assert!(processes.knows(Pid(1)) && !processes.knows(Pid(2)) && processes.knows(Pid(3)));
    }

    proptest! {
        /// Against a model that remembers, for every address, the last mapping that covered it.
        #[test]
        fn places_are_those_of_the_last_mapping(maps in proptest::collection::vec((0u64..64, 0u64..64), 0..40)) {
            let mut processes = Processes::default();
            processes.exec(Pid(1), OWNER, "a");
            let mut model = [None; 128];
            for (id, (start, len)) in maps.into_iter().enumerate() {
                processes.mmap(Pid(1), mapping(start, start + len, start, id as u64));
                (start..start + len).for_each(|ip| model[usize::try_from(ip).unwrap()] = Some((id as u64, ip)));
            }
            for (ip, expected) in model.iter().enumerate() {
                prop_assert_eq!(offset(&place(&processes, Pid(1), ip as u64)), *expected);
            }
        }
    }

    #[test]
    fn one_that_has_too_much_takes_nothing_from_others() {
        let (mut processes, other) = (Processes::default(), InstanceNo(2));
        for pid in 0..MAX_PROCESSES_OF_ONE as u32 + 10 {
            processes.exec(Pid(pid), OWNER, "a");
        }
        assert_eq!(processes.take_refused(), Refused { processes: 10, mappings: 0 });
        processes.exec(Pid(0), other, "b");
        processes.mmap(Pid(0), mapping(0, 10, 0, 1));
        assert_eq!(offset(&place(&processes, Pid(0), 1)), Some((1, 1)));
        for pid in 1..MAX_PROCESSES_OF_ONE as u32 {
            (0..20).for_each(|at| processes.mmap(Pid(pid), mapping(at * 10, at * 10 + 5, 0, 3)));
        }
        assert!(processes.take_refused().mappings > 1_000);
        let share = |processes: &Processes, no| processes.shares.get(&no).map(|share| share.mappings);
        assert!(share(&processes, OWNER).is_some_and(|all| all <= MAX_MAPPINGS_OF_ONE));
        processes.mmap(Pid(0), mapping(20, 30, 0, 2));
        assert_eq!(offset(&place(&processes, Pid(0), 21)), Some((2, 1)));
        (0..MAX_PROCESSES as u32).for_each(|pid| processes.forget(Pid(pid)));
        assert!(processes.is_empty() && processes.shares.is_empty() && processes.mappings == 0);
    }
}
