//! Any bytes in place of what the Docker engine answers: containers with bounded names, or none.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::Identity;
use fnscope::runtime::docker::containers_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let config = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    for container in containers_in(answer, &Keys::default()) {
        assert!(!container.id.is_empty() && container.id.len() <= Identity::MAX_NAME);
        assert!(container.name.as_ref().is_none_or(|name| name.len() <= Identity::MAX_NAME));
        assert_eq!(kept(container.clone()), container, "what is kept is kept again");
        let identity = identify(&container, &config).identity;
        assert!(identity.function.is_none_or(|name| name.len() <= Identity::MAX_NAME));
    }
});
