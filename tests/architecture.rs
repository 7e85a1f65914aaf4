//! The rules of the house that a program can see, held over `src/**/*.rs`: which room may use which, where unsafe code
//! and other crates may stand, headers, lengths and names of files.
//!
//! Not here: a Rust parser. Comments and literals are blanked, the rest is read as a row of words and marks, which is
//! enough for paths. The tests at the end show each rule finding what it forbids.

use std::fs;
use std::path::{Path, PathBuf};

/// Stands for every room above in the table.
const EVERY: &str = "*";

/// Each room, which is a file or a folder of `src/`, and the rooms that it may use. A room stands below all it uses.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("sys", &["model"]),
    ("metrics", &[]),
    ("health", &["metrics"]),
    ("http", &["metrics", "health"]),
    ("identity", &["model"]),
    ("kubernetes", &["model", "identity"]),
    ("privilege", &["model", "sys"]),
    ("cgroup", &["model", "sys"]),
    ("discovery", &["model", "identity", "cgroup"]),
    ("runtime", &["model", "sys", "metrics", "identity", "cgroup"]),
    ("perf", &["model", "sys"]),
    ("stack", &["model", "sys"]),
    ("attribution", &["model", "cgroup"]),
    ("store", &["model"]),
    ("fold", &["model", "store"]),
    ("query", &["model", "store", "fold"]),
    ("render", &["model", "store", "fold", "query"]),
    ("exchange", &["model", "store", "fold", "query", "render"]),
    ("config", &["model", "identity"]),
    // The only wiring place below the command line.
    (
        "agent",
        &[
            "model",
            "sys",
            "metrics",
            "identity",
            "kubernetes",
            "privilege",
            "cgroup",
            "discovery",
            "runtime",
            "perf",
            "stack",
            "attribution",
            "store",
            "fold",
            "config",
        ],
    ),
    ("functions", &[]),
    // Every room above it.
    ("cli", &[EVERY]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Crates whose types stop at the place that talks to them.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["src/http/"]),
    ("bollard", &["src/runtime/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("clap_complete", &["src/cli/", "src/main.rs"]),
    ("clap_mangen", &["src/cli/", "src/main.rs"]),
    ("fxprof_processed_profile", &["src/exchange/firefox_out.rs"]),
    ("gimli", &["src/stack/"]),
    ("http_body_util", &["src/runtime/docker/http.rs"]),
    ("hyper", &["src/http/", "src/runtime/docker/http.rs"]),
    ("hyper_util", &["src/http/", "src/runtime/docker/http.rs", "src/runtime/grpc/"]),
    ("inferno", &["src/render/flame.rs"]),
    ("perf_event_open_sys", &["src/sys.rs", "src/sys/"]),
    ("ureq", &["src/stack/debuginfod.rs", "src/kubernetes/client.rs"]),
    ("prometheus_client", &["src/metrics/exposition.rs"]),
    (
        "prost",
        &[
            "src/exchange/pprof_wire.rs",
            "src/exchange/pprof_out.rs",
            "src/exchange/pprof_in.rs",
            "src/runtime/",
        ],
    ),
    ("prost_types", &["src/runtime/"]),
    ("tonic", &["src/runtime/"]),
    ("tonic_prost", &["src/runtime/grpc/"]),
    ("tower", &["src/runtime/grpc/"]),
];

/// Where unsafe code is.
const UNSAFE: &[&str] = &["src/sys.rs", "src/sys/"];

/// A file of more lines is two ideas.
const MAX_LINES: usize = 600;

/// Tables, which may be as long as what they list, and what a program has made.
const TABLES: &[&str] = &["src/runtime/grpc/containerd.rs", "src/runtime/grpc/cri.rs"];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

#[test]
fn the_house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 5, "the sources are where they are looked for");
    let mut faults = Vec::new();
    for file in &files {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        let path = file.strip_prefix(root).expect("found below the root").to_string_lossy().into_owned();
        check(&path, &text, &mut faults);
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_of_rooms_is_in_order() {
    for (at, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            let above = *used == EVERY || ROOMS[..at].iter().any(|(name, _)| name == used);
            assert!(above, "{room} uses {used}, which does not stand before it");
        }
    }
}

#[test]
fn every_room_is_on_the_maps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file of the project");
    let (map, reasons) = (read("src/lib.rs"), read("ARCHITECTURE.md"));
    let is_named = |line: &str, room: &str| line.starts_with('|') && line.contains(&format!("`{room}`"));
    for (room, _) in ROOMS.iter().filter(|(room, _)| !["main", "lib"].contains(room)) {
        assert!(map.contains(&format!("| [`{room}`] |")), "{room} is not in the map of src/lib.rs");
        assert!(reasons.lines().any(|line| is_named(line, room)), "{room} is not in ARCHITECTURE.md");
        let place = root.join("src").join(room);
        assert!(place.is_dir() || place.with_extension("rs").is_file(), "there is no {room}");
    }
}

/// Every violation in one file, as `path: what`.
fn check(path: &str, text: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{path}: {what}"));
    let within = |places: &[&str]| places.iter().any(|place| path.starts_with(place));

    if !text.trim_start().starts_with("//!") {
        fault("opens without a `//!` header".into());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !TABLES.contains(&path) {
        fault(format!("{lines} lines, {MAX_LINES} at most: one idea a file"));
    }
    let modules = modules_of(path);
    if let Some(name) = modules.iter().find(|name| EMPTY_NAMES.contains(&name.as_str())) {
        fault(format!("`{name}` says nothing: name the thing"));
    }
    // In two parts, so that this file may be read by its own rule.
    for place in [concat!("/wo", "rk/"), concat!("/tmp", "/w/")] {
        if text.contains(place) {
            fault(format!("names `{place}`, a path of one machine"));
        }
    }

    let words = words(&blanked(text));
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map_or("", String::as_str);
        if word == "unsafe" && !within(UNSAFE) {
            fault("unsafe code: it stands in sys.rs alone".into());
        }
        if ["todo", "unimplemented", "dbg"].contains(&word.as_str()) && next == "!" {
            fault(format!("`{word}!` is left"));
        }
        if word == "ignore" && at >= 2 && words[at - 1] == "[" && words[at - 2] == "#" {
            fault("a test that is ignored".into());
        }
        let after_path = at > 0 && ["::", "."].contains(&words[at - 1].as_str());
        if let Some((name, places)) = CRATES.iter().find(|(name, _)| name == word)
            && !after_path
            && (next == "::" || at > 0 && words[at - 1] == "use")
            && !within(places)
        {
            fault(format!("uses {name}, which may stand in {} alone", places.join(", ")));
        }
    }

    let room = modules.first().map_or("lib", String::as_str);
    let Some(at) = ROOMS.iter().position(|(name, _)| *name == room) else {
        fault(format!("room `{room}` is not in the table of tests/architecture.rs"));
        return;
    };
    let allowed = ROOMS[at].1;
    for used in rooms_used(&modules, &words) {
        let Some(used_at) = ROOMS.iter().position(|(name, _)| *name == used) else { continue };
        let may = allowed.contains(&used.as_str()) || (allowed.contains(&EVERY) && used_at < at);
        if used != room && !may {
            fault(format!("room `{room}` may not use room `{used}`"));
        }
    }
}

/// `src/store/journal.rs` is `[store, journal]`, `src/store/mod.rs` is `[store]`, `src/lib.rs` is nothing.
fn modules_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    inner.split('/').filter(|name| *name != "lib").map(String::from).collect()
}

/// First names of all paths that begin at the crate's root: by `crate::`, by the crate's own name, or by enough
/// `super::`, alone or in a group of a `use`. Unit tests are left out: they may look at how two rooms meet.
fn rooms_used(file: &[String], words: &[String]) -> Vec<String> {
    let mut used = Vec::new();
    // Where we are, inline modules counted; each brace that is open remembers whether it is one.
    let mut depth = file.len();
    let mut braces = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "{" if opens_unit_tests(&words[..at]) => at = end_of_block(words, at),
            "{" => {
                let inline = at >= 2 && words[at - 2] == "mod";
                braces.push(inline);
                depth += usize::from(inline);
            }
            "}" => depth -= usize::from(braces.pop().unwrap_or(false)),
            // A segment of a path that has begun elsewhere: `std::crate_name::…` is none of ours.
            _ if at > 0 && words[at - 1] == "::" => {}
            "crate" | "fnscope" => first_names(words, at + 1, &mut used),
            "super" => {
                let mut levels = 1;
                while words.get(at + 1).is_some_and(|w| w == "::")
                    && words.get(at + 2).is_some_and(|w| w == "super")
                {
                    levels += 1;
                    at += 2;
                }
                if levels >= depth {
                    first_names(words, at + 1, &mut used);
                }
            }
            _ => {}
        }
        at += 1;
    }
    used.sort();
    used.dedup();
    used
}

/// Whether `#[cfg(test)] mod NAME` is what stands last.
fn opens_unit_tests(words: &[String]) -> bool {
    let Some((_name, before)) = words.split_last() else { return false };
    before.iter().rev().map(String::as_str).take(8).eq(["mod", "]", ")", "test", "(", "cfg", "[", "#"])
}

/// Where the block that opens at `at` closes; the end if it does not.
fn end_of_block(words: &[String], at: usize) -> usize {
    let mut depth = 0_usize;
    for (position, word) in words.iter().enumerate().skip(at) {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return position;
        }
    }
    words.len()
}

/// The names behind `::` at `at`: one, or those at the top level of a group.
fn first_names(words: &[String], at: usize, used: &mut Vec<String>) {
    if words.get(at).is_none_or(|word| word != "::") {
        return;
    }
    let Some(first) = words.get(at + 1) else { return };
    if first != "{" {
        used.push(first.clone());
        return;
    }
    let mut depth = 0;
    let mut begins = false;
    for word in &words[at + 1..] {
        match word.as_str() {
            "{" => {
                depth += 1;
                begins = depth == 1;
            }
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," => begins = depth == 1,
            name if begins => {
                used.push(name.into());
                begins = false;
            }
            _ => {}
        }
    }
}

/// Words (identifiers, numbers), `::`, and every other mark by itself.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(more) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(more);
            }
            words.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            words.push("::".into());
        } else if !c.is_whitespace() {
            words.push(c.into());
        }
    }
    words
}

/// The text without comments and without what stands in string and character literals.
fn blanked(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let is = |at: usize, what: char| bytes.get(at) == Some(&what);
    let mut out = String::new();
    let mut at = 0;
    while let Some(&c) = bytes.get(at) {
        let in_word = at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_');
        if c == '/' && is(at + 1, '/') {
            while at < bytes.len() && !is(at, '\n') {
                at += 1;
            }
        } else if c == '/' && is(at + 1, '*') {
            let mut depth = 0;
            loop {
                if is(at, '/') && is(at + 1, '*') {
                    depth += 1;
                    at += 2;
                } else if is(at, '*') && is(at + 1, '/') {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || at >= bytes.len() {
                    break;
                }
            }
            out.push(' ');
        } else if let Some(hashes) =
            raw_string(&bytes, at).filter(|_| !in_word || bytes[at - 1] == 'b' || bytes[at - 1] == 'c')
        {
            at += 2 + hashes;
            while at < bytes.len() && !(is(at, '"') && (1..=hashes).all(|n| is(at + n, '#'))) {
                at += 1;
            }
            at += 1 + hashes;
            out.push(' ');
        } else if c == '"' {
            at += 1;
            while at < bytes.len() && !is(at, '"') {
                at += if is(at, '\\') { 2 } else { 1 };
            }
            at += 1;
            out.push(' ');
        } else if c == '\'' && is(at + 1, '\\') {
            at += 3;
            while at < bytes.len() && !is(at, '\'') {
                at += 1;
            }
            at += 1;
            out.push(' ');
        } else if c == '\'' && is(at + 2, '\'') {
            at += 3;
            out.push(' ');
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

/// The number of `#` if a raw string begins at `at`.
fn raw_string(text: &[char], at: usize) -> Option<usize> {
    if text.get(at) != Some(&'r') {
        return None;
    }
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    (text.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder of our own can be read to its end").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn each_rule_finds_what_it_forbids() {
    let long = "// x\n".repeat(MAX_LINES);
    for (path, text, fault) in [
        ("src/perf/ring.rs", "use crate::store::Journal;", "room `perf` may not use room `store`"),
        (
            "src/perf/ring.rs",
            "use crate::{model::Pid, runtime::{self, Docker}};",
            "may not use room `runtime`",
        ),
        ("src/perf/ring.rs", "use crate::{self, sys, stack};", "may not use room `stack`"),
        ("src/perf/ring.rs", "fn f() { g(); crate::agent::run() }", "may not use room `agent`"),
        ("src/perf/ring.rs", "use super::super::agent;", "may not use room `agent`"),
        ("src/perf/mod.rs", "use super::agent;", "may not use room `agent`"),
        ("src/fold.rs", "mod tests { use super::super::query; }", "may not use room `query`"),
        (
            "src/fold.rs",
            "#[cfg(test)] mod tests { fn f() {} }\nfn g() { crate::query::h() }",
            "may not use room `query`",
        ),
        ("src/perf/ring.rs", "/* a /* b */ */ pub(crate) use crate::cli::x;", "may not use room `cli`"),
        ("src/main.rs", "use fnscope::agent;", "room `main` may not use room `agent`"),
        ("src/novel.rs", "", "room `novel` is not in the table"),
        ("src/perf/ring.rs", "fn f() { unsafe { g() } }", "unsafe code"),
        ("src/perf/ring.rs", "fn f() { todo!() }", "`todo!` is left"),
        ("src/perf/ring.rs", "fn f() { dbg!(1); }", "`dbg!` is left"),
        ("src/perf/ring.rs", "#[test]\n#[ignore]\nfn f() {}", "a test that is ignored"),
        ("src/render/table.rs", "use inferno::flamegraph;", "uses inferno"),
        ("src/agent.rs", "fn f(d: bollard::Docker) {}", "uses bollard"),
        ("src/config.rs", "use clap::Parser;", "uses clap"),
        ("src/perf/ring.rs", "use perf_event_open_sys as sys;", "uses perf_event_open_sys"),
        ("src/perf/util.rs", "", "`util` says nothing"),
        ("src/perf/ring.rs", &long, "601 lines"),
        ("src/perf/ring.rs", concat!("// see /wo", "rk/x"), "a path of one machine"),
    ] {
        let mut faults = Vec::new();
        check(path, &format!("//! A header.\n{text}"), &mut faults);
        assert!(matches!(&faults[..], [one] if one.contains(fault)), "{path} {text:.60}: {faults:?}");
    }
    let mut faults = Vec::new();
    check("src/perf/ring.rs", "use std::fmt;", &mut faults);
    assert!(faults[0].contains("`//!` header"), "{faults:?}");
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (path, text) in [
        (
            "src/perf/ring.rs",
            "use crate::{model::{Pid, frame}, sys};\nuse super::order;\nuse std::sync::mpsc;",
        ),
        ("src/perf/ring.rs", "mod tests { use super::super::order; fn f() {} }"),
        (
            "src/perf/ring.rs",
            "/// Not [`crate::store`], and no unsafe.\n// crate::store\n/* crate::store */ fn f() {}",
        ),
        (
            "src/perf/ring.rs",
            "const A: &str = \"crate::store \\\" unsafe\"; const B: &str = r#\"crate::store\" todo!\"#;",
        ),
        (
            "src/perf/ring.rs",
            "const A: char = '\"'; const B: char = '\\''; fn f<'a>(x: &'a str) -> char { 'u' }",
        ),
        ("src/perf/ring.rs", "let clap = 1; x.inferno; // unsafe\n"),
        ("src/sys.rs", "fn f() { unsafe { perf_event_open_sys::ioctls::ENABLE(0, 0) } }"),
        ("src/sys/ring.rs", "unsafe fn f() {}"),
        ("src/cli/top.rs", "use clap::Args; use crate::agent::run;"),
        ("src/render/flame.rs", "use inferno::flamegraph::Options;"),
        ("src/lib.rs", "pub mod cli;"),
        ("src/runtime/mod.rs", "#[cfg(test)]\nmod tests { use crate::identity::identify; fn f() {} }"),
    ] {
        let mut faults = Vec::new();
        check(path, &format!("//! A header.\n{text}"), &mut faults);
        assert!(faults.is_empty(), "{path} {text}: {faults:?}");
    }
}
