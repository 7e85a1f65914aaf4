//! Why nobody sees an instance's stacks from the host: it runs behind a kernel of its own.

use serde::{Deserialize, Serialize};

/// What stands between a container and the host's kernel. What the host samples of such a container's cgroup is that,
/// never the function. Kinds are added at the end: a journal's bytes hold their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// gVisor: a kernel in user space.
    Gvisor,
    /// Kata Containers: a virtual machine for each pod.
    Kata,
    /// Firecracker: a virtual machine for each container.
    Firecracker,
    /// Another virtual machine.
    Vm,
}

impl Isolation {
    /// Every one of them.
    pub const ALL: [Isolation; 4] =
        [Isolation::Gvisor, Isolation::Kata, Isolation::Firecracker, Isolation::Vm];

    /// As it is written in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::Gvisor => "gvisor",
            Isolation::Kata => "kata",
            Isolation::Firecracker => "firecracker",
            Isolation::Vm => "vm",
        }
    }

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            Isolation::Gvisor => "gVisor",
            Isolation::Kata => "Kata Containers",
            Isolation::Firecracker => "Firecracker",
            Isolation::Vm => "a virtual machine",
        }
    }

    /// What the host sees in its place.
    pub fn in_its_place(self) -> &'static str {
        match self {
            Isolation::Gvisor => "gVisor's own kernel (the sentry)",
            Isolation::Kata | Isolation::Firecracker | Isolation::Vm => "the virtual machine's monitor",
        }
    }
}
