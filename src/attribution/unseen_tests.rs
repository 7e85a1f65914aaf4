//! Functions behind a kernel of their own: what is told of them, and what of their samples.

use super::tests::{SECOND, at, candidate, claim, functions, identity, join};
use super::*;
use crate::model::Isolation;

fn hidden(entries: &[Entry]) -> u64 {
    let count = |entry: &Entry| match entry {
        Entry::Dropped { reason, count, .. } if reason == Entry::UNSEEN => Some(*count),
        _ => None,
    };
    entries.iter().filter_map(count).sum()
}

fn in_sandbox(container: &str) -> Claim {
    Claim { facts: vec![Fact::Unseen(Isolation::Gvisor)], ..claim(container, identity("f")) }
}

#[test]
fn what_is_sampled_of_a_sandbox_is_counted_and_given_to_nobody() {
    let mut join = join();
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.exec(no, "runsc-sandbox", Timestamp(1));
    join.offer(CgroupId(1), Timestamp(5), 100, 4, 7);
    assert!(join.should_sample(), "it may be a function");
    join.claim(in_sandbox("a"), at(SECOND));
    // On its way when the claim came; seen in its ring after it; of a cgroup in it.
    join.cgroup_seen(CgroupId(2), "/docker/a/inner", None, at(SECOND), true);
    assert!(join.offer(CgroupId(1), Timestamp(6), 100, 1, 8));
    assert!(join.hide(CgroupId(1), 2) && join.hide(CgroupId(2), 3) && !join.hide(CgroupId(3), 1));
    assert!(!join.exec(no, "boot", Timestamp(7)), "none of its programs is the function");
    join.tick(at(2 * SECOND));
    let out = join.take();
    assert_eq!((out.samples.len(), hidden(&out.entries)), (0, 10), "{:?}", out.entries);
    assert!(!out.entries.iter().any(|entry| matches!(entry, Entry::Exec { .. })), "{:?}", out.entries);
    assert_eq!(functions(&out.entries), [(0, true)]);
    let told = |entry: &Entry| matches!(entry, Entry::Fact { fact: Fact::Unseen(Isolation::Gvisor), .. });
    assert!(out.entries.iter().any(told), "{:?}", out.entries);
    // It lives and is accounted for, without any stack.
    assert!(join.is_wanted(no) && join.is_unseen(no) && !join.is_sampled(no));
    assert_eq!((join.live_wanted(), join.live_sampled(), join.functions_living()), (1, 0, 1));
    // Not told with every tick, but to the last.
    join.hide(CgroupId(1), 1);
    join.tick(at(2 * SECOND + 1));
    assert_eq!(hidden(&join.take().entries), 0);
    join.cgroup_gone(no, Timestamp(8), at(2 * SECOND + 2));
    join.tick(at(2 * SECOND + 3));
    assert_eq!(hidden(&join.take().entries), 1);
    assert_eq!((join.live_wanted(), join.live_sampled()), (0, 0));
}

#[test]
fn a_function_that_is_found_to_be_in_a_sandbox_is_not_sampled_any_more() {
    let mut join = join();
    join.claim(claim("a", identity("f")), at(0));
    let no = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), true).unwrap();
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    assert_eq!(join.take().samples, [(no, 7)]);
    join.claim(in_sandbox("a"), at(2));
    join.offer(CgroupId(1), Timestamp(6), 100, 1, 8);
    join.tick(at(2 * SECOND));
    assert_eq!((join.take().samples.len(), join.live_sampled()), (0, 0));
    // Of the sandbox of what is no function nobody counts anything.
    let foreign = Claim { identity: Identity::not_a_function("pause"), ..in_sandbox("b") };
    join.claim(foreign, at(3));
    join.cgroup_seen(CgroupId(2), "/docker/b", candidate("b"), at(3), true);
    assert!(!join.hide(CgroupId(2), 1) && !join.offer(CgroupId(2), Timestamp(7), 1, 1, 9));
}

#[test]
fn a_container_without_a_cgroup_lives_by_its_runtimes_word() {
    let mut join = join();
    let (a, b) = (ContainerId("a".into()), ContainerId("b".into()));
    assert_eq!(join.began_apart(&a, at(1_000)), None, "nobody has said what it is");
    join.claim(claim("b", identity("f")), at(0));
    assert_eq!(join.began_apart(&b, at(1_000)), None, "it has a cgroup somewhere");
    join.claim(in_sandbox("a"), at(0));
    let first = join.began_apart(&a, at(1_000)).unwrap();
    assert_eq!(join.began_apart(&a, at(1_000)), None, "told twice");
    assert!(join.is_unseen(first) && join.live_sampled() == 0 && join.has_instance(&a));
    // It is nobody's ancestor, and no cgroup is it.
    join.claim(claim("c", identity("g")), at(0));
    let other = join.cgroup_seen(CgroupId(1), "/docker/c", candidate("c"), at(2_000), true).unwrap();
    assert!(join.offer(CgroupId(1), Timestamp(5), 100, 1, 7));
    assert_eq!(join.instance_at("/x"), None);
    join.apart_gone(&ContainerId("c".into()), Timestamp(3), at(3_000));
    assert!(join.living(other).is_some(), "it has a cgroup, which tells of its end");
    join.exited(&a, Some(3), false, Timestamp(4));
    join.apart_gone(&a, Timestamp(4), at(4_000));
    assert!(join.living(first).is_none());
    let out = join.take();
    assert_eq!(out.samples, [(other, 7)]);
    let ended = |entry: &Entry| matches!(entry, Entry::Ended { no, exit_code: Some(3), .. } if *no == first);
    assert!(out.entries.iter().any(ended), "{:?}", out.entries);
    // The next life is another instance; and what has a cgroup after all is one, not two.
    let second = join.began_apart(&a, at(5_000)).unwrap();
    let keys: HashSet<_> = [first, second].map(|no| join.instances[&no].info.key.clone()).into();
    assert_eq!(keys.len(), 2);
    join.cgroup_seen(CgroupId(9), "/docker/a", candidate("a"), at(6_000), true).unwrap();
    assert!(join.living(second).is_none() && join.has_instance(&a));
    join.forgotten(&a, "docker", Timestamp::MAX);
    join.tick(at(200 * SECOND));
    assert_eq!(join.live_wanted(), 2, "the two with a cgroup");
}
