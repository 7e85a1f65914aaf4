//! A sample's stack for who names it: the kernel's chain, or the places that a walk along the copy of the stack found; and
//! when a process began.

use std::sync::Arc;

use crate::discovery::parent::parent_and_start;
use crate::model::{Pid, Timestamp};
use crate::perf::{Clock, Context, RawSample, UserState, context};
use crate::stack::apart::Parser;
use crate::stack::unwind::{End, Frame, Registers, Snapshot, UnwindOptions, UnwindStats, Unwinder};
use crate::stack::{Chain, Mappings, PerfMapStats, PerfMaps, Place, Processes, Recurring};

use super::readings::Readings;
use super::work::Trace;

/// Frames that a walk and a chain must have in common, at the walk's end, for the chain to go on from there.
const COMMON: usize = 4;

/// Flushes between two ageings of chains that need not be made again: seconds, while functions work.
const AGE_FLUSHES: u32 = 16;

/// Makes traces of samples.
pub(super) struct Places {
    unwinder: Unwinder,
    /// Names of code made at run time, where they are wanted.
    maps: Option<PerfMaps>,
    /// Chains that need not be made again.
    recurring: Recurring,
    /// Flushes since they were aged.
    flushes: u32,
    readings: Readings,
    max_stack: usize,
    frames: Vec<Frame>,
}

impl Places {
    /// `max_stack` is the kernel's limit on chains; `scan`: whether code without unwind tables is scanned; `perf_maps`:
    /// whether names that programs tell of code made at run time are wanted. Files are parsed by `parser`.
    pub(super) fn new(max_stack: usize, scan: bool, perf_maps: bool, parser: Parser) -> Places {
        let maps = perf_maps.then(|| PerfMaps::new(parser.clone()));
        let unwinder = Unwinder::new(UnwindOptions { scan }, parser);
        let (recurring, readings) = (Recurring::default(), Readings::default());
        Places { unwinder, maps, recurring, flushes: 0, readings, max_stack, frames: Vec::new() }
    }

    /// How walking and reading perf maps went.
    pub(super) fn stats(&self) -> (UnwindStats, PerfMapStats) {
        (self.unwinder.stats(), self.maps.as_ref().map(PerfMaps::stats).unwrap_or_default())
    }

    /// Samples that were not walked, because reading tables for their container took too long, since this was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        self.readings.take_refused()
    }

    /// Keeps less of what is needed to walk stacks from now on (`true`), or as much as ever.
    pub(super) fn keep_less(&mut self, less: bool) {
        self.unwinder.keep_less(less);
        self.recurring.clear();
    }

    /// Reads less of what programs tell of their code from now on (`true`), or as much as ever.
    pub(super) fn read_less(&mut self, less: bool) {
        if let Some(maps) = &mut self.maps {
            maps.read_less(less);
        }
    }

    /// A process has become another one.
    pub(super) fn forget(&mut self, pid: Pid) {
        if let Some(maps) = &mut self.maps {
            maps.forget(pid);
        }
    }

    /// Keeps what is known of processes that are known.
    pub(super) fn keep(&mut self, processes: &Processes, now_ns: u64) {
        if let Some(maps) = &mut self.maps {
            maps.keep(|pid| processes.knows(pid));
        }
        self.flushes += 1;
        let is_time = self.flushes >= AGE_FLUSHES;
        if processes.has_lent_much() {
            self.recurring.clear();
        } else if is_time {
            self.recurring.age();
        }
        if is_time {
            self.flushes = 0;
            self.unwinder.forget_gone();
            self.readings.age(now_ns);
        }
    }

    /// The stack of a sample, which is named soon, with how it ends where that is known. If it was walked to its root, also
    /// whether the chain tells the same.
    pub(super) fn of(&mut self, processes: &mut Processes, sample: RawSample) -> (Trace, Option<bool>) {
        let is_walked = sample.user.is_some();
        if !is_walked && let Some(known) = self.recurring.get(processes.version(sample.pid), &sample.chain) {
            return (Trace::Chain(Arc::clone(known)), None);
        }
        let (chain, in_kernel) = without_marks(&sample.chain);
        // What code made at run time is called is asked now: its program may be gone soon, or call it something else.
        let has_names =
            self.maps.is_some() && processes.has_made(sample.pid, chain.iter().skip(in_kernel).copied());
        let space = if !is_walked && !has_names { processes.lend(sample.pid) } else { None };
        if let Some(space) = space {
            let cut = chain.len() >= self.max_stack;
            let chain = Arc::new(Chain::new(chain, in_kernel, space, cut));
            self.recurring.put(sample.chain, &chain);
            return (Trace::Chain(chain), None);
        }
        let (places, agrees) = self.look_up(processes, &sample, &chain, in_kernel);
        (Trace::Places(places.into()), agrees)
    }

    /// The same for one that may be named much later: nothing is kept for it but what its frames need.
    pub(super) fn for_long(&mut self, processes: &Processes, sample: RawSample) -> (Trace, Option<bool>) {
        let (chain, in_kernel) = without_marks(&sample.chain);
        let (places, agrees) = self.look_up(processes, &sample, &chain, in_kernel);
        (Trace::Places(places.into()), agrees)
    }

    /// The places of `sample`, whose `chain` begins with so many addresses of the kernel. As [`Places::of`], whether the
    /// chain tells the same.
    fn look_up(
        &mut self,
        processes: &Processes,
        sample: &RawSample,
        chain: &[u64],
        in_kernel: usize,
    ) -> (Vec<Place>, Option<bool>) {
        let (of_kernel, of_user) = chain.split_at_checked(in_kernel).unwrap_or_default();
        let mut places: Vec<Place> = of_kernel.iter().map(|ip| Place::Kernel(*ip)).collect();
        let walked = sample.user.as_ref().and_then(|user| self.walk(processes, sample, user));
        // A walk that did not get away from the leaf tells nothing that the chain does not.
        let walked = walked.filter(|end| *end == End::Root || self.frames.len() > 1);
        let mut named = Named::new(&mut self.maps, processes, sample);
        let Some(end) = walked else {
            let mut ips = of_user.iter();
            places.extend(ips.next().map(|ip| named.place(*ip, true, false)));
            places.extend(ips.map(|ip| named.place(*ip, false, false)));
            if places.len() >= self.max_stack {
                places.push(Place::Truncated);
            }
            return (places, None);
        };
        let frames = self.frames.iter().enumerate();
        places.extend(frames.map(|(at, frame)| named.place(frame.address, at == 0, frame.guessed)));
        if end == End::Root {
            places.push(Place::Root);
            return (places, Some(same(&self.frames, of_user)));
        }
        let rest = rest_of_chain(&self.frames, of_user);
        places.extend(rest.iter().map(|ip| named.place(*ip, false, false)));
        let cut = end == End::Truncated && rest.is_empty() || places.len() >= self.max_stack;
        places.push(if cut { Place::Truncated } else { Place::Short });
        (places, None)
    }

    /// Walks along the copy of a sample's stack; none where its container has had too much read for that.
    fn walk(&mut self, processes: &Processes, sample: &RawSample, user: &UserState) -> Option<End> {
        let owner = processes.owner(sample.pid);
        if owner.is_some_and(|no| !self.readings.may(no, sample.time_ns)) {
            return None;
        }
        let registers = Registers { values: user.registers };
        let snapshot = Snapshot { registers: &registers, stack: &user.stack };
        let before_ns = self.unwinder.reading_ns();
        let end = self.unwinder.unwind(processes.mappings(sample.pid), snapshot, &mut self.frames);
        let took_ns = self.unwinder.reading_ns().saturating_sub(before_ns);
        if let Some(no) = owner.filter(|_| took_ns > 0) {
            self.readings.took(no, took_ns, sample.time_ns);
        }
        Some(end)
    }
}

/// A chain without the marks, and without what is neither the kernel's nor the program's. And how many addresses of the
/// kernel stand in front; those of the program stand behind them.
fn without_marks(told: &[u64]) -> (Vec<u64>, usize) {
    let (mut part, mut in_kernel, mut chain) = (Context::User, 0, Vec::with_capacity(told.len()));
    for ip in told.iter().copied() {
        match (context(ip), part) {
            (Some(next), _) => part = next,
            (None, Context::Foreign) => {}
            (None, Context::User) => chain.push(ip),
            (None, Context::Kernel) => {
                // The kernel tells its part first; were it not so, this would put it there.
                chain.insert(in_kernel, ip);
                in_kernel += 1;
            }
        }
    }
    (chain, in_kernel)
}

/// Addresses of a sample to places, with the names that its program told of them where they are code made at run time.
struct Named<'a> {
    maps: &'a mut Option<PerfMaps>,
    mapped: Mappings<'a>,
    sample: &'a RawSample,
}

impl<'a> Named<'a> {
    fn new(maps: &'a mut Option<PerfMaps>, processes: &'a Processes, sample: &'a RawSample) -> Named<'a> {
        Named { maps, mapped: Mappings::new(processes.mappings(sample.pid)), sample }
    }

    fn place(&mut self, ip: u64, leaf: bool, guessed: bool) -> Place {
        let RawSample { pid, time_ns, .. } = *self.sample;
        let place = match self.mapped.place(ip) {
            Place::File { file, offset } if guessed => Place::Guessed { file, offset },
            place => place,
        };
        let Some(maps) = self.maps else { return place };
        // Behind a call, but for the instruction that ran.
        let address = if leaf { ip } else { ip.saturating_sub(1) };
        maps.place(pid, address, time_ns, place)
    }
}

/// Whether the chain begins with all frames of a walk. What stands behind its root is no frame.
fn same(frames: &[Frame], chain: &[u64]) -> bool {
    frames.len() <= chain.len() && frames.iter().zip(chain).all(|(frame, ip)| frame.address == *ip)
}

/// What the chain tells beyond the end of a walk, if both have told the same for a while before. Recursion looks the same
/// everywhere: what a chain lacks of a walk is a caller or two, no more.
fn rest_of_chain<'a>(frames: &[Frame], chain: &'a [u64]) -> &'a [u64] {
    const MOST_LOST: usize = 2;
    let Some(last) = frames.len().checked_sub(COMMON).and_then(|from| frames.get(from..)) else { return &[] };
    let ends = (0..=MOST_LOST).filter_map(|lost| frames.len().checked_sub(lost));
    let mut rests = ends.filter_map(|end| {
        let common = chain.get(end.checked_sub(COMMON)?..end)?;
        let same = common.iter().zip(last).all(|(ip, frame)| frame.address == *ip);
        same.then(|| chain.get(end..)).flatten()
    });
    rests.next().unwrap_or_default()
}

/// When a process began by the wall clock, to ten milliseconds.
pub(super) fn started_at(pid: Pid, clock: Clock) -> Option<Timestamp> {
    // A process may be named anything: text or not.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (_, ticks) = parent_and_start(&String::from_utf8_lossy(&stat))?;
    let since_boot_ns = ticks.checked_mul(1_000_000_000)? / rustix::param::clock_ticks_per_second();
    // The kernel counts from boot with sleep, the monotonic clock without: take the difference of the two.
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_ns =
        u64::try_from(boot.tv_sec).ok()?.checked_mul(1_000_000_000)? + u64::try_from(boot.tv_nsec).ok()?;
    let ago_ns = boot_ns.saturating_sub(since_boot_ns);
    let ago_us = i64::try_from(ago_ns / 1000).ok()?;
    Some(clock.wall(Clock::monotonic_ns()).plus_us(-ago_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CgroupId, InstanceNo};
    use crate::stack::{Mapped, MappedFile, Mapping};
    use crate::sys::perf_bindings as abi;

    fn sample(chain: Vec<u64>) -> RawSample {
        let (pid, tid) = (Pid(1), Pid(1));
        let chain = chain.into();
        RawSample { time_ns: 0, cpu: 0, pid, tid, period_ns: 0, cgroup: CgroupId(1), chain, user: None }
    }

    #[test]
    fn a_chain_is_told_apart_by_its_marks() {
        let chain =
            vec![abi::PERF_CONTEXT_KERNEL, 1, 2, abi::PERF_CONTEXT_USER, 3, abi::PERF_CONTEXT_GUEST, 4];
        let places = |chain, max_stack| {
            let (trace, agrees) = Places::new(max_stack, true, false, Parser::here())
                .of(&mut Processes::default(), sample(chain));
            assert_eq!(agrees, None, "nothing was walked");
            trace.places().into_owned()
        };
        let found = places(chain.clone(), 127);
        assert_eq!(*found, [Place::Kernel(1), Place::Kernel(2), Place::Unknown(3)]);
        assert_eq!(places(chain, 3).last(), Some(&Place::Truncated));
    }

    #[test]
    fn chains_are_handed_on_as_they_are_unless_a_name_must_be_asked_for_now() {
        let code = |name: &str| Mapped::File(MappedFile::new(1, name.into(), None, None).into());
        let mut processes = Processes::default();
        let mut trace = |what: &[Mapped], names, ip, user| {
            processes.exec(Pid(1), InstanceNo(1), "a");
            for (at, what) in (1..).zip(what) {
                let (start, what) = (at * 0x1000, what.clone());
                processes.mmap(Pid(1), Mapping { start, end: start + 0x1000, file_offset: 0, what });
            }
            let mut places = Places::new(3, true, names, Parser::here());
            let sample = RawSample { user, ..sample(vec![abi::PERF_CONTEXT_USER, 0x1008, ip]) };
            let places_alone = places.for_long(&processes, sample.clone()).0;
            assert!(matches!(&places_alone, Trace::Places(_)));
            let trace = places.of(&mut processes, sample).0;
            assert_eq!(trace.places(), places_alone.places());
            matches!(trace, Trace::Chain(_))
        };
        let (file, made) = (code("pi"), code("memfd:doublemapper"));
        assert!(trace(&[file.clone(), file.clone()], true, 0x2008, None));
        for made in [made, Mapped::Anonymous] {
            assert!(!trace(&[file.clone(), made.clone()], true, 0x2008, None), "{made:?}");
            assert!(trace(&[file.clone(), made.clone()], true, 0x1010, None), "none of its frames is there");
            assert!(trace(&[file.clone(), made], false, 0x2008, None), "nobody wants names");
        }
        let user = Some(Box::new(UserState { registers: Default::default(), stack: vec![] }));
        assert!(!trace(std::slice::from_ref(&file), true, 0x1010, user), "it is to be walked");
        assert!(trace(&vec![file.clone(); 1_024], true, 0x1010, None));
        assert!(!trace(&vec![file; 1_025], true, 0x1010, None), "too much to be kept for a sample");
    }

    #[test]
    fn a_chain_goes_on_where_a_walk_has_ended_if_it_told_the_same_before() {
        let frames = |addresses: &[u64]| -> Vec<Frame> {
            addresses.iter().map(|address| Frame { address: *address, guessed: false }).collect()
        };
        let chain = [1, 2, 3, 4, 5, 6];
        for (walk, rest) in [
            (&[1, 2, 3, 4][..], &[5, 6][..]),
            (&[9, 2, 3, 4, 5], &[6]),
            (&[1, 9, 2, 3, 4, 5], &[6]),
            (&[1, 9, 9, 9, 2, 3, 4, 5], &[]),
            (&[2, 3, 4], &[]),
            (&[1, 2, 9, 4], &[]),
            (&[3, 4, 5, 6], &[]),
        ] {
            assert_eq!(rest_of_chain(&frames(walk), &chain), rest, "{walk:?}");
        }
        assert!(same(&frames(&[1, 2]), &chain) && !same(&frames(&[1, 3]), &chain));
        assert!(!same(&frames(&[1, 2, 3]), &[1, 2]));
    }

    #[test]
    fn a_process_named_to_confuse_still_has_its_start() {
        use std::os::unix::ffi::OsStrExt as _;
        use std::process::Command;

        let own = started_at(Pid(std::process::id()), Clock::read()).unwrap();
        let now = Clock::read().wall(Clock::monotonic_ns());
        assert!(own < now, "{own} < {now}");
        // The kernel calls it by its file, which is no text.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(std::ffi::OsStr::from_bytes(b"a) \xff"));
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("600").spawn().unwrap();
        let begun = started_at(Pid(child.id()), Clock::read());
        child.kill().unwrap();
        child.wait().unwrap();
        // To ten milliseconds.
        assert!(begun.is_some_and(|begun| begun.plus_us(20_000) >= own), "{begun:?} {own}");
    }

    proptest::proptest! {
        #[test]
        fn marks_are_taken_out_and_nothing_is_lost(
            chain in proptest::collection::vec(proptest::sample::select(vec![
                abi::PERF_CONTEXT_KERNEL, abi::PERF_CONTEXT_USER, abi::PERF_CONTEXT_GUEST, 1, 2, 3, 4, 5,
            ]), 0..20),
        ) {
            let (mut part, mut parts) = (Context::User, [vec![], vec![]]);
            for ip in &chain {
                match context(*ip) {
                    Some(next) => part = next,
                    None if part != Context::Foreign => parts[usize::from(part == Context::User)].push(*ip),
                    None => {}
                }
            }
            let (plain, in_kernel) = without_marks(&chain);
            proptest::prop_assert_eq!(in_kernel, parts[0].len());
            proptest::prop_assert_eq!(plain, parts.concat());
        }
    }
}
