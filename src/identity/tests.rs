//! The rules against containers of every platform, through the door that `fnscope identify --file` uses.

use serde_json::{Value, json};

use super::row::{Row, answer, rows};
use super::rules::RULES;
use super::{Answer, Functions, Identified, IdentityConfig, Keys, identify, parse};
use crate::model::{Confidence, Container};

const FIXTURES: &str = include_str!("../../tests/fixtures/identity.json");

fn fixtures() -> Vec<(Value, Identified)> {
    let text: Value = serde_json::from_str(FIXTURES).expect("the fixtures are JSON");
    let fixtures = text["fixtures"].as_array().expect("an array").clone();
    let elements = parse(FIXTURES.as_bytes(), &Keys::default()).expect("the fixtures are an input");
    let rows = rows(&elements, &IdentityConfig::default());
    assert_eq!(fixtures.len(), rows.len());
    fixtures
        .into_iter()
        .zip(rows)
        .map(|(fixture, row)| match row {
            Row::Identified(row) => (fixture, row),
            Row::Failed { id, error } => panic!("{id:?}: {error}"),
        })
        .collect()
}

fn all() -> IdentityConfig {
    IdentityConfig { functions: Functions::All, ..IdentityConfig::default() }
}

/// The answer that a row does not show all of.
fn answer_of(at: usize) -> Answer {
    let elements = parse(FIXTURES.as_bytes(), &Keys::default()).expect("the fixtures are an input");
    let element = &elements[at];
    answer(element.container.as_ref().expect("it is read"), &element.later, &IdentityConfig::default())
}

#[test]
fn every_recorded_container_is_named_as_expected() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 31);
    for (at, (fixture, row)) in fixtures.into_iter().enumerate() {
        let id = fixture["id"].as_str().expect("an id");
        assert_eq!(row.id, id);
        let expect = fixture["expect"].as_object().expect("an expectation");
        let (got, answer) = (json!(row), answer_of(at));
        let text = |name: Option<String>| name.map_or(Value::Null, Value::from);
        for (key, value) in expect {
            let (got, value) = match (key.as_str(), value.as_str()) {
                ("function_container" | "platform" | "namespace" | "function" | "confidence", _) => {
                    (got[key].clone(), value)
                }
                ("attach", _) => (got["function_container"].clone(), value),
                ("version", _) => (got["revision"].clone(), value),
                ("instance", Some("{container.id}")) => {
                    (got["instance_name"].clone(), &fixture["container"]["Id"])
                }
                ("instance", _) => (got["instance_name"].clone(), value),
                ("runtime_kind", _) => (text(answer.runtime_kind.clone()), value),
                ("fallback_name", _) => (text(answer.fallback_name.clone()), value),
                // Where the function comes from: not from what was known at the container's creation.
                ("identity_source", Some("k8s-api-labels")) => {
                    let elements = parse(FIXTURES.as_bytes(), &Keys::default()).expect("an input");
                    let container = elements[at].container.as_ref().expect("it is read");
                    let before = identify(container, &IdentityConfig::default());
                    assert_eq!(before.identity.confidence, Confidence::Prewarm, "{id}");
                    assert!(before.runtime_kind.is_some() && before.identity.function.is_none(), "{id}");
                    continue;
                }
                // In words of its own.
                ("reason", _) => continue,
                (other, _) => panic!("{id}: a new expectation `{other}`"),
            };
            assert_eq!(&got, value, "{id}: {key} in {row:?}");
        }
        assert!(answer.looked_at.iter().all(|looked| !looked.why.is_empty()), "{id}");
    }
}

#[test]
fn services_take_their_recorded_names_when_every_container_counts() {
    let elements = parse(FIXTURES.as_bytes(), &Keys::default()).expect("the fixtures are an input");
    let all = all();
    let text: Value = serde_json::from_str(FIXTURES).expect("the fixtures are JSON");
    let mut named = 0;
    for (fixture, row) in text["fixtures"].as_array().expect("an array").iter().zip(rows(&elements, &all)) {
        if let Some(name) = fixture["expect"]["fallback_name"].as_str() {
            let Row::Identified(row) = row else { panic!("{row:?}") };
            assert_eq!((row.function.as_deref(), row.function_container), (Some(name), true));
            named += 1;
        }
    }
    assert_eq!(named, 2);
}

#[test]
fn a_row_has_these_keys_and_no_others() {
    let (_, row) = fixtures().swap_remove(5);
    let keys: Vec<String> = json!(row).as_object().expect("an object").keys().cloned().collect();
    let expected = [
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
    assert_eq!(keys, expected);
}

#[test]
fn every_rule_says_what_it_looked_at() {
    let plain = Container { runtime: "docker".into(), name: Some("plain".into()), ..Container::default() };
    let answer = identify(&plain, &IdentityConfig::default());
    assert_eq!(answer.looked_at.len(), RULES.len());
    assert!(answer.looked_at.iter().all(|looked| !looked.matched && !looked.why.is_empty()));
    let own = Container { labels: vec![("fnscope.function".into(), "f".into())], ..plain };
    let answer = identify(&own, &IdentityConfig::default());
    let tried: Vec<(&str, bool)> =
        answer.looked_at.iter().map(|looked| (looked.rule.as_ref(), looked.matched)).collect();
    let expected =
        [("ignored", false), ("pod-not-main", false), ("pod-sidecar", false), ("fnscope-labels", true)];
    assert_eq!(tried, expected);
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
}

#[test]
fn a_bad_element_is_an_error_in_its_place() {
    let text = json!([
        7,
        { "Id": "a", "Name": "/x", "Config": { "Labels": { "fnscope.function": "f" }, "Env": null } },
        { "Id": "b", "Config": { "Env": "PATH=/" } },
        { "Id": "c", "Config": { "Labels": { "n": 1 } } },
        { "Id": "d" },
        { "name": "e" },
    ]);
    let elements = parse(text.to_string().as_bytes(), &Keys::default()).expect("an input");
    let rows = json!(rows(&elements, &IdentityConfig::default()));
    assert_eq!(rows[0], json!({ "id": null, "error": "the element is not an object" }));
    assert_eq!((&rows[1]["function"], &rows[1]["instance_name"]), (&json!("f"), &json!("a")));
    assert_eq!(rows[2], json!({ "id": "b", "error": "`Env` is not a list" }));
    assert_eq!(rows[3], json!({ "id": "c", "error": "`Labels` holds more than strings" }));
    assert!(rows[4]["error"].as_str().is_some_and(|error| error.contains("`Config`")));
    assert!(rows[5]["error"].as_str().is_some_and(|error| error.contains("not a container")));
    assert_eq!(rows.as_array().map(Vec::len), Some(6));
}

#[test]
fn texts_that_are_no_input_are_refused_with_a_reason() {
    for (text, reason) in [
        ("", "not JSON"),
        ("7", "neither an object nor an array"),
        (r#"{"fixtures": 7}"#, "neither an object nor an array"),
        ("[1,", "not JSON"),
    ] {
        let error = parse(text.as_bytes(), &Keys::default()).expect_err(text);
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    let many = format!("[{}0]", "0,".repeat(super::input::MAX_ELEMENTS));
    assert!(parse(many.as_bytes(), &Keys::default()).is_err());
    assert!(parse(&vec![b' '; super::input::MAX_BYTES + 1], &Keys::default()).is_err());
    assert!(parse("[".repeat(100_000).as_bytes(), &Keys::default()).is_err());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn json_value() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "id",
            "Id",
            "Name",
            "Config",
            "Labels",
            "Env",
            "Cmd",
            "Entrypoint",
            "Image",
            "container",
            "runtime",
            "labels",
            "fnscope.function",
            "fixtures",
            "env",
            "image",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            Just(Value::from("LAMBDA_TASK_ROOT=/")),
        ];
        leaf.prop_recursive(5, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..8).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_string(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_elements(text in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(elements) = parse(&text, &Keys::default()) {
                rows(&elements, &all());
            }
        }

        #[test]
        fn any_json_gives_a_row_for_every_element(value in json_value()) {
            if let Ok(elements) = parse(value.to_string().as_bytes(), &Keys::default()) {
                let rows = rows(&elements, &all());
                prop_assert_eq!(rows.len(), elements.len());
            }
        }

        #[test]
        fn names_are_bounded_whatever_a_container_says(
            name in ".{0,600}", label in ".{0,600}", key in prop::sample::select(crate::identity::LABEL_ALLOW_LIST.to_vec()),
            env in prop::sample::select(crate::identity::ENV_ALLOW_LIST.to_vec()),
        ) {
            let container = Container {
                name: Some(name.clone()),
                image: Some(name.clone()),
                labels: vec![(key.into(), label), ("com.docker.compose.service".into(), name.clone())],
                env: vec![format!("{env}={name}")],
                ..Container::default()
            };
            let identity = identify(&container, &all()).identity;
            for name in [identity.platform, identity.namespace, identity.function, identity.revision, identity.instance_name] {
                prop_assert!(name.is_none_or(|name| name.len() <= 253));
            }
        }
    }
}
