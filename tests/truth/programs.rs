//! Builds of the truth programs, as images that hold nothing else, run in Docker.
//!
//! Needs gcc; g++, musl-tools, rustc and golang for the builds that use them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use fnscope::model::frame::{Frame, FrameName};
use serde_json::Value;

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// gcc.
    C,
    /// g++.
    Cpp,
    /// rustc.
    Rust,
    /// Go.
    Go,
}

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// As the compiler does unasked.
    Usual,
    /// With everything in it, glibc too.
    Static,
    /// With everything in it, and musl.
    Musl,
}

/// How a program is built.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Unique; also the function's name.
    pub name: &'static str,
    /// Its language.
    pub language: Language,
    /// How it is linked.
    pub link: Link,
    /// Without symbols.
    pub stripped: bool,
    /// With frame pointers, in leaf functions too.
    pub frame_pointers: bool,
    /// Builds of different numbers differ in their build ids and their content, and in nothing else; 0: as usual.
    pub variant: u32,
}

impl Build {
    /// An ordinary one: optimized, no frame pointers, with symbols.
    pub const fn new(name: &'static str, language: Language, link: Link) -> Build {
        Build { name, language, link, stripped: false, frame_pointers: false, variant: 0 }
    }

    /// The same, stripped, under another name.
    pub const fn stripped(self, name: &'static str) -> Build {
        Build { name, stripped: true, ..self }
    }
}

/// What a program told at its end.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// CPU time of each leaf function in nanoseconds.
    pub leaves: HashMap<String, f64>,
    /// CPU time since `main` began.
    pub cpu_ns: f64,
    /// How often a leaf was called: units of work.
    pub calls: f64,
    /// Go's own profile, in base64.
    pub pprof: String,
}

impl Told {
    /// Reads a program's last line.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(said: &str) -> anyhow::Result<Told> {
        let line = said.lines().last().unwrap_or_default();
        let told: Value = serde_json::from_str(line).with_context(|| format!("the program said {said:?}"))?;
        let number = |key: &str| told[key].as_f64().with_context(|| format!("no `{key}` in {line}"));
        let leaves = told["leaves"].as_object().context("no `leaves`")?;
        Ok(Told {
            leaves: leaves.iter().map(|(name, ns)| (name.clone(), ns.as_f64().unwrap_or(f64::NAN))).collect(),
            cpu_ns: number("cpu_ns")?,
            calls: number("calls")?,
            pprof: told["pprof"].as_str().unwrap_or_default().into(),
        })
    }

    /// Adds another run of the same program.
    pub fn add(&mut self, other: &Told) {
        other.leaves.iter().for_each(|(name, ns)| *self.leaves.entry(name.clone()).or_default() += ns);
        self.cpu_ns += other.cpu_ns;
        self.calls += other.calls;
    }
}

/// A truth program as an image of the host's Docker. Dropped: the image is removed.
pub struct Program {
    /// How it was built.
    pub build: Build,
    /// The image.
    pub image: String,
    /// Function starts of the twin with symbols, for a stripped one.
    starts: HashMap<u64, String>,
    dir: tempfile::TempDir,
}

impl Program {
    /// Builds it and makes the image.
    ///
    /// # Errors
    /// If a compiler is missing or fails, or Docker does not take the image.
    pub fn make(build: Build) -> anyhow::Result<Program> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("root");
        fs::create_dir(&root)?;
        let program = root.join("truth");
        compile(build, &program)?;
        let mut starts = HashMap::new();
        if build.stripped && build.language != Language::Go {
            starts = function_starts(&program)?;
            run(Command::new("strip").arg(&program))?;
        }
        if has_plugin(build) {
            let library = root.join("libtruth.so");
            let mut gcc = Command::new("gcc");
            run(gcc
                .args(pointers(build))
                .args(["-O2", "-shared", "-fPIC", "-o"])
                .arg(&library)
                .arg(source("plugin.c")))?;
            if build.stripped {
                starts.extend(function_starts(&library)?);
                run(Command::new("strip").arg(&library))?;
            }
        }
        if build.link == Link::Usual && build.language != Language::Go {
            copy_libraries(&program, &root)?;
        }
        let archive = dir.path().join("image.tar");
        run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
        let image = format!("fnscope-test/truth-{}-{}:{}", build.name, build.variant, std::process::id());
        let entry = r#"ENTRYPOINT ["/truth"]"#;
        run(Command::new("docker").args(["import", "--change", entry]).arg(&archive).arg(&image))?;
        Ok(Program { build, image, starts, dir })
    }

    /// The program's file on this host.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("root/truth")
    }

    /// Runs a container of it to its end and removes it, as a person would; what it told. `function` is the label that
    /// names it.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn run(&self, function: &str, arguments: &[&str]) -> anyhow::Result<Told> {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--network",
            "none",
            "--label",
            &format!("fnscope.function={function}"),
        ]);
        let output = command.arg(&self.image).args(arguments).stdin(Stdio::null()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker run {}: {}: {complaint}", self.image, output.status);
        Told::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// The symbol of the twin that begins at `start`, for a stripped program.
    pub fn symbol_at(&self, start: u64) -> Option<String> {
        self.starts.get(&start).cloned()
    }

    /// Whether `frame`, one of the program's own, has the name it can have.
    pub fn names(&self, frame: &Frame) -> bool {
        match &frame.name {
            FrameName::Symbol(_) => true,
            FrameName::FunctionStart(start) => self.starts.contains_key(start),
            FrameName::Offset(_) | FrameName::Marker(_) => false,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let remove = Command::new("docker").args(["image", "rm", "--force", &self.image]).output();
        if let Err(error) = remove {
            eprintln!("remove image {}: {error}", self.image);
        }
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

fn has_plugin(build: Build) -> bool {
    build.link == Link::Usual && matches!(build.language, Language::C | Language::Cpp)
}

fn pointers(build: Build) -> &'static [&'static str] {
    match (build.frame_pointers, build.language) {
        (false, _) => &[],
        (true, Language::Rust) => &["-C", "force-frame-pointers=yes"],
        (true, _) => &["-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"],
    }
}

fn compile(build: Build, program: &Path) -> anyhow::Result<()> {
    let (compiler, file) = match (build.language, build.link) {
        (Language::C, Link::Musl) => ("musl-gcc", "truth.c"),
        (Language::C, _) => ("gcc", "truth.c"),
        (Language::Cpp, Link::Musl) => bail!("there is no C++ for musl here"),
        (Language::Cpp, _) => ("g++", "truth.cpp"),
        (Language::Rust, _) => ("rustc", "truth.rs"),
        (Language::Go, _) => ("go", "truth.go"),
    };
    let mut command = Command::new(compiler);
    let id = (build.variant != 0).then(|| format!("-Wl,--build-id=0x{:040x}", build.variant));
    match build.language {
        Language::C | Language::Cpp => {
            command.args(["-O2", "-Wall", "-pthread"]).args(pointers(build));
            command.args(has_plugin(build).then_some("-DTRUTH_PLUGIN"));
            command.args((build.link != Link::Usual).then_some("-static")).args(id);
        }
        Language::Rust => {
            command.args(["--edition", "2024", "-C", "opt-level=2"]).args(pointers(build));
            command.args(id.map(|id| format!("-Clink-arg={id}")));
            if build.link == Link::Static {
                // With the target named, build scripts' and host's flags stay apart.
                let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
                command.args(["--target", &target, "-C", "target-feature=+crt-static"]);
            }
        }
        Language::Go => {
            command.arg("build").env("CGO_ENABLED", "0").env("GO111MODULE", "off");
            let flags = if build.stripped { "-s -w" } else { "" };
            command.args(["-ldflags", &format!("{flags} -buildid=truth-{}", build.variant)]);
        }
    }
    run(command.arg("-o").arg(program).arg(source(file)))
}

/// Every symbol of `file` by where it begins.
fn function_starts(file: &Path) -> anyhow::Result<HashMap<u64, String>> {
    let output =
        Command::new("nm").args(["--demangle", "--defined-only"]).arg(file).output().context("run nm")?;
    ensure!(output.status.success(), "nm {}: {}", file.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let mut fields = line.splitn(3, ' ');
        let start = u64::from_str_radix(fields.next()?, 16).ok()?;
        fields.next().filter(|kind| "tTwWiu".contains(kind))?;
        Some((start, fields.next()?.to_owned()))
    };
    // Several names for a start: the program's own counts.
    let mut starts = HashMap::new();
    for (start, symbol) in text.lines().filter_map(line) {
        if super::graph::own_name(&symbol).is_some() || !starts.contains_key(&start) {
            starts.insert(start, symbol);
        }
    }
    Ok(starts)
}

/// Copies the loader and the libraries of `program` into `root`, where the loader looks for them.
fn copy_libraries(program: &Path, root: &Path) -> anyhow::Result<()> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().context("a library lies in a folder")?)?;
        fs::copy(path, &inside).with_context(|| format!("copy {path}"))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {name}; install {}", package(name.as_ref())))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    Ok(())
}

/// The Debian package that has `program`.
fn package(program: &OsStr) -> &'static str {
    match program.to_str() {
        Some("musl-gcc") => "musl-tools",
        Some("go") => "golang-go",
        Some("g++") => "g++",
        Some("docker") => "docker.io",
        _ => "gcc and binutils",
    }
}
