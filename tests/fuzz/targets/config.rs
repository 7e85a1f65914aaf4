//! Any text in place of the configuration file.
#![no_main]

use fnscope::config::{Config, MAX_HZ};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(config) = toml::from_str::<Config>(text) else { return };
    let faults = config.faults();
    for kernel in [None, Some(0), Some(1), Some(u32::MAX)] {
        let hz = config.clamped_hz(kernel);
        assert!((1..=MAX_HZ).contains(&hz), "{hz}");
    }
    if faults.is_empty() {
        assert!(config.cgroup.parents.iter().all(|parent| parent.len() > 1 && parent.starts_with('/')));
    }
});
