//! What `/proc/PID/mountinfo` of a container's process tells of it: where the files come from that a runtime and the
//! kubelet put over its own.
//!
//! A process with rights of its own over mounts can add lines, so the first line that tells something is believed, and
//! nothing here names a pod against its cgroup's path.

use super::{is_id, is_kubernetes_name, is_pod_uid};

/// Most bytes that are looked at; read no more of the file.
pub const MAX_BYTES: usize = 256 << 10;
/// Most lines that are looked at: a container has some dozens.
const MAX_LINES: usize = 2_048;

/// What is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The container whose network files it has: its pod's sandbox, or itself where Docker or Podman runs it alone.
    pub network_of: Option<String>,
    /// The uid of its pod.
    pub pod_uid: Option<String>,
    /// Its name in the pod.
    pub container: Option<String>,
}

/// What `text` tells.
pub fn parse(text: &str) -> Mounts {
    let mut mounts = Mounts::default();
    for line in text.lines().take(MAX_LINES) {
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let mut end = root.rsplit('/');
        let mut parts: [&str; 5] = [""; 5];
        parts.fill_with(|| end.next().unwrap_or_default());
        look_at(parts, point, &mut mounts);
    }
    mounts
}

/// `end` holds the last components of where the mount comes from, the last one first.
fn look_at(end: [&str; 5], point: &str, mounts: &mut Mounts) {
    let is_network = |file: &str| {
        matches!(file, "hostname" | "hosts" | "resolv.conf") && point.strip_prefix("/etc/") == Some(file)
    };
    let network_of = match end {
        // containerd's CRI plugin; Docker; CRI-O and Podman.
        [file, id, "sandboxes", ..] | [file, id, "containers", ..] if is_network(file) && is_id(id) => {
            Some(id)
        }
        [file, "userdata", id, "overlay-containers", ..] if is_network(file) && is_id(id) => Some(id),
        _ => None,
    };
    let (uid, container) = match end {
        ["etc-hosts", uid, "pods", ..] if point == "/etc/hosts" => (Some(uid), None),
        [hash, name, "containers", uid, "pods"] if is_hash(hash) && is_kubernetes_name(name) => {
            (Some(uid), Some(name))
        }
        _ => (None, None),
    };
    keep_first(&mut mounts.network_of, network_of);
    let Some(uid) = uid.filter(|uid| is_pod_uid(uid)) else { return };
    keep_first(&mut mounts.pod_uid, Some(uid));
    // The name of a container of another pod than the first is nothing of this one's.
    if mounts.pod_uid.as_deref() == Some(uid) {
        keep_first(&mut mounts.container, container);
    }
}

/// The kubelet names the file of a last message by eight hexadecimal digits.
fn is_hash(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn keep_first(known: &mut Option<String>, told: Option<&str>) {
    if known.is_none() {
        *known = told.map(ToOwned::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SANDBOX: &str = "b1d3b4f0a0a9a2b2a3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7081920";
    const UID: &str = "3c1c2d3e-0000-4111-8222-123456789abc";

    fn line(root: &str, point: &str) -> String {
        format!("812 790 8:1 {root} {point} rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
    }

    #[test]
    fn what_runtimes_mount_is_known_by_where_it_comes_from() {
        let containerd = line(
            &format!("/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}/hostname"),
            "/etc/hostname",
        );
        let docker = line(&format!("/var/lib/docker/containers/{SANDBOX}/hosts"), "/etc/hosts");
        let podman = line(
            &format!("/containers/storage/overlay-containers/{SANDBOX}/userdata/resolv.conf"),
            "/etc/resolv.conf",
        );
        for text in [&containerd, &docker, &podman] {
            let found = parse(text);
            assert_eq!(found.network_of.as_deref(), Some(SANDBOX), "{text}");
            assert_eq!((found.pod_uid, found.container), (None, None), "{text}");
        }
        let elsewhere = line(&format!("/x/sandboxes/{SANDBOX}/hostname"), "/data/hostname");
        assert_eq!(parse(&elsewhere), Mounts::default(), "a folder of its own that is called so");
    }

    #[test]
    fn the_kubelets_mounts_name_pod_and_container() {
        let log = |uid: &str, name: &str| {
            line(&format!("/var/lib/kubelet/pods/{uid}/containers/{name}/1f2e3d4c"), "/dev/termination-log")
        };
        let hosts = line(&format!("/var/lib/kubelet/pods/{UID}/etc-hosts"), "/etc/hosts");
        let found = parse(&(hosts.clone() + &log(UID, "figlet")));
        assert_eq!((found.pod_uid.as_deref(), found.container.as_deref()), (Some(UID), Some("figlet")));
        let other = "4c1c2d3e-0000-4111-8222-123456789abc";
        let found = parse(&(hosts + &log(other, "forged") + &log(UID, "figlet") + &log(UID, "late")));
        assert_eq!((found.pod_uid.as_deref(), found.container.as_deref()), (Some(UID), Some("figlet")));
        let static_uid = "671175067874832df156e495442c935d";
        assert_eq!(parse(&log(static_uid, "web")).pod_uid.as_deref(), Some(static_uid));
        for (uid, name) in [("x", "figlet"), (UID, "Fig/let"), (UID, "fig\\040let"), (UID, "")] {
            assert_eq!(parse(&log(uid, name)).container, None, "{uid} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(
            text in "(/|pods|containers|sandboxes|userdata|overlay-containers|hostname|/etc/hosts|[a-f0-9]{8}|[a-f0-9]{32}|[a-f0-9]{64}| |\n|\\PC){0,60}",
        ) {
            let found = parse(&text);
            prop_assert!(found.network_of.is_none_or(|id| is_id(&id)));
            prop_assert!(found.container.is_none() || found.pod_uid.is_some());
            prop_assert!(found.container.is_none_or(|name| is_kubernetes_name(&name)));
        }
    }
}
