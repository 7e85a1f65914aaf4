//! Names that the kubelet gives to logs, which hold those of pod, namespace and container: of links in
//! `/var/log/containers`, of folders in `/var/log/pods`. Names alone: no log is opened, no link followed.

use super::{ID_DIGITS, is_id, is_kubernetes_name, is_pod_uid};

/// What a name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogNames {
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// The container's name in it, where it is told.
    pub container: Option<String>,
    /// The pod's uid, where it is told.
    pub pod_uid: Option<String>,
}

/// What the name of a link in `/var/log/containers` tells, `<pod>_<namespace>_<container>-<id>.log`, and the
/// container's id.
pub fn of_link(name: &str) -> Option<(LogNames, &str)> {
    let stem = name.strip_suffix(".log")?;
    let (names, id) = stem.split_at_checked(stem.len().checked_sub(ID_DIGITS)?)?;
    let names = names.strip_suffix('-').filter(|_| is_id(id))?;
    let [pod, namespace, container] = three(names)?;
    let all = [pod, namespace, container].iter().all(|name| is_kubernetes_name(name));
    all.then(|| {
        let container = Some(container.into());
        (LogNames { pod: pod.into(), namespace: namespace.into(), container, pod_uid: None }, id)
    })
}

/// What the name of a folder in `/var/log/pods` tells: `<namespace>_<pod>_<uid>`.
pub fn of_folder(name: &str) -> Option<LogNames> {
    let [namespace, pod, uid] = three(name)?;
    let all = is_kubernetes_name(namespace) && is_kubernetes_name(pod) && is_pod_uid(uid);
    all.then(|| LogNames {
        pod: pod.into(),
        namespace: namespace.into(),
        container: None,
        pod_uid: Some(uid.into()),
    })
}

/// What the path of a log tells: `…/<namespace>_<pod>_<uid>/<container>/<number>.log`.
pub fn of_path(path: &str) -> Option<LogNames> {
    let mut parts = path.rsplit('/');
    let (_, container, folder) = (parts.next()?, parts.next()?, parts.next()?);
    let names = of_folder(folder)?;
    is_kubernetes_name(container).then(|| LogNames { container: Some(container.into()), ..names })
}

/// The three parts of `a_b_c`; names of Kubernetes' have no `_`.
fn three(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('_');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";
    const UID: &str = "3c1c2d3e-0000-4111-8222-123456789abc";

    #[test]
    fn names_of_logs_are_taken_apart() {
        let link = format!("figlet-7d9c-x2_openfaas-fn_figlet-{ID}.log");
        let (names, id) = of_link(&link).expect("a link");
        assert_eq!((names.pod.as_str(), names.namespace.as_str(), id), ("figlet-7d9c-x2", "openfaas-fn", ID));
        assert_eq!((names.container.as_deref(), names.pod_uid), (Some("figlet"), None));
        let folder = format!("openfaas-fn_figlet-7d9c-x2_{UID}");
        let names = of_folder(&folder).expect("a folder");
        assert_eq!((names.pod.as_str(), names.pod_uid.as_deref()), ("figlet-7d9c-x2", Some(UID)));
        let names = of_path(&format!("/var/log/pods/{folder}/figlet/0.log")).expect("a log");
        assert_eq!((names.namespace.as_str(), names.container.as_deref()), ("openfaas-fn", Some("figlet")));
        for link in [
            format!("pod_ns_{ID}.log"),
            format!("pod_ns_c-{ID}"),
            format!("pod_ns_c-{}.log", &ID[1..]),
            format!("pod_ns_c_d-{ID}.log"),
            format!("Pod_ns_c-{ID}.log"),
            format!("_ns_c-{ID}.log"),
            "é.log".into(),
            ".log".into(),
        ] {
            assert_eq!(of_link(&link), None, "{link}");
        }
        assert_eq!((of_folder("a_b_c"), of_path("/a/b/c"), of_path("")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in "(_|-|[a-z]{1,3}|\\.log|[a-f0-9]{32}|[a-f0-9]{64}|/|\\PC){0,12}") {
            if let Some((names, id)) = of_link(&name) {
                prop_assert!(is_id(id) && is_kubernetes_name(&names.pod) && is_kubernetes_name(&names.namespace));
            }
            if let Some(names) = of_path(&name).or_else(|| of_folder(&name)) {
                prop_assert!(names.pod_uid.is_some_and(|uid| is_pod_uid(&uid)));
            }
        }
    }
}
