//! Of this process: whose it is, in which namespaces, behind which filter. Reads, changes nothing.

use super::finding::{Finding, Standing};

/// The value of `name` in the text of a `/proc/PID/status`.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

pub(super) fn user(status: &str) -> Finding {
    let uid = field(status, "Uid").and_then(|uids| uids.split_whitespace().nth(1)).unwrap_or("?");
    match uid {
        "0" => Finding::ok("user", "root"),
        uid => Finding::bad("user", Standing::Fail, format!("uid {uid}"), "run as root: sudo fnscope …"),
    }
}

pub(super) fn pid_namespace(status: &str) -> Finding {
    let levels = field(status, "NSpid").map_or(1, |pids| pids.split_whitespace().count());
    // Seen from inside, a namespace shows one level; its init being no kernel thread's parent gives it away.
    let kernel_threads = std::path::Path::new("/proc/2").exists()
        && std::fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm.trim() == "kthreadd");
    if levels == 1 && kernel_threads {
        return Finding::ok("pid namespace", "the host's");
    }
    let mend = "--pid host (docker), hostPID: true (Kubernetes)";
    Finding::bad(
        "pid namespace",
        Standing::Fail,
        "not the host's: every process id in a sample would be 0",
        mend,
    )
}

/// The first cgroup namespace has a number of its own (`PROC_CGROUP_INIT_INO`); in another one paths in `/proc/PID/cgroup` are
/// not those that perf tells, and are put together with the host's tree.
pub(super) fn own_cgroup_namespace(link: &str) -> Finding {
    const FIRST: &str = "cgroup:[4026531835]";
    let found = match link {
        FIRST | "" => "the host's",
        _ => "not the host's: its tree has to be mounted, see cgroups below",
    };
    Finding::ok("cgroup namespace", found)
}

pub(super) fn seccomp(status: &str) -> Finding {
    match field(status, "Seccomp") {
        None | Some("0") => Finding::ok("seccomp", "no filter"),
        Some(_) => Finding::ok("seccomp", "a filter is on; whether it allows perf_event_open is tried below"),
    }
}
