//! Ids that are easily mixed up, each a type of its own.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

/// A map by numbers that the kernel or we give one after the other: looked up some ten times for each sample, and nobody
/// chooses them to collide.
pub type IdMap<K, V> = HashMap<K, V, FxBuildHasher>;

/// A set of such numbers.
pub type IdSet<K> = HashSet<K, FxBuildHasher>;

/// A cgroup's id: `st_ino` of its directory, which is what `PERF_SAMPLE_CGROUP` carries. Unique until reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// A process id as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A container's id as its runtime writes it (64 hex digits for Docker; a name for the `cgroup` runtime).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId(pub Arc<str>);

impl ContainerId {
    /// Length in characters of the ids that Docker, containerd's CRI, CRI-O and podman make.
    pub const HEX_LEN: usize = 64;

    /// The id of container `id` in containerd's `namespace`: the id alone where it is one of 64 hex digits, else with the
    /// namespace, because a name is another container's in each. That is how its cgroup lies, too, unless told otherwise.
    pub fn in_namespace(namespace: &str, id: &str) -> ContainerId {
        if Self::is_hex(id) {
            ContainerId(id.into())
        } else {
            ContainerId(format!("{namespace}/{id}").into())
        }
    }

    /// Whether `id` is one of those that Docker, CRI-O and others make.
    pub fn is_hex(id: &str) -> bool {
        id.len() == Self::HEX_LEN && id.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// The 64-hex-digit id that `component` is, or ends in behind a `-` or `:` (`docker-<id>.scope`; `slice:cri-containerd:<id>`
    /// where a node's cgroup driver is set wrongly).
    pub fn from_cgroup_component(component: &str) -> Option<ContainerId> {
        let stem = component.strip_suffix(".scope").unwrap_or(component);
        if stem.contains("conmon-") {
            return None; // podman's and CRI-O's monitor beside the container, not the container
        }
        let tail = stem.rsplit_once(['-', ':']).map_or(stem, |(_, tail)| tail);
        Self::is_hex(tail).then(|| ContainerId(tail.into()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The unique key of one life of one container, the same on every reading and after a restart of the agent:
/// `<container>.<first 8 of the boot id>.<cgroup id in hex>`, where `<container>` is the first 12 characters of a
/// hexadecimal id or the escaped name of a cgroup.
///
/// The cgroup id stands where one would expect the start time: it is known from the container's first record,
/// before any runtime has answered, and a restarted container gets a new one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceKey(pub Arc<str>);

impl InstanceKey {
    /// Longest container part in characters; longer names are cut, the cgroup id keeps them apart.
    const MAX_CONTAINER: usize = 64;

    /// Makes the key of the container `container` that lives in cgroup `cgroup` since boot `boot_id`.
    pub fn new(container: &str, boot_id: &str, cgroup: CgroupId) -> InstanceKey {
        let limit = if ContainerId::is_hex(container) { 12 } else { Self::MAX_CONTAINER };
        let name: String = container
            .chars()
            .take(limit)
            .map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' })
            .collect();
        let boot: String = boot_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        InstanceKey(format!("{name}.{boot}.{:x}", cgroup.0).into())
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A GNU build id, 1 to 20 bytes. Chosen by whoever linked the file: never a proof of its content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId {
    len: u8,
    bytes: [u8; 20],
}

impl BuildId {
    /// The build id in `bytes`; none if it is empty or longer than 20 bytes.
    pub fn new(bytes: &[u8]) -> Option<BuildId> {
        if bytes.is_empty() || bytes.len() > 20 {
            return None;
        }
        let mut id = BuildId { len: u8::try_from(bytes.len()).ok()?, bytes: [0; 20] };
        id.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(id)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

    #[test]
    fn container_ids_are_found_in_the_components_of_every_driver() {
        for component in [
            ID.to_string(),
            format!("docker-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
            format!("libpod-{ID}"),
        ] {
            let found = ContainerId::from_cgroup_component(&component);
            assert_eq!(found.as_ref().map(|c| &*c.0), Some(ID), "{component}");
        }
        for component in
            ["docker", "init.scope", &ID[1..], "user@1000.service", &format!("crio-conmon-{ID}.scope")]
        {
            assert_eq!(ContainerId::from_cgroup_component(component), None, "{component}");
        }
    }

    #[test]
    fn keys_are_short_and_plain_whatever_the_name() {
        let boot = "6e9d3f62-1111-2222-3333-444455556666";
        assert_eq!(InstanceKey::new(ID, boot, CgroupId(255)).to_string(), "559aead08264.6e9d3f62.ff");
        let hostile = format!("../\n\u{1b}[31m{}", "x".repeat(70_000));
        let key = InstanceKey::new(&hostile, boot, CgroupId(1)).to_string();
        assert!(key.len() < 100 && !key.contains(['/', '\n', '\u{1b}']), "{key}");
    }

    #[test]
    fn build_ids_are_bounded() {
        assert_eq!(BuildId::new(&[]), None);
        assert_eq!(BuildId::new(&[0; 21]), None);
        assert_eq!(BuildId::new(&[0xab, 1]).map(|b| b.to_string()), Some("ab01".into()));
    }
}
