//! The join, told as stories: who comes first, and what the store hears.

use super::*;
use crate::model::{Confidence, Identity};
use proptest::prelude::*;

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn at(ns: u64) -> Moment {
    Moment { ns, wall: Timestamp(i64::try_from(ns / 1000).unwrap()) }
}

pub(super) fn identity(function: &str) -> Identity {
    Identity {
        function_container: true,
        platform: Some("custom".into()),
        namespace: None,
        function: Some(function.into()),
        revision: None,
        instance_name: None,
        confidence: Confidence::Exact,
        rule: "test".into(),
    }
}

pub(super) fn claim(container: &str, identity: Identity) -> Claim {
    let container = ContainerId(container.into());
    let (runtime, image) = ("docker".into(), Some("img".into()));
    Claim { container, runtime, name: None, image, identity, facts: Vec::new(), since: None, forgotten: None }
}

pub(super) fn candidate(container: &str) -> Option<Candidate> {
    Some(Candidate { container: ContainerId(container.into()), claim: None, owner: None })
}

pub(super) fn join() -> Attribution<u32> {
    let mut join = Attribution::new("b00t1d00", &["docker"], Limits::default(), at(0));
    join.runtime("docker", RuntimeState::Up, at(0));
    join
}

pub(super) fn functions(entries: &[Entry]) -> Vec<(u32, bool)> {
    let told = |e: &Entry| match e {
        Entry::Identity { no, identity, .. } => Some((no.0, identity.function_container)),
        _ => None,
    };
    entries.iter().filter_map(told).collect()
}

#[test]
fn a_name_that_comes_late_takes_the_waiting_samples_along() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    assert!(join.should_sample() && join.wants(CgroupId(1)));
    assert!(join.offer(CgroupId(1), Timestamp(5), 100, 1, 7));
    assert!(join.take().samples.is_empty());
    join.claim(claim("a", identity("f")), at(2 * SECOND));
    let out = join.take();
    assert_eq!(out.samples, [(no, 7)]);
    assert!(matches!(out.entries[0], Entry::Instance { .. }), "{:?}", out.entries);
    let begins_with_the_instance =
        matches!(&out.entries[1], Entry::Identity { from, .. } if *from == at(1).wall);
    assert!(begins_with_the_instance, "{:?}", out.entries);
}

#[test]
fn a_claim_from_before_the_cgroup_needs_no_buffer() {
    let mut join = join();
    join.claim(claim("a", identity("f")), at(0));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    assert_eq!(join.take().samples, [(no, 7)]);
}

#[test]
fn the_reading_at_the_exec_and_facts_wait_for_the_name_and_stay_beside_later_ones() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    assert!(!join.exec(no, "runc:[2:INIT]", Timestamp(20)));
    assert!(join.exec(no, "pi", Timestamp(30)));
    join.usage_at_exec(no, 25_000);
    assert!(!join.exec(no, "child", Timestamp(40)), "the first is the function's own");
    join.usage(no, Timestamp(90), 80_000, CpuSource::Exit);
    join.fact(no, Timestamp(91), Fact::Frozen(false));
    join.fact(no, Timestamp(92), Fact::Throttled { count: 1, us: 7 });
    join.fact(no, Timestamp(93), Fact::Throttled { count: 1, us: 7 });
    join.tick(at(SECOND));
    assert!(join.take().entries.is_empty(), "nobody knows of it yet");
    join.claim(claim("a", identity("f")), at(2 * SECOND));
    join.tick(at(3 * SECOND));
    let entries = join.take().entries;
    let told = |entry: &Entry| match entry {
        Entry::Usage { at, cpu_us, .. } => Some((at.0, *cpu_us)),
        Entry::Fact { at, fact: Fact::Throttled { us, .. }, .. } => Some((at.0, *us)),
        _ => None,
    };
    assert_eq!(entries.iter().filter_map(told).collect::<Vec<_>>(), [(30, 25_000), (90, 80_000), (92, 7)]);
}

#[test]
fn what_is_learned_later_is_not_taken_back_by_the_same_claim() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    let pool = Identity { confidence: Confidence::Prewarm, ..identity("nodejs") };
    join.claim(claim("a", pool.clone()), at(2));
    assert_eq!(join.open_identity(no), Some(&pool));
    join.became(no, identity("hello"), Timestamp(50));
    assert_eq!(join.open_identity(no), None, "it is sure now");
    join.claim(claim("a", pool), at(3 * SECOND));
    let entries = join.take().entries;
    let names = entries.iter().filter_map(|entry| match entry {
        Entry::Identity { from, identity, .. } => Some((from.0, identity.function.clone())),
        _ => None,
    });
    assert_eq!(names.collect::<Vec<_>>(), [(0, Some("nodejs".into())), (50, Some("hello".into()))]);
}

#[test]
fn what_no_live_runtime_claims_is_foreign_after_ten_seconds() {
    let mut join = join();
    join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true);
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    join.tick(at(9 * SECOND));
    assert!(join.should_sample());
    join.tick(at(11 * SECOND));
    assert!(!join.should_sample() && !join.wants(CgroupId(1)));
    let out = join.take();
    assert!(out.samples.is_empty() && out.entries.is_empty(), "{out:?}");
}

#[test]
fn while_the_runtime_is_down_samples_go_on_unnamed_and_are_named_when_it_answers() {
    let mut join = join();
    join.runtime("docker", RuntimeState::Down, at(1));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(2), true).unwrap();
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    join.tick(at(3));
    let out = join.take();
    assert_eq!(out.samples, [(no, 7)]);
    assert_eq!(functions(&out.entries), []);
    join.tick(at(60 * SECOND));
    assert!(join.should_sample(), "nothing is decided while it is down");
    join.runtime("docker", RuntimeState::Up, at(61 * SECOND));
    join.claim(claim("a", identity("f")), at(61 * SECOND));
    assert_eq!(functions(&join.take().entries), [(no.0, true)]);
}

#[test]
fn what_was_told_unnamed_and_is_no_function_is_taken_back() {
    let mut join = join();
    join.runtime("docker", RuntimeState::Down, at(1));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(2), true).unwrap();
    join.tick(at(3));
    join.runtime("docker", RuntimeState::Up, at(4));
    join.claim(claim("a", Identity::not_a_function("r")), at(5));
    assert_eq!(functions(&join.take().entries), [(no.0, false)]);
    assert!(!join.should_sample());
}

#[test]
fn nested_cgroups_belong_to_the_container_above_them() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    assert_eq!(join.cgroup_seen(CgroupId(2), "/docker/a/init", None, at(2), true), None);
    assert_eq!(join.cgroup_seen(CgroupId(3), "/docker/a/docker/b", candidate("b"), at(2), true), None);
    assert_eq!(join.cgroup_seen(CgroupId(4), "/docker/ab", None, at(2), true), None);
    for (id, expected) in [(2, Some(no)), (3, Some(no)), (4, None)] {
        assert_eq!(join.instance_of(CgroupId(id)), expected, "{id}");
    }
    join.claim(claim("c", identity("inner")), at(3));
    let inner = join.cgroup_seen(CgroupId(5), "/docker/a/docker/c", candidate("c"), at(4), true);
    assert!(inner.is_some_and(|inner| inner != no), "a claimed container is its own");
}

#[test]
fn inner_cgroups_that_are_gone_are_forgotten() {
    let mut join = join();
    join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true);
    (2..1000).for_each(|id| {
        join.cgroup_seen(CgroupId(id), &format!("/docker/a/{id}"), None, at(2), true);
    });
    let (no, path) = join.overgrown(500).map(|(no, info)| (no, info.cgroup_path.clone())).next().unwrap();
    assert_eq!(path, "/docker/a");
    join.keep_nested(no, &HashSet::from([CgroupId(7)]));
    assert_eq!((join.by_cgroup.len(), join.instance_of(CgroupId(7))), (2, Some(no)));
    assert_eq!(join.overgrown(500).count(), 0);
}

#[test]
fn the_buffer_is_bounded_and_says_what_it_dropped() {
    let limits = Limits { buffer_bytes: 1_000, ..Limits::default() };
    let mut join = Attribution::new("b", &["docker"], limits, at(0));
    join.runtime("docker", RuntimeState::Up, at(0));
    // A quarter each, until all of it is taken.
    for (id, name, kept) in [(1, "a", 2), (2, "b", 2), (3, "c", 2), (4, "d", 2), (5, "e", 2), (6, "f", 0)] {
        join.cgroup_seen(CgroupId(id), &format!("/docker/{name}"), candidate(name), at(1), true);
        // Each stands for four.
        (0..5).for_each(|n| assert!(join.offer(CgroupId(id), Timestamp(5), 100, 4, n)));
        let held = join.instances.values().find(|i| i.info.cgroup_id == CgroupId(id)).unwrap();
        assert_eq!((held.buffer.len(), held.dropped), (kept, 4 * (5 - kept as u64)), "{name}");
    }
    join.claim(claim("a", identity("f")), at(2));
    let out = join.take();
    assert_eq!(out.samples.len(), 2);
    assert!(out.entries.iter().any(|e| matches!(e, Entry::Dropped { count: 12, .. })), "{:?}", out.entries);
}

#[test]
fn the_functions_exec_is_the_first_that_is_no_runtime() {
    for (execs, expected) in [
        (vec![("runc:[2:INIT]", 1), ("docker-init", 2), ("app", 3), ("child", 4)], 3),
        (vec![("6", 1), ("node", 2)], 2),
        (vec![("runc", 1), ("tini", 2)], 2),
    ] {
        let mut join = join();
        join.claim(claim("a", identity("f")), at(0));
        let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(0), true).unwrap();
        for (comm, time) in &execs {
            join.exec(no, comm, Timestamp(*time));
        }
        join.cgroup_gone(no, Timestamp(9), at(9000));
        join.tick(at(10_000));
        let told: Vec<i64> = join
            .take()
            .entries
            .iter()
            .filter_map(|e| if let Entry::Exec { at, .. } = e { Some(at.0) } else { None })
            .collect();
        assert_eq!(told, [expected], "{execs:?}");
    }
}

#[test]
fn a_reading_is_told_once_and_a_surer_one_again() {
    let mut join = join();
    join.claim(claim("a", identity("f")), at(0));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(0), true).unwrap();
    let readings =
        [(5, CpuSource::Running), (5, CpuSource::Running), (7, CpuSource::Exit), (7, CpuSource::Final)];
    let mut told = Vec::new();
    for (cpu_us, source) in readings {
        join.usage(no, Timestamp(1), cpu_us, source);
        join.tick(at(1));
        told.extend(join.take().entries.into_iter().filter_map(|e| match e {
            Entry::Usage { cpu_us, source, .. } => Some((cpu_us, source)),
            _ => None,
        }));
    }
    assert_eq!(told, [(5, CpuSource::Running), (7, CpuSource::Exit), (7, CpuSource::Final)]);
}

#[test]
fn a_tick_costs_nothing_for_instances_of_which_there_is_no_news() {
    let mut join = join();
    for n in 0..10 {
        let name = format!("c{n}");
        join.claim(claim(&name, identity("f")), at(0));
        let no =
            join.cgroup_seen(CgroupId(n), &format!("/docker/{name}"), candidate(&name), at(0), true).unwrap();
        join.exec(no, "app", Timestamp(1));
        join.usage(no, Timestamp(1), 5, CpuSource::Running);
        if n < 5 {
            join.cgroup_gone(no, Timestamp(2), at(2));
        }
    }
    join.tick(at(3));
    assert!(join.restless.is_empty(), "{:?}", join.restless);
    join.cgroup_seen(CgroupId(99), "/docker/u", candidate("u"), at(4), true);
    join.tick(at(5));
    assert_eq!(join.restless.len(), 1, "an undecided one waits");
    join.tick(at(20 * SECOND));
    assert!(join.restless.is_empty());
}

#[test]
fn the_dead_are_remembered_for_a_while_and_then_forgotten() {
    let mut join = join();
    for n in 0..100 {
        let name = format!("c{n}");
        join.claim(claim(&name, identity("f")), at(n));
        let no =
            join.cgroup_seen(CgroupId(n), &format!("/docker/{name}"), candidate(&name), at(n), true).unwrap();
        join.cgroup_gone(no, Timestamp(1), at(n));
        join.forgotten(&ContainerId(name.into()), "docker", Timestamp::MAX);
    }
    assert!(!join.should_sample());
    join.tick(at(100 * SECOND));
    assert_eq!(join.len(), 100);
    join.exited(&ContainerId("c5".into()), Some(3), false, Timestamp(2));
    assert!(join.take().entries.iter().any(|e| matches!(e, Entry::Ended { exit_code: Some(3), .. })));
    join.tick(at(121 * SECOND));
    assert!(
        join.is_empty()
            && join.claims.is_empty()
            && join.by_cgroup.is_empty()
            && join.by_container.is_empty()
    );
}

#[test]
fn the_dead_that_are_too_many_to_wait_for_their_names_go_on_unnamed() {
    let limits = Limits { dead_count: 1, ..Limits::default() };
    let mut join = Attribution::new("b00t1d00", &["docker"], limits, at(0));
    join.runtime("docker", RuntimeState::Up, at(0));
    let mut born = Vec::new();
    for id in 1..=3 {
        let name = format!("c{id}");
        let no = join.cgroup_seen(CgroupId(id), &format!("/docker/{name}"), candidate(&name), at(id), true);
        born.extend(no);
        assert!(join.offer(CgroupId(id), Timestamp(5), 100, 1, 7));
        join.usage(born[born.len() - 1], Timestamp(6), 9, CpuSource::Final);
        join.cgroup_gone(born[born.len() - 1], Timestamp(7), at(id));
    }
    join.tick(at(SECOND));
    let out = join.take();
    assert_eq!(out.samples, [(born[0], 7), (born[1], 7)], "the last one still waits");
    let readings = out.entries.iter().filter(|entry| matches!(entry, Entry::Usage { cpu_us: 9, .. }));
    assert_eq!((readings.count(), join.len()), (2, 1));
}

#[test]
fn a_restarted_container_is_a_new_instance() {
    let mut join = join();
    join.claim(claim("a", identity("f")), at(0));
    let first = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.cgroup_gone(first, Timestamp(1), at(2));
    let second = join.cgroup_seen(CgroupId(2), "/docker/a", candidate("a"), at(3), true).unwrap();
    assert_ne!(first, second);
    assert_eq!(join.instance_at("/docker/a"), Some(second));
}

#[test]
fn a_cgroup_id_that_comes_again_is_the_new_instances() {
    let mut join = join();
    for name in ["a", "b"] {
        join.claim(claim(name, identity(name)), at(0));
    }
    let first = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.cgroup_seen(CgroupId(2), "/docker/a/inner", None, at(1), true);
    assert_eq!(join.cgroup_seen(CgroupId(1), "/docker/b", candidate("b"), at(2), true), None, "it lives");
    join.cgroup_gone(first, Timestamp(3), at(3));
    // A walk over the tree may have met it before it went.
    assert_eq!(join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(4), false), None);
    let second = join.cgroup_seen(CgroupId(1), "/docker/b", candidate("b"), at(5), true).unwrap();
    let third = join.cgroup_seen(CgroupId(2), "/docker/a", candidate("a"), at(5), true).unwrap();
    assert!(
        join.offer(CgroupId(1), Timestamp(6), 100, 1, 7) && join.offer(CgroupId(2), Timestamp(6), 100, 1, 8)
    );
    assert_eq!(join.take().samples, [(second, 7), (third, 8)]);
    // The dead one's end, told late, and that it is forgotten, take nothing from the living.
    join.exited(&ContainerId("a".into()), Some(3), false, Timestamp(0));
    join.tick(at(200 * SECOND));
    assert_eq!(join.len(), 2);
    assert_eq!((join.instance_of(CgroupId(1)), join.instance_of(CgroupId(2))), (Some(second), Some(third)));
}

#[test]
fn what_is_told_better_holds_from_the_start_but_a_new_name_from_then_on() {
    let named =
        |name: &str, function: &str| Claim { name: Some(name.into()), ..claim("a", identity(function)) };
    let labels = Fact::Labels(vec![("team".into(), "x".into())]);
    let mut join = join();
    join.claim(named("a", "forged"), at(0));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(SECOND), true).unwrap();
    join.claim(Claim { facts: vec![labels.clone()], ..named("a", "own") }, at(2 * SECOND));
    join.claim(named("renamed", "other"), at(3 * SECOND));
    join.tick(at(4 * SECOND));
    let entries = join.take().entries;
    let names = entries.iter().filter_map(|entry| match entry {
        Entry::Identity { from, identity, .. } => Some((from.0, identity.function.as_deref()?)),
        _ => None,
    });
    let told: Vec<_> = names.collect();
    assert_eq!(told, [(1_000_000, "forged"), (1_000_000, "own"), (3_000_000, "other")]);
    let kept = Entry::Fact { no, at: at(2 * SECOND).wall, fact: labels };
    assert_eq!(entries.iter().filter(|entry| **entry == kept).count(), 1, "{entries:?}");
}

#[test]
fn an_end_that_is_told_late_is_that_of_the_life_it_ended() {
    let ended = |entries: &[Entry]| {
        let no = |e: &Entry| if let Entry::Ended { no, .. } = e { Some(*no) } else { None };
        entries.iter().filter_map(no).collect::<Vec<_>>()
    };
    let at = |ns| Timestamp(ns);
    let mut join =
        Attribution::<u32>::new("b", &["docker"], Limits::default(), Moment { ns: 0, wall: at(0) });
    join.claim(claim("a", identity("f")), Moment { ns: 0, wall: at(0) });
    let begin = |join: &mut Attribution<u32>, id, us| {
        join.cgroup_seen(CgroupId(id), "/docker/a", candidate("a"), Moment { ns: 0, wall: at(us) }, true)
            .unwrap()
    };
    let first = begin(&mut join, 1, 10);
    join.cgroup_gone(first, at(20), Moment { ns: 0, wall: at(20) });
    let second = begin(&mut join, 2, 30);
    join.take();
    join.exited(&ContainerId("a".into()), Some(1), false, at(19));
    assert_eq!(ended(&join.take().entries), [first], "told late, when it lives again");
    join.exited(&ContainerId("a".into()), Some(0), false, at(40));
    assert_eq!(ended(&join.take().entries), [second]);
}

#[test]
fn a_tenant_cannot_take_anothers_name_for_an_inner_cgroup() {
    let mut join = join();
    join.claim(claim("victim", identity("v")), at(0));
    let victim = join.cgroup_seen(CgroupId(1), "/docker/victim", candidate("victim"), at(1), true);
    let tenant = join.cgroup_seen(CgroupId(2), "/docker/t", candidate("t"), at(1), true);
    assert_eq!(join.cgroup_seen(CgroupId(3), "/docker/t/victim", candidate("victim"), at(2), true), None);
    assert_eq!(join.instance_of(CgroupId(3)), tenant);
    assert_eq!(join.instance_of(CgroupId(1)), victim);
}

#[test]
fn what_is_undecided_at_the_end_goes_on_unnamed() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.cgroup_seen(CgroupId(2), "/docker/b", candidate("b"), at(1), true);
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    join.give_up(at(2));
    let out = join.take();
    assert_eq!(out.samples, [(no, 7)]);
    assert!(matches!(out.entries[..], [Entry::Instance { .. }]), "{:?}", out.entries);
}

proptest! {
    /// Whatever happens in whatever order: a sample is settled, buffered, dropped and counted, or refused, and the
    /// books of live instances and buffered bytes stay right.
    #[test]
    fn the_books_balance(steps in proptest::collection::vec((0u8..9, 0u64..6, 0u64..40), 0..120)) {
        let mut join = join();
        let mut now = 0;
        for (what, which, wait) in steps {
            now += wait * SECOND / 4;
            let name = format!("c{which}");
            let container = ContainerId(name.as_str().into());
            match what {
                0 => { join.cgroup_seen(CgroupId(which), &format!("/docker/{name}"), candidate(&name), at(now), true); }
                1 => { join.claim(claim(&name, identity("f")), at(now)); }
                2 => { join.claim(claim(&name, Identity::not_a_function("r")), at(now)); }
                3 => { join.offer(CgroupId(which), Timestamp(1), 10, 1, 1); }
                4 => if let Some(no) = join.instance_of(CgroupId(which)) { join.cgroup_gone(no, Timestamp(1), at(now)) },
                5 => { join.runtime("docker", RuntimeState::Down, at(now)); }
                6 => { join.runtime("docker", RuntimeState::Up, at(now)); }
                7 => join.forgotten(&container, "docker", Timestamp::MAX),
                _ => { join.tick(at(now)); }
            }
            let buffered: usize = join.instances.values().map(|i| i.buffer_bytes).sum();
            prop_assert_eq!(buffered, join.buffered_bytes);
            let live = join.instances.values().filter(|i| !i.gone && i.fate.is_wanted()).count();
            prop_assert_eq!(live, join.live_wanted);
        }
    }
}

#[test]
fn a_container_in_the_cgroup_of_another_is_known_to_lie_there() {
    let mut join: Attribution<u32> = Attribution::new("b", &["docker"], Limits::default(), at(0));
    join.runtime("docker", RuntimeState::Up, at(0));
    join.claim(claim("in", identity("f")), at(0));
    let outer = join.cgroup_seen(CgroupId(1), "/docker/out", candidate("out"), at(1), true).unwrap();
    join.cgroup_seen(CgroupId(2), "/docker/out-of-it", candidate("other"), at(1), true);
    assert!(!join.has_inner(outer));
    let inner = join.cgroup_seen(CgroupId(3), "/docker/out/a/in", candidate("in"), at(1), true).unwrap();
    assert!(join.has_inner(outer) && !join.has_inner(inner));
    join.cgroup_gone(inner, at(2).wall, at(2));
    assert!(!join.has_inner(outer));
}
