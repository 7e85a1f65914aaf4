//! The governor: what the agent may use, and which of its steps towards using less are in force.
//!
//! Pure. It is given readings of the agent's own CPU time and memory and of how full its queue is, and answers with one
//! step at a time, up while a reading is near a limit, down after a while in which all are far from it. Steps come and go
//! in one order, so whoever knows how many are in force knows which. What a step does is done elsewhere: see
//! [`Step`].
//!
//! What is promised: no step is skipped; what was stepped up is stepped down again once the load is gone; a load that
//! comes and goes makes it wait longer before it steps down, not step up and down with it.

use std::collections::VecDeque;
use std::fmt;

/// How near a limit a reading must be for a step up, in percent of the limit.
const NEAR: u64 = 90;
/// A use that was near the limit in all readings of so long takes the first step without waiting for the window: once
/// that is nearly full, what even the step leaves would be too much for what rests of it. A second's use, which readings
/// may tell of for two, takes none.
const LASTING_NS: u64 = 2_400_000_000;
/// How far below it all must be before one goes down.
const FAR: u64 = 60;
/// CPU time counts over so long: a program's symbols, read once, may take a second of it.
const WINDOW_NS: u64 = 10_000_000_000;
/// A step has taken effect so long after it was taken, about a reading; what the next one is decided by begins with it.
const EFFECT_NS: u64 = 450_000_000;
/// The same of memory and of the queue, which fall with the work that is under way.
const SLOW_EFFECT_NS: u64 = 1_900_000_000;
/// How long all must be far from their limits before a step goes, and the longest: it doubles where the step is taken
/// again soon.
const HOLD_NS: u64 = 15_000_000_000;
const LONGEST_HOLD_NS: u64 = 480_000_000_000;
/// A queue of which so many percent are full is full.
const FULL_QUEUE: u64 = 50;

/// What the agent may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory besides the rings, in bytes; none without limit.
    pub memory_bytes: Option<u64>,
    /// CPU time, in thousandths of a percent of the time of all CPUs together; none without limit.
    pub cpu_millipercent: Option<u32>,
}

/// What is given up to stay within the limits, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Stacks are not copied: chains of frame pointers are what there is. Nor is time off the CPU recorded.
    Copies,
    /// What happens to processes is read less often, accounts and perf maps too, and fewer files are opened.
    Reads,
    /// One sample in [`Step::THINNED`] is looked at, and counts for all of them.
    Rate,
    /// Small tables of symbols and of unwind rules, no inlined functions.
    Symbols,
}

impl Step {
    /// Every one, in the order in which they are taken.
    pub const ALL: [Step; 4] = [Step::Copies, Step::Reads, Step::Rate, Step::Symbols];
    /// How many samples one stands for under [`Step::Rate`].
    pub const THINNED: u32 = 4;

    /// As it is called in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Step::Copies => "no-copies",
            Step::Reads => "fewer-reads",
            Step::Rate => "lower-rate",
            Step::Symbols => "fewer-symbols",
        }
    }

    /// Where it stands in [`Step::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When it was read, by the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// CPU time since the agent began, in microseconds.
    pub cpu_us: u64,
    /// Online CPUs.
    pub cpus: u32,
    /// Memory besides the rings, in bytes.
    pub memory_bytes: u64,
    /// How full its queue is, in percent.
    pub queue_percent: u64,
}

/// A step was taken or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub step: Step,
    /// Taken (`true`), or taken back.
    pub taken: bool,
    /// What was nearest its limit.
    pub cause: Cause,
}

/// A reading against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// CPU time, in thousandths of a percent of all CPUs: used, and allowed.
    Cpu(u64, u64),
    /// Memory in bytes: held, and allowed.
    Memory(u64, u64),
    /// How full the queue is, in percent.
    Queue(u64),
    /// There is no limit.
    Unlimited,
}

impl Cause {
    /// What was read, in percent of its limit.
    fn percent(self) -> u64 {
        match self {
            Cause::Cpu(used, limit) | Cause::Memory(used, limit) => used.saturating_mul(100) / limit.max(1),
            Cause::Queue(percent) => percent.saturating_mul(100) / FULL_QUEUE,
            Cause::Unlimited => 0,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |thousandths: u64| format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
        match self {
            Cause::Cpu(used, limit) => {
                write!(out, "{} % of all CPUs of {} %", percent(*used), percent(*limit))
            }
            Cause::Memory(held, limit) => write!(out, "{} MiB of memory of {} MiB", held >> 20, limit >> 20),
            Cause::Queue(full) => write!(out, "a queue of which {full} % are full"),
            Cause::Unlimited => out.write_str("no limit"),
        }
    }
}

/// The governor.
#[derive(Debug)]
pub struct Governor {
    limits: Limits,
    level: usize,
    /// Readings of CPU time in the window: time and microseconds, the oldest first.
    window: VecDeque<(u64, u64)>,
    /// When a step was last taken or taken back: earlier readings say nothing of what is used with it.
    settled_ns: u64,
    far_since_ns: Option<u64>,
    hold_ns: u64,
    /// When a step went last.
    down_ns: Option<u64>,
}

impl Governor {
    /// One with no step in force.
    pub fn new(limits: Limits) -> Governor {
        Governor {
            limits,
            level: 0,
            window: VecDeque::new(),
            settled_ns: 0,
            far_since_ns: None,
            hold_ns: HOLD_NS,
            down_ns: None,
        }
    }

    /// From now on these are the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What the agent may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether `step` is in force.
    pub fn is_in_force(&self, step: Step) -> bool {
        step.index() < self.level
    }

    /// How many steps are in force: the first so many of [`Step::ALL`].
    pub fn level(&self) -> usize {
        self.level
    }

    /// Whether the last reading told of so much CPU time that the next one is wanted soon.
    pub fn is_pressed(&self, cpus: u32) -> bool {
        let mut last = self.window.iter().rev();
        let pair = last.next().zip(last.next());
        let used = pair.map_or(0, |(to, from)| share(*from, *to, 1, cpus));
        self.limits.cpu_millipercent.is_some_and(|limit| used * 100 >= u64::from(limit) * NEAR)
    }

    /// Takes a reading; readings come in order of time. At most one step is taken or taken back.
    pub fn read(&mut self, reading: Reading) -> Option<Change> {
        let Reading { at_ns, cpu_us, .. } = reading;
        self.window.push_back((at_ns, cpu_us));
        while self.window.get(1).is_some_and(|(old_ns, _)| at_ns.saturating_sub(*old_ns) >= WINDOW_NS) {
            self.window.pop_front();
        }
        let cause = self.worst(reading);
        let percent = cause.percent();
        if percent >= NEAR {
            self.far_since_ns = None;
            // Where CPU time is near its limit, more memory makes no step come later.
            let cpu_is_near = self.cpu(reading.cpus).is_some_and(|cpu| cpu.percent() >= NEAR);
            return self.up(cause, if cpu_is_near { EFFECT_NS } else { SLOW_EFFECT_NS }, at_ns);
        }
        if percent >= FAR {
            self.far_since_ns = None;
            return None;
        }
        let since_ns = *self.far_since_ns.get_or_insert(at_ns);
        if self.level == 0 || at_ns.saturating_sub(since_ns) < self.hold_ns {
            return None;
        }
        self.level -= 1;
        self.settled_ns = at_ns;
        (self.far_since_ns, self.down_ns) = (Some(at_ns), Some(at_ns));
        let step = *Step::ALL.get(self.level)?;
        Some(Change { step, taken: false, cause })
    }

    /// What was taken a moment ago shows after `effect_ns`.
    fn up(&mut self, cause: Cause, effect_ns: u64, at_ns: u64) -> Option<Change> {
        let step = *Step::ALL.get(self.level)?;
        if self.level > 0 && self.span_ns() < effect_ns {
            return None;
        }
        let again = self.down_ns.is_some_and(|down_ns| at_ns.saturating_sub(down_ns) < 2 * self.hold_ns);
        if again {
            self.hold_ns = (self.hold_ns * 2).min(LONGEST_HOLD_NS);
        } else if self.level == 0 {
            self.hold_ns = HOLD_NS;
        }
        self.down_ns = None;
        self.level += 1;
        self.settled_ns = at_ns;
        Some(Change { step, taken: true, cause })
    }

    /// The last reading and the first one since the last step.
    fn ends(&self) -> Option<((u64, u64), (u64, u64))> {
        let first = self.window.iter().find(|(at_ns, _)| *at_ns >= self.settled_ns);
        self.window.back().copied().zip(first.copied())
    }

    fn span_ns(&self) -> u64 {
        self.ends().map_or(0, |(last, first)| last.0.saturating_sub(first.0))
    }

    /// What is nearest its limit.
    fn worst(&self, reading: Reading) -> Cause {
        let cpu = self.cpu(reading.cpus);
        let memory = self.limits.memory_bytes.map(|limit| Cause::Memory(reading.memory_bytes, limit));
        let queue = (self.limits != Limits::default()).then_some(Cause::Queue(reading.queue_percent));
        let all = [cpu, memory, queue].into_iter().flatten();
        all.max_by_key(|cause| cause.percent()).unwrap_or(Cause::Unlimited)
    }

    fn cpu(&self, cpus: u32) -> Option<Cause> {
        let limit = u64::from(self.limits.cpu_millipercent?);
        let used = self.used(cpus)?;
        let more = if self.level == 0 { self.lasting(cpus) } else { self.coming(used, limit, cpus) };
        Some(Cause::Cpu(more.filter(|more| *more * 100 >= limit * NEAR).unwrap_or(used), limit))
    }

    /// The most that a window will hold which began not long ago, if what is used since the last step goes on: what was
    /// used before it counts. Where that is far from the limit by itself, nothing more is given up for what is past.
    fn coming(&self, now: u64, limit: u64, cpus: u32) -> Option<u64> {
        if now * 100 < limit * FAR {
            return None;
        }
        let last = self.window.back()?;
        let held = |from: &(u64, u64)| {
            let rests_ns = WINDOW_NS.saturating_sub(last.0.saturating_sub(from.0));
            share(*from, *last, WINDOW_NS, cpus) + now * (rests_ns / 1_000_000) / (WINDOW_NS / 1_000_000)
        };
        self.window.iter().map(held).max()
    }

    /// The least that was used between two of the last readings, of [`LASTING_NS`] and since the last step.
    fn lasting(&self, cpus: u32) -> Option<u64> {
        let (now_ns, _) = self.window.back()?;
        let is_first = |(at_ns, _): &(u64, u64)| now_ns.saturating_sub(*at_ns) >= LASTING_NS;
        let at = self.window.iter().rposition(is_first)?;
        let last = self.window.range(at..);
        last.clone().next().filter(|(at_ns, _)| *at_ns >= self.settled_ns)?;
        last.clone().zip(last.skip(1)).map(|(from, to)| share(*from, *to, 1, cpus)).min()
    }

    /// CPU time of the window, in thousandths of a percent of all CPUs; none while too little of it has been seen. With
    /// no step in force the window is whole from the start: it takes a use that lasts to take a first one.
    fn used(&self, cpus: u32) -> Option<u64> {
        let (last, first) = self.ends()?;
        let least_ns = if self.level == 0 { WINDOW_NS } else { EFFECT_NS };
        if self.level > 0 && self.span_ns() < EFFECT_NS {
            return None;
        }
        Some(share(first, last, least_ns, cpus))
    }
}

/// CPU time between two readings, each a time and microseconds, in thousandths of a percent of that of `cpus`; as if at
/// least `least_ns` were between them.
fn share(from: (u64, u64), to: (u64, u64), least_ns: u64, cpus: u32) -> u64 {
    let span_ns = to.0.saturating_sub(from.0).max(least_ns);
    let possible_us = span_ns / 1_000 * u64::from(cpus.max(1));
    to.1.saturating_sub(from.1).saturating_mul(100_000) / possible_us.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const LIMITS: Limits = Limits { memory_bytes: Some(256 << 20), cpu_millipercent: Some(2_000) };

    /// A governor that is read once a second.
    struct Life {
        governor: Governor,
        now_ns: u64,
        cpu_us: u64,
        changes: Vec<Change>,
    }

    impl Life {
        fn new() -> Life {
            Life { governor: Governor::new(LIMITS), now_ns: 0, cpu_us: 0, changes: Vec::new() }
        }

        /// `seconds` of a use of so many milliseconds of two CPUs, and of so much memory.
        fn run(&mut self, seconds: u64, cpu_ms: u64, memory_mib: u64, queue_percent: u64) -> usize {
            for _ in 0..seconds {
                self.now_ns += SECOND;
                self.cpu_us += cpu_ms * 1_000;
                let reading = Reading {
                    at_ns: self.now_ns,
                    cpu_us: self.cpu_us,
                    cpus: 2,
                    memory_bytes: memory_mib << 20,
                    queue_percent,
                };
                let before = self.governor.level();
                let change = self.governor.read(reading);
                let after = self.governor.level();
                assert_eq!(change.is_some(), before != after);
                assert!(before.abs_diff(after) <= 1, "{before} to {after}");
                if let Some(change) = change {
                    assert_eq!(change.step, Step::ALL[before.min(after)]);
                    assert_eq!(change.taken, after > before);
                }
                self.changes.extend(change);
            }
            self.governor.level()
        }
    }

    #[test]
    fn a_use_that_lasts_takes_steps_and_a_burst_takes_none() {
        let mut life = Life::new();
        assert_eq!(life.run(60, 20, 40, 0), 0, "half of what is allowed");
        assert_eq!(life.run(1, 150, 40, 0), 0, "a program's symbols");
        assert_eq!(life.run(30, 20, 40, 0), 0);
        assert!(life.run(30, 80, 40, 0) == 4 && life.changes.len() == 4, "{:?}", life.changes);
        assert!(matches!(life.changes[0].cause, Cause::Cpu(1_800.., 2_000)), "{:?}", life.changes[0]);
        assert_eq!(life.run(14, 1, 40, 0), 4, "not at once");
        assert_eq!(life.run(60, 1, 40, 0), 0);
        assert_eq!(life.changes.len(), 8);
    }

    #[test]
    fn a_use_over_the_limit_that_goes_on_is_seen_before_the_window_is_full() {
        let mut life = Life::new();
        assert_eq!((life.run(3, 41, 40, 0), life.run(1, 41, 40, 0)), (0, 1), "{:?}", life.changes);
        assert!(matches!(life.changes[0].cause, Cause::Cpu(2_050, 2_000)), "{:?}", life.changes[0]);
        // The same in two of three readings does not go on, and the window waits for it to be near.
        let mut life = Life::new();
        for _ in 0..3 {
            life.run(2, 41, 40, 0);
            assert_eq!(life.run(1, 35, 40, 0), 0, "{:?}", life.changes);
        }
        assert_eq!((life.run(1, 41, 40, 0), life.run(1, 41, 40, 0)), (0, 1), "{:?}", life.changes);
        assert!(matches!(life.changes[0].cause, Cause::Cpu(1_800..2_000, 2_000)), "{:?}", life.changes[0]);
    }

    #[test]
    fn what_was_used_before_a_step_counts_for_the_next_one() {
        // After the first step 70 % of the limit: with what three seconds have used, ten would be over it.
        let mut life = Life::new();
        assert_eq!(life.run(4, 90, 40, 0), 1);
        let before_us = life.cpu_us;
        assert_eq!((life.run(1, 28, 40, 0), life.run(1, 28, 40, 0)), (2, 3), "{:?}", life.changes);
        assert!(matches!(life.changes[1].cause, Cause::Cpu(2_000.., 2_000)), "{:?}", life.changes[1]);
        assert_eq!(life.run(4, 12, 40, 0), 3, "that is enough: {:?}", life.changes);
        let used_ms = (life.cpu_us - before_us) / 1_000 + 3 * 90;
        assert!(used_ms <= 400, "{used_ms} ms in nine seconds of two CPUs");
        // For a burst that is over nothing more is given up.
        let mut life = Life::new();
        assert_eq!((life.run(4, 150, 40, 0), life.run(10, 20, 40, 0)), (1, 1), "{:?}", life.changes);
    }

    #[test]
    fn memory_and_the_queue_count_as_well() {
        let mut life = Life::new();
        assert_eq!(life.run(10, 1, 229, 0), 0);
        assert_eq!(life.run(1, 1, 231, 0), 1);
        assert_eq!(life.run(60, 1, 200, 0), 1, "neither near nor far");
        assert_eq!(life.run(16, 1, 100, 0), 0);
        assert_eq!(life.run(1, 1, 1, 46), 1, "the queue");
        let told = life.changes.iter().map(|change| change.cause.to_string()).collect::<Vec<_>>();
        assert_eq!(told[0], "231 MiB of memory of 256 MiB");
        assert_eq!(told[2], "a queue of which 46 % are full");
    }

    #[test]
    fn without_limits_nothing_is_given_up_and_new_limits_hold() {
        let mut life = Life::new();
        life.governor.set_limits(Limits::default());
        assert_eq!(life.run(60, 2_000, 4_000, 100), 0);
        life.governor.set_limits(LIMITS);
        assert!(life.run(30, 80, 40, 0) == 4);
        life.governor.set_limits(Limits::default());
        assert_eq!(life.run(120, 2_000, 4_000, 100), 0);
    }

    #[test]
    fn a_load_that_comes_and_goes_is_followed_more_and_more_slowly() {
        let mut life = Life::new();
        let mut changes = Vec::new();
        for _ in 0..10 {
            let before = life.changes.len();
            for _ in 0..10 {
                life.run(20, 100, 40, 0);
                life.run(20, 1, 40, 0);
            }
            changes.push(life.changes.len() - before);
        }
        assert!(changes.last() < changes.first() && changes.last() <= Some(&2), "{changes:?}");
        life.run(5 * 480, 1, 40, 0);
        assert_eq!(life.governor.level(), 0);
    }

    proptest! {
        #[test]
        fn steps_come_one_at_a_time_and_always_go(
            loads in prop::collection::vec((0u64..40, 0u64..2_000, 0u64..600, 0u64..=100), 0..40),
        ) {
            let mut life = Life::new();
            for (seconds, cpu_ms, memory_mib, queue) in loads {
                life.run(seconds, cpu_ms, memory_mib, queue);
            }
            prop_assert_eq!(life.run(5 * LONGEST_HOLD_NS / SECOND, 1, 20, 0), 0);
        }

        #[test]
        fn more_load_never_means_fewer_steps(
            cpu_ms in 0u64..200, more_ms in 0u64..200, memory in 0u64..300, more in 0u64..300, seconds in 1u64..60,
        ) {
            let less = Life::new().run(seconds, cpu_ms, memory, 0);
            let greater = Life::new().run(seconds, cpu_ms + more_ms, memory + more, 0);
            prop_assert!(less <= greater, "{} and {}", less, greater);
        }
    }
}
