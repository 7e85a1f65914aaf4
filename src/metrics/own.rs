//! What this process uses: read when somebody asks, not kept.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What it uses. Zero where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// CPU time since its start, in microseconds.
    pub(super) cpu_us: u64,
    /// Memory it holds, the rings included, in bytes.
    pub(super) resident_bytes: u64,
    /// Open file descriptors.
    pub(super) open_fds: u64,
    /// How many may be open; none without limit.
    pub(super) max_fds: Option<u64>,
}

impl Own {
    pub(super) fn read() -> Own {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_us = u64::try_from(cpu.tv_sec).unwrap_or(0) * 1_000_000 + cpu.tv_nsec.unsigned_abs() / 1_000;
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        // The folder's own descriptor is in it.
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1));
        Own {
            cpu_us,
            resident_bytes: resident_pages(&statm).unwrap_or(0) * rustix::param::page_size() as u64,
            open_fds: fds as u64,
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_of_everything() {
        let own = Own::read();
        assert!(own.cpu_us > 0 && own.resident_bytes > 100_000, "{own:?}");
        assert!(own.open_fds >= 3 && own.max_fds.is_none_or(|max| own.open_fds < max), "{own:?}");
        for (statm, pages) in [("5 3 2 1 0 1 0\n", Some(3)), ("", None), ("1", None), ("1 -2 3", None)] {
            assert_eq!(resident_pages(statm), pages, "{statm:?}");
        }
    }
}
