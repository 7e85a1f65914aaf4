//! Native stacks of short lives: containers of 50 ms and processes of 2 ms, whose files are gone when their samples are
//! unwound and named.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::stacks::{C_STATIC, C_USUAL, GO_USUAL, RUST_USUAL, report};
use crate::support::{Cgroup, told};
use crate::truth::judge::{Tally, wilson};
use crate::truth::programs::Program;
use crate::watched::Agent;

/// Containers of 50 ms and processes of 2 ms.
pub const SHORT: Measurement = Measurement {
    name: "accept-stacks-short",
    about: "named stacks of 100 containers of 50 ms for each language; files opened of 200 processes of 2 ms",
    runs: 1,
    run: short,
};

const CONTAINERS: usize = 100;
const CONTAINER_MS: &str = "50";
const NAMED: f64 = 0.93;
const PROCESSES: usize = 200;
const PROCESS_MS: &str = "2";
/// Between two processes, so that each is alone.
const PAUSE: Duration = Duration::from_millis(20);

fn short() -> anyhow::Result<Vec<Bar>> {
    let mut bars = containers()?;
    for (what, config, bound) in [
        ("usual priority", "[stack]\nrealtime = \"off\"\n", Bound::AtLeast(0.75)),
        ("real-time priority", "[stack]\nrealtime = \"on\"\n", Bound::Recorded),
    ] {
        bars.extend(processes(what, config, bound)?);
    }
    Ok(bars)
}

fn containers() -> anyhow::Result<Vec<Bar>> {
    let mut agent = Agent::start(&["--hz", "997"]);
    let mut programs = Vec::new();
    for build in [C_USUAL, RUST_USUAL, GO_USUAL] {
        let program = Program::make(build)?;
        for _ in 0..CONTAINERS {
            program.run(build.name, &["shares", CONTAINER_MS])?;
        }
        programs.push(program);
    }
    agent.stop()?;
    let mut bars = Vec::new();
    let (mut samples, mut named) = (0, 0);
    for program in &programs {
        let name = program.build.name;
        let tally = Tally::read(agent.fnscope().store(), name, program)?;
        report(&format!("{name}-short"), &tally)?;
        let share = |count: u64| count as f64 / tally.samples.max(1) as f64;
        let mut add =
            |what, value| bars.push(Bar::new(format!("{name}: {what}"), value, "", Bound::Recorded));
        add("samples", tally.samples as f64);
        add("named", share(tally.named));
        add("without a frame of the program", share(tally.strange));
        add("complete", share(tally.complete));
        samples += tally.samples;
        named += tally.named;
    }
    bars.push(Bar::new("all: samples", samples as f64, "", Bound::AtLeast(5_000.0)));
    bars.push(Bar::new("all: named", named as f64 / samples.max(1) as f64, "", Bound::Recorded));
    bars.push(Bar::new("all: named, 99 % sure", wilson(named, samples), "", Bound::AtLeast(NAMED)));
    Ok(bars)
}

/// Processes in a cgroup that is watched, each of a file of its own: no file is known from another process.
fn processes(what: &str, config: &str, bound: Bound) -> anyhow::Result<Vec<Bar>> {
    let program = Program::make(C_STATIC)?;
    let dir = tempfile::tempdir()?;
    let config_path = dir.path().join("fnscope.toml");
    fs::write(&config_path, config)?;
    let parent = Cgroup::new();
    let cgroup = parent.child("short.1");
    let path = config_path.to_str().context("a plain path")?;
    let parent_path = parent.kernel_path();
    let mut agent =
        Agent::start(&["--no-docker", "--cgroup-parent", &parent_path, "--hz", "997", "--config", path]);
    for number in 0..PROCESSES {
        run_copy(&program.path(), &dir.path().join(format!("truth-{number}")), &cgroup)?;
        std::thread::sleep(PAUSE);
    }
    let said = agent.stop()?;
    let told = |key| told(&said, key) as f64;
    let (opened, failed) = (told("files_opened") + told("files_known"), told("files_failed"));
    // A process that is gone before its cgroup could be asked has no file that failed: it is missed all the same.
    let to_open = (opened + failed).max(PROCESSES as f64);
    let name = |what_of: &str| format!("{what}: {what_of}");
    Ok(vec![
        Bar::new(name("files gone before they were opened"), failed, "", Bound::Recorded),
        Bar::new(
            name("processes gone before it was known whose they are"),
            to_open - opened - failed,
            "",
            Bound::Recorded,
        ),
        Bar::new(name("files opened in time, of all"), opened / to_open, "", bound),
    ])
}

/// Runs a copy of `program` at `copy` in `cgroup` to its end.
fn run_copy(program: &Path, copy: &Path, cgroup: &Cgroup) -> anyhow::Result<()> {
    fs::copy(program, copy)?;
    let output = cgroup.command(copy, &["shares", PROCESS_MS]).output()?;
    ensure!(output.status.success(), "{}: {}", copy.display(), output.status);
    fs::remove_file(copy)?;
    Ok(())
}
