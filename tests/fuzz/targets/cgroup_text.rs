//! Any text in place of `/proc/self/mountinfo`, and any path in place of a cgroup's.
#![no_main]

use fnscope::cgroup::{Cgroups, container_in};
use fnscope::model::ContainerId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(cgroups) = Cgroups::from_mountinfo(text) {
        assert!(["v1", "v2", "hybrid"].contains(&cgroups.version()));
        assert!(cgroups.root().as_os_str().len() <= text.len());
        let below = cgroups.dir(&format!("/{text}"));
        assert!(below.starts_with(cgroups.root()), "{below:?}");
    }
    for path in text.lines().chain([text]) {
        let Some((id, found)) = container_in(path) else { continue };
        assert!(path.starts_with(found), "{path:?}: {found:?}");
        assert_eq!(id.0.len(), ContainerId::HEX_LEN);
        assert!(found.contains(&*id.0));
        assert_eq!(container_in(found), Some((id, found)), "a container is its own");
    }
});
