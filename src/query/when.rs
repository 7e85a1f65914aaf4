//! Points in time as people write them: `2026-11-23T08:00:00Z`, `2026-11-23`, `08:15` (today, UTC), `10m` (ago), `now`.
//!
//! Not here: the clock. A text is parsed first and meets the present in [`When::at`].

use std::str::FromStr;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::model::Timestamp;

/// A point in time, the present not yet known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This one.
    At(Timestamp),
    /// So many microseconds before now.
    Ago(i64),
    /// So many microseconds after the last midnight, UTC.
    Today(i64),
}

/// A text that is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write `2026-11-23T08:00:00Z`, `2026-11-23`, `08:15` (today, UTC), `10m`, `2h`, `1d` (ago) or `now`")]
pub struct WhenError;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

impl When {
    /// The time meant when it is `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(time) => time,
            When::Ago(us) => Timestamp(now.0.saturating_sub(us)),
            When::Today(us) => Timestamp(now.0.div_euclid(DAY_US).saturating_mul(DAY_US)).plus_us(us),
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<When, WhenError> {
        let text = text.trim();
        if text == "now" {
            return Ok(When::Ago(0));
        }
        let ago = text.strip_suffix(" ago").unwrap_or(text);
        if let Some(us) = duration_us(ago) {
            return Ok(When::Ago(us));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(When::At(Timestamp(time.as_microsecond())));
        }
        let is_time = |text: &str| text.as_bytes().get(2) == Some(&b':');
        if let Some(time) = text.parse::<Time>().ok().filter(|_| is_time(text)) {
            let since_midnight = time.duration_since(Time::midnight());
            return i64::try_from(since_midnight.as_micros()).map(When::Today).map_err(|_| WhenError);
        }
        let time = text
            .parse::<DateTime>()
            .and_then(|time| TimeZone::UTC.to_timestamp(time))
            .map_err(|_| WhenError)?;
        Ok(When::At(Timestamp(time.as_microsecond())))
    }
}

/// `1h30m` and the like in microseconds.
fn duration_us(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit_us = match unit {
            "ms" => 1_000,
            "s" => SECOND_US,
            "m" | "min" => 60 * SECOND_US,
            "h" => 3_600 * SECOND_US,
            "d" => DAY_US,
            "w" => 7 * DAY_US,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_us)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_times_in_many_ways() {
        let now = Timestamp(1_795_424_400_000_000); // 2026-11-23T09:00:00Z
        for (text, expected) in [
            ("now", "2026-11-23T09:00:00.000000Z"),
            ("10m", "2026-11-23T08:50:00.000000Z"),
            ("1h30m", "2026-11-23T07:30:00.000000Z"),
            ("2h ago", "2026-11-23T07:00:00.000000Z"),
            ("1d", "2026-11-22T09:00:00.000000Z"),
            ("08:15", "2026-11-23T08:15:00.000000Z"),
            ("08:15:30.5", "2026-11-23T08:15:30.500000Z"),
            ("2026-11-23T08:00:00.123456Z", "2026-11-23T08:00:00.123456Z"),
            ("2026-11-23T08:00:00+02:00", "2026-11-23T06:00:00.000000Z"),
            ("2026-11-23T08:00", "2026-11-23T08:00:00.000000Z"),
            ("2026-11-23 08:00:01", "2026-11-23T08:00:01.000000Z"),
            ("2026-11-23", "2026-11-23T00:00:00.000000Z"),
        ] {
            let when: When = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(when.at(now).to_string(), expected, "{text}");
        }
        for text in ["", "yesterday", "10", "m", "10x", "-5m", "25:00", "2026-13-01", "99999999999999999999d"]
        {
            assert_eq!(text.parse::<When>(), Err(WhenError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in "[0-9:TZdhms +.-]{0,30}|.*", now: i64) {
            if let Ok(when) = text.parse::<When>() {
                let _ = when.at(Timestamp(now));
            }
        }
    }
}
