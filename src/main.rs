//! The program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use fnscope::cli;

fn main() -> ExitCode {
    if cli::answered_shell() {
        return ExitCode::SUCCESS;
    }
    match cli::parse() {
        Ok(cli) => cli::finish(cli::run(cli)),
        Err(error) => cli::usage(&error),
    }
}
