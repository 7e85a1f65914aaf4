//! What the agent tells of its host and of itself: how the CPUs are called, and what its own process uses.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};

use crate::model::OwnUse;
use crate::model::identity::bounded_name;
use crate::perf::Clock;

/// Of a list of all CPUs the first is enough.
const MAX_CPUINFO_BYTES: u64 = 16 << 10;

/// What the host's CPUs call themselves; none where they have no name, as on most ARM machines.
pub(super) fn cpu_model() -> Option<String> {
    let mut text = Vec::new();
    File::open("/proc/cpuinfo").ok()?.take(MAX_CPUINFO_BYTES).read_to_end(&mut text).ok()?;
    model_of(&String::from_utf8_lossy(&text))
}

/// The model in the text of `/proc/cpuinfo`, bounded as names are.
fn model_of(cpuinfo: &str) -> Option<String> {
    const KEYS: [&str; 5] = ["model name", "cpu model", "cpu", "Model", "Hardware"];
    let value = |key: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim());
        values.find(|value| !value.is_empty()).map(bounded_name)
    };
    KEYS.into_iter().find_map(value)
}

/// The account of this process.
#[derive(Debug, Default)]
pub(super) struct OwnAccount {
    told_us: u64,
}

impl OwnAccount {
    /// What it used since the last time it was asked, from its start the first time; and the memory it holds.
    pub(super) fn since_last(&mut self) -> OwnUse {
        let now_us = cpu_us();
        let cpu_us = now_us.saturating_sub(self.told_us);
        self.told_us = now_us;
        OwnUse { cpu_us, memory_bytes: Memory::at(now_us).map_or(0, |memory| memory.resident_bytes) }
    }
}

/// CPU time of this process since its start, in microseconds.
pub(super) fn cpu_us() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// Memory that this process alone holds when its CPU time is `cpu_us`, in bytes: neither the rings, which it shares with the
/// kernel, nor its own program, which the system may drop.
pub(super) fn private_bytes(cpu_us: u64) -> Option<u64> {
    let Memory { resident_bytes, shared_bytes } = Memory::at(cpu_us)?;
    Some(resident_bytes.saturating_sub(shared_bytes))
}

/// Memory of this process.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident_bytes: u64,
    shared_bytes: u64,
}

impl Memory {
    /// When the CPU time of the process is `cpu_us`. Asked by two threads each second, it is read where it can have changed:
    /// the kernel adds it up over all CPUs, and memory takes work to grow, a millisecond for a few MiB.
    fn at(cpu_us: u64) -> Option<Memory> {
        const SAME_US: u64 = 5_000;
        const SAME_NS: u64 = 4_000_000_000;
        static LAST: Mutex<Option<(u64, u64, Memory)>> = Mutex::new(None);
        let now_ns = Clock::monotonic_ns();
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at_us, at_ns, memory))
                if cpu_us.saturating_sub(at_us) < SAME_US && now_ns.saturating_sub(at_ns) < SAME_NS =>
            {
                Some(memory)
            }
            _ => {
                let memory = Memory::read()?;
                *last = Some((cpu_us, now_ns, memory));
                Some(memory)
            }
        }
    }

    /// The file is held open: it is read again and again.
    fn read() -> Option<Memory> {
        static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());
        let mut bytes = [0; 256];
        let length = STATM.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
        let page_bytes = rustix::param::page_size() as u64;
        let mut fields =
            text.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok()?.checked_mul(page_bytes));
        let (resident_bytes, shared_bytes) = fields.next().zip(fields.next())?;
        Some(Memory { resident_bytes, shared_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_model_is_found_under_the_name_it_has_there() {
        for (cpuinfo, model) in [
            (
                "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 1\nmodel name\t: A B @ 2: 1\nmodel name\t: C\n",
                Some("A B @ 2: 1"),
            ),
            ("processor\t: 0\nCPU part\t: 0xd0c\n", None),
            ("processor : 0\nModel : Board 5\n", Some("Board 5")),
            ("cpu\t\t: POWER9\n", Some("POWER9")),
            ("model name\t:\n", None),
            ("", None),
        ] {
            assert_eq!(model_of(cpuinfo).as_deref(), model, "{cpuinfo}");
        }
    }

    #[test]
    fn work_is_told_once() {
        let mut account = OwnAccount::default();
        let first = account.since_last();
        assert!(first.cpu_us > 0 && first.memory_bytes > 100_000, "{first:?}");
        let begin = clock_gettime(ClockId::ThreadCPUTime);
        let worked_us = || {
            let now = clock_gettime(ClockId::ThreadCPUTime);
            (now.tv_sec - begin.tv_sec) * 1_000_000 + (now.tv_nsec - begin.tv_nsec) / 1_000
        };
        while worked_us() < 5_000 {}
        // Other tests work in this process too.
        assert!(account.since_last().cpu_us >= 4_999);
    }

    proptest! {
        #[test]
        fn any_text_has_a_bounded_model_or_none(text in "((model name|cpu|.{0,9})[\t ]*:.{0,400}\n){0,4}|(.|\n){0,99}") {
            prop_assert!(model_of(&text).is_none_or(|model| model.len() <= crate::model::Identity::MAX_NAME));
        }
    }
}
