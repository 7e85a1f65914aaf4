//! `fnscope doctor`: what this host allows, what is missing, and the line that mends it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::args::STORE_VARIABLE;
use super::{Outcome, output};

use crate::cgroup::Cgroups;
use crate::config::{DEFAULT_DOCKER_SOCKET, DEFAULT_STORE};
use crate::perf::{RingOptions, Sampler, online_cpus};
use crate::privilege::{self, Finding, Standing};
use crate::render::escape;
use crate::runtime::docker::{self, DockerOptions};
use crate::stack::KernelSymbols;
use crate::store::{Store, StoreError};

/// Looks at this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 1 if anything keeps the agent from its work.

Examples:
  sudo fnscope doctor
  sudo fnscope doctor --json | jq '.[] | select(.standing != \"ok\")'")]
pub struct Args {
    /// Directory that profiles are or will be stored in
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, default_value = DEFAULT_STORE)]
    store: PathBuf,
    /// Docker's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DOCKER_SOCKET)]
    docker_socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the findings.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut findings = privilege::findings();
    findings.push(perf_events());
    findings.push(cgroups());
    findings.push(kernel_names());
    findings.push(docker_engine(args)?);
    findings.push(store(args));
    if args.json {
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

fn store(args: &Args) -> Finding {
    let what = "store";
    let shown = args.store.display();
    match Store::open(&args.store).and_then(|store| store.journals()) {
        Err(StoreError::Missing { .. }) => {
            Finding::ok(what, format!("{shown} is made when the agent first starts"))
        }
        Ok(journals) => Finding::ok(what, format!("{shown}, {} journals", journals.len())),
        Err(error) => Finding::bad(
            what,
            Standing::Fail,
            error.to_string(),
            "give the agent a directory of its own: --store DIR",
        ),
    }
}
