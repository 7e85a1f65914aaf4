//! The questions as a person and a program ask them: names that are wrong or mean too much, windows, shapes of JSON,
//! stores that are none, and stores that are damaged. Needs no rights.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::answers::{FUNCTION_KEYS, INSTANCE_KEYS, assert_phases, keys, text};
use crate::made_store::{LIVES, Life, at, made, writer};
use crate::store_faults::copy;
use crate::support::{Ended, Fnscope};

fn scope() -> Fnscope {
    let scope = Fnscope::new();
    made(scope.store());
    scope
}

fn fails(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    for says in says {
        assert!(ended.stderr.contains(says), "`{says}` in {}", ended.stderr);
    }
}

/// The samples in folded text.
fn count(folded: &str) -> u64 {
    folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn a_name_that_is_wrong_is_answered_with_those_that_are_right() {
    let scope = scope();
    for question in ["top", "folded", "flame", "instances"] {
        let ended = scope.run([question, "fibb"]);
        fails(&ended, 1, &["no function `fibb`; did you mean `fib`?", "`demo/pi`", "`prod/pi`"]);
        let ended = scope.run([question, "pi"]);
        fails(&ended, 2, &["`pi` is more than one function", "\n  custom/demo/pi\n  custom/prod/pi"]);
        let ended = scope.run([question, "pi@1"]);
        fails(&ended, 2, &["\n  custom/demo/pi@1\n  custom/prod/pi@1"]);
        let ended = scope.run([question, "demo/pi@9"]);
        fails(&ended, 1, &["no revision `9` of function `custom/demo/pi`; there are `1`, `2`"]);
        let ended = scope.run([question, "fib", "--instance", "nobody"]);
        fails(&ended, 1, &["no instance `nobody`"]);
    }
    // What the message suggests is understood.
    for (name, samples) in [("fib", 100), ("demo/pi", 650), ("custom/prod/pi", 50), ("demo/pi@2", 350)] {
        assert_eq!(count(&scope.run(["folded", name]).stdout), samples, "{name}");
    }
}

#[test]
fn windows_and_instances_narrow_an_answer_down() {
    let scope = scope();
    let folded = |options: &[&str]| {
        let ended = scope.run([&["folded", "demo/pi"], options].concat());
        assert!(ended.code == Some(0) || (ended.code == Some(1) && ended.stdout.is_empty()), "{ended:?}");
        count(&ended.stdout)
    };
    let time = |ms| at(ms).to_string();
    // Samples of pi@1 stand at 0, 10, …, 3090 ms after eight, those of pi@2 at 1000 to 3090; the first 10 of each are
    // before the exec.
    for (since, until, phase, expected) in [
        (0, 1_000, "function", 90),
        (0, 1_000, "all", 100),
        (0, 1_000, "cold", 90),
        (0, 1_000, "warm", 0),
        (0, 100, "runtime-init", 10),
        (1_000, 1_100, "function", 10),
        (1_000, 1_100, "all", 20),
        // Half-open: a sample that stands at the end is the next window's.
        (1_500, 1_510, "all", 2),
        (1_501, 1_510, "all", 0),
        (3_100, 60_000, "all", 0),
    ] {
        let options = ["--since", &time(since), "--until", &time(until), "--phase", phase];
        assert_eq!(folded(&options), expected, "{options:?}");
    }
    // Two windows are their sum.
    let cut = time(1_234);
    assert_eq!(folded(&["--until", &cut]) + folded(&["--since", &cut]), folded(&[]));
    // In other words for the same time.
    for since in ["2026-11-23", "2026-11-23T08:00:00Z", "2026-11-23T09:00:00+01:00", "2026-11-23 08:00"] {
        assert_eq!(folded(&["--since", since]), 650, "{since}");
    }

    let [first, second, .., last] = &LIVES;
    let key = format!("{}.6e9d3f62.2", &second.container()[..12]);
    for (instances, expected) in [
        (vec![first.container()], 300),
        (vec![first.container()[..10].to_owned()], 300),
        (vec![key], 200),
        (vec![last.task()], 150),
        (vec![second.task(), last.task()], 350),
    ] {
        let options: Vec<&str> = instances.iter().flat_map(|name| ["--instance", name]).collect();
        assert_eq!(folded(&options), expected, "{options:?}");
    }
    let one = scope.run(["instances", "--instance", &first.task()]).stdout;
    assert!(one.contains("function      custom/demo/pi@1\n") && one.contains("exit code     3\n"), "{one}");
    assert!(one.contains("runtime-init: 10 samples") && one.contains("cold: 100 samples"), "{one}");
}

#[test]
fn every_answer_has_its_shape_in_json() {
    let scope = scope();
    let rows = scope.rows(&["ls"]);
    assert!(rows.iter().all(|row| keys(row) == FUNCTION_KEYS), "{rows:#?}");
    // The most samples first, and the newest revision of a function first.
    let names: Vec<_> =
        rows.iter().map(|r| [text(r, "namespace"), text(r, "function"), text(r, "revision")]).collect();
    assert_eq!(names, [["demo", "pi", "2"], ["demo", "pi", "1"], ["demo", "fib", "1"], ["prod", "pi", "1"]]);
    assert_eq!(
        rows[0],
        serde_json::json!({
            "platform": "custom", "namespace": "demo", "function": "pi", "revision": "2",
            "instances": 2, "unseen_instances": 0, "unseen": [], "samples": 370, "cpu_seconds": 3.7, "sampled_seconds": 3.7, "coverage": 1.0,
            "coverage_source": null, "off_cpu_seconds": null, "preempted_seconds": null, "waits": null,
            "complete": 1.0, "named": 1.0, "lost": 0, "truncated": 0, "unsymbolized": 0, "cold_starts": 2,
            "first_seen": "2026-11-23T08:00:01.000000Z", "last_seen": "2026-11-23T08:02:01.600000Z",
        })
    );
    let rows = scope.rows(&["instances"]);
    assert_eq!(rows.len(), LIVES.len());
    for (row, life) in rows.iter().zip(&LIVES) {
        assert_eq!(keys(row), INSTANCE_KEYS);
        assert_eq!((text(row, "instance_name"), row["exit_code"].as_i64()), (&*life.task(), Some(3)));
        assert_eq!((text(row, "node"), row["samples"].as_i64()), ("node-1", Some(life.samples + 10)));
        assert_eq!(text(row, "image"), format!("reg/{}:{}", life.name[1], life.name[2]));
        assert_phases(row, &["runtime-init", "cold"]);
    }
    let rows = scope.rows(&["top", "fib"]);
    let expected = |frame: &str, module: &str, kind: &str, own: i64, total: i64| {
        serde_json::json!({
            "frame": frame, "module": module, "kind": kind, "self_samples": own, "total_samples": total,
            "self_seconds": own as f64 / 100.0, "total_seconds": total as f64 / 100.0,
            "self_share": own as f64 / 100.0, "total_share": total as f64 / 100.0,
        })
    };
    let frames = [
        expected("fibonacci", "fib", "native", 90, 90),
        expected("ksys_write", "kernel", "kernel", 10, 10),
        expected("main", "fib", "native", 0, 100),
    ];
    assert_eq!(rows, frames);
    assert_eq!(scope.rows(&["top", "fib", "--limit", "1"]), frames[..1]);
    for question in ["folded", "flame"] {
        let stack = |stack: &str, samples: i64| serde_json::json!({"stack": stack, "samples": samples, "seconds": samples as f64 / 100.0});
        let stacks =
            [stack("main [fib];fibonacci [fib]", 90), stack("main [fib];ksys_write [kernel]_[k]", 10)];
        assert_eq!(scope.rows(&[question, "fib"]), stacks, "{question}");
    }
    let text = scope.run(["folded", "fib"]).stdout;
    assert_eq!(text, "main [fib];fibonacci [fib] 90\nmain [fib];ksys_write [kernel]_[k] 10\n");
    // Nothing found is a list too.
    for question in [&["ls"][..], &["instances"], &["top", "fib"], &["folded", "fib"]] {
        let ended = scope.run([question, &["--until", "2020-01-01", "--json"]].concat());
        let expected = if question.len() == 1 { "[]\n" } else { "" };
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), expected), "{question:?}: {ended:?}");
        assert!(ended.stderr.starts_with("fnscope: no "), "{ended:?}");
    }
}

#[test]
fn stores_that_are_none_are_told_apart() {
    let folder = tempfile::tempdir().expect("make a folder");
    let make = |name: &str, format: Option<&str>| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("make a folder");
        if let Some(text) = format {
            fs::write(path.join("FORMAT"), text).expect("write FORMAT");
        }
        path
    };
    fs::write(folder.path().join("file"), "x").expect("write a file");
    let strange = make("strange", None);
    fs::write(strange.join("thesis.txt"), "x").expect("write a file");
    for (path, code, says) in [
        (folder.path().join("missing"), 2, "there are none yet; start the agent"),
        (make("empty", None), 2, "there are none yet; start the agent"),
        (strange.clone(), 2, "holds other files and no FORMAT"),
        (
            make("newer", Some("fnscope profiles 7\n")),
            2,
            "newer fnscope (format 7; this one reads 1): upgrade",
        ),
        (make("garbled", Some("fnscope profiles x")), 2, "holds other files"),
        (folder.path().join("file"), 2, "Not a directory"),
        (make("fresh", Some("fnscope profiles 0\n")), 1, "no functions in"),
    ] {
        let scope = Fnscope::new();
        let store = path.to_str().expect("a plain path");
        let ended = scope.run(["ls", "--store", store]);
        fails(&ended, code, &[says, store]);
        // A question makes nothing.
        assert!(path.exists() != path.ends_with("missing"));
        let asked = scope.run(["top", "pi", "--store", store]);
        fails(
            &asked,
            code,
            &[if code == 1 { "no function `pi`; there is no function at all" } else { says }],
        );
    }
    assert_eq!(fs::read_dir(&strange).expect("list").count(), 1);
    assert_eq!(fs::read_dir(folder.path().join("empty")).expect("list").count(), 0);
}

#[test]
fn a_torn_journal_gives_what_is_whole_and_a_warning() {
    let (scope, folder) = (Fnscope::new(), tempfile::tempdir().expect("make a folder"));
    let mut writer = writer(scope.store(), "node-1");
    let path = writer.path().to_owned();
    let mut ends = vec![fs::metadata(&path).expect("it is there").len()];
    for life in &LIVES {
        ends.push(ends[ends.len() - 1] + writer.append(&life.batch()).expect("append").bytes);
    }
    // As a killed writer leaves it: no closing frame.
    let whole = fs::read(&path).expect("read the journal");
    assert_eq!(whole.len() as u64, *ends.last().expect("there are some"));
    drop(writer);
    let store = folder.path().join("torn");
    copy(scope.store(), &store);
    let torn = store.join("journal").join(path.file_name().expect("a file"));
    for (number, pair) in ends.windows(2).enumerate() {
        let &[from, to] = pair else { panic!("a pair") };
        let samples: i64 = LIVES[..number].iter().map(|life| life.samples + 10).sum();
        for end in [from, from + 1, from + 19, from + 20, (from + to) / 2, to - 1] {
            fs::write(&torn, &whole[..usize::try_from(end).expect("small")]).expect("cut it off");
            let ended = scope.run(["ls", "--json", "--store", store.to_str().expect("a plain path")]);
            let rows: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON, and nothing else");
            let found: i64 = rows.iter().filter_map(|row| row["samples"].as_i64()).sum();
            assert_eq!(
                (found, ended.code),
                (samples, Some(i32::from(number == 0))),
                "cut at {end}: {ended:?}"
            );
            let warned =
                ended.stderr.contains("warning: ") && ended.stderr.contains(&format!("at byte {from}: "));
            // A cut between two frames too: it is told from a journal that goes on by its writer, which lives.
            assert!(warned, "cut at {end}: {ended:?}");
            assert!(ended.stderr.contains("unfinished end, its writer was killed"), "{ended:?}");
        }
    }
    // A hole in the middle: what stands behind it is read all the same.
    let mut holed = whole.clone();
    let middle = usize::try_from((ends[2] + ends[3]) / 2).expect("small");
    holed[middle] ^= 0x40;
    fs::write(&torn, &holed).expect("write it");
    let ended = scope.run(["instances", "--json", "--store", store.to_str().expect("a plain path")]);
    let rows: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON, and nothing else");
    let tasks: Vec<_> = rows.iter().map(|row| text(row, "instance_name")).collect();
    assert_eq!(tasks, ["pi.1", "pi.2", "pi.4", "pi.5"], "{ended:?}");
    assert!(ended.code == Some(0) && ended.stderr.contains("(damaged)"), "{ended:?}");
}

#[test]
fn a_journal_without_a_head_does_not_hide_the_others() {
    let scope = scope();
    let journals = scope.store().join("journal");
    fs::write(journals.join("node-9-00000000-00000001.jnl"), "").expect("write a file");
    fs::write(journals.join("node-9-00000000-00000002.jnl"), [0xf5; 5000]).expect("write a file");
    fs::write(journals.join("README"), "no journal").expect("write a file");
    let ended = scope.run(["folded", "fib"]);
    assert_eq!((ended.code, count(&ended.stdout)), (Some(0), 100), "{ended:?}");
    assert!(ended.stderr.contains("warning: ") && ended.stderr.contains("00000002.jnl"), "{ended:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scope = scope();
    for arguments in
        [&["folded", "fib"][..], &["ls", "--json"], &["flame", "fib"], &["ls", "--help"], &["man"]]
    {
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        drop(reader);
        let child = scope.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = child.and_then(|child| child.wait_with_output()).expect("run fnscope");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.lines().all(|line| line.starts_with("fnscope: left out")), "{arguments:?}: {stderr}");
    }
}

#[test]
fn tables_fit_the_terminal_they_are_on() {
    let scope = Fnscope::new();
    let mut journal = writer(scope.store(), "a-host-of-a-long-name.example.com");
    let name =
        ["a-namespace-of-a-team", "a-function-of-a-name-that-goes-on", "sha256:a-revision-of-an-image"];
    let leaf = "core::iter::Iterator<Item = core::option::Option<alloc::string::String>>::next";
    for no in 1..=2 {
        let life = Life { no, name, from_ms: i64::from(no) * 5_000, samples: 200, leaf };
        journal.append(&life.batch()).expect("append");
    }
    journal.finish().expect("close the journal");
    let (program, mut wide) = (env!("CARGO_BIN_EXE_fnscope"), String::new());
    for columns in [60, 80, 200] {
        for question in [
            "ls",
            "ls --by host",
            "instances",
            &format!("top {}", name[1]),
            &format!("top {} --by module", name[1]),
            &format!("top {} --by thread", name[1]),
            &format!("cold {} --frames", name[1]),
            &format!("diff {0} --a-instance {0}.1 --b-instance {0}.2", name[1]),
            "hosts",
            "cost --by day,revision --per-cpu-hour 0.04 --currency EUR",
        ] {
            let line = format!("stty cols {columns}; {program} {question} 2>/dev/null");
            let mut terminal = std::process::Command::new("script");
            terminal.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh").stdin(Stdio::null());
            let output =
                terminal.env("FNSCOPE_STORE", scope.store()).output().expect("run script (bsdutils)");
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.lines().count() > 1, "{question}: {output:?}");
            let widest = told.lines().map(|line| line.trim_end().chars().count()).max();
            if widest > Some(columns) {
                wide += &format!("{question} on {columns}:\n{told}");
            }
        }
    }
    assert!(wide.is_empty(), "{wide}");
}

#[test]
fn an_svg_is_drawn_into_a_file_and_to_stdout() {
    let scope = scope();
    let path = scope.store().with_file_name("fib.svg");
    let ended = scope.run(["flame", "fib", "-o", path.to_str().expect("a plain path")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let svg = fs::read_to_string(path).expect("it was written");
    assert_eq!(svg, scope.run(["flame", "fib"]).stdout);
    assert_eq!(svg, scope.run(["flame", "fib", "-o", "-"]).stdout);
    for says in ["<?xml", "custom/demo/fib", "100 samples", "coverage 100.0 %", "fibonacci [fib] (90 samples"]
    {
        assert!(svg.contains(says), "{says} in {svg}");
    }
    let ended = scope.run(["flame", "fib", "-o", "/nowhere/fib.svg"]);
    fails(&ended, 2, &["write /nowhere/fib.svg", "No such file"]);
}
