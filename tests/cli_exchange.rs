//! Export and import as a person and a pipe use them: formats, hostile input, what is told. Needs no rights.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::answers::keys;
use crate::made_store::made;
use crate::support::{Ended, Fnscope};

fn scope() -> Fnscope {
    let scope = Fnscope::new();
    made(scope.store());
    scope
}

fn path(scope: &Fnscope, name: &str) -> String {
    scope.store().with_file_name(name).to_str().expect("a plain path").to_owned()
}

fn folded(scope: &Fnscope, name: &str) -> String {
    let ended = scope.run(["folded", name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// Runs `import -` with what `feed` writes to it.
fn piped(
    scope: &Fnscope,
    options: &[&str],
    feed: impl FnOnce(&mut dyn std::io::Write),
) -> (Option<i32>, String, String) {
    let mut command = scope.command([&["import", "-", "--name", "piped"], options].concat());
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("start fnscope");
    let mut stdin = child.stdin.take().expect("it is piped");
    feed(&mut stdin);
    drop(stdin);
    let output = child.wait_with_output().expect("wait for fnscope");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_was_exported_is_imported_as_the_same() {
    let scope = scope();
    let before = folded(&scope, "demo/pi");
    for to_stdout in [&[][..], &["-o", "-"]] {
        let question = [&["export", "demo/pi", "--format", "folded"], to_stdout].concat();
        assert_eq!(scope.run(question).stdout, before);
    }
    let ended = scope.run(["export", "demo/pi", "--format", "folded", "--json", "-o", "-"]);
    assert!(ended.code == Some(64) && ended.stderr.contains("name a file"), "{ended:?}");
    for format in ["folded", "perf-script", "pprof"] {
        let file = path(&scope, format);
        let ended = scope.run(["export", "demo/pi", "--format", format, "-o", &file]);
        assert!(ended.code == Some(0) && ended.stderr.contains("650 samples in"), "{ended:?}");
        let ended = scope.run(["import", &file, "--name", format, "--revision", "7", "--json"]);
        let summary: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!((ended.code, &summary["format"]), (Some(0), &Value::from(format)), "{ended:?}");
        assert_eq!((&summary["samples"], &summary["skipped"]), (&Value::from(650), &serde_json::json!([])));
        assert_eq!(summary["period_assumed"], format == "folded", "{summary}");
        assert_eq!(folded(&scope, &format!("imported/-/{format}@7")), before, "{format}");
    }
    // Events keep their times; what was not exported is not there.
    let window = ["folded", "perf-script", "--until", "2026-11-23T08:00:01Z"];
    let early: u64 =
        scope.run(window).stdout.lines().filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    assert_eq!(early, 90);
}

#[test]
fn exports_count_what_folded_counts() {
    let scope = scope();
    let options = ["--since", "2026-11-23T08:00:00Z", "--until", "2026-11-23T08:01:00Z", "--phase", "all"];
    let text = scope.run([&["export", "demo/pi", "--format", "perf-script"], &options[..]].concat()).stdout;
    assert_eq!(text.matches(": cpu-clock: \n").count(), 520, "{text:.300}");
    for (format, count) in [("speedscope", 520), ("firefox", 520)] {
        let file = path(&scope, format);
        let json = ["--json", "-o", &file];
        let ended = scope.run([&["export", "demo/pi", "--format", format], &options[..], &json].concat());
        let summary: Value = serde_json::from_str(&ended.stdout).expect("JSON, and nothing else");
        assert_eq!(
            (keys(&summary), &summary["samples"]),
            (vec!["file", "format", "samples"], &Value::from(count))
        );
        let written: Value =
            serde_json::from_slice(&fs::read(&file).expect("it was written")).expect("it is JSON");
        assert!(written.is_object());
    }
    let ended = scope.run(["export", "fib", "--format", "pprof", "--json"]);
    assert!(ended.code == Some(64) && ended.stderr.contains("-o FILE"), "{ended:?}");
    let file = path(&scope, "none");
    let ended = scope.run(["export", "fib", "--format", "pprof", "--until", "2020-01-01", "-o", &file]);
    assert!(ended.code == Some(1) && !Path::new(&file).exists(), "{ended:?}");
    let ended = scope.run(["export", "fib", "--format", "pprof", "-o", "/nowhere/x"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("write /nowhere/x"), "{ended:?}");
}

#[test]
fn hostile_input_is_bounded_and_told() {
    let scope = Fnscope::new();
    let says = |ended: &Ended, text: &str| {
        assert!(ended.code == Some(2) && ended.stderr.contains(text), "{ended:?}")
    };
    // Nothing to find is no fault: 1, as everywhere.
    for (name, bytes, code, text) in [
        ("empty", &b""[..], 1, "empty: it is empty; nothing is stored"),
        (
            "zero",
            b"a 0\n",
            1,
            "no event of folded in 1 lines: 1 stacks with a count of zero (the first at 1); nothing is stored",
        ),
        ("idle", b"# captured on : today\n#\n", 1, "no event of perf-script in 2 lines; nothing is stored"),
        ("noise", b"\x00\x01\x02\xff", 2, "--format"),
        ("words", b"hello\n", 2, "--format"),
        ("huge", b"a 1\nb 18446744073709551615\n", 2, "line 2: its counts stand for more than 20000000"),
    ] {
        let file = path(&scope, name);
        fs::write(&file, bytes).expect("write a file");
        let ended = scope.run(["import", &file, "--name", "x"]);
        assert!(ended.code == Some(code) && ended.stderr.contains(text), "{name}: {ended:?}");
        assert!(ended.stdout.is_empty() && ended.stderr.starts_with("fnscope: "), "{name}: {ended:?}");
        assert!(scope.store().exists() == (name == "huge"), "{name}");
    }
    says(&scope.run(["import", "/nowhere", "--name", "x"]), "read /nowhere: No such file");
    says(&scope.run(["import", "/", "--name", "x"]), "import /: ");

    // A pipe with a line of 100 MB, one that is no UTF-8, and no end of the last.
    let (code, _, told) = piped(&scope, &[], |to| {
        to.write_all(b"main;a 2\n").expect("write");
        (0..100).for_each(|_| to.write_all(&[b'x'; 1 << 20]).expect("write"));
        to.write_all(b"\nmain;\xff\xfe 3\nmain;b 4").expect("write");
    });
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("9 samples of 3 events") && told.contains("1 lines longer than 1 MiB (the first at 2)"),
        "{told}"
    );
    assert_eq!(folded(&scope, "piped"), "main;a 2\nmain;b 4\nmain;\u{fffd}\u{fffd} 3\n");
    // Batches are stored as they come, and events before the fault are kept.
    let (code, _, told) = piped(&scope, &["--revision", "2"], |to| {
        for n in 0..50_000 {
            writeln!(
                to,
                "pi 1/2 [000] {}.{:06}: cpu-clock: \n\t7f f{} (/bin/pi)\n",
                1_795_420_800 + n / 100,
                n % 100 * 10_000,
                n % 7
            )
            .expect("write");
        }
    });
    assert!(code == Some(0) && told.contains("50 000 samples") || told.contains("50,000 samples"), "{told}");
    let counts = folded(&scope, "piped@2");
    assert_eq!(counts.lines().count(), 7, "{counts}");
    // Endless noise is given up.
    let (code, _, told) = piped(&scope, &["--format", "folded"], |to| {
        let noise = vec![b'\n'; 1 << 20];
        while to.write_all(&noise).is_ok() {}
    });
    assert!(code == Some(2) && told.contains("no event in 6"), "{told}");
}

#[test]
fn a_named_pipe_is_read_as_it_comes_and_a_terminal_is_told_how_far_it_is() {
    let scope = Fnscope::new();
    let pipe = path(&scope, "pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("run mkfifo");
    assert!(made.success());
    // The terminal is that of util-linux's `script`.
    let plain = scope.command(["import", &pipe, "--name", "piped", "--format", "perf-script"]);
    let words = [plain.get_program()].into_iter().chain(plain.get_args());
    let line: Vec<&str> = words.map(|word| word.to_str().expect("a plain path")).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]);
    command.env("FNSCOPE_STORE", scope.store()).env("TERM", "xterm");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.expect("run script");
    let mut terminal = child.stdout.take().expect("it is piped");
    let told = AtomicBool::new(false);
    let (events, seen) = std::thread::scope(|both| {
        let writer = both.spawn(|| {
            let mut to = fs::OpenOptions::new().write(true).open(&pipe).expect("open the pipe");
            let mut events = 0u64;
            // Until the terminal has shown it: how long that takes is the machine's affair.
            while !told.load(Ordering::Relaxed) {
                let mut some = Vec::new();
                for _ in 0..1_000 {
                    let us = 1_795_420_800_000_000 + events * 1_000;
                    let (second, us) = (us / 1_000_000, us % 1_000_000);
                    write!(
                        some,
                        "pi 1/2 [000] {second}.{us:06}: cpu-clock: \n\t7f f{} (/bin/pi)\n\n",
                        events % 7
                    )
                    .expect("write to memory");
                    events += 1;
                }
                to.write_all(&some).expect("write to the pipe");
            }
            events
        });
        let (mut seen, mut some) = (Vec::new(), [0; 4096]);
        loop {
            match terminal.read(&mut some).expect("read from the terminal") {
                0 => break,
                read => seen.extend(&some[..read]),
            }
            if String::from_utf8_lossy(&seen).contains(" MiB read, ") {
                told.store(true, Ordering::Relaxed);
            }
        }
        // Where it ended too early the writer must not wait for a reader forever.
        told.store(true, Ordering::Relaxed);
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let _reader = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(&pipe);
        (writer.join().expect("the writer ends"), String::from_utf8_lossy(&seen).into_owned())
    });
    assert_eq!(child.wait().expect("wait for script").code(), Some(0), "{seen}");
    assert!(seen.contains(" MiB read, "), "{seen}");
    let rows = scope.rows(&["ls"]);
    assert_eq!((rows.len(), rows[0]["samples"].as_u64()), (1, Some(events)), "{seen}");
}
