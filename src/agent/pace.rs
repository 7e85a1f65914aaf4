//! When the capture thread rests, so that a host that execs a thousand times a second costs a percent.
//!
//! Each record of the side-band wakes it; what wakes it a moment later is read together. While something happens to
//! functions it reads at once and rests behind that: files of a short process must be opened, and the account of a
//! cgroup read, before they are gone. While functions only wait it rests first, so that a stranger's fork, exec and end
//! are one reading; and where no function lives it reads at once, because the first one must arm the sampler.
//!
//! Pure: the caller sleeps.

use std::time::Duration;

/// The rest before a reading: a short process of a stranger has come and gone by then, one of a container that a
/// runtime has just made has not begun.
const FIRST_REST: Duration = Duration::from_micros(3_000);
/// The usual rest behind a reading.
const REST: Duration = Duration::from_micros(1_500);
/// The rest while a function's process has just begun and is mapping its files.
const SHORT_REST: Duration = Duration::from_micros(300);
/// How long something may happen again after something has happened to a function.
const ALERT_NS: u64 = 1_000_000_000;

/// What a reading of the side-band has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing that concerns a function.
    Strangers,
    /// Something of a function, or of a container that may be one.
    Ours,
    /// A function's process has begun.
    Begun,
}

/// The pace.
#[derive(Debug, Default)]
pub(super) struct Pace {
    alert_until_ns: u64,
}

impl Pace {
    /// The rest before what has just woken the thread is read.
    pub(super) fn before(&self, armed: bool, now_ns: u64) -> Option<Duration> {
        (armed && now_ns >= self.alert_until_ns).then_some(FIRST_REST)
    }

    /// What a reading has found.
    pub(super) fn heard(&mut self, news: News, now_ns: u64) {
        if news > News::Strangers {
            self.alert_until_ns = now_ns.saturating_add(ALERT_NS);
        }
    }

    /// The rest after a reading that began with the rest `before` and has found `news`.
    pub(super) fn after(&self, news: News, before: Option<Duration>) -> Option<Duration> {
        match (news, before) {
            (News::Begun, _) => Some(SHORT_REST),
            (News::Ours | News::Strangers, None) => Some(REST),
            (News::Ours | News::Strangers, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_first_while_functions_wait_and_behind_while_they_do_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.before(false, 0), None, "the first container must arm the sampler");
        assert_eq!(pace.before(true, 0), Some(FIRST_REST));
        for (news, now_ns, alert) in [
            (News::Strangers, 5, false),
            (News::Begun, 5, true),
            (News::Strangers, 4 + ALERT_NS, true),
            (News::Strangers, 5 + ALERT_NS, false),
            (News::Ours, 6 + ALERT_NS, true),
        ] {
            pace.heard(news, now_ns);
            let expected = if alert { None } else { Some(FIRST_REST) };
            assert_eq!(pace.before(true, now_ns), expected, "{news:?} at {now_ns}");
        }
    }

    #[test]
    fn it_rests_once_and_less_while_a_process_begins() {
        for (news, before, after) in [
            (News::Strangers, None, Some(REST)),
            (News::Strangers, Some(FIRST_REST), None),
            (News::Ours, Some(FIRST_REST), None),
            (News::Ours, None, Some(REST)),
            (News::Begun, None, Some(SHORT_REST)),
            (News::Begun, Some(FIRST_REST), Some(SHORT_REST)),
        ] {
            assert_eq!(Pace::default().after(news, before), after, "{news:?} {before:?}");
        }
    }
}
