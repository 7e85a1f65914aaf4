//! What is sampled, and how events are scoped: `attach`, `event` and the `[off_cpu]` table.

use serde::{Deserialize, Serialize};

use crate::identity::Glob;
use crate::model::Identity;
pub use crate::model::SampledEvent;

/// How sampling events are scoped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// One event for each CPU of the host, sorted out by the cgroup id in each sample. Needs Linux 5.7.
    #[default]
    Shared,
    /// Events for each container and CPU, scoped by the kernel.
    PerCgroup,
}

/// Time off the CPU, of the functions that it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffCpu {
    /// Functions whose time off the CPU is recorded: `function`, `namespace/function` or `platform/namespace/function`,
    /// with `*` for any text. None unless given.
    pub functions: Vec<String>,
    /// Switches a second and function that are recorded at most; beyond it recording stops for that function, and says so.
    pub max_switches_per_second: u32,
}

impl Default for OffCpu {
    fn default() -> OffCpu {
        OffCpu { functions: Vec::new(), max_switches_per_second: 2_000 }
    }
}

impl OffCpu {
    /// Whether time off the CPU is asked for of a function.
    pub fn wants(&self, identity: &Identity) -> bool {
        let Identity { platform, namespace, function, function_container, .. } = identity;
        if !function_container {
            return false;
        }
        let parts = [function, namespace, platform].map(|part| part.as_deref().unwrap_or_default());
        self.functions.iter().any(|wanted| {
            // From its end: `function`, before it the namespace, before that the platform.
            wanted.rsplit('/').zip(parts).all(|(pattern, part)| Glob(pattern.into()).matches(part))
        })
    }

    /// Every fault, all at once.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for function in &self.functions {
            let parts = function.split('/').count();
            if function.split('/').any(str::is_empty) || parts > 3 {
                faults.push(format!(
                    "off_cpu.functions has {function:?}; give names such as \"resize\" or \"demo/resize\", \"*\" for any text"
                ));
            }
        }
        if self.max_switches_per_second == 0 {
            faults.push(
                "off_cpu.max_switches_per_second is 0; give a number such as 2000, or no off_cpu.functions"
                    .into(),
            );
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn functions_are_asked_for_by_the_end_of_their_name() {
        let text = |text: &str| Some(text.to_string());
        let identity = Identity {
            platform: text("openfaas"),
            namespace: text("demo"),
            function: text("resize"),
            function_container: true,
            ..Identity::not_a_function("a rule")
        };
        for (wanted, expected) in [
            ("resize", true),
            ("*", true),
            ("res*", true),
            ("demo/resize", true),
            ("other/resize", false),
            ("open*/*/resize", true),
            ("demo/openfaas/resize", false),
        ] {
            let off_cpu = OffCpu { functions: vec!["none".into(), wanted.into()], ..OffCpu::default() };
            assert_eq!(off_cpu.wants(&identity), expected, "{wanted}");
            let pool = Identity { function_container: false, ..identity.clone() };
            assert!(!off_cpu.wants(&pool), "a container that is no function");
        }
    }

    #[test]
    fn every_key_is_read_and_checked() {
        let text = "attach = \"per-cgroup\"\nevent = \"cycles\"\n[off_cpu]\nfunctions = [\"a/*\", \"b\"]\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.attach, config.event), (Attach::PerCgroup, SampledEvent::Cycles));
        assert!(config.faults().is_empty());
        for wrong in ["attach = \"cgroup\"", "event = \"l1\"", "[off_cpu]\nfunction = []"] {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
        let functions = ["", "a//b", "a/b/c/d"].map(String::from).to_vec();
        assert_eq!(OffCpu { functions, max_switches_per_second: 0 }.faults().len(), 4);
        for event in SampledEvent::ALL {
            assert_eq!(event.name().parse(), Ok(event));
        }
    }
}
