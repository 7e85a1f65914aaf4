//! `fnscope completions`: made from the same description of the commands as `--help`.

use anyhow::Context as _;
use clap::ValueEnum;
use clap_complete::env::{EnvCompleter, Shells};

use super::{Outcome, complete, output};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Names of functions, instances and hosts are completed too, out of the store that --store on the line names, else \
FNSCOPE_STORE.

Examples:
  source <(fnscope completions bash)             for this shell
  echo 'source <(fnscope completions zsh)' >> ~/.zshrc
  fnscope completions fish > ~/.config/fish/completions/fnscope.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell: &dyn EnvCompleter =
        shells.completer(name).context("this build has no completion for that shell")?;
    let mut script = Vec::new();
    shell.write_registration(complete::VARIABLE, "fnscope", "fnscope", "fnscope", &mut script)?;
    output::stdout(|out| out.write_all(&script))?;
    Ok(Outcome::Done)
}
