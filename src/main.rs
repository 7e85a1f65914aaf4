//! The program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use fnscope::cli;

/// The commit this was built from, where the build was told. Told here and not in the library, which is then one and the same
/// for every commit that leaves it alone.
const REVISION: Option<&str> = option_env!("FNSCOPE_REVISION");

fn main() -> ExitCode {
    if cli::answered_shell() {
        return ExitCode::SUCCESS;
    }
    match cli::parse() {
        Ok(cli) => cli::finish(cli::run(cli, REVISION)),
        Err(error) => cli::usage(&error),
    }
}
