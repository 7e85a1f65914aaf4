//! Any text in place of the configuration file, and behind a NUL any variables of the environment, each `NAME=VALUE` and
//! ended by a NUL: a configuration or faults. What it came to is written, and reads back as the same.
#![no_main]

use fnscope::config::layers::{File, Layers, resolve};
use fnscope::config::{MAX_HZ, written};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut parts = input.split('\0');
    let text = parts.next().unwrap_or_default().to_owned();
    let variables = parts.filter_map(|pair| pair.split_once('='));
    let variables = variables.map(|(name, value)| (format!("FNSCOPE_{name}"), value.to_owned())).collect();
    let layers = Layers { file: Some(File { path: "a".into(), text }), variables, flags: Vec::new() };
    let config = match resolve(&layers) {
        Ok(resolved) => {
            let text = written::as_toml(&resolved).expect("what was read is text");
            written::as_json(&resolved).expect("what was read is text");
            let again = Layers { file: Some(File { path: "b".into(), text }), ..Layers::default() };
            let again = resolve(&again).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(again.config, resolved.config);
            resolved.config
        }
        Err(faults) => {
            assert!(!faults.0.is_empty() && !faults.to_string().is_empty());
            return;
        }
    };
    assert!(config.faults().is_empty());
    for kernel in [None, Some(0), Some(1), Some(u32::MAX)] {
        let hz = config.clamped_hz(kernel);
        assert!((1..=MAX_HZ).contains(&hz), "{hz}");
    }
    assert!(config.cgroup.parents.iter().all(|parent| parent.len() > 1 && parent.starts_with('/')));
});
