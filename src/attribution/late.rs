//! Containers that become another function in their life: who is meant, what may still change, since when it has.

use super::{Attribution, Instance};
use crate::model::{Confidence, ContainerId, Identity, InstanceNo, Timestamp};

impl<S> Attribution<S> {
    /// What the instance is, where something that is learned later may still change it: a waiting container that is no
    /// function yet, a name that lost characters.
    pub fn open_identity(&self, no: InstanceNo) -> Option<&Identity> {
        self.instances.get(&no)?.open_identity()
    }

    /// Whether a container lives that waits for its platform's word: it is no function yet, or one by the word of its
    /// own processes alone.
    pub fn has_waiting(&self) -> bool {
        let waits =
            |identity: &Identity| identity.confidence == Confidence::Prewarm || identity.is_childs_word();
        self.instances.values().any(|instance| !instance.gone && instance.identity().is_some_and(waits))
    }

    /// The instance that the container was at `at`.
    pub fn of_container(&self, container: &ContainerId, at: Timestamp) -> Option<InstanceNo> {
        self.life_at(container, at)
    }

    /// Instances of which the platform's own name was `name` at `at`: containers of that pod, and of none that was
    /// called so before or has been since. They may have begun `apart_us` later, by another clock.
    pub fn named(&self, name: &str, at: Timestamp, apart_us: i64) -> Vec<InstanceNo> {
        let is_meant = |i: &&Instance<S>| {
            let is_named = i.identity().is_some_and(|i| i.instance_name.as_deref() == Some(name));
            is_named && i.lived(at, apart_us)
        };
        self.instances.values().filter(is_meant).map(|instance| instance.no).collect()
    }

    /// The instance is another function from `from` on, or from its begin if that was later; from when its own processes
    /// said what it was if that was earlier, because they had been given a function by then.
    pub fn became(&mut self, no: InstanceNo, identity: Identity, from: Timestamp) {
        if let Some(instance) = self.instances.get_mut(&no) {
            instance.became(identity, from, &mut self.out.entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::model::Confidence;

    fn at(us: i64) -> Moment {
        Moment { ns: us.unsigned_abs() * 1000, wall: Timestamp(us) }
    }

    fn named(function: &str, confidence: Confidence) -> Identity {
        let (function, instance_name) = (Some(function.into()), Some("pod-1".into()));
        let platform = Some("openwhisk".into());
        Identity {
            function_container: true,
            platform,
            function,
            instance_name,
            confidence,
            ..Identity::not_a_function("")
        }
    }

    fn claim(identity: Identity) -> Claim {
        Claim {
            container: ContainerId("a".into()),
            runtime: "docker".into(),
            name: None,
            image: None,
            identity,
            facts: Vec::new(),
            since: None,
            forgotten: None,
        }
    }

    fn names(join: &mut Attribution<u32>) -> Vec<(i64, String)> {
        let entries = join.take().entries;
        let named = entries.into_iter().filter_map(|entry| match entry {
            Entry::Identity { from, identity, .. } => Some((from.0, identity.function.unwrap_or_default())),
            _ => None,
        });
        named.collect()
    }

    #[test]
    fn what_is_told_late_of_an_earlier_moment_holds_from_then_on() {
        let mut join = Attribution::<u32>::new("b00t1d00", &["docker"], Limits::default(), at(0));
        let candidate = Candidate { container: ContainerId("a".into()), claim: None, owner: None };
        let no = join.cgroup_seen(CgroupId(1), "/docker/a", Some(candidate), at(10), true).unwrap();
        let pod = |join: &Attribution<u32>, name| join.named(name, Timestamp(50), 0);
        assert!(!join.has_waiting() && pod(&join, "pod-1").is_empty());
        join.claim(claim(named("node", Confidence::Prewarm)), at(11));
        assert!(join.has_waiting());
        assert_eq!((pod(&join, "pod-1"), pod(&join, "pod-2")), (vec![no], vec![]));
        assert_eq!(join.of_container(&ContainerId("a".into()), Timestamp(50)), Some(no));
        join.became(no, named("guess", Confidence::Guessed), Timestamp(60));
        assert!(!join.has_waiting());
        // Its labels tell what it was before that.
        join.became(no, named("hello", Confidence::Exact), Timestamp(50));
        let expected = [(10, "node"), (60, "guess"), (50, "hello"), (60, "hello")];
        assert_eq!(names(&mut join), expected.map(|(from, name)| (from, name.to_owned())));
        // A runtime that describes its making better changes what it was before, and nothing of what it has become.
        join.claim(claim(named("nodejs:20", Confidence::Prewarm)), at(70));
        assert_eq!(names(&mut join), [(10, "nodejs:20".to_owned())]);
        assert_eq!(join.identity(no).and_then(|identity| identity.function.as_deref()), Some("hello"));
        // A second function takes nothing back; and nothing is true of it before it was.
        join.became(no, named("(several)", Confidence::Ambiguous), Timestamp(5));
        assert_eq!(names(&mut join), [(61, "(several)".to_owned())]);
        join.became(no, named("early", Confidence::Exact), Timestamp(5));
        assert_eq!(names(&mut join), [(10, "early".to_owned()), (61, "early".to_owned())]);
        join.cgroup_gone(no, Timestamp(90), at(90));
        assert!(!join.has_waiting());
    }

    fn begun(join: &mut Attribution<u32>, id: u64, container: &str, us: i64) -> InstanceNo {
        let container = ContainerId(container.into());
        let candidate = Candidate { container: container.clone(), claim: None, owner: None };
        let path = format!("/docker/{}", container.0);
        let no = join.cgroup_seen(CgroupId(id), &path, Some(candidate), at(us), true).unwrap();
        join.claim(Claim { container, ..claim(named("node", Confidence::Prewarm)) }, at(us));
        no
    }

    #[test]
    fn a_pods_name_means_whoever_had_it_then() {
        let mut join = Attribution::<u32>::new("b00t1d00", &["docker"], Limits::default(), at(0));
        let old = begun(&mut join, 1, "a", 10);
        join.cgroup_gone(old, Timestamp(40), at(40));
        let new = begun(&mut join, 2, "b", 60);
        let meant = |us, apart_us| join.named("pod-1", Timestamp(us), apart_us);
        assert_eq!([meant(5, 0), meant(20, 0), meant(40, 0)], [vec![], vec![old], vec![old]]);
        assert_eq!([meant(50, 0), meant(60, 0), meant(900, 0)], [vec![], vec![new], vec![new]]);
        // By a clock that is behind.
        assert_eq!([meant(50, 9), meant(50, 10)], [vec![], vec![new]]);
    }

    #[test]
    fn what_a_process_has_said_is_its_platforms_to_correct_from_then_on() {
        let mut join = Attribution::<u32>::new("b00t1d00", &["docker"], Limits::default(), at(0));
        let no = begun(&mut join, 1, "a", 10);
        names(&mut join);
        let rule = Identity::OPENWHISK_CHILD.to_owned();
        join.became(no, Identity { rule, ..named("victim", Confidence::Guessed) }, Timestamp(60));
        assert!(join.has_waiting(), "for its platform's word");
        join.became(no, named("hello", Confidence::Exact), Timestamp(80));
        assert!(!join.has_waiting());
        assert_eq!(names(&mut join), [(60, "victim".to_owned()), (60, "hello".to_owned())]);
        // Of what the platform has said nothing is taken back.
        join.became(no, named("(several)", Confidence::Ambiguous), Timestamp(80));
        assert_eq!(names(&mut join), [(80, "(several)".to_owned())]);
    }
}
