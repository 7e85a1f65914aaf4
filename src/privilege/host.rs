//! What else of a host decides how well it is profiled: security modules, PMU, real-time limits, files, clock, disk.
//!
//! Each is judged from the text that the kernel gives, by a function without effects; [`findings`] reads the texts.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::capabilities::{SYS_NICE, effective, stands};
use super::finding::{Finding, Standing};
use super::read;

/// Open files that an agent with hundreds of containers wants.
const WANTED_FILES: u64 = 4_096;
/// Frames of a stack, which is also what the kernel takes unasked.
const WANTED_FRAMES: u32 = 127;

/// Looks at this host, for a process with the text `status` of `/proc/PID/status`.
pub(super) fn findings(status: &str) -> Vec<Finding> {
    let may_ask = stands(effective(status), SYS_NICE);
    let files = getrlimit(Resource::Nofile);
    vec![
        security_modules(&read("/sys/kernel/security/lsm"), &read("/proc/self/attr/current")),
        lockdown(&read("/sys/kernel/security/lockdown")),
        pmu(Path::new("/sys/bus/event_source/devices")),
        max_stack(&read("/proc/sys/kernel/perf_event_max_stack")),
        realtime(
            &read("/proc/sys/kernel/sched_rt_runtime_us"),
            getrlimit(Resource::Rtprio).current,
            may_ask,
            refusal_of_realtime().as_deref(),
        ),
        open_files(files.maximum),
        clock(&read("/sys/devices/system/clocksource/clocksource0/current_clocksource"), synchronised()),
    ]
}

fn security_modules(modules: &str, profile: &str) -> Finding {
    let what = "security modules";
    let profile = profile.trim_end_matches('\0').trim();
    // In a container there is no securityfs, but what the process is held to is told all the same.
    let free = ["unconfined_t", "spc_t"].iter().any(|kind| profile.split(':').any(|part| part == *kind));
    let confined = !matches!(profile, "" | "unconfined" | "kernel") && !free;
    let may_confine =
        modules.is_empty() || ["apparmor", "selinux", "smack"].iter().any(|name| modules.contains(name));
    let modules = if modules.is_empty() { "none that securityfs tells of" } else { modules };
    if confined && may_confine {
        return Finding::bad(
            what,
            Standing::Warn,
            format!(
                "{modules}; this process is held to `{profile}`, which may forbid to read other processes"
            ),
            "--security-opt apparmor=unconfined, or --security-opt label=disable (docker); appArmorProfile: {type: \
             Unconfined}, or seLinuxOptions: {type: spc_t} (Kubernetes)",
        );
    }
    Finding::ok(what, format!("{modules}; none holds this process"))
}

fn lockdown(text: &str) -> Finding {
    let what = "lockdown";
    if text.contains("[confidentiality]") {
        return Finding::bad(
            what,
            Standing::Fail,
            "confidentiality: the kernel opens no perf event that sees itself",
            "start the kernel with lockdown=integrity",
        );
    }
    Finding::ok(what, if text.is_empty() { "none" } else { text })
}

fn pmu(devices: &Path) -> Finding {
    let names = std::fs::read_dir(devices).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let hardware = |name: &&String| name.starts_with("cpu") || name.starts_with("armv");
    match names.iter().find(hardware) {
        Some(name) => Finding::ok("PMU", format!("{name}: hardware events can be sampled")),
        None => Finding::ok("PMU", "none: the CPU clock is sampled, hardware events are not"),
    }
}

fn max_stack(text: &str) -> Finding {
    let what = "kernel.perf_event_max_stack";
    match text.parse::<u32>() {
        Ok(frames) if frames < WANTED_FRAMES => Finding::bad(
            what,
            Standing::Warn,
            format!("{frames}: deeper stacks are cut"),
            format!("sysctl kernel.perf_event_max_stack={WANTED_FRAMES}"),
        ),
        _ => Finding::ok(what, text),
    }
}

/// Why a thread does not get the priority that readers ask for; none where it does. A thread of its own asks: it is gone
/// then.
fn refusal_of_realtime() -> Option<String> {
    let asked =
        std::thread::Builder::new().spawn(crate::sys::set_realtime).map(std::thread::JoinHandle::join);
    match asked {
        Ok(Ok(Err(error))) | Err(error) => Some(error.to_string()),
        Ok(_) => None,
    }
}

/// `limit` is RLIMIT_RTPRIO, none where there is none; `may_ask` is CAP_SYS_NICE, which needs no limit. `refusal` is what
/// the kernel says of a thread that asks.
fn realtime(runtime_us: &str, limit: Option<u64>, may_ask: bool, refusal: Option<&str>) -> Finding {
    let what = "real-time";
    if runtime_us == "0" {
        return Finding::bad(
            what,
            Standing::Warn,
            "no thread gets real-time priority: readers run at the usual one",
            "sysctl kernel.sched_rt_runtime_us=950000",
        );
    }
    let runtime = if runtime_us.is_empty() { "unknown" } else { runtime_us };
    let by = match limit {
        _ if may_ask => "CAP_SYS_NICE is held".to_owned(),
        Some(0) => {
            return Finding::bad(
                what,
                Standing::Warn,
                "neither CAP_SYS_NICE nor RLIMIT_RTPRIO: readers run at the usual priority, and of very short \
                 processes some files are opened too late",
                "--cap-add SYS_NICE or --ulimit rtprio=1 (docker), LimitRTPRIO=1 (systemd), capabilities.add: [SYS_NICE] \
                 (Kubernetes)",
            );
        }
        Some(limit) => format!("RLIMIT_RTPRIO is {limit}"),
        None => "RLIMIT_RTPRIO is no limit".to_owned(),
    };
    if let Some(refusal) = refusal {
        // A cgroup of v1's `cpu` controller has no real-time runtime of its own until somebody gives it some.
        return Finding::bad(
            what,
            Standing::Warn,
            format!("refused ({refusal}) although {by}: readers run at the usual priority"),
            "run it outside of a `cpu` cgroup (v1), or give that one some: echo 10000 > cpu.rt_runtime_us, in its \
             parents first",
        );
    }
    Finding::ok(what, format!("sched_rt_runtime_us {runtime}; {by}"))
}

fn open_files(most: Option<u64>) -> Finding {
    let what = "open files";
    match most {
        Some(most) if most < WANTED_FILES => Finding::bad(
            what,
            Standing::Warn,
            format!("{most} at most: with hundreds of containers some have no names"),
            format!("LimitNOFILE={WANTED_FILES} (systemd), --ulimit nofile={WANTED_FILES} (docker)"),
        ),
        most => Finding::ok(what, most.map_or("without limit".into(), |most| format!("{most} at most"))),
    }
}

/// Whether something says that this host's clock is set by others; none where nothing can be known.
fn synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    crate::sys::clock_is_synchronised()
}

fn clock(source: &str, synchronised: Option<bool>) -> Finding {
    let what = "clock";
    let source = if source.is_empty() { "unknown" } else { source };
    match synchronised {
        Some(true) => Finding::ok(what, format!("{source}, synchronised")),
        None => Finding::ok(what, format!("{source}; whether it is synchronised is not known")),
        Some(false) => Finding::bad(
            what,
            Standing::Warn,
            format!("{source}, synchronised with nothing: hosts do not line up, and a step moves hours"),
            "timedatectl set-ntp true, or run chronyd",
        ),
    }
}

/// Looks at where the store is or will be: whether there is room, beyond what is to stay free (`store.min_free_bytes`).
pub fn disk(store: &Path, min_free_bytes: Option<u64>) -> Finding {
    let what = "disk";
    let Some(there) = store.ancestors().find(|folder| folder.exists()) else {
        return Finding::ok(what, "not known");
    };
    match rustix::fs::statvfs(there) {
        Ok(fs) => room(
            fs.f_bavail.saturating_mul(fs.f_frsize),
            min_free_bytes,
            fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        ),
        Err(error) => Finding::bad(
            what,
            Standing::Warn,
            format!("{}: {error}", there.display()),
            "name another directory: --store DIR",
        ),
    }
}

fn room(free_bytes: u64, min_free_bytes: Option<u64>, read_only: bool) -> Finding {
    let (what, mib) = ("disk", free_bytes >> 20);
    if read_only {
        return Finding::bad(
            what,
            Standing::Fail,
            "read-only",
            "name a directory that can be written: --store DIR",
        );
    }
    if let Some(least) = min_free_bytes.filter(|least| free_bytes < *least) {
        return Finding::bad(
            what,
            Standing::Warn,
            format!("{mib} MiB free: the oldest hours are dropped to keep {} MiB free", least >> 20),
            "free some, name a directory elsewhere (--store DIR), or lower store.min_free_bytes",
        );
    }
    Finding::ok(what, format!("{mib} MiB free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_judged() {
        for (finding, expected) in [
            (security_modules("", ""), Standing::Ok),
            (security_modules("lockdown,yama,apparmor", "unconfined"), Standing::Ok),
            (security_modules("capability,apparmor", "docker-default (enforce)"), Standing::Warn),
            (security_modules("selinux", "system_u:system_r:container_t:s0\0"), Standing::Warn),
            (security_modules("selinux", "system_u:system_r:spc_t:s0\0"), Standing::Ok),
            (security_modules("", "cri-containerd.apparmor.d (enforce)"), Standing::Warn),
            (lockdown("none [integrity] confidentiality"), Standing::Ok),
            (lockdown("none integrity [confidentiality]"), Standing::Fail),
            (max_stack("127"), Standing::Ok),
            (max_stack("16"), Standing::Warn),
            (realtime("950000", Some(0), true, None), Standing::Ok),
            (realtime("950000", Some(0), true, Some("not permitted")), Standing::Warn),
            (realtime("950000", Some(0), false, Some("not permitted")), Standing::Warn),
            (realtime("950000", Some(1), false, None), Standing::Ok),
            (realtime("", None, false, None), Standing::Ok),
            (realtime("0", None, true, None), Standing::Warn),
            (open_files(Some(1024)), Standing::Warn),
            (open_files(None), Standing::Ok),
            (clock("tsc", Some(true)), Standing::Ok),
            (clock("", None), Standing::Ok),
            (clock("tsc", Some(false)), Standing::Warn),
            (room(1 << 40, Some(256 << 20), false), Standing::Ok),
            (room(300 << 20, Some(256 << 20), false), Standing::Ok),
            (room(300 << 20, Some(1 << 30), false), Standing::Warn),
            (room(1 << 20, Some(256 << 20), false), Standing::Warn),
            (room(1 << 20, None, false), Standing::Ok),
            (room(1 << 40, None, true), Standing::Fail),
        ] {
            assert_eq!(finding.standing, expected, "{finding:?}");
            assert_eq!(finding.mend.is_some(), expected != Standing::Ok, "{finding:?}");
        }
    }
}
