//! Several stores answered as one, hosts as an axis, and the questions of who runs a host: threads, throttling, cost.
//! Needs no rights.

use fnscope::model::{Batch, CgroupId, CpuStats, Entry, Fact, InstanceKey, InstanceNo, OwnUse};
use serde_json::{Value, json};

use crate::answers::text;
use crate::made_store::{LIVES, Life, at, made, writer, writer_booted};
use crate::support::Fnscope;

/// A store of node `node` that booted as `boot`, with one life of `pi` in it.
fn store_of(node: &str, boot: &str, samples: i64) -> Fnscope {
    let scope = Fnscope::new();
    let life = Life { no: 1, name: ["demo", "pi", "1"], from_ms: 0, samples, leaf: "compute_pi" };
    let mut batch = life.batch();
    for entry in &mut batch.entries {
        if let Entry::Instance { info, .. } = entry {
            info.key = InstanceKey::new(&life.container(), boot, CgroupId(1));
        }
    }
    batch.cpus = vec![CpuStats { cpu: 1, samples: 500, lost: 7 }];
    batch.unattributed = 3;
    batch.own_use = OwnUse { cpu_us: 20_000, memory_bytes: 30 << 20 };
    let mut journal = writer_booted(scope.store(), node, boot);
    journal.append(&batch).expect("append");
    journal.finish().expect("close the journal");
    scope
}

fn plain(scope: &Fnscope) -> &str {
    scope.store().to_str().expect("a plain path")
}

#[test]
fn two_machines_of_one_name_stay_two() {
    let boots = ["11111111-aaaa", "11111111-bbbb"];
    let (one, two) = (store_of("edge", boots[0], 100), store_of("edge", boots[1], 50));
    let both = ["--store", plain(&one), "--store", plain(&two)];
    let rows = |question: &[&str]| one.rows(&[question, &both].concat());
    // The same begin of the boot id, the same container and cgroup: the keys are alike, the machines are not.
    let instances = rows(&["instances"]);
    let samples: Vec<_> = instances.iter().map(|row| row["samples"].as_i64()).collect();
    assert_eq!((samples.len(), samples.iter().flatten().sum::<i64>()), (2, 170), "{instances:#?}");
    assert_eq!(rows(&["hosts"]).len(), 2);
    let (one, two) = (store_of("edge", "22222222", 100), store_of("edge", "33333333", 50));
    let both = ["--store", plain(&one), "--store", plain(&two)];
    let rows = |question: &[&str]| one.rows(&[question, &both].concat());
    let hosts: Vec<_> = rows(&["hosts"]).iter().map(|row| text(row, "host").to_owned()).collect();
    assert_eq!(hosts, ["edge@22222222", "edge@33333333"]);
    let by_host = rows(&["ls", "--by", "host"]);
    let told: Vec<_> = by_host.iter().map(|row| (text(row, "host"), row["samples"].as_i64())).collect();
    assert_eq!(told, [("edge@22222222", Some(110)), ("edge@33333333", Some(60))]);
    assert_eq!(rows(&["ls"])[0]["samples"], 170);
    for (host, samples) in [("edge@33333333", 60), ("edge", 170)] {
        assert_eq!(rows(&["ls", "--host", host])[0]["samples"], samples, "{host}");
        let folded = one.run([&["folded", "pi", "--phase", "all", "--host", host], &both[..]].concat());
        let count = folded.stdout.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<i64>().ok());
        assert_eq!(count.sum::<i64>(), samples, "{host}");
    }
    let unknown = one.run([&["ls", "--host", "edgy"], &both[..]].concat());
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(
        unknown.stderr.contains("no host `edgy`") && unknown.stderr.contains("`edge@33333333`"),
        "{unknown:?}"
    );
}

#[test]
fn one_machine_in_two_stores_is_one() {
    let (one, two) = (store_of("edge", "22222222", 100), Fnscope::new());
    // A store twice, by another way to it; and another journal of the same instance.
    let beside = one.store().with_file_name("beside");
    std::os::unix::fs::symlink(one.store(), &beside).expect("make a link");
    let again = beside.to_str().expect("a plain path");
    assert_eq!(one.rows(&["ls", "--store", plain(&one), "--store", again])[0]["samples"], 110);
    made(two.store());
    let mut second = writer(two.store(), "node-1");
    second.append(&Life { from_ms: 10_000, ..life(0) }.batch()).expect("append");
    second.finish().expect("close the journal");
    let third = Fnscope::new();
    made(third.store());
    let rows = third.rows(&["instances", "--store", plain(&two), "--store", plain(&third)]);
    assert_eq!(rows.len(), LIVES.len(), "the same boot and cgroup is the same instance");
    assert_eq!(third.rows(&["hosts", "--store", plain(&two), "--store", plain(&third)]).len(), 1);
}

fn life(at: usize) -> Life {
    let Life { no, name, from_ms, samples, leaf } = LIVES[at];
    Life { no, name, from_ms, samples, leaf }
}

#[test]
fn hosts_tell_how_they_were_sampled_and_what_they_lost() {
    let scope = store_of("edge", "22222222", 100);
    let rows = scope.rows(&["hosts"]);
    let row = &rows[0];
    assert_eq!(rows.len(), 1);
    for (key, expected) in [
        ("node", json!("edge")),
        ("kernels", json!(["6.8.0"])),
        ("cpu_models", json!(["Model 1\u{1b}[31m"])),
        ("agent_cpu_seconds", json!(0.02)),
        ("agent_memory_bytes", json!(30 << 20)),
        ("cpus", json!(2)),
        ("hz", json!([100])),
        ("events", json!(["cpu-clock"])),
        ("samples", json!(110)),
        ("ring_samples", json!(500)),
        ("ring_lost", json!(7)),
        ("by_cpu", json!([{"cpu": 1, "samples": 500, "lost": 7}])),
        ("unattributed", json!(3)),
        ("clock_steps", json!([])),
        ("first_seen", json!(at(0).to_string())),
    ] {
        assert_eq!(row[key], expected, "{key} of {row:#}");
    }
    let table = scope.run(["hosts"]).stdout;
    assert!(table.contains("edge") && table.contains("1: 7"), "{table}");
    assert!(table.contains("30 MiB") && table.contains("Model 1") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn top_groups_by_module_thread_and_phase() {
    let scope = Fnscope::new();
    made(scope.store());
    let names = |by: &str, key: &str| -> Vec<(String, Option<i64>)> {
        let rows = scope.rows(&["top", "fib", "--by", by]);
        let samples = |row: &Value| row["self_samples"].as_i64().or(row["samples"].as_i64());
        rows.iter().map(|row| (text(row, key).to_owned(), samples(row))).collect()
    };
    assert_eq!(names("module", "module"), [("fib".into(), Some(90)), ("kernel".into(), Some(10))]);
    assert_eq!(names("thread", "thread"), [("main".into(), Some(100))]);
    assert_eq!(names("phase", "phase"), [("runtime-init".into(), Some(10)), ("cold".into(), Some(100))]);
    let row = &scope.rows(&["top", "demo/pi", "--by", "thread", "-n", "1"])[0];
    assert_eq!((row["tid"].as_i64(), row["samples"].as_i64()), (Some(101), Some(300)), "{row:#}");
    for by in ["module", "thread", "phase"] {
        assert!(scope.run(["top", "fib", "--by", by]).stdout.contains(&by.to_uppercase()), "{by}");
    }
}

#[test]
fn throttling_and_cost_are_told_for_the_window() {
    let scope = Fnscope::new();
    made(scope.store());
    assert_eq!(scope.run(["throttled"]).code, Some(1), "nobody told of any");
    let mut journal = writer(scope.store(), "node-1");
    let mut batch: Batch =
        Life { no: 9, name: ["demo", "slow", "1"], from_ms: 0, samples: 390, leaf: "x" }.batch();
    let no = InstanceNo(9);
    for (ms, fact) in [
        (1_000, Fact::Throttled { count: 2, us: 500_000 }),
        (3_000, Fact::Throttled { count: 6, us: 1_500_000 }),
        (3_000, Fact::Pressure { us: 250_000 }),
        (2_000, Fact::Frozen(true)),
        (2_500, Fact::Frozen(false)),
    ] {
        batch.entries.push(Entry::Fact { no, at: at(ms), fact });
    }
    journal.append(&batch).expect("append");
    journal.finish().expect("close the journal");
    for (options, seconds, count) in [
        (&[][..], 1.5, 6),
        (&["--since", &at(1_500).to_string()], 1.0, 4),
        (&["--until", &at(1_500).to_string()], 0.5, 2),
    ] {
        let rows = scope.rows(&[&["throttled"], options].concat());
        assert_eq!(rows.len(), 1, "{rows:#?}");
        let found = (rows[0]["throttled_seconds"].as_f64(), rows[0]["throttled_count"].as_i64());
        assert_eq!(found, (Some(seconds), Some(count)), "{options:?}");
    }
    let row = &scope.rows(&["throttled", "slow"])[0];
    assert_eq!((&row["pressure_seconds"], &row["frozen_seconds"]), (&json!(0.25), &json!(0.5)), "{row:#}");

    // 8.6 CPU seconds of the made store, 4 of the slow one.
    let total = |options: &[&str], key: &str| -> f64 {
        scope.rows(&[&["cost"], options].concat()).iter().filter_map(|row| row[key].as_f64()).sum()
    };
    let all: i64 = LIVES.iter().map(|life| life.samples + 10).sum();
    let seconds = (all + 400) as f64 / 100.0;
    for by in ["function", "revision", "day", "host", "day,function,host"] {
        assert!((total(&["--by", by], "cpu_seconds") - seconds).abs() < 1e-6, "{by}");
        assert!((total(&["--by", by], "sampled_seconds") - seconds).abs() < 1e-6, "{by}");
    }
    let price = scope.store().with_file_name("fnscope.toml");
    std::fs::write(&price, "[cost]\nper_cpu_hour = 36\ncurrency = \"EUR\"\n").expect("write a file");
    let price = price.to_str().expect("a plain path");
    assert!((total(&["--config", price], "cost") - seconds / 100.0).abs() < 1e-9);
    assert!((total(&["--config", price, "--per-cpu-hour", "72"], "cost") - seconds / 50.0).abs() < 1e-9);
    let table = scope.run(["cost", "--by", "day", "--config", price]).stdout;
    assert!(table.contains("2026-11-23") && table.contains("EUR"), "{table}");
}
