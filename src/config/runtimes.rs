//! Which runtimes are asked for containers, and where they listen.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which runtimes are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtimes {
    /// A Docker Engine.
    pub docker: Whether,
    /// containerd, by its own API.
    pub containerd: Whether,
    /// The containerd that k3s and RKE2 bring, by its own API.
    pub k3s: Whether,
    /// CRI-O, or whatever else speaks the CRI.
    pub crio: Whether,
    /// Podman, by its Docker API.
    pub podman: Whether,
    /// containerd's namespaces whose containers are told; none given: all but `moby`, which is Docker's.
    pub containerd_namespaces: Vec<String>,
}

/// Whether a runtime is asked, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Whether {
    /// At its usual socket, if that is there, or comes while the agent runs.
    #[default]
    Auto,
    /// Not at all.
    Off,
    /// At this socket.
    At(PathBuf),
}

impl TryFrom<String> for Whether {
    type Error = String;

    fn try_from(text: String) -> Result<Whether, String> {
        let path = text.strip_prefix("unix://").unwrap_or(&text);
        match text.as_str() {
            "auto" => Ok(Whether::Auto),
            "off" => Ok(Whether::Off),
            _ if path.starts_with('/') => Ok(Whether::At(path.into())),
            _ => Err(format!(
                "{text:?} is none of \"auto\", \"off\" and a socket's path, such as \"/run/x.sock\""
            )),
        }
    }
}

impl From<Whether> for String {
    fn from(whether: Whether) -> String {
        match whether {
            Whether::Auto => "auto".into(),
            Whether::Off => "off".into(),
            Whether::At(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl Runtimes {
    /// None is asked.
    pub fn off() -> Runtimes {
        let off = || Whether::Off;
        Runtimes {
            docker: off(),
            containerd: off(),
            k3s: off(),
            crio: off(),
            podman: off(),
            containerd_namespaces: Vec::new(),
        }
    }

    /// What makes no sense in it.
    pub(super) fn faults(&self) -> Vec<String> {
        let wrong = |name: &&String| name.is_empty() || name.contains(['/', '*']);
        let faults = self.containerd_namespaces.iter().filter(wrong);
        let says = |name| {
            format!(
                "runtimes.containerd_namespaces has {name:?}; give a namespace's name, such as \"openfaas-fn\""
            )
        };
        faults.map(says).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_asked_somewhere_or_not_at_all() {
        for (text, expected) in [
            ("auto", Some(Whether::Auto)),
            ("off", Some(Whether::Off)),
            ("/run/d.sock", Some(Whether::At("/run/d.sock".into()))),
            ("unix:///run/d.sock", Some(Whether::At("/run/d.sock".into()))),
            ("tcp://1.2.3.4:2375", None),
            ("run/d.sock", None),
            ("", None),
            ("true", None),
        ] {
            assert_eq!(Whether::try_from(text.to_owned()).ok(), expected, "{text}");
        }
        for whether in [Whether::Auto, Whether::Off, Whether::At("/a".into())] {
            assert_eq!(Whether::try_from(String::from(whether.clone())), Ok(whether));
        }
    }

    #[test]
    fn a_namespace_is_a_name() {
        let names = ["openfaas-fn", "a/b", "", "*"].map(String::from).to_vec();
        let runtimes = Runtimes { containerd_namespaces: names, ..Runtimes::default() };
        assert_eq!(runtimes.faults().len(), 3);
    }
}
