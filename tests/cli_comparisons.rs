//! Cold starts, two sides compared and the conditions that fail a build, as a person and a build ask for them. Needs
//! no rights.

use std::path::Path;

use serde_json::Value;

use crate::made_store::{LIVES, Life, at, made, writer};
use crate::support::{Ended, Fnscope};

/// Keys of a frame of `diff --json`, in order.
const FRAME_KEYS: [&str; 12] = [
    "frame",
    "module",
    "kind",
    "self_samples",
    "total_samples",
    "self_share",
    "total_share",
    "self_delta",
    "total_delta",
    "design_effect",
    "cpu_seconds_per_instance",
    "cpu_seconds_per_start",
];

/// A store with revisions `1` and `2` of `pi`, whose leaf `hash` has a part of `per_mille` in each.
fn revisions(root: &Path, hash: [u32; 2]) {
    let mut journal = writer(root, "node-1");
    for (at, per_mille) in hash.into_iter().enumerate() {
        for n in 0..4 {
            let no = u32::try_from(at).expect("small") * 4 + n;
            let revision = ["1", "2"][at];
            let from_ms = i64::from(no) * 20_000;
            let samples = i64::from(1_000 + 10 * (n % 2));
            let life = Life { no, name: ["demo", "pi", revision], from_ms, samples, leaf: "work" };
            let mut batch = life.batch();
            let hot = Life { leaf: "hash", ..life }.batch();
            // One of each ten is the kernel's in `made_store`; here a part is `hash`'s.
            let mut seen = 0;
            for (sample, other) in batch.samples.iter_mut().zip(&hot.samples).skip(11) {
                seen += per_mille;
                if seen >= 900 && sample.stack != other.stack {
                    seen -= 900;
                    sample.stack = other.stack.clone();
                }
            }
            journal.append(&batch).expect("append");
        }
    }
    journal.finish().expect("close the journal");
}

fn conditions(scope: &Fnscope, conditions: &[&str]) -> Ended {
    let options: Vec<&str> = conditions.iter().flat_map(|one| ["--fail-if", one]).collect();
    scope.run([&["diff", "pi@1", "pi@2"], &options[..]].concat())
}

#[test]
fn a_build_fails_where_a_frame_grew_for_certain() {
    let scope = Fnscope::new();
    revisions(scope.store(), [200, 300]);
    let grown = conditions(&scope, &["delta(share(hash)) > 2.5pt"]);
    assert_eq!(grown.code, Some(1), "{grown:?}");
    assert!(grown.stderr.contains("failed: delta(share(hash)) > 2.5pt: from "), "{grown:?}");
    assert!(grown.stderr.contains("pt, at least +"), "{grown:?}");
    // One is enough; the others are told too.
    let some = conditions(&scope, &["delta(total) > 50%", "self(ha*) > 20%", "share(nobody) > 1%"]);
    assert_eq!(some.code, Some(1), "{some:?}");
    for says in ["passed: delta(total) > 50%", "failed: self(ha*) > 20%", "not measured: share(nobody)"] {
        assert!(some.stderr.contains(says), "{says}: {some:?}");
    }
    for condition in ["delta(share(hash)) > 20pt", "delta(share(work)) > 0pt", "delta(cpu_per_start) > 20%"] {
        assert_eq!(conditions(&scope, &[condition]).code, Some(0), "{condition}");
    }
    // What cannot be judged is an error, never a 1.
    for (arguments, code) in [
        (&["diff", "pi@1", "pi@9", "--fail-if", "delta(total) > 1%"][..], 2),
        (&["diff", "pi@1", "pi@9"], 1),
        (&["diff", "pi@1", "pi@2", "--until", "2020-01-01", "--fail-if", "delta(total) > 1%"], 2),
        (&["diff", "pi@1", "pi@2", "--fail-if", "delta(total) > 1"], 64),
        (&["diff", "pi@1", "pi@2", "--store", "/nowhere", "--fail-if", "delta(total) > 1%"], 2),
    ] {
        let ended = scope.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{arguments:?}: {ended:?}");
    }
    let same = Fnscope::new();
    revisions(same.store(), [250, 250]);
    let ended = conditions(&same, &["delta(share(*a*)) > 0.1pt", "delta(self(hash)) > 0.1pt"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_diff_tells_both_sides_in_every_form() {
    let scope = Fnscope::new();
    revisions(scope.store(), [200, 300]);
    let svg = scope.store().with_file_name("diff.svg");
    let answer = scope.json(["diff", "pi@1", "pi@2", "--json", "--svg", svg.to_str().expect("a plain path")]);
    let frames = answer["frames"].as_array().expect("a list");
    assert!(frames.iter().all(|row| crate::answers::keys(row) == FRAME_KEYS), "{frames:#?}");
    let hash = frames.iter().find(|row| row["frame"] == "hash").expect("it is there");
    let delta = hash["self_delta"]["points"].as_f64().expect("a number");
    assert!((7.0..13.0).contains(&delta) && hash["self_delta"]["significant"] == true, "{hash:#}");
    let main = frames.iter().find(|row| row["frame"] == "main").expect("it is there");
    assert_eq!(main["total_share"], serde_json::json!([1.0, 1.0]));
    for side in ["a", "b"] {
        assert_eq!((&answer[side]["instances"], &answer[side]["cold_starts"]), (&4.into(), &4.into()));
    }
    let drawn = std::fs::read_to_string(svg).expect("it was written");
    assert!(drawn.contains("pi@2") && drawn.contains("hash [pi]"), "{drawn}");
    let table = scope.run(["diff", "pi@1", "pi@2", "--per", "start", "-n", "2"]).stdout;
    assert!(table.contains("+/- SELF") && table.contains("B/START") && table.lines().count() == 3, "{table}");
    // Two windows, two instances, the other way round.
    let [cut, key] = [at(80_000).to_string(), format!("{:08x}", 0)];
    for options in [
        &["pi", "--a-until", &cut, "--b-since", &cut][..],
        &["pi@1", "pi@2", "--phase", "cold"],
        &["pi", "--a-instance", &key, "--b-instance", "pi.1"],
    ] {
        let ended = scope.run([&["diff", "--json"], options].concat());
        assert_eq!(ended.code, Some(0), "{options:?}: {ended:?}");
    }
}

#[test]
fn one_store_stands_against_another() {
    let (scope, other) = (Fnscope::new(), Fnscope::new());
    revisions(scope.store(), [200, 200]);
    revisions(other.store(), [400, 400]);
    let [a, b] = [&scope, &other].map(|scope| scope.store().to_str().expect("a plain path").to_owned());
    for options in [["--store", &a, "--store", &b], ["--a-store", &a, "--b-store", &b]] {
        let question = ["diff", "pi", "--fail-if", "delta(share(hash)) > 10pt"];
        let ended = scope.run([&question[..], &options].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let back = [options[0], options[3], options[2], options[1]];
        assert_eq!(scope.run([&question[..], &back].concat()).code, Some(0));
    }
}

#[test]
fn cold_starts_are_told_with_what_they_cost() {
    let scope = Fnscope::new();
    made(scope.store());
    let answer = scope.json(["cold", "demo/pi", "--json", "--frames"]);
    let starts = answer["starts"].as_array().expect("a list");
    assert_eq!(starts.len(), LIVES.iter().filter(|life| life.name[..2] == ["demo", "pi"]).count());
    for start in starts {
        assert_eq!((&start["exec_ms"], &start["ready_ms"]), (&100.0.into(), &Value::Null), "{start:#}");
        assert_eq!((&start["first_sample_ms"], &start["total_ms"]), (&0.0.into(), &100.0.into()));
        let (init, cold) = (&start["init_cpu_seconds"], &start["cold_cpu_seconds"]);
        assert_eq!((init.as_f64(), cold.as_f64()), (Some(0.1), Some(1.0)), "{start:#}");
        assert!(start["phases"].as_array().is_some_and(|phases| phases.len() >= 2), "{start:#}");
    }
    assert_eq!(answer["summary"]["exec_ms"]["median"], 100.0);
    assert!(answer["frames"].as_array().is_some_and(|rows| rows.len() == 4), "{answer:#}");
    let told = scope.run(["cold", "demo/pi", "-n", "1", "--frames"]);
    assert!(told.stdout.contains("COLD STARTS") && told.stdout.contains("COLD/START"), "{told:?}");
    assert!(told.stderr.contains("2 more starts, --limit 3"), "{told:?}");
    let none = scope.run(["cold", "fib", "--since", &at(60_000).to_string()]);
    assert_eq!(none.code, Some(1), "{none:?}");
}
