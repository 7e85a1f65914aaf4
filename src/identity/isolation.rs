//! Which containers run behind a kernel of their own, by the name of what runs them below their runtime. Pure.
//!
//! Handlers are named by who runs the host: in Docker's `daemon.json`, containerd's `config.toml`, a RuntimeClass. The
//! usual names are known here; the configuration tells of others. A tenant chooses among them and makes none, so a
//! handler's name is the operator's word. Not here: looking at processes, whose names are a tenant's to choose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Container, Isolation};

/// What the user decides about handlers: the section `[isolation]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IsolationConfig {
    /// Handlers that are called otherwise here, and what each is. They go over the names that are known.
    pub handlers: BTreeMap<String, Handler>,
}

/// What a handler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handler {
    /// Nothing of the kind: its processes are the host's (`runc`, `crun`).
    None,
    /// gVisor.
    Gvisor,
    /// Kata Containers.
    Kata,
    /// Firecracker.
    Firecracker,
    /// Another virtual machine.
    Vm,
}

impl Handler {
    fn isolation(self) -> Option<Isolation> {
        match self {
            Handler::None => None,
            Handler::Gvisor => Some(Isolation::Gvisor),
            Handler::Kata => Some(Isolation::Kata),
            Handler::Firecracker => Some(Isolation::Firecracker),
            Handler::Vm => Some(Isolation::Vm),
        }
    }
}

/// First words of handlers' names, in order: the first that fits decides.
const KNOWN: &[(&str, Isolation)] = &[
    ("runsc", Isolation::Gvisor),
    ("gvisor", Isolation::Gvisor),
    ("kata", Isolation::Kata),
    ("firecracker", Isolation::Firecracker),
    // crun with libkrun, Quark, unikernels: a virtual machine each.
    ("krun", Isolation::Vm),
    ("quark", Isolation::Vm),
    ("urunc", Isolation::Vm),
    ("runnc", Isolation::Vm),
];

/// Most handlers that are configured: a host has a handful.
const MAX_HANDLERS: usize = 256;

impl IsolationConfig {
    /// What stands between `container` and the host's kernel, where anything does.
    pub fn of(&self, container: &Container) -> Option<Isolation> {
        self.of_handler(container.runtime_handler.as_deref()?)
    }

    /// The same of a handler, as its runtime writes it: a name (`runsc`, `kata-qemu`), containerd's name of a shim
    /// (`io.containerd.kata.v2`), or a program's path.
    pub fn of_handler(&self, handler: &str) -> Option<Isolation> {
        let short = short(handler);
        if let Some(told) = self.handlers.get(handler).or_else(|| self.handlers.get(short)) {
            return told.isolation();
        }
        let short = short.to_ascii_lowercase();
        let is_meant = |word: &str| {
            let rest = short.strip_prefix(word);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        };
        KNOWN.iter().find(|(word, _)| is_meant(word)).map(|(_, isolation)| *isolation)
    }

    /// Every fault of it, all at once; empty if there is none.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.handlers.len() > MAX_HANDLERS {
            let len = self.handlers.len();
            faults.push(format!("isolation.handlers has {len} entries; give at most {MAX_HANDLERS}"));
        }
        if self.handlers.contains_key("") {
            faults.push(
                "isolation.handlers has \"\"; give the handler's name, such as \"sandboxed\" = \"gvisor\""
                    .into(),
            );
        }
        faults
    }
}

/// The part of a handler's name that tells what it is: `runsc` of `io.containerd.runsc.v1`, of `aws.firecracker`, of a
/// path.
fn short(handler: &str) -> &str {
    let name = handler.rsplit('/').next().unwrap_or(handler);
    let name = ["io.containerd.", "aws.", "containerd-shim-"]
        .into_iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let is_version = |end: &str| {
        let digits = end.strip_prefix('v').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    // As a shim's name ends (`.v2`), and its program's (`-v2`).
    match name.rsplit_once(['.', '-']) {
        Some((stem, end)) if is_version(end) => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_handlers_are_known_by_the_names_each_runtime_gives_them() {
        let config = IsolationConfig::default();
        for (handlers, isolation) in [
            (
                &["runsc", "runsc-kvm", "io.containerd.runsc.v1", "/usr/local/bin/runsc", "gvisor"][..],
                Some(Isolation::Gvisor),
            ),
            (
                &[
                    "kata",
                    "kata-runtime",
                    "kata-qemu",
                    "kata-clh",
                    "kata-fc",
                    "kata_shim",
                    "Kata-QEMU",
                    "io.containerd.kata.v2",
                    "io.containerd.kata-fc.v2",
                    "io.containerd.kata-qemu-nvidia-gpu.v2",
                    "/opt/kata/bin/containerd-shim-kata-v2",
                ],
                Some(Isolation::Kata),
            ),
            (&["aws.firecracker", "firecracker", "firecracker-dev"], Some(Isolation::Firecracker)),
            (
                &["krun", "/usr/bin/krun", "io.containerd.quark.v1", "io.containerd.urunc.v2"],
                Some(Isolation::Vm),
            ),
            (
                &[
                    "",
                    "runc",
                    "crun",
                    "youki",
                    "nvidia",
                    "io.containerd.runc.v2",
                    "io.containerd.runtime.v1.linux",
                    "/usr/sbin/runc",
                    "/opt/kata/bin/runc",
                    "katana",
                    "runscript",
                    "io.containerd.wasmtime.v1",
                    "my-runsc",
                    "second",
                ],
                None,
            ),
        ] {
            for handler in handlers {
                assert_eq!(config.of_handler(handler), isolation, "{handler}");
            }
        }
    }

    #[test]
    fn the_configuration_goes_over_what_is_known() {
        let text = r#"handlers = { foo = "gvisor", kata-lookalike = "none", "io.containerd.vmm.v2" = "vm", runc = "kata" }"#;
        let config: IsolationConfig = toml::from_str(text).expect("it is TOML");
        assert_eq!(config.faults(), [""; 0]);
        for (handler, isolation) in [
            ("foo", Some(Isolation::Gvisor)),
            ("io.containerd.foo.v1", Some(Isolation::Gvisor)),
            ("kata-lookalike", None),
            ("kata", Some(Isolation::Kata)),
            ("io.containerd.vmm.v2", Some(Isolation::Vm)),
            ("io.containerd.runc.v2", Some(Isolation::Kata)),
            ("Foo", None),
        ] {
            assert_eq!(config.of_handler(handler), isolation, "{handler}");
        }
        for wrong in [r#"handlers = { foo = "gVisor" }"#, r#"handlers = ["foo"]"#, "handler = {}"] {
            assert!(toml::from_str::<IsolationConfig>(wrong).is_err(), "{wrong}");
        }
        let many =
            (0..=MAX_HANDLERS).map(|n| (format!("h{n}"), Handler::Vm)).chain([(String::new(), Handler::Vm)]);
        let faults = IsolationConfig { handlers: many.collect() }.faults();
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn every_kind_can_be_configured_by_its_name() {
        for isolation in Isolation::ALL {
            let text = format!("handlers = {{ x = \"{}\" }}", isolation.name());
            let config: IsolationConfig = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.of_handler("x"), Some(isolation));
            assert_eq!(serde_json::to_value(isolation).expect("JSON"), isolation.name());
        }
    }

    proptest! {
        #[test]
        fn any_handler_is_survived(handler in "(/|\\.|-|v[0-9]|io\\.containerd\\.|runsc|kata|\\PC){0,9}") {
            let config = IsolationConfig::default();
            let _ = config.of_handler(&handler);
            // Where a program lies says nothing.
            let moved = config.of_handler(&format!("/kata/{handler}"));
            prop_assert_eq!(moved, config.of_handler(&handler));
        }
    }
}
