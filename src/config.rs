//! What the agent is told: where to store, how often to sample, what counts as a function.
//!
//! | file | what |
//! |---|---|
//! | this one | [`Config`], its defaults and what makes no sense in it |
//! | `store`, `sampling`, `service`, `stack`, `runtimes`, `discovery`, `platforms` | its tables |
//! | [`keys`] | every key that there is, by the names of the configuration's own fields |
//! | [`layers`] | defaults, then a TOML file, then the environment, then flags, to one `Config`; pure |
//! | [`sources`] | the file and the environment of this process |
//! | [`origin`] | where a value comes from, and faults, all at once |
//! | [`written`] | the configuration as it came out, as TOML and as JSON |
//!
//! Promises: unknown keys are refused, at every level; everything is checked before anything is opened.

mod discovery;
mod file;
pub mod keys;
pub mod layers;
pub mod origin;
mod platforms;
mod runtimes;
mod sampling;
mod service;
pub mod sources;
mod stack;
mod store;
mod variables;
pub mod written;

use serde::{Deserialize, Serialize};

use crate::identity::{Functions, IdentityConfig, IsolationConfig};
pub use discovery::Discovery;
pub use layers::Resolved;
pub use origin::{Fault, Faults, Origin};
pub use platforms::{Kubernetes, KubernetesApi, PlatformLogs};
pub use runtimes::{Runtimes, Whether};
pub use sampling::{Attach, OffCpu, SampledEvent};
pub use service::{Budget, Listen, Log, LogFormat};
pub use sources::Sources;
pub use stack::{Realtime, StackConfig, Switch, Unwind};
pub use store::StoreConfig;

/// Where profiles are stored unless told otherwise.
pub const DEFAULT_STORE: &str = "/var/lib/fnscope";
/// Docker's socket unless told otherwise.
pub const DEFAULT_DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Samples a second and busy CPU unless told otherwise: prime, so that it keeps no step with what runs each 5 or 10 ms.
pub const DEFAULT_HZ: u32 = 199;
/// Highest rate without a raised limit.
pub const DEFAULT_MAX_HZ: u32 = 1_000;
/// Highest rate at all: above it the samples themselves are what runs.
pub const MAX_HZ: u32 = 4_999;

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The profiles directory, and what is kept in it.
    pub store: StoreConfig,
    /// The name of this host in the store; its host name unless given.
    pub node: Option<String>,
    /// Samples a second and busy CPU.
    pub hz: u32,
    /// What `hz` is clamped to.
    pub max_hz: u32,
    /// How sampling events are scoped.
    pub attach: Attach,
    /// What makes a sample.
    pub event: SampledEvent,
    /// Time off the CPU.
    pub off_cpu: OffCpu,
    /// Locked memory for all rings together, in bytes.
    pub ring_budget_bytes: usize,
    /// What the agent may use.
    pub budget: Budget,
    /// Every address it listens on.
    pub listen: Listen,
    /// How it logs.
    pub log: Log,
    /// Whether it gives up the rights and system calls that it does not need.
    pub sandbox: Switch,
    /// Which containers are functions: `labelled` (a platform's rule names them) or `all`.
    pub functions: Functions,
    /// Rules of the user's own for which function a container is, and namespaces to leave out.
    pub identity: IdentityConfig,
    /// What runs containers behind a kernel of their own, so that their stacks cannot be seen.
    pub isolation: IsolationConfig,
    /// How stacks are walked and named.
    pub stack: StackConfig,
    /// The runtimes that are asked.
    pub runtimes: Runtimes,
    /// Containers that no runtime has claimed.
    pub discovery: Discovery,
    /// The `cgroup` runtime.
    pub cgroup: Cgroup,
    /// Logs of platforms that tell which function a container has become.
    pub platform_logs: PlatformLogs,
    /// Labels of pods that tell it.
    pub kubernetes: Kubernetes,
    /// What CPU time costs; no part of the agent's work.
    pub cost: Cost,
}

/// Which cgroups are containers by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// Paths below the hierarchy's root whose direct children are containers, named `function[@revision][.n]`.
    pub parents: Vec<String>,
}

/// What CPU time costs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    /// One CPU for an hour.
    pub per_cpu_hour: Option<Amount>,
    /// In this currency.
    pub currency: Option<String>,
}

/// An amount of money, kept in billionths so that it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Amount(u64);

impl Amount {
    /// The amount.
    pub fn value(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl TryFrom<f64> for Amount {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Amount, &'static str> {
        if (0.0..1e9).contains(&value) {
            Ok(Amount((value * 1e9).round() as u64))
        } else {
            Err("a price is 0 or more, such as 0.04")
        }
    }
}

impl From<Amount> for f64 {
    fn from(amount: Amount) -> f64 {
        amount.value()
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            store: StoreConfig::default(),
            node: None,
            hz: DEFAULT_HZ,
            max_hz: DEFAULT_MAX_HZ,
            attach: Attach::default(),
            event: SampledEvent::default(),
            off_cpu: OffCpu::default(),
            ring_budget_bytes: 64 << 20,
            budget: Budget::default(),
            listen: Listen::default(),
            log: Log::default(),
            sandbox: Switch::On,
            functions: Functions::default(),
            identity: IdentityConfig::default(),
            isolation: IsolationConfig::default(),
            stack: StackConfig::default(),
            runtimes: Runtimes::default(),
            discovery: Discovery::default(),
            cgroup: Cgroup::default(),
            platform_logs: PlatformLogs::default(),
            kubernetes: Kubernetes::default(),
            cost: Cost::default(),
        }
    }
}

impl Config {
    /// Every fault of the configuration, all at once; empty if there is none. Each begins with the key that it is of.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.hz == 0 {
            faults.push("hz is 0; give samples a second, such as 199".into());
        }
        if self.max_hz == 0 || self.max_hz > MAX_HZ {
            faults.push(format!("max_hz is {}; give 1 to {MAX_HZ}", self.max_hz));
        }
        if self.ring_budget_bytes < 1 << 20 {
            faults.push(format!(
                "ring_budget_bytes is {}; give at least 1048576 (1 MiB)",
                self.ring_budget_bytes
            ));
        }
        let store = &self.store;
        faults.extend(store.max_age().err());
        faults.extend(store.max_bytes().err());
        faults.extend(store.min_free_bytes().err());
        faults.extend(store.folded().err());
        for parent in &self.cgroup.parents {
            if !parent.starts_with('/') || parent == "/" || parent.split('/').any(|part| part == "..") {
                faults.push(format!(
                    "cgroup.parents has {parent:?}; give a path below the root, such as \"/functions\""
                ));
            }
        }
        faults.extend(self.runtimes.faults());
        faults.extend(self.discovery.faults());
        faults.extend(self.off_cpu.faults());
        faults.extend(self.budget.memory_bytes().err());
        faults.extend(self.budget.cpu_millipercent().err());
        faults.extend(self.listen.health().err());
        faults.extend(self.stack.faults());
        faults.extend(self.platform_logs.faults());
        faults.extend(self.kubernetes.faults());
        faults.extend(self.identity.faults());
        faults.extend(self.isolation.faults());
        faults
    }

    /// The rate after clamping: at most `max_hz`, and half of what the kernel allows, since at its limit it throttles.
    pub fn clamped_hz(&self, kernel_max_hz: Option<u32>) -> u32 {
        self.hz.min(self.max_hz).min(MAX_HZ).min(kernel_max_hz.map_or(MAX_HZ, |max| max / 2)).max(1)
    }

    /// The same with the values that `other` has for those keys that `wanted` wants.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn taking(&self, other: &Config, wanted: impl Fn(&str) -> bool) -> Result<Config, serde_json::Error> {
        keys::assembled(keys::values(self)?.into_iter().zip(keys::values(other)?).map(|(own, theirs)| {
            let take = wanted(&own.0);
            if take { theirs } else { own }
        }))
    }

    /// What identity needs of it.
    pub fn identity(&self) -> IdentityConfig {
        let (functions, isolation) = (self.functions, self.isolation.clone());
        IdentityConfig { functions, isolation, ..self.identity.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_over_the_defaults_and_unknown_keys_are_refused() {
        let config: Config = toml::from_str("hz = 99\n[cgroup]\nparents = [\"/fn\"]\n").unwrap();
        assert_eq!((config.hz, config.cgroup.parents.len(), config.runtimes.docker), (99, 1, Whether::Auto));
        let priced: Config = toml::from_str("[cost]\nper_cpu_hour = 0.04\ncurrency = \"EUR\"\n").unwrap();
        assert_eq!(priced.cost.per_cpu_hour.map(Amount::value), Some(0.04));
        for wrong in ["-1.0", "nan", "inf", "\"x\""] {
            assert!(
                toml::from_str::<Config>(&format!("[cost]\nper_cpu_hour = {wrong}\n")).is_err(),
                "{wrong}"
            );
        }
        let text = "functions = \"all\"\n[identity]\ndeny_namespaces = [\"kube-*\"]\nkeep_labels = [\"team\", \"app.*\"]\n[[identity.rules]]\nimage = \"*\"\n";
        let config: Config = toml::from_str(text).unwrap();
        let identity = config.identity();
        assert_eq!(
            (identity.functions, identity.deny_namespaces.len(), identity.rules.len()),
            (Functions::All, 1, 1)
        );
        assert_eq!(identity.keys().keep.len(), 2, "{:?}", identity.keep_labels);
        assert!(toml::from_str::<Config>("[identity]\nkeep_labels = \"team\"").is_err());
        assert_eq!(config.faults().len(), 1, "{:?}", config.faults());
        let error = toml::from_str::<Config>("herz = 99").unwrap_err().to_string();
        assert!(error.contains("herz"), "{error}");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let cgroup = Cgroup { parents: vec!["fn".into(), "/a/../b".into()] };
        let config = Config { hz: 0, max_hz: 50_000, ring_budget_bytes: 1, cgroup, ..Config::default() };
        assert_eq!(config.faults().len(), 5, "{:?}", config.faults());
        assert!(Config::default().faults().is_empty());
    }

    #[test]
    fn the_rate_is_clamped() {
        for (hz, max_hz, kernel, expected) in [
            (199, 1000, None, 199),
            (2000, 1000, None, 1000),
            (9999, 9999, None, 4999),
            (997, 1000, Some(500), 250),
        ] {
            let config = Config { hz, max_hz, ..Config::default() };
            assert_eq!(config.clamped_hz(kernel), expected, "{hz}");
        }
    }
}
