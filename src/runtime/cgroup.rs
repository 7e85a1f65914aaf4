//! Containers without a runtime: each direct child of a configured cgroup is one, named by its directory as
//! `function[@revision][.n]`, where `n` is a decimal number that tells instances apart.
//!
//! Pure: paths in, containers out. The name is turned into fnscope's own labels, so that the identity rules need no
//! rule of their own for it. What runs in a cgroup below a child belongs to that child.

use crate::model::Container;
use crate::model::identity::bounded_name;

/// Name of this runtime in [`Container::runtime`].
pub const CGROUP: &str = "cgroup";
/// Name of the runtime of programs that `fnscope exec` starts.
pub const LOCAL: &str = "local";

/// A container and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// The container.
    pub container: Container,
    /// Its cgroup's path, a prefix of the path that was asked for.
    pub path: &'a str,
}

/// The container that cgroup `path` (below the hierarchy's root, beginning with `/`) is or belongs to; none if it lies
/// below none of `parents` or is one of them. Of nested parents the innermost counts.
pub fn container_at<'a>(parents: &[String], path: &'a str) -> Option<Found<'a>> {
    // `/../x` is how a cgroup looks that lies outside of our own namespace: not to be taken for a child.
    if path.split('/').any(|component| component == "..") {
        return None;
    }
    let below = |parent: &str| {
        let rest = path.strip_prefix(parent)?.strip_prefix('/')?;
        let name = rest.split('/').next().filter(|name| !name.is_empty())?;
        Some((parent.len() + 1 + name.len(), name))
    };
    let trimmed = || parents.iter().map(|parent| parent.trim_end_matches('/'));
    let (parent, (end, name)) = trimmed()
        .filter_map(|parent| Some((parent, below(parent)?)))
        .max_by_key(|(parent, _)| parent.len())?;
    let found = path.get(..end)?;
    let between = |other: &str| {
        other.len() > parent.len() && (other == found || other.starts_with(&format!("{found}/")))
    };
    if trimmed().any(between) {
        return None;
    }
    Some(Found { container: named(CGROUP, name), path: found })
}

/// The container called `name` (`function[@revision][.n]`) of `runtime`, [`CGROUP`] or [`LOCAL`]. Its id is the name.
pub fn named(runtime: &str, name: &str) -> Container {
    let (function, revision) = split(name);
    let mut labels = vec![("fnscope.function".to_owned(), bounded_name(function))];
    labels.extend(revision.map(|revision| ("fnscope.revision".to_owned(), bounded_name(revision))));
    Container {
        runtime: runtime.into(),
        id: bounded_name(name),
        name: Some(bounded_name(name)),
        labels,
        ..Container::default()
    }
}

/// Function and revision of `name`. A name that leaves no function is a function as a whole.
fn split(name: &str) -> (&str, Option<&str>) {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let stem = match name.rsplit_once('.') {
        Some((stem, n)) if is_number(n) => stem,
        _ => name,
    };
    let (function, revision) =
        stem.split_once('@').map_or((stem, None), |(function, revision)| (function, Some(revision)));
    if function.is_empty() {
        (name, None)
    } else {
        (function, revision.filter(|revision| !revision.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IdentityConfig, identify};

    #[test]
    fn names_give_function_and_revision() {
        for (name, function, revision) in [
            ("hello", "hello", None),
            ("hello.3", "hello", None),
            ("hello@v2", "hello", Some("v2")),
            ("hello@v2.13", "hello", Some("v2")),
            ("hello@1.2.13", "hello", Some("1.2")),
            ("hello.service", "hello.service", None),
            ("hello.", "hello.", None),
            ("hello@", "hello", None),
            ("@v1.2", "@v1.2", None),
            (".5", ".5", None),
        ] {
            for (runtime, platform) in [(CGROUP, "custom"), (LOCAL, "local")] {
                let identity = identify(&named(runtime, name), &IdentityConfig::default()).identity;
                assert!(identity.function_container, "{name}");
                assert_eq!(identity.platform.as_deref(), Some(platform), "{name}");
                assert_eq!(identity.function.as_deref(), Some(function), "{name}");
                assert_eq!(identity.revision.as_deref(), revision, "{name}");
                assert_eq!(identity.instance_name.as_deref(), Some(name), "{name}");
            }
        }
    }

    #[test]
    fn direct_children_of_parents_are_containers() {
        let parents = ["/faas".to_owned(), "/faas/inner/".to_owned(), "/deep/er".to_owned()];
        for (path, found) in [
            ("/faas/hello@v2.3", Some(("hello@v2.3", "/faas/hello@v2.3"))),
            ("/faas/hello/worker/1", Some(("hello", "/faas/hello"))),
            ("/faas/inner/f.1", Some(("f.1", "/faas/inner/f.1"))),
            ("/deep/er/f", Some(("f", "/deep/er/f"))),
            ("/faas/inner", None),
            ("/faas", None),
            ("/faas/", None),
            ("/faasd/hello", None),
            ("/deep/hello", None),
            ("/", None),
            ("", None),
            ("/faas/../hello", None),
            ("/../faas/hello", None),
        ] {
            let got = container_at(&parents, path);
            assert_eq!(got.as_ref().map(|got| (got.container.id.as_str(), got.path)), found, "{path}");
        }
        let root = ["/".to_owned(), "/faas/x".to_owned()];
        assert_eq!(container_at(&root, "/a/b").map(|found| found.path), Some("/a"));
        assert_eq!(container_at(&root, "/faas").map(|found| found.path), None);
        assert_eq!(container_at(&[], "/a/b"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_a_container_or_not(
            parents in proptest::collection::vec("[/a.é]{0,6}", 0..4), path in "[/a.@0é]{0,12}",
        ) {
            if let Some(found) = container_at(&parents, &path) {
                proptest::prop_assert!(path.starts_with(found.path) && !found.container.id.is_empty());
            }
        }
    }
}
