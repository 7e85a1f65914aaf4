//! Any bytes in place of what the Docker engine answers, or podman in its place: containers with bounded names, or none.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::{Container, Identity};
use fnscope::runtime::docker::{Flavour, containers_in};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let [docker, podman] = [Flavour::Docker, Flavour::Podman].map(|flavour| told(answer, flavour));
    assert_eq!(docker, podman, "it is the same container, whoever tells of it");
});

/// What an engine of that flavour tells, but for the engine's name.
fn told(answer: &[u8], flavour: Flavour) -> Vec<Container> {
    let config = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    let mut told = containers_in(answer, flavour, &Keys::default());
    for container in &mut told {
        assert!(!container.id.is_empty() && container.id.len() <= Identity::MAX_NAME);
        assert!(container.name.as_ref().is_none_or(|name| name.len() <= Identity::MAX_NAME));
        assert_eq!(kept(container.clone()), *container, "what is kept is kept again");
        let identity = identify(container, &config).identity;
        assert!(identity.function.is_none_or(|name| name.len() <= Identity::MAX_NAME));
        assert_eq!(std::mem::take(&mut container.runtime), flavour.name());
    }
    told
}
