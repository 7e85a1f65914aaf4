//! Questions through the public door, over journals made by hand.

use proptest::prelude::*;

use super::fixture::{Journal, at_ms, at_s, identity, usage};
use super::*;
use crate::model::{Confidence, CpuSource, Identity, Quality, Timestamp, Window};
use crate::store::Ended;

fn view(window: Window, journals: impl IntoIterator<Item = Journal>) -> View {
    let mut merger = Merger::new(window);
    journals.into_iter().for_each(|journal| merger.add(journal.contents));
    View::new(merger.finish())
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

fn names(rows: &[FunctionRow]) -> Vec<String> {
    rows.iter().map(|row| row.id.to_string()).collect()
}

/// `pi@1`: one container watched from 100 s to 110 s, exec at 100.5 s, 4 s of CPU time by a final reading.
/// `pi@2`: one found running. `hello@1`: idle. A sidecar that is no function, and a container nobody named.
fn demo() -> Journal {
    let mut journal = Journal::new();
    let batch = journal.batch(200, 20);
    let pi = journal.instance("aa", true, 100);
    let record = journal.record(pi);
    record.identities = vec![(at_s(103), identity("demo", "pi", "1"))];
    record.exec_at = Some(at_ms(100_500));
    record.usage = vec![usage(105, 2_000_000, CpuSource::Running), usage(110, 4_000_000, CpuSource::Final)];
    record.ended = Some(Ended { at: at_s(110), exit_code: Some(0), oom: false });
    record.dropped = vec![(at_s(104), "backlog".into(), 3)];
    journal.samples(pi, 100_100, 20, "entry [runc];init [runc]");
    journal.samples_of(pi, 100_600, 100, "_start [pi];main [pi];main [pi]", Quality::TRUNCATED, batch);
    journal.samples_of(pi, 102_000, 260, "_start [pi];[pi]+0x10", Quality::UNSYMBOLIZED, u32::MAX);

    let old = journal.instance("bb", false, 10);
    let record = journal.record(old);
    record.identities = vec![(at_s(50), identity("demo", "pi", "2"))];
    record.usage = vec![usage(50, 9_000_000, CpuSource::Running), usage(60, 10_000_000, CpuSource::Running)];
    journal.samples(old, 55_000, 90, "_start [pi];main [pi]");
    journal.samples(old, 61_000, 10, "_start [pi];main [pi]");

    let idle = journal.instance("cc", true, 90);
    journal.record(idle).identities = vec![(at_s(90), identity("demo", "hello", "1"))];

    let sidecar = journal.instance("dd", true, 90);
    journal.record(sidecar).identities = vec![(at_s(90), Identity::not_a_function("sidecar"))];
    journal.samples(sidecar, 91_000, 40, "proxy [envoy]");

    let unnamed = journal.instance("ee", true, 95);
    journal.samples(unnamed, 95_000, 5, "main [x]");
    journal
}

#[test]
fn functions_are_told_apart_and_accounted_for() {
    let view = view(Window::ALL, [demo()]);
    let rows = functions(&view, &view.select(None, &[]).unwrap());
    assert_eq!(
        names(&rows),
        ["custom/demo/pi@1", "custom/demo/pi@2", "unknown/-/eeeeeeeeeeee@-", "custom/demo/hello@1"]
    );
    let pi = &rows[0];
    assert_eq!((pi.instances, pi.samples, pi.cold_starts), (1, 380, 1));
    assert_eq!((pi.cpu_us, pi.sampled_ns), (Some(4_000_000), 3_800_000_000));
    assert_eq!(pi.coverage, Some(0.95));
    assert_eq!(pi.lost, 13, "100 of the 200 samples carry 10 of the 20 losses, and 3 were dropped");
    assert_eq!((pi.quality.truncated, pi.quality.unsymbolized, pi.quality.complete), (100, 260, 20));
    assert_eq!((pi.complete(), pi.named()), (Some(20.0 / 380.0), Some(120.0 / 380.0)));
    assert_eq!((pi.first_seen, pi.last_seen), (at_s(100), at_s(110)));

    let old = &rows[1];
    assert_eq!((old.samples, old.cold_starts), (100, 0), "it was running before");
    assert_eq!((old.cpu_us, old.coverage), (Some(1_000_000), Some(0.9)), "the reading covers 90 samples");
    assert_eq!((rows[3].samples, rows[3].cpu_us, rows[3].coverage), (0, None, None));
    assert_eq!((rows[3].complete(), rows[3].named()), (None, None));
}

#[test]
fn instances_tell_their_phases() {
    let view = view(Window::ALL, [demo()]);
    let rows = instances(&view, &view.select(Some(&selector("pi@1")), &[]).unwrap());
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.instance_name.as_deref(), row.node.as_str()), (Some("pi-task"), "node-1"));
    assert_eq!((row.exit_code, row.coverage_source), (Some(0), Some(CpuSource::Final)));
    assert_eq!(row.first_sample_after_exec_us, Some(100_000));
    let phases: Vec<_> = row.phases.iter().map(|p| (p.phase, p.from, p.to, p.samples)).collect();
    assert_eq!(
        phases,
        [
            (Phase::RuntimeInit, at_s(100), Some(at_ms(100_500)), 20),
            (Phase::Cold, at_ms(100_500), Some(at_ms(101_500)), 100),
            (Phase::Warm, at_ms(101_500), Some(at_s(110)), 260),
        ]
    );
    let cpu: Vec<_> = row.phases.iter().map(|phase| phase.cpu_us).collect();
    // Nobody read the account at the exec: 20, 100 and 260 of 380 samples tell the parts of 4 s.
    assert_eq!(cpu, [Some(210_526), Some(1_052_632), Some(2_736_842)]);

    let rows = instances(&view, &view.select(Some(&selector("pi@2")), &[]).unwrap());
    let phases: Vec<_> = rows[0].phases.iter().map(|phase| (phase.phase, phase.to)).collect();
    assert_eq!(phases, [(Phase::Warm, None)], "found running, and still is");
    assert_eq!(rows[0].first_sample_after_exec_us, None);
}

#[test]
fn the_runtimes_own_time_is_left_out_and_told() {
    let view = view(Window::ALL, [demo()]);
    let selection = view.select(Some(&selector("demo/pi@1")), &[]).unwrap();
    for (filter, counted, left_out) in [
        (PhaseFilter::Function, 360, vec![(Phase::RuntimeInit, 20)]),
        (PhaseFilter::All, 380, vec![]),
        (PhaseFilter::Only(Phase::RuntimeInit), 20, vec![(Phase::Cold, 100), (Phase::Warm, 260)]),
        (PhaseFilter::Only(Phase::Cold), 100, vec![(Phase::RuntimeInit, 20), (Phase::Warm, 260)]),
    ] {
        let stacks = stacks(&view, &selection, filter);
        assert_eq!(stacks.profile.total().samples, counted, "{filter}");
        assert_eq!(stacks.left_out, left_out, "{filter}");
    }
}

#[test]
fn a_frame_counts_once_in_a_stack_however_often_it_recurs() {
    let view = view(Window::ALL, [demo()]);
    let selection = view.select(Some(&selector("pi")), &[]).unwrap();
    let rows = top(&stacks(&view, &selection, PhaseFilter::Function).profile);
    let told: Vec<_> = rows.iter().map(|r| (r.frame.as_str(), r.own.samples, r.total.samples)).collect();
    assert_eq!(told, [("[pi]+0x10", 260, 260), ("main", 200, 200), ("_start", 0, 460)], "both revisions");
    assert_eq!(rows[2].total_share, 1.0);
    assert_eq!(rows[1].module.as_deref(), Some("pi"));
}

#[test]
fn one_instance_in_two_journals_is_one() {
    let mut first = Journal::new();
    let early = first.instance("aa", true, 100);
    first.record(early).usage = vec![usage(110, 1_000_000, CpuSource::Running)];
    first.record(early).exec_at = Some(at_s(101));
    first.samples(early, 105_000, 50, "main [pi]");
    // After a restart: found running, now named, and ended.
    let mut second = Journal::new();
    second.instance("zz", true, 1);
    let late = second.instance("aa", false, 105);
    let record = second.record(late);
    record.identities = vec![(at_s(120), identity("demo", "pi", "1"))];
    record.usage = vec![usage(110, 1_000_000, CpuSource::Running), usage(130, 2_000_000, CpuSource::Final)];
    record.ended = Some(Ended { at: at_s(130), exit_code: None, oom: false });
    second.samples(late, 120_000, 50, "main [pi]");

    for journals in [true, false] {
        let (mut one, mut two) = (Journal::new(), Journal::new());
        (one.contents, two.contents) = (copy(&first), copy(&second));
        let order = if journals { [one, two] } else { [two, one] };
        let view = view(Window::ALL, order);
        let selection = view.select(Some(&selector("pi")), &[]).unwrap();
        let rows = instances(&view, &selection);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].started_at, rows[0].exec_at), (at_s(100), Some(at_s(101))));
        assert_eq!((rows[0].cpu_us, rows[0].samples, rows[0].coverage), (Some(2_000_000), 100, Some(0.5)));
        let profile = stacks(&view, &selection, PhaseFilter::All).profile;
        assert_eq!(profile.stacks().len(), 1, "equal stacks of two journals are one");
    }
}

fn copy(journal: &Journal) -> crate::store::JournalContents {
    let from = &journal.contents;
    crate::store::JournalContents {
        writer: from.writer.clone(),
        instances: from.instances.clone(),
        stacks: from.stacks.clone(),
        threads: from.threads.clone(),
        comms: from.comms.clone(),
        samples: from.samples.clone(),
        waits: from.waits.clone(),
        batches: from.batches.clone(),
        damage: from.damage.clone(),
    }
}

#[test]
fn a_waiting_container_is_a_pool_until_it_is_a_function() {
    let mut journal = Journal::new();
    let number = journal.instance("aa", true, 100);
    let pool = Identity { confidence: Confidence::Prewarm, ..identity("demo", "nodejs:20", "1") };
    let record = journal.record(number);
    record.identities = vec![(at_s(100), pool), (at_s(110), identity("demo", "pi", "1"))];
    record.exec_at = Some(at_s(101));
    record.usage = vec![usage(120, 4_000_000, CpuSource::Final)];
    journal.samples(number, 102_000, 150, "main [node]");
    journal.samples(number, 111_000, 100, "main [node]");
    let view = view(Window::ALL, [journal]);
    let rows = functions(&view, &view.select(None, &[]).unwrap());
    assert_eq!(names(&rows), ["custom/demo/(pool nodejs:20)@1", "custom/demo/pi@1"]);
    assert_eq!((rows[0].samples, rows[0].cpu_us, rows[0].coverage), (150, Some(2_000_000), Some(0.75)));
    assert_eq!((rows[1].samples, rows[1].cpu_us, rows[1].coverage), (100, Some(2_000_000), Some(0.5)));
    assert_eq!((rows[0].cold_starts, rows[1].cold_starts), (1, 0));
    assert!(view.select(Some(&selector("(pool nodejs:20)")), &[]).is_ok());
}

#[test]
fn a_name_that_means_nothing_or_too_much_is_answered_with_names() {
    let mut other = Journal::new();
    let number = other.instance("ff", true, 100);
    other.record(number).identities = vec![(at_s(100), identity("shop", "hello", "1"))];
    let view = view(Window::ALL, [demo(), other]);
    for (text, message) in [
        (
            "pl",
            "no function `pl`; did you mean `pi`? There are `demo/hello`, `eeeeeeeeeeee`, `pi`, `shop/hello`",
        ),
        ("shop/pi", "no function `shop/pi`; did you mean `pi`? There are"),
        ("xyzzyx", "no function `xyzzyx`; there are `demo/hello`,"),
        ("pi@3", "no revision `3` of function `custom/demo/pi`; there are `1`, `2`"),
        (
            "hello",
            "`hello` is more than one function; write one of\n  custom/demo/hello\n  custom/shop/hello",
        ),
        ("hello@1", "`hello@1` is more than one function; write one of\n  custom/demo/hello@1\n"),
    ] {
        let error = view.select(Some(&selector(text)), &[]).expect_err(text).to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
    for wanted in ["aa", "aa.6e9d3f62.ff", "aaaaaaaa", "pi-task"] {
        let selection = view.select(None, &[wanted.into()]).unwrap();
        assert!(
            functions(&view, &selection).iter().any(|row| row.id.to_string() == "custom/demo/pi@1"),
            "{wanted}"
        );
    }
    let missing = view.select(None, &["aa".into(), "nothing".into()]).expect_err("the second is not there");
    assert!(missing.to_string().contains("`nothing`"), "{missing}");
}

#[test]
fn what_a_window_does_not_show_is_not_listed() {
    let late = Window { from: at_s(104), to: at_s(200) };
    let view = view(late, [demo()]);
    let rows = functions(&view, &view.select(None, &[]).unwrap());
    assert_eq!(names(&rows), ["custom/demo/pi@1"], "pi@2 was last seen at 61 s, the others before 100 s");
    assert_eq!(rows[0].cold_starts, 0);
    assert_eq!((rows[0].cpu_us, rows[0].lost), (Some(4_000_000), 3));
}

#[test]
fn broken_references_are_counted_and_harm_nothing() {
    let mut journal = demo();
    for sample in journal.contents.samples.iter_mut().take(7) {
        sample.stack = 1_000_000;
    }
    let view = view(Window::ALL, [journal]);
    assert_eq!(view.orphans(), 7);
}

fn folded_sum(view: &View) -> u64 {
    let selection = view.select(None, &[]).unwrap();
    let stacks = stacks(view, &selection, PhaseFilter::All);
    stacks.profile.folded().values().map(|weight| weight.samples).sum()
}

type Told = std::collections::BTreeMap<String, u64>;

fn folded(window: Window, samples: &[(i64, u8, u8)]) -> Told {
    let mut journal = Journal::new();
    let number = journal.instance("aa", true, 0);
    journal.record(number).identities = vec![(at_s(0), identity("demo", "pi", "1"))];
    for (ms, root, leaf) in samples {
        journal.samples(number, *ms, 1, &format!("f{root};f{leaf}"));
    }
    let view = view(window, [journal]);
    let selection = view.select(None, &[]).unwrap();
    let folded = stacks(&view, &selection, PhaseFilter::All).profile.folded();
    folded.into_iter().map(|(stack, weight)| (stack, weight.samples)).collect()
}

proptest! {
    #[test]
    fn profiles_of_adjoining_windows_add_up(
        samples in proptest::collection::vec((0i64..5_000, 0u8..3, 0u8..3), 0..60),
        cuts in [0i64..5_000, 0i64..5_000, 0i64..5_000],
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let window = |a: i64, b: i64| Window { from: at_ms(a), to: at_ms(b) };
        let mut sum = folded(window(cuts[0], cuts[1]), &samples);
        for (stack, count) in folded(window(cuts[1], cuts[2]), &samples) {
            *sum.entry(stack).or_default() += count;
        }
        prop_assert_eq!(sum, folded(window(cuts[0], cuts[2]), &samples));
    }

    #[test]
    fn no_sample_is_lost_or_counted_twice(
        instances in proptest::collection::vec((any::<bool>(), proptest::option::of(0i64..100), 0u32..40), 1..6),
        names in proptest::collection::vec((0usize..6, 0i64..100, 0u8..3), 0..8),
    ) {
        let mut journal = Journal::new();
        let mut expected = 0;
        for (at, (birth, exec, count)) in instances.iter().enumerate() {
            let number = journal.instance(&format!("c{at}"), *birth, 10);
            let record = journal.record(number);
            record.exec_at = exec.map(at_s);
            record.identities = names
                .iter()
                .filter(|(of, _, _)| *of == at)
                .map(|(_, from, name)| (at_s(*from), identity("n", &format!("f{name}"), "1")))
                .collect();
            record.identities.sort_by_key(|(from, _)| *from);
            journal.samples(number, 20_000, *count, "main [m]");
            expected += u64::from(*count);
        }
        let view = view(Window { from: Timestamp::MIN, to: Timestamp::MAX }, [journal]);
        prop_assert_eq!(folded_sum(&view), expected);
        let rows = functions(&view, &view.select(None, &[]).unwrap());
        prop_assert_eq!(rows.iter().map(|row| row.samples).sum::<u64>(), expected);
        let all = view.select(None, &[]).unwrap();
        let told = [
            hosts(&view, &all).iter().map(|row| row.samples).sum::<u64>(),
            functions_by_host(&view, &all).iter().map(|(_, row)| row.samples).sum(),
            by_thread(&view, &all, PhaseFilter::All).iter().map(|row| row.weight.samples).sum(),
            by_phase(&view, &all).iter().map(|row| row.weight.samples).sum(),
            side(&view, &all, PhaseFilter::All).samples,
            cost(&view, &all, &[CostBy::Day, CostBy::Host]).iter().map(|row| row.sampled_ns).sum::<u64>() / super::fixture::PERIOD_NS,
        ];
        prop_assert_eq!(told, [expected; 6]);
        let rows = super::instances(&view, &view.select(None, &[]).unwrap());
        let phases = rows.iter().flat_map(|row| &row.phases).map(|phase| phase.samples);
        prop_assert_eq!(phases.sum::<u64>(), expected);
    }
}
