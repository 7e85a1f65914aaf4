//! What `fnscope agent` can be told on its command line beside the configuration file: each flag stands for a key.
//!
//! Values stay text until all layers are put together: one that makes no sense is told with the faults of file and
//! environment, not instead of them.

use std::path::PathBuf;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::config::keys::{CONFIG_VARIABLE, STORE_KEY};
use crate::config::layers::{Flag, Given};
use crate::config::{SampledEvent, Sources};

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
    hz: Option<String>,
    /// Let --hz go beyond 1000, up to this [at most 4999]
    #[arg(long, value_name = "N")]
    max_hz: Option<String>,
    /// How sampling events are scoped: one for each CPU, or one for each container and CPU [default: shared]
    #[arg(long, value_name = "shared|per-cgroup", add = one_of(&["shared", "per-cgroup"]))]
    attach: Option<String>,
    /// What makes a sample: cpu-clock, or a hardware counter where there is one [default: cpu-clock]
    #[arg(long, value_name = "EVENT", add = one_of(&SampledEvent::ALL.map(SampledEvent::name)))]
    event: Option<String>,
    /// How stacks are walked: along copies of them where a function needs it, along frame pointers alone, or always along
    /// copies [default: auto]
    #[arg(long, value_name = "auto|fp|dwarf", add = one_of(&["auto", "fp", "dwarf"]))]
    unwind: Option<String>,
    /// Which containers are functions: those that a platform or a label marks, or all [default: labelled]
    #[arg(long, value_name = "labelled|all", add = one_of(&["labelled", "all"]))]
    functions: Option<String>,
    /// Docker's socket [default: the usual one, if it is there]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    docker_socket: Option<String>,
    /// Do not ask Docker
    #[arg(long, conflicts_with = "docker_socket")]
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
    #[arg(long, value_name = "text|json", add = one_of(&["text", "json"]))]
    log_format: Option<String>,
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
        give("--hz", "hz", self.hz.map(Given::Toml));
        give("--max-hz", "max_hz", self.max_hz.map(Given::Toml));
        give("--attach", "attach", self.attach.map(Given::Text));
        give("--event", "event", self.event.map(Given::Text));
        give("--unwind", "stack.unwind", self.unwind.map(Given::Text));
        give("--functions", "functions", self.functions.map(Given::Text));
        give("--docker-socket", "runtimes.docker", self.docker_socket.map(Given::Text));
        give("--no-docker", "runtimes.docker", self.no_docker.then(|| Given::Text("off".into())));
        give("--budget-cpu", "budget.cpu", self.budget_cpu.map(Given::Text));
        give("--budget-memory", "budget.memory", self.budget_memory.map(Given::Text));
        let parents = Some(self.cgroup_parent).filter(|parents| !parents.is_empty());
        give("--cgroup-parent", "cgroup.parents", parents.map(Given::More));
        give("--listen-health", "listen.health", self.listen_health.map(Given::Text));
        give("--log-format", "log.format", self.log_format.map(Given::Text));
        give("--no-sandbox", "sandbox", self.no_sandbox.then(|| Given::Text("off".into())));
        Sources { file: self.config, flags }
    }
}

/// What a shell offers for a flag whose value is one of `names`.
fn one_of(names: &[&'static str]) -> ArgValueCandidates {
    let names = names.to_vec();
    ArgValueCandidates::new(move || names.iter().map(CompletionCandidate::new).collect::<Vec<_>>())
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
    fn a_value_that_makes_no_sense_is_a_fault_of_its_flag() {
        for (flag, value, says) in [
            ("--hz", "many", "hz: invalid type: string \"many\", expected u32"),
            ("--hz", "", "hz: invalid type: string \"\", expected u32"),
            ("--hz", "-1", "hz: invalid value: integer `-1`, expected u32"),
            ("--max-hz", "1.5", "max_hz: invalid type: floating point `1.5`, expected u32"),
            ("--attach", "all", "attach: unknown variant `all`, expected `shared` or `per-cgroup`"),
            ("--event", "l1", "event: unknown variant `l1`, expected one of "),
            ("--unwind", "lbr", "stack.unwind: unknown variant `lbr`, expected one of `auto`, `fp`, `dwarf`"),
            ("--functions", "some", "functions: unknown variant `some`, expected `labelled` or `all`"),
            ("--log-format", "xml", "log.format: unknown variant `xml`, expected `text` or `json`"),
        ] {
            let line = Line::try_parse_from(["x", &format!("{flag}={value}")]);
            let flags = line.unwrap_or_else(|e| panic!("{e}")).settings.sources().flags;
            let faults = resolve(&Layers { flags, ..Layers::default() }).expect_err("a fault").to_string();
            assert!(faults.starts_with(&format!("configuration: flag {flag}: {says}")), "{faults}");
        }
    }

    #[test]
    fn each_flag_stands_for_a_key() {
        let line = "x --store /s --node 7 --hz 99 --max-hz 100 --attach per-cgroup --event cache-misses --unwind fp \
                    --functions all --docker-socket /d --budget-cpu 1% --budget-memory 64MiB --cgroup-parent /a --cgroup-parent /b --listen-health off \
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
        let without = Line::try_parse_from(["x", "--no-docker"]).unwrap_or_else(|e| panic!("{e}"));
        let layers = Layers { flags: without.settings.sources().flags, ..Layers::default() };
        let resolved = resolve(&layers).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(resolved.config.runtimes.docker, crate::config::Whether::Off);
    }
}
