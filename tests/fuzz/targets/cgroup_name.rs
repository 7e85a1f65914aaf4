//! Any path below any parents is a container of theirs, or none.
#![no_main]

use fnscope::identity::{IdentityConfig, identify};
use fnscope::model::Identity;
use fnscope::runtime::cgroup::container_at;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<String>, &str)| {
    let (parents, path) = input;
    let Some(found) = container_at(&parents, path) else { return };
    let below = path.strip_prefix(found.path).expect("its path is a prefix");
    assert!(below.is_empty() || below.starts_with('/'), "{path:?}: {found:?}");
    let (parent, name) = found.path.rsplit_once('/').expect("a parent and a name");
    assert!(parents.iter().any(|known| known.trim_end_matches('/') == parent), "{found:?} has no parent");
    assert!(!name.is_empty() && name != "..", "{found:?}");
    assert_eq!(container_at(&parents, found.path), Some(found.clone()), "a container is its own");
    let identity = identify(&found.container, &IdentityConfig::default()).identity;
    assert!(identity.function_container && identity.function.is_some(), "{identity:?}");
    assert!(found.container.id.len() <= Identity::MAX_NAME && !found.container.id.is_empty());
});
