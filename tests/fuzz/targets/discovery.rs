//! Any bytes in place of what a host shows of a container: the first byte says which, the rest is it. Whatever it tells
//! is put together and named.
#![no_main]

use fnscope::cgroup::place_of;
use fnscope::discovery::{Evidence, Writer, bundle, conclude, logs, mountinfo, parent};
use fnscope::identity::{IdentityConfig, Keys, variables};
use fnscope::model::Identity;
use libfuzzer_sys::fuzz_target;

const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";
const UID: &str = "3c1c2d3e-0000-4111-8222-123456789abc";

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let mut evidence = Evidence::default();
    match kind % 6 {
        0 => evidence.mounts = Some(mountinfo::parse(&text)),
        // Its first word stands for the program that it is.
        1 => evidence.parent = parent::parse(text.split('\0').next().unwrap_or_default(), bytes),
        2 => {}
        3 => evidence.log = logs::of_link(&text).map(|(names, _)| names).or_else(|| logs::of_path(&text)),
        4 => evidence.env = Some(variables(bytes, |_| true)),
        _ => assert!(parent::parent_and_start(&text).is_none_or(|_| text.contains(") "))),
    }
    let plain = format!("/docker/{ID}");
    let pod = format!("/kubepods/pod{UID}/{ID}");
    let crios = format!("/kubepods/pod{UID}/crio-{ID}");
    for path in [plain.as_str(), &pod, &crios, "/openfaas-fn/figlet"] {
        let place = place_of(path).expect("a container's path");
        if kind % 6 == 2 {
            evidence.bundle = bundle::parse(bytes, Writer::of(&place), &Keys::default()).ok();
            evidence.sandbox.clone_from(&evidence.bundle);
        }
        let Some(found) = conclude(&place, &evidence) else { continue };
        assert_eq!(found.container.id, &*place.container.0);
        let identity = found.identity(&IdentityConfig::default());
        for name in [identity.function, identity.namespace, identity.instance_name].into_iter().flatten() {
            assert!(name.len() <= Identity::MAX_NAME);
        }
    }
});
