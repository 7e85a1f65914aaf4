//! The agent as a service: where it listens, how it logs, what it may use.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::store::{quantity, size};

/// Every address that the agent listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Health and metrics, `address:port`; `"off"` for none. No profile is ever told there.
    pub health: String,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen { health: "127.0.0.1:9878".into() }
    }
}

impl Listen {
    /// Where health and metrics are told; none where they are not.
    ///
    /// # Errors
    /// If it is no address with a port.
    pub fn health(&self) -> Result<Option<SocketAddr>, String> {
        if self.health == "off" {
            return Ok(None);
        }
        self.health.parse().map(Some).map_err(|_| {
            format!(
                "listen.health is {:?}; give an address such as \"127.0.0.1:9878\", or \"off\"",
                self.health
            )
        })
    }
}

/// How the agent logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Text for people, or a JSON object a line.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What the agent may use; near a limit it does less, in steps, and says so. What the store takes is limited there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Memory besides the rings, such as `256MiB`; `0` is no limit.
    pub memory: String,
    /// Share of the CPU time of all CPUs together, such as `2%`; `0` is no limit.
    pub cpu: String,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { memory: "256MiB".into(), cpu: "2%".into() }
    }
}

impl Budget {
    /// Memory in bytes; none without limit.
    ///
    /// # Errors
    /// If it is no size.
    pub fn memory_bytes(&self) -> Result<Option<u64>, String> {
        size("budget.memory", &self.memory)
    }

    /// The share of all CPUs, in thousandths of a percent; none without limit.
    ///
    /// # Errors
    /// If it is no share.
    pub fn cpu_millipercent(&self) -> Result<Option<u32>, String> {
        let fault =
            || format!("budget.cpu is {:?}; give a share of all CPUs such as \"2%\" or \"0.5%\"", self.cpu);
        if self.cpu == "0" {
            return Ok(None);
        }
        let number = self.cpu.strip_suffix('%').ok_or_else(fault)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) || whole.is_empty() {
            return Err(fault());
        }
        let thousandths = quantity(&format!("{whole}x"), &[("x", 1_000)]);
        let rest = format!("{part:0<3}").parse::<u64>().ok();
        let both = thousandths.zip(rest).map(|(whole, rest)| whole.saturating_add(rest));
        let share = both.filter(|share| (1..=100_000).contains(share)).ok_or_else(fault)?;
        u32::try_from(share).map(Some).map_err(|_| fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read_and_checked() {
        let text = "[listen]\nhealth = \"[::1]:80\"\n[log]\nformat = \"json\"\n[budget]\ncpu = \"0\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert!(config.faults().is_empty(), "{:?}", config.faults());
        assert_eq!(config.listen.health().unwrap().map(|a| a.port()), Some(80));
        assert_eq!((config.log.format, config.budget.cpu_millipercent()), (LogFormat::Json, Ok(None)));
        assert_eq!(config.budget.memory_bytes(), Ok(Some(256 << 20)));
        let off = Listen { health: "off".into() };
        assert_eq!(off.health(), Ok(None));
        for wrong in ["localhost", "127.0.0.1", ":80", ""] {
            assert!(Listen { health: wrong.into() }.health().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_of_all_cpus() {
        for (text, expected) in [
            ("2%", Some(2_000)),
            ("0.5%", Some(500)),
            ("0.025 %", Some(25)),
            ("100%", Some(100_000)),
            ("101%", None),
            ("0%", None),
            ("0.0001%", None),
            ("2", None),
            (".5%", None),
            ("-1%", None),
            ("1.+1%", None),
        ] {
            let budget = Budget { cpu: text.into(), ..Budget::default() };
            assert_eq!(budget.cpu_millipercent().ok().flatten(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_share_or_an_error(text in "[0-9.%+ -]{0,12}|.{0,9}") {
            let budget = Budget { cpu: text.clone(), memory: text.clone() };
            let _ = (budget.cpu_millipercent(), budget.memory_bytes(), Listen { health: text }.health());
        }
    }
}
