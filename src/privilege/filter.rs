//! From the table of system calls to the programs that the kernel runs over each call.
//!
//! Whatever is not in the table ends the process at once (SIGSYS, and a line in the kernel's log): nobody who is in it
//! may look for another way. A tighter filter of one thread stands on top of the process's.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::calls::{CALLS, Call, DISCOVERY, LOGS, Only, PARSER, PODS, RUNTIMES};

/// `clone`'s flag of a thread.
const CLONE_THREAD: u64 = 0x10000;
/// Requests of perf events, by their second byte: `$`.
const PERF_REQUESTS: (u64, u64) = (0xff00, 0x2400);
/// Other requests: TCGETS, TIOCGWINSZ, FIONBIO, FIOCLEX.
const REQUESTS: [u64; 4] = [0x5401, 0x5413, 0x5421, 0x5451];
/// FIONREAD, by which glibc's resolver asks how long an answer is.
const NETWORK_REQUEST: u64 = 0x541b;
/// PR_SET_NAME, PR_GET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_VMA.
const NAMES: [u64; 4] = [15, 16, 38, 0x5356_4d41];
const AF_UNIX: u64 = 1;
/// AF_INET, AF_INET6, and AF_NETLINK, by which glibc asks for the host's addresses.
const NETWORK: [u64; 3] = [2, 10, 16];

/// The programs of the threads in `who`, to be installed in this order; `network` lets them talk to other hosts.
pub(super) fn programs(who: u8, network: bool) -> Result<Vec<Vec<libc::sock_filter>>, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules = BTreeMap::new();
    for call in CALLS.iter().filter(|call| call.who & who != 0) {
        rules.insert(call.number, conditions(call, network)?);
    }
    let kill = SeccompAction::KillProcess;
    let listed = SeccompFilter::new(rules, kill, SeccompAction::Allow, architecture)?;
    // Its flags are in memory, where no filter sees them. Whoever asks asks for `clone` then.
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, unknown, architecture)?;
    let mut all = vec![listed, clone3];
    if who == PARSER {
        // It is handed what it reads. glibc asks once, in whichever thread, whether memory may be overcommitted, by a file;
        // refused, it gives memory back in another way.
        let refused = SeccompAction::Errno(libc::EACCES.unsigned_abs());
        let opens = BTreeMap::from([(libc::SYS_openat, Vec::new())]);
        all.push(SeccompFilter::new(opens, SeccompAction::Allow, refused, architecture)?);
    }
    if [DISCOVERY, RUNTIMES, LOGS, PODS].contains(&who) {
        all.push(reading_alone(architecture)?);
    }
    all.into_iter().map(compiled).collect()
}

/// Refuses to open a file for anything but reading it.
fn reading_alone(architecture: TargetArch) -> Result<SeccompFilter, BackendError> {
    let refused = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let any_of = |argument: u8| -> Result<Vec<SeccompRule>, BackendError> {
        let bits =
            [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC].map(libc::c_int::unsigned_abs);
        let has = |bit: u32| {
            let mask = Op::MaskedEq(bit.into());
            SeccompRule::new(vec![SeccompCondition::new(argument, Len::Dword, mask, bit.into())?])
        };
        bits.into_iter().map(has).collect()
    };
    let mut opens = BTreeMap::from([(libc::SYS_openat, any_of(2)?)]);
    #[cfg(target_arch = "x86_64")]
    opens.insert(libc::SYS_open, any_of(1)?);
    SeccompFilter::new(opens, SeccompAction::Allow, refused, architecture)
}

fn compiled(filter: SeccompFilter) -> Result<Vec<libc::sock_filter>, BackendError> {
    let program = seccompiler::BpfProgram::try_from(filter)?;
    Ok(program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}

/// Of these rules one must hold; none is needed where there are none.
fn conditions(call: &Call, network: bool) -> Result<Vec<SeccompRule>, BackendError> {
    let is = |argument: u8, value: u64| SeccompCondition::new(argument, Len::Dword, Op::Eq, value);
    let masked = |argument: u8, mask: u64, value: u64| {
        SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(mask), value)
    };
    let conditions = match call.only {
        Only::Any => vec![],
        Only::NoCode if network => vec![],
        Only::NoCode => vec![masked(2, libc::PROT_EXEC.unsigned_abs().into(), 0)?],
        Only::Threads => vec![masked(0, CLONE_THREAD, CLONE_THREAD)?],
        Only::Asking => vec![is(1, 0)?],
        Only::Own => vec![is(0, 0)?],
        Only::Names => NAMES.iter().map(|name| is(0, *name)).collect::<Result<_, _>>()?,
        Only::Requests => {
            let perf = std::iter::once(masked(1, PERF_REQUESTS.0, PERF_REQUESTS.1));
            let more = std::iter::once(&NETWORK_REQUEST).filter(|_| network);
            let others = REQUESTS.iter().chain(more).map(|request| is(1, *request));
            perf.chain(others).collect::<Result<_, _>>()?
        }
        Only::Families => {
            let more = NETWORK.iter().filter(|_| network);
            std::iter::once(&AF_UNIX).chain(more).map(|family| is(0, *family)).collect::<Result<_, _>>()?
        }
    };
    conditions.into_iter().map(|condition| SeccompRule::new(vec![condition])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privilege::calls::{ALL, FETCHER, KEEPER, REST};

    #[test]
    fn every_program_is_one_that_the_kernel_takes() {
        for (who, network) in [
            (ALL, false),
            (ALL, true),
            (REST, false),
            (KEEPER, false),
            (PARSER, false),
            (DISCOVERY, false),
            (RUNTIMES, false),
            (FETCHER, true),
            (LOGS, false),
            (PODS, true),
        ] {
            for program in programs(who, network).unwrap() {
                assert!((4..4096).contains(&program.len()), "BPF_MAXINSNS: {}", program.len());
            }
        }
    }

    #[test]
    fn the_table_names_a_call_once_and_gives_a_reason() {
        let mut names: Vec<_> = CALLS.iter().map(Call::name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(CALLS.iter().all(|call| call.why.len() > 10 && call.who & ALL != 0));
        for forbidden in
            ["execve", "ptrace", "process_vm_readv", "mount", "bpf", "setns", "unshare", "setuid", "chown"]
        {
            assert!(!names.contains(&forbidden), "{forbidden}");
        }
        let makes = |who: u8, name: &str| CALLS.iter().any(|call| call.name() == name && call.who & who != 0);
        let keeper = |name: &str| makes(KEEPER, name);
        let parser = |name: &str| makes(PARSER, name);
        let logs = |name: &str| makes(LOGS, name);
        let pods = |name: &str| makes(PODS, name);
        assert!(logs("inotify_init1") && !logs("socket") && pods("connect") && !pods("inotify_init1"));
        assert!(!logs("unlinkat") && !pods("unlinkat") && !pods("renameat"));
        assert!(parser("pread64") && !parser("open") && !parser("clone") && !parser("fcntl"));
        assert_eq!(programs(PARSER, false).unwrap().len(), programs(KEEPER, false).unwrap().len() + 1);
        let discovery = |name: &str| makes(DISCOVERY, name);
        assert!(discovery("getdents64") && discovery("openat"));
        assert!(
            !discovery("clone") && !discovery("socket") && !discovery("openat2") && !discovery("unlinkat")
        );
        for who in [DISCOVERY, RUNTIMES, LOGS, PODS] {
            // Its flags lie in memory: it would be a way around what the last filter refuses.
            assert!(!makes(who, "openat2"), "{who}");
            assert_eq!(programs(who, false).unwrap().len(), programs(KEEPER, false).unwrap().len() + 1);
        }
        assert!(keeper("renameat") && !keeper("socket") && !keeper("perf_event_open") && !keeper("kill"));
    }
}
