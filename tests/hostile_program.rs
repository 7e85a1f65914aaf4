//! The hostile tenant: builds `tests/programs/hostile.c` and runs it in a cgroup beside a tenant whose truth is known.
//!
//! Needs gcc.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Cgroup, Function, Running, truth};

/// What a hostile tenant does, with a size for tests and one for measurements.
pub struct Mode {
    /// Its name.
    pub name: &'static str,
    /// How many of it, in a test.
    pub few: u32,
    /// How many of it, in a measurement.
    pub many: u32,
}

/// Every mode.
pub const MODES: [Mode; 9] = [
    mode("forks", 500, 5_000),
    mode("execs", 100, 500),
    mode("maps", 300, 2_000),
    mode("cgroups", 200, 1_000),
    mode("comm", 1, 1),
    mode("stacks", 1, 1),
    mode("symbols", 1, 1),
    mode("truncated", 1, 1),
    mode("perf-map", 64, 1_024),
];

const fn mode(name: &'static str, few: u32, many: u32) -> Mode {
    Mode { name, few, many }
}

/// Functions of the good tenant whose shares are known.
pub const SPENDERS: [&str; 3] = ["spend_sixty", "spend_thirty", "spend_ten"];

/// The built program, in a folder of its own.
pub struct Hostile {
    dir: tempfile::TempDir,
    plain: PathBuf,
    symbols: PathBuf,
}

impl Hostile {
    /// Builds it, and a copy with a symbol table of 4 GiB.
    pub fn new() -> Hostile {
        let dir = tempfile::tempdir().expect("make a folder");
        let (plain, symbols) = (dir.path().join("hostile"), dir.path().join("hostile-symbols"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/hostile.c");
        let flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o"];
        let status = Command::new("gcc").args(flags).arg(&plain).arg(source).status().expect("run gcc");
        assert!(status.success());
        fs::copy(&plain, &symbols).expect("copy a program");
        lengthen_symbols(&symbols);
        Hostile { dir, plain, symbols }
    }

    /// Runs `mode` in `cgroup` for so many seconds, from which on it is at it.
    pub fn start(&self, cgroup: &Cgroup, mode: &Mode, count: u32, seconds: u32) -> Running {
        let program = if mode.name == "symbols" { &self.symbols } else { &self.plain };
        let folder = self.dir.path().join(mode.name);
        fs::create_dir_all(&folder).expect("make a folder");
        let folder = if mode.name == "cgroups" { cgroup.path().to_path_buf() } else { folder };
        let folder = folder.to_str().expect("a plain path");
        let arguments = [mode.name, &count.to_string(), &seconds.to_string(), folder];
        let mut running = Running::start(&mut cgroup.command(program, &arguments));
        running.wait_for("ready");
        running
    }
}

/// Runs the good tenant to its end in `cgroup`; the shares it tells of [`SPENDERS`].
pub fn good(function: &Function, cgroup: &Cgroup, cpu_ms: u32) -> [f64; 3] {
    let arguments = ["shares", "--cpu-ms", &cpu_ms.to_string()];
    let (code, said) = Running::start(&mut cgroup.command(function.path(), &arguments)).wait();
    assert_eq!(code, Some(0), "{said}");
    let truth = truth(&said);
    let told = SPENDERS.map(|name| truth.get(name).and_then(Value::as_f64).expect("it tells each"));
    told.map(|ms| ms / told.iter().sum::<f64>())
}

/// Samples in `folded` and the shares that it tells of [`SPENDERS`].
pub fn seen(folded: &str) -> (u64, [f64; 3]) {
    let lines = || folded.lines().filter_map(|line| line.rsplit_once(' '));
    let count = |of: &dyn Fn(&str) -> bool| -> u64 {
        lines().filter(|(stack, _)| of(stack)).filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
    };
    let all = count(&|_| true);
    let share = |name: &str| count(&|stack| stack.contains(&format!("::{name} "))) as f64 / all.max(1) as f64;
    (all, SPENDERS.map(share))
}

/// Says that the symbol table of the program at `path` takes 4 GiB, which are a hole.
fn lengthen_symbols(path: &Path) {
    const SYMBOLS_BYTES: u64 = 4 << 30;
    let bytes = fs::read(path).expect("read a program");
    let field = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let headers = (0..field(0x3c, 2)).map(|number| field(0x28, 8) + 64 * number);
    let place = |at: u64| usize::try_from(at).expect("offsets fit");
    let symtab = headers.into_iter().find(|at| field(place(*at) + 4, 4) == 2).expect("it has symbols");
    let file = OpenOptions::new().write(true).open(path).expect("open a program");
    let end = bytes.len() as u64;
    file.write_all_at(&end.to_le_bytes(), symtab + 24).expect("write its place");
    file.write_all_at(&SYMBOLS_BYTES.to_le_bytes(), symtab + 32).expect("write its size");
    file.set_len(end + SYMBOLS_BYTES).expect("make a hole");
}
