//! Settings of the kernel that perf events depend on.

use super::capabilities::{PERFMON, effective, stands};
use super::finding::{Finding, Standing};

pub(super) fn paranoid(text: &str, status: &str) -> Finding {
    let perfmon = stands(effective(status), PERFMON);
    match text.parse::<i32>() {
        Ok(level) if level <= 0 || perfmon => Finding::ok("kernel.perf_event_paranoid", text),
        Ok(_) => Finding::bad(
            "kernel.perf_event_paranoid",
            Standing::Fail,
            format!("{text}, and no CAP_PERFMON"),
            "sysctl kernel.perf_event_paranoid=0, or run with CAP_PERFMON",
        ),
        Err(_) => Finding::bad(
            "kernel.perf_event_paranoid",
            Standing::Fail,
            "cannot be read: no perf events in this kernel",
            "use a kernel built with CONFIG_PERF_EVENTS",
        ),
    }
}

/// `scoped`: whether events are scoped by cgroups (`attach = "per-cgroup"`), which needs no cgroup ids in samples.
pub(super) fn kernel(release: &str, scoped: bool) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version == (0, 0) {
        let mend = "mount /proc: mount -t proc proc /proc";
        return Finding::bad(
            "kernel",
            Standing::Fail,
            format!("its release {release:?} tells no version"),
            mend,
        );
    }
    if version < (5, 7) && !scoped {
        let mend = "set attach = \"per-cgroup\" in the agent's configuration, or use Linux 5.7 or newer";
        return Finding::bad("kernel", Standing::Fail, format!("{release}: no cgroup ids in samples"), mend);
    }
    if version < (6, 0) {
        let mend = "Linux 6.0 or newer counts them exactly";
        return Finding::bad(
            "kernel",
            Standing::Warn,
            format!("{release}: lost samples are known late"),
            mend,
        );
    }
    Finding::ok("kernel", release)
}

pub(super) fn sample_rate(text: &str) -> Finding {
    match text.parse::<u32>() {
        Ok(rate) if rate < 400 => Finding::bad(
            "kernel.perf_event_max_sample_rate",
            Standing::Warn,
            format!("{rate}: sampling is held to {} Hz", rate / 2),
            "sysctl kernel.perf_event_max_sample_rate=100000",
        ),
        _ => Finding::ok("kernel.perf_event_max_sample_rate", text),
    }
}
