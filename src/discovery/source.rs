//! The kinds of evidence, and what each is for.

use std::fmt;

/// Where something of a container is known from. The earlier one is believed where two tell the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Its cgroup's path: the runtime's own choice.
    Path,
    /// The `config.json` that the runtime was started with.
    Bundle,
    /// Names that the kubelet gave its logs.
    Logs,
    /// The program above it, and its command line.
    Parent,
    /// What is mounted in it, as its first process sees it.
    Mounts,
    /// The environment of its first process: in the hands of what runs in it.
    Environment,
}

impl Source {
    /// Every one of them, the one that is believed first at the front.
    pub const ALL: [Source; 6] =
        [Source::Path, Source::Bundle, Source::Logs, Source::Parent, Source::Mounts, Source::Environment];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Source::Path => "cgroup path",
            Source::Bundle => "bundle",
            Source::Logs => "log names",
            Source::Parent => "parent's program",
            Source::Mounts => "mountinfo",
            Source::Environment => "environment",
        }
    }

    /// What it tells of a container.
    pub fn tells(self) -> &'static str {
        match self {
            Source::Path => "id, runtime, the pod's uid",
            Source::Bundle => {
                "image, environment, names of pod, namespace and container; the pod's labels where CRI-O runs it, as a guess"
            }
            Source::Logs => "names of pod, namespace and container, also when it is gone",
            Source::Parent => {
                "containerd's namespace, which names faasd's functions; the pod's sandbox; Podman's names; what runs it"
            }
            Source::Mounts => "the pod's sandbox and uid, the container's name in it",
            Source::Environment => "variables by which platforms mark functions",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
