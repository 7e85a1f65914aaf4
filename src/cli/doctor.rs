//! `fnscope doctor`: what this host allows, what is missing, and the line that mends it. Of a function: the same of its
//! stacks, see [`super::stack_doctor`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_complete::engine::ArgValueCandidates;

use super::args::{FilterArgs, PhaseArg, wrong_usage};
use super::{Outcome, complete, output, stack_doctor};

use crate::cgroup::Cgroups;
use crate::config::DEFAULT_DOCKER_SOCKET;
use crate::perf::{RingOptions, Sampler, online_cpus};
use crate::privilege::{self, Finding, Standing};
use crate::query::Selector;
use crate::render::escape;
use crate::runtime::docker::{self, DockerOptions};
use crate::stack::KernelSymbols;
use crate::store::{Store, StoreError};

/// Looks at this host, or at a function's stacks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without FUNCTION: this host. Exits with 1 if anything keeps the agent from its work.
With FUNCTION: how many of its stacks are complete and named, what makes the others poor (from half a percent of the
samples on), and what would mend it. Exits with 0 whatever is found, with 1 if there are no samples.

Examples:
  sudo fnscope doctor
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
    /// Docker's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DOCKER_SOCKET, conflicts_with = "function")]
    docker_socket: PathBuf,
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
    let mut findings = privilege::findings();
    findings.push(perf_events());
    findings.push(cgroups());
    findings.push(kernel_names());
    findings.push(docker_engine(args)?);
    findings.extend(args.filter.store.iter().flat_map(|path| [store(path), privilege::disk(path)]));
    if args.filter.json {
        output::print_json(&serde_json::to_value(&findings).context("write the findings")?)?;
    } else {
        output::print(&text(&findings))?;
    }
    let failed = findings.iter().any(|finding| finding.standing == Standing::Fail);
    Ok(if failed { Outcome::Nothing } else { Outcome::Done })
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

/// Opens what the agent opens, and closes it.
fn perf_events() -> Finding {
    let what = "perf events";
    match Sampler::open(RingOptions::within(16 << 20, online_cpus(), crate::config::DEFAULT_HZ, None)) {
        Ok(sampler) => Finding::ok(what, format!("open on {} cpus", sampler.cpu_count())),
        Err(error) => Finding::bad(
            what,
            Standing::Fail,
            error.to_string(),
            "see the lines above on user, CAP_PERFMON and seccomp",
        ),
    }
}

fn cgroups() -> Finding {
    match Cgroups::detect() {
        Ok(cgroups) => {
            Finding::ok("cgroups", format!("{} at {}", cgroups.version(), cgroups.root().display()))
        }
        Err(error) => {
            Finding::bad("cgroups", Standing::Fail, error.to_string(), "mount -t cgroup2 none /sys/fs/cgroup")
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

fn docker_engine(args: &Args) -> anyhow::Result<Finding> {
    let reactor = super::reactor()?;
    let options = DockerOptions::new(Some(&args.docker_socket), None)?;
    Ok(match reactor.block_on(docker::ping(&options)) {
        Ok(version) => Finding::ok("docker", format!("{version} at {}", args.docker_socket.display())),
        Err(error) => Finding::bad(
            "docker",
            Standing::Warn,
            format!("{error:#}"),
            "start it (systemctl start docker), name its socket (--docker-socket), or run the agent with --no-docker",
        ),
    })
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
