//! Native stacks against a second opinion, on the same container at the same time: `perf record --call-graph dwarf` with
//! `perf script` for C, C++ and Rust, and the CPU profile that a Go program takes of itself.
//!
//! perf opens the files of a container when it reads its samples, so the container stays until that is done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::stacks::{C_USUAL, CPP_USUAL, GO_USUAL, RUST_USUAL, report};
use crate::support::Running;
use crate::truth::graph::{normalized, own_name};
use crate::truth::judge::{Tally, distance};
use crate::truth::programs::{Build, Program, Told};
use crate::watched::Agent;

/// Against perf and pprof.
pub const OPINION: Measurement = Measurement {
    name: "accept-stacks-opinion",
    about: "hottest stacks of C, C++ and Rust against perf's own unwinding, Go's leaves against its own profile",
    runs: 1,
    run: opinion,
};

const HZ: &str = "997";
const CPU_MS: &str = "6000";
/// Go's profile has a sample for each tick of the kernel at most, so it takes longer to have enough of them.
const PROFILE_MS: &str = "15000";
/// Stacks that are compared.
const HOTTEST: usize = 20;
/// Where the kernel's own copies are as long as fnscope's.
pub const DWARF: &str = "dwarf,32768";

fn opinion() -> anyhow::Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for build in [C_USUAL, CPP_USUAL, RUST_USUAL] {
        let (ours, theirs) = beside_perf(build)?;
        let name = build.name;
        let off = distance(&ours, &theirs, HOTTEST);
        let count = |of: &BTreeMap<String, u64>| of.values().sum::<u64>() as f64;
        bars.push(Bar::new(format!("{name}: samples"), count(&ours), "", Bound::Recorded));
        bars.push(Bar::new(format!("{name}: their samples"), count(&theirs), "", Bound::Recorded));
        bars.push(Bar::new(format!("{name}: hottest stacks off theirs"), off, "", Bound::AtMost(0.07)));
    }
    bars.extend(beside_pprof()?);
    Ok(bars)
}

/// A container that is there until it is told to go.
struct Staying<'a> {
    running: Option<Running>,
    id: String,
    _program: &'a Program,
}

impl<'a> Staying<'a> {
    fn start(program: &'a Program, function: &str, arguments: &[&str]) -> anyhow::Result<Staying<'a>> {
        let dir = tempfile::tempdir()?;
        let id_file = dir.path().join("id");
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--network", "none", "--cidfile"]).arg(&id_file);
        command.args(["--label", &format!("fnscope.function={function}"), &program.image]);
        let running = Running::start(command.args(arguments).arg("stay").stdin(Stdio::null()));
        let id = crate::support::poll("the container's id", || {
            std::fs::read_to_string(&id_file).ok().filter(|id| id.len() == 64)
        });
        Ok(Staying { running: Some(running), id, _program: program })
    }

    /// Waits for what it tells.
    fn told(&mut self) -> anyhow::Result<Told> {
        let running = self.running.as_mut().context("it runs")?;
        Told::parse(&running.wait_for("\"leaves\""))
    }

    fn end(mut self) {
        Command::new("docker").args(["stop", &self.id]).output().ok();
        self.running.take().map(Running::wait);
    }
}

/// The program's hottest stacks: ours and perf's.
fn beside_perf(build: Build) -> anyhow::Result<(BTreeMap<String, u64>, BTreeMap<String, u64>)> {
    let program = Program::make(build)?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let mut agent = Agent::start(&["--hz", HZ]);
    let mut perf = Command::new("perf");
    perf.args(["record", "-e", "cpu-clock", "-F", HZ, "-a", "--call-graph", DWARF, "-m", "16384"]);
    let recording = Running::start(perf.arg("-o").arg(&data).stdin(Stdio::null()));
    // Says nothing when it has begun; its file is there then.
    crate::support::poll("perf's file", || data.exists().then_some(()));
    let mut container = Staying::start(&program, build.name, &["calls", CPU_MS])?;
    container.told()?;
    recording.signal(rustix::process::Signal::INT);
    recording.wait();
    let script = dir.path().join("script");
    let output = Command::new("perf")
        .args([
            "script",
            "--no-inline",
            "--comms",
            "truth",
            "-F",
            "comm,pid,ip,sym,dso",
            "--max-stack",
            "512",
            "-i",
        ])
        .arg(&data)
        .stdout(File::create(&script)?)
        .stderr(Stdio::piped())
        .output()
        .context("run perf script")?;
    ensure!(output.status.success(), "perf script: {}", String::from_utf8_lossy(&output.stderr));
    container.end();
    agent.stop()?;
    let tally = Tally::read(agent.fnscope().store(), build.name, &program)?;
    report(build.name, &tally)?;
    Ok((tally.stacks, perf_stacks(&script)?))
}

/// What perf says: for each sample a line at the margin, its frames indented below it, leaf first.
fn perf_stacks(script: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut stacks = BTreeMap::new();
    let mut symbols: Vec<String> = Vec::new();
    let mut end = |symbols: &mut Vec<String>| {
        if !symbols.is_empty() {
            let stack = normalized(symbols.iter().rev().map(String::as_str));
            *stacks.entry(stack).or_default() += 1;
        }
        symbols.clear();
    };
    for line in BufReader::new(File::open(script)?).lines() {
        let line = line?;
        if !line.starts_with([' ', '\t']) {
            end(&mut symbols);
        } else if let Some((_, rest)) = line.trim_start().split_once(' ') {
            symbols.push(perf_symbol(rest).to_owned());
        }
    }
    end(&mut symbols);
    Ok(stacks)
}

/// The symbol in `symbol (file)`, where both may hold spaces.
fn perf_symbol(rest: &str) -> &str {
    rest.rsplit_once(" (").map_or(rest, |(symbol, _)| symbol).trim()
}

fn beside_pprof() -> anyhow::Result<Vec<Bar>> {
    let program = Program::make(GO_USUAL)?;
    let mut agent = Agent::start(&["--hz", HZ]);
    let told = program.run("go", &["profile", PROFILE_MS])?;
    agent.stop()?;
    let tally = Tally::read(agent.fnscope().store(), "go", &program)?;
    report("go-profile", &tally)?;
    let dir = tempfile::tempdir()?;
    let theirs = pprof_leaves(&program, dir.path(), &told)?;
    let ours: BTreeMap<String, u64> =
        tally.leaves.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let off = distance(&ours, &theirs, HOTTEST);
    for (name, count) in &theirs {
        let share = |count: u64, all: u64| count as f64 / all as f64;
        let told = told.leaves.get(name).copied().unwrap_or(f64::NAN) / told.leaves.values().sum::<f64>();
        eprintln!(
            "go: {name}: ours {:.3}, theirs {:.3}, told {told:.3}",
            share(ours.get(name).copied().unwrap_or(0), ours.values().sum()),
            share(*count, theirs.values().sum())
        );
    }
    Ok(vec![
        Bar::new("go: samples", tally.samples as f64, "", Bound::Recorded),
        Bar::new("go: their samples", theirs.values().sum::<u64>() as f64, "", Bound::Recorded),
        Bar::new("go: leaves off theirs", off, "", Bound::AtMost(0.10)),
    ])
}

/// Samples of each innermost function of the program, by Go's own reader.
fn pprof_leaves(program: &Program, dir: &Path, told: &Told) -> anyhow::Result<BTreeMap<String, u64>> {
    let encoded = dir.join("profile.base64");
    std::fs::write(&encoded, &told.pprof)?;
    let decoded = Command::new("base64").arg("-d").arg(&encoded).output().context("run base64")?;
    ensure!(decoded.status.success() && !decoded.stdout.is_empty(), "the program told no profile");
    let profile = dir.join("profile");
    std::fs::write(&profile, decoded.stdout)?;
    let traces = Command::new("go")
        .args(["tool", "pprof", "-traces", "-sample_index=samples"])
        .arg(program.path())
        .arg(&profile)
        .output()
        .context("run go tool pprof")?;
    let text = String::from_utf8_lossy(&traces.stdout);
    ensure!(traces.status.success(), "go tool pprof: {}", String::from_utf8_lossy(&traces.stderr));
    Ok(trace_leaves(&text))
}

/// Blocks between lines of dashes: a count and the leaf, then its callers.
fn trace_leaves(text: &str) -> BTreeMap<String, u64> {
    let mut leaves = BTreeMap::new();
    for block in text.split("-----------+").skip(1) {
        let lines = block.lines().skip(1).map(str::split_whitespace);
        let lines: Vec<Vec<&str>> =
            lines.map(Iterator::collect).filter(|words: &Vec<&str>| !words.is_empty()).collect();
        let Some(count) = lines.first().and_then(|words| words.first()?.parse::<u64>().ok()) else {
            continue;
        };
        let leaf = lines.iter().find_map(|words| words.iter().find_map(|word| own_name(word)));
        if let Some(leaf) = leaf {
            *leaves.entry(leaf.to_owned()).or_default() += count;
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_lines_are_read() {
        assert_eq!(perf_symbol("truth_sixty(long) (/truth)"), "truth_sixty(long)");
        assert_eq!(perf_symbol("[unknown] (/usr/lib/x86_64-linux-gnu/libc.so.6)"), "[unknown]");
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        let text = "truth 7\n\t  55 truth_sixty (/truth)\n\t 66 truth_step (/truth)\n\t 77 main (/truth)\n\n";
        std::fs::write(&script, text.repeat(2)).unwrap();
        let stacks = perf_stacks(&script).unwrap();
        assert_eq!(stacks, [("main;truth_step;truth_sixty".to_owned(), 2)].into());
    }

    #[test]
    fn gos_traces_are_read() {
        let text = "File: truth\n-----------+-----\n         3   main.truth_sixty\n             main.truth_step\n\
                    -----------+-----\n         2   runtime.cgocall\n             main.truth_ten\n-----------+-----\n";
        assert_eq!(trace_leaves(text), [("truth_sixty".to_owned(), 3), ("truth_ten".to_owned(), 2)].into());
    }
}
