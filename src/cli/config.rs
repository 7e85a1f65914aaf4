//! `fnscope config`: what the agent would be told, and where each of it comes from.

use super::settings::Settings;
use super::{Outcome, output};
use crate::config::written;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
A file goes over the defaults, variables of the environment go over the file, flags go over all. The variable of a key \
is its name in capitals with `_` for `.`: FNSCOPE_STACK_UNWIND=fp is stack.unwind = \"fp\"; the store's path is \
FNSCOPE_STORE. deploy/README.md lists the keys.

Examples:
  fnscope config check                             the defaults, and what the environment changes
  fnscope config check --config /etc/fnscope.toml  with a file; every fault, or the configuration
  fnscope config check --config a.toml --hz 99     with flags of `fnscope agent`
  fnscope config check > fnscope.toml              a file to begin with
  fnscope config check --json | jq '.hz.origins'"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the configuration that the agent would have, as TOML, with where each value comes from; or every fault of
    /// it. Nothing is opened but the file
    Check(Box<CheckArgs>),
}

/// Arguments of `config check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fnscope config check --config /etc/fnscope.toml
  fnscope config check --json | jq '.hz.origins'")]
struct CheckArgs {
    /// Print JSON: for each key its value and its origins
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Prints the configuration.
pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let Command::Check(args) = args.command;
    let resolved = args.settings.sources().load()?;
    if args.json {
        output::print_json(&written::as_json(&resolved)?)?;
    } else {
        output::print(&written::as_toml(&resolved)?)?;
    }
    Ok(Outcome::Done)
}
