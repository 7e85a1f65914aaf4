//! Which hours go: the oldest first, whole ones, until the archive keeps to what it may take. Pure.

use std::time::Duration;

use super::partition::Hour;
use crate::model::Timestamp;

/// How much is kept. What is not given has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Hours that ended longer ago go.
    pub max_age: Option<Duration>,
    /// The oldest hours go until all of them take no more bytes than this.
    pub max_bytes: Option<u64>,
    /// The oldest hours go until the file system has so many bytes free.
    pub min_free_bytes: Option<u64>,
}

/// An hour of the store, all of its files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HourSize {
    pub(super) hour: Hour,
    pub(super) bytes: u64,
}

impl Retention {
    /// How many of `hours`, which are in order, are to go at `now`; `other_bytes` are taken by what is no hour of the
    /// archive, `free_bytes` are free now.
    pub(super) fn due(
        &self,
        hours: &[HourSize],
        other_bytes: u64,
        free_bytes: Option<u64>,
        now: Timestamp,
    ) -> usize {
        let total = hours.iter().fold(other_bytes, |sum, hour| sum.saturating_add(hour.bytes));
        let (mut kept, mut freed) = (total, 0u64);
        for (at, hour) in hours.iter().enumerate() {
            let old = self.max_age.is_some_and(|age| {
                let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                hour.hour.window().to < now.plus_us(age_us.saturating_neg())
            });
            let much = self.max_bytes.is_some_and(|most| kept > most);
            let full = self
                .min_free_bytes
                .zip(free_bytes)
                .is_some_and(|(least, free)| free.saturating_add(freed) < least);
            if !old && !much && !full {
                return at;
            }
            kept = kept.saturating_sub(hour.bytes);
            freed = freed.saturating_add(hour.bytes);
        }
        hours.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        const HOUR_US: i64 = 3_600_000_000;
        let hours: Vec<HourSize> =
            (10..15).map(|hour| HourSize { hour: Hour::of(Timestamp(hour * HOUR_US)), bytes: 100 }).collect();
        let now = Timestamp(15 * HOUR_US);
        let age = |hours: u64| Retention {
            max_age: Some(Duration::from_secs(hours * 3600)),
            ..Retention::default()
        };
        let bytes = |most| Retention { max_bytes: Some(most), ..Retention::default() };
        let free = |least| Retention { min_free_bytes: Some(least), ..Retention::default() };
        for (retention, free_bytes, gone) in [
            (Retention::default(), Some(0), 0),
            (age(2), None, 2),
            (age(100), None, 0),
            (age(0), None, 4),
            (bytes(550), None, 0),
            (bytes(549), None, 1),
            (bytes(200), None, 4),
            (bytes(0), None, 5),
            (free(1_000), Some(1_000), 0),
            (free(1_000), Some(750), 3),
            (free(1_000), None, 0),
            (Retention { max_bytes: Some(450), ..age(2) }, None, 2),
        ] {
            assert_eq!(retention.due(&hours, 50, free_bytes, now), gone, "{retention:?}");
        }
    }
}
