//! `fnscope health`: asks a running agent whether it is well. For probes that have neither a shell nor curl.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::{Outcome, output};
use crate::config::Sources;
use crate::config::keys::CONFIG_VARIABLE;
use crate::config::layers::{Flag, Given};
use crate::health::probe;
use crate::render::escape;

/// What is asked, and where.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("question").required(true).args(["live", "ready"])), after_help = "\
Prints one line and exits with 0 for yes and 1 for no: also where nobody answers within three seconds, and, with the line on
stderr, where nobody can be asked because the configuration has a fault or listen.health is \"off\". Never with 2, which
Docker keeps for itself in a HEALTHCHECK; wrong usage is 64.

Examples:
  fnscope health --live                                 would a restart mend anything?
  fnscope health --ready --json                         is what functions do recorded?
  HEALTHCHECK CMD [\"/fnscope\", \"health\", \"--live\"]     in a Dockerfile")]
pub struct Args {
    /// Whether its threads work: where they do not, a restart may mend it
    #[arg(long)]
    live: bool,
    /// Whether what functions do is recorded: rings open, store written, a runtime that answers
    #[arg(long)]
    ready: bool,
    /// Where it listens [default: what the configuration says, else 127.0.0.1:9878]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<String>,
    /// The agent's configuration file (TOML)
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks, and says what the answer is.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let address = match address(args) {
        Ok(address) => address,
        Err(error) => {
            output::tell(&escape::lines(&format!("fnscope: {error:#}")));
            if args.json {
                output::print_json(
                    &json!({ "ok": false, "why": format!("{error:#}"), "answer": null, "checks": [] }),
                )?;
            }
            return Ok(Outcome::Nothing);
        }
    };
    let path = if args.live { "/healthz" } else { "/readyz" };
    let (ok, why, told) = match probe::ask(address, path) {
        Ok(answer) => match answer.told() {
            Some(told) => (told.ok && answer.status == 200, told.line(), Some(told)),
            None => {
                let status = answer.status;
                (
                    false,
                    format!("what listens at {address} is no agent's health listener: it says {status}"),
                    None,
                )
            }
        },
        Err(error) => (false, error.to_string(), None),
    };
    if args.json {
        let told = told.unwrap_or_default();
        output::print_json(&json!({ "ok": ok, "why": why, "answer": told.answer, "checks": told.checks }))?;
    } else {
        output::print(&format!("{}\n", escape::line(&why)))?;
    }
    Ok(if ok { Outcome::Done } else { Outcome::Nothing })
}

fn address(args: &Args) -> anyhow::Result<SocketAddr> {
    let address = args.address.clone().map(Given::Text);
    let flag = address.map(|value| Flag { name: "--address", key: "listen.health", value });
    let sources = Sources { file: args.config.clone(), flags: flag.into_iter().collect() };
    let address = sources.load()?.config.listen.health().map_err(anyhow::Error::msg)?;
    address.ok_or_else(|| {
        anyhow::anyhow!("listen.health is \"off\", so nobody can ask the agent; give it an address")
    })
}
