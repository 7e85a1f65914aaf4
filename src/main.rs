//! The program: parse, log, run, exit code. Everything else is in the library.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use fnscope::cli::{self, Cli};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if cli::answered_shell() {
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    let filter = EnvFilter::try_from_env("FNSCOPE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = std::io::stderr().is_terminal() && !plain;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_env_filter(filter).init();
    cli::finish(cli::run(cli))
}
