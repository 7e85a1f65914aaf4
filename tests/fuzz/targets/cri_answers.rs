//! Any bytes in place of what a CRI answers, and in place of the JSON text that a verbose answer carries.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::Identity;
use fnscope::runtime::cri::{containers_in, info};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    if let Ok(info) =
        std::str::from_utf8(answer).map_err(drop).and_then(|text| info::parse(text).map_err(drop))
    {
        assert!(info.sandbox.as_deref() != Some("") && info.annotations.is_sorted());
    }
    let config = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    for container in containers_in(answer, &Keys::default()) {
        assert!(!container.id.is_empty() && container.id.len() <= Identity::MAX_NAME);
        assert_eq!(kept(container.clone()), container, "what is kept is kept again");
        let identity = identify(&container, &config).identity;
        assert!(identity.function.is_none_or(|name| name.len() <= Identity::MAX_NAME));
    }
});
