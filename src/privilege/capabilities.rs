//! The capabilities that the agent has a use for: what each is for, what is missing without it, which it keeps.

use super::finding::{Finding, Standing};
use super::process::field;

/// How much a capability is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// No work without it.
    Must,
    /// Works, with less.
    Less,
    /// Hardly missed.
    Bonus,
}

/// A capability.
struct Capability {
    bit: u32,
    name: &'static str,
    purpose: &'static str,
    /// What is so without it.
    without: &'static str,
    need: Need,
    /// Whether it is still needed once the agent runs.
    stays: bool,
}

const CAPABILITIES: [Capability; 7] = [
    Capability {
        bit: 38,
        name: "PERFMON",
        purpose: "perf events of the whole host",
        without: "no perf event is opened",
        need: Need::Must,
        stays: true,
    },
    Capability {
        bit: 19,
        name: "SYS_PTRACE",
        purpose: "files that processes of containers have mapped",
        without: "functions of other users have no names, and environments are not read",
        need: Need::Must,
        stays: true,
    },
    Capability {
        bit: 40,
        name: "CHECKPOINT_RESTORE",
        purpose: "opening mapped files that were deleted or replaced",
        without: "files that were deleted or replaced while they ran have no names",
        need: Need::Less,
        stays: true,
    },
    Capability {
        bit: 2,
        name: "DAC_READ_SEARCH",
        purpose: "files in containers that only their owner may read",
        without: "files that only their owner may read have no names",
        need: Need::Must,
        stays: true,
    },
    Capability {
        bit: 14,
        name: "IPC_LOCK",
        purpose: "rings larger than kernel.perf_event_mlock_kb",
        without: "rings take no more than kernel.perf_event_mlock_kb and the limit on locked memory",
        need: Need::Less,
        stays: true,
    },
    Capability {
        bit: 34,
        name: "SYSLOG",
        purpose: "names of kernel functions",
        without: "kernel code shows as [kernel]",
        need: Need::Less,
        stays: false,
    },
    Capability {
        bit: 23,
        name: "SYS_NICE",
        purpose: "readers ahead of what they watch",
        without: "readers run at the usual priority: of very short processes some files are opened too late",
        need: Need::Bonus,
        stays: true,
    },
];

/// CAP_SYS_ADMIN, which stands for PERFMON and CHECKPOINT_RESTORE where a kernel or runtime does not know those.
pub(super) const SYS_ADMIN: u32 = 21;
/// PERFMON.
pub(super) const PERFMON: u32 = 38;
/// SYS_NICE.
pub(super) const SYS_NICE: u32 = 23;
/// SYS_PTRACE and DAC_READ_SEARCH: to read what other users' processes show.
pub(super) const DISCOVERS: u64 = 1 << 19 | 1 << 2;
/// What SYS_ADMIN stands for.
const BY_ADMIN: [u32; 2] = [PERFMON, 40];

/// Every capability by its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A line for each capability that this process lacks and misses, for its log: its name, and what is so without it.
pub fn missed() -> Vec<(String, &'static str)> {
    let held = effective(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    let missed = CAPABILITIES.iter().filter(|c| c.need != Need::Bonus && !stands(held, c.bit));
    missed.map(|capability| (format!("CAP_{}", capability.name), capability.without)).collect()
}

/// Of what is `held`, what is needed once the agent runs.
pub(super) fn kept(held: u64) -> u64 {
    let needed = CAPABILITIES.iter().filter(|capability| capability.stays);
    let bits = needed.map(|capability| 1 << capability.bit).fold(0, |all, bit: u64| all | bit);
    let by_admin = BY_ADMIN.iter().any(|bit| held >> bit & 1 == 0);
    held & (bits | if by_admin { 1 << SYS_ADMIN } else { 0 })
}

/// Names of the capabilities in `bits`.
pub(super) fn names(bits: u64) -> Vec<String> {
    let name = |bit: u32| NAMES.get(bit as usize).map_or_else(|| bit.to_string(), |name| (*name).into());
    (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
}

/// The effective set in the text of a `/proc/PID/status`.
pub(super) fn effective(status: &str) -> u64 {
    field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

/// Whether `held` has the capability `bit`, or what stands for it.
pub(super) fn stands(held: u64, bit: u32) -> bool {
    held >> bit & 1 == 1 || BY_ADMIN.contains(&bit) && held >> SYS_ADMIN & 1 == 1
}

/// A finding for each capability.
pub(super) fn findings(status: &str) -> impl Iterator<Item = Finding> {
    let held = effective(status);
    CAPABILITIES.iter().map(move |capability| {
        let what = format!("CAP_{}", capability.name);
        let standing = match capability.need {
            Need::Must => Standing::Fail,
            Need::Less => Standing::Warn,
            Need::Bonus => Standing::Ok,
        };
        match (held >> capability.bit & 1 == 1, stands(held, capability.bit), standing) {
            (true, ..) => Finding::ok(&what, capability.purpose),
            (false, true, _) => Finding::ok(&what, format!("{} (by CAP_SYS_ADMIN)", capability.purpose)),
            (.., Standing::Ok) => {
                Finding::ok(&what, format!("not held, and not needed: {}", capability.without))
            }
            (.., standing) => {
                let mend = format!(
                    "--cap-add {} (docker), AmbientCapabilities=CAP_{0} (systemd), capabilities.add: [{0}] (Kubernetes)",
                    capability.name
                );
                Finding::bad(&what, standing, format!("missing: {}", capability.without), mend)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_is_needed_later() {
        let bits = |names: &[&str]| {
            let bit = |name: &&str| 1u64 << NAMES.iter().position(|known| known == name).unwrap();
            names.iter().map(bit).fold(0, |all, bit| all | bit)
        };
        let all = (1u64 << NAMES.len()) - 1;
        let needed =
            ["DAC_READ_SEARCH", "IPC_LOCK", "SYS_PTRACE", "SYS_NICE", "PERFMON", "CHECKPOINT_RESTORE"];
        for (held, expected) in [
            (all, bits(&needed)),
            (bits(&needed), bits(&needed)),
            (bits(&["SYS_ADMIN", "SYSLOG", "SYS_PTRACE"]), bits(&["SYS_ADMIN", "SYS_PTRACE"])),
            (bits(&["SYS_ADMIN", "PERFMON"]), bits(&["SYS_ADMIN", "PERFMON"])),
            (0, 0),
        ] {
            assert_eq!(names(kept(held)), names(expected));
        }
        for capability in &CAPABILITIES {
            assert_eq!(NAMES[capability.bit as usize], capability.name);
        }
        assert_eq!(names(1 << 50), ["50"], "one that is not known yet");
    }
}
