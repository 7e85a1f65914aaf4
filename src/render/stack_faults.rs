//! The answer of `doctor FUNCTION`: what makes a function's stacks poor, and what would mend it; text and JSON.
//!
//! A table of rules over what was counted. Promises: the same numbers, the same words; no advice where nothing is wrong.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::answers::or_unknown;
use super::{escape, time};
use crate::model::FrameKind;
use crate::query::{AnonymousCode, KERNEL_MAX_STACK, ShortEnd, StackFaults, UnnamedModule};

/// What less of the samples show is not told.
const LEAST_SHARE: f64 = 0.005;
/// Coverage below this is told.
const LEAST_COVERAGE: f64 = 0.9;
/// Names of a kind that are told, those with the most samples.
const MOST_NAMES: usize = 5;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What kind of fault.
    pub fault: &'static str,
    /// Whose: a module or a thread's name, unescaped.
    pub of: Option<String>,
    /// Samples that show it.
    pub samples: u64,
    /// Them as a share of all.
    pub share: f64,
    /// What was found, in words; names in it are unescaped.
    pub found: String,
    /// What would mend it.
    pub mend: String,
}

/// A rule: what it is called, and where it holds: whose, how many samples, what was found, what mends it.
struct Rule {
    fault: &'static str,
    holds: fn(&StackFaults) -> Vec<Case>,
}

struct Case {
    of: Option<String>,
    samples: u64,
    found: String,
    mend: String,
}

impl Case {
    fn new(samples: u64, found: impl Into<String>, mend: impl Into<String>) -> Vec<Case> {
        vec![Case { of: None, samples, found: found.into(), mend: mend.into() }]
    }
}

const RULES: &[Rule] = &[
    Rule { fault: "short", holds: |faults| faults.short_at.iter().map(short).collect() },
    Rule {
        fault: "truncated",
        holds: |faults| {
            Case::new(
                faults.truncated_deep,
                format!("are deeper than the {KERNEL_MAX_STACK} frames that the kernel walks"),
                "sysctl kernel.perf_event_max_stack=512, then start the agent again",
            )
        },
    },
    Rule {
        fault: "truncated",
        holds: |faults| {
            Case::new(
                faults.quality.truncated.saturating_sub(faults.truncated_deep),
                "are deeper than what is copied of them",
                "raise stack.copy_bytes in the configuration (65528 at most); where frame pointers are followed, \
                 kernel.perf_event_max_stack",
            )
        },
    },
    Rule {
        fault: "guessed",
        holds: |faults| {
            Case::new(
                faults.quality.guessed,
                "have frames that were found by scanning, for want of unwind tables",
                "build that code with unwind tables (-fasynchronous-unwind-tables) or frame pointers; \
                 stack.scan = \"off\" leaves such frames out",
            )
        },
    },
    Rule { fault: "unnamed", holds: |faults| faults.unnamed.iter().map(unnamed).collect() },
    Rule { fault: "jit", holds: |faults| faults.anonymous.iter().map(anonymous).collect() },
    Rule {
        fault: "unknown",
        holds: |faults| {
            Case::new(
                faults.unknown,
                "have code in no mapping that was seen",
                "see that the agent runs before the function does, and that `fnscope hosts` tells of no loss",
            )
        },
    },
    Rule {
        fault: "kernel-names",
        holds: |faults| {
            Case::new(
                faults.kernel_unreadable,
                "have kernel code without names",
                "sysctl kernel.kptr_restrict=1 and run the agent with CAP_SYSLOG",
            )
        },
    },
    Rule {
        fault: "damaged",
        holds: |faults| {
            Case::new(
                faults.damaged,
                "had their stacks in a damaged part of the store",
                "nothing brings them back; the warnings above name the files",
            )
        },
    },
    Rule {
        fault: "lost",
        holds: |faults| {
            Case::new(
                faults.lost,
                "more were lost, an estimate",
                "raise ring_budget_bytes or lower hz in the configuration; `fnscope hosts` tells on which host",
            )
        },
    },
    Rule {
        fault: "coverage",
        holds: |faults| {
            let low = faults.coverage.filter(|share| *share < LEAST_COVERAGE);
            low.map_or_else(Vec::new, |share| {
                Case::new(
                    faults.samples,
                    format!("stand for {} of the CPU time that the kernel counted", time::share(share)),
                    "look for lost samples with `fnscope hosts`; kernel code with interrupts off is never seen",
                )
            })
        },
    },
];

fn short(end: &ShortEnd) -> Case {
    let module = end.module.as_deref().unwrap_or("no module");
    let mend = match (end.kind, module) {
        (FrameKind::Kernel, _) => {
            "nothing, where it is a process on its way in or out: only the kernel's side was seen".into()
        }
        (FrameKind::Jit, _) | (_, "anon" | "jit") => "code made at run time has no unwind tables; have its \
             runtime keep frame pointers (java -XX:+PreserveFramePointer), or stack.unwind = \"auto\""
            .into(),
        (_, "unknown") => {
            "see that the agent runs before the function does, and that `fnscope hosts` tells of \
             no loss"
                .into()
        }
        (_, module) if module.starts_with("ld-musl") || module.starts_with("libc.musl") => {
            "musl's assembly has no unwind tables: stack.scan = \"on\"".into()
        }
        (_, module) => format!(
            "stack.unwind = \"auto\" in the configuration, if it is \"fp\"; else build {module} with unwind \
             tables (-fasynchronous-unwind-tables) or frame pointers (-fno-omit-frame-pointer)"
        ),
    };
    let found = format!("end short next to code of {module}");
    Case { of: end.module.clone(), samples: end.samples, found, mend }
}

fn unnamed(row: &UnnamedModule) -> Case {
    let module = &row.module;
    let (found, mend) = match (module.as_str(), row.has_starts, row.has_symbols) {
        ("kernel", _, _) => (
            "have kernel code that no symbol covers".into(),
            "nothing: it is that of a module or a BPF program that is gone".into(),
        ),
        (_, true, _) => (
            format!("have functions of {module} without names: it is stripped"),
            "install its debug symbols by build id in /usr/lib/debug (stack.debug_dirs), or set stack.debuginfod"
                .into(),
        ),
        (_, false, true) => (
            format!("have code of {module} that lies outside of every function it lists"),
            "install its debug symbols by build id in /usr/lib/debug (stack.debug_dirs), or set stack.debuginfod"
                .into(),
        ),
        (_, false, false) => (
            format!("have code of {module}, which was gone before it could be opened, or lists no function"),
            "`fnscope doctor` tells which rights are missing; for processes of a few milliseconds \
             stack.realtime = \"on\""
                .into(),
        ),
    };
    Case { of: Some(module.clone()), samples: row.samples, found, mend }
}

/// A runtime that makes code while it runs: begins of names of its threads and of its modules, and what makes it write
/// a perf map.
struct Runtime {
    comms: &'static [&'static str],
    modules: &'static [&'static str],
    mend: &'static str,
}

const RUNTIMES: &[Runtime] = &[
    Runtime {
        comms: &["node"],
        modules: &["node", "libnode.so"],
        mend: "run node with --perf-basic-prof (NODE_OPTIONS=--perf-basic-prof)",
    },
    Runtime {
        comms: &["dotnet", ".NET"],
        modules: &["libcoreclr.so", "libclrjit.so"],
        mend: "set DOTNET_PerfMapEnabled=1",
    },
    Runtime {
        comms: &["java"],
        modules: &["libjvm.so"],
        mend: "have Java write a perf map (Java 17 on): jcmd PID Compiler.perfmap",
    },
    Runtime {
        comms: &["python", "gunicorn"],
        modules: &["python", "libpython"],
        mend: "run python with -X perf (3.12 on; PYTHONPERFSUPPORT=1)",
    },
    Runtime {
        comms: &["ruby", "puma"],
        modules: &["ruby", "libruby"],
        mend: "run ruby with --yjit-perf (3.3 on)",
    },
    Runtime { comms: &["php"], modules: &["php", "libphp", "opcache.so"], mend: "set opcache.jit_debug=16" },
    Runtime {
        comms: &["luajit"],
        modules: &["luajit", "libluajit"],
        mend: "build LuaJIT with -DLUAJIT_USE_PERFTOOLS",
    },
    Runtime { comms: &["beam.smp", "erl_"], modules: &["beam.smp"], mend: "run erl with +JPperf true" },
    Runtime { comms: &["wasmtime"], modules: &["wasmtime"], mend: "run wasmtime with --profile=perfmap" },
];

fn anonymous(code: &AnonymousCode) -> Case {
    let begins = |begins: &[&str], name: &str| begins.iter().any(|begin| name.starts_with(begin));
    // Threads may be called anything; the file that a runtime lies in tells more.
    let by_module = RUNTIMES.iter().find(|of| code.modules.iter().any(|module| begins(of.modules, module)));
    let runtime = by_module.or_else(|| RUNTIMES.iter().find(|of| begins(of.comms, &code.comm)));
    let mend = match runtime {
        Some(runtime) => runtime.mend,
        None => "have its runtime write /tmp/perf-PID.map, if it can",
    };
    let of = Some(code.comm.clone()).filter(|comm| !comm.is_empty());
    let by = of.as_ref().map(|comm| format!(" by {comm}")).unwrap_or_default();
    Case {
        of,
        samples: code.samples,
        found: format!("have code without names, made at run time{by}"),
        mend: format!("{mend}; stack.perf_maps must be \"on\", as it is unless set"),
    }
}

/// What is wrong, most samples first.
pub fn findings(faults: &StackFaults) -> Vec<Finding> {
    let mut all = Vec::new();
    for rule in RULES {
        let mut cases = (rule.holds)(faults);
        // Those with the most samples come first.
        cases.truncate(MOST_NAMES);
        all.extend(cases.into_iter().map(|case| Finding {
            fault: rule.fault,
            of: case.of,
            samples: case.samples,
            share: share(case.samples, faults.samples),
            found: case.found,
            mend: case.mend,
        }));
    }
    all.retain(|finding| finding.samples > 0 && finding.share >= LEAST_SHARE);
    all.sort_by_key(|finding| std::cmp::Reverse(finding.samples));
    all
}

fn share(samples: u64, of: u64) -> f64 {
    samples as f64 / of.max(1) as f64
}

/// The counts of how stacks are, in the order they are told.
fn counts(faults: &StackFaults) -> [(&'static str, u64); 6] {
    let quality = faults.quality;
    [
        ("complete", quality.complete),
        ("short", quality.short),
        ("truncated", quality.truncated),
        ("guessed", quality.guessed),
        ("named", quality.named(faults.samples)),
        ("unsymbolized", quality.unsymbolized),
    ]
}

/// The answer for people; `title` says whose stacks they are.
pub fn text(title: &str, faults: &StackFaults) -> String {
    let mut text = format!("{}: {} samples\n", escape::line(title), time::count(faults.samples));
    for (name, samples) in counts(faults) {
        let share = time::share(share(samples, faults.samples));
        let _ = writeln!(text, "  {name:<14}{share:>8}  {}", time::count(samples));
    }
    let _ = writeln!(text, "  {:<14}{:>8}", "coverage", or_unknown(faults.coverage.map(time::share)));
    let _ = writeln!(text, "  {:<14}{:>8}", "lost", time::count(faults.lost));
    let findings = findings(faults);
    if findings.is_empty() {
        text.push_str("ok    nothing makes its stacks poor\n");
    }
    for finding in findings {
        let (share, samples) = (time::share(finding.share), time::count(finding.samples));
        let found = escape::line(&finding.found).into_owned();
        let _ = writeln!(text, "warn  {}: {share} ({samples} samples) {found}", finding.fault);
        let _ = writeln!(text, "      to mend it: {}", escape::line(&finding.mend));
    }
    text
}

/// The answer for programs.
pub fn json(faults: &StackFaults) -> Value {
    let count = |(name, samples): (&str, u64)| {
        (name.to_string(), json!({ "samples": samples, "share": share(samples, faults.samples) }))
    };
    let finding = |finding: Finding| {
        json!({
            "fault": finding.fault,
            "of": finding.of,
            "samples": finding.samples,
            "share": finding.share,
            "found": finding.found,
            "mend": finding.mend,
        })
    };
    json!({
        "samples": faults.samples,
        "stacks": counts(faults).into_iter().map(count).collect::<serde_json::Map<_, _>>(),
        "coverage": faults.coverage,
        "lost": faults.lost,
        "findings": findings(faults).into_iter().map(finding).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QualityCounts;

    fn whole() -> StackFaults {
        let quality = QualityCounts { complete: 1_000, ..QualityCounts::default() };
        StackFaults { samples: 1_000, quality, coverage: Some(1.0), ..StackFaults::default() }
    }

    fn unnamed(module: &str, has_starts: bool, has_symbols: bool) -> StackFaults {
        let row = UnnamedModule { module: module.into(), samples: 300, has_starts, has_symbols };
        StackFaults { unnamed: vec![row], ..whole() }
    }

    fn short(module: Option<&str>, kind: FrameKind) -> StackFaults {
        let end = ShortEnd { module: module.map(str::to_string), kind, samples: 300 };
        StackFaults { short_at: vec![end], ..whole() }
    }

    fn jit(comm: &str, modules: &[&str]) -> StackFaults {
        let modules = modules.iter().map(|module| module.to_string()).collect();
        let code = AnonymousCode { comm: comm.into(), modules, samples: 300 };
        StackFaults { anonymous: vec![code], ..whole() }
    }

    fn quality(quality: QualityCounts) -> StackFaults {
        StackFaults { quality, ..whole() }
    }

    #[test]
    fn each_fault_has_its_cure() {
        let truncated = QualityCounts { truncated: 300, ..QualityCounts::default() };
        let guessed = QualityCounts { guessed: 300, ..QualityCounts::default() };
        for (faults, fault, mend) in [
            (short(Some("libc.so.6"), FrameKind::Native), "short", "stack.unwind = \"auto\""),
            (short(Some("ld-musl-x86_64.so.1"), FrameKind::Native), "short", "stack.scan = \"on\""),
            (short(Some("anon"), FrameKind::Native), "short", "PreserveFramePointer"),
            (short(Some("kernel"), FrameKind::Kernel), "short", "on its way in or out"),
            (quality(truncated), "truncated", "stack.copy_bytes"),
            (StackFaults { truncated_deep: 300, ..quality(truncated) }, "truncated", "perf_event_max_stack"),
            (quality(guessed), "guessed", "stack.scan = \"off\""),
            (unnamed("app", true, true), "unnamed", "stack.debuginfod"),
            (unnamed("app", false, true), "unnamed", "/usr/lib/debug"),
            (unnamed("app", false, false), "unnamed", "stack.realtime"),
            (unnamed("kernel", false, true), "unnamed", "BPF"),
            (jit("node", &[]), "jit", "--perf-basic-prof"),
            (jit("my server", &["libc.so.6", "node"]), "jit", "--perf-basic-prof"),
            (jit(".NET TP Worker", &[]), "jit", "DOTNET_PerfMapEnabled=1"),
            (jit("C2 CompilerThre", &["libjvm.so"]), "jit", "Compiler.perfmap"),
            (jit("x", &[]), "jit", "/tmp/perf-PID.map"),
            (StackFaults { unknown: 300, ..whole() }, "unknown", "fnscope hosts"),
            (StackFaults { kernel_unreadable: 300, ..whole() }, "kernel-names", "kptr_restrict"),
            (StackFaults { damaged: 300, ..whole() }, "damaged", "name the files"),
            (StackFaults { lost: 300, ..whole() }, "lost", "ring_budget_bytes"),
        ] {
            let found = findings(&faults);
            let [finding] = found.as_slice() else { panic!("{fault}: {found:#?}") };
            assert_eq!((finding.fault, finding.samples, finding.share), (fault, 300, 0.3));
            assert!(finding.mend.contains(mend), "{fault}: {}", finding.mend);
            let text = text("pi", &faults);
            assert!(text.contains(&format!("warn  {fault}: 30.0 % (300 samples)")), "{text}");
        }
        let low = StackFaults { coverage: Some(0.5), ..whole() };
        assert_eq!(findings(&low).iter().map(|finding| finding.fault).collect::<Vec<_>>(), ["coverage"]);
    }

    #[test]
    fn a_sound_function_is_told_so_and_little_is_nothing() {
        let mut faults = short(Some("libc.so.6"), FrameKind::Native);
        faults.short_at[0].samples = 4;
        for faults in [whole(), faults, StackFaults { coverage: None, ..whole() }] {
            assert!(findings(&faults).is_empty());
            assert!(text("pi", &faults).ends_with("ok    nothing makes its stacks poor\n"));
        }
    }

    #[test]
    fn names_of_strangers_cannot_act() {
        let hostile = "\u{1b}[2Jx\nwarn  y\u{202e}";
        let text = text(hostile, &StackFaults { ..jit(hostile, &[]) });
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("warn")).count(), 1, "{text}");
    }
}
