//! Out and in again: what is exported counts what `folded` counts, and what is imported again is the same, stack by
//! stack; whatever an input holds, an import ends.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::recorder::Target;
use super::*;
use crate::model::{
    Batch, CgroupId, Confidence, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo, Quality, Sample,
    Stack, Timestamp, Window, WriterInfo,
};
use crate::query::{self, PhaseFilter, Stacks, View};
use crate::render::folded;
use crate::store::Store;

const BEGIN: i64 = 1_795_392_000_000_000;

/// A sample of a made store: milliseconds from its begin, which stack, which name of a process.
type Told = (u32, usize, usize);

/// Writes a journal of `samples` by a writer of its own to the store at `root`.
fn write(
    root: &Path,
    node: &str,
    period_ns: u64,
    stacks: &[Vec<String>],
    comms: &[String],
    samples: &[Told],
) {
    let info = WriterInfo {
        node: node.into(),
        boot_id: "6e9d3f62".into(),
        writer: "agent".into(),
        version: "0".into(),
        kernel: "6".into(),
        cpu_model: None,
        cpus: 2,
        event: "cpu-clock".into(),
        hz: 100,
        period_ns,
        started_at: Timestamp(BEGIN),
    };
    let no = InstanceNo(3);
    let instance = InstanceInfo {
        key: InstanceKey(format!("{node}.6e9d3f62.ff").into()),
        runtime: None,
        container_id: node.into(),
        cgroup_path: "/x".into(),
        cgroup_id: CgroupId(255),
        image: None,
        started_at: Timestamp(BEGIN),
        from_birth: true,
    };
    let identity = Identity {
        function_container: true,
        platform: Some("custom".into()),
        function: Some("fn".into()),
        revision: Some("\u{202e}</script>".into()),
        confidence: Confidence::Exact,
        ..Identity::not_a_function("test")
    };
    let mut entries = vec![
        Entry::Instance { no, info: instance },
        Entry::Identity { no, from: Timestamp(BEGIN), identity },
        Entry::Exec { no, at: Timestamp(BEGIN) },
    ];
    let stacks: Vec<Arc<Stack>> = stacks
        .iter()
        .map(|frames| {
            Arc::new(Stack::new(
                frames.iter().map(|frame| Arc::from(frame.as_str())).collect(),
                Quality::COMPLETE,
            ))
        })
        .collect();
    let sample = |(ms, stack, comm): &Told| Sample {
        time: Timestamp(BEGIN + i64::from(*ms) * 1000),
        instance: no,
        pid: 7,
        tid: 8,
        comm: comms[comm % comms.len()].as_str().into(),
        cpu: 1,
        stack: Arc::clone(&stacks[stack % stacks.len()]),
    };
    let mut samples: Vec<Sample> = samples.iter().map(sample).collect();
    samples.sort_by_key(|sample| sample.time);
    let mut journal = Store::create(root).unwrap().journal(info).unwrap();
    for samples in samples.chunks(5) {
        let batch =
            Batch { entries: std::mem::take(&mut entries), samples: samples.to_vec(), ..Batch::default() };
        journal.append(&batch).unwrap();
    }
    journal.finish().unwrap();
}

fn opened(root: &Path) -> (View, Stacks) {
    let view = query::open(root, Window::ALL, |_, _| {}).unwrap();
    let found = query::stacks(&view, &view.select(None, &[]).unwrap(), PhaseFilter::All);
    (view, found)
}

fn text(root: &Path) -> BTreeMap<String, u64> {
    let mut out = Vec::new();
    folded::write(&opened(root).1.profile, &mut out).unwrap();
    let mut lines = BTreeMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        *lines.entry(stack.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    lines
}

/// The store at `root` in every format but folded text, which is told first.
fn exports(root: &Path) -> [(&'static str, Vec<u8>, u64); 5] {
    let (view, stacks) = opened(root);
    let selection = view.select(None, &[]).unwrap();
    let source = Source {
        view: &view,
        selection: &selection,
        phases: PhaseFilter::All,
        title: "fn\n\"</script>",
        seen: None,
    };
    let mut text = Vec::new();
    folded::write(&stacks.profile, &mut text).unwrap();
    let export = |write: fn(&Source<'_>, &mut dyn std::io::Write) -> anyhow::Result<u64>| {
        let mut out = Vec::new();
        let samples = write(&source, &mut out).unwrap();
        (out, samples)
    };
    let of = |name, (out, samples)| (name, out, samples);
    [
        ("folded", text, stacks.profile.total().samples),
        of("perf-script", export(perf_script_out::write)),
        of("pprof", export(pprof_out::write)),
        of("speedscope", export(speedscope_out::write)),
        of("firefox", export(firefox_out::write)),
    ]
}

fn options(root: &Path) -> Options {
    Options {
        format: None,
        target: Target {
            store: root.into(),
            name: "again".into(),
            namespace: None,
            revision: None,
            platform: "imported".into(),
            node: "imported".into(),
            period_ns: None,
            default_period_ns: 5_000_000,
            at: None,
            default_at: Timestamp(BEGIN),
            max_counted: 1_000_000,
        },
    }
}

fn read(root: &Path, bytes: Vec<u8>) -> Result<Imported, ImportError> {
    import(Box::new(Cursor::new(bytes)), &options(root), &mut |_, _| {})
}

fn round(stacks: &[Vec<String>], comms: &[String], samples: &[Told], other: &[Told], hostile: bool) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a");
    write(&root, "node-1", 10_000_000, stacks, comms, samples);
    if !other.is_empty() {
        write(&root, "node-2", 3_000_001, stacks, comms, other);
    }
    let total = (samples.len() + other.len()) as u64;
    let seconds = opened(&root).1.profile.total().time_ns;
    let before = text(&root);
    assert_eq!(before.values().sum::<u64>(), total);
    for (name, bytes, told) in exports(&root) {
        assert_eq!(told, total, "{name}");
        match name {
            "speedscope" => {
                let json: Value = serde_json::from_slice(&bytes).unwrap();
                let weights = json["profiles"][0]["weights"].as_array().unwrap();
                assert_eq!(weights.len() as u64, total);
                assert_eq!(json["profiles"][0]["samples"].as_array().unwrap().len() as u64, total);
                assert_eq!(weights.iter().filter_map(Value::as_u64).sum::<u64>(), seconds);
                continue;
            }
            "firefox" => {
                let json: Value = serde_json::from_slice(&bytes).unwrap();
                let lengths =
                    json["threads"].as_array().unwrap().iter().map(|one| one["samples"]["length"].as_u64());
                assert_eq!(lengths.map(Option::unwrap).sum::<u64>(), total);
                continue;
            }
            _ => {}
        }
        let again = folder.path().join(name);
        let mut options = options(&again);
        // Names that a tenant chose may make any text look like another format.
        options.format = Format::ALL.into_iter().find(|format| hostile && format.name() == name);
        let imported = import(Box::new(Cursor::new(bytes)), &options, &mut |_, _| {});
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(imported.format.name(), name);
        assert_eq!((imported.recorded.samples, imported.skipped), (total, Skipped::default()), "{name}");
        assert_eq!(text(&again), before, "{name}");
        if name != "folded" {
            assert_eq!(opened(&again).1.profile.total().time_ns, seconds, "{name}");
        }
    }
}

#[test]
fn out_and_in_again_is_the_same() {
    let stack =
        |text: &str| text.split(';').filter(|frame| !frame.is_empty()).map(String::from).collect::<Vec<_>>();
    let stacks = [
        stack("main [pi];<F as Fn(A) -> B>::call [pi];vfs_read [kernel]_[k]"),
        stack("[unwound short];[libc.so.6]+0x1f;pi+0x40"),
        stack(""),
        stack("main;(anonymous namespace)::f [a];x [a b]_[i]"),
        stack("# not a comment;</script><img src=x onerror=alert(1)> [\u{202e}];\u{0}"),
    ];
    let comms = ["pi".into(), "a 1/1 [0] 1.0: x:".into(), String::new()];
    let samples: Vec<Told> = (0..50).map(|n| (n * 7, n as usize, n as usize)).collect();
    let other: Vec<Told> = (0..20).map(|n| (n * 11, n as usize / 2, n as usize)).collect();
    round(&stacks, &comms, &samples, &other, false);
}

#[test]
fn perf_script_is_in_order_of_time_over_all_writers() {
    let folder = tempfile::tempdir().unwrap();
    let stacks = [vec!["main [pi]".to_string()]];
    for (node, from) in [("node-1", 0), ("node-2", 5), ("node-3", 500)] {
        let samples: Vec<Told> = (0..40).map(|n| (from + n * 10, 0, 0)).collect();
        write(folder.path(), node, 10_000_000, &stacks, &["pi".into()], &samples);
    }
    let [_, (_, text, _), ..] = exports(folder.path());
    let text = String::from_utf8(text).unwrap();
    let times: Vec<Timestamp> = text.lines().filter_map(|line| perf_script_in::head(line)?.time).collect();
    assert_eq!(times.len(), 120);
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn inputs_without_an_event_make_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, says) in [
        (&b""[..], "it is empty"),
        (b"hello\nworld\n", "--format"),
        (b"PERFILE2\x00\x00", "perf script -i"),
        (b"a 0\nb 0\n", "no event of folded in 2 lines: 2 stacks with a count of zero (the first at 1)"),
        (b"pi 1 1.5: c:\n\n", "1 events without a stack (the first at 1)"),
        (b"a;b 99999999\n", "line 1: its counts stand for more than 1000000 samples"),
        (b"\x1f\x8b\x08\x00cut", "cut off"),
        (b"\x0a\x04\x08\x01\x10\x02\x12\x7f\x00\x00", "cut off"),
        (
            b"\x0a\x04\x08\x01\x10\x02\x32\x00\x32\x05alloc\x32\x05bytes",
            "a profile of alloc/bytes, not of CPU time",
        ),
    ] {
        let root = folder.path().join("store");
        let error = read(&root, bytes.to_vec()).expect_err("nothing to import").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!root.exists(), "{error}");
    }
}

#[test]
fn what_came_before_a_fault_is_stored_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        read(folder.path(), b"a;b 3\na;c 4\na 99999999\n".to_vec()).expect_err("too many").to_string();
    assert!(
        error.starts_with("line 3: ") && error.ends_with("; 7 samples from before that are stored"),
        "{error}"
    );
    assert_eq!(text(folder.path()), BTreeMap::from([("a;b".into(), 3), ("a;c".into(), 4)]));
}

#[test]
fn a_clock_that_began_with_the_host_is_moved_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"pi 1 5086.25: c:\n\t7f a (b)\n\npi 1 5086.75: c:\n\t7f a (b)\n\n".to_vec();
    let imported = read(folder.path(), bytes).unwrap();
    assert_eq!(imported.recorded.moved_from, Some(Timestamp(5_086_250_000)));
    assert_eq!(imported.recorded.seen, Some((Timestamp(BEGIN), Timestamp(BEGIN + 500_000))));
}

fn stacks() -> impl Strategy<Value = Vec<Vec<String>>> {
    let frame = "[a-c]{1,3} \\[m\\](_\\[[kijpg]\\])?|\\[m\\]\\+0x1f|m\\+0x[1-9a]{1,4}|.{1,12}|[ab ()\\[\\]>+0x#;\\\\-]{1,9}";
    // A `;` in a frame makes two of it in any text: our own grammar never writes one.
    let frame = frame.prop_map(|frame| frame.replace(';', ":").replace('\n', " "));
    let frame = frame.prop_filter("a frame is more than blanks", |frame| !frame.trim().is_empty());
    proptest::collection::vec(proptest::collection::vec(frame, 0..5), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_store_is_the_same_again(
        stacks in stacks(),
        comms in proptest::collection::vec(".{0,15}|[a 0-9/]{0,9}", 1..3),
        samples in proptest::collection::vec((0u32..5_000, 0usize..8, 0usize..3), 1..40),
        other in proptest::collection::vec((0u32..5_000, 0usize..8, 0usize..3), 0..20),
    ) {
        round(&stacks, &comms, &samples, &other, true);
    }

    #[test]
    fn any_bytes_are_imported_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        text in "([a;b 0-9]{0,20}\n|pi 1/2 \\[0\\] 1\\.[0-9]: c:\n|\t7f a \\(b\\)\n){0,12}",
        format in 0usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [bytes, text.into_bytes()] {
            let mut options = options(folder.path());
            options.format = Format::ALL.get(format).copied();
            options.target.max_counted = 1000;
            let _ = import(Box::new(Cursor::new(bytes)), &options, &mut |_, _| {});
        }
    }

    #[test]
    fn a_profile_with_a_fault_is_refused_or_read(at in 0usize..400, bit in 0u32..8, cut in 0usize..400) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a");
        write(&root, "node-1", 10_000_000, &[vec!["main [pi]".into(), "x [libc]".into()]], &["pi".into()], &[(1, 0, 0); 3]);
        let [_, _, (_, zipped, _), ..] = exports(&root);
        let mut whole = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut whole).unwrap();
        let mut bent = whole.clone();
        if let Some(byte) = bent.get_mut(at) {
            *byte ^= 1 << bit;
        }
        whole.truncate(cut);
        for bytes in [bent, whole] {
            let mut options = options(&folder.path().join("b"));
            options.format = Some(Format::Pprof);
            let _ = import(Box::new(Cursor::new(bytes)), &options, &mut |_, _| {});
        }
    }
}
