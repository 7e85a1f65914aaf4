//! Export and import as a person and a pipe use them: formats, hostile input, what is told. Needs no rights.

use std::fs;
use std::path::Path;
use std::process::Stdio;

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
    assert_eq!(scope.run(["export", "demo/pi", "--format", "folded"]).stdout, before);
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
    for (name, bytes, text) in [
        ("empty", &b""[..], "empty: it is empty"),
        ("noise", b"\x00\x01\x02\xff", "--format"),
        ("words", b"hello\n", "--format"),
        ("zero", b"a 0\n", "no event of folded in 1 lines"),
        ("huge", b"a 1\nb 18446744073709551615\n", "line 2: its counts stand for more than 20000000"),
    ] {
        let file = path(&scope, name);
        fs::write(&file, bytes).expect("write a file");
        says(&scope.run(["import", &file, "--name", "x"]), text);
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
