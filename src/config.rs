//! What the agent is told: where to store, how often to sample, what counts as a function.
//!
//! Defaults, then a TOML file, then flags. Unknown keys are refused; values are checked before anything is opened.

mod sampling;
mod service;
mod stack;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::identity::{Functions, IdentityConfig};
pub use sampling::{Attach, OffCpu, SampledEvent};
pub use service::{Budget, Listen, Log, LogFormat};
pub use stack::{Realtime, StackConfig, Switch, Unwind};

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The profiles directory: its path alone, or a table with what is kept in it.
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
    /// How stacks are walked and named.
    pub stack: StackConfig,
    /// Docker.
    pub docker: Docker,
    /// The `cgroup` runtime.
    pub cgroup: Cgroup,
    /// What CPU time costs; no part of the agent's work.
    pub cost: Cost,
}

/// The profiles directory and what is kept in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "StoreText")]
pub struct StoreConfig {
    /// Where it is.
    pub path: PathBuf,
    /// Hours older than this go, such as `30d`; `0` keeps them for ever.
    pub max_age: String,
    /// The oldest hours go until all take no more than this, `20GiB` unless given; `0` is no limit.
    pub max_bytes: String,
    /// The oldest hours go until so much of the file system is free, such as `256MiB`; `0` is no floor.
    pub min_free_bytes: String,
    /// Whether sealed hours get their folded files too: `on` or `off`.
    pub folded: String,
}

/// As it is written: a path, or a table.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoreText {
    Path(PathBuf),
    Table(StoreTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    path: Option<PathBuf>,
    max_age: Option<String>,
    max_bytes: Option<String>,
    min_free_bytes: Option<String>,
    folded: Option<String>,
}

impl From<StoreText> for StoreConfig {
    fn from(text: StoreText) -> StoreConfig {
        let default = StoreConfig::default();
        match text {
            StoreText::Path(path) => path.into(),
            StoreText::Table(table) => StoreConfig {
                path: table.path.unwrap_or(default.path),
                max_age: table.max_age.unwrap_or(default.max_age),
                max_bytes: table.max_bytes.unwrap_or(default.max_bytes),
                min_free_bytes: table.min_free_bytes.unwrap_or(default.min_free_bytes),
                folded: table.folded.unwrap_or(default.folded),
            },
        }
    }
}

impl From<PathBuf> for StoreConfig {
    fn from(path: PathBuf) -> StoreConfig {
        StoreConfig { path, ..StoreConfig::default() }
    }
}

impl From<&Path> for StoreConfig {
    fn from(path: &Path) -> StoreConfig {
        path.to_path_buf().into()
    }
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            path: DEFAULT_STORE.into(),
            max_age: "30d".into(),
            max_bytes: "20GiB".into(),
            min_free_bytes: "256MiB".into(),
            folded: "on".into(),
        }
    }
}

impl StoreConfig {
    /// How old an hour may get; none for ever.
    ///
    /// # Errors
    /// If it is no time.
    pub fn max_age(&self) -> Result<Option<Duration>, String> {
        let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
        let seconds = quantity(&self.max_age, &units).ok_or_else(|| {
            format!("store.max_age is {:?}; give a time such as \"30d\" or \"12h\"", self.max_age)
        })?;
        Ok(Some(Duration::from_secs(seconds)).filter(|age| !age.is_zero()))
    }

    /// How many bytes it may take; none without limit.
    ///
    /// # Errors
    /// If it is no size.
    pub fn max_bytes(&self) -> Result<Option<u64>, String> {
        size("store.max_bytes", &self.max_bytes)
    }

    /// How many bytes are to stay free; none without floor.
    ///
    /// # Errors
    /// If it is no size.
    pub fn min_free_bytes(&self) -> Result<Option<u64>, String> {
        size("store.min_free_bytes", &self.min_free_bytes)
    }

    /// Whether to write the folded tree.
    ///
    /// # Errors
    /// If it is neither `on` nor `off`.
    pub fn folded(&self) -> Result<bool, String> {
        match self.folded.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("store.folded is {other:?}; give \"on\" or \"off\"")),
        }
    }
}

fn size(name: &str, text: &str) -> Result<Option<u64>, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let bytes = quantity(text, &units)
        .ok_or_else(|| format!("{name} is {text:?}; give a size such as \"20GiB\" or \"500MiB\""))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A whole number and one of `units`; zero needs none.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Where Docker is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// Whether to ask Docker at all.
    pub enabled: bool,
    /// Its socket.
    pub socket: PathBuf,
}

/// Which cgroups are containers by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// Paths below the hierarchy's root whose direct children are containers, named `function[@revision][.n]`.
    pub parents: Vec<String>,
}

/// What CPU time costs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cost {
    /// One CPU for an hour.
    pub per_cpu_hour: Option<Amount>,
    /// In this currency.
    pub currency: Option<String>,
}

/// An amount of money, kept in billionths so that it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
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
            stack: StackConfig::default(),
            docker: Docker::default(),
            cgroup: Cgroup::default(),
            cost: Cost::default(),
        }
    }
}

impl Default for Docker {
    fn default() -> Docker {
        Docker { enabled: true, socket: DEFAULT_DOCKER_SOCKET.into() }
    }
}

impl Config {
    /// Reads a file over the defaults.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has a key that is unknown: the message names it and its line.
    pub fn load(path: &Path) -> anyhow::Result<Config> {
        use anyhow::Context as _;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read config {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("config {}", path.display()))
    }

    /// Every fault of the configuration, all at once; empty if there is none.
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
        faults.extend(self.off_cpu.faults());
        faults.extend(self.budget.memory_bytes().err());
        faults.extend(self.budget.cpu_millipercent().err());
        faults.extend(self.listen.health().err());
        faults.extend(self.stack.faults());
        faults.extend(self.identity.faults());
        faults
    }

    /// The rate after clamping: at most `max_hz`, and half of what the kernel allows, since at its limit it throttles.
    pub fn clamped_hz(&self, kernel_max_hz: Option<u32>) -> u32 {
        self.hz.min(self.max_hz).min(MAX_HZ).min(kernel_max_hz.map_or(MAX_HZ, |max| max / 2)).max(1)
    }

    /// What identity needs of it.
    pub fn identity(&self) -> IdentityConfig {
        IdentityConfig { functions: self.functions, ..self.identity.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_over_the_defaults_and_unknown_keys_are_refused() {
        let config: Config = toml::from_str("hz = 99\n[cgroup]\nparents = [\"/fn\"]\n").unwrap();
        assert_eq!((config.hz, config.cgroup.parents.len(), config.docker.enabled), (99, 1, true));
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
    fn the_store_is_a_path_or_a_table() {
        let config: Config = toml::from_str("store = \"/srv/p\"").unwrap();
        assert_eq!((config.store.path.as_path(), config.store.folded()), (Path::new("/srv/p"), Ok(true)));
        let text =
            "[store]\nmax_age = \"7d\"\nmax_bytes = \"2 GiB\"\nmin_free_bytes = \"0\"\nfolded = \"off\"";
        let store = toml::from_str::<Config>(text).unwrap().store;
        assert_eq!(store.path, Path::new(DEFAULT_STORE));
        assert_eq!(store.max_age(), Ok(Some(Duration::from_secs(7 * 86_400))));
        assert_eq!((store.max_bytes(), store.min_free_bytes()), (Ok(Some(2 << 30)), Ok(None)));
        assert_eq!(store.folded(), Ok(false));
        for bad in ["7", "d", "-1d", "1.5GiB", "99999999999999999999d", ""] {
            let (max_age, max_bytes) = (bad.to_owned(), bad.to_owned());
            let store = StoreConfig { max_age, max_bytes, folded: bad.into(), ..StoreConfig::default() };
            assert_eq!(Config { store, ..Config::default() }.faults().len(), 3, "{bad}");
        }
        assert!(toml::from_str::<Config>("[store]\nmax_ages = \"7d\"").is_err());
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

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error(
            text in "(.|\n){0,80}|((hz|max_hz|ring_budget_bytes|store|functions|node) = (-?[0-9]{0,12}|\".{0,9}\"|.{0,9})\n){0,4}",
            kernel: Option<u32>,
        ) {
            if let Ok(config) = toml::from_str::<Config>(&text) {
                let _ = config.faults();
                proptest::prop_assert!((1..=MAX_HZ).contains(&config.clamped_hz(kernel)));
            }
        }
    }
}
