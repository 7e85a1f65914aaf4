//! Any lines in place of the log of OpenWhisk's invoker, and what they make of containers.
#![no_main]

use fnscope::identity::{IdentityConfig, InvokerLog, Later, LogTold, identify, identify_later};
use fnscope::model::{Container, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut log = InvokerLog::default();
    let config = IdentityConfig::default();
    for fact in bytes.split(|byte| *byte == b'\n').filter_map(|line| log.line(line)) {
        assert!(
            !fact.container.is_empty()
                && fact.container.len() <= Identity::MAX_NAME
                && fact.at <= fact.written
        );
        let LogTold::Runs(action) = fact.what else { continue };
        let later = Later { invoked: Some(action), ..Later::default() };
        for name in ["wsk0_1_prewarm_nodejs20", "wsk0_1_guest_hello", "plain"] {
            let container = Container { name: Some(name.into()), ..Container::default() };
            let current = identify(&container, &config).identity;
            let Some(new) = identify_later(&current, &later, &config) else { continue };
            assert!(new.function.is_some_and(|function| function.len() <= Identity::MAX_NAME));
        }
    }
});
