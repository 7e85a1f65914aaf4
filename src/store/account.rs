//! A cgroup's CPU time at a moment, out of readings of it. Pure. Not here: which moments an answer asks for.
//!
//! Promises: whoever asks about a window counts what was read at its begin or later and before its end, sealed or not:
//! so a reading on the edge of two hours is one hour's alone, and CPU times of adjoining windows add up.

use crate::model::Timestamp;

use super::contents::Usage;

/// CPU time in microseconds as it was last read before `time`, the edge of a window. `readings` are in order of time;
/// `birth` is when it was zero, for an instance that was seen from its birth.
pub fn cpu_before(readings: &[Usage], birth: Option<Timestamp>, time: Timestamp) -> u64 {
    last_before(readings, time).map_or_else(|| base(readings, birth), |reading| reading.cpu_us)
}

/// CPU time in microseconds at `time`, a cut inside of a window: shared out evenly between the readings on its sides.
pub fn cpu_at(readings: &[Usage], birth: Option<Timestamp>, time: Timestamp) -> u64 {
    let next = readings.partition_point(|reading| reading.at <= time);
    let left = next.checked_sub(1).and_then(|at| readings.get(at));
    let left = left.map(|reading| (reading.at, reading.cpu_us));
    match (left.or(birth.map(|birth| (birth.min(time), 0))), readings.get(next)) {
        (Some((from, low)), Some(right)) => {
            let share = time.since_us(from) as f64 / right.at.since_us(from).max(1) as f64;
            low + (right.cpu_us.saturating_sub(low) as f64 * share.clamp(0.0, 1.0)) as u64
        }
        (Some((_, low)), None) => low,
        (None, _) => base(readings, birth),
    }
}

/// The last of `readings`, which are in order of time, from before `time`.
pub fn last_before(readings: &[Usage], time: Timestamp) -> Option<&Usage> {
    let next = readings.partition_point(|reading| reading.at < time);
    next.checked_sub(1).and_then(|at| readings.get(at))
}

/// What it had when it was first seen: that is nobody's to count.
fn base(readings: &[Usage], birth: Option<Timestamp>) -> u64 {
    match birth {
        Some(_) => 0,
        None => readings.first().map_or(0, |reading| reading.cpu_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CpuSource;

    #[test]
    fn a_reading_on_an_edge_is_of_what_begins_there() {
        let reading = |at, cpu_us| Usage { at: Timestamp(at), cpu_us, source: CpuSource::Running };
        let readings = [reading(10, 100), reading(20, 300), reading(30, 400)];
        for (birth, time, before, at) in [
            (None, 5, 100, 100),
            (None, 10, 100, 100),
            (None, 20, 100, 300),
            (None, 21, 300, 310),
            (None, 31, 400, 400),
            (Some(0), 5, 0, 50),
            (Some(0), 10, 0, 100),
        ] {
            let (birth, time) = (birth.map(Timestamp), Timestamp(time));
            assert_eq!(cpu_before(&readings, birth, time), before, "{birth:?} {time:?}");
            assert_eq!(cpu_at(&readings, birth, time), at, "{birth:?} {time:?}");
        }
        assert_eq!((cpu_before(&[], None, Timestamp(1)), cpu_at(&[], None, Timestamp(1))), (0, 0));
    }
}
