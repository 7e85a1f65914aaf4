//! What a cgroup tells beside its CPU time: how often its quota stopped it, how long it waited for a CPU, whether it is
//! frozen.
//!
//! On cgroup2 all of it lies in the cgroup's own directory; on v1 and hybrid hosts the `cpu` and `freezer` hierarchies
//! have a directory of the same path. What is not there is not told: a cgroup without a quota's controller, a kernel
//! without PSI.

use std::path::{Path, PathBuf};

use super::Cgroups;
use super::held::Held;
use crate::model::Fact;

/// Mounts of v1 hierarchies that hold facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    pub(super) cpu: Option<PathBuf>,
    pub(super) freezer: Option<PathBuf>,
}

/// Where the facts of one cgroup are read.
#[derive(Debug)]
pub struct FactFiles {
    throttling: Held,
    pressure: Held,
    freezer: Held,
}

impl FactFiles {
    /// Those of the cgroup at `path`.
    pub fn open(cgroups: &Cgroups, path: &str) -> FactFiles {
        let own = cgroups.dir(path);
        let below = |mount: &Path| mount.join(path.trim_start_matches('/'));
        let cpu = cgroups.mounts.cpu.as_deref().map_or_else(|| own.clone(), below);
        let freezer = match &cgroups.mounts.freezer {
            Some(mount) => below(mount).join("freezer.state"),
            None => own.join("cgroup.events"),
        };
        FactFiles {
            throttling: Held::at(cpu.join("cpu.stat")),
            pressure: Held::at(own.join("cpu.pressure")),
            freezer: Held::at(freezer),
        }
    }

    /// Closes them; who reads opens them again.
    pub fn close(&mut self) {
        [&mut self.throttling, &mut self.pressure, &mut self.freezer].into_iter().for_each(Held::close);
    }

    /// Whether it is frozen now; none where that cannot be read, or it is on its way.
    pub fn frozen(&mut self) -> Option<Fact> {
        self.freezer.read(true, frozen).ok().flatten().map(Fact::Frozen)
    }

    /// Its counters, those that are kept for it. `hold`: whether their files stay open, for who asks again and again.
    pub fn counters(&mut self, hold: bool) -> impl Iterator<Item = Fact> {
        let throttled = self.throttling.read(hold, throttled).ok().flatten();
        throttled.into_iter().chain(self.pressure.read(hold, pressure).ok().flatten())
    }
}

/// From `cpu.stat`: microseconds on cgroup2, nanoseconds on v1.
fn throttled(text: &str) -> Option<Fact> {
    let number = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        value.trim().parse::<u64>().ok()
    };
    let us = number("throttled_usec").or_else(|| Some(number("throttled_time")? / 1000))?;
    Some(Fact::Throttled { count: number("nr_throttled")?, us })
}

/// From `cpu.pressure`: the line `some avg10=0.00 … total=123`.
fn pressure(text: &str) -> Option<Fact> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|field| field.strip_prefix("total="))?;
    Some(Fact::Pressure { us: total.trim().parse().ok()? })
}

/// From `cgroup.events` or v1's `freezer.state`.
fn frozen(text: &str) -> Option<bool> {
    match text.trim_end() {
        "FROZEN" => Some(true),
        "THAWED" => Some(false),
        _ => text.lines().find_map(|line| match line.strip_prefix("frozen ")? {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_files_of_both_versions_are_read() {
        for (text, expected) in [
            (
                "usage_usec 9\nnr_periods 5\nnr_throttled 3\nthrottled_usec 250\n",
                Some(Fact::Throttled { count: 3, us: 250 }),
            ),
            (
                "nr_periods 5\nnr_throttled 3\nthrottled_time 250999\n",
                Some(Fact::Throttled { count: 3, us: 250 }),
            ),
            ("usage_usec 9\nuser_usec 9\n", None),
            ("nr_throttled -1\nthrottled_usec 1\n", None),
        ] {
            assert_eq!(throttled(text), expected, "{text}");
        }
        let psi = "some avg10=1.00 avg60=0.10 avg300=0.00 total=4711\nfull avg10=0.00 total=1\n";
        assert_eq!(pressure(psi), Some(Fact::Pressure { us: 4711 }));
        for (text, expected) in [
            ("FROZEN\n", Some(true)),
            ("FREEZING\n", None),
            ("THAWED\n", Some(false)),
            ("populated 1\nfrozen 1\n", Some(true)),
            ("populated 1\nfrozen 0\n", Some(false)),
            ("populated 1\n", None),
        ] {
            assert_eq!(frozen(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let mountinfo = format!("1 1 0:1 / {} rw - cgroup2 none rw", dir.path().display());
        let cgroups = Cgroups::from_mountinfo(&mountinfo).unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let mut files = FactFiles::open(&cgroups, "/a");
        assert_eq!((files.frozen(), files.counters(true).count()), (None, 0));
        std::fs::write(dir.path().join("a/cpu.stat"), "nr_throttled 1\nthrottled_usec 2\n").unwrap();
        std::fs::write(dir.path().join("a/cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        let mut files = FactFiles::open(&cgroups, "/a");
        assert_eq!(files.frozen(), Some(Fact::Frozen(true)));
        // Held or not, they are what they are when they are read.
        for (us, hold) in [(2, false), (3, true), (4, true), (5, false)] {
            std::fs::write(dir.path().join("a/cpu.stat"), format!("nr_throttled 1\nthrottled_usec {us}\n"))
                .unwrap();
            assert_eq!(files.counters(hold).collect::<Vec<_>>(), [Fact::Throttled { count: 1, us }]);
            assert_eq!(files.throttling.open.is_some(), hold);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(nr_throttled |throttled_usec |some |total=|frozen |[0-9]|.|\n){0,60}") {
            let _ = (throttled(&text), pressure(&text), frozen(&text));
        }
    }
}
