//! `fnscope doctor FUNCTION` on stacks that are known to be poor: from journals, from sealed hours, over two stores; and
//! which configuration `fnscope doctor` looks at this host for. What it finds there: `bad_rights`, `rights`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::answers::{number, row, text};
use crate::https_server::{Answer, HttpsServer};
use crate::made_store::made;
use crate::support::Fnscope;

/// 100 samples: what is wrong with the stacks of `poor` is known of each.
const FOLDED: &str = "\
_start [app];main [app];work [app] 60
[unwound short];memcpy [libc.so.6] 15
_start [app];libc.so.6+0x4010;[gone.so]+0x99 5
_start [node];[anon]+0x0 10
[truncated];f [app];g [app]_[g] 10
";

fn poor() -> Fnscope {
    let scope = Fnscope::new();
    let file = scope.store().with_extension("folded");
    std::fs::write(&file, FOLDED).expect("write folded text");
    let import =
        ["import", file.to_str().expect("a plain path"), "--name", "poor", "--at", "2026-11-23T08:30:00Z"];
    let ended = scope.run(import);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    scope
}

fn share(answer: &Value, name: &str) -> f64 {
    number(&answer["stacks"][name], "share")
}

#[test]
fn what_makes_stacks_poor_is_told_with_its_cure() {
    let scope = poor();
    let ask = |options: &[&str]| {
        let ended = scope.run([&["doctor", "poor", "--json"], options].concat());
        assert_eq!(ended.code, Some(0), "a fault is an answer: {ended:?}");
        serde_json::from_str::<Value>(&ended.stdout).expect("JSON")
    };
    let answer = ask(&[]);
    assert_eq!(number(&answer, "samples"), 100.0);
    for (name, expected) in [
        ("complete", 0.75),
        ("short", 0.15),
        ("truncated", 0.1),
        ("guessed", 0.1),
        ("named", 0.85),
        ("unsymbolized", 0.15),
    ] {
        assert_eq!(share(&answer, name), expected, "{name} of {answer:#}");
    }
    let listed = scope.rows(&["ls"]);
    for name in ["complete", "named"] {
        assert_eq!(number(row(&listed, "poor"), name), share(&answer, name), "{name} as `ls` tells it");
    }
    let findings = answer["findings"].as_array().expect("a list");
    let told = findings.iter().map(|of| (text(of, "fault"), of["of"].as_str(), number(of, "samples")));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("short", Some("libc.so.6"), 15.0),
            ("truncated", None, 10.0),
            ("guessed", None, 10.0),
            ("jit", None, 10.0),
            ("unnamed", Some("gone.so"), 5.0),
            ("unnamed", Some("libc.so.6"), 5.0),
        ]
    );
    let printed = scope.run(["doctor", "poor"]).stdout;
    for line in [
        "  complete        75.0 %  75",
        "warn  short: 15.0 % (15 samples) end short next to code of libc.so.6",
        "      to mend it: run node with --perf-basic-prof",
    ] {
        assert!(printed.contains(line), "`{line}` in {printed}");
    }

    let sealed = scope.run(["seal"]);
    assert_eq!(sealed.code, Some(0), "{sealed:?}");
    assert_eq!(ask(&[]), answer, "sealed or not");
    assert_eq!(scope.rows(&["ls"]), listed, "sealed or not");
    // Two stores are one, and the window is a part of it.
    let other = Fnscope::new();
    made(other.store());
    let stores = [
        "--store",
        scope.store().to_str().expect("a path"),
        "--store",
        other.store().to_str().expect("a path"),
    ];
    assert_eq!(ask(&stores), answer, "beside another store");
    let both = scope.rows(&[&["ls"], &stores[..]].concat());
    assert_eq!((number(row(&both, "fib"), "complete"), number(row(&both, "poor"), "named")), (1.0, 0.85));
    assert_eq!(ask(&["--since", "2026-11-23T08:00:00Z"]), answer);
}

/// The findings of this host called `what`, whatever else there is.
fn findings(scope: &Fnscope, what: &str, options: &[&str], variables: &[(&str, &str)]) -> Vec<Value> {
    let mut command = scope.command([&["doctor", "--json"], options].concat());
    let output = command.envs(variables.iter().copied()).output().expect("run fnscope");
    let all: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"));
    all.into_iter().filter(|finding| finding["what"] == what).collect()
}

#[test]
fn a_host_is_looked_at_for_the_agent_as_it_is_configured() {
    let scope = Fnscope::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("agent.toml");
    let path = file.to_str().expect("a plain path");
    let config = "[runtimes]\ndocker = \"/of-the-file.sock\"\n[store]\nmin_free_bytes = \"1000000TiB\"\n";
    std::fs::write(&file, config).expect("write a file");
    let socket = [("FNSCOPE_RUNTIMES_DOCKER", "/of-the-variable.sock")];
    let flag = ["--docker-socket", "/of-the-flag.sock"];
    let configured = ["--config", path];
    for (options, variables, says) in [
        (&configured[..], &[][..], "/of-the-file.sock"),
        (&[], &[("FNSCOPE_CONFIG", path)], "/of-the-file.sock"),
        (&configured, &socket, "/of-the-variable.sock"),
        (&[&configured[..], &flag[..]].concat(), &socket, "/of-the-flag.sock"),
        (&[], &[("FNSCOPE_RUNTIMES_DOCKER", "off")], "runtimes.docker is \"off\""),
    ] {
        let [docker] = &findings(&scope, "docker", options, variables)[..] else { panic!("one finding") };
        assert!(text(docker, "found").contains(says), "`{says}` in {docker:#}");
        let [configuration] = &findings(&scope, "configuration", options, variables)[..] else {
            panic!("one")
        };
        assert_eq!(configuration["standing"], "ok", "{configuration:#}");
    }
    let [disk] = &findings(&scope, "disk", &configured, &[])[..] else { panic!("one finding") };
    assert!(disk["standing"] == "warn" && text(disk, "mend").contains("store.min_free_bytes"), "{disk:#}");
    let no_floor = [("FNSCOPE_STORE_MIN_FREE_BYTES", "0")];
    let [disk] = &findings(&scope, "disk", &configured, &no_floor)[..] else { panic!("one finding") };
    assert_eq!(disk["standing"], "ok", "{disk:#}");
    // Without a store on the line or in the environment it is the configuration's.
    std::fs::write(&file, "[store]\npath = \"/of/the/file\"\n").expect("write a file");
    let none = [("FNSCOPE_STORE", "")];
    let [store] = &findings(&scope, "store", &configured, &none)[..] else { panic!("one finding") };
    assert!(text(store, "found").starts_with("/of/the/file "), "{store:#}");
}

#[test]
fn who_is_to_tell_late_names_is_asked_whether_he_does() {
    let scope = Fnscope::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let says = |what: &str, written: &str| {
        std::fs::write(path("agent.toml"), written).expect("write a file");
        let found = findings(&scope, what, &["--config", &path("agent.toml")], &[]);
        let said = |finding: &Value| format!("{}: {}", text(finding, "standing"), text(finding, "found"));
        found.iter().map(said).collect::<Vec<_>>()
    };
    let logs = "platform_logs.openwhisk";
    assert!(says(logs, "").is_empty() && says("kubernetes.api", "").is_empty(), "not configured");
    let written = format!("[platform_logs]\nopenwhisk = [{:?}, {:?}]\n", path("i*.log"), path("none/i*.log"));
    let [here, none] = &says(logs, &written)[..] else { panic!("a finding each") };
    assert!(here.starts_with("warn: ") && here.contains("no file has that name yet"), "{here}");
    assert!(none.starts_with("warn: ") && none.contains("No such file"), "{none}");
    std::fs::write(path("i0.log"), "").expect("write a file");
    std::fs::write(path("i1.log"), "").expect("write a file");
    assert!(says(logs, &written)[0].ends_with("i*.log: 2 files"));
    let mut mode = std::fs::metadata(path("i1.log")).expect("it is there").permissions();
    mode.set_mode(0o040);
    std::fs::set_permissions(path("i1.log"), mode).expect("change its mode");
    assert!(says(logs, &written)[0].contains("i1.log may not be read by the agent's user"));
    std::fs::remove_file(path("i1.log")).expect("remove a file");

    // What is no file is not waited for, a link is followed as far as the agent's user may follow it, and a folder counts
    // as he sees it, who holds no capability.
    let set_mode = |name: &str, mode: u32| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).expect("change a mode");
    };
    rustix::fs::mkfifoat(rustix::fs::CWD, path("i2.log"), rustix::fs::Mode::RUSR).expect("make a pipe");
    assert!(says(logs, &written)[0].contains("i2.log is no file"));
    std::fs::remove_file(path("i2.log")).expect("remove a pipe");
    std::fs::create_dir(path("real")).expect("make a folder");
    std::fs::write(path("real/0.log"), "").expect("write a file");
    std::os::unix::fs::symlink(path("real/0.log"), path("i3.log")).expect("make a link");
    std::os::unix::fs::symlink(path("gone"), path("i4.log")).expect("make a link");
    assert!(says(logs, &written)[0].ends_with("i*.log: 2 files"), "one leads nowhere");
    set_mode("real", 0o055);
    let said = &says(logs, &written)[0];
    assert!(said.contains("i3.log leads through ") && said.contains("/real, which the agent's"), "{said}");
    let within = format!("[platform_logs]\nopenwhisk = [{:?}]\n", path("real/*.log"));
    for mode in [0o055, 0o455, 0o155] {
        set_mode("real", mode);
        let said = &says(logs, &within)[0];
        assert!(said.starts_with("warn: ") && said.contains("may not look into "), "{mode:o}: {said}");
    }
    set_mode("real", 0o700);
    assert!(says(logs, &within)[0].starts_with("ok: "));
    assert!(says(logs, &written)[0].starts_with("ok: "));

    let pods = r#"{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[]}"#;
    let server = HttpsServer::start(folder.path(), move |request| {
        let knows = request.authorization.as_deref() == Some("Bearer t");
        if knows { Answer::Body(200, pods.into()) } else { Answer::Body(401, "no".into()) }
    });
    let (url, token) = (server.url(), path("token"));
    let written = format!(
        "[kubernetes]\napi = \"kubelet\"\nurl = {url:?}\nca = {:?}\ntoken = {token:?}\n",
        server.ca()
    );
    let [refused] = &says("kubernetes.api", &written)[..] else { panic!("one finding") };
    assert!(refused.starts_with("warn: ") && refused.contains("answers 401"), "{refused}");
    std::fs::write(&token, "t").expect("write a token");
    assert_eq!(says("kubernetes.api", &written), [format!("ok: {url} tells of 0 pods of functions")]);
    let [nowhere] = &says("kubernetes.api", "[kubernetes]\napi = \"apiserver\"\n")[..] else { panic!("one") };
    assert!(nowhere.starts_with("warn: ") && nowhere.contains("no KUBERNETES_SERVICE_HOST"), "{nowhere}");
}

#[test]
fn faults_of_the_configuration_are_findings_among_others() {
    let scope = Fnscope::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "herz = 99\nhz = 0\n").expect("write a file");
    let options = ["--config", file.to_str().expect("a plain path"), "--docker-socket", "/of-the-flag.sock"];
    let faults = findings(&scope, "configuration", &options, &[("FNSCOPE_HZZ", "1")]);
    let told: Vec<&str> = faults.iter().map(|fault| text(fault, "found")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for (fault, says) in faults.iter().zip(["did you mean `hz`?", "hz is 0", "FNSCOPE_HZ?"]) {
        assert!(fault["standing"] == "fail" && text(fault, "found").contains(says), "{fault:#}");
        assert!(text(fault, "mend").contains("fnscope config check"), "{fault:#}");
    }
    let [docker] = &findings(&scope, "docker", &options, &[])[..] else { panic!("one finding") };
    assert!(text(docker, "found").contains("/of-the-flag.sock"), "{docker:#}");
    let ended = scope.run([&["doctor"], &options[..]].concat());
    assert!(ended.code == Some(1) && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn a_sound_function_and_none_are_told_apart() {
    let scope = Fnscope::new();
    made(scope.store());
    let ended = scope.run(["doctor", "fib"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("ok    nothing makes its stacks poor\n"), "{ended:?}");
    for (options, code, says) in [
        (&["doctor", "fibb"][..], 1, "did you mean `fib`?"),
        (&["doctor", "fib", "--until", "2020-01-01"], 1, "no function `fib`"),
        (&["doctor", "--since", "1h"], 64, "of a FUNCTION"),
    ] {
        let ended = scope.run(options);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.stderr.contains(says), "`{says}` in {ended:?}");
    }
}
