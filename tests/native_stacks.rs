//! Stacks of compiled programs that were built as usual, without frame pointers: to the root, named, and no call in
//! them that the program does not make. Some hundreds of samples of each; `make accept ONLY=accept-stacks` takes thousands.

use std::path::Path;

use crate::support::{Cgroup, Fnscope, Running, four_sigma, told};
use crate::truth::judge::Tally;
use crate::truth::programs::{Build, Language, Link, Program};

/// CPU time of a program, and about as many samples.
const CPU_MS: &str = "1000";
const LEAST_SAMPLES: u64 = 500;

/// Runs `build` with an agent beside it, whose answers must be as good as `share` of complete and of named stacks.
fn assert_good(build: Build, share: f64) {
    let program = Program::make(build).expect("make the program");
    let scope = Fnscope::new();
    let agent = scope.docker_agent(Path::new("/var/run/docker.sock"), &[]);
    let told = program.run(build.name, &["all", CPU_MS]).expect("run the program");
    agent.stop_in_order();
    let tally = Tally::read(scope.store(), build.name, &program).expect("read the store");
    let n = tally.samples;
    assert!(n >= LEAST_SAMPLES, "{tally:#?}");
    assert!(tally.invented.is_empty() && tally.calls > n, "{tally:#?}");
    // Of n samples that are good with probability p, the share of good ones has a deviation of √(p(1-p)/n): with 1,000
    // and 98 % four of it are 1.8 points. Beside those, two execs, the loader's work and the exit are up to 15 samples
    // whose stacks begin in the kernel or before the program is there.
    let least = share - 4.0 * (share * (1.0 - share) / n as f64).sqrt() - 15.0 / n as f64;
    for (what, count) in [("complete", tally.complete), ("named", tally.named)] {
        let seen = count as f64 / n as f64;
        assert!(seen >= least, "{what}: {seen} of {n}, not {least}: {tally:#?}");
    }
    // p(1-p) is at most a quarter, so four deviations of any share are at most half of those of a count.
    let (leaf, off) = tally.furthest_leaf(&told);
    assert!(off <= four_sigma(n) / 2.0, "{leaf} is {off} off what the program told: {told:?} {tally:#?}");
}

#[test]
fn a_c_program_is_complete_and_named() {
    assert_good(Build::new("c", Language::C, Link::Usual), 0.98);
}

#[test]
fn a_static_c_program_with_musl_is_complete_and_named() {
    assert_good(Build::new("c-musl", Language::C, Link::Musl), 0.96);
}

#[test]
fn a_stripped_go_program_is_complete_and_named() {
    assert_good(Build::new("go", Language::Go, Link::Usual).stripped("go-stripped"), 0.98);
}

/// Runs a program of which chains tell all, beside an agent; how many of its samples were walked along copies, and how
/// many there were.
fn walked(scope: &Fnscope, program: &Path, name: &str) -> (u64, u64) {
    let parent = Cgroup::new();
    let agent = scope.agent(&["--no-docker", "--hz", "997", "--cgroup-parent", &parent.kernel_path()]);
    let (code, said) = Running::start(&mut parent.child(&format!("{name}.1")).command(program, &[])).wait();
    assert_eq!(code, Some(0), "{said}");
    let said = agent.stop_in_order();
    (told(&said, "walks"), told(&said, "samples"))
}

#[test]
fn where_chains_suffice_no_copies_are_taken_and_that_outlives_the_agent() {
    let folder = tempfile::tempdir().expect("make a folder");
    // Named for how long it burns, in milliseconds.
    let program = folder.path().join("chains-2500");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/chains.c");
    let options = ["-O1", "-nostdlib", "-static", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"];
    let mut gcc = std::process::Command::new("gcc");
    gcc.args(options).arg("-fno-stack-protector").arg("-o").arg(&program).arg(source);
    assert!(gcc.status().expect("run gcc").success());
    let scope = Fnscope::new();
    let (walks, samples) = walked(&scope, &program, "chains");
    // 256 comparisons, and what is sampled at 997 Hz until the next tick, up to a second later.
    assert!(samples > 2_000 && (256..1_700).contains(&walks), "{walks} of {samples} samples were walked");
    let (walks, samples) = walked(&scope, &program, "again");
    assert!(samples > 2_000 && walks < 1_500, "{walks} of {samples} samples were walked though it is known");
    for name in ["chains", "again"] {
        let folded = scope.folded(name);
        let whole = "_start [chains-2500];chains_begin [chains-2500];chains_middle [chains-2500];chains_leaf";
        let count = |lines: &mut dyn Iterator<Item = &str>| -> u64 {
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        };
        let all = count(&mut folded.lines());
        let complete = count(&mut folded.lines().filter(|line| line.starts_with(whole)));
        assert!(complete * 100 >= all * 95, "{name}: {folded}");
    }
}
