//! Any bytes in place of `/proc/PID/environ`, and what they make of a container that waits for its function.
#![no_main]

use fnscope::identity::{
    IdentityConfig, LATER_ENV_ALLOW_LIST, Later, identify, identify_later, parse_environ,
};
use fnscope::model::{Container, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|block: &[u8]| {
    let env = parse_environ(block);
    assert!(
        env.iter().all(|(name, value)| LATER_ENV_ALLOW_LIST.contains(&name.as_str()) && !value.is_empty())
    );
    let later = Later { env, ..Later::default() };
    let config = IdentityConfig::default();
    for name in ["wsk0_1_prewarm_go", "wsk0_1_guest_hello", "plain"] {
        let container = Container { name: Some(name.into()), ..Container::default() };
        let current = identify(&container, &config).identity;
        let Some(new) = identify_later(&current, &later, &config) else { continue };
        assert!(new.function.is_some_and(|function| function.len() <= Identity::MAX_NAME));
    }
});
