//! Any bytes in place of containerd's record of a container, with the OCI spec in it, and of an image's manifests.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::Identity;
use fnscope::runtime::containerd::{container_in, image_in};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = image_in(bytes);
    // The spec is a record's field 5, an `Any` whose field 2 is JSON: what the fuzzer makes up stands in both places.
    let mut framed = vec![10, 1, b'f'];
    let any = [&[18], &*length(bytes.len()), bytes].concat();
    framed.extend([&[42], &*length(any.len()), &any].concat());
    let config = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    for record in [bytes, &framed] {
        let Some(container) = container_in(record, &Keys::default()) else { continue };
        assert!(container.id.len() <= Identity::MAX_NAME);
        assert_eq!(kept(container.clone()), container, "what is kept is kept again");
        let identity = identify(&container, &config).identity;
        assert!(identity.function.is_none_or(|name| name.len() <= Identity::MAX_NAME));
    }
    assert!(container_in(&framed, &Keys::default()).is_some_and(|container| container.id == "f"));
});

/// A length as protobuf writes it.
fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
