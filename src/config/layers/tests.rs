//! Layers as the command line puts them together: who goes over whom, and every fault with its place.

use proptest::prelude::*;

use super::*;
use crate::config::{MAX_HZ, Unwind, keys};

fn layers(text: &str, variables: &[(&str, &str)], flags: &[Flag]) -> Layers {
    Layers {
        file: Some(File { path: "a.toml".into(), text: text.into() }),
        variables: variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        flags: flags.to_vec(),
    }
}

fn flag(name: &'static str, key: &'static str, value: Given) -> Flag {
    Flag { name, key, value }
}

fn resolved(text: &str, variables: &[(&str, &str)], flags: &[Flag]) -> Resolved {
    resolve(&layers(text, variables, flags)).unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str, variables: &[(&str, &str)], flags: &[Flag]) -> Vec<String> {
    let Faults(faults) = resolve(&layers(text, variables, flags)).expect_err("it has faults");
    faults.iter().map(Fault::to_string).collect()
}

#[test]
fn later_layers_go_over_earlier_ones_key_by_key() {
    let file = "hz = 1\nmax_hz = 2\nnode = \"file\"\n[stack]\nunwind = \"fp\"\ndebug_dirs = [\"/a\"]\n";
    let variables = [
        ("FNSCOPE_MAX_HZ", "3"),
        ("FNSCOPE_NODE", "variable"),
        ("FNSCOPE_STACK_DEBUG_DIRS", "/b,/c"),
        ("PATH", "/bin"),
        ("FNSCOPE_LOG", "debug"),
        ("FNSCOPE_HZ", ""),
    ];
    let resolved = resolved(file, &variables, &[flag("--node", "node", Given::Text("flag".into()))]);
    let config = &resolved.config;
    assert_eq!((config.hz, config.max_hz, config.node.as_deref()), (1, 3, Some("flag")));
    assert_eq!(config.stack.debug_dirs, ["/b", "/c"].map(PathBuf::from));
    let line = |line| Origin::File { path: "a.toml".into(), line };
    for (key, origins) in [
        ("hz", vec![line(1)]),
        ("max_hz", vec![Origin::Variable("FNSCOPE_MAX_HZ".into())]),
        ("node", vec![Origin::Flag("--node")]),
        ("stack.unwind", vec![line(5)]),
        ("stack.scan", vec![]),
    ] {
        assert_eq!(resolved.origins(key), origins, "{key}");
    }
}

#[test]
fn the_store_is_a_path_or_a_table() {
    let path = |text: &str, variables: &[(&str, &str)]| resolved(text, variables, &[]).config.store.path;
    assert_eq!(path("store = \"/a\"", &[]), PathBuf::from("/a"));
    assert_eq!(path("[store]\npath = \"/b\"", &[]), PathBuf::from("/b"));
    // As every other command takes it.
    assert_eq!(path("store = \"/a\"", &[("FNSCOPE_STORE", "\"/c\"")]), PathBuf::from("\"/c\""));
    assert_eq!(
        faults("store = 7", &[], &[]),
        ["a.toml:1: store is a table, no integer; give its keys, such as store.path"]
    );
}

#[test]
fn a_variable_is_read_as_what_its_key_asks_for() {
    let value = |name, text| {
        let name = format!("FNSCOPE_{name}");
        let resolved =
            resolve(&layers("", &[(name.as_str(), text)], &[])).unwrap_or_else(|faults| panic!("{faults}"));
        let key = keys::all().find(|key| keys::variable(key) == name).expect("a key");
        let values = keys::values(&resolved.config).expect("text");
        values
            .into_iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.to_string())
            .expect("each key")
    };
    for (name, text, expected) in [
        ("HZ", "0x63", "99"),
        ("NODE", "7", "\"7\""),
        ("NODE", "\"a b\"", "\"a b\""),
        ("STACK_UNWIND", "fp", "\"fp\""),
        ("STACK_UNWIND", "'fp'", "\"fp\""),
        ("BUDGET_CPU", "0", "\"0\""),
        ("RUNTIMES_DOCKER", "/run/d.sock", "\"/run/d.sock\""),
        ("COST_PER_CPU_HOUR", "1", "1.0"),
        ("CGROUP_PARENTS", "/a", "[\"/a\"]"),
        ("CGROUP_PARENTS", "/a, /b,", "[\"/a\",\"/b\"]"),
        ("CGROUP_PARENTS", "[\"/a,b\"]", "[\"/a,b\"]"),
        ("IDENTITY_ENV", "7", "[\"7\"]"),
        ("IDENTITY_ALLOW_NAMESPACES", "[]", "[]"),
        ("LISTEN_HEALTH", "0.0.0.0:9878", "\"0.0.0.0:9878\""),
    ] {
        assert_eq!(value(name, text), expected, "{name}={text}");
    }
    let rules = "[{ image = \"*\", function = \"${name}\" }]";
    assert_eq!(resolved("", &[("FNSCOPE_IDENTITY_RULES", rules)], &[]).config.identity.rules.len(), 1);
}

#[test]
fn a_flag_adds_to_a_list() {
    let more = [flag("--cgroup-parent", "cgroup.parents", Given::More(vec!["/b".into()]))];
    let both = resolved("[cgroup]\nparents = [\"/a\"]\n", &[], &more);
    assert_eq!(both.config.cgroup.parents, ["/a", "/b"]);
    assert_eq!(both.origins("cgroup.parents").len(), 2);
    assert_eq!(resolved("", &[], &more).config.cgroup.parents, ["/b"]);
}

#[test]
fn all_faults_of_all_layers_are_told_at_once_with_their_places() {
    let file = "\
herz = 99
hz = 0
[stak]
unwind = \"fp\"
[stack]
unwind = \"lbr\"
scan = \"no\"
copy_bytes = 1
[runtimes]
docker = \"yes\"
[cgroup]
parents = [\"/a\", 7, true]
[[identity.rules]]
function = \"${name}\"
[[identity.rules]]
name = \"x\"
imag = \"*\"
labels = { a = 1 }
env = 7
[[identity.rules]]
name = \"y\"
image = \"*\"
";
    let variables = [
        ("FNSCOPE_STACK_UNWND", "fp"),
        ("FNSCOPE_MAX_HZ", "many"),
        ("FNSCOPE_EVENT", "l1"),
        ("FNSCOPE_HZ", "0"),
    ];
    let flags = [flag("--listen-health", "listen.health", Given::Text("here".into()))];
    let all = faults(file, &variables, &flags);
    let expected = [
        "a.toml:1: `herz` is no key; did you mean `hz`?",
        "a.toml:3: `stak` is no key; did you mean `stack`?",
        "a.toml:6: stack.unwind: unknown variant `lbr`",
        "a.toml:7: stack.scan: unknown variant `no`",
        "a.toml:8: stack.copy_bytes is 1; give",
        "a.toml:10: runtimes.docker: \"yes\" is none of \"auto\", \"off\"",
        "a.toml:12: cgroup.parents: invalid type: boolean",
        "a.toml:12: cgroup.parents: invalid type: integer",
        "a.toml:17: `identity.rules.imag` is no key; did you mean `identity.rules.image`?",
        "a.toml:18: identity.rules: invalid type: integer `1`",
        "a.toml:19: identity.rules: invalid type: integer `7`",
        "variable FNSCOPE_EVENT: event: unknown variant `l1`",
        "variable FNSCOPE_HZ: hz is 0; give",
        "variable FNSCOPE_MAX_HZ: max_hz: invalid type",
        "variable FNSCOPE_STACK_UNWND: no variable of fnscope; did you mean FNSCOPE_STACK_UNWIND?",
        "flag --listen-health: listen.health is \"here\"",
    ];
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for (fault, expected) in all.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{expected} in {fault}");
    }
}

#[test]
fn what_makes_no_sense_is_told_at_the_line_of_its_rule() {
    let file = "[[identity.rules]]\nimage = \"*\"\nfunction = \"f\"\n[[identity.rules]]\nimage = \"*\"\n\n\
                [[identity.rules]]\nname = \"1x\"\nfunction = \"f\"\n";
    let all = faults(file, &[], &[]);
    assert!(
        all.len() == 2 && all[0].starts_with("a.toml:4: identity.rules 2: it names no function"),
        "{all:#?}"
    );
    assert!(all[1].starts_with("a.toml:7: identity.rules 1x: it matches on nothing"), "{all:#?}");
    // Of a list from two places nobody knows which.
    let more = [flag("--cgroup-parent", "cgroup.parents", Given::More(vec!["fn".into()]))];
    let all = faults("[cgroup]\nparents = [\"/a\"]\n", &[], &more);
    assert!(all[0].starts_with("a.toml:2 and flag --cgroup-parent: cgroup.parents has \"fn\""), "{all:#?}");
}

#[test]
fn wrong_toml_is_told_with_its_lines_beside_other_layers_faults() {
    let all = faults("hz\nmax_hz = = 1\n[stack\nnode = \"a\"\n", &[("FNSCOPE_HZZ", "1")], &[]);
    assert!(all.len() >= 3 && all[0].starts_with("a.toml:1: "), "{all:#?}");
    assert!(all.iter().any(|fault| fault.contains("FNSCOPE_HZ?")), "{all:#?}");
    assert!(!all.iter().any(|fault| fault.contains("is no key")), "{all:#?}");
    let all = faults(&"\u{1}\n".repeat(5_000), &[], &[]);
    assert!((1..=20).contains(&all.len()), "{}", all.len());
    assert!(faults("hz = 1\nhz = 2\n", &[], &[])[0].starts_with("a.toml:2: "));
    let deep = format!("node = {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(faults(&deep, &[], &[]).len(), 1);
}

#[test]
fn every_fault_begins_with_the_key_that_it_is_of() {
    let text = "hz = 0\nmax_hz = 0\nring_budget_bytes = 0\n[store]\nmax_age = \"\"\nmax_bytes = \"\"\nfolded = \"\"\n\
                min_free_bytes = \"\"\n[off_cpu]\nfunctions = [\"\"]\nmax_switches_per_second = 0\n[budget]\nmemory = \"\"\n\
                cpu = \"\"\n[listen]\nhealth = \"\"\n[stack]\ncopy_bytes = 1\ndebug_dirs = [\"a\"]\ndebuginfod = [\"a\"]\n\
                [identity]\nenv = [\"\"]\nkeep_labels = [\"\"]\n[[identity.rules]]\n[cgroup]\nparents = [\"a\"]\n";
    let all = faults(text, &[], &[]);
    assert!(all.len() > 18, "{all:#?}");
    for fault in all {
        assert!(fault.starts_with("a.toml:"), "{fault}");
    }
}

/// A key or a variable, or nearly.
fn name() -> impl Strategy<Value = String> {
    let known: Vec<String> =
        keys::all().map(String::from).chain(["store".into(), "identity.rules".into()]).collect();
    prop_oneof![4 => proptest::sample::select(known), 1 => "[a-z_.]{0,12}", 1 => ".{0,9}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{0,12}",
        "\"[a-z0-9%/:]{0,9}\"",
        "[a-z0-9%/,:]{0,9}",
        "\\[(\"[a-z/*]{0,5}\"|[0-9]|\\{ (name|image|function|labels) = (\"[a-z$\\{\\}]{0,7}\"|7) \\}|, ){0,4}\\]",
        ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn any_text_and_any_variables_are_a_configuration_or_faults(
        lines in proptest::collection::vec((name(), value()), 0..5),
        text in "(.|\n){0,60}",
        variables in proptest::collection::vec((name(), value()), 0..4),
        kernel: Option<u32>,
    ) {
        let file: String = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let text = if file.is_empty() { text } else { file };
        let named = |name: &str| format!("FNSCOPE_{}", name.to_uppercase().replace('.', "_"));
        let variables = variables.iter().map(|(name, value)| (named(name), value.clone())).collect();
        let layers = Layers { file: Some(File { path: "a".into(), text }), variables, flags: Vec::new() };
        match resolve(&layers) {
            Ok(resolved) => {
                prop_assert!(resolved.config.faults().is_empty());
                prop_assert!((1..=MAX_HZ).contains(&resolved.config.clamped_hz(kernel)));
                let text = crate::config::written::as_toml(&resolved).expect("text");
                let file = Some(File { path: "b".into(), text });
                let again = resolve(&Layers { file, ..Layers::default() });
                prop_assert_eq!(again.map(|again| again.config), Ok(resolved.config));
            }
            Err(Faults(faults)) => prop_assert!(!faults.is_empty()),
        }
    }
}

#[test]
fn the_command_line_says_what_it_means() {
    let unwind = flag("--unwind", "stack.unwind", Given::Text("fp".into()));
    let quoted = flag("--node", "node", Given::Text("\"7\"".into()));
    let config =
        resolved("[stack]\nunwind = \"auto\"\n", &[("FNSCOPE_STACK_UNWIND", "dwarf")], &[unwind, quoted])
            .config;
    assert_eq!((config.stack.unwind, config.node.as_deref()), (Unwind::Fp, Some("\"7\"")));
    let docker = flag("--no-docker", "runtimes.docker", Given::Text("off".into()));
    let config = resolved("[runtimes]\ndocker = \"auto\"\n", &[], &[docker]).config;
    assert_eq!(config.runtimes.docker, crate::config::Whether::Off);
}
