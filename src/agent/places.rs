//! A sample's chain to places, and when a process began.

use crate::model::{Pid, Timestamp};
use crate::perf::{Clock, Context, RawSample, context};
use crate::stack::{PerfMaps, Place, Processes};

/// The places of a sample's chain, leaf first; a chain that reached the depth limit ends in a mark. Code made at run time
/// has the names that its program told, where `maps` are given.
pub(super) fn places(
    processes: &Processes,
    mut maps: Option<&mut PerfMaps>,
    sample: &RawSample,
    max_stack: usize,
) -> Box<[Place]> {
    let mut places = Vec::with_capacity(sample.chain.len());
    let mut part = Context::User;
    for ip in &sample.chain {
        match (context(*ip), part) {
            (Some(next), _) => part = next,
            (None, Context::Kernel) => places.push(Place::Kernel(*ip)),
            (None, Context::User) => {
                let place = processes.place(sample.pid, *ip);
                // Behind a call, but where the program itself stood: there is no caller in it yet.
                let stood = matches!(places.last(), None | Some(Place::Kernel(_)));
                let address = if stood { *ip } else { ip.saturating_sub(1) };
                places.push(match &mut maps {
                    Some(maps) => maps.place(sample.pid, address, sample.time_ns, place),
                    None => place,
                });
            }
            (None, Context::Foreign) => {}
        }
    }
    if places.len() >= max_stack {
        places.push(Place::Truncated);
    }
    places.into()
}

/// When a process began by the wall clock, to ten milliseconds.
pub(super) fn started_at(pid: Pid, clock: Clock) -> Option<Timestamp> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = start_ticks(&stat)?;
    let since_boot_ns = ticks.checked_mul(1_000_000_000)? / rustix::param::clock_ticks_per_second();
    // The kernel counts from boot with sleep, the monotonic clock without: take the difference of the two.
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_ns =
        u64::try_from(boot.tv_sec).ok()?.checked_mul(1_000_000_000)? + u64::try_from(boot.tv_nsec).ok()?;
    let ago_ns = boot_ns.saturating_sub(since_boot_ns);
    let ago_us = i64::try_from(ago_ns / 1000).ok()?;
    Some(clock.wall(Clock::monotonic_ns()).plus_us(-ago_us))
}

/// Field 22 of `/proc/PID/stat`, behind a name that may itself hold blanks and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CgroupId;
    use crate::sys::perf_bindings as abi;

    fn sample(chain: Vec<u64>) -> RawSample {
        let (pid, tid) = (Pid(1), Pid(1));
        RawSample { time_ns: 0, cpu: 0, pid, tid, period_ns: 0, cgroup: CgroupId(1), chain }
    }

    #[test]
    fn a_chain_is_told_apart_by_its_marks() {
        let chain =
            vec![abi::PERF_CONTEXT_KERNEL, 1, 2, abi::PERF_CONTEXT_USER, 3, abi::PERF_CONTEXT_GUEST, 4];
        let found = places(&Processes::default(), None, &sample(chain.clone()), 127);
        assert_eq!(*found, [Place::Kernel(1), Place::Kernel(2), Place::Unknown(3)]);
        let cut = places(&Processes::default(), None, &sample(chain), 3);
        assert_eq!(cut.last(), Some(&Place::Truncated));
    }

    #[test]
    fn a_process_named_to_confuse_still_has_its_start() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        assert_eq!(start_ticks(stat), Some(4711));
        for broken in ["", "7 (a", "7 (a) R 1"] {
            assert_eq!(start_ticks(broken), None);
        }
        let own = started_at(Pid(std::process::id()), Clock::read()).unwrap();
        let now = Clock::read().wall(Clock::monotonic_ns());
        assert!(own < now, "{own} < {now}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_start_or_none(text in ".{0,80}|[0-9]{1,5} \\(.{0,9}\\)( -?[0-9]{1,21}){0,30}") {
            let _ = start_ticks(&text);
        }
    }
}
