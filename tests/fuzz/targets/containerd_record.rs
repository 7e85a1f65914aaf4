//! Any bytes in place of containerd's record of a container, with the OCI spec in it, of an image's manifests, and of what
//! it tells of containers and tasks.
#![no_main]

use fnscope::identity::{Functions, IdentityConfig, Keys, identify, kept};
use fnscope::model::Identity;
use fnscope::runtime::containerd::{container_in, event_in, image_in};
use libfuzzer_sys::fuzz_target;

/// What is told of; of the last, to whom it concerns alone.
const TOPICS: [&str; 9] = [
    "/containers/create",
    "/containers/update",
    "/containers/delete",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/oom",
    "/tasks/paused",
    "/tasks/resumed",
    "/tasks/create",
];

fuzz_target!(|bytes: &[u8]| {
    let _ = image_in(bytes);
    check_records(bytes);
    check_event(bytes);
    // The same as an event of each kind, at ten seconds.
    for topic in TOPICS {
        let event = field(4, &field(2, bytes));
        let envelope = [field(1, &[8, 10]), field(2, b"n"), field(3, topic.as_bytes()), event].concat();
        check_event(&envelope);
    }
});

fn check_records(bytes: &[u8]) {
    // The spec is a record's field 5, an `Any` whose field 2 is JSON: what the fuzzer makes up stands in both places.
    let framed = [field(1, b"f"), field(5, &field(2, bytes))].concat();
    let config = IdentityConfig { functions: Functions::All, ..IdentityConfig::default() };
    for record in [bytes, &framed] {
        let Some(container) = container_in(record, &Keys::default()) else { continue };
        assert!(container.id.len() <= Identity::MAX_NAME);
        assert_eq!(kept(container.clone()), container, "what is kept is kept again");
        let identity = identify(&container, &config).identity;
        assert!(identity.function.is_none_or(|name| name.len() <= Identity::MAX_NAME));
    }
    assert!(container_in(&framed, &Keys::default()).is_some_and(|container| container.id == "f"));
}

fn check_event(envelope: &[u8]) {
    let (event, newborn) = event_in(envelope, &Keys::default());
    assert!(event.is_none() || newborn.is_none(), "a task that is made does not run yet");
    assert!(newborn.as_ref().is_none_or(|(_, pid)| pid.0 > 0));
    if let Some((id, _)) = &newborn {
        check_id(&id.0);
    }
    let Some(event) = event else { return };
    let name = check_id(&event.id.0);
    assert_eq!(event.described.id, name, "it tells of the one that it names");
    assert_eq!(kept(event.described.clone()), event.described, "what is kept is kept again");
    assert!(event.pid.is_none_or(|pid| pid.0 > 0));
    assert!(event.exit_code.is_none_or(|code| code >= 0));
}

/// The name in an id of ours, which is `namespace/name`.
fn check_id(id: &str) -> &str {
    let (namespace, name) = id.split_once('/').expect("a namespace and a name");
    for part in [namespace, name] {
        assert!(!part.is_empty() && part.len() <= Identity::MAX_NAME && !part.contains('/'));
    }
    name
}

/// A field of bytes, as protobuf writes it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut field, mut left) = (vec![number << 3 | 2], bytes.len());
    while left >= 0x80 {
        field.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    field.push(left as u8);
    field.extend_from_slice(bytes);
    field
}
