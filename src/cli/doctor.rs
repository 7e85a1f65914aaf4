//! `fnscope doctor`: what this host allows to the agent as it is configured, what is missing, and the line that mends it. Of
//! a function: the same of its stacks, see [`super::stack_doctor`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_complete::engine::ArgValueCandidates;

use super::args::{FilterArgs, PhaseArg, wrong_usage};
use super::{Outcome, complete, discovery_doctor, late_doctor, output, stack_doctor};

use crate::agent::ring_options;
use crate::cgroup::Cgroups;
use crate::config::keys::CONFIG_VARIABLE;
use crate::config::layers::{Flag, Given, Layers, resolve};
use crate::config::{Attach, Config, Faults, Sources, Whether};
use crate::perf::{PerfError, Sampler};
use crate::privilege::{self, Finding, Standing};
use crate::query::Selector;
use crate::render::escape;
use crate::runtime::containerd::{self, ContainerdOptions};
use crate::runtime::cri::{self, CriOptions};
use crate::runtime::docker::{self, DockerOptions};
use crate::runtime::engine::EngineError;
use crate::runtime::socket::Socket;
use crate::stack::KernelSymbols;
use crate::store::{Store, StoreError};

/// Looks at this host, or at a function's stacks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without FUNCTION: this host, for the agent that the configuration describes: give --config, or the same FNSCOPE_ variables.
A configuration with faults is told as such, and the defaults stand in for it. Exits with 1 if anything keeps the agent from
its work.
With FUNCTION: how many of its stacks are complete and named, what makes the others poor (from half a percent of the
samples on), and what would mend it. Exits with 0 whatever is found, with 1 if there are no samples.

Examples:
  sudo fnscope doctor
  sudo fnscope doctor --config /etc/fnscope/fnscope.toml
  sudo fnscope doctor --json | jq '.[] | select(.standing != \"ok\")'
  fnscope doctor pi                              why its flame graph is not what it should be
  fnscope doctor demo/pi@2 --since 1h --phase all
  fnscope doctor pi --json | jq '.findings[] | .mend'")]
pub struct Args {
    /// The function whose stacks are looked at: `platform/namespace/function@revision` or any end of that; without it
    /// this host is
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    function: Option<Selector>,
    #[command(flatten)]
    phase: PhaseArg,
    /// The agent's configuration file (TOML), where this host is looked at
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Docker's socket [default: what the configuration says, else /var/run/docker.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "function", value_hint = clap::ValueHint::FilePath)]
    docker_socket: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Prints the findings.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(function) = &args.function {
        return stack_doctor::run(function, &args.phase, &args.filter);
    }
    let FilterArgs { since, until, instance, host, .. } = &args.filter;
    if since.is_some() || until.is_some() || !instance.is_empty() || !host.is_empty() {
        return Err(wrong_usage("a window, an instance or a host is of a FUNCTION; name one".into()).into());
    }
    let sources = sources(args);
    let (config, mut findings) = match sources.load() {
        Ok(resolved) => (resolved.config, vec![configured(&sources)]),
        Err(faults) => (without_faults(&sources), faulty(&faults)),
    };
    findings.extend(privilege::findings(config.attach == Attach::PerCgroup));
    findings.push(perf_events(&config));
    findings.push(cgroups());
    findings.push(kernel_names());
    let (runtimes, answers) = runtimes(&config)?;
    findings.extend(runtimes);
    findings.extend(discovery_doctor::findings(&config, answers));
    findings.extend(late_doctor::findings(&config));
    // Several stores are a question's; the agent's is one.
    let given = args.filter.given_stores();
    let stores = if given.is_empty() { std::slice::from_ref(&config.store.path) } else { given };
    let min_free_bytes = config.store.min_free_bytes().map_err(anyhow::Error::msg)?;
    findings.extend(stores.iter().flat_map(|path| [store(path), privilege::disk(path, min_free_bytes)]));
    if args.filter.json {
        output::print_json(&serde_json::to_value(&findings).context("write the findings")?)?;
    } else {
        output::print(&text(&findings))?;
    }
    let failed = findings.iter().any(|finding| finding.standing == Standing::Fail);
    Ok(if failed { Outcome::Nothing } else { Outcome::Done })
}

/// What the agent is told, as far as this command line says.
fn sources(args: &Args) -> Sources {
    let socket = args.docker_socket.clone().map(Given::Text);
    let socket = socket.map(|value| Flag { name: "--docker-socket", key: "runtimes.docker", value });
    Sources { file: args.config.clone(), flags: socket.into_iter().collect() }
}

fn configured(sources: &Sources) -> Finding {
    let from = match &sources.file {
        Some(file) => format!("{}, and what the environment says", file.display()),
        None => "no file: the defaults, and what the environment says".into(),
    };
    Finding::ok(CONFIGURATION, from)
}

const CONFIGURATION: &str = "configuration";

/// Each fault is a finding: the agent starts with none of them.
fn faulty(faults: &Faults) -> Vec<Finding> {
    let mend = "mend it where it stands; `fnscope config check` then tells what is in force";
    let finding =
        |fault: &crate::config::Fault| Finding::bad(CONFIGURATION, Standing::Fail, fault.to_string(), mend);
    faults.0.iter().map(finding).collect()
}

/// What stands in for a configuration with faults: the defaults, and what this command line says.
fn without_faults(sources: &Sources) -> Config {
    let layers = Layers { flags: sources.flags.clone(), ..Layers::default() };
    resolve(&layers).map(|resolved| resolved.config).unwrap_or_default()
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.standing {
            Standing::Ok => "ok  ",
            Standing::Warn => "warn",
            Standing::Fail => "FAIL",
        };
        let _ = writeln!(text, "{mark}  {}: {}", finding.what, escape::line(&finding.found));
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "      to mend it: {mend}");
        }
    }
    text
}

/// Opens what the agent opens, with rings as large, and closes it.
fn perf_events(config: &Config) -> Finding {
    let what = "perf events";
    match Sampler::open(ring_options(config)) {
        Ok(sampler) => Finding::ok(
            what,
            format!("open on {} cpus, with {} KiB of rings", sampler.cpu_count(), sampler.ring_bytes() >> 10),
        ),
        Err(error) => Finding::bad(what, Standing::Fail, error.to_string(), perf_mend(&error)),
    }
}

fn perf_mend(error: &PerfError) -> &'static str {
    match error {
        PerfError::Map { .. } => {
            "give CAP_IPC_LOCK (--cap-add IPC_LOCK), a limit (--ulimit memlock=67108864, LimitMEMLOCK=64M), or set a \
             smaller ring_budget_bytes"
        }
        PerfError::TooOld { .. } => {
            "set attach = \"per-cgroup\" in the agent's configuration, or use Linux 5.7 or newer"
        }
        PerfError::NoCounter { .. } => "set event = \"cpu-clock\" in the agent's configuration",
        _ => "see the lines above on user, CAP_PERFMON and seccomp",
    }
}

fn cgroups() -> Finding {
    match Cgroups::detect().map_err(|error| error.to_string()) {
        Ok(cgroups) => {
            Finding::ok("cgroups", format!("{} at {}", cgroups.version(), cgroups.root().display()))
        }
        Err(error) => {
            // What to do is of the fault.
            let (found, mend) =
                error.split_once("; ").unwrap_or((&error, "mount -t cgroup2 none /sys/fs/cgroup"));
            Finding::bad("cgroups", Standing::Fail, found, mend)
        }
    }
}

fn kernel_names() -> Finding {
    let symbols = KernelSymbols::read();
    if symbols.is_readable() {
        return Finding::ok("/proc/kallsyms", "names of kernel functions");
    }
    let mend = "sysctl kernel.kptr_restrict=1 and run with CAP_SYSLOG";
    Finding::bad(
        "/proc/kallsyms",
        Standing::Warn,
        "addresses are hidden: kernel code shows as [kernel]",
        mend,
    )
}

/// Each runtime that is asked; one that has no socket here is none that anybody misses, if there is another. And whether one
/// of them answers.
fn runtimes(config: &Config) -> anyhow::Result<(Vec<Finding>, bool)> {
    let reactor = super::reactor()?;
    let given = &config.runtimes;
    let docker = asked("docker", &given.docker, docker::USUAL, |socket| {
        let options = DockerOptions::at(socket);
        reactor.block_on(docker::ping(&options))
    });
    let containerd = |name, whether, usual| {
        asked(name, whether, usual, |socket| {
            reactor.block_on(containerd::ping(&ContainerdOptions::at(name, socket)))
        })
    };
    let podman = asked(docker::PODMAN, &given.podman, docker::PODMAN_USUAL, |socket| {
        reactor.block_on(docker::ping(&DockerOptions::podman_at(socket)))
    });
    let found = [
        docker,
        podman,
        containerd(containerd::RUNTIME, &given.containerd, containerd::USUAL),
        containerd(containerd::K3S, &given.k3s, containerd::K3S_USUAL),
        asked("crio", &given.crio, cri::USUAL, |socket| reactor.block_on(cri::ping(&CriOptions::at(socket)))),
    ];
    let none = found.iter().all(|(_, is_here)| !is_here);
    let answers = found.iter().any(|(finding, is_here)| *is_here && finding.standing == Standing::Ok);
    let findings: Vec<Finding> = found.into_iter().map(|(finding, _)| finding).collect();
    if none && config.cgroup.parents.is_empty() {
        let mend = "start one, or name its socket in [runtimes] or by --docker-socket; or name cgroups by --cgroup-parent";
        let nothing =
            Finding::bad("runtimes", Standing::Warn, "none is here: nobody tells which containers run", mend);
        return Ok((findings.into_iter().chain([nothing]).collect(), answers));
    }
    Ok((findings, answers))
}

/// What `ping` says of runtime `name`, and whether there is one here.
fn asked(
    name: &'static str,
    whether: &Whether,
    usual: &'static [&'static str],
    ping: impl FnOnce(Socket) -> anyhow::Result<String>,
) -> (Finding, bool) {
    let socket = match whether {
        Whether::Off => {
            return (Finding::ok(name, format!("not asked: runtimes.{name} is \"off\"")), false);
        }
        Whether::At(path) => Socket::At(path.clone()),
        Whether::Auto => Socket::Usual(usual),
    };
    let Some(found) = socket.find() else {
        return (Finding::ok(name, format!("not here: there is no {socket}")), false);
    };
    let answer = ping(socket);
    if let Err(Some(EngineError::Another(who))) = answer.as_ref().map_err(|error| error.downcast_ref()) {
        let found = format!("not here: it is {who} that listens at {}", found.display());
        return (Finding::ok(name, found), false);
    }
    let finding = match answer {
        Ok(version) => Finding::ok(name, format!("{version} at {}", found.display())),
        Err(error) => Finding::bad(
            name,
            Standing::Warn,
            format!("{error:#}"),
            format!(
                "start it, name its socket, or leave it out: runtimes.{name} is \"auto\", \"off\" or a socket's path"
            ),
        ),
    };
    (finding, true)
}

fn store(path: &Path) -> Finding {
    let what = "store";
    let shown = path.display();
    match Store::open(path).and_then(|store| store.journals()) {
        Err(StoreError::Missing { .. }) => {
            Finding::ok(what, format!("{shown} is made when the agent first starts"))
        }
        Ok(journals) => match Store::open(path).ok().and_then(|store| store.others_may()) {
            Some(mode) => Finding::bad(
                what,
                Standing::Warn,
                format!(
                    "{shown} has mode {mode:04o}: users who are not its owner may look into it or write to it"
                ),
                format!("chmod 700 {shown}"),
            ),
            None => Finding::ok(what, format!("{shown}, {} journals", journals.len())),
        },
        Err(error) => Finding::bad(
            what,
            Standing::Fail,
            error.to_string(),
            "give the agent a directory of its own: --store DIR",
        ),
    }
}
