//! Containers that become another function in their life: who is meant, what may still change, since when it has.

use super::{Attribution, Instance};
use crate::model::{Confidence, ContainerId, Identity, InstanceNo, Timestamp};

impl<S> Attribution<S> {
    /// What the instance is, where something that is learned later may still change it: a waiting container that is no
    /// function yet, a name that lost characters.
    pub fn open_identity(&self, no: InstanceNo) -> Option<&Identity> {
        self.instances.get(&no)?.open_identity()
    }

    /// Whether a container lives that is no function yet.
    pub fn has_waiting(&self) -> bool {
        let waits = |i: &Instance<S>| i.identity().is_some_and(|i| i.confidence == Confidence::Prewarm);
        self.instances.values().any(|instance| !instance.gone && waits(instance))
    }

    /// The instance that the container was at `at`.
    pub fn of_container(&self, container: &ContainerId, at: Timestamp) -> Option<InstanceNo> {
        self.life_at(container, at)
    }

    /// Instances of which the platform's own name is `name`: containers of that pod.
    pub fn named(&self, name: &str) -> Vec<InstanceNo> {
        let is_named =
            |i: &&Instance<S>| i.identity().is_some_and(|i| i.instance_name.as_deref() == Some(name));
        self.instances.values().filter(is_named).map(|instance| instance.no).collect()
    }

    /// The instance is another function from `from` on, or from its begin if that was later.
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
        assert!(!join.has_waiting() && join.named("pod-1").is_empty());
        join.claim(claim(named("node", Confidence::Prewarm)), at(11));
        assert!(join.has_waiting());
        assert_eq!((join.named("pod-1"), join.named("pod-2")), (vec![no], vec![]));
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
}
