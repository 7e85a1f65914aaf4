//! Every fuzz target on the stable toolchain, without libFuzzer: the inputs that are kept in the repository, and a fixed
//! number of runs over changed ones. The very files of `targets/` are run; what fuzzing found once is found here again.
//!
//! Not a search: nothing is learned of what an input reaches (`make fuzz` does). Promises: the same inputs each time,
//! and the input of a run that fails lies in `target/fuzz-failed/`, to be run again by `tests/fuzz/run`.

// Targets name the fuzzer's crate and the one they share; here both are this one.
extern crate self as fnscope_fuzz;
extern crate self as libfuzzer_sys;

pub use arbitrary;

#[path = "shared/answers.rs"]
pub mod answers;
mod change;
#[path = "shared/elf.rs"]
pub mod elf;
#[path = "shared/folder.rs"]
pub mod folder;
#[path = "shared/journal.rs"]
pub mod journal;
#[path = "shared/sealed_store.rs"]
pub mod sealed_store;
#[path = "shared/symbols.rs"]
pub mod symbols;
#[path = "shared/unwinding.rs"]
pub mod unwinding;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use change::Changes;

// In a module of its own, so that targets have it by its path alone, as they do from libFuzzer.
mod macros {
    /// What libFuzzer's macro makes of a target, as a function.
    macro_rules! fuzz_target {
        (|$bytes:ident: &[u8]| $body:expr) => {
            pub fn run($bytes: &[u8]) {
                $body
            }
        };
        (|$input:ident: $kind:ty| $body:expr) => {
            pub fn run(bytes: &[u8]) {
                fn body($input: $kind) {
                    $body
                }
                let input = <$kind as $crate::arbitrary::Arbitrary>::arbitrary_take_rest(
                    $crate::arbitrary::Unstructured::new(bytes),
                );
                if let Ok(input) = input {
                    body(input);
                }
            }
        };
    }
    pub(crate) use fuzz_target;
}
pub(crate) use macros::fuzz_target;

/// Longest that one run may take, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest input that is made of a shorter one, in bytes.
const LONGEST: usize = 64 << 10;

/// A test for each target, with the number of its runs over changed inputs.
macro_rules! targets {
    ($($name:ident: $runs:expr,)*) => {
        mod targets {
            $(
                // libFuzzer has the `main`, elsewhere.
                #[allow(unused_attributes)]
                pub mod $name;
            )*
        }

        $(
            #[test]
            fn $name() {
                replay(stringify!($name), $runs, targets::$name::run);
            }
        )*

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),*];
            for file in fs::read_dir(folder("targets", "")).expect("the targets") {
                let file = file.expect("a folder's entry").path();
                let name = file.file_stem().and_then(|name| name.to_str()).expect("a plain name");
                assert!(here.contains(&name), "{name} is not run here: add a line");
            }
        }
    };
}

// So many that each takes two seconds or less where tests are built without optimisation.
targets! {
    answers: 250,
    archive_forged: 50,
    cgroup_name: 20_000,
    cgroup_text: 20_000,
    condition: 20_000,
    config: 10_000,
    containerd_record: 10_000,
    cri_answers: 10_000,
    debugdata: 10_000,
    demangle: 10_000,
    discovery: 10_000,
    docker_answers: 15_000,
    elf: 3_000,
    environ: 20_000,
    exchange_pprof: 10_000,
    exchange_text: 6_000,
    flame: 1_000,
    frame_grammar: 20_000,
    gopclntab: 4_000,
    gzip_input: 10_000,
    health_answer: 10_000,
    identity_json: 5_000,
    inlines: 2_500,
    invoker_log: 20_000,
    journal: 200,
    journal_damage: 300,
    kallsyms: 8_000,
    perf_map: 20_000,
    perf_records: 20_000,
    plt: 2_500,
    pod_answers: 10_000,
    proc_text: 5_000,
    sealed: 50,
    selector: 10_000,
    store_names: 1_500,
    symbol_table: 20_000,
    unwind_stack: 150,
    unwind_tables: 50,
}

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(target)
}

/// Runs the target on each kept input, then `runs` times on changed ones.
fn replay(name: &str, runs: u32, target: fn(&[u8])) {
    let mut kept: Vec<PathBuf> = Vec::new();
    for kind in ["corpus", "seeds"] {
        let files = fs::read_dir(folder(kind, name)).into_iter().flatten();
        kept.extend(files.map(|file| file.expect("a folder's entry").path()));
    }
    kept.sort();
    let inputs: Vec<Vec<u8>> = kept.iter().map(|path| fs::read(path).expect("a kept input")).collect();
    assert!(!inputs.is_empty(), "{name} has no inputs: run tests/fuzz/run, then tests/fuzz/run keep");
    for (path, input) in kept.iter().zip(&inputs) {
        run(name, &path.display().to_string(), target, input);
    }
    let mut changes = Changes::new(name);
    for number in 0..runs {
        run(name, &format!("run {number}"), target, &changes.of(&inputs, LONGEST));
    }
}

fn run(name: &str, which: &str, target: fn(&[u8]), input: &[u8]) {
    let begin = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = begin.elapsed();
    if ended.is_ok() && took <= LIMIT {
        return;
    }
    let failed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz-failed");
    fs::create_dir_all(&failed).expect("a folder below target");
    let path = failed.join(format!("{name}-{:08x}", crc32fast::hash(input)));
    fs::write(&path, input).expect("room for the input");
    eprintln!("{name}: {which} failed after {took:?}; its input is {}", path.display());
    ended.unwrap_or_else(|panic| resume_unwind(panic));
    panic!("{name}: {which} took {took:?}");
}
