//! `make soak MINUTES=30`: the agent for that long on a host where everything goes wrong, and a verdict.
//!
//! Every fault is done unless it is left out, the wall clock of this machine stepped by up to two hours and back included
//! (`--without clock-step`): that is said before it begins. Interrupted, it goes on where it was when it is run again.
//! Needs root, Docker's programs and cgroup2.
//! Exit status: 0 every invariant holds, 1 one does not, 2 interrupted (run it again), 64 wrong usage.

#[path = "../private_docker.rs"]
#[allow(dead_code, reason = "the soak uses its part of it")]
mod private_docker;
#[path = "mod.rs"]
mod soak;
#[path = "../student_t.rs"]
mod student_t;
#[path = "../support.rs"]
#[allow(dead_code, reason = "the soak uses its part of it")]
mod support;

use std::process::ExitCode;

use soak::Ended;
use soak::options::{USAGE, fault_names, parse, steps_the_clock};

const CLOCK_WARNING: &str = "\
soak: ********************************************************************************
soak: THE WALL CLOCK OF THIS MACHINE WILL BE STEPPED by up to two hours, again and again,
soak: and back each time. Everything that runs here sees it: timers, logs, certificates, builds.
soak: On a machine that others use, end this now (Ctrl-C) and run it --without clock-step.
soak: ********************************************************************************";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("soak: {message}\n{USAGE}\nfaults: {}", fault_names().join(" "));
            return ExitCode::from(64);
        }
    };
    if steps_the_clock(&options) {
        eprintln!("{CLOCK_WARNING}");
    }
    match soak::run(&options) {
        Ok(Ended::Holds) => ExitCode::SUCCESS,
        Ok(Ended::Broken) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) => ExitCode::from(2),
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}
