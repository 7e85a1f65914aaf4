//! What we may do on this host: capabilities, kernel settings, namespaces. `doctor` shows it.
//!
//! Reading only. Each finding says what it is for, and the line that mends it.

use serde::Serialize;

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Works, with less.
    Warn,
    /// The agent cannot do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// The line that mends it; none where nothing is to be mended.
    pub mend: Option<String>,
}

impl Finding {
    /// A finding that is as it should be.
    pub fn ok(what: &str, found: impl Into<String>) -> Finding {
        Finding { what: what.into(), standing: Standing::Ok, found: found.into(), mend: None }
    }

    /// A finding to be mended.
    pub fn bad(what: &str, standing: Standing, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { what: what.into(), standing, found: found.into(), mend: Some(mend.into()) }
    }
}

/// A capability, what it is for, and whether there is work without it.
struct Capability {
    bit: u32,
    name: &'static str,
    purpose: &'static str,
    needed: bool,
}

const CAPABILITIES: [Capability; 6] = [
    Capability { bit: 38, name: "PERFMON", purpose: "perf events of the whole host", needed: true },
    Capability {
        bit: 19,
        name: "SYS_PTRACE",
        purpose: "files that processes of containers have mapped",
        needed: true,
    },
    Capability {
        bit: 40,
        name: "CHECKPOINT_RESTORE",
        purpose: "opening mapped files that were deleted or replaced",
        needed: false,
    },
    Capability {
        bit: 2,
        name: "DAC_READ_SEARCH",
        purpose: "files in containers that only their owner may read",
        needed: true,
    },
    Capability {
        bit: 14,
        name: "IPC_LOCK",
        purpose: "rings larger than kernel.perf_event_mlock_kb",
        needed: false,
    },
    Capability { bit: 34, name: "SYSLOG", purpose: "names of kernel functions", needed: false },
];

/// CAP_SYS_ADMIN, which stands for PERFMON and CHECKPOINT_RESTORE where a kernel or runtime does not know those.
const SYS_ADMIN: u32 = 21;

/// Looks at the rights of this process and at the kernel's settings.
pub fn findings() -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let status = read("/proc/self/status");
    let mut findings = vec![user(&status)];
    findings.extend(capabilities(&status));
    findings.push(pid_namespace(&status));
    findings.push(seccomp(&status));
    findings.push(paranoid(&read("/proc/sys/kernel/perf_event_paranoid"), &status));
    findings.push(kernel(&read("/proc/sys/kernel/osrelease")));
    findings.push(sample_rate(&read("/proc/sys/kernel/perf_event_max_sample_rate")));
    findings
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn effective(status: &str) -> u64 {
    field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

fn user(status: &str) -> Finding {
    let uid = field(status, "Uid").and_then(|uids| uids.split_whitespace().nth(1)).unwrap_or("?");
    match uid {
        "0" => Finding::ok("user", "root"),
        uid => Finding::bad("user", Standing::Fail, format!("uid {uid}"), "run as root: sudo fnscope …"),
    }
}

fn capabilities(status: &str) -> impl Iterator<Item = Finding> {
    let held = effective(status);
    let has = move |bit: u32| held >> bit & 1 == 1;
    CAPABILITIES.iter().map(move |capability| {
        let what = format!("CAP_{}", capability.name);
        let by_admin = matches!(capability.bit, 38 | 40) && has(SYS_ADMIN);
        match (has(capability.bit), by_admin) {
            (true, _) => Finding::ok(&what, capability.purpose),
            (false, true) => Finding::ok(&what, format!("{} (by CAP_SYS_ADMIN)", capability.purpose)),
            (false, false) => {
                let standing = if capability.needed { Standing::Fail } else { Standing::Warn };
                let mend =
                    format!("--cap-add {} (docker), AmbientCapabilities=CAP_{0} (systemd)", capability.name);
                Finding::bad(&what, standing, format!("missing: {}", capability.purpose), mend)
            }
        }
    })
}

fn pid_namespace(status: &str) -> Finding {
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

fn seccomp(status: &str) -> Finding {
    match field(status, "Seccomp") {
        None | Some("0") => Finding::ok("seccomp", "no filter"),
        Some(_) => Finding::ok("seccomp", "a filter is on; whether it allows perf_event_open is tried below"),
    }
}

fn paranoid(text: &str, status: &str) -> Finding {
    let held = effective(status);
    let perfmon = held >> 38 & 1 == 1 || held >> SYS_ADMIN & 1 == 1;
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

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (5, 7) {
        let mend = "Linux 5.7 or newer is needed";
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

fn sample_rate(text: &str) -> Finding {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "Uid:\t0\t0\t0\t0\nNSpid:\t77\nCapEff:\t000001fffeffffff\nSeccomp:\t0\n";
    const NOBODY: &str = "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t77\t5\nCapEff:\t0000000000000000\n";

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        assert_eq!(user(ROOT).standing, Standing::Ok);
        assert_eq!(user(NOBODY).standing, Standing::Fail);
        assert!(capabilities(ROOT).all(|f| f.standing == Standing::Ok));
        let missing: Vec<_> = capabilities(NOBODY).collect();
        assert!(missing.iter().all(|f| f.standing != Standing::Ok && f.mend.is_some()), "{missing:?}");
        let admin = format!("CapEff:\t{:016x}\n", 1u64 << SYS_ADMIN);
        assert!(
            capabilities(&admin).next().is_some_and(|f| f.standing == Standing::Ok),
            "SYS_ADMIN stands in"
        );
        assert_eq!(pid_namespace(NOBODY).standing, Standing::Fail);
    }

    #[test]
    fn settings_of_the_kernel_are_judged() {
        for (finding, expected) in [
            (paranoid("2", NOBODY), Standing::Fail),
            (paranoid("2", ROOT), Standing::Ok),
            (paranoid("", ROOT), Standing::Fail),
            (kernel("5.4.0-generic"), Standing::Fail),
            (kernel("5.15.0"), Standing::Warn),
            (kernel("6.18.44-x"), Standing::Ok),
            (kernel(""), Standing::Fail),
            (sample_rate("100"), Standing::Warn),
            (sample_rate("100000"), Standing::Ok),
        ] {
            assert_eq!(finding.standing, expected, "{finding:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_the_kernel_is_judged(
            text in "(.|\n){0,80}|[0-9]{0,12}(\\.[0-9]{0,12}){0,3}",
            status in "((Uid|NSpid|CapEff|Seccomp):?[\t ]?[0-9a-fx ]{0,20}\n){0,5}",
        ) {
            for finding in [user(&status), seccomp(&status), pid_namespace(&status), paranoid(&text, &status),
                kernel(&text), sample_rate(&text)].into_iter().chain(capabilities(&status))
            {
                proptest::prop_assert_eq!(finding.mend.is_some(), finding.standing != Standing::Ok);
            }
        }
    }
}
