//! Hours and their folders: `date=2026-11-23/hour=08`, in UTC, as every engine that reads Parquet understands them.
//!
//! Promises: every time has an hour. Times before 1970 and after the year 9998 share the first and the last one, whose
//! windows have no end on that side.

use std::path::{Path, PathBuf};

use crate::model::{Timestamp, Window};

/// An hour in microseconds.
const HOUR_US: i64 = 3_600_000_000;
/// 9999-01-01T00, in hours since 1970.
const LAST: i64 = 70_379_808;

/// An hour of UTC, counted from 1970-01-01T00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    /// The hour of `time`.
    pub fn of(time: Timestamp) -> Hour {
        Hour(time.0.div_euclid(HOUR_US).clamp(0, LAST))
    }

    /// All times that belong to it.
    pub fn window(self) -> Window {
        let edge = |hour: i64| Timestamp(hour.saturating_mul(HOUR_US));
        Window {
            from: if self.0 <= 0 { Timestamp::MIN } else { edge(self.0) },
            to: if self.0 >= LAST { Timestamp::MAX } else { edge(self.0 + 1) },
        }
    }

    /// Whether any of `window` lies in it.
    pub fn overlaps(self, window: Window) -> bool {
        let own = self.window();
        window.from < own.to && own.from < window.to
    }

    /// Whether `window` begins or ends inside of it.
    pub fn is_cut_by(self, window: Window) -> bool {
        let own = self.window();
        [window.from, window.to].iter().any(|cut| own.from < *cut && *cut < own.to)
    }

    /// `2026-11-23T08`.
    pub fn name(self) -> String {
        let text = jiff::Timestamp::from_second(self.0 * 3600).map(|time| time.to_string());
        let text = text.expect("clamped to years that the calendar has");
        text.split_once(':').map_or(text.clone(), |(hour, _)| hour.to_owned())
    }

    /// `date=2026-11-23/hour=08`.
    pub(super) fn folder(self) -> PathBuf {
        let name = self.name();
        let (date, hour) = name.split_once('T').unwrap_or((&name, "00"));
        Path::new(&format!("date={date}")).join(format!("hour={hour}"))
    }

    /// The hour that the folders `date` and `hour` stand for; none if they are not named as [`Hour::folder`] does.
    pub(super) fn parse(date: &str, hour: &str) -> Option<Hour> {
        let (day, hour) = (date.strip_prefix("date=")?, hour.strip_prefix("hour=")?);
        let time: jiff::Timestamp = format!("{day}T{hour}:00:00Z").parse().ok()?;
        let found = Hour(time.as_second().div_euclid(3600));
        let same = found.folder() == Path::new(date).join(format!("hour={hour}"));
        (same && (0..=LAST).contains(&found.0)).then_some(found)
    }

    /// Whether anything of the day `date=…` lies in `window`; true for what is no day.
    pub(super) fn day_may_overlap(date: &str, window: Window) -> bool {
        let (first, last) = (Hour::parse(date, "hour=00"), Hour::parse(date, "hour=23"));
        match (first, last) {
            (Some(first), Some(last)) => window.from < last.window().to && first.window().from < window.to,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_are_folders_and_back() {
        let eight = Hour::of(Timestamp(1_795_420_800_000_000));
        assert_eq!(eight.folder(), Path::new("date=2026-11-23/hour=08"));
        assert_eq!(eight.name(), "2026-11-23T08");
        assert_eq!(Hour::parse("date=2026-11-23", "hour=08"), Some(eight));
        for (date, hour) in [
            ("date=2026-11-23", "hour=8"),
            ("date=2026-11-23", "hour=24"),
            ("date=2026-13-01", "hour=01"),
            ("2026-11-23", "hour=08"),
            ("date=", "hour="),
            ("date=+02026-11-23", "hour=08"),
        ] {
            assert_eq!(Hour::parse(date, hour), None, "{date}/{hour}");
        }
    }

    proptest! {
        #[test]
        fn every_time_has_one_hour(time: i64, near in -200_000_000_000_000_000i64..400_000_000_000_000_000) {
            for time in [time, near].map(Timestamp) {
                let hour = Hour::of(time);
                let folder = hour.folder();
                let (date, name) = folder.to_str().unwrap().split_once('/').unwrap();
                prop_assert_eq!(Hour::parse(date, name), Some(hour));
                let window = hour.window();
                prop_assert!(window.contains(time) || window.to == time);
                let moment = Window { from: time, to: time.plus_us(1) };
                let found = Hour::day_may_overlap(date, moment);
                prop_assert!(found || time == Timestamp::MAX);
            }
        }
    }
}
