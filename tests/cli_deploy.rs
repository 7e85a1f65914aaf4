//! What deploy/ gives an administrator, held against the program and against itself: the unit of systemd, the compose
//! file, the configuration that packages bring. The image: `in_container`; packages: `make accept ONLY=accept-packages`.

use std::fs;
use std::path::Path;
use std::process::Command;

use fnscope::config::Config;
use fnscope::config::layers::{File, Layers, resolve};

use crate::in_container::RIGHTS;

/// The score that the unit has to stay below, in tenths: 0 is shut, 100 is open.
const MOST_EXPOSED: u32 = 39;

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// What `line` of the form `KEY=value`, `KEY: value` or `KEY value` gives for `key`.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

/// `systemd-analyze` with `arguments` on the unit, whose program is the one under test: how it ended, and what it said.
fn analyze(arguments: &[&str]) -> (bool, String) {
    let unit = file("deploy/fnscope.service").replace("/usr/bin/fnscope", env!("CARGO_BIN_EXE_fnscope"));
    let dir = tempfile::tempdir().expect("make a folder");
    let path = dir.path().join("fnscope.service");
    fs::write(&path, unit).expect("write a file");
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).arg(&path).output().expect("run systemd-analyze (package systemd)");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_unit_has_no_fault_and_a_small_exposure() {
    // Pages are not installed where this runs.
    let (good, said) = analyze(&["verify", "--man=no"]);
    assert!(good && said.is_empty(), "{said}");
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let (good, said) = analyze(&["security", "--offline=yes", "--no-pager", &threshold]);
    assert!(good && said.contains("Overall exposure level"), "{said}");
    // Whatever it finds open is told, with what for.
    let page = file("deploy/README.md");
    let (_, table) = page.split_once("\n| what is open | for |\n").expect("a table");
    let (table, _) = table.split_once("\n\n").expect("an end of it");
    let open = said.lines().filter_map(|line| line.strip_prefix("✗ ")?.split_whitespace().next());
    // Of `CapabilityBoundingSet=~CAP_(DAC_*|FOWNER)` that is `DAC_`, of `User=/DynamicUser=` it is `User=`.
    let short = |name: &'_ str| {
        let name = name.rsplit(['~', '(']).next().unwrap_or_default().to_owned();
        name.split(['|', '*', ')', '/']).next().unwrap_or_default().to_owned()
    };
    let open: Vec<String> = open.map(short).collect();
    assert!(open.len() > 10, "{said}");
    let missing: Vec<_> = open.iter().filter(|name| !table.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} are open and not in deploy/README.md: {said}");
}

#[test]
fn the_documented_rights_are_those_of_the_unit_and_of_the_compose_file() {
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let tested = sorted(RIGHTS.map(|(name, _)| name.into()).to_vec());
    let unit = file("deploy/fnscope.service");
    let [unit] = values(&unit, "CapabilityBoundingSet=")[..] else { panic!("one line: {unit}") };
    let unit = unit.split(' ').map(|name| name.strip_prefix("CAP_").expect("CAP_…").into()).collect();
    assert_eq!(sorted(unit), tested, "deploy/fnscope.service");
    let compose = file("deploy/compose.yaml");
    let [compose] = values(&compose, "cap_add:")[..] else { panic!("one line: {compose}") };
    let compose = compose.trim_matches(['[', ']']).split(", ").map(String::from).collect();
    assert_eq!(sorted(compose), tested, "deploy/compose.yaml");
    let page = file("deploy/README.md");
    let (_, rights) = page.split_once("\n## Rights\n").expect("a section");
    let rights = rights.split("\n## ").next().expect("a section");
    let capability = |line: &str| {
        let cell = line.strip_prefix("| ")?.split(" |").next()?;
        let name = cell.split([' ', ',']).next()?;
        let is_name = name.len() > 3 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        (is_name && !cell.contains("optional")).then(|| name.to_owned())
    };
    assert_eq!(sorted(rights.lines().filter_map(capability).collect()), tested, "deploy/README.md");
}

#[test]
fn the_image_that_the_compose_file_starts_is_this_version_and_is_asked_alike() {
    let (compose, dockerfile) = (file("deploy/compose.yaml"), file("deploy/Dockerfile"));
    assert_eq!(values(&compose, "image:"), [format!("fnscope:{}", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(values(&compose, "test:"), ["[CMD, /usr/bin/fnscope, health, --live]"]);
    assert!(dockerfile.contains(r#"CMD ["/usr/bin/fnscope", "health", "--live"]"#), "{dockerfile}");
    // Both ask where the file that the agent reads has it listen: no flag names another one.
    assert_eq!(values(&dockerfile, "ENV FNSCOPE_CONFIG="), ["/etc/fnscope/fnscope.toml"]);
    let unit = file("deploy/fnscope.service");
    // A thread for each CPU.
    assert_eq!((values(&unit, "TasksMax="), values(&compose, "pids_limit:")), (vec!["4096"], vec!["4096"]));
    assert!(dockerfile.ends_with("\nCMD [\"agent\"]\n"), "{dockerfile}");
    let [profile] = values(&compose, "- seccomp:")[..] else { panic!("one line: {compose}") };
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(profile).is_file(), "{profile}");
    for setting in ["pid: host", "cgroup: host", "read_only: true", "network_mode: none", "cap_drop: [ALL]"] {
        assert!(compose.lines().any(|line| line.trim() == setting), "{setting} in deploy/compose.yaml");
    }
}

#[test]
fn the_configuration_of_packages_is_the_defaults_and_has_every_key() {
    let text = file("deploy/fnscope.toml");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "it changes nothing: {text}");
    // A comment of words begins with a space, a key does not.
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key.to_owned(),
        _ => String::new(),
    };
    let load = |text: String| {
        let file = File { path: "fnscope.toml".into(), text: text.clone() };
        let resolved = resolve(&Layers { file: Some(file), ..Layers::default() });
        resolved.unwrap_or_else(|faults| panic!("{faults} in {text}")).config
    };
    let lines = || text.lines().map(uncommented);
    load(lines().map(|line| line + "\n").collect());
    let defaults = lines().filter(|line| !line.contains("such as")).map(|line| line + "\n").collect();
    assert_eq!(load(defaults), Config::default());

    let page = file("deploy/README.md");
    let (_, table) = page.split_once("\n| key | default |").expect("a table of keys");
    let cells = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let has = |name: &str| {
        lines().any(|line| line.starts_with(&format!("{name} =")) || line.contains(&format!("{name}]")))
    };
    let missing: Vec<&str> = names.filter(|name| !has(name.rsplit('.').next().expect("a name"))).collect();
    assert!(missing.is_empty(), "{missing:?} are in deploy/README.md and not in deploy/fnscope.toml");
}
