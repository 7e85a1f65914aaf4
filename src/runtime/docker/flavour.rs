//! Who speaks Docker's API: Docker, or podman, which differs in a few words.

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl Flavour {
    /// Who answers, by the names of the parts that the engine's version lists.
    pub fn of<'a>(components: impl IntoIterator<Item = &'a str>) -> Flavour {
        let is_podman = components.into_iter().any(|name| name == "Podman Engine");
        if is_podman { Flavour::Podman } else { Flavour::Docker }
    }

    /// Its name in what is told.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Docker => super::RUNTIME,
            Flavour::Podman => super::PODMAN,
        }
    }

    /// The attribute of the end of a container that tells how it ended.
    pub fn exit_code(self) -> &'static str {
        match self {
            Flavour::Docker => "exitCode",
            Flavour::Podman => "containerExitCode",
        }
    }

    /// What it puts among a container's labels in events.
    pub fn own_attributes(self) -> &'static [&'static str] {
        match self {
            Flavour::Docker => &["exitCode", "execDuration", "oldName"],
            Flavour::Podman => &["containerExitCode", "podId"],
        }
    }

    /// The actions that are asked for by name; all of them where it knows them by other names than it tells.
    pub fn actions(self) -> &'static [&'static str] {
        match self {
            Flavour::Docker => &[
                "create",
                "start",
                "die",
                "oom",
                "rename",
                "update",
                "destroy",
                "health_status",
                "pause",
                "unpause",
            ],
            Flavour::Podman => &[],
        }
    }
}
