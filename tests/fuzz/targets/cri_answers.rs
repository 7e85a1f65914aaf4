//! Any bytes in place of what a CRI answers, and in place of the JSON text that a verbose answer carries.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::Identity;
use fnscope::runtime::cri::{containers_in, info, listed_in};
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
    for listed in listed_in(answer) {
        assert!(!listed.id.0.is_empty() && listed.id.0.len() <= Identity::MAX_NAME);
        assert!(listed.container.is_none(), "the list says too little of one to tell it");
    }
    check_id(answer);
});

/// Of a list with a container of that id the container is told, or nothing where it is none that may be kept.
fn check_id(id: &[u8]) {
    // One of a length that takes one byte, in a list whose field 1 is the container, whose field 1 is the id.
    let Some(length) = u8::try_from(id.len()).ok().filter(|length| *length < 126) else { return };
    let list = [&[10, length + 2, 10, length], id].concat();
    let told: Vec<_> = listed_in(&list).into_iter().map(|listed| listed.id.0.to_string()).collect();
    match std::str::from_utf8(id) {
        Ok(id) if !id.is_empty() => assert_eq!(told, [id]),
        _ => assert!(told.is_empty()),
    }
}
