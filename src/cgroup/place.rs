//! What a cgroup's path alone tells of a container: its id, where its own cgroup ends, its runtime and its pod.
//!
//! Not a way to know containers by: a runtime that answers knows better. A name below a container's own cgroup is the
//! workload's to choose, so the path is read from the root only as far as the container.

use crate::model::ContainerId;

impl Place<'_> {
    /// The id by which its runtime's word on it is found, see [`ContainerId::in_namespace`].
    pub fn key(&self) -> ContainerId {
        match self.runtime_namespace {
            Some(namespace) => ContainerId::in_namespace(namespace, &self.container.0),
            None => self.container.clone(),
        }
    }
}

/// A container as a path tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its id: 64 hex digits, or a name where plain containerd runs it.
    pub container: ContainerId,
    /// The path of its own cgroup, a prefix of the path that was asked for.
    pub path: &'a str,
    /// Its runtime, where the path says so: `docker`, `containerd`, `cri-o`, `podman`.
    pub runtime: Option<&'static str>,
    /// The uid of its pod, with `-` as Kubernetes writes it.
    pub pod_uid: Option<String>,
    /// containerd's namespace, where plain containerd runs it.
    pub runtime_namespace: Option<&'a str>,
}

/// The container that a cgroup path belongs to: its id, and the part of the path that ends in it. The innermost one
/// counts, as for a node that is itself a container. None for a path with `..`: it lies outside of our own cgroup
/// namespace, and what is meant is not what we would open.
pub fn container_in(path: &str) -> Option<(ContainerId, &str)> {
    if path.split('/').any(|component| component == "..") {
        return None;
    }
    let mut end = path.len();
    loop {
        let begin = path.get(..end)?.rfind('/').map_or(0, |slash| slash + 1);
        if let Some(id) = ContainerId::from_cgroup_component(path.get(begin..end)?) {
            return Some((id, path.get(..end)?));
        }
        end = begin.checked_sub(1)?;
    }
}

/// All that `path` tells of the container it belongs to. Plain containerd's `/namespace/id` is taken for one too; it
/// is no more than likely.
pub fn place_of(path: &str) -> Option<Place<'_>> {
    let Some((container, own)) = container_in(path) else { return plain(path) };
    let component = own.rsplit('/').next()?;
    let above: Vec<&str> = own.split('/').collect();
    let above = above.split_last().map(|(_, above)| above).unwrap_or_default();
    let begins = |prefix: &str| component.starts_with(prefix);
    let runtime = if begins("docker-") || above.last() == Some(&"docker") {
        Some("docker")
    } else if begins("cri-containerd-") || component.contains(":cri-containerd:") {
        Some("containerd")
    } else if begins("crio-") {
        Some("cri-o")
    } else if begins("libpod-") {
        Some("podman")
    } else {
        None
    };
    let pod_uid = component.split(':').chain(above.iter().rev().copied()).find_map(pod_uid);
    Some(Place { container, path: own, runtime, pod_uid, runtime_namespace: None })
}

/// The uid in `pod<uid>` or `…-pod<uid>.slice`: of API pods a UUID, of static ones 32 hex digits.
fn pod_uid(component: &str) -> Option<String> {
    let stem = component.strip_suffix(".slice").unwrap_or(component);
    let uid = stem.strip_prefix("pod").or_else(|| stem.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_uid = digits == 32 && uid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    (is_uid && matches!(uid.len(), 32 | 36)).then_some(uid)
}

/// `/namespace/id` of plain containerd: two plain names, none of which another layout has.
fn plain(path: &str) -> Option<Place<'_>> {
    const OTHERS: &[&str] = &["buildkit", "crio", "docker", "kubepods", "libpod_parent", "lxc", "machine"];
    let (namespace, id) = path.strip_prefix('/')?.split_once('/')?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name =
        |name: &str| name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed);
    let is_unit =
        |name: &str| [".slice", ".scope", ".service", ".mount"].iter().any(|end| name.ends_with(end));
    let both = [namespace, id];
    if !both.iter().all(|name| is_name(name)) || both.iter().any(|name| is_unit(name)) {
        return None;
    }
    if OTHERS.contains(&namespace) || id.contains("conmon-") {
        return None;
    }
    Some(Place {
        container: ContainerId(id.into()),
        path,
        runtime: Some("containerd"),
        pod_uid: None,
        runtime_namespace: Some(namespace),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const FIXTURES: &str = include_str!("../../tests/fixtures/identity.json");
    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

    fn recorded() -> Value {
        serde_json::from_str(FIXTURES).expect("the fixtures are JSON")
    }

    /// The path of a line of `/proc/PID/cgroup`.
    fn path_of(line: &str) -> &str {
        line.splitn(3, ':').nth(2).expect("three fields")
    }

    #[test]
    fn every_recorded_line_is_read_as_expected() {
        let recorded = recorded();
        let lines = recorded["cgroup_lines"].as_array().expect("a list");
        assert_eq!(lines.len(), 19);
        for line in lines {
            let (case, path) = (&line["case"], path_of(line["line"].as_str().expect("a line")));
            let place = place_of(path);
            let id = place.as_ref().map(|place| &*place.container.0);
            assert_eq!(id, line["container_id"].as_str(), "{case}");
            match (line["attach_dir"].as_str(), place) {
                (Some(dir), Some(place)) if dir.starts_with('/') => assert_eq!(place.path, dir, "{case}"),
                // In words: an ancestor, the one whose name holds the id.
                (Some(_), Some(place)) => {
                    assert!(place.path.len() < path.len() && place.path.ends_with(".scope"), "{case}");
                }
                _ => {}
            }
        }
        let containers = recorded["fixtures"].as_array().expect("a list");
        for fixture in containers {
            let container = &fixture["container"];
            let id = container["Id"].as_str().or(container["id"].as_str());
            let path = path_of(fixture["proc_cgroup"].as_str().expect("a line"));
            let place = place_of(path).expect("a container");
            assert_eq!(Some(&*place.container.0), id, "{}", fixture["id"]);
            let uid = container["labels"]["io.kubernetes.pod.uid"].as_str();
            let uid = uid.or(container["Config"]["Labels"]["io.kubernetes.pod.uid"].as_str());
            assert_eq!(place.pod_uid.as_deref(), uid, "{}", fixture["id"]);
            let namespace = fixture["containerd_namespace"].as_str().filter(|ns| *ns != "k8s.io");
            assert_eq!(place.runtime_namespace, namespace, "{}", fixture["id"]);
        }
    }

    #[test]
    fn runtimes_and_pods_are_read_from_every_layout() {
        let static_uid = "9".repeat(32);
        for (path, runtime, uid) in [
            (format!("/docker/{ID}"), Some("docker"), None),
            (format!("/tenants/{ID}"), None, None),
            (
                format!("/kubepods/pod3c1c2d3e-0000-4111-8222-123456789abc/{ID}"),
                None,
                Some("3c1c2d3e-0000-4111-8222-123456789abc"),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{static_uid}.slice/crio-{ID}.scope"),
                Some("cri-o"),
                Some(static_uid.as_str()),
            ),
            (
                format!(
                    "/kubepods-burstable-pod3c1c2d3e_0000_4111_8222_123456789abc.slice:cri-containerd:{ID}"
                ),
                Some("containerd"),
                Some("3c1c2d3e-0000-4111-8222-123456789abc"),
            ),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some("podman"), None),
        ] {
            let place = place_of(&path).expect("a container");
            assert_eq!((&*place.container.0, place.runtime), (ID, runtime), "{path}");
            assert_eq!(place.pod_uid.as_deref(), uid, "{path}");
        }
        for path in
            ["/", "", "/a", "/user.slice/user-1000.slice", "/docker/buildkit", "/a/b/c", "/a/../b", "/a/"]
        {
            assert_eq!(place_of(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_survived(path in "(/|pod|docker|-|_|:|\\.slice|\\.scope|[a-f0-9]{32}|[a-f0-9]{64}|\\PC){0,12}") {
            if let Some(place) = place_of(&path) {
                proptest::prop_assert!(path.starts_with(place.path) && !place.container.0.is_empty());
            }
        }
    }
}
