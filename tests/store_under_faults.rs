//! The store under damage and faults: whole answers, or answers that say what is missing. The long form of the first
//! three tests is the measurement `accept-damage`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fnscope::model::{Batch, CpuSource, Entry, InstanceNo, Timestamp, Window};
use fnscope::query::{self, Scope};
use fnscope::store::archive::TidyOptions;
use fnscope::store::{AtClose, Store, StoreError};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;

use crate::answers::{number, row, text};
use crate::store_faults::{
    BATCHES, EIGHT, Feed, Random, STEP_US, Told, ask, batch, copy, cuts, files, flips, folded_samples,
    full_disk, made, sample,
};
use crate::support::{Cgroup, Ended, Fnscope, Function, Running, poll};

const HOUR_US: i64 = 3_600_000_000;
const SEED: u64 = 8;

fn tidy(store: &Store) {
    let lock = store.lock().expect("nobody else has it");
    let tidied = store.tidy(&lock, &TidyOptions::default(), |_, _| {}).expect("tidy up");
    assert_eq!((tidied.sealed.failed, tidied.left), (0, 0));
}

fn total(told: &Told) -> u64 {
    told.counts.values().sum()
}

#[test]
fn a_disk_that_is_full_at_any_moment_costs_what_it_refused_and_nothing_else() {
    let report = full_disk(20, SEED);
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert!(report.tried == 20 && report.told >= 10, "{} of 20 points met a full disk", report.told);
}

#[test]
fn a_flipped_bit_is_named_or_changes_nothing() {
    let report = flips(300, SEED);
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert!(report.told * 3 > report.tried, "{} of {} were named", report.told, report.tried);
}

#[test]
fn a_file_that_is_cut_is_named_or_changes_nothing() {
    let report = cuts(307);
    assert!(report.wrong.is_empty(), "{:#?}", report.wrong);
    assert!(report.tried > 100 && report.told * 2 > report.tried, "{report:?}");
}

/// A Parquet file with one column of numbers, as another tool might leave it.
fn foreign() -> Vec<u8> {
    let schema = parquet::schema::parser::parse_message_type("message other { required int64 x; }");
    let schema = Arc::new(schema.expect("a schema"));
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).expect("begin a file");
    let mut group = writer.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a column").expect("there is one");
    column.typed::<parquet::data_type::Int64Type>().write_batch(&[1, 2, 3], None, None).expect("write");
    column.close().expect("close the column");
    group.close().expect("close the group");
    writer.into_inner().expect("close the file")
}

#[test]
fn what_is_empty_or_of_another_tool_is_named_and_the_rest_is_answered() {
    let scope = Fnscope::new();
    let whole = made(scope.store()).expect("make a store");
    let foreign = foreign();
    let tables = ["samples", "instances", "usage", "hosts", "sums", "journal"];
    for table in tables {
        let mut files = files(&scope.store().join(table)).into_iter();
        let file = files.find(|file| file.extension().is_none_or(|of| of != "folded")).expect("a file");
        let bytes = fs::read(&file).expect("read what was written");
        for (what, content) in
            [("empty", &b""[..]), ("a text", b"time,stack\n1,main\n"), ("of another tool", &foreign)]
        {
            fs::write(&file, content).expect("write to a file of the test");
            let ended = scope.run(["ls", "--since", "2026-11-23T08:10:00Z", "--json"]);
            assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
            assert!(ended.stderr.contains(&file.display().to_string()), "{what}: {ended:?}");
            let told = ask(&[scope.store()]).expect("an answer");
            assert!(total(&told) > 0 && total(&told) <= total(&whole), "{what}: {}", file.display());
        }
        fs::write(&file, &bytes).expect("write it back");
    }
    // Strangers beside ours: none of them looks like a set.
    let hour = files(&scope.store().join("samples")).remove(0).with_file_name("part-0.parquet");
    fs::write(&hour, &foreign).expect("write a file");
    fs::write(hour.with_file_name("notes.parquet"), "no Parquet").expect("write a file");
    let told = ask(&[scope.store()]).expect("an answer");
    assert!(told.damage.is_empty(), "{:?}", told.damage);
    assert!(told.of_samples == whole.of_samples && told.of_totals == whole.of_totals);
}

/// A folder mounted upon itself, read-only.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(path: &Path) -> ReadOnly {
        let run = |arguments: &[&str]| {
            let status = Command::new("mount").args(arguments).arg(path).status().expect("run mount");
            assert!(status.success(), "mount {arguments:?} {}: needs root", path.display());
        };
        run(&["--bind", path.to_str().expect("a plain path")]);
        let mounted = ReadOnly(path.into());
        run(&["-o", "remount,ro,bind"]);
        mounted
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_read_only_store_answers_everything_and_takes_nothing() {
    let scope = Fnscope::new();
    made(scope.store()).expect("make a store");
    let since = ["--since", "2026-11-23T08:00:00Z", "--until", "2026-11-23T11:00:00Z"];
    let questions = [
        &["ls"][..],
        &["instances"],
        &["top", "function-1"],
        &["folded", "function-1"],
        &["flame", "function-1"],
        &["export", "function-1", "-o", "-"],
        &["cold"],
        &["cost"],
        &["hosts"],
        &["throttled"],
        &["diff", "function-1", "function-2"],
    ];
    let asked = || -> Vec<Ended> {
        questions.iter().map(|question| scope.run([question, &since[..]].concat())).collect()
    };
    let before = asked();
    let answered = before.iter().filter(|ended| ended.code == Some(0)).count();
    assert!(answered >= 8, "{before:#?}");
    let mounted = ReadOnly::new(scope.store());
    for (question, (now, before)) in questions.iter().zip(asked().iter().zip(&before)) {
        assert_eq!((now.code, &now.stdout), (before.code, &before.stdout), "{question:?}: {now:?}");
        assert_eq!(now.stderr, before.stderr, "{question:?}");
    }
    let input = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(input.path(), "main;a 3\n").expect("write a file");
    let input = input.path().to_str().expect("a plain path");
    for (command, code) in [
        (&["agent", "--no-docker", "--cgroup-parent", "/x"][..], 2),
        (&["exec", "--", "true"], 125),
        (&["seal"], 2),
        (&["import", input, "--name", "x"], 2),
    ] {
        let ended = scope.run(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{command:?}: {ended:?}");
        let says = format!("write profiles in {}: Read-only file system", scope.store().display());
        assert!(ended.stderr.contains(&says) && ended.stderr.lines().count() == 1, "{command:?}: {ended:?}");
    }
    drop(mounted);
}

#[test]
fn a_store_deleted_under_exec_is_made_again_and_what_cannot_be_is_said() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let store = scope.store().to_str().expect("a plain path");
    let burn = format!("{} burn --cpu-ms 1500 >&2", function.path().display());
    let script = format!("rm -rf {store}; {burn}; exit 3");
    let ended = scope.run(["exec", "--name", "orphan", "--hz", "499", "--", "sh", "-c", &script]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("orphan: ") && !ended.stderr.contains("panicked"), "{ended:?}");
    let rows = scope.instances(&["orphan"]);
    assert!(rows.len() == 1 && rows[0]["exit_code"] == 3, "{rows:#?}");
    assert!(rows[0]["samples"].as_u64() > Some(100), "what came after is kept: {rows:#?}");

    // Something else stands in its place.
    let script = format!("rm -rf {store}; echo mine > {store}; {burn}; exit 3");
    let ended = scope.run(["exec", "--name", "orphan", "--", "sh", "-c", &script]);
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains(store) && !ended.stderr.contains("panicked"), "{ended:?}");
    assert!(ended.stderr.to_lowercase().contains("not a directory"), "{ended:?}");
    assert_eq!(fs::read_to_string(store).expect("it is left alone"), "mine\n");
}

#[test]
fn a_store_deleted_under_an_agent_is_made_again_with_its_lock() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let options = ["--no-docker", "--hz", "997", "--cgroup-parent", &parent.kernel_path()];
    let agent = scope.agent(&options);
    let child = parent.child("busy.1");
    let process = Running::start(&mut child.command(function.path(), &["burn", "--cpu-ms", "900000"]));
    poll("its samples", || (scope.samples(&["busy"]) > 100).then_some(()));
    fs::remove_dir_all(scope.store()).expect("delete the store");
    poll("samples in the new one", || (scope.samples(&["busy"]) > 300).then_some(()));
    poll("the new lock", || {
        let holder = fs::read_to_string(scope.store().join("LOCK")).unwrap_or_default();
        holder.starts_with(&format!("pid {} ", agent.pid())).then_some(())
    });
    for second in [&["seal"][..], &[&["agent"], &options[..]].concat()] {
        let ended = scope.run(second);
        assert!(ended.code == Some(2) && ended.stderr.contains("locked by another agent"), "{ended:?}");
    }
    drop(process);
    drop(child);
    let said = agent.stop_in_order();
    assert!(!said.contains("panicked"), "{said}");
    let rows = scope.instances(&["busy"]);
    assert_eq!((rows.len(), text(row(&rows, "busy"), "instance_name")), (1, "busy.1"), "{rows:#?}");
}

#[test]
fn a_clock_that_jumps_an_hour_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("make a folder");
    let store = Store::create(folder.path()).expect("make a store");
    let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", AtClose::Keep).expect("begin a journal");
    let mut random = Random::new(SEED);
    let mut offset_us = 0;
    for n in 0..BATCHES {
        // Forth, and back again: the same times come twice, and the order in which they are stored is not theirs.
        if n > 0 && n.is_multiple_of(5) {
            offset_us = if offset_us == 0 { HOUR_US } else { 0 };
        }
        let mut batch = batch("6e9d3f62", n);
        let jump = |time: Timestamp| time.plus_us(offset_us);
        batch.samples.iter_mut().for_each(|sample| sample.time = jump(sample.time));
        for entry in &mut batch.entries {
            if let Entry::Usage { at, .. } = entry {
                *at = jump(*at);
            }
        }
        batch.clock_offset_ns = offset_us * 1_000 + 1;
        feed.append(batch).expect("append");
        if random.below(4) == 0 {
            feed.rotate().expect("begin another journal");
        }
    }
    let (stored, _) = feed.finish().expect("close the journal");
    let check = |what: &str| {
        let told = ask(&[folder.path()]).expect("an answer");
        assert!(told.counts == stored && told.damage.is_empty(), "{what}: {:?}", told.damage);
        assert_eq!(told.listed, stored.values().sum::<u64>(), "{what}");
        let hours: u64 = (0..5)
            .map(|hour| {
                let from = Timestamp(EIGHT + (hour - 1) * HOUR_US);
                let window = Window { from, to: from.plus_us(HOUR_US) };
                let view = query::open_for(&[folder.path()], window, Scope::Counts, |_, _| {}).expect("open");
                let all = view.select(None, &[]).expect("everything");
                query::functions(&view, &all).iter().map(|row| row.samples).sum::<u64>()
            })
            .sum();
        assert_eq!(hours, stored.values().sum::<u64>(), "{what}: hour by hour");
        let view = query::open(folder.path(), Window::ALL, |_, _| {}).expect("open");
        let coverage = query::coverage(&view, &view.select(None, &[]).expect("everything"));
        assert!(coverage.is_some_and(|share| (0.5..=1.2).contains(&share)), "{what}: {coverage:?}");
    };
    check("journals");
    tidy(&store);
    check("sealed");
}

#[test]
fn copies_count_once_and_namesakes_each_for_itself() {
    let folder = tempfile::tempdir().expect("make a folder");
    let [a, b, early, late] = ["a", "b", "early", "late"].map(|name| folder.path().join(name));
    let store = Store::create(&a).expect("make a store");
    let mut feed = Feed::begin(&store, "node", "aaaaaaaa", AtClose::Keep).expect("begin a journal");
    feed.append_until(9).expect("append");
    // A copy that was taken while its writer went on.
    copy(&a, &early);
    feed.append_until(BATCHES).expect("append");
    feed.finish().expect("close the journal");
    copy(&a, &late);
    // Another machine of the same name, in a store of its own and in this one.
    for root in [&b, &a] {
        let store = Store::create(root).expect("make a store");
        let mut feed = Feed::begin(&store, "node", "bbbbbbbb", AtClose::Keep).expect("begin a journal");
        feed.append_until(BATCHES).expect("append");
        feed.finish().expect("close the journal");
    }
    let one: u64 = (0..BATCHES).map(|n| batch("aaaaaaaa", n).samples.len() as u64).sum();
    let check = |what: &str| {
        for (roots, expected) in [
            (&[&a][..], 2 * one),
            (&[&b], one),
            (&[&late], one),
            (&[&late, &b], 2 * one),
            (&[&b, &late], 2 * one),
            (&[&late, &early], one),
            (&[&early, &late], one),
            (&[&early, &late, &b], 2 * one),
            (&[&early, &a], 2 * one),
        ] {
            let roots: Vec<&Path> = roots.iter().map(|root| root.as_path()).collect();
            let told = ask(&roots).expect("an answer");
            assert_eq!((total(&told), told.listed), (expected, expected), "{what}: {roots:?}");
            assert!(told.damage.is_empty(), "{what}: {roots:?}: {:?}", told.damage);
        }
    };
    check("journals");
    // What cannot be told apart is only the host: in one store a second boot is taken for a restart, unless both ran.
    let ended = Fnscope::new().run(["hosts", "--store", a.to_str().expect("a plain path")]);
    let warned = "node is two machines: its boots aaaaaaaa, bbbbbbbb were seen at the same time";
    assert!(ended.code == Some(0) && ended.stderr.contains(warned), "{ended:?}");
    let view = query::open_for(&[&late, &b], Window::ALL, Scope::Counts, |_, _| {}).expect("open");
    let all = view.select(None, &[]).expect("everything");
    let mut nodes: Vec<String> = query::instances(&view, &all).into_iter().map(|row| row.node).collect();
    nodes.dedup();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["node@aaaaaaaa", "node@bbbbbbbb"]);
    tidy(&Store::create(&late).expect("open"));
    check("a copy sealed");
    tidy(&Store::create(&b).expect("open"));
    tidy(&Store::create(&a).expect("open"));
    check("all but the early one sealed");
}

/// The sum of the column `cpu_usage_us` of the instances sealed at `hour`, read as another tool would.
fn sealed_cpu_us(root: &Path, hour: &str) -> i64 {
    let folder = root.join("instances/date=2026-11-23").join(format!("hour={hour}"));
    let mut sum = 0;
    for path in files(&folder) {
        let file = File::open(&path).expect("open a sealed file");
        let reader = SerializedFileReader::new(file).expect("it is Parquet");
        for row in reader.get_row_iter(None).expect("rows") {
            let row = row.expect("a row");
            let cpu = row.get_column_iter().find(|(name, _)| *name == "cpu_usage_us");
            sum += cpu.map_or(0, |(_, value)| if let Field::Long(us) = value { *us } else { 0 });
        }
    }
    sum
}

#[test]
fn a_reading_on_the_edge_of_an_hour_is_of_the_same_hour_in_every_answer() {
    // A journal begins anew with each hour; the middle one begins within it, and is told of what was read before.
    for (begin, rest) in [(0, 12), (6, 6), (11, 1)] {
        let scope = Fnscope::new();
        let store = Store::create(scope.store()).expect("make a store");
        let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", AtClose::Keep).expect("begin a journal");
        feed.append_until(begin).expect("append");
        feed.rotate().expect("begin another journal");
        feed.append_until(begin + rest).expect("append");
        let edge = Timestamp(EIGHT + HOUR_US);
        let reading = |at, cpu_us| Entry::Usage { no: InstanceNo(1), at, cpu_us, source: CpuSource::Running };
        let entries = vec![reading(edge, 400_000), reading(edge.plus_us(1), 500_000)];
        let samples = vec![sample(1, 99, edge.0 - STEP_US / 2), sample(1, 99, edge.0 + 5)];
        feed.append(Batch { entries, samples, ..Batch::default() }).expect("append");
        feed.finish().expect("close the journal");
        let listed = |hour: i64| {
            let [since, until] = [hour, hour + 1].map(|hour| format!("2026-11-23T{hour:02}:00:00Z"));
            let rows = scope.rows(&["ls", "--since", &since, "--until", &until]);
            rows.iter()
                .filter(|row| !row["cpu_seconds"].is_null())
                .map(|row| number(row, "cpu_seconds"))
                .sum()
        };
        let before: [f64; 2] = [listed(8), listed(9)];
        tidy(&store);
        let sealed = [sealed_cpu_us(scope.store(), "08"), sealed_cpu_us(scope.store(), "09")];
        for (hour, (before, sealed)) in [8, 9].into_iter().zip(before.into_iter().zip(sealed)) {
            let (now, column): (f64, f64) = (listed(hour), sealed as f64 / 1e6);
            let same = (now - before).abs() < 1e-6 && (now - column).abs() < 1e-6;
            assert!(same, "{begin} {hour}: {before} s, sealed {now} s, the column {column} s");
        }
        // Three instances at 300 ms each before the edge; what was read on it comes after it.
        assert!((before[0] - 0.9).abs() < 1e-6 && (before[1] - 0.2).abs() < 1e-6, "{before:?}");
    }
}

#[test]
fn journals_are_sealed_under_a_writer_that_folds_them() {
    let folder = tempfile::tempdir().expect("make a folder");
    let root = folder.path().join("profiles");
    let store = Store::create(&root).expect("make a store");
    let ended = AtomicBool::new(false);
    let stored = std::thread::scope(|scope| {
        let sealer = scope.spawn(|| {
            let lock = store.lock().expect("nobody else has it");
            let mut journals = 0;
            while !ended.load(Ordering::Acquire) {
                let tidied = store.tidy(&lock, &TidyOptions::default(), |_, _| {}).expect("tidy up");
                assert_eq!(tidied.sealed.failed, 0);
                journals += tidied.sealed.journals;
            }
            journals
        });
        let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", AtClose::Fold).expect("begin a journal");
        for n in 0..BATCHES {
            feed.append_until(n + 1).expect("append");
            feed.rotate().expect("begin another journal");
        }
        let (stored, _) = feed.finish().expect("whoever was overtaken has not failed");
        ended.store(true, Ordering::Release);
        assert!(sealer.join().expect("no panic") > 3, "it sealed while others folded");
        stored
    });
    tidy(&store);
    let told = ask(&[&root]).expect("an answer");
    assert!(told.counts == stored && told.damage.is_empty(), "{:?}", told.damage);
    let all: u64 = stored.values().sum();
    assert_eq!((told.listed, folded_samples(&root.join("folded")).expect("gzip")), (all, all));
}

#[test]
fn a_writer_that_seals_takes_the_lock_of_the_store_it_makes_anew() {
    let folder = tempfile::tempdir().expect("make a folder");
    let root = folder.path().join("profiles");
    let store = Store::create(&root).expect("make a store");
    let lock = Arc::new(store.lock().expect("nobody else has it"));
    let at_close = AtClose::Seal(lock, TidyOptions::default().into());
    let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", at_close).expect("begin a journal");
    feed.append_until(3).expect("append");
    // Whoever seals may still make a folder in it: then it is not empty, as for `rm -r`.
    poll("the store's end", || fs::remove_dir_all(&root).is_ok().then_some(()));
    feed.append_until(6).expect("append to a new one");
    poll("the new lock", || {
        fs::read_to_string(root.join("LOCK")).is_ok_and(|text| text.len() > 4).then_some(())
    });
    assert!(matches!(store.lock(), Err(StoreError::Locked { .. })));
    feed.finish().expect("seal what is closed");
    assert!(store.journals().expect("list").is_empty());
    let last: u64 = (3..6).map(|n| batch("6e9d3f62", n).samples.len() as u64).sum();
    assert_eq!(total(&ask(&[&root]).expect("an answer")), last);
}
