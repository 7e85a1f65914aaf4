//! Names that tenants give to hurt: whatever they are, they stay names. They act on no terminal, lead out of no
//! folder, and hide no other function.

use std::fs;
use std::path::Path;

use crate::answers::{row, text, walk};
use crate::private_docker::PrivateDocker;
use crate::support::{Ended, Fnscope};

fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "../../etc/passwd",
        "..",
        "/etc/shadow",
        "-",
        "%2F@demo/%",
        "two\nlines\r\tand a tab",
        "\u{1b}[31mred\u{1b}]0;owned\u{7}",
        "\u{202e}gpj.nigol\u{200b}",
        "main [pi];evil [kernel]_[k] 7",
        "<script>alert(1)</script>",
        "(pool nodejs:20)",
        "$(touch owned) `touch owned`",
    ]
    .map(String::from)
    .into();
    names.push("n".repeat(64 << 10));
    names.push("ä".repeat(300));
    names
}

/// What is kept of `name`: 253 bytes, whole characters.
fn kept(name: &str) -> String {
    let mut end = name.len().min(253);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].into()
}

/// A selector of the function, with every character that is no letter or digit encoded.
fn selector(name: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    let name: String = kept(name).bytes().map(encode).collect();
    format!("custom/{name}/{name}@{name}")
}

/// Whether nothing in `text` acts on a terminal or changes what stands beside it.
fn assert_harmless(text: &str, of: &str) {
    let acts = |c: char| {
        c != '\n' && (c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'))
    };
    let found = text.find(acts);
    let near = found.map(|at| text[at..].chars().take(20).collect::<String>());
    assert!(found.is_none(), "{of} prints {near:?}");
}

fn run(scope: &Fnscope, arguments: &[&str]) -> Ended {
    let ended = scope.run(arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    assert_harmless(&ended.stdout, arguments[0]);
    assert_harmless(&ended.stderr, arguments[0]);
    ended
}

#[test]
fn names_stay_names_whatever_is_in_them() {
    let (docker, scope) = (PrivateDocker::with_functions(), Fnscope::new());
    let socket = docker.socket();
    let agent = scope.docker_agent(&socket, &[]);
    let names = names();
    for some in names.chunks(5) {
        let begin = |name: &String| {
            let labels =
                ["function", "namespace", "revision"].map(|key| format!("--label=fnscope.{key}={name}"));
            let [function, namespace, revision] = &labels;
            docker.begin_function(&[function, namespace, revision], &["fib", "--cpu-ms", "40"])
        };
        let running: Vec<_> = some.iter().map(begin).collect();
        assert!(running.into_iter().all(|container| container.end().0 == 0));
    }
    assert_eq!(docker.run_function(&["--label=fnscope.function=good"], &["pi", "--cpu-ms", "60"]).0, 0);
    let hostile = format!("--label=fnscope.function={}", names[6]);
    docker.docker(&["create", "--name", "hostile", &hostile, "function:1", "/function"]);
    let socket = socket.to_str().expect("a plain path");
    let identified = run(&scope, &["identify", "hostile", "--docker-socket", socket]);
    assert!(identified.stdout.contains(r"\x1b[31mred"), "{identified:?}");
    assert_harmless(&agent.stop_in_order(), "the agent");

    // Programs get the names as they are, cut to their limit.
    let rows = scope.rows(&["ls"]);
    assert_eq!(rows.len(), names.len() + 1, "{rows:#?}");
    for name in &names {
        let row = row(&rows, &kept(name));
        assert_eq!((text(row, "namespace"), text(row, "revision")), (&*kept(name), &*kept(name)));
        assert!(row["samples"].as_u64() > Some(10), "{row:#}");
        let folded = run(&scope, &["folded", &selector(name)]).stdout;
        assert!(folded.contains("function::fibonacci [function]"), "{folded}");
        let svg = run(&scope, &["flame", &selector(name)]).stdout;
        assert!(svg.contains("function::fibonacci") && !svg.contains("<script>alert"), "{name}");
    }
    assert_eq!(text(row(&rows, "good"), "platform"), "custom");
    let folded = run(&scope, &["folded", "good"]).stdout;
    assert!(folded.contains("function::compute_pi") && !folded.contains("fibonacci"), "{folded}");

    // People get a line for each, with nothing in it that acts.
    for (question, lines) in [(&["ls"][..], rows.len() + 1), (&["instances"], rows.len() + 1)] {
        let ended = run(&scope, question);
        assert_eq!(ended.stdout.lines().count(), lines, "{}", ended.stdout);
        run(&scope, &[question, &["--json"]].concat());
    }
    let wrong = scope.run(["top", "\u{1b}[31mwrong"]);
    assert_eq!(wrong.code, Some(1));
    assert_harmless(&wrong.stderr, "the list of names");

    assert_inside(&scope, names.len() + 1);
}

/// Nothing was written but into the store, and there under plain names.
fn assert_inside(scope: &Fnscope, functions: usize) {
    let list = |folder: &Path| -> Vec<String> {
        let names = fs::read_dir(folder).expect("list a folder").flatten().map(|file| file.file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("plain")).collect();
        names.sort();
        names
    };
    let outside = scope.store().parent().expect("it lies in a folder");
    assert_eq!(list(outside), ["profiles"]);
    assert_eq!(
        list(scope.store()),
        ["FORMAT", "LOCK", "cache", "folded", "hosts", "instances", "journal", "samples", "sums", "usage"]
    );
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.%~=".contains(c);
    let store = scope.store().to_str().expect("a plain path");
    let files = walk(scope.store());
    for path in &files {
        let inside = path.strip_prefix(store).expect("below the store");
        for component in inside.split('/').skip(1) {
            assert!(component.chars().all(plain) && component.len() <= 255, "{component}");
            assert!(!component.starts_with('.'), "{component} is hidden");
        }
    }
    let folded: Vec<&String> = files.iter().filter(|path| path.ends_with(".folded.gz")).collect();
    // One of each unless the test ran over a full hour.
    assert!(folded.len() >= functions, "{folded:#?}");
}
