//! `fnscope exec`: the command's own status, streams and signals pass through, and what it did is told.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;

use crate::answers::{INSTANCE_KEYS, assert_covered, assert_phases, keys, number, text};
use crate::support::{Fnscope, Function, poll, truth};

/// The folder of the cgroup that the `fnscope exec` of process `pid` makes for itself.
fn own_cgroup(pid: u32) -> PathBuf {
    let cgroups = fnscope::cgroup::Cgroups::detect().expect("this host has cgroups");
    cgroups.dir(&format!("/fnscope-exec-{pid}"))
}

#[test]
fn the_commands_status_is_its_own() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let plain = function.path().with_file_name("plain");
    fs::write(&plain, "no program").expect("write a file");
    let plain = plain.to_str().expect("a plain path");
    for (command, code, says) in [
        (&["true"][..], 0, "true: "),
        (&["sh", "-c", "exit 7"], 7, "sh: "),
        // A shell and `env` tell signals as 128 + N.
        (&["sh", "-c", "kill -KILL $$"], 137, "sh: "),
        (&["sh", "-c", "kill -TERM $$"], 143, "sh: "),
        (&["/nowhere/at-all"], 127, "start /nowhere/at-all: No such file"),
        (&[plain], 126, "Permission denied"),
    ] {
        let ended = scope.run([&["exec", "--"], command].concat());
        assert_eq!(ended.code, Some(code), "{command:?}: {ended:?}");
        assert!(ended.stderr.contains(says) && ended.stdout.is_empty(), "{command:?}: {ended:?}");
    }
    // Every one of them is stored with its status.
    let mut codes: Vec<_> = scope.instances(&[]).iter().map(|row| row["exit_code"].as_i64()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 7, 126, 127, 137, 143].map(Some));
}

#[test]
fn fnscopes_own_failures_are_125_and_leave_nothing_behind() {
    let scope = Fnscope::new();
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let file = file.path().to_str().expect("a plain path");
    let long = "n".repeat(101);
    for (options, says) in [
        (&["--name", "a/b"][..], "`/`"),
        (&["--name", "a@b"], "`@`"),
        (&["--name", ""], "1 to 100 bytes"),
        (&["--name", &long], "1 to 100 bytes"),
        (&["--name", "a\nb"], "control characters"),
        (&["--name", ".."], "not beginning with `.`"),
        (&["--revision", "1/2"], "--revision \"1/2\""),
        (&["--store", file], "not a directory"),
        (&["--hz", "0"], "hz is 0"),
    ] {
        let ended = scope.run([&["exec"], options, &["--", "true"]].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), ""), "{options:?}: {ended:?}");
        let message = ended.stderr.trim_end();
        assert!(message.contains(says) && message.lines().count() == 1, "{options:?}: {ended:?}");
        assert!(!scope.store().exists(), "{options:?} left a store");
    }
    let usage = scope.run(["exec"]);
    assert_eq!(usage.code, Some(64), "{usage:?}");
}

#[test]
fn its_streams_are_the_commands() {
    let scope = Fnscope::new();
    // Every byte there is, more of them than a pipe holds.
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut command = scope.command(["exec", "--", "sh", "-c", "cat; echo to stderr >&2"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start fnscope");
    let mut stdin = child.stdin.take().expect("it is piped");
    let written = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&written));
    let output = child.wait_with_output().expect("wait for fnscope");
    writer.join().expect("no panic").expect("write it all");
    assert!(output.status.success() && output.stdout == bytes, "{} bytes came out", output.stdout.len());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("to stderr\nfnscope: sh: "), "{stderr}");
}

#[test]
fn what_it_did_is_told_in_words_json_and_a_graph() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let folder = function.path().parent().expect("it lies in a folder");
    let [json, svg] = ["fib.json", "fib.svg"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let program = function.path().to_str().expect("a plain path");
    let options = ["--name", "my fib", "--revision", "3.1", "--hz", "997", "--json", &json, "-o", &svg];
    let burn = ["--", program, "fib", "--cpu-ms", "300"];
    let ended = scope.run([&["exec"], &options[..], &burn].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(truth(&ended.stdout)["n"], 24, "{ended:?}");
    for says in ["my fib@3.1: ", "hottest: function::fibonacci ", &format!("flame graph in {svg}")] {
        assert!(ended.stderr.contains(says), "{says}: {ended:?}");
    }

    let rows: Value = serde_json::from_slice(&fs::read(&json).expect("it was written")).expect("it is JSON");
    let rows = rows.as_array().expect("a list");
    assert_eq!((rows.len(), keys(&rows[0])), (1, INSTANCE_KEYS.to_vec()));
    let told = &rows[0];
    for (key, value) in [("platform", "local"), ("function", "my fib"), ("revision", "3.1")] {
        assert_eq!(text(told, key), value, "{told:#}");
    }
    assert_eq!(told["exit_code"], 0, "{told:#}");
    assert!((0.3..0.5).contains(&number(told, "cpu_seconds")), "{told:#}");
    assert_covered(told);
    assert_phases(told, &["runtime-init", "cold"]);
    assert_eq!(rows, &scope.instances(&["my fib@3.1"]), "the store says the same");

    let svg = fs::read_to_string(&svg).expect("it was written");
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("<title>function::fibonacci [function]"), "{svg}");
    assert!(svg.contains("local/my fib") || svg.contains("my fib@3.1"), "{svg}");

    // Without a name it is the program's; a name that ends like an instance's number stays whole.
    for (options, name) in [(&[][..], "function"), (&["--name", "web.80"], "web.80")] {
        let ended = scope.run([&["exec"], options, &["--", program, "burn", "--cpu-ms", "20"]].concat());
        assert!(ended.code == Some(0) && ended.stderr.contains(&format!("fnscope: {name}: ")), "{ended:?}");
        assert_eq!(scope.instances(&[name]).len(), 1, "{name}");
    }
}

#[test]
fn signals_go_to_the_command() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let program = function.path().to_str().expect("a plain path");
    let mut exec = scope.start(["exec", "--", program, "idle"]);
    exec.wait_for("ready");
    let cgroup = own_cgroup(exec.pid());
    assert!(cgroup.join("function.0").is_dir(), "{}", cgroup.display());
    exec.signal(Signal::TERM);
    // It took the signal, told of it, and ended well: fnscope did not die of it.
    let (code, said) = exec.wait();
    assert!(
        code == Some(0) && said.contains(r#""signal":15"#) && said.contains("fnscope: function: "),
        "{said}"
    );
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
}

#[test]
fn what_it_leaves_running_goes_on_elsewhere() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let folder = function.path().parent().expect("it lies in a folder");
    let script = r#""$1" idle >"$2/said" 2>&1 & echo $! >"$2/pid""#;
    let program = function.path().to_str().expect("a plain path");
    let place = folder.to_str().expect("a plain path");
    let exec = scope.start(["exec", "--", "sh", "-c", script, "sh", program, place]);
    let cgroup = own_cgroup(exec.pid());
    let (code, said) = exec.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
    let pid: i32 = fs::read_to_string(folder.join("pid")).expect("its id").trim().parse().expect("a number");
    let pid = Pid::from_raw(pid).expect("above 0");
    assert!(test_kill_process(pid).is_ok(), "it runs");
    let said = || fs::read_to_string(folder.join("said")).unwrap_or_default();
    poll("it is ready", || said().contains("ready").then_some(()));
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    poll("its last word", || said().contains(r#""signal":15"#).then_some(()));
}
