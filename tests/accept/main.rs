//! Measurements against their bars: what fnscope promises in figures, taken on the machine at hand.
//!
//! Not tests: they take minutes, need root and want a quiet machine, and their figures belong to that machine.
//! `make accept` and `make bench` run them. Names given on the command line choose, by the beginning of a name.
//! Exit status: 0 every bar holds, 1 one does not or a measurement failed, 64 wrong usage.

#[path = "../engines/ask.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod ask;
mod bpftrace;
mod cost;
mod damage;
mod diff;
mod engines;
mod exchange;
mod host;
mod hostile;
#[path = "../hostile_program.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod hostile_program;
mod idle;
mod import;
mod kill;
#[path = "../made_store.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod made_store;
mod many;
mod measure;
mod packages;
mod paired;
mod phases;
mod pods;
#[path = "../private_containerd/mod.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod private_containerd;
#[path = "../private_podman.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod private_podman;
mod rates;
mod rates_plot;
mod report;
mod scale;
mod separation;
mod shares;
mod short;
mod slowdown;
mod stacks;
mod stacks_cost;
mod stacks_opinion;
mod stacks_short;
mod store;
mod store_data;
#[path = "../store_faults.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod store_faults;
mod storm;
#[path = "../student_t.rs"]
mod student_t;
#[path = "../support.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod support;
mod switched;
mod taken;
#[path = "../truth/mod.rs"]
#[allow(dead_code, reason = "measurements use their part of it")]
mod truth;
mod warm;
mod watched;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use measure::{Measurement, Outcome};

/// Every measurement, in the order in which they are taken.
const MEASUREMENTS: &[Measurement] = &[
    short::SHORT,
    short::PER_CGROUP,
    short::OFF_CPU,
    pods::PODS,
    pods::CRI,
    pods::FAASD,
    pods::PODMAN,
    pods::CGROUP_NAMESPACES,
    pods::SLICES,
    pods::CHURN,
    warm::WARM,
    phases::PHASES,
    shares::SHARES,
    storm::CGROUPS,
    storm::DOCKER,
    stacks::C,
    stacks::CPP,
    stacks::RUST,
    stacks::GO,
    stacks_opinion::OPINION,
    stacks_short::SHORT,
    stacks_cost::COST,
    slowdown::OF_COPIES,
    stacks_cost::MEMORY,
    cost::AT_199,
    cost::AT_997,
    cost::BESIDE,
    slowdown::SLOWDOWN,
    scale::SCALE,
    idle::IDLE,
    hostile::HOSTILE,
    kill::KILL,
    damage::DAMAGE,
    damage::CUTS,
    damage::SEALING,
    exchange::EXCHANGE,
    import::IMPORT,
    packages::PACKAGES,
    diff::DIFF,
    host::QUIET,
    cost::QUICK,
    rates::RATES,
    slowdown::QUICK,
    scale::QUICK,
    store::STORE,
    many::MANY,
    engines::ENGINES,
    store::WRITING,
    separation::SEPARATION,
];

const USAGE: &str = "usage: accept [--list] [--runs N] [--json FILE] [--markdown] [NAME-OR-ITS-BEGINNING]...";

struct Arguments {
    list: bool,
    runs: Option<usize>,
    json: Option<PathBuf>,
    markdown: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(separation::WORKER) {
        return match separation::work() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("accept: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("accept: {message}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    let chosen: Vec<&Measurement> =
        MEASUREMENTS.iter().filter(|one| wanted(one.name, &arguments.names)).collect();
    if arguments.list {
        chosen.iter().for_each(|one| println!("{:<28} {}", one.name, one.about));
        return ExitCode::SUCCESS;
    }
    let (mut outcomes, mut durations) = (Vec::new(), Vec::new());
    for measurement in chosen {
        let runs = arguments.runs.unwrap_or(measurement.runs).max(1);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        eprintln!(
            "accept: {} ({runs} runs, load average {}): {}",
            measurement.name,
            load.split(' ').next().unwrap_or("unknown"),
            measurement.about
        );
        let began = Instant::now();
        let outcome = measurement.take(runs);
        eprintln!("accept: {} took {} s", measurement.name, began.elapsed().as_secs());
        durations.push((measurement.name, began.elapsed()));
        print!("{}", if arguments.markdown { report::markdown(&outcome) } else { report::table(&outcome) });
        outcomes.push(outcome);
    }
    if let Some(file) = &arguments.json
        && let Err(error) = fs::write(file, report::json(&outcomes))
    {
        eprintln!("accept: write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    eprint!("{}", report::durations(&durations));
    verdict(&outcomes)
}

fn verdict(outcomes: &[Outcome]) -> ExitCode {
    let failed: Vec<&str> = outcomes.iter().filter(|one| !one.passed()).map(|one| one.name).collect();
    if !failed.is_empty() {
        eprintln!("accept: FAILED: {}", failed.join(", "));
        return ExitCode::FAILURE;
    }
    if outcomes.is_empty() {
        eprintln!("accept: no measurement has such a name");
        return ExitCode::FAILURE;
    }
    eprintln!("accept: every bar of {} measurements holds", outcomes.len());
    ExitCode::SUCCESS
}

/// A whole name means that one alone; any other text means all names that begin so.
fn wanted(name: &str, chosen: &[String]) -> bool {
    let is_whole = |text: &str| MEASUREMENTS.iter().any(|one| one.name == text);
    let means = |text: &String| name == text || (name.starts_with(text.as_str()) && !is_whole(text));
    chosen.is_empty() || chosen.iter().any(means)
}

fn parse(mut rest: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { list: false, runs: None, json: None, markdown: false, names: Vec::new() };
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--list" => arguments.list = true,
            "--runs" => {
                let runs = rest.next().and_then(|text| text.parse().ok());
                arguments.runs = Some(runs.ok_or("--runs takes a number")?);
            }
            "--json" => arguments.json = Some(rest.next().ok_or("--json takes a file")?.into()),
            "--markdown" => arguments.markdown = true,
            option if option.starts_with('-') => return Err(format!("unknown option `{option}`")),
            name => arguments.names.push(name.into()),
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_chosen_by_the_beginning_of_their_names() {
        assert!(wanted("bench-drain", &[]));
        assert!(wanted("bench-drain", &["accept".into(), "bench".into()]));
        assert!(!wanted("accept-capture", &["bench".into()]));
        assert!(wanted("accept-stacks-c", &["accept-stacks-c".into()]));
        assert!(!wanted("accept-stacks-cpp", &["accept-stacks-c".into()]), "a whole name");
    }

    #[test]
    fn names_are_unique_and_say_which_command_takes_them() {
        for (at, one) in MEASUREMENTS.iter().enumerate() {
            assert!(one.name.starts_with("accept-") || one.name.starts_with("bench-"), "{}", one.name);
            assert!(MEASUREMENTS[..at].iter().all(|other| other.name != one.name), "{}", one.name);
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let parse = |words: &[&str]| parse(words.iter().map(ToString::to_string));
        assert!(parse(&["--runs", "3", "--json", "out.json", "--markdown", "bench"]).is_ok());
        for wrong in [&["--runs"][..], &["--runs", "x"], &["--json"], &["--fast"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
