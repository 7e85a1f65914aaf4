//! Time off the CPU and counters, asked like the rest: the same from a journal and from a sealed hour, beside samples of
//! the CPU clock and never among them. Needs no rights.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::answers::{keys, number, row, text};
use crate::made_store::{LIVES, WAITED_US, made, writer, writer_of};
use crate::support::{Ended, Fnscope};

const BOOT: &str = "7e9d3f62-1111-2222-3333-444455556666";

/// `fib` with its waits.
fn with_waits() -> Fnscope {
    let scope = Fnscope::new();
    let mut writer = writer(scope.store(), "node-1");
    for life in &LIVES {
        let mut batch = life.batch();
        if life.no == 3 {
            batch.waits = life.waits();
        }
        writer.append(&batch).expect("append");
    }
    writer.finish().expect("close the journal");
    scope
}

fn seal(scope: &Fnscope) {
    let ended = scope.run(["seal"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn json_of(scope: &Fnscope, question: &[&str]) -> Value {
    let ended = scope.run([question, &["--json"]].concat());
    assert_eq!(ended.code, Some(0), "{question:?}: {ended:?}");
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` in {}", ended.stderr);
    }
}

/// The sum of folded text.
fn sum(folded: &str) -> u64 {
    folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn waits_are_answered_alike_from_a_journal_and_from_a_sealed_hour_and_change_no_sample() {
    let (plain, scope) = (Fnscope::new(), with_waits());
    made(plain.store());
    let questions: &[&[&str]] = &[
        &["ls"],
        &["instances", "fib"],
        &["top", "fib", "--event", "off-cpu"],
        &["top", "fib", "--event", "off-cpu", "--preempted", "include", "--phase", "all"],
        &["top", "fib", "--event", "off-cpu", "--by", "thread"],
        &["top", "fib", "--event", "off-cpu", "--by", "phase"],
        &["top", "fib", "--event", "off-cpu", "--by", "module"],
        &["folded", "fib", "--event", "off-cpu", "--preempted", "only"],
        &[
            "top",
            "fib",
            "--event",
            "off-cpu",
            "--since",
            "2026-11-23T08:00:02.300Z",
            "--until",
            "2026-11-23T08:00:02.5Z",
        ],
        &["ls", "--since", "2026-11-23T08:00:02.300Z", "--until", "2026-11-23T08:00:02.5Z"],
    ];
    let before: Vec<Value> = questions.iter().map(|question| json_of(&scope, question)).collect();
    for sealed in [false, true] {
        if sealed {
            seal(&scope);
            seal(&plain);
        }
        let after: Vec<Value> = questions.iter().map(|question| json_of(&scope, question)).collect();
        assert_eq!(after, before, "sealed {sealed}");
        for question in [&["top", "fib"][..], &["folded", "demo/pi"], &["cost"], &["cold", "fib"], &["hosts"]]
        {
            assert_eq!(json_of(&scope, question), json_of(&plain, question), "{question:?}, sealed {sealed}");
        }
        let rows = scope.rows(&["ls"]);
        for (one, other) in rows.iter().zip(&plain.rows(&["ls"])) {
            for key in keys(other).into_iter().filter(|key| !key.contains("seconds") && *key != "waits") {
                assert_eq!(one[key], other[key], "{key}");
            }
            assert_eq!(one["sampled_seconds"], other["sampled_seconds"]);
        }
        let fib = row(&rows, "fib");
        let all: u64 = WAITED_US.iter().sum();
        assert_eq!(number(fib, "off_cpu_seconds"), all as f64 / 1e6);
        assert_eq!((number(fib, "preempted_seconds"), &fib["waits"]), (0.002, &json!(15)));
        let others: Vec<&Value> = rows.iter().filter(|row| row["function"] == "pi").collect();
        assert!(!others.is_empty() && others.iter().all(|row| row["off_cpu_seconds"].is_null()));
    }
    let table = scope.run(["ls"]).stdout;
    assert!(table.contains("OFF-CPU") && table.contains("532 ms"), "{table}");
    assert!(!plain.run(["ls"]).stdout.contains("OFF-CPU"), "only where there is any");
    let one = scope.run(["instances", "fib", "--instance", "fib.3"]).stdout;
    assert!(one.contains("532 ms in 15 waits, 2.0 ms of it preempted"), "{one}");
}

#[test]
fn top_and_folded_weigh_by_time_and_say_what_is_left_out() {
    let scope = with_waits();
    for sealed in [false, true] {
        if sealed {
            seal(&scope);
        }
        let off_cpu = ["--event", "off-cpu"];
        let ended = scope.run([&["top", "fib"], &off_cpu[..]].concat());
        says(
            &ended,
            0,
            &["500 ms off the CPU in 10 waits", "left out: 2.0 ms of preemption in 4", "1 waits"],
        );
        assert!(ended.stdout.contains("WAITS") && ended.stdout.contains("ksys_read"), "{ended:?}");
        let rows = json_of(&scope, &["top", "fib", "--event", "off-cpu"]);
        let read = rows.as_array().and_then(|rows| rows.iter().find(|row| row["frame"] == "ksys_read"));
        let read = read.expect("where it waits");
        assert_eq!((number(read, "self_seconds"), &read["self_waits"]), (0.5, &json!(10)));
        assert_eq!((number(read, "self_share"), read.get("self_samples")), (1.0, None));

        let folded =
            |options: &[&str]| sum(&scope.run([&["folded", "fib"], &off_cpu[..], options].concat()).stdout);
        let [blocked, preempted, before] = WAITED_US;
        assert_eq!(folded(&[]), blocked);
        assert_eq!(folded(&["--preempted", "only"]), preempted);
        assert_eq!(folded(&["--preempted", "include"]), blocked + preempted);
        assert_eq!(folded(&["--phase", "all"]), blocked + before);
        assert_eq!(folded(&["--phase", "runtime-init"]), before);
        // A wait counts when it is over: two windows are their sum.
        for cut in ["2026-11-23T08:00:02.35Z", "2026-11-23T08:00:02.440001Z"] {
            assert_eq!(folded(&["--until", cut]) + folded(&["--since", cut]), blocked, "{cut}");
        }
        assert_eq!(folded(&["--until", "2026-11-23T08:00:02.2Z"]), 0);

        let svg = scope.store().join("waits.svg");
        let path = svg.to_str().expect("a path");
        says(&scope.run([&["flame", "fib", "-o", path], &off_cpu[..]].concat()), 0, &[]);
        let svg = fs::read_to_string(&svg).expect("a graph");
        for text in [
            "total_samples=\"500000\"",
            "500,000 us",
            "off the CPU",
            "dark blue kernel",
            "preemption left out",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }
}

#[test]
fn what_was_not_recorded_is_told_with_the_way_to_record_it() {
    let scope = with_waits();
    let ended = scope.run(["top", "prod/pi", "--event", "off-cpu"]);
    says(&ended, 1, &["no waits of `prod/pi`", "`off_cpu.functions`"]);
    says(
        &scope.run(["top", "fib", "--event", "cycles"]),
        1,
        &["no samples of cycles of `fib`", "`event = \"cycles\"`"],
    );
    says(&scope.run(["top", "fib", "--preempted", "only"]), 64, &["--event off-cpu"]);
    says(&scope.run(["ls", "--event", "off-cpu"]), 64, &["column of its own"]);
    says(&scope.run(["top", "fib", "--event", "faults"]), 64, &["cpu-clock", "off-cpu", "cycles"]);
    let window = ["--until", "2026-11-23T08:00:02.250Z", "--since", "2026-11-23T08:00:02.2005Z"];
    let ended = scope.run([&["top", "fib", "--event", "off-cpu"], &window[..]].concat());
    says(&ended, 1, &["1 preempted", "--preempted include"]);
}

#[test]
fn exports_carry_the_times_of_waits() {
    let scope = with_waits();
    let export = |format: &str| scope.run(["export", "fib", "--event", "off-cpu", "--format", format]);
    let text = export("perf-script").stdout;
    assert_eq!(text.matches(": 50000000 off-cpu: \n").count(), 10, "{text}");
    let speedscope: Value = serde_json::from_str(&export("speedscope").stdout).expect("JSON");
    let profile = &speedscope["profiles"][0];
    assert_eq!((&profile["unit"], &profile["endValue"]), (&json!("microseconds"), &json!(500_000)));
    assert_eq!(sum(&export("folded").stdout), 500_000);
    says(&export("firefox"), 2, &["no microseconds"]);
    let file = scope.store().join("waits.pb.gz");
    let path = file.to_str().expect("a path");
    let ended = scope.run(["export", "fib", "--event", "off-cpu", "--format", "pprof", "-o", path]);
    says(&ended, 0, &["10 waits in"]);
    // What was waited is no sample of anybody.
    let perf = scope.store().join("waits.txt");
    fs::write(&perf, &text).expect("write a file");
    let ended = scope.run(["import", perf.to_str().expect("a path"), "--name", "again"]);
    says(&ended, 1, &["10 events of time off the CPU"]);
}

#[test]
fn a_comparison_of_waits_is_one_of_their_time() {
    let scope = Fnscope::new();
    let mut writer = writer(scope.store(), "node-1");
    for life in &LIVES {
        let mut batch = life.batch();
        batch.waits = life.waits();
        if life.name[2] == "2" {
            // The newer revision waits twice as long, and is back when the older one is.
            for wait in batch.waits.iter_mut().filter(|wait| !wait.preempted) {
                wait.left.time = wait.left.time.plus_us(-((wait.ns / 1_000) as i64));
                wait.ns *= 2;
            }
            batch.waits.sort_by_key(|wait| wait.left.time);
        }
        writer.append(&batch).expect("append");
    }
    writer.finish().expect("close the journal");
    let answer = json_of(&scope, &["diff", "demo/pi@1", "demo/pi@2", "--event", "off-cpu"]);
    assert_eq!((&answer["a"]["waits"], &answer["b"]["waits"]), (&json!(10), &json!(20)), "{answer:#}");
    assert_eq!(
        (number(&answer["a"], "off_cpu_seconds"), number(&answer["b"], "off_cpu_seconds")),
        (0.5, 2.0)
    );
    let ended =
        scope.run(["diff", "demo/pi@1", "demo/pi@2", "--event", "off-cpu", "--fail-if", "delta(total) > 1%"]);
    says(&ended, 64, &["about CPU time"]);
    let share =
        ["diff", "demo/pi@2", "demo/pi@1", "--event", "off-cpu", "--fail-if", "share(ksys_read) > 10%"];
    says(&scope.run(share), 1, &["share(ksys_read)"]);
}

#[test]
fn samples_of_a_counter_have_no_seconds_and_are_never_among_those_of_the_clock() {
    let scope = Fnscope::new();
    made(scope.store());
    let mut cycles = writer_of(scope.store(), "node-2", BOOT, "cycles");
    for life in LIVES.iter().filter(|life| life.no == 3) {
        let mut batch = life.batch();
        for entry in &mut batch.entries {
            use fnscope::model::{CgroupId, Entry, InstanceKey};
            match entry {
                Entry::Instance { info, .. } => {
                    info.key = InstanceKey::new(&info.container_id, BOOT, CgroupId(33));
                }
                Entry::Identity { identity, .. } => identity.function = Some("counted".into()),
                _ => {}
            }
        }
        cycles.append(&batch).expect("append");
    }
    cycles.finish().expect("close the journal");
    for sealed in [false, true] {
        if sealed {
            seal(&scope);
        }
        let rows = scope.rows(&["ls"]);
        let clock = row(&rows, "fib");
        assert_eq!((&clock["samples"], number(clock, "coverage")), (&json!(110), 1.0));
        let counted = row(&rows, "counted");
        assert_eq!((&counted["samples"], &counted["sampled_seconds"]), (&json!(0), &Value::Null));
        assert_eq!((&counted["coverage"], text(counted, "coverage_source")), (&Value::Null, "no-clock"));
        let of_cycles = scope.rows(&["ls", "--event", "cycles"]);
        let counted = row(&of_cycles, "counted");
        assert_eq!((&counted["samples"], &counted["sampled_seconds"]), (&json!(110), &Value::Null));
        assert_eq!(row(&of_cycles, "fib")["samples"], json!(0));
        assert!(number(counted, "cpu_seconds") > 0.0, "the account is the kernel's");
        let table = scope.run(["instances", "counted", "--event", "cycles"]).stdout;
        assert!(table.contains("no clock"), "{table}");

        let ended = scope.run(["top", "counted"]);
        says(&ended, 1, &["no samples of `counted`", "it was sampled by cycles: --event cycles"]);
        let rows = json_of(&scope, &["top", "counted", "--event", "cycles"]);
        let main = rows.as_array().and_then(|rows| rows.iter().find(|row| row["frame"] == "main"));
        let main = main.expect("the root");
        assert_eq!((&main["total_samples"], &main["total_seconds"]), (&json!(100), &Value::Null));
        let ended = scope.run(["top", "counted", "--event", "cycles"]);
        assert!(ended.stdout.contains("SELF SAMPLES") && !ended.stdout.contains("TIME"), "{ended:?}");
        let text = scope.run(["export", "counted", "--event", "cycles", "--format", "perf-script"]).stdout;
        assert!(text.contains(": cycles: \n") && !text.contains("period_ns"), "{text:.300}");
        let ended = scope.run(["diff", "counted", "fib", "--event", "cycles"]);
        says(&ended, 1, &["no samples of cycles of B"]);
        says(&scope.run(["diff", "counted", "fib"]), 1, &["no samples of A", "--event cycles"]);
    }
    let folded: Vec<PathBuf> = walk(scope.store().join("folded"));
    let named = |end: &str| folded.iter().filter(|path| path.to_string_lossy().ends_with(end)).count();
    assert_eq!(named(".cycles.folded.gz"), 1, "{folded:?}");
}

fn walk(folder: PathBuf) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    files.flat_map(|path| if path.is_dir() { walk(path) } else { vec![path] }).collect()
}

#[test]
fn a_damaged_table_of_waits_is_told_and_takes_nothing_else_along() {
    let scope = with_waits();
    seal(&scope);
    let file = walk(scope.store().join("off_cpu")).pop().expect("a table");
    let whole = fs::read(&file).expect("a file");
    let before = json_of(&scope, &["top", "fib"]);
    // In the first column, and in the footer.
    for at in [12, whole.len() - 12] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).expect("write");
        let ended = scope.run(["top", "fib", "--event", "off-cpu"]);
        assert!(ended.stderr.contains("off_cpu") && ended.stderr.contains("waits of"), "{at}: {ended:?}");
        assert_eq!(json_of(&scope, &["top", "fib"]), before);
    }
}
