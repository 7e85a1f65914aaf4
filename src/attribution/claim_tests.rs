//! Whose word is taken: several runtimes at once, and names that are used again.

use super::tests::{SECOND, at, candidate, claim, functions, identity, join};
use super::*;

/// A claim on a container that was made at `since`, under an id that is used again.
fn named(function: &str, since: u64) -> Claim {
    let runtime = "containerd".into();
    Claim { runtime, since: Some(at(since).wall), ..claim("fn/f", identity(function)) }
}

fn containerds() -> Attribution<u32> {
    let mut join = Attribution::new("b00t1d00", &["containerd"], Limits::default(), at(0));
    join.runtime("containerd", RuntimeState::Up, at(0));
    join
}

/// What each instance was told to be last.
fn named_last(entries: &[Entry]) -> Vec<(u32, String)> {
    let mut names = std::collections::BTreeMap::new();
    for entry in entries {
        if let Entry::Identity { no, from, identity } = entry {
            names.insert(no.0, (*from, identity.function.clone().unwrap_or_default()));
        }
    }
    names.into_iter().map(|(no, (_, name))| (no, name)).collect()
}

/// A container that is deployed again under its name: whatever order the runtime is heard in, each run has its own name.
#[test]
fn runs_under_one_name_are_told_apart() {
    const MS: u64 = 1_000_000;
    let id = ContainerId("fn/f".into());
    let (born, again) = (1000 * MS, 1200 * MS);
    let begin = |join: &mut Attribution<u32>, cgroup, ns| {
        join.cgroup_seen(CgroupId(cgroup), "/fn/f", candidate("fn/f"), at(ns), true).unwrap()
    };
    let end = |join: &mut Attribution<u32>, no, ns| join.cgroup_gone(no, at(ns).wall, at(ns));
    let gone = |join: &mut Attribution<u32>, ns| join.forgotten(&id, "containerd", at(ns).wall);
    type Step<'a> = (&'a str, Box<dyn Fn(&mut Attribution<u32>) + 'a>);
    let first: Vec<Step> = vec![
        ("begin 1", Box::new(|join| _ = begin(join, 1, born + 20 * MS))),
        ("end 1", Box::new(|join| end(join, InstanceNo(0), born + 100 * MS))),
        ("begin 2", Box::new(|join| _ = begin(join, 2, again + 20 * MS))),
    ];
    let told: Vec<Step> = vec![
        ("claim 1", Box::new(|join| drop(join.claim(named("v1", born), at(born))))),
        ("gone 1", Box::new(|join| gone(join, born + 150 * MS))),
        ("claim 2", Box::new(|join| drop(join.claim(named("v2", again), at(again))))),
    ];
    // Every way to mix what the kernel tells with what the runtime tells, each in its own order.
    for mix in 0..20_u32 {
        let picks: Vec<bool> = (0..64_u32)
            .filter(|bits| bits.count_ones() == 3)
            .nth(mix as usize)
            .map(|bits| (0..6).map(|at| bits >> at & 1 == 1).collect())
            .expect("twenty of them");
        let mut join = containerds();
        let (mut kernel, mut runtime) = (first.iter(), told.iter());
        let mut story = Vec::new();
        for pick in picks {
            let (name, step) = if pick { kernel.next() } else { runtime.next() }.expect("three of each");
            story.push(*name);
            step(&mut join);
        }
        join.tick(at(2 * SECOND));
        let entries = join.take().entries;
        let names = named_last(&entries);
        // What was forgotten before its cgroup was seen is nobody's: that takes a kernel slower than a whole life.
        let place = |what: &str| story.iter().position(|name| *name == what);
        let lost = place("begin 1") > place("gone 1");
        let expected: &[(u32, &str)] = if lost { &[(1, "v2")] } else { &[(0, "v1"), (1, "v2")] };
        let names: Vec<(u32, &str)> = names.iter().map(|(no, name)| (*no, name.as_str())).collect();
        assert_eq!(names, expected, "{story:?}");
    }
}

/// A task that ends and is made again in the same record of a container: what is said of the second run leaves the first
/// one's name alone, and what is said late of both names both.
#[test]
fn runs_of_one_container_keep_their_own_names() {
    let begin = |join: &mut Attribution<u32>, cgroup, ns| {
        join.cgroup_seen(CgroupId(cgroup), "/fn/f", candidate("fn/f"), at(ns), true).unwrap()
    };
    let mut join = containerds();
    let first = begin(&mut join, 1, SECOND);
    assert_eq!(join.claim(named("f#1", SECOND), at(SECOND)), [first]);
    join.cgroup_gone(first, at(2 * SECOND).wall, at(2 * SECOND));
    let second = begin(&mut join, 2, 3 * SECOND);
    assert_eq!(join.claim(named("f#2", SECOND), at(3 * SECOND)), [second]);
    assert_eq!(named_last(&join.take().entries), [(0, "f#1".into()), (1, "f#2".into())]);

    let mut join = containerds();
    let first = begin(&mut join, 1, SECOND);
    join.cgroup_gone(first, at(2 * SECOND).wall, at(2 * SECOND));
    let second = begin(&mut join, 2, 3 * SECOND);
    let mut told = join.claim(named("f", SECOND), at(3 * SECOND));
    told.sort();
    assert_eq!(told, [first, second]);
}

#[test]
fn an_old_container_is_the_one_that_lives_whatever_the_clock_says() {
    let mut join = containerds();
    // The clock was put back by an hour since it was made.
    let no = join.cgroup_seen(CgroupId(1), "/fn/f", candidate("fn/f"), at(100 * SECOND), false).unwrap();
    assert_eq!(join.claim(named("f", 101 * SECOND), at(110 * SECOND)), [no]);
    // One that was made just now is not what began before it.
    assert!(join.claim(named("g", 109 * SECOND), at(110 * SECOND)).is_empty());
    assert_eq!(named_last(&join.take().entries), [(0, "f".into())]);
}

#[test]
fn a_container_is_undecided_until_all_who_may_own_it_have_answered() {
    let undecided = |join: &Attribution<u32>, cgroup| join.wants(CgroupId(cgroup));
    let mut join: Attribution<u32> =
        Attribution::new("b", &["docker", "containerd", "k3s", "podman"], Limits::default(), at(0));
    join.runtime("k3s", RuntimeState::Absent, at(0));
    join.runtime("podman", RuntimeState::Absent, at(0));
    join.runtime("docker", RuntimeState::Up, at(0));
    assert!(join.is_here("docker") && !join.is_here("podman") && !join.is_here("containerd"));
    let owned = |name: &str, owner| Some(Candidate { owner, ..candidate(name).unwrap() });
    join.cgroup_seen(CgroupId(1), "/docker/a", owned("a", Some("docker")), at(1), true).unwrap();
    join.cgroup_seen(CgroupId(2), "/kubepods/b", owned("b", None), at(1), true).unwrap();
    join.cgroup_seen(CgroupId(3), "/libpod_parent/c", owned("c", Some("podman")), at(1), true).unwrap();
    // Docker has nothing to say of its own: foreign. Of another's, containerd has not been heard yet.
    join.tick(at(20 * SECOND));
    assert!(!undecided(&join, 1) && undecided(&join, 2));
    join.runtime("containerd", RuntimeState::Down, at(20 * SECOND));
    join.tick(at(40 * SECOND));
    assert!(undecided(&join, 2), "containerd may own it");
    assert!(join.is_here("containerd"));
    assert!(!join.runtime("containerd", RuntimeState::Up, at(41 * SECOND)), "it was heard of before");
    join.tick(at(60 * SECOND));
    assert!(!undecided(&join, 2), "all that are here have answered");
    // Podman is not here as far as anybody sees, and yet only it can own this one.
    assert!(undecided(&join, 3));
    assert!(join.runtime("podman", RuntimeState::Up, at(60 * SECOND)), "it was not heard of before");
    join.tick(at(80 * SECOND));
    assert!(!undecided(&join, 3));
    assert!(join.may_own(None) && join.may_own(Some("containerd")) && !join.may_own(Some("cri-o")));
}

#[test]
fn of_two_runtimes_that_know_a_container_the_surer_one_is_believed() {
    let mut join: Attribution<u32> =
        Attribution::new("b", &["docker", "containerd"], Limits::default(), at(0));
    let of = |runtime: &str| Claim { runtime: runtime.into(), ..claim("a", identity(runtime)) };
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    assert_eq!(join.claim(of("containerd"), at(2)), [no]);
    assert_eq!(join.claim(of("docker"), at(3)), [no]);
    assert!(join.claim(of("containerd"), at(4)).is_empty());
    // containerd's task goes before Docker's container, which may be started again.
    join.forgotten(&ContainerId("a".into()), "containerd", at(5).wall);
    assert!(join.claim(of("containerd"), at(6)).is_empty());
    join.forgotten(&ContainerId("a".into()), "docker", at(7).wall);
    assert_eq!(join.claim(of("containerd"), at(8)), [no]);
    assert_eq!(functions(&join.take().entries).len(), 3);
}

#[test]
fn what_podman_claimed_on_a_socket_that_is_watched_as_dockers_is_forgotten() {
    let mut join = join();
    let (a, b) = (ContainerId("a".into()), ContainerId("b".into()));
    let of = |name: &str| Claim { runtime: "podman".into(), ..claim(name, identity(name)) };
    let no = join.cgroup_seen(CgroupId(1), "/x/b", candidate("b"), at(1), true).unwrap();
    assert!(join.claim(of("a"), at(2)).is_empty());
    assert_eq!(join.claim(of("b"), at(2)), [no]);
    for container in [&a, &b] {
        join.forgotten(container, "containerd", at(3).wall);
        assert!(join.claims[container].forgotten.is_none(), "another's word");
        join.forgotten(container, "docker", at(3).wall);
    }
    assert_eq!(join.claims.keys().collect::<Vec<_>>(), [&b], "it goes with its last instance");
    join.cgroup_gone(no, at(4).wall, at(4));
    join.tick(at(200 * SECOND));
    assert!(join.claims.is_empty());
}
