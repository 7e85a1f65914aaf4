//! Native stacks against truth programs: how many reach their root, how many have their own functions' names, how far
//! each function's share is off the program's own clock, and whether a call was invented.
//!
//! `ACCEPT_STACKS=FOLDER` has stacks with something wrong written there, a file for each program.

use std::fmt::Write as _;

use crate::measure::{Bar, Bound, Measurement};
use crate::truth::judge::{Tally, wilson};
use crate::truth::programs::{Build, Language, Link, Program};
use crate::watched::Agent;

/// Programs in C.
pub const C: Measurement = Measurement {
    name: "accept-stacks-c",
    about: "stacks of a C program: glibc, stripped, static, musl",
    runs: 1,
    run: c,
};
/// Programs in C++.
pub const CPP: Measurement = Measurement {
    name: "accept-stacks-cpp",
    about: "stacks of a C++ program: glibc, stripped",
    runs: 1,
    run: cpp,
};
/// Programs in Rust.
pub const RUST: Measurement = Measurement {
    name: "accept-stacks-rust",
    about: "stacks of a Rust program: glibc, stripped, static",
    runs: 1,
    run: rust,
};
/// Programs in Go.
pub const GO: Measurement = Measurement {
    name: "accept-stacks-go",
    about: "stacks of a Go program: plain, stripped",
    runs: 1,
    run: go,
};

/// CPU time of each program: 5,000 samples and a reserve.
const CPU_MS: &str = "6500";
const HZ: &str = "997";
/// Samples of each language's programs together in which no call may be invented.
const SAMPLES: f64 = 10_000.0;

/// A program and the share that its complete and its named stacks must reach.
struct Cell {
    build: Build,
    least: f64,
}

const fn cell(build: Build, least: f64) -> Cell {
    Cell { build, least }
}

/// C, dynamic glibc, optimized.
pub const C_USUAL: Build = Build::new("c", Language::C, Link::Usual);
/// The same in C++.
pub const CPP_USUAL: Build = Build::new("cpp", Language::Cpp, Link::Usual);
/// The same in Rust.
pub const RUST_USUAL: Build = Build::new("rust", Language::Rust, Link::Usual);
/// Go as it is built unasked.
pub const GO_USUAL: Build = Build::new("go", Language::Go, Link::Usual);
/// C with everything in it.
pub const C_STATIC: Build = Build::new("c-static", Language::C, Link::Static);

fn c() -> anyhow::Result<Vec<Bar>> {
    // With frame pointers the kernel's own walk is enough: what the others are read beside.
    let with_pointers = Build { name: "c-pointers", frame_pointers: true, ..C_USUAL };
    cells(&[
        cell(with_pointers, 0.98),
        cell(C_USUAL, 0.98),
        cell(C_USUAL.stripped("c-stripped"), 0.98),
        cell(C_STATIC, 0.97),
        cell(Build::new("c-musl", Language::C, Link::Musl), 0.96),
    ])
}

fn cpp() -> anyhow::Result<Vec<Bar>> {
    cells(&[cell(CPP_USUAL, 0.98), cell(CPP_USUAL.stripped("cpp-stripped"), 0.98)])
}

fn rust() -> anyhow::Result<Vec<Bar>> {
    cells(&[
        cell(RUST_USUAL, 0.98),
        cell(RUST_USUAL.stripped("rust-stripped"), 0.98),
        cell(Build::new("rust-static", Language::Rust, Link::Static), 0.97),
    ])
}

fn go() -> anyhow::Result<Vec<Bar>> {
    cells(&[cell(GO_USUAL, 0.98), cell(GO_USUAL.stripped("go-stripped"), 0.98)])
}

fn cells(cells: &[Cell]) -> anyhow::Result<Vec<Bar>> {
    let mut runs = Vec::new();
    let mut agent = Agent::start(&["--hz", HZ]);
    for cell in cells {
        let program = Program::make(cell.build)?;
        let told = program.run(cell.build.name, &["all", CPU_MS])?;
        runs.push((cell, program, told));
    }
    agent.stop()?;
    let mut bars = Vec::new();
    let (mut samples, mut calls) = (0, 0);
    for (cell, program, told) in &runs {
        let name = cell.build.name;
        let tally = Tally::read(agent.fnscope().store(), name, program)?;
        report(name, &tally)?;
        let mut add = |what: &str, value: f64, unit, bound| {
            bars.push(Bar::new(format!("{name}: {what}"), value, unit, bound));
        };
        let share = |count: u64| count as f64 / tally.samples.max(1) as f64;
        add("samples", tally.samples as f64, "", Bound::AtLeast(5_000.0));
        add("complete", share(tally.complete), "", Bound::Recorded);
        add("complete, 99 % sure", wilson(tally.complete, tally.samples), "", Bound::AtLeast(cell.least));
        add("named", share(tally.named), "", Bound::Recorded);
        add("named, 99 % sure", wilson(tally.named, tally.samples), "", Bound::AtLeast(cell.least));
        let (leaf, off) = tally.furthest_leaf(told);
        eprintln!("{name}: furthest off is {leaf}");
        add("leaf off its clock, most", off * 100.0, "points", Bound::AtMost(3.0));
        add("guessed", share(tally.guessed), "", Bound::Recorded);
        add("calls looked at", tally.calls as f64, "", Bound::Recorded);
        add("invented calls", tally.invented() as f64, "", Bound::AtMost(0.0));
        let guessed_wrong: u64 = tally.guessed_wrong.values().sum();
        add("invented calls, guessed", guessed_wrong as f64, "", Bound::Recorded);
        add("said complete, callers missing", tally.cut as f64, "", Bound::Recorded);
        samples += tally.samples;
        calls += tally.calls;
    }
    bars.push(Bar::new(
        "all: samples looked at for invented calls",
        samples as f64,
        "",
        Bound::AtLeast(SAMPLES),
    ));
    bars.push(Bar::new("all: calls looked at", calls as f64, "", Bound::AtLeast(SAMPLES)));
    Ok(bars)
}

/// Says what is wrong with stacks of `name`, and writes them where somebody asks for them.
pub fn report(name: &str, tally: &Tally) -> anyhow::Result<()> {
    for (what, count) in tally.invented.iter().chain(&tally.guessed_wrong) {
        eprintln!("{name}: {count} times a call that the program does not make: {what}");
    }
    // They are as rare as what causes them: one that is not shown may not be seen again.
    for stack in tally.examples.keys().filter(|stack| stack.starts_with("call ")) {
        eprintln!("{name}: {stack}");
    }
    let Some(folder) = std::env::var_os("ACCEPT_STACKS") else { return Ok(()) };
    let mut text = String::new();
    for (stack, count) in &tally.examples {
        let _ = writeln!(text, "{count} {stack}");
    }
    let path = std::path::Path::new(&folder).join(format!("{name}.txt"));
    std::fs::write(path, text)?;
    Ok(())
}
