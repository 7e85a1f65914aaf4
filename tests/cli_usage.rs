//! The command line itself: help, wrong usage, completions, the manual page, and `identify` on files.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::answers::{keys, text};
use crate::made_store::{Life, made, writer};
use crate::support::Fnscope;

const COMMANDS: [&str; 22] = [
    "agent",
    "exec",
    "demo",
    "ls",
    "instances",
    "top",
    "folded",
    "cold",
    "diff",
    "hosts",
    "throttled",
    "cost",
    "flame",
    "export",
    "import",
    "seal",
    "identify",
    "doctor",
    "config",
    "health",
    "completions",
    "man",
];

#[test]
fn help_lists_every_command_and_each_has_examples() {
    let scope = Fnscope::new();
    let help = scope.run(["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        assert!(
            help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}"
        );
        for flag in ["--help", "-h"] {
            let help = scope.run([command, flag]);
            assert!(help.code == Some(0) && help.stderr.is_empty(), "{help:?}");
            let examples =
                help.stdout.split_once("Examples:").map(|(_, examples)| examples).unwrap_or_default();
            assert!(examples.contains(&format!("fnscope {command}")), "{}", help.stdout);
        }
    }
    let version = scope.run(["--version"]);
    assert_eq!(version.stdout, format!("fnscope {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_64_and_said_on_stderr() {
    let scope = Fnscope::new();
    for (arguments, says) in [
        (&[][..], "Usage:"),
        (&["dance"], "unrecognized subcommand 'dance'"),
        (&["ls", "--colour"], "unexpected argument '--colour'"),
        (&["top"], "<FUNCTION>"),
        (&["top", "a//b"], "a part of the name is empty"),
        (&["top", "pi", "--since", "yesterday"], "`10m`"),
        (&["top", "pi", "--phase", "hot"], "runtime-init"),
        (&["ls", "--since", "2026-11-24", "--until", "2026-11-23"], "is not later than"),
        (&["ls", "--since", "2026-11-24", "--until", "2026-11-23"], "but before it: swap them"),
        (&["ls", "--since", "2026-11-24", "--until", "2026-11-24"], "is not later than"),
        (&["diff", "pi"], "A and B are the same"),
        (&["diff", "a", "b", "--a-since", "2026-11-24", "--a-until", "2026-11-23"], "A: --since"),
        (&["diff", "a", "b", "--fail-if", "share(f) < 3%"], "QUANTITY > BAR"),
        (&["diff", "a", "b", "--fail-if", "delta(share(f)) > 3%"], "measured in `pt`"),
        (&["cost", "--by", "week"], "day"),
        (&["cost", "--per-cpu-hour=-1"], "--per-cpu-hour"),
        (&["top", "pi", "--by", "cpu"], "thread"),
        (&["config"], "check"),
        (&["exec", "--name", "x"], "COMMAND"),
        (&["identify"], "CONTAINER"),
        (&["identify", "x", "--file", "y"], "cannot be used with"),
        (&["completions", "tcsh"], "bash"),
        (&["man", "enter"], "`fnscope --help` lists them"),
        (&["man", "ls", "--dir", "x"], "cannot be used with"),
    ] {
        let ended = scope.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(says), "{arguments:?}: {ended:?}");
    }
    assert!(!scope.store().exists());
}

#[test]
fn an_agent_checks_all_it_is_told_before_it_opens_anything() {
    let scope = Fnscope::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let file = |text: &str| {
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let config = file("hz = 0\nring_budget_bytes = 1\n[cgroup]\nparents = [\"fn\"]\n");
    let ended = scope.run(["agent", "--config", &config, "--cgroup-parent", "/a/../b"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for says in ["hz is 0", "ring_budget_bytes is 1", r#"cgroup.parents has "fn""#, r#""/a/../b""#] {
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
    for (text, says) in [("herz = 1\n", "herz"), ("hz = \"many\"\n", "hz"), ("hz", "agent.toml")] {
        let ended = scope.run(["agent", "--config", &file(text)]);
        assert!(ended.code == Some(2) && ended.stderr.contains(says), "{text}: {ended:?}");
    }
    let ended = scope.run(["agent", "--config", "/nowhere.toml"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("/nowhere.toml"), "{ended:?}");
    assert!(!scope.store().exists());
}

#[test]
fn shells_complete_commands_and_functions() {
    let scope = Fnscope::new();
    made(scope.store());
    let folder = tempfile::tempdir().expect("make a folder");
    let mut other = writer(folder.path(), "node-7");
    let life = Life { no: 9, name: ["demo", "typed", "1"], from_ms: 0, samples: 10, leaf: "x" };
    other.append(&life.batch()).expect("append");
    other.finish().expect("close the journal");
    let typed = folder.path().to_str().expect("a plain path");
    for shell in ["zsh", "fish"] {
        let ended = scope.run(["completions", shell]);
        assert!(ended.code == Some(0) && ended.stdout.contains("FNSCOPE_COMPLETE"), "{ended:?}");
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_fnscope"));
    // What a person types ends in a word that is not finished; the shell asks the function that the script names.
    let script = r#"
        PATH="$1:$PATH"
        source <(fnscope completions bash) || exit 9
        name=$(complete -p fnscope | sed 's/.*-F \([^ ]*\) .*/\1/')
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9 COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "$name" fnscope "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    for (words, expected) in [
        (&["fnscope", "fol"][..], "folded"),
        (&["fnscope", "top", ""], "fib"),
        (&["fnscope", "top", "demo/"], "demo/pi"),
        (&["fnscope", "top", "pi", "--phase", "col"], "cold"),
        // The store on the line goes before that of the environment.
        (&["fnscope", "top", "--store", typed, ""], "typed"),
        (&["fnscope", "ls", "--store", typed, "--host", ""], "node-7"),
        (&["fnscope", "instances", "--store", typed, "--instance", ""], "typed.9"),
        (&["fnscope", "instances", "--instance", ""], "fib.3"),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash"])
            .arg(binary.parent().expect("it lies in a folder"))
            .args(words);
        let output =
            bash.env("FNSCOPE_STORE", scope.store()).stdin(Stdio::null()).output().expect("run bash");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.lines().any(|line| line.trim_end() == expected), "{words:?}: {output:?}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let (scope, folder) = (Fnscope::new(), tempfile::tempdir().expect("make a folder"));
    let dir = folder.path().join("man1");
    let ended = scope.run(["man", "--dir", dir.to_str().expect("a plain path")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a page");
    let own = page("fnscope.1");
    assert_eq!(scope.run(["man"]).stdout, own);
    for command in COMMANDS {
        assert!(own.contains(&format!("fnscope\\-{command}(1)")), "{command} in {own}");
        let page = page(&format!("fnscope-{command}.1"));
        for part in [&format!(".TH fnscope-{command} 1"), ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert_eq!(scope.run(["man", command]).stdout, page);
    }
    let count = std::fs::read_dir(&dir).expect("a folder of our own").count();
    assert!(page("fnscope-config-check.1").contains("\\-\\-no\\-sandbox"));
    assert_eq!(count, COMMANDS.len() + 2, "a page for each command and that, none for what is hidden");
}

const FIXTURES: &str = include_str!("fixtures/identity.json");
const IDENTIFIED_KEYS: [&str; 9] = [
    "id",
    "function_container",
    "platform",
    "namespace",
    "function",
    "revision",
    "instance_name",
    "confidence",
    "rule",
];

#[test]
fn identify_answers_for_every_container_of_a_file() {
    let scope = Fnscope::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/identity.json");
    let path = path.to_str().expect("a plain path");
    let rows = scope.rows(&["identify", "--file", path]);
    let fixtures: Value = serde_json::from_str(FIXTURES).expect("it is JSON");
    let fixtures = fixtures["fixtures"].as_array().expect("a list");
    assert_eq!(rows.len(), fixtures.len());
    for (row, fixture) in rows.iter().zip(fixtures) {
        assert_eq!((keys(row), &row["id"]), (IDENTIFIED_KEYS.to_vec(), &fixture["id"]));
        assert!(row["function_container"].is_boolean() && row["rule"].is_string(), "{row:#}");
        // What is told of a container is right; platforms that no rule covers yet are told as none.
        let expected = &fixture["expect"];
        if row["function_container"] == true {
            for key in ["function_container", "platform", "namespace", "function"] {
                assert_eq!(row[key], expected[key], "{key} of {row:#}");
            }
        }
    }
    // The same from stdin, in words, and by the shape that `docker inspect` has.
    let mut child = scope.command(["identify", "--file", "-"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("start fnscope");
    let inspected =
        r#"[{"Id":"77","Name":"/a","Config":{"Labels":{"fnscope.function":"pi","fnscope.revision":"2"}}}]"#;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(inspected.as_bytes()).expect("write to fnscope");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for fnscope");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "77  function  custom/-/pi@2  by fnscope-labels\n");
    assert!(output.status.success());
}

#[test]
fn identify_says_which_element_it_cannot_read() {
    let (scope, folder) = (Fnscope::new(), tempfile::tempdir().expect("make a folder"));
    let file = |text: &str| {
        let path = folder.path().join("containers.json");
        std::fs::write(&path, text).expect("write a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let mixed = r#"[{"Id":"1","Config":{"Labels":{"fnscope.function":"pi"}}},{"Id":"2"},7]"#;
    let ended = scope.run(["identify", "--json", "--file", &file(mixed)]);
    let rows: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON, and nothing else");
    assert_eq!((ended.code, rows.len(), text(&rows[0], "function")), (Some(2), 3, "pi"), "{ended:?}");
    assert!(text(&rows[1], "error").contains("Config") && rows[1]["id"] == "2", "{rows:#?}");
    assert!(ended.stderr.contains("element 1 of ") && ended.stderr.contains("element 2 of "), "{ended:?}");
    for (text, code, says) in [
        ("{", 2, "not JSON"),
        ("7", 2, "neither an object nor an array"),
        (r#"[{"Id":"1","Config":{}}]"#, 1, ""),
    ] {
        let ended = scope.run(["identify", "--file", &file(text)]);
        assert!(ended.code == Some(code) && ended.stderr.contains(says), "{text}: {ended:?}");
    }
    let ended = scope.run(["identify", "--file", "/nowhere.json"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("open /nowhere.json"), "{ended:?}");
    let ended = scope.run(["identify", "x", "--docker-socket", "/nowhere.sock"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("/nowhere.sock"), "{ended:?}");
}
