//! What a runtime tells of a container: plain data, the input of identity.

use serde::{Deserialize, Serialize};

use super::ids::{ContainerId, Pid};
use super::time::Timestamp;

/// A container as its runtime's API describes it. Strings come from tenants: unbounded, hostile, never trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The runtime that told: `docker`, `containerd`, `cri`, `podman`, `cgroup`, `local`.
    pub runtime: String,
    /// The runtime's own namespace where it has one (containerd).
    pub runtime_namespace: Option<String>,
    /// The labels of that namespace, which the host's operator sets.
    #[serde(default)]
    pub runtime_namespace_labels: Vec<(String, String)>,
    /// The container's id.
    pub id: String,
    /// Its name without Docker's leading slash.
    pub name: Option<String>,
    /// The image it was made from, as it was asked for.
    pub image: Option<String>,
    /// Labels in the runtime's order.
    pub labels: Vec<(String, String)>,
    /// `KEY=value` of the creation data. Read by an allow-list of keys and never stored.
    pub env: Vec<String>,
    /// The command, without the entry point.
    pub cmd: Vec<String>,
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// The runtime's annotations of the container (CRI, OCI).
    #[serde(default)]
    pub annotations: Vec<(String, String)>,
    /// Labels that the image carries, or may carry, as far as the runtime knows. Runtimes mix them with the container's own,
    /// so a label that is also here is the word of whoever built the image, not of the platform.
    #[serde(default)]
    pub image_labels: Vec<(String, String)>,
    /// What runs it below the runtime (`runc`, `io.containerd.kata.v2`), where the runtime tells.
    #[serde(default)]
    pub runtime_handler: Option<String>,
    /// Whether it is a pod's sandbox (the pause container), which runs nothing of the pod's.
    #[serde(default)]
    pub sandbox: bool,
    /// The Kubernetes pod it is in.
    #[serde(default)]
    pub pod: Option<Pod>,
    /// What tells one run from the next where ids are used again, as `pid+start time`; none where it is not known.
    #[serde(default)]
    pub task: Option<String>,
    /// When it was made, by the runtime's clock, where ids are used again: what began before is another container's.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
}

/// A Kubernetes pod as its node knows it. Labels and annotations are those of the pod's creation: runtimes never see a
/// later change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid, as Kubernetes writes it.
    pub uid: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
}

impl Container {
    /// The value of label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        value(&self.labels, key)
    }

    /// The value of annotation `key`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value(&self.annotations, key)
    }

    /// The value of environment variable `key`.
    pub fn env(&self, key: &str) -> Option<&str> {
        self.env.iter().find_map(|line| line.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v))
    }
}

impl Pod {
    /// The value of label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        value(&self.labels, key)
    }

    /// The value of annotation `key`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value(&self.annotations, key)
    }
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// What was odd about an answer of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// It could not be understood.
    Garbled,
    /// It did not come in time.
    Late,
    /// It was a fault.
    Fault,
    /// The container it was asked after was gone, or never there.
    Gone,
    /// It was not asked after a container, because too many waited.
    Refused,
}

impl Oddity {
    /// Every one of them.
    pub const ALL: [Oddity; 5] =
        [Oddity::Garbled, Oddity::Late, Oddity::Fault, Oddity::Gone, Oddity::Refused];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Oddity::Garbled => "garbled",
            Oddity::Late => "late",
            Oddity::Fault => "fault",
            Oddity::Gone => "gone",
            Oddity::Refused => "refused",
        }
    }
}

/// What happens to containers, in the runtime's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// The runtime answers and everything that exists has been told: what is not claimed now is not its own.
    Up {
        /// The runtime.
        runtime: &'static str,
    },
    /// The runtime does not answer: nothing can be decided about its containers until it does.
    Down {
        /// The runtime.
        runtime: &'static str,
    },
    /// There is no such runtime here, as far as anybody can see: it is neither waited for nor missed. Told once, before
    /// anything else.
    Absent {
        /// The runtime.
        runtime: &'static str,
    },
    /// A container exists (created, listed, or described better than before).
    Known(Box<Container>),
    /// Its first process runs.
    Started {
        /// The container.
        id: ContainerId,
        /// The first process, where the runtime still knew it.
        pid: Option<Pid>,
        /// When, by the runtime's clock.
        at: Option<Timestamp>,
    },
    /// It says that it answers: its health check has succeeded.
    Ready {
        /// The container.
        id: ContainerId,
        /// When, by the runtime's clock.
        at: Timestamp,
    },
    /// It was paused, or runs on.
    Paused {
        /// The container.
        id: ContainerId,
        /// When, by the runtime's clock.
        at: Timestamp,
        /// Which of both.
        paused: bool,
    },
    /// Its first process ended.
    Exited {
        /// The container.
        id: ContainerId,
        /// Its exit status.
        exit_code: Option<i32>,
        /// Whether the kernel killed it for memory.
        oom: bool,
        /// When, by the runtime's clock.
        at: Option<Timestamp>,
    },
    /// Something about its answers was odd. It is watched on.
    Odd {
        /// The runtime.
        runtime: &'static str,
        /// What.
        what: Oddity,
        /// How often, since this was told last.
        count: u64,
    },
    /// The runtime has forgotten it.
    Gone {
        /// The container.
        id: ContainerId,
        /// When, by the runtime's clock; none where that was not heard.
        at: Option<Timestamp>,
    },
}
