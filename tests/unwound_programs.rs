//! Stacks of real programs at thousands of points, unwound and held against the call graph that their source states.
//!
//! `tests/fixtures/unwind/tracer.c` steps through a program and writes what a sampler would have seen: prologues, leaves,
//! the loader, the C library, signal handlers, threads. Needs gcc, musl-gcc (musl-tools) and go.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fnscope::model::Pid;
use fnscope::stack::apart::Parser;
use fnscope::stack::unwind::{End, Frame, Registers, Snapshot, UnwindOptions, Unwinder};
use fnscope::stack::{Files, Mapped, Mapping, SymbolTable, mappings_of};

/// Who may call whom in `shapes.c`: a function and its callers among its own.
const CALLERS: &[(&str, &[&str])] = &[
    (
        "leaf",
        &[
            "middle",
            "top",
            "compare",
            "sorted",
            "handler",
            "signalled",
            "aligned",
            "sized",
            "copies",
            "worker",
            "plugged",
            "main",
        ],
    ),
    ("middle", &["middle", "top"]),
    ("top", &["main"]),
    ("compare", &["sorted"]),
    ("sorted", &["main"]),
    ("handler", &["signalled"]),
    ("signalled", &["main"]),
    ("aligned", &["main", "worker"]),
    ("sized", &["main"]),
    ("copies", &["main"]),
    ("worker", &[]),
    ("plugged", &["main"]),
    ("main", &[]),
];

/// Who may call whom in `shapes.go`.
const GO_CALLERS: &[(&str, &[&str])] = &[
    ("main.leaf", &["main.middle", "main.top", "main.less", "main.worker", "main.main"]),
    ("main.middle", &["main.middle", "main.top"]),
    ("main.top", &["main.main"]),
    ("main.less", &["main.sorted"]),
    ("main.sorted", &["main.main"]),
    ("main.worker", &[]),
    ("main.main", &[]),
];

struct Points {
    tracer: Child,
    points: Vec<(Registers, Vec<u8>)>,
    mappings: Vec<Mapping>,
    /// By file.
    symbols: HashMap<u64, SymbolTable>,
    _folder: tempfile::TempDir,
}

impl Drop for Points {
    fn drop(&mut self) {
        drop(self.tracer.stdin.take());
        let _ = self.tracer.wait();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Points {
    /// Builds a program by `build`, which gets the folder of the sources and where the program belongs, and traces it.
    /// Where there is a `program.named` too, names come from there.
    fn take(how: [&str; 2], build: impl FnOnce(&Path, &Path)) -> Points {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unwind");
        let folder = tempfile::tempdir().unwrap();
        let (tracer, program) = (folder.path().join("tracer"), folder.path().join("program"));
        run(Command::new("gcc").arg("-O2").arg("-o").arg(&tracer).arg(sources.join("tracer.c")));
        build(&sources, &program);
        let mut tracer = Command::new(&tracer);
        let mut tracer =
            tracer.args(how).arg(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = std::io::BufReader::new(tracer.stdout.take().unwrap());
        let mut points = Vec::new();
        let pid = loop {
            let mut head = [0; 18 * 8];
            out.read_exact(&mut head).expect("the tracer tells to the end");
            let mut words = head.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            let values = std::array::from_fn(|_| words.next().unwrap());
            let length = words.next().unwrap();
            if values[Registers::IP] == 0 {
                break Pid(u32::try_from(length).unwrap());
            }
            let mut stack = vec![0; usize::try_from(length).unwrap()];
            out.read_exact(&mut stack).unwrap();
            points.push((Registers { values }, stack));
        };
        let mut files = Files::default();
        let owner = fnscope::model::InstanceNo(1);
        let mappings =
            mappings_of(pid, |line| files.mapped(owner, pid, line.start, line.end, line.path, None)).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let mut symbols = HashMap::new();
        for mapping in &mappings {
            let Mapped::File(file) = &mapping.what else { continue };
            let start = format!("{:x}-", mapping.start);
            let line = maps.lines().find(|line| line.trim_start_matches('0').starts_with(&start)).unwrap();
            let path = Path::new(&line[line.find('/').unwrap()..]).to_path_buf();
            let named = path.with_extension("named");
            let bytes = std::fs::read(if named.exists() { named } else { path }).unwrap();
            symbols.insert(file.id, SymbolTable::from_elf_bytes(&bytes).unwrap());
        }
        Points { tracer, points, mappings, symbols, _folder: folder }
    }

    fn name(&self, address: u64) -> String {
        let at = self.mappings.iter().find(|m| (m.start..m.end).contains(&address));
        let Some(mapping) = at else { return "[unknown]".into() };
        match &mapping.what {
            Mapped::File(file) => {
                let offset = address - mapping.start + mapping.file_offset;
                let table = &self.symbols[&file.id];
                let name = table.address(offset).and_then(|address| table.lookup(address));
                name.map_or_else(
                    || format!("{}+{offset:x}", file.name),
                    |(name, _)| String::from_utf8(name).unwrap(),
                )
            }
            Mapped::Vdso => "[vdso]".into(),
            Mapped::Anonymous => "[anonymous]".into(),
        }
    }

    fn check(&self, callers: &[(&str, &[&str])]) -> Outcome {
        let mut unwinder = Unwinder::new(UnwindOptions { scan: true }, Parser::here());
        let mut frames = Vec::new();
        let mut outcome = Outcome { points: self.points.len(), ..Outcome::default() };
        for (registers, stack) in &self.points {
            let end = unwinder.unwind(&self.mappings, Snapshot { registers, stack }, &mut frames);
            let names: Vec<(String, bool)> = frames
                .iter()
                .enumerate()
                .map(|(at, frame)| (self.name(frame.address - u64::from(at > 0)), frame.guessed))
                .collect();
            outcome.add(end, &names, callers);
            assert_eq!(
                frames.first(),
                Some(&Frame { address: registers.values[Registers::IP], guessed: false })
            );
        }
        println!("{outcome:?}{:?}", unwinder.stats());
        outcome
    }
}

#[derive(Default)]
struct Outcome {
    points: usize,
    complete: usize,
    truncated: usize,
    with_guesses: usize,
    /// Stacks in which an own function stands under one that does not call it.
    wrong: usize,
    /// Such stacks without a guess.
    invented: usize,
    /// Stacks with own frames.
    own: usize,
    seen: std::collections::BTreeSet<String>,
    examples: HashMap<String, usize>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { points, complete, truncated, with_guesses, wrong, invented, own, .. } = self;
        writeln!(
            f,
            "{points} points, {complete} complete, {truncated} truncated, {own} with own frames, {with_guesses} with guesses, {wrong} wrong, {invented} invented"
        )?;
        let mut examples: Vec<_> = self.examples.iter().collect();
        examples.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (example, count) in examples.into_iter().take(14) {
            writeln!(f, "{count:6} {example}")?;
        }
        Ok(())
    }
}

impl Outcome {
    fn add(&mut self, end: End, names: &[(String, bool)], callers: &[(&str, &[&str])]) {
        let own: Vec<(&str, &[&str])> = names
            .iter()
            .filter_map(|(name, _)| callers.iter().find(|(own, _)| own == name).copied())
            .collect();
        let fits = own.windows(2).all(|pair| pair[0].1.contains(&pair[1].0));
        let is_whole = own.last().is_none_or(|(_, callers)| callers.is_empty());
        let guessed = names.iter().any(|(_, guessed)| *guessed);
        self.complete += usize::from(end == End::Root);
        self.truncated += usize::from(end == End::Truncated);
        self.with_guesses += usize::from(guessed);
        self.own += usize::from(!own.is_empty());
        let wrong = !fits || end == End::Root && !is_whole;
        self.wrong += usize::from(wrong);
        self.invented += usize::from(wrong && !guessed);
        self.seen.extend(own.iter().map(|(name, _)| (*name).to_string()));
        if wrong || end != End::Root {
            let chain: Vec<String> = names
                .iter()
                .take(12)
                .map(|(name, guessed)| format!("{}{name}", if *guessed { "?" } else { "" }))
                .collect();
            *self.examples.entry(format!("{end:?}: {}", chain.join(" "))).or_default() += 1;
        }
    }

    fn assert(&self, complete: f64, callers: &[(&str, &[&str])]) {
        assert!(self.points > 200, "{self:?}");
        assert!(self.complete as f64 >= complete * self.points as f64, "{self:?}");
        assert_eq!(self.invented, 0, "{self:?}");
        assert!(self.wrong as f64 <= (1.0 - complete) * self.points as f64, "{self:?}");
        let missing: Vec<_> =
            callers.iter().map(|(own, _)| *own).filter(|own| !self.seen.contains(*own)).collect();
        assert!(missing.is_empty(), "{missing:?} were never seen: {self:?}");
    }
}

fn without<'a>(left_out: &str) -> Vec<(&'a str, &'a [&'a str])> {
    CALLERS.iter().filter(|(own, _)| *own != left_out).copied().collect()
}

fn shapes(compiler: &str, options: &[&str], sources: &Path, program: &Path) {
    let mut command = Command::new(compiler);
    command.args(["-O2", "-g0", "-fomit-frame-pointer", "-pthread"]).args(options);
    run(command.arg("-o").arg(program).arg(sources.join("shapes.c")));
}

#[test]
fn c_with_a_dynamic_glibc_is_complete() {
    let points = Points::take(["step", "37"], |sources, program| {
        let library = program.with_extension("so");
        run(Command::new("gcc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(sources.join("plugin.c")));
        shapes("gcc", &[&format!("-DLIBRARY=\"{}\"", library.display())], sources, program);
    });
    points.check(CALLERS).assert(0.98, CALLERS);
}

#[test]
fn c_with_a_static_glibc_is_complete() {
    for kind in ["-static", "-static-pie"] {
        let points =
            Points::take(["step", "37"], |sources, program| shapes("gcc", &[kind], sources, program));
        points.check(CALLERS).assert(0.97, &without("plugged"));
    }
}

#[test]
fn c_with_a_static_musl_is_complete_by_guesses() {
    let points =
        Points::take(["step", "11"], |sources, program| shapes("musl-gcc", &["-static"], sources, program));
    points.check(CALLERS).assert(0.96, &without("plugged"));
}

/// Keeps `program` as `program.named`, and takes its names away; its section headers too if `cut`.
fn strip(program: &Path, cut: bool) {
    std::fs::copy(program, program.with_extension("named")).unwrap();
    run(Command::new("strip").arg(program));
    if cut {
        let mut bytes = std::fs::read(program).unwrap();
        bytes[40..48].fill(0);
        bytes[60..64].fill(0);
        std::fs::write(program, bytes).unwrap();
    }
}

#[test]
fn stripped_programs_are_complete() {
    let own = without("plugged");
    for (compiler, option, cut, complete) in
        [("gcc", "-pie", false, 0.98), ("gcc", "-pie", true, 0.98), ("gcc", "-static", false, 0.97)]
    {
        let points = Points::take(["step", "29"], |sources, program| {
            shapes(compiler, &[option], sources, program);
            strip(program, cut);
        });
        println!("{compiler} {option}, cut: {cut}");
        points.check(CALLERS).assert(complete, &own);
    }
}

#[test]
fn go_is_complete() {
    for options in [&[][..], &["-ldflags=-s -w"]] {
        let points = Points::take(["pause", "400"], |sources, program| {
            let mut command = Command::new("go");
            command.args(["build", "-o"]).arg(program).args(options).arg(sources.join("shapes.go"));
            run(command.env("CGO_ENABLED", "0"));
        });
        points.check(GO_CALLERS).assert(0.98, GO_CALLERS);
    }
}
