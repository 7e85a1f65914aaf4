//! The same answers, whether journals are sealed or not.

use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{at_ms, at_s, identity};
use super::*;
use crate::model::{
    Batch, CgroupId, Confidence, CpuSource, CpuStats, Entry, Fact, Identity, InstanceInfo, InstanceKey,
    InstanceNo, Quality, Sample, Stack, Timestamp, Window, WriterInfo,
};
use crate::store::Store;
use crate::store::archive::TidyOptions;
use crate::store::tests::data;

fn writer(node: &str) -> WriterInfo {
    WriterInfo { node: node.into(), ..super::fixture::Journal::new().contents.writer }
}

fn info(node: &str, no: u32, from_birth: bool) -> InstanceInfo {
    let id = format!("{no:064x}");
    InstanceInfo {
        key: InstanceKey::new(&id, "6e9d3f62", CgroupId(no.into())),
        runtime: Some("docker".into()),
        cgroup_path: if no == 1 { "/odd*path".into() } else { format!("/docker/{id}") },
        container_id: id,
        cgroup_id: CgroupId(no.into()),
        image: Some(format!("{node}/image:{no}")),
        started_at: at_s(i64::from(no)),
        from_birth,
    }
}

/// What a test writes: seconds since midnight, which instance, what.
pub(super) type Step = (i64, u32, u8, u8);

const INSTANCES: u32 = 4;
const HOURS: i64 = 4;

fn entry(no: InstanceNo, at: i64, kind: u8, value: u8) -> Option<Entry> {
    let named = |name: &str, confidence| Identity {
        confidence,
        instance_name: (value.is_multiple_of(2)).then(|| format!("task-{value}")),
        ..identity("demo", name, "1")
    };
    // Two names from one moment on are told by one agent alone, and the later one is surer: no two here are from one.
    let from = |at: i64| at_ms(at * 1_000 + i64::from(kind) * 10 + i64::from(value));
    let fact = |fact| Some(Entry::Fact { no, at: at_s(at), fact });
    match kind {
        0 => Some(Entry::Identity { no, from: from(at), identity: named("pi", Confidence::Exact) }),
        1 => Some(Entry::Identity { no, from: from(at - 3_000), identity: named("fib", Confidence::Lossy) }),
        2 => Some(Entry::Identity { no, from: from(at), identity: named("nodejs:20", Confidence::Prewarm) }),
        3 => Some(Entry::Identity { no, from: from(at), identity: Identity::not_a_function("sidecar") }),
        4 => Some(Entry::Exec { no, at: at_s(at) }),
        5 => {
            let source = [CpuSource::Running, CpuSource::Running, CpuSource::Exit, CpuSource::Final]
                [value as usize % 4];
            Some(Entry::Usage { no, at: at_s(at), cpu_us: (at as u64) * 100_000, source })
        }
        6 => Some(Entry::Ended { no, at: at_s(at), exit_code: (value > 3).then_some(3), oom: value == 5 }),
        7 => Some(Entry::Dropped { no, at: at_s(at), reason: "backlog".into(), count: value.into() }),
        8 => fact(Fact::Throttled { count: at as u64, us: at as u64 * 10 }),
        9 => fact(Fact::Frozen(value.is_multiple_of(2))),
        10 => fact(Fact::Labels(vec![("team".into(), format!("\"{value}\n"))])),
        11 => fact(Fact::Ready),
        _ => None,
    }
}

fn batch(seen: &mut [bool], node: &str, steps: &[Step]) -> Batch {
    let mut batch = Batch::default();
    let last = steps.iter().map(|step| step.0).max().unwrap_or(0);
    for (at, no, kind, value) in steps.iter().copied() {
        if !std::mem::replace(&mut seen[no as usize], true) {
            let info = info(node, no, no != 2);
            batch.entries.push(Entry::Instance { no: InstanceNo(no), info });
        }
        if let Some(entry) = entry(InstanceNo(no), at, kind, value) {
            batch.entries.push(entry);
            continue;
        }
        let frames = ["_start [pi]", "main [pi]", "näh\\x3b [x]", "[pi]+0x10"];
        let depth = value as usize % 5;
        // Each bit in some of them, and some together.
        let quality = Quality(value.wrapping_mul(5) % 32);
        let stack = Arc::new(Stack::new(frames.iter().take(depth).map(|f| Arc::from(*f)).collect(), quality));
        for n in 0..u32::from(value) * 3 {
            let time = at_ms(at.max(last - 20) * 1_000 + i64::from(n) * 7);
            let (cpu, comm) = (n % 2, if n % 3 == 0 { "main" } else { "worker" });
            let instance = InstanceNo(no);
            batch.samples.push(Sample {
                time,
                instance,
                pid: 7,
                tid: n,
                comm: comm.into(),
                cpu,
                stack: Arc::clone(&stack),
            });
        }
    }
    // A batch is of the time that it is written in, and that has to show.
    if !std::mem::replace(&mut seen[0], true) {
        batch.entries.push(Entry::Instance { no: InstanceNo(0), info: info(node, 0, true) });
    }
    let heartbeat = Arc::new(Stack::new(vec!["beat".into()], Quality::COMPLETE));
    batch.samples.push(Sample {
        time: at_s(last),
        instance: InstanceNo(0),
        pid: 1,
        tid: 1,
        comm: "beat".into(),
        cpu: 1,
        stack: heartbeat,
    });
    batch.samples.sort_by_key(|sample| sample.time);
    let samples = batch.samples.len() as u64;
    batch.cpus.push(CpuStats { cpu: 0, samples: samples.max(1) * 4, lost: samples });
    batch
}

/// Everything people can ask, each fact on a line of its own. Left out is what is known by chance of the time behind the
/// window: it depends on which files are read.
fn answers(root: &Path, window: Window, narrow: bool) -> String {
    let open = |scope: Scope<'_>| {
        let view = open_for(&[root], window, if narrow { scope } else { Scope::All }, |_, _| {}).unwrap();
        assert!(view.damage().is_empty(), "{:?}", view.damage());
        view
    };
    let behind = |time: Option<Timestamp>| time.filter(|time| *time < window.to);
    let view = open(Scope::Counts);
    let all = view.select(None, &[]).unwrap();
    let mut listed = functions(&view, &all);
    let mut names: Vec<String> = listed.iter().map(|row| row.id.to_string()).collect();
    listed.iter_mut().for_each(|row| row.last_seen = row.last_seen.min(window.to));
    let mut lives = instances(&view, &all);
    for row in &mut lives {
        row.ended_at = behind(row.ended_at);
        row.exit_code = row.exit_code.filter(|_| row.ended_at.is_some());
        row.exec_at = behind(row.exec_at);
    }
    let mut answer = format!("{listed:#?}\n{lives:#?}\n{:?}\n", coverage(&view, &all));
    names.sort();
    for name in names {
        let selector: Selector = name.parse().unwrap();
        let threads = open(Scope::Threads(from_ref(&selector), &[]));
        let one = threads.select(Some(&selector), &[]).unwrap();
        answer += &format!("{name} {:#?}\n", stack_faults(&threads, &one, PhaseFilter::All));
        let view = open(Scope::Samples(from_ref(&selector), &[]));
        let one = view.select(Some(&selector), &[]).unwrap();
        for phases in [PhaseFilter::All, PhaseFilter::Function, PhaseFilter::Only(Phase::Cold)] {
            let found = stacks(&view, &one, phases);
            let (folded, frames) = (found.profile.folded(), top(&found.profile));
            answer += &format!("{name} {phases}\n{folded:#?}\n{frames:#?}\n{:?}\n", found.left_out);
            answer += &format!("{:?}\n", found.seen);
        }
    }
    answer
}

/// Windows whose ends are those of hours, or that have none: what is known from behind them is the same however it is
/// stored.
fn whole() -> Vec<Window> {
    let hour = |from: i64, to: i64| Window { from: at_s(from * 3_600), to: at_s(to * 3_600) };
    vec![Window::ALL, hour(1, 2), hour(0, 3), Window { from: at_s(5_000), to: Timestamp::MAX }]
}

/// And one that cuts two hours.
fn all_windows() -> Vec<Window> {
    let mut windows = whole();
    windows.push(Window { from: at_s(3_600 + 1_200), to: at_s(2 * 3_600 + 1_800) });
    windows
}

fn tidy(store: &Store) {
    let tidied = data::tidy(store, &TidyOptions::default());
    assert_eq!((tidied.sealed.failed, tidied.left), (0, 0));
}

/// Writes `steps` to `store` by one writer, in pieces.
pub(super) fn write(store: &Store, node: &str, steps: &[Step], pieces: usize) {
    let mut journal = store.journal(writer(node)).unwrap();
    let mut seen = [false; INSTANCES as usize];
    // A batch is of a short time.
    let near = steps.chunk_by(|a, b| a.0 / 300 == b.0 / 300);
    for steps in near.flat_map(|steps| steps.chunks(pieces.max(1))) {
        journal.append(&batch(&mut seen, node, steps)).unwrap();
    }
    // An open journal is always read, whatever the window: it would tell more than a closed one.
    journal.finish().unwrap();
}

/// A store of `steps` at `folder`, all of it sealed.
pub(super) fn sealed_store(folder: &Path, steps: &[Step]) -> std::path::PathBuf {
    let store = Store::create(folder).unwrap();
    write(&store, "node-1", steps, 7);
    tidy(&store);
    folder.to_path_buf()
}

/// Writes `steps` and asks everything before anything is sealed, when each second journal is, and when all are.
fn compare(steps: &[Step], pieces: usize, windows: &[Window]) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    write(&store, "node-1", steps, pieces);
    let unsealed: Vec<String> = windows.iter().map(|window| answers(folder.path(), *window, false)).collect();
    let check = |what: &str| {
        for (window, expected) in windows.iter().zip(&unsealed) {
            for narrow in [false, true] {
                let found = answers(folder.path(), *window, narrow);
                let differs = |(_, (a, b)): &(usize, (&str, &str))| a != b;
                let lines = found.lines().zip(expected.lines()).enumerate();
                if let Some((at, (line, before))) = lines.clone().find(differs) {
                    let shown =
                        found.lines().skip(at.saturating_sub(24)).take(24).collect::<Vec<_>>().join("\n");
                    panic!("{what}, {window:?}, narrow {narrow}:\n{shown}\nis {line}\nwas {before}");
                }
                assert_eq!(found.len(), expected.len(), "{what}, {window:?}, narrow {narrow}");
            }
        }
    };
    check("nothing sealed");
    for journal in store.journals().unwrap().iter().skip(1).step_by(2) {
        store.seal(journal, true).unwrap();
    }
    check("each second sealed");
    tidy(&store);
    assert!(store.journals().unwrap().is_empty());
    check("all sealed");
}

#[test]
fn a_name_that_came_in_a_later_journal_is_found_by_whoever_reads_the_sealed_samples() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path()).unwrap();
    let mut seen = [false; INSTANCES as usize];
    let mut journal = store.journal(writer("node-1")).unwrap();
    journal.append(&batch(&mut seen, "node-1", &[(100, 1, 99, 9), (200, 1, 5, 0)])).unwrap();
    journal.rotate().unwrap();
    tidy(&store);
    let hour = Window { from: at_s(0), to: at_s(3_600) };
    let listed = |scope: &Scope<'_>| {
        let view = open_for(&[folder.path()], hour, *scope, |_, _| {}).unwrap();
        let all = view.select(None, &[]).unwrap();
        let frames = top(&stacks(&view, &all, PhaseFilter::All).profile).len();
        let named =
            functions(&view, &all).into_iter().filter(|row| row.samples >= 27).map(|row| row.id.to_string());
        (named.collect::<Vec<_>>(), frames)
    };
    assert_eq!(listed(&Scope::Counts).0, ["unknown/-/000000000000@-"]);
    // An hour later, from the begin on.
    let late = Entry::Identity { no: InstanceNo(1), from: at_s(1), identity: identity("demo", "late", "1") };
    let usage = Entry::Usage { no: InstanceNo(1), at: at_s(3_700), cpu_us: 1, source: CpuSource::Running };
    journal.append(&Batch { entries: vec![late, usage], ..Batch::default() }).unwrap();
    for sealed in [false, true] {
        if sealed {
            journal.rotate().unwrap();
            tidy(&store);
            assert_eq!(store.sealed(Window::ALL).unwrap().sets.len(), 2);
        }
        let late: Selector = "late".parse().unwrap();
        for scope in [Scope::All, Scope::Samples(from_ref(&late), &[]), Scope::Counts] {
            let (named, frames) = listed(&scope);
            assert_eq!(named, ["custom/demo/late@1"], "{scope:?}");
            assert_eq!(frames > 0, !matches!(scope, Scope::Counts), "{scope:?}");
        }
    }
}

#[test]
fn a_life_of_hours() {
    compare(&long_life(), 7, &all_windows());
}

/// Four hours of three instances with changing names.
pub(super) fn long_life() -> Vec<Step> {
    let mut steps = vec![(0, 1, 2, 2), (1, 2, 0, 1), (2, 1, 4, 0)];
    steps.extend((0..HOURS * 12).flat_map(|n| {
        let at = n * 300;
        [(at + 5, 1, 99, 5), (at + 15, 1, 5, 0), (at + 20, 2, 99, 3), (at + 30, 2, 5, 1), (at + 40, 3, 99, 1)]
    }));
    steps.extend([(1_700, 1, 0, 4), (HOURS * 3_600, 1, 6, 4)]);
    steps.sort_unstable();
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn sealed_or_not_the_answers_are_the_same(
        steps in proptest::collection::vec((0..HOURS * 360, 0..INSTANCES, 0u8..18, 0u8..7), 1..60),
        pieces in 1usize..12,
    ) {
        let mut steps: Vec<Step> =
            steps.into_iter().map(|(at, no, kind, value)| (at * 10, no, kind, value)).collect();
        steps.sort_unstable();
        compare(&steps, pieces, &whole());
    }
}
