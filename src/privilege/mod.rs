//! What we may do on this host, and giving up the rest.
//!
//! Two halves. Looking: capabilities, kernel settings, namespaces, limits; each finding says what it is for, and the line
//! that mends it; `doctor` shows them. Giving up: [`Sandbox`], which leaves the agent what it needs and no more. Nothing
//! here raises a right.

mod calls;
mod capabilities;
mod confine;
mod filter;
mod finding;
mod host;
mod kernel;
mod process;

pub use calls::system_calls;
pub use capabilities::missed;
pub use confine::{ConfineError, GivenUp, Part, Sandbox};
pub use finding::{Finding, Standing};
pub use host::disk;

/// Looks at the rights of this process and at the kernel's settings, for an agent whose events are scoped by cgroups
/// (`attach = "per-cgroup"`) or not.
pub fn findings(scoped: bool) -> Vec<Finding> {
    let status = read("/proc/self/status");
    let mut findings = vec![process::user(&status)];
    findings.extend(capabilities::findings(&status));
    findings.push(process::pid_namespace(&status));
    let cgroup_namespace = std::fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
    findings.push(process::own_cgroup_namespace(&cgroup_namespace.to_string_lossy()));
    findings.push(process::seccomp(&status));
    findings.push(kernel::paranoid(&read("/proc/sys/kernel/perf_event_paranoid"), &status));
    findings.push(kernel::kernel(&read("/proc/sys/kernel/osrelease"), scoped));
    findings.push(kernel::sample_rate(&read("/proc/sys/kernel/perf_event_max_sample_rate")));
    findings.extend(host::findings(&status));
    findings
}

/// What a file of the kernel says, without the end of its line; nothing where it cannot be read.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::capabilities::{SYS_ADMIN, findings as capabilities};
    use super::kernel::{kernel, paranoid, sample_rate};
    use super::process::{own_cgroup_namespace, pid_namespace, seccomp, user};
    use super::*;

    const ROOT: &str = "Uid:\t0\t0\t0\t0\nNSpid:\t77\nCapEff:\t000001fffeffffff\nSeccomp:\t0\n";
    const NOBODY: &str = "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t77\t5\nCapEff:\t0000000000000000\n";

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        assert_eq!(user(ROOT).standing, Standing::Ok);
        assert_eq!(user(NOBODY).standing, Standing::Fail);
        assert!(capabilities(ROOT).all(|f| f.standing == Standing::Ok));
        // One is a bonus.
        let missing: Vec<_> = capabilities(NOBODY).filter(|f| f.what != "CAP_SYS_NICE").collect();
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
            (own_cgroup_namespace("cgroup:[4026531835]"), Standing::Ok),
            (own_cgroup_namespace("cgroup:[4026532733]"), Standing::Ok),
            (paranoid("2", NOBODY), Standing::Fail),
            (paranoid("2", ROOT), Standing::Ok),
            (paranoid("", ROOT), Standing::Fail),
            (kernel("5.4.0-generic", false), Standing::Fail),
            (kernel("5.4.0-generic", true), Standing::Warn),
            (kernel("5.15.0", false), Standing::Warn),
            (kernel("6.18.44-x", false), Standing::Ok),
            (kernel("6.18.44-x", true), Standing::Ok),
            (kernel("", false), Standing::Fail),
            (kernel("", true), Standing::Fail),
            (sample_rate("100"), Standing::Warn),
            (sample_rate("100000"), Standing::Ok),
        ] {
            assert_eq!(finding.standing, expected, "{finding:?}");
        }
        let old = kernel("5.4.0", false).mend;
        assert!(old.as_ref().is_some_and(|mend| mend.contains("attach = \"per-cgroup\"")), "{old:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_the_kernel_is_judged(
            text in "(.|\n){0,80}|[0-9]{0,12}(\\.[0-9]{0,12}){0,3}",
            status in "((Uid|NSpid|CapEff|Seccomp):?[\t ]?[0-9a-fx ]{0,20}\n){0,5}",
            scoped: bool,
        ) {
            for finding in [user(&status), seccomp(&status), pid_namespace(&status), paranoid(&text, &status),
                kernel(&text, scoped), sample_rate(&text)].into_iter().chain(capabilities(&status))
            {
                proptest::prop_assert_eq!(finding.mend.is_some(), finding.standing != Standing::Ok);
            }
        }
    }
}
