//! What is looked at of containers that no runtime has claimed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Discovery without a runtime's socket, and where the host's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// Whether what the host shows of a container is read where no runtime has claimed it.
    pub enabled: bool,
    /// Folders of engines' states, with the bundles of what runs.
    pub run: Vec<String>,
    /// The folder with the kubelet's `containers` and `pods`.
    pub var_log: PathBuf,
}

impl Default for Discovery {
    fn default() -> Discovery {
        let run = [
            "/run/containerd",
            "/run/docker/containerd/daemon",
            "/run/k3s/containerd",
            "/run/containers/storage",
        ];
        Discovery { enabled: true, run: run.map(Into::into).into(), var_log: "/var/log".into() }
    }
}

impl Discovery {
    /// What makes no sense in it; each begins with its key.
    pub(super) fn faults(&self) -> Vec<String> {
        let is_whole = |path: &str| path.starts_with('/') && !path.split('/').any(|part| part == "..");
        let fault = |key: &str, path: &str| {
            format!("discovery.{key} has {path:?}; give a path from the root, such as \"/run/containerd\"")
        };
        let logs = self.var_log.to_string_lossy();
        let run = self.run.iter().filter(|path| !is_whole(path)).map(|path| fault("run", path));
        run.chain((!is_whole(&logs)).then(|| fault("var_log", &logs))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read_and_checked() {
        let text = "[discovery]\nenabled = false\nrun = [\"/a\", \"b\", \"/c/../d\"]\nvar_log = \"x\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert!(!config.discovery.enabled);
        assert_eq!(config.faults().len(), 3, "{:?}", config.faults());
        assert!(Discovery::default().faults().is_empty());
    }
}
