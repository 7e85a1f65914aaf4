//! `fnscope man`: manual pages, made from the same description of the commands as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, ValueHint};
use clap_mangen::Man;

use super::args::wrong_usage;
use super::{Cli, Outcome, output};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fnscope man | man -l -                         the page of fnscope, which lists the others
  fnscope man top | man -l -
  sudo fnscope man --dir /usr/local/share/man/man1")]
pub struct Args {
    /// Print the page of this command; without it fnscope's own
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// Prints a page, or writes all.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    // `fnscope help` has nothing to say that the pages do not.
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    let shown = || {
        let shown = all.get_subcommands().filter(|command| !command.is_hide_set());
        shown.flat_map(|command| std::iter::once(command).chain(command.get_subcommands()))
    };
    // `config-check` is `fnscope config check`.
    let is = |command: &Command, name: &str| {
        let whole = command.get_display_name().unwrap_or_else(|| command.get_name());
        whole.strip_prefix("fnscope-").unwrap_or(whole) == name
    };
    let Some(dir) = &args.dir else {
        let page = match &args.command {
            None => page(&all)?,
            Some(name) => {
                let Some(command) = shown().find(|command| is(command, name)) else {
                    let message = format!("there is no command `{name}`; `fnscope --help` lists them");
                    return Err(wrong_usage(message).into());
                };
                page(command)?
            }
        };
        output::print(&page.1)?;
        return Ok(Outcome::Done);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut count = 0;
    for command in std::iter::once(&all).chain(shown()) {
        let (name, text) = page(command)?;
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        count += 1;
    }
    output::tell(&format!("fnscope: {count} pages in {}", dir.display()));
    Ok(Outcome::Done)
}

/// The page of a command: the name of its file, and its text.
fn page(command: &Command) -> anyhow::Result<(String, String)> {
    let man = Man::new(command.clone()).source(concat!("fnscope ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text).context("make a manual page")?;
    let mut text = String::from_utf8(text).context("make a manual page")?;
    // What stands behind the options of `--help` has headings of its own.
    for (from, to) in [
        (".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n"),
        (".SH EXTRA\n", ".SH NOTES\n"),
        ("\n\nExamples:\n", "\n.SH EXAMPLES\n"),
        ("\n\nExit codes: ", "\n.SH EXIT STATUS\n"),
    ] {
        text = text.replace(from, to);
    }
    Ok((man.get_filename(), text))
}
