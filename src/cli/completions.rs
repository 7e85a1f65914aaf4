//! `fnscope completions` and `fnscope man`: made from the same description of the commands as `--help`.

use std::io;

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::env::{EnvCompleter, Shells};

use super::{Cli, Outcome, complete, output};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Names of functions, instances and hosts are completed too, out of the store that --store on the line names, else
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

/// Prints the manual page.
pub fn man() -> anyhow::Result<Outcome> {
    let mut page = Vec::new();
    let render =
        |page: &mut Vec<u8>| -> io::Result<()> { clap_mangen::Man::new(Cli::command()).render(page) };
    render(&mut page).context("make the manual page")?;
    output::stdout(|out| out.write_all(&page))?;
    Ok(Outcome::Done)
}
