//! What `fnscope agent` can be told on its command line beside the configuration file: each flag stands for a key.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::keys::{CONFIG_VARIABLE, STORE_KEY};
use crate::config::layers::{Flag, Given};
use crate::config::{Attach, LogFormat, SampledEvent, Sources, Unwind};
use crate::identity::Functions;

/// The flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Settings {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Directory to store profiles in [default: /var/lib/fnscope] [env: FNSCOPE_STORE]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    store: Option<String>,
    /// Name of this host in the store [default: its host name]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Samples a second and busy CPU [default: 199]
    #[arg(long, value_name = "N")]
    hz: Option<u32>,
    /// Let --hz go beyond 1000, up to this [at most 4999]
    #[arg(long, value_name = "N")]
    max_hz: Option<u32>,
    /// How sampling events are scoped: one for each CPU, or one for each container and CPU [default: shared]
    #[arg(long, value_name = "shared|per-cgroup")]
    attach: Option<Attach>,
    /// What makes a sample: cpu-clock, or a hardware counter where there is one [default: cpu-clock]
    #[arg(long, value_name = "EVENT")]
    event: Option<SampledEvent>,
    /// How stacks are walked: along copies of them where a function needs it, along frame pointers alone, or always along
    /// copies [default: auto]
    #[arg(long, value_name = "auto|fp|dwarf")]
    unwind: Option<Unwind>,
    /// Which containers are functions: those that a platform or a label marks, or all [default: labelled]
    #[arg(long, value_name = "WHICH")]
    functions: Option<Functions>,
    /// Docker's socket [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    docker_socket: Option<String>,
    /// Do not ask Docker
    #[arg(long)]
    no_docker: bool,
    /// CPU time it may use, as a share of all CPUs, before it does less; 0: no limit [default: 2%]
    #[arg(long, value_name = "SHARE")]
    budget_cpu: Option<String>,
    /// Memory it may use besides its rings before it keeps less; 0: no limit [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    budget_memory: Option<String>,
    /// Each child of this cgroup is a container, named function[@revision][.n]; may be given several times
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Vec<String>,
    /// Where health and metrics are told [default: 127.0.0.1:9878]
    #[arg(long, value_name = "ADDRESS:PORT|off")]
    listen_health: Option<String>,
    /// Log text for people, or a JSON object a line [default: text]
    #[arg(long, value_name = "text|json")]
    log_format: Option<LogFormat>,
    /// Keep rights and system calls that are not needed, to find out what is in the way
    #[arg(long)]
    no_sandbox: bool,
}

impl Settings {
    /// The file and the flags; the environment comes between them.
    pub fn sources(self) -> Sources {
        let mut flags = Vec::new();
        let mut give = |name, key, value: Option<Given>| {
            flags.extend(value.map(|value| Flag { name, key, value }));
        };
        give("--store", STORE_KEY, self.store.map(Given::Text));
        give("--node", "node", self.node.map(Given::Text));
        give("--hz", "hz", self.hz.map(number));
        give("--max-hz", "max_hz", self.max_hz.map(number));
        give("--attach", "attach", self.attach.map(named));
        give("--event", "event", self.event.map(named));
        give("--unwind", "stack.unwind", self.unwind.map(named));
        give("--functions", "functions", self.functions.map(named));
        give("--docker-socket", "docker.socket", self.docker_socket.map(Given::Text));
        give("--no-docker", "docker.enabled", self.no_docker.then(|| Given::Toml("false".into())));
        give("--budget-cpu", "budget.cpu", self.budget_cpu.map(Given::Text));
        give("--budget-memory", "budget.memory", self.budget_memory.map(Given::Text));
        let parents = Some(self.cgroup_parent).filter(|parents| !parents.is_empty());
        give("--cgroup-parent", "cgroup.parents", parents.map(Given::More));
        give("--listen-health", "listen.health", self.listen_health.map(Given::Text));
        give("--log-format", "log.format", self.log_format.map(named));
        give("--no-sandbox", "sandbox", self.no_sandbox.then(|| Given::Text("off".into())));
        Sources { file: self.config, flags }
    }
}

fn number(number: u32) -> Given {
    Given::Toml(number.to_string())
}

/// A value of a list of names, by its name in the configuration.
fn named(value: impl Serialize) -> Given {
    let text = serde_json::to_value(value).ok().and_then(|value| value.as_str().map(String::from));
    Given::Text(text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::layers::{Layers, resolve};
    use crate::config::{Config, keys};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn each_flag_stands_for_a_key() {
        let line = "x --store /s --node 7 --hz 99 --max-hz 100 --attach per-cgroup --event cache-misses --unwind fp \
                    --functions all --docker-socket /d --no-docker --budget-cpu 1% --budget-memory 64MiB --cgroup-parent /a --cgroup-parent /b --listen-health off \
                    --log-format json --no-sandbox";
        let sources = Line::try_parse_from(line.split_whitespace())
            .unwrap_or_else(|e| panic!("{e}"))
            .settings
            .sources();
        let flags: Vec<&str> = sources.flags.iter().map(|flag| flag.name).collect();
        let given = line.split_whitespace().filter(|word| word.starts_with("--"));
        let mut given: Vec<&str> = given.collect();
        given.dedup();
        assert_eq!(flags, given);
        let layers = Layers { flags: sources.flags.clone(), ..Layers::default() };
        let resolved = resolve(&layers).unwrap_or_else(|faults| panic!("{faults}"));
        let defaults = keys::values(&Config::default()).unwrap();
        for flag in &sources.flags {
            assert_eq!(resolved.origins(flag.key), [crate::config::Origin::Flag(flag.name)]);
        }
        for ((key, value), (_, default)) in keys::values(&resolved.config).unwrap().iter().zip(&defaults) {
            assert_eq!(value != default, sources.flags.iter().any(|flag| flag.key == key), "{key}");
        }
        assert_eq!(resolved.config.node.as_deref(), Some("7"));
        assert_eq!(resolved.config.cgroup.parents, ["/a", "/b"]);
    }
}
