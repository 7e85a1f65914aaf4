//! When the capture thread rests, so that it costs a host without functions nothing, and one that execs a thousand
//! times a second a percent.
//!
//! What wakes it is read at once, because files of a short process must be opened, and the account of a cgroup read,
//! before they are gone; then it rests, and what comes meanwhile is read together. Samples, and where nothing lives the
//! side-band too, wait for the tick: every second while something happens to functions, every second and a half
//! while they wait (what is not read yet is lost if the agent is killed: under two seconds), every eight where there
//! are none, and sooner where strangers fill the rings.
//!
//! Pure: the caller sleeps.

use std::time::Duration;

/// The rest while a function's process has just begun and is mapping its files.
const SHORT_REST: Duration = Duration::from_micros(300);
/// The rest while something happens to processes of functions.
const REST: Duration = Duration::from_micros(1_500);
/// The rest between readings that found strangers alone, which all readers keep together: strangers wake as many of them
/// as there are CPUs, and each reads all rings. A new cgroup ends it. What a process does in one that is known, and in which
/// nothing has happened for a second, waits so long at most: what it maps meanwhile is opened if it lives on.
const STRANGERS_REST: Duration = Duration::from_millis(16);
/// The same while fewer reads must do, and how many times as long the others are then.
const FEWER_STRANGERS_REST: Duration = Duration::from_millis(56);
const FEWER_READS: u32 = 7;
/// How long something may happen again after something has happened to a function.
const ALERT_NS: u64 = 1_000_000_000;
/// Ticks while something happens to functions.
const TICK_NS: u64 = 1_000_000_000;
/// Ticks while nothing does, and while nothing is sampled. CPUs that came are then noticed so late where the kernel does
/// not tell of them, and a burst of strangers after silence may fill the rings before the pace has followed it: what they
/// lost concerns nobody, and a container that starts in that moment is found by its cgroup at its exec.
const LONG_TICK_NS: u64 = 1_500_000_000;
const UNARMED_TICK_NS: u64 = 8_000_000_000;
/// The shortest tick, where strangers would fill the rings.
const SHORT_TICK_NS: u64 = 10_000_000;
/// How full, in percent, a ring may become between two ticks before they come sooner, and before they come later again.
const FULL: u64 = 25;
const EMPTY: u64 = 6;
/// How much earlier than planned a tick may do what is due: ticks are as late as the scheduler is.
const EARLY_NS: u64 = 100_000_000;

/// Whether a tick at `now_ns` does what is planned for `due_ns`.
pub(super) fn is_due(due_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_add(EARLY_NS) >= due_ns
}

/// What a reading of the side-band has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing that concerns a function, or what is in a storm of one (see `churn`).
    Strangers,
    /// Something of a function, or of a container that may be one.
    Ours,
    /// A function's process has begun.
    Begun,
}

/// How a reader rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// For so long.
    Whole(Duration),
    /// For so long, or until there is a new cgroup.
    UntilCgroup(Duration),
}

/// The pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// Until when processes of functions may begin and end, and until when functions work.
    alert_until_ns: u64,
    works_until_ns: u64,
    /// Until when readers rest that strangers alone wake.
    strangers_until_ns: u64,
    /// The last tick where nothing happened.
    tick_ns: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { alert_until_ns: 0, works_until_ns: 0, strangers_until_ns: 0, tick_ns: UNARMED_TICK_NS }
    }
}

impl Pace {
    /// Something has happened to a function, if `news` says so.
    pub(super) fn heard(&mut self, news: News, now_ns: u64) {
        if news > News::Strangers {
            self.alert_until_ns = self.alert_until_ns.max(now_ns.saturating_add(ALERT_NS));
        }
    }

    /// A function worked at `at_ns`, as a sample tells. A warm one does so without a word of the side-band: there is
    /// something to store, and nothing that must be read at once.
    pub(super) fn worked(&mut self, at_ns: u64) {
        // Samples are heard of in their tick, behind what is newer.
        self.works_until_ns = self.works_until_ns.max(at_ns.saturating_add(ALERT_NS));
    }

    /// Whether nothing has happened to functions lately.
    pub(super) fn is_calm(&self, now_ns: u64) -> bool {
        now_ns >= self.alert_until_ns.max(self.works_until_ns)
    }

    /// The rest after a reading that has found `news`; longer while `fewer` reads must do.
    pub(super) fn rest(&mut self, news: News, fewer: bool, now_ns: u64) -> Rest {
        let times = if fewer { FEWER_READS } else { 1 };
        match news {
            News::Begun => Rest::Whole(SHORT_REST * times),
            News::Strangers if now_ns >= self.alert_until_ns => {
                let rest = if fewer { FEWER_STRANGERS_REST } else { STRANGERS_REST };
                let rest_ns = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
                self.strangers_until_ns = now_ns.saturating_add(rest_ns);
                Rest::UntilCgroup(rest)
            }
            News::Ours | News::Strangers => Rest::Whole(REST * times),
        }
    }

    /// How a reader that processes alone have woken at `now_ns` rests before it reads: as long as another one, which has
    /// found strangers alone, does.
    pub(super) fn rest_before(&self, now_ns: u64) -> Option<Rest> {
        let left_ns = self.strangers_until_ns.saturating_sub(now_ns);
        let rests = left_ns > 0 && now_ns >= self.alert_until_ns;
        rests.then(|| Rest::UntilCgroup(Duration::from_nanos(left_ns)))
    }

    /// From one tick, at which the fullest side-band ring was `full` percent full, to the next, in nanoseconds.
    pub(super) fn tick_ns(&mut self, full: u64, armed: bool, now_ns: u64) -> u64 {
        if full >= FULL {
            self.tick_ns = (self.tick_ns / 4).max(SHORT_TICK_NS);
        } else if full <= EMPTY {
            self.tick_ns = (self.tick_ns * 2).min(UNARMED_TICK_NS);
        }
        let most = match (self.is_calm(now_ns), armed) {
            (false, _) => TICK_NS,
            (true, true) => LONG_TICK_NS,
            (true, false) => UNARMED_TICK_NS,
        };
        self.tick_ns.min(most)
    }

    /// The latest time of a tick that was planned for `planned_ns`, now that something may have been heard.
    pub(super) fn tick_by(&self, planned_ns: u64, now_ns: u64) -> u64 {
        if self.is_calm(now_ns) { planned_ns } else { planned_ns.min(now_ns.saturating_add(TICK_NS)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_less_while_something_happens_to_functions() {
        let mut pace = Pace::default();
        let longer = |rest| match rest {
            Rest::Whole(rest) => Rest::Whole(rest * FEWER_READS),
            Rest::UntilCgroup(_) => Rest::UntilCgroup(FEWER_STRANGERS_REST),
        };
        for (news, now_ns, rest) in [
            (News::Strangers, 0, Rest::UntilCgroup(STRANGERS_REST)),
            (News::Begun, 5, Rest::Whole(SHORT_REST)),
            (News::Strangers, 4 + ALERT_NS, Rest::Whole(REST)),
            (News::Strangers, 5 + ALERT_NS, Rest::UntilCgroup(STRANGERS_REST)),
            (News::Ours, 6 + ALERT_NS, Rest::Whole(REST)),
        ] {
            pace.heard(news, now_ns);
            assert_eq!(pace.rest(news, false, now_ns), rest, "{news:?} at {now_ns}");
            assert_eq!(pace.rest(news, true, now_ns), longer(rest), "{news:?} at {now_ns}");
        }
    }

    #[test]
    fn what_strangers_do_is_read_by_one_for_all() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest_before(5), None);
        let rest = pace.rest(News::Strangers, false, 5);
        assert_eq!(pace.rest_before(5), Some(rest));
        let rest_ns = u64::try_from(STRANGERS_REST.as_nanos()).unwrap();
        let last = Rest::UntilCgroup(Duration::from_nanos(1));
        assert_eq!((pace.rest_before(4 + rest_ns), pace.rest_before(5 + rest_ns)), (Some(last), None));
        pace.heard(News::Ours, 7);
        assert_eq!(pace.rest_before(7), None, "a function's process may begin on that CPU");
        pace.rest(News::Strangers, false, 8);
        assert_eq!(pace.rest_before(8), None);
    }

    #[test]
    fn ticks_follow_what_happens_and_how_much() {
        let mut pace = Pace::default();
        assert_eq!((pace.tick_ns(0, true, 0), pace.tick_ns(0, false, 0)), (LONG_TICK_NS, UNARMED_TICK_NS));
        assert_eq!(pace.tick_by(LONG_TICK_NS, 5), LONG_TICK_NS);
        pace.heard(News::Ours, 10);
        assert_eq!(pace.tick_by(LONG_TICK_NS, 10), 10 + TICK_NS, "what was planned in peace comes sooner");
        assert_eq!(pace.tick_by(20, 10), 20);
        assert_eq!(pace.tick_ns(0, true, 20), TICK_NS);
        pace.heard(News::Ours, 5);
        let later = 10 + ALERT_NS;
        let mut warm = Pace { tick_ns: LONG_TICK_NS, ..Pace::default() };
        warm.worked(10);
        assert_eq!(
            warm.rest(News::Strangers, false, 20),
            Rest::UntilCgroup(STRANGERS_REST),
            "it computes, and no process of it begins"
        );
        assert_eq!((warm.tick_ns(0, true, 20), warm.tick_ns(0, true, later)), (TICK_NS, LONG_TICK_NS));
        assert_eq!(pace.tick_by(later, later - 1), later, "what was older changed nothing");
        assert_eq!(pace.tick_ns(0, true, later), LONG_TICK_NS);
        let ticks: Vec<u64> =
            [30, 30, 10, 90, 90, 90, 0, 0].map(|full| pace.tick_ns(full, false, later)).into();
        let ms: Vec<u64> = ticks.iter().map(|ns| ns / 1_000_000).collect();
        assert_eq!(ms, [2000, 500, 500, 125, 31, 10, 20, 40]);
    }
}
