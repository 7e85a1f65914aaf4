//! Programs whose files lie, vanish or forge: they are sampled like any other, what can be named is, and no other
//! function pays for it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::answers::{number, row, text};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

fn agent(scope: &Fnscope, parent: &Cgroup) -> Running {
    scope.agent(&["--no-docker", "--hz", "997", "--cgroup-parent", &parent.kernel_path()])
}

fn run(cgroup: &Cgroup, program: &Path, arguments: &[&str]) {
    let (code, said) = Running::start(&mut cgroup.command(program, arguments)).wait();
    assert_eq!(code, Some(0), "{}: {said}", program.display());
}

/// The example program as bytes that can be falsified. The kernel runs a program by its program headers alone, so
/// whatever its section headers say, it runs.
struct Elf(Vec<u8>);

/// Fields of a section header, by their place in it.
const SH_TYPE: usize = 4;
const SH_OFFSET: usize = 24;
const SH_SIZE: usize = 32;
const SH_LINK: usize = 40;
const SH_ENTSIZE: usize = 56;

impl Elf {
    fn new() -> Elf {
        Elf(fnscope::functions::PROGRAM.to_vec())
    }

    fn get(&self, at: usize, bytes: usize) -> usize {
        let field = self.0[at..at + bytes].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(field).expect("offsets fit")
    }

    fn set(&mut self, at: usize, bytes: usize, value: u64) {
        self.0[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Where the header of section `number` stands.
    fn header(&self, number: usize) -> usize {
        self.get(0x28, 8) + 64 * number
    }

    /// Where the header of the symbol table stands.
    fn symtab(&self) -> usize {
        let headers = (0..self.get(0x3c, 2)).map(|number| self.header(number));
        let symtab = headers.into_iter().find(|at| self.get(at + SH_TYPE, 4) == 2);
        symtab.expect("the example program has a symbol table")
    }

    /// Where the header of the symbol table's names stands.
    fn strtab(&self) -> usize {
        self.header(self.get(self.symtab() + SH_LINK, 4))
    }

    /// The bytes of the section whose header stands at `header`.
    fn content(&self, header: usize) -> Range<usize> {
        let begin = self.get(header + SH_OFFSET, 8);
        begin..begin + self.get(header + SH_SIZE, 8)
    }

    /// The end of what the kernel maps, in the file.
    fn mapped_end(&self) -> usize {
        let headers = (0..self.get(0x38, 2)).map(|number| self.get(0x20, 8) + 56 * number);
        let loaded = headers.filter(|at| self.get(*at, 4) == 1);
        loaded.map(|at| self.get(at + 8, 8) + self.get(at + 32, 8)).max().expect("something is loaded")
    }

    /// The bytes of the build id's note, where the program headers say it is.
    fn note(&self) -> usize {
        let headers = (0..self.get(0x38, 2)).map(|number| self.get(0x20, 8) + 56 * number);
        let note = headers.into_iter().find(|at| self.get(*at, 4) == 4).expect("it has a note");
        self.get(note + 8, 8)
    }

    /// Where the sorted table of unwind entries begins, as the program headers tell.
    fn unwind_header(&self) -> usize {
        let headers = (0..self.get(0x38, 2)).map(|number| self.get(0x20, 8) + 56 * number);
        let header = headers.into_iter().find(|at| self.get(*at, 4) == 0x6474_e550);
        self.get(header.expect("it has unwind tables") + 8, 8)
    }

    /// The bytes of its unwind entries: behind the table, up to the end of what is mapped with it.
    fn unwind_entries(&self) -> Range<usize> {
        let header = self.unwind_header();
        let loaded = (0..self.get(0x38, 2)).map(|number| self.get(0x20, 8) + 56 * number);
        let mut loaded = loaded.filter(|at| self.get(*at, 4) == 1).map(|at| {
            let begin = self.get(at + 8, 8);
            begin..begin + self.get(at + 32, 8)
        });
        let end = loaded.find(|range| range.contains(&header)).expect("it is mapped").end;
        let first = header + 12 + 8 * self.get(header + 8, 4);
        first..end.min(first + (16 << 10))
    }

    /// Writes `forged` over the end of the name that ends in `name`; both are as long.
    fn rename(&mut self, name: &str, forged: &[u8]) {
        let strings = self.content(self.strtab());
        let mut wanted = name.as_bytes().to_vec();
        wanted.push(0);
        let at = self.0[strings.clone()].windows(wanted.len()).position(|window| window == wanted);
        let at = strings.start + at.expect("it has such a name");
        assert_eq!(name.len(), forged.len());
        self.0[at..at + forged.len()].copy_from_slice(forged);
    }

    /// Writes it to `folder/name`, executable.
    fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, &self.0).expect("write a program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("make it executable");
        path
    }
}

/// Falsified copies by name.
fn liars() -> Vec<(&'static str, Elf)> {
    let mut liars = Vec::new();
    let mut add = |name, falsify: &dyn Fn(&mut Elf)| {
        let mut elf = Elf::new();
        falsify(&mut elf);
        liars.push((name, elf));
    };
    add("sections-nowhere", &|elf| elf.set(0x28, 8, u64::MAX));
    add("sections-behind-the-end", &|elf| elf.set(0x28, 8, elf.0.len() as u64 - 7));
    add("sections-without-size", &|elf| elf.set(0x3a, 2, 0));
    add("sections-by-the-thousand", &|elf| elf.set(0x3c, 2, 0xffff));
    add("symbols-without-end", &|elf| elf.set(elf.symtab() + SH_SIZE, 8, u64::MAX));
    add("symbols-nowhere", &|elf| elf.set(elf.symtab() + SH_OFFSET, 8, u64::MAX - 8));
    add("symbols-of-no-size", &|elf| elf.set(elf.symtab() + SH_ENTSIZE, 8, 0));
    add("names-nowhere", &|elf| elf.set(elf.strtab() + SH_OFFSET, 8, elf.0.len() as u64));
    add("names-of-another", &|elf| elf.set(elf.symtab() + SH_LINK, 4, 0xffff));
    add("names-beyond-the-table", &|elf| {
        for at in elf.content(elf.symtab()).step_by(24) {
            elf.set(at, 4, u64::from(u32::MAX));
        }
    });
    add("names-without-end", &|elf| elf.content(elf.strtab()).for_each(|at| elf.0[at] = b'A'));
    add("symbols-of-everything", &|elf| {
        // Every one of them a function that begins at 0 and spans all memory.
        for at in elf.content(elf.symtab()).step_by(24) {
            elf.0[at + 4] = 0x12;
            elf.set(at + 8, 8, 0);
            elf.set(at + 16, 8, u64::MAX);
        }
    });
    add("note-without-end", &|elf| {
        let note = elf.note();
        elf.set(note, 4, 0xffff_fff0);
        elf.set(note + 4, 4, 0xffff_fff0);
    });
    add("unwinds-without-end", &|elf| {
        let header = elf.unwind_header();
        elf.set(header + 8, 4, u64::MAX);
    });
    add("unwinds-to-one-place", &|elf| {
        let header = elf.unwind_header();
        for entry in 0..elf.get(header + 8, 4) {
            elf.set(header + 12 + entry * 8 + 4, 4, 0);
        }
    });
    add("unwinds-in-circles", &|elf| {
        // An expression that jumps back to its own begin, wherever a rule is looked for.
        let entries = elf.unwind_entries();
        for (at, byte) in entries.zip([0x0f, 3, 0x2f, 0xfd, 0xff].into_iter().cycle()) {
            elf.0[at] = byte;
        }
    });
    add("cut-off", &|elf| elf.0.truncate(elf.mapped_end()));
    liars
}

#[test]
fn files_that_lie_are_sampled_and_hurt_nobody_else() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let folder = function.path().parent().expect("it lies in a folder");
    let agent = agent(&scope, &parent);
    let liars = liars();
    for (name, elf) in &liars {
        let program = elf.write(folder, name);
        run(&parent.child(&format!("{name}.1")), &program, &["fib", "--cpu-ms", "40"]);
        // Read later than it ran, as its symbols are: gone by then, half of the time.
        fs::write(&program, "").expect("empty the file");
    }
    run(&parent.child("good.1"), function.path(), &["fib", "--cpu-ms", "60"]);
    let said = agent.stop_in_order();
    assert!(!said.contains("panic"), "{said}");

    let rows = scope.instances(&[]);
    for (name, _) in &liars {
        let row = row(&rows, name);
        // 40 ms by its own clock are 39 samples and not less than half of them.
        assert!(row["samples"].as_u64() > Some(20), "{row:#}");
        let folded = scope.folded(name);
        for frame in
            folded.lines().filter_map(|line| line.rsplit_once(' ')).flat_map(|(stack, _)| stack.split(';'))
        {
            let of_a_module = frame.contains(" [") || frame.contains("+0x");
            assert!(of_a_module || frame.starts_with('['), "{name}: {frame}");
            assert!(frame.len() < 4096 && !frame.contains(char::is_control), "{name}: {frame}");
        }
        let own = [format!("[{name}]"), format!("{name}+0x")];
        assert!(own.iter().any(|own| folded.contains(own)), "{name} is not in its own profile:\n{folded}");
    }
    let frames = scope.top("good");
    assert_eq!((text(&frames[0], "frame"), text(&frames[0], "module")), ("function::fibonacci", "function"));
    let good = scope.folded("good");
    assert!(liars.iter().all(|(name, _)| !good.contains(name)), "{good}");
}

#[test]
fn a_symbol_forges_no_frame() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let folder = function.path().parent().expect("it lies in a folder");
    // In the place of the mangled name's end.
    let forgeries: [&[u8; 10]; 4] =
        [b"a;b _[k] 7", b"x [kernel]", b"\x1b[31mred\n\r", b"\xff\xfe\\x3b;\x07\t "];
    let agent = agent(&scope, &parent);
    for (nth, forged) in forgeries.iter().enumerate() {
        let mut elf = Elf::new();
        elf.rename("9fibonacci", *forged);
        let program = elf.write(folder, &format!("forger-{nth}"));
        run(&parent.child(&format!("forger-{nth}.1")), &program, &["fib", "--cpu-ms", "60"]);
    }
    agent.stop_in_order();
    for (nth, forged) in forgeries.iter().enumerate() {
        let name = format!("forger-{nth}");
        let frames = scope.top(&name);
        let hottest = &frames[0];
        let of = String::from_utf8_lossy(*forged);
        assert_eq!(
            (text(hottest, "module"), text(hottest, "kind")),
            (&*name, "native"),
            "{of:?}: {hottest:#}"
        );
        assert!(number(hottest, "self_share") > 0.7, "{of:?}: {hottest:#}");
        let folded = scope.run(["folded", &name]).stdout;
        assert!(!folded.contains(|c: char| c.is_control() && c != '\n'), "{folded:?}");
        // A line is a stack, what stands before its last blank is frames, and none is the kernel's but for its own.
        let kernel = folded.lines().flat_map(|line| line.split(';')).filter(|frame| frame.contains("_[k]"));
        for frame in kernel {
            let name = frame.rsplit_once(' ').filter(|(_, count)| count.parse::<u64>().is_ok());
            let frame = name.map_or(frame, |(frame, _)| frame);
            assert!(frame.ends_with(" [kernel]_[k]") && !frame.contains("forger"), "{frame} in:\n{folded}");
        }
        let counts = folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        assert_eq!(
            Some(counts.sum()),
            frames.iter().filter_map(|row| row["self_samples"].as_u64()).reduce(|a, b| a + b)
        );
    }
}

#[test]
fn a_program_that_is_deleted_as_soon_as_it_runs_is_named() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let agent = agent(&scope, &parent);
    let child = parent.child("deleted.1");
    let process = Running::start(&mut child.command(function.path(), &["fib", "--cpu-ms", "200"]));
    let exe = format!("/proc/{}/exe", process.pid());
    poll("its exec", || fs::read_link(&exe).ok().filter(|path| path == function.path()));
    fs::remove_file(function.path()).expect("delete the program");
    assert_eq!(process.wait().0, Some(0));
    drop(child);
    // Replaced by another one: what runs is the file that was mapped, not what the path leads to.
    let other = Function::new();
    let replaced = parent.child("replaced.1");
    let process = Running::start(&mut replaced.command(other.path(), &["fib", "--cpu-ms", "200"]));
    let exe = format!("/proc/{}/exe", process.pid());
    poll("its exec", || fs::read_link(&exe).ok().filter(|path| path == other.path()));
    let mut elf = Elf::new();
    elf.rename("9fibonacci", b"9impostors");
    let impostor = elf.write(other.path().parent().expect("it lies in a folder"), "impostor");
    fs::rename(impostor, other.path()).expect("replace the program");
    assert_eq!(process.wait().0, Some(0));
    agent.stop_in_order();
    for name in ["deleted", "replaced"] {
        let frames = scope.top(name);
        assert_eq!(
            (text(&frames[0], "frame"), text(&frames[0], "module")),
            ("function::fibonacci", "function")
        );
        assert!(number(&frames[0], "self_share") > 0.7, "{:#}", frames[0]);
        assert!(!scope.folded(name).contains("impostors"));
    }
}

#[test]
fn a_stack_that_is_too_deep_says_so_and_is_counted() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let agent = agent(&scope, &parent);
    for (name, depth) in [("deep", "2000"), ("shallow", "300")] {
        let arguments = ["deep", "--depth", depth, "--cpu-ms", "150"];
        run(&parent.child(&format!("{name}.1")), function.path(), &arguments);
    }
    agent.stop_in_order();
    let rows = scope.rows(&["ls"]);
    let of = |name: &str, key: &str| row(&rows, name)[key].as_u64().expect("a count");
    // All of its time is spent 2,000 frames down, but for the way there and the process's own beginning and end.
    assert!(of("deep", "truncated") * 10 > of("deep", "samples") * 9, "{rows:#?}");
    let folded = scope.run(["folded", "deep"]).stdout;
    let lines = folded.lines().filter_map(|line| Some((line.rsplit_once(' ')?.0, line)));
    for (stack, line) in lines.filter(|(stack, _)| stack.contains("function::burn [function]")) {
        assert!(stack.starts_with("[truncated];") && !stack.contains("function::main"), "{line}");
        // What was copied of the stack, or the limit on frames; kernel frames and the mark apart.
        let user = stack.split(';').filter(|frame| !frame.ends_with("_[k]")).count();
        assert!(user <= 513 && stack.matches("function::descend [function]").count() > 200, "{line}");
    }
    assert_eq!(of("shallow", "truncated"), 0, "{rows:#?}");
    let folded = scope.run(["folded", "shallow"]).stdout;
    let whole = folded.lines().filter(|line| line.contains("function::burn [function]"));
    for line in whole {
        assert!(line.contains("function::main [function];"), "{line}");
        // The last of them jumps into `burn`.
        let descends = line.matches("function::descend [function]").count();
        assert_eq!(descends, 300, "{line}");
    }
    let tree = scope.top("deep");
    assert_eq!(
        tree.iter()
            .filter(|row| text(row, "frame") == "[truncated]" && text(row, "kind") == "marker")
            .count(),
        1
    );
}

#[test]
fn a_program_that_only_its_user_may_read_is_named_by_who_has_no_right_to() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    // By chains alone: then the thread that names frames is the first to read the file, without any capability.
    let parent_path = parent.kernel_path();
    let arguments = ["--no-docker", "--hz", "997", "--unwind", "fp", "--cgroup-parent", &parent_path];
    let agent = scope.agent(&arguments);
    for (name, mode) in [("private.1", 0o700), ("executable.1", 0o711)] {
        std::os::unix::fs::chown(function.path(), Some(1000), Some(1000)).expect("give it away");
        fs::set_permissions(function.path(), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("shut it");
        run(&parent.child(name), function.path(), &["fib", "--cpu-ms", "60"]);
    }
    agent.stop_in_order();
    for name in ["private", "executable"] {
        let hottest = &scope.top(name)[0];
        assert!(text(hottest, "frame").contains("fibonacci"), "{hottest:#}");
    }
}
