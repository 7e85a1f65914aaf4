//! What the agent tells of its host and of itself: how the CPUs are called, and what its own process uses.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

use crate::model::OwnUse;
use crate::model::identity::bounded_name;

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
        OwnUse { cpu_us, memory_bytes: memory_bytes().unwrap_or(0) }
    }
}

/// CPU time of this process since its start, in microseconds.
pub(super) fn cpu_us() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// Memory that this process alone holds, in bytes: neither the rings, which it shares with the kernel, nor its own
/// program, which the system may drop.
pub(super) fn private_bytes() -> Option<u64> {
    let (resident, shared) = statm()?;
    resident.saturating_sub(shared).checked_mul(rustix::param::page_size() as u64)
}

fn memory_bytes() -> Option<u64> {
    statm()?.0.checked_mul(rustix::param::page_size() as u64)
}

/// Resident and shared pages of this process. The file is held open: it is read once a second and more.
fn statm() -> Option<(u64, u64)> {
    static STATM: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/statm").ok());
    let mut bytes = [0; 256];
    let length = STATM.as_ref()?.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    let mut pages = text.split(' ').skip(1).map_while(|field| field.parse().ok());
    pages.next().zip(pages.next())
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
