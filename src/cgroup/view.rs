//! How much of a hierarchy a mount shows, and where our own cgroup namespace begins in it.
//!
//! A container sees its own part of the tree at `/sys/fs/cgroup`, and the host's where that is mounted beside it
//! (`/host/cgroup`). Perf records tell paths from the hierarchy's root, whoever asks; `/proc/PID/cgroup` tells them from the
//! root of the asker's cgroup namespace, with `/..` for each step up. [`Namespace`] makes the first of the second.

use std::borrow::Cow;
use std::path::PathBuf;

/// A mount of one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// What it shows of the hierarchy, as mountinfo says: from the root of our own cgroup namespace.
    pub(super) root: String,
    pub(super) point: PathBuf,
}

impl Mount {
    /// Steps from the root of our cgroup namespace up to what it shows, where it shows nothing else than that.
    pub(super) fn steps_up(&self) -> Option<usize> {
        parts(&self.root).all(|part| part == "..").then_some(parts(&self.root).count())
    }

    /// The one that shows most, of those seen so far and another one: the first of equal ones.
    pub(super) fn better(seen: Option<Mount>, other: Mount) -> Option<Mount> {
        match seen {
            Some(seen) if seen.steps_up() >= other.steps_up() => Some(seen),
            _ => Some(other),
        }
    }
}

/// Where our cgroup namespace begins: a path from the hierarchy's root, or nothing where that is its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespace {
    root: String,
}

impl Namespace {
    /// The namespace of a process whose cgroup is at `path` from the hierarchy's root, and at `seen` as it sees it itself.
    /// None where the two do not fit, or the namespace does not begin `steps` below the root.
    pub(super) fn of(path: &str, seen: &str, steps: usize) -> Option<Namespace> {
        let root = path.strip_suffix(seen.trim_end_matches('/'))?.trim_end_matches('/');
        (parts(root).count() == steps).then(|| Namespace { root: root.into() })
    }

    /// A path of `/proc/PID/cgroup` from the hierarchy's root. None where it steps up beyond that, or up again.
    pub(super) fn absolute<'p>(&self, seen: &'p str) -> Option<Cow<'p, str>> {
        let mut root = self.root.as_str();
        let mut below = seen;
        while let Some(rest) =
            below.strip_prefix("/..").filter(|rest| rest.is_empty() || rest.starts_with('/'))
        {
            (root, _) = root.rsplit_once('/')?;
            below = rest;
        }
        if parts(below).any(|part| part == "..") {
            return None;
        }
        Some(match (root, below) {
            ("", below) => Cow::Borrowed(below),
            (root, "/") => Cow::Owned(root.into()),
            (root, below) => Cow::Owned(format!("{root}{below}")),
        })
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "/kubepods.slice/pod1/a";

    #[test]
    fn paths_are_put_together_from_the_root_of_the_hierarchy() {
        let own = Namespace::of(OWN, "/", 3).unwrap();
        let deeper = Namespace::of("/kubepods.slice/pod1/a/init", "/init", 3).unwrap();
        assert_eq!(own, deeper);
        for (namespace, seen, expected) in [
            (&own, "/", Some(OWN)),
            (&own, "/init", Some("/kubepods.slice/pod1/a/init")),
            (&own, "/../../pod2/b", Some("/kubepods.slice/pod2/b")),
            (&own, "/../../../system.slice/x", Some("/system.slice/x")),
            (&own, "/../../..", Some("")),
            (&own, "/..fish", Some("/kubepods.slice/pod1/a/..fish")),
            (&own, "/../../../..", None),
            (&own, "/../../../../x", None),
            (&own, "/../x/../y", None),
            (&Namespace::default(), "/docker/b", Some("/docker/b")),
            (&Namespace::default(), "/", Some("/")),
            (&Namespace::default(), "/../b", None),
        ] {
            assert_eq!(namespace.absolute(seen).as_deref(), expected, "{seen}");
        }
        for (path, seen, steps) in [(OWN, "/", 2), (OWN, "/b", 3), ("", "/", 1)] {
            assert_eq!(Namespace::of(path, seen, steps), None, "{path} {seen}");
        }
    }

    #[test]
    fn the_mount_that_shows_most_is_taken() {
        let mount = |root: &str, point: &str| Mount { root: root.into(), point: point.into() };
        for (roots, expected) in [
            // With the host's cgroup namespace; in one of its own, which is what its own mount shows.
            (["/docker/a", "/"], 1),
            (["/", "/../../.."], 1),
            (["/../../..", "/"], 0),
            (["/../kubepods", "/"], 1),
            (["/", "/"], 0),
            (["/a", "/b"], 0),
        ] {
            let [first, second] = roots.map(|root| mount(root, root));
            let best = Mount::better(Mount::better(None, first), second).unwrap();
            assert_eq!(best.root, roots[expected], "{roots:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_put_together_or_left(own in "(/[a-z]{1,3}){0,4}", seen in "(/|\\.\\.|/\\.\\.|[a-z]|\\PC){0,8}") {
            for steps in 0..5 {
                if let Some(path) = Namespace::of(&own, "/", steps).unwrap_or_default().absolute(&seen) {
                    proptest::prop_assert!(parts(&path).all(|part| part != ".."), "{path}");
                }
                let _ = Namespace::of(&seen, &own, steps);
            }
            let _ = Mount::better(None, Mount { root: seen, point: own.into() });
        }
    }
}
