//! How stacks are walked and named: the `[stack]` table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most bytes of a stack that the kernel copies into a sample.
const MAX_COPY_BYTES: u32 = 65_528;

/// How stacks are walked and named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StackConfig {
    /// When samples carry a copy of their stack.
    pub unwind: Unwind,
    /// How much of a stack is copied, in bytes; less where the rings are too small for it.
    pub copy_bytes: u32,
    /// Whether code without unwind tables is walked by scanning the copy for return addresses.
    pub scan: Switch,
    /// Whether functions that were inlined are frames of their own, where debug information tells them.
    pub inlines: Switch,
    /// Folders with debug files by build id (`.build-id/ab/cdef….debug`), on the host.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers that are asked for debug files by build id; none are unless given.
    pub debuginfod: Vec<String>,
    /// Whether names that programs write to `/tmp/perf-PID.map` are used.
    pub perf_maps: Switch,
    /// Whether the reader threads ask for real-time priority.
    pub realtime: Realtime,
}

/// When samples carry a copy of their stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unwind {
    /// While a function runs that needs it, or of which that is not known yet.
    Auto,
    /// Never: the kernel's walk along frame pointers alone.
    Fp,
    /// Always while functions are sampled.
    Dwarf,
}

impl std::str::FromStr for Unwind {
    type Err = String;

    fn from_str(text: &str) -> Result<Unwind, String> {
        match text {
            "auto" => Ok(Unwind::Auto),
            "fp" => Ok(Unwind::Fp),
            "dwarf" => Ok(Unwind::Dwarf),
            _ => Err("give \"auto\", \"fp\" or \"dwarf\"".into()),
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// Whether reader threads ask for real-time priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Realtime {
    /// Where there are two CPUs or more.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Realtime {
    /// Whether it is asked for on a host of `cpus` CPUs.
    pub fn applies(self, cpus: usize) -> bool {
        match self {
            Realtime::Auto => cpus > 1,
            Realtime::On => true,
            Realtime::Off => false,
        }
    }
}

impl Default for StackConfig {
    fn default() -> StackConfig {
        StackConfig {
            unwind: Unwind::Auto,
            copy_bytes: 32 << 10,
            scan: Switch::On,
            inlines: Switch::Off,
            debug_dirs: vec!["/usr/lib/debug".into()],
            debuginfod: Vec::new(),
            perf_maps: Switch::On,
            realtime: Realtime::Auto,
        }
    }
}

impl StackConfig {
    /// Every fault, all at once.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(4_096..=MAX_COPY_BYTES).contains(&self.copy_bytes) || !self.copy_bytes.is_multiple_of(8) {
            faults.push(format!(
                "stack.copy_bytes is {}; give a multiple of 8 from 4096 to {MAX_COPY_BYTES}",
                self.copy_bytes
            ));
        }
        for folder in self.debug_dirs.iter().filter(|folder| !folder.is_absolute()) {
            faults.push(format!(
                "stack.debug_dirs has {:?}; give absolute paths, such as \"/usr/lib/debug\"",
                folder.display()
            ));
        }
        let is_url = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");
        for url in self.debuginfod.iter().filter(is_url) {
            faults.push(format!(
                "stack.debuginfod has {url:?}; give addresses such as \"https://debuginfod.example.org\""
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read_and_checked() {
        let text = "[stack]\nunwind = \"fp\"\ncopy_bytes = 16384\nscan = \"off\"\ninlines = \"on\"\n";
        let stack = toml::from_str::<Config>(text).unwrap().stack;
        assert_eq!((stack.unwind, stack.copy_bytes, stack.scan.is_on()), (Unwind::Fp, 16384, false));
        assert!(stack.inlines.is_on() && stack.debuginfod.is_empty() && stack.faults().is_empty());
        for wrong in ["unwind = \"lbr\"", "scan = true", "copy = 1"] {
            assert!(toml::from_str::<Config>(&format!("[stack]\n{wrong}\n")).is_err(), "{wrong}");
        }
        for (text, unwind) in [("auto", Some(Unwind::Auto)), ("fp", Some(Unwind::Fp)), ("lbr", None)] {
            assert_eq!(text.parse().ok(), unwind, "{text}");
        }
        for copy_bytes in [0, 4_095, 4_097, 65_536] {
            assert_eq!(
                StackConfig { copy_bytes, ..StackConfig::default() }.faults().len(),
                1,
                "{copy_bytes}"
            );
        }
        let (debug_dirs, debuginfod) = (vec!["debug".into()], vec!["ftp://a".into()]);
        let config = StackConfig { debug_dirs, debuginfod, ..StackConfig::default() };
        assert_eq!(config.faults().len(), 2);
    }
}
