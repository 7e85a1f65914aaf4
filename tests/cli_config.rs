//! The configuration as an administrator meets it: file, environment and flags, faults, and `fnscope config check`.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ended, Fnscope};

/// A folder with a configuration file.
struct Site {
    scope: Fnscope,
    folder: TempDir,
}

impl Site {
    fn new(text: &str) -> Site {
        let site = Site { scope: Fnscope::new(), folder: tempfile::tempdir().expect("make a folder") };
        std::fs::write(site.file(), text).expect("write a file");
        site
    }

    fn file(&self) -> String {
        self.folder.path().join("agent.toml").to_str().expect("a plain path").into()
    }

    /// fnscope with nothing of its own in its environment but `variables`.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.scope.command(arguments);
        for name in ["FNSCOPE_STORE", "FNSCOPE_LISTEN_HEALTH", "FNSCOPE_BUDGET_CPU"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output = self.command(arguments, variables).output().expect("run fnscope");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `config check` on the file.
    fn check(&self, options: &[&str], variables: &[(&str, &str)]) -> Ended {
        self.run(&[&["config", "check", "--config", &self.file()], options].concat(), variables)
    }
}

/// Lines with single blanks.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const FILE: &str = "\
hz = 99
max_hz = 500
node = \"file\"
[store]
path = \"/file\"
max_age = \"7d\"
[[identity.rules]]
image = \"*/fn/*\"
function = \"${name}\"
";

#[test]
fn check_prints_what_is_in_force_and_where_it_came_from() {
    let site = Site::new(FILE);
    let variables = [("FNSCOPE_MAX_HZ", "600"), ("FNSCOPE_STORE", "/env"), ("FNSCOPE_NODE", "env")];
    let flags = ["--node", "flag", "--no-sandbox", "--cgroup-parent", "/fn", "--listen-health", "off"];
    let ended = site.check(&flags, &variables);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let file = site.file();
    for line in [
        "node = \"flag\" # flag --node",
        &format!("hz = 99 # {file}:1"),
        "max_hz = 600 # variable FNSCOPE_MAX_HZ",
        "sandbox = \"off\" # flag --no-sandbox",
        "functions = \"labelled\" # default",
        "[store]",
        "path = \"/env\" # variable FNSCOPE_STORE",
        &format!("max_age = \"7d\" # {file}:6"),
        "{ image = \"*/fn/*\", function = \"${name}\" },",
        &format!("] # {file}:7"),
        "[listen]",
        "health = \"off\" # flag --listen-health",
        "parents = [\"/fn\"] # flag --cgroup-parent",
        "# currency is not given # default",
    ] {
        assert!(lines(&ended.stdout).contains(&line.into()), "`{line}` in {}", ended.stdout);
    }
    // What it prints is a file that comes to the same.
    let again = Site::new(&ended.stdout).check(&["--json"], &[]);
    let values = |ended: &Ended| {
        let told: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"));
        let told = told.as_object().expect("an object").clone();
        told.into_iter().map(|(key, row)| (key, row["value"].clone())).collect::<Vec<_>>()
    };
    let first = site.check(&[&["--json"], &flags[..]].concat(), &variables);
    assert_eq!(values(&again), values(&first));
    // Nothing was opened.
    assert!(!site.scope.store().exists());
}

#[test]
fn as_json_every_key_has_its_value_and_its_origins() {
    let site = Site::new(FILE);
    let ended = site.check(&["--json", "--hz", "49"], &[("FNSCOPE_STACK_UNWIND", "fp")]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    for (key, value, origin) in [
        ("hz", json!(49), json!({"kind": "flag", "name": "--hz"})),
        ("stack.unwind", json!("fp"), json!({"kind": "variable", "name": "FNSCOPE_STACK_UNWIND"})),
        ("store.path", json!("/file"), json!({"kind": "file", "file": site.file(), "line": 5})),
        ("listen.health", json!("127.0.0.1:9878"), json!({"kind": "default"})),
        ("cost.currency", json!(null), json!({"kind": "default"})),
    ] {
        assert_eq!(told[key], json!({"value": value, "origins": [origin]}), "{key}");
    }
}

#[test]
fn all_faults_are_told_at_once_by_check_and_by_the_agent() {
    let site = Site::new("herz = 99\nhz = 0\n[stack]\nunwind = \"lbr\"\ncopy_bytes = 1\n[listn]\n");
    let variables = [("FNSCOPE_HZZ", "1"), ("FNSCOPE_MAX_HZ", "many"), ("FNSCOPE_SERVICE_HOST", "10.0.0.1")];
    let file = site.file();
    let expected = [
        "fnscope: the configuration has 10 faults:".to_owned(),
        format!("{file}:1: `herz` is no key; did you mean `hz`?"),
        format!("{file}:2: hz is 0; give samples a second, such as 199"),
        format!("{file}:4: stack.unwind: unknown variant `lbr`, expected one of `auto`, `fp`, `dwarf`"),
        format!("{file}:5: stack.copy_bytes is 1; give a multiple of 8 from 4096 to 65528"),
        format!("{file}:6: `listn` is no key; did you mean `listen`?"),
        "variable FNSCOPE_HZZ: no variable of fnscope; did you mean FNSCOPE_HZ?".to_owned(),
        "variable FNSCOPE_MAX_HZ: max_hz: invalid type: string \"many\", expected u32".to_owned(),
        // In order of the flags' names, not as they were given.
        "flag --attach: attach: unknown variant `all`, expected `shared` or `per-cgroup`".to_owned(),
        "flag --hz: hz: invalid type: string \"abc\", expected u32".to_owned(),
        "flag --listen-health: listen.health is \"here\"; give an address such as \"127.0.0.1:9878\", or \"off\""
            .to_owned(),
    ];
    let flags = ["--hz", "abc", "--listen-health", "here", "--attach", "all"];
    for command in [&["config", "check"][..], &["agent"]] {
        let ended = site.run(&[command, &["--config", &file], &flags].concat(), &variables);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert_eq!(lines(&ended.stderr), expected);
    }
    // Whoever else reads a configuration is no more patient.
    for command in [&["cost"][..], &["identify", "--file", "/dev/null"]] {
        let ended = site.run(&[command, &["--config", &file]].concat(), &[]);
        assert!(ended.code == Some(2) && ended.stderr.contains("did you mean `hz`?"), "{ended:?}");
    }
}

#[test]
fn the_file_is_named_by_flag_or_variable_and_none_is_read_unasked() {
    let site = Site::new("hz = 99\n");
    let file = site.file();
    let hz = |arguments: &[&str], variables: &[(&str, &str)]| {
        let ended = site.run(&[&["config", "check", "--json"], arguments].concat(), variables);
        serde_json::from_str::<Value>(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"))["hz"]["value"]
            .clone()
    };
    let other = Site::new("hz = 49\n");
    assert_eq!(hz(&[], &[]), 199);
    assert_eq!(hz(&[], &[("FNSCOPE_CONFIG", &file)]), 99);
    assert_eq!(hz(&["--config", &other.file()], &[("FNSCOPE_CONFIG", &file)]), 49);
    let ended = site.run(&["config", "check", "--config", "/nowhere.toml"], &[("FNSCOPE_HZZ", "1")]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for says in ["read /nowhere.toml: No such file", "FNSCOPE_HZ?"] {
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
    let endless = site.run(&["config", "check", "--config", "/dev/zero"], &[]);
    assert!(endless.code == Some(2) && endless.stderr.contains("larger than 1 MiB"), "{endless:?}");
}

#[test]
fn what_cannot_be_read_of_a_log_filter_is_told() {
    let site = Site::new("");
    let ended = site.run(&["config", "check"], &[("FNSCOPE_LOG", "fnscope=loud")]);
    assert!(ended.code == Some(0) && ended.stderr.contains("FNSCOPE_LOG: "), "{ended:?}");
    let quiet = site.run(&["config", "check"], &[("FNSCOPE_LOG", "warn,fnscope::agent=debug")]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""), "{quiet:?}");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let site = Site::new("hz = 99\n");
    let empty = [("FNSCOPE_CONFIG", ""), ("FNSCOPE_STORE", ""), ("FNSCOPE_HZ", ""), ("FNSCOPE_LOG", "")];
    let ended = site.run(&["config", "check"], &empty);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    for line in ["hz = 199 # default", "path = \"/var/lib/fnscope\" # default"] {
        assert!(lines(&ended.stdout).contains(&line.into()), "`{line}` in {}", ended.stdout);
    }
    // Nobody listens at that port.
    let asked =
        site.run(&["health", "--live"], &[&empty[..], &[("FNSCOPE_LISTEN_HEALTH", "127.0.0.1:1")]].concat());
    assert!(asked.code == Some(1) && asked.stdout.contains("127.0.0.1:1"), "{asked:?}");
    // What the flag says goes over it, and without one it is the default, which may be there or not.
    let store = site.folder.path().join("none");
    let given = site.run(&["ls", "--store", store.to_str().expect("a plain path")], &empty);
    assert!(given.stderr.contains(store.to_str().expect("a plain path")), "{given:?}");
    for question in [&["ls"][..], &["cost", "--per-cpu-hour", "1"], &["hosts"]] {
        let ended = site.run(question, &empty);
        assert!(ended.code != Some(64) && !ended.stderr.contains("a value is required"), "{ended:?}");
    }
}

#[test]
fn who_cannot_be_asked_for_his_health_has_none() {
    let site = Site::new("herz = 99\n");
    let file = site.file();
    for (arguments, variables, says) in [
        (&["health", "--live"][..], &[("FNSCOPE_LISTEN_HEALTH", "off")][..], "listen.health is \"off\""),
        (&["health", "--ready", "--config", &file], &[], "did you mean `hz`?"),
        (&["health", "--live", "--config", "/nowhere.toml"], &[], "read /nowhere.toml"),
        (&["health", "--live", "--address", "here"], &[], "flag --address"),
    ] {
        let ended = site.run(arguments, variables);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(says), "`{says}` in {ended:?}");
        let ended = site.run(&[arguments, &["--json"]].concat(), variables);
        let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert!(ended.code == Some(1) && told["ok"] == json!(false), "{ended:?}");
        assert!(told["why"].as_str().is_some_and(|why| why.contains(says)), "{told:#}");
    }
}

#[test]
fn a_price_comes_from_file_environment_or_flag() {
    let site = Site::new("[cost]\nper_cpu_hour = 1\ncurrency = \"EUR\"\n");
    crate::made_store::made(site.scope.store());
    let store = site.scope.store().to_str().expect("a plain path");
    let file = site.file();
    let cost = |options: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["cost", "--json", "--store", store, "--config", &file], options].concat();
        let ended = site.run(&arguments, variables);
        let rows: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {ended:?}"));
        let total = |rows: &Value| -> f64 {
            rows.as_array().expect("rows").iter().filter_map(|row| row["cost"].as_f64()).sum()
        };
        total(&rows)
    };
    let of_file = cost(&[], &[]);
    assert!(of_file > 0.0);
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.01;
    assert!(close(cost(&[], &[("FNSCOPE_COST_PER_CPU_HOUR", "2")]), 2.0 * of_file));
    let both = cost(&["--per-cpu-hour", "3"], &[("FNSCOPE_COST_PER_CPU_HOUR", "2")]);
    assert!(close(both, 3.0 * of_file), "{both} for {of_file}");
}
