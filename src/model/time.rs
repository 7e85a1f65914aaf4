//! Points and windows of wall-clock time, in whole microseconds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z. Shown and serialized to people as RFC 3339 in UTC by `render`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest time that can be written.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest time that can be written.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// `self - earlier` in microseconds; saturates.
    pub fn since_us(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time `us` microseconds later; saturates.
    pub fn plus_us(self, us: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(us))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds, or the bare number where no calendar has such a year.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// A half-open window `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First time inside.
    pub from: Timestamp,
    /// First time no longer inside.
    pub to: Timestamp,
}

impl Window {
    /// All of time.
    pub const ALL: Window = Window { from: Timestamp::MIN, to: Timestamp::MAX };

    /// Whether `time` lies inside.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }

    /// Whether any of the closed span `first..=last` lies inside.
    pub fn overlaps(&self, first: Timestamp, last: Timestamp) -> bool {
        first < self.to && self.from <= last
    }
}
