//! The program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use fnscope::cli::{self, Cli};

fn main() -> ExitCode {
    if cli::answered_shell() {
        return ExitCode::SUCCESS;
    }
    match Cli::try_parse() {
        Ok(cli) => cli::finish(cli::run(cli)),
        Err(error) => cli::usage(&error),
    }
}
