//! Containers in what another container, or nobody, has.

use super::tests::{at, candidate, claim, identity, join};
use super::*;

#[test]
fn what_only_looks_like_a_container_keeps_none_from_being_one() {
    let guess = |name: &str| {
        Some(Candidate { container: ContainerId(name.into()), claim: None, owner: Some("containerd") })
    };
    let (id, known) = ("a".repeat(64), "b".repeat(64));
    let mut join = Attribution::<u32>::new("b00t1d00", &["docker", "containerd"], Limits::default(), at(0));
    // Found before any runtime has answered: `docker run --cgroup-parent /tenants/t1`.
    let outer = join.cgroup_seen(CgroupId(1), "/tenants/t1", guess("tenants/t1"), at(1), false).unwrap();
    let path = format!("/tenants/t1/{id}");
    let inner = join.cgroup_seen(CgroupId(2), &path, candidate(&id), at(1), false).unwrap();
    join.offer(CgroupId(2), Timestamp(5), 100, 1, 7);
    join.claim(claim(&id, identity("f")), at(2));
    assert_eq!(join.take().samples, [(inner, 7)]);
    // Where a runtime has said that it is one, what is in it is its own.
    join.claim(claim("tenants/t1", identity("g")), at(3));
    assert_eq!(
        join.cgroup_seen(CgroupId(3), &format!("/tenants/t1/{known}"), candidate(&known), at(3), true),
        None
    );
    assert_eq!(join.instance_of(CgroupId(3)), Some(outer));
}

#[test]
fn a_container_in_anothers_cgroup_is_its_own_once_a_runtime_says_so() {
    let (mut join, path) = (join(), "/docker/a/docker/b");
    // Found before anybody has said anything.
    let outer = join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(1), false).unwrap();
    assert_eq!(join.cgroup_seen(CgroupId(2), path, candidate("b"), at(1), false), None);
    join.claim(claim("a", identity("outer")), at(2));
    assert_eq!(join.cgroup_seen(CgroupId(2), path, candidate("b"), at(3), false), None, "nobody has said so");
    join.claim(claim("b", identity("inner")), at(4));
    let inner = join.cgroup_seen(CgroupId(2), path, candidate("b"), at(5), false).unwrap();
    join.offer(CgroupId(1), Timestamp(5), 100, 1, 7);
    join.offer(CgroupId(2), Timestamp(5), 100, 1, 8);
    assert_eq!(join.take().samples, [(outer, 7), (inner, 8)]);
    // Once, and never the cgroup of an instance's own.
    assert_eq!(join.cgroup_seen(CgroupId(2), path, candidate("b"), at(6), false), None);
    assert_eq!(join.cgroup_seen(CgroupId(1), "/docker/a", candidate("a"), at(6), false), None);
}
