//! A store of very many: 100,000 functions with an instance each, and one function with 100,000 instances. What a
//! person asks of it is answered in seconds and in bounded memory, before the seal and after it, and no table is longer
//! than anybody reads.
//!
//! Times are from the start of a process to its end, once; the data are those of `store_data.rs`.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;

use crate::measure::{Bar, Bound, Measurement};
use crate::store_data::{Making, Shape, function};
use crate::support::Fnscope;
use crate::taken::{Taken, taken};

/// Answers from a store of very many.
pub const MANY: Measurement = Measurement {
    name: "accept-many",
    about: "100,000 functions, and one function with 100,000 instances: answers, completions, the seal",
    runs: 1,
    run: many,
};

const COUNT: u32 = 100_000;
/// Each with an instance of its own.
const FUNCTIONS: Shape = Shape {
    seed: 21,
    first: 20,
    hours: 1,
    functions: COUNT,
    revisions: 1,
    instances: COUNT,
    samples: 4,
    life_us: Some(1_600_000),
    stacks: 1,
    cpus: 8,
    batch_us: 2_000_000,
};
const INSTANCES: Shape = Shape { seed: 22, functions: 1, stacks: 200, ..FUNCTIONS };

/// Longest answer.
const MOST_S: f64 = 5.0;
const MOST_MIB: f64 = 1024.0;
/// Lines of a table; more are named by their number.
const MOST_LINES: f64 = 1_001.0;
/// Longest that somebody waits for a key in a store of so many.
const KEY_MS: f64 = 2_000.0;
/// The seal with its folded tree: a file for each function.
const SEAL_S: f64 = 180.0;

fn many() -> anyhow::Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for (name, shape) in [("functions", FUNCTIONS), ("instances", INSTANCES)] {
        let fnscope = Fnscope::new();
        let mut making = Making::begin(fnscope.store(), shape)?;
        making.write(|_| Ok(()))?;
        making.close()?;
        answers(&format!("{name}, journals"), &fnscope, &mut bars)?;
        let seal = run(&mut fnscope.command(["seal"]))?;
        bars.push(Bar::new(format!("{name}: seal, folded tree"), seal.seconds, "s", Bound::AtMost(SEAL_S)));
        bars.push(Bar::new(format!("{name}: its memory"), seal.peak_mib, "MiB", Bound::AtMost(MOST_MIB)));
        answers(&format!("{name}, sealed"), &fnscope, &mut bars)?;
    }
    Ok(bars)
}

fn answers(name: &str, fnscope: &Fnscope, bars: &mut Vec<Bar>) -> anyhow::Result<()> {
    let mut most_mib = 0.0f64;
    let one = function(0);
    let questions: [&[&str]; 9] = [
        &["ls"],
        &["ls", "--json"],
        &["instances"],
        &["instances", &one, "--json"],
        &["top", &one],
        &["folded", &one],
        &["cold", &one],
        &["hosts"],
        &["cost"],
    ];
    for question in questions {
        let taken = run(&mut fnscope.command(question))?;
        let what = format!("{name}: {}", question.join(" "));
        bars.push(Bar::new(what, taken.seconds, "s", Bound::AtMost(MOST_S)));
        most_mib = most_mib.max(taken.peak_mib);
    }
    bars.push(Bar::new(format!("{name}: most memory"), most_mib, "MiB", Bound::AtMost(MOST_MIB)));
    for table in [["ls"], ["instances"]] {
        let ended = fnscope.run(table);
        let lines = ended.stdout.lines().count() as f64;
        bars.push(Bar::new(format!("{name}: lines of {}", table[0]), lines, "", Bound::AtMost(MOST_LINES)));
    }
    // No such function: near names are looked for among all.
    let (wrong, _) = timed(&mut fnscope.command(["top", "fn-o00"]))?;
    bars.push(Bar::new(format!("{name}: a name that is wrong"), wrong.seconds, "s", Bound::AtMost(MOST_S)));
    for (what, words) in [("function", &["top", ""][..]), ("instance", &["instances", "--instance", ""])] {
        let mut key = fnscope.command([&["--", "fnscope"], words].concat());
        key.env("FNSCOPE_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        key.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        let taken = run(&mut key)?;
        let what = format!("{name}: completing a {what}");
        bars.push(Bar::new(what, taken.seconds * 1e3, "ms", Bound::AtMost(KEY_MS)));
    }
    Ok(())
}

/// Runs `command` to an end that must be a good one.
fn run(command: &mut Command) -> anyhow::Result<Taken> {
    let (taken, good) = timed(command)?;
    ensure!(good, "{command:?} ended with {}", taken.status);
    Ok(taken)
}

fn timed(command: &mut Command) -> anyhow::Result<(Taken, bool)> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let taken = taken(&mut child, Duration::from_micros(500))?;
    Ok((taken, taken.status.success()))
}
