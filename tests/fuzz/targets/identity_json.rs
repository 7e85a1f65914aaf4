//! Any text in place of what `docker inspect` prints: an error, or containers with bounded names.
#![no_main]

use fnscope::identity::row::rows;
use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept, parse};
use fnscope::model::{Container, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(elements) = parse(text, &Keys::default()) else { return };
    let configs = [Functions::Labelled, Functions::All]
        .map(|functions| IdentityConfig { functions, ..IdentityConfig::default() });
    for config in &configs {
        assert_eq!(rows(&elements, config).len(), elements.len(), "a row for each");
    }
    for element in elements {
        assert!(element.id.is_none_or(|id| id.len() <= Identity::MAX_NAME));
        let Ok(container) = element.container else { continue };
        assert_eq!(kept(container.clone()), container, "what is kept is kept again");
        configs.iter().for_each(|config| check(&container, config));
    }
});

fn check(container: &Container, config: &IdentityConfig) {
    let answer = identify(container, config);
    let identity = &answer.identity;
    let names = [
        &identity.platform,
        &identity.namespace,
        &identity.function,
        &identity.revision,
        &identity.instance_name,
    ];
    assert!(names.into_iter().flatten().all(|name| name.len() <= Identity::MAX_NAME), "{identity:?}");
    assert!(!identity.function_container || identity.platform.is_some(), "{identity:?}");
    assert!(answer.looked_at.iter().rev().skip(1).all(|looked| !looked.matched), "one rule decides");
}
