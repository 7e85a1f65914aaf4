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

use soak::{Ended, Options};

const USAGE: &str = "usage: soak [--minutes N] [--seed N] [--folder DIR] [--without FAULT]...";

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
            eprintln!("soak: {message}\n{USAGE}\nfaults: {}", soak::fault_names().join(" "));
            return ExitCode::from(64);
        }
    };
    if soak::steps_the_clock(&options) {
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

fn parse(mut rest: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = rest.next() {
        let mut value = |of: &str| rest.next().ok_or(format!("{of} takes a value"));
        let number =
            |text: String| text.parse::<f64>().ok().filter(|n| *n > 0.0).ok_or("give a number above 0");
        match word.as_str() {
            "--minutes" => options.seconds = (number(value(&word)?)? * 60.0) as u64,
            "--seed" => options.seed = Some(number(value(&word)?)? as u64),
            "--folder" => options.folder = value(&word)?.into(),
            "--without" => {
                let name = value(&word)?;
                if !soak::fault_names().contains(&name.as_str()) {
                    return Err(format!("there is no fault `{name}`"));
                }
                options.without.push(name);
            }
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_refused() {
        let parse = |words: &[&str]| parse(words.iter().map(ToString::to_string));
        let options =
            parse(&["--minutes", "0.5", "--seed", "7", "--without", "cpu-off"]).ok().map(|all| all.seconds);
        assert_eq!(options, Some(30));
        // All faults, unless one is left out.
        let steps = |words: &[&str]| parse(words).ok().map(|options| soak::steps_the_clock(&options));
        assert_eq!((steps(&[]), steps(&["--without", "clock-step"])), (Some(true), Some(false)));
        for wrong in
            [&["--minutes"][..], &["--minutes", "x"], &["--minutes", "0"], &["--without", "rain"], &["now"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
