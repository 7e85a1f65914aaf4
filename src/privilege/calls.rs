//! The system calls that the agent makes once it runs, each with its reason: the table that the filters, and
//! `seccomp/agent.json`, are made from.
//!
//! What is not here ends the agent. The list was taken from the agent at work, under `strace` and under its filter, with
//! what glibc and musl may do instead added. A call that some architecture lacks is left out there.

use libc::c_long;

/// The calls that a confined agent makes, by name, each with its reason.
pub fn system_calls() -> impl Iterator<Item = (&'static str, &'static str)> {
    CALLS.iter().map(|call| (call.name(), call.why))
}

/// Which threads make a call, one bit each.
pub(super) const ALL: u8 = 0b1111_1111;
/// Main, capture, readers: whatever is not one of the others.
pub(super) const REST: u8 = 0b0001;
/// Keeper and seal: they parse files of containers and write the store.
pub(super) const KEEPER: u8 = 0b0010;
/// Runtimes: they talk to an engine by its socket.
pub(super) const RUNTIMES: u8 = 0b0100;
/// The fetcher of debug files, where `stack.debuginfod` is configured.
pub(super) const FETCHER: u8 = 0b1000;
/// The parser of files of containers, which is handed them open: it reads them, and asks for nothing else.
pub(super) const PARSER: u8 = 0b1_0000;
/// Discovery: it reads what the host shows of containers, and starts, writes and connects nothing.
pub(super) const DISCOVERY: u8 = 0b10_0000;
/// The follower of platforms' logs, where some are configured.
pub(super) const LOGS: u8 = 0b100_0000;
/// Who asks Kubernetes for labels of pods, where that is configured.
pub(super) const PODS: u8 = 0b1000_0000;
/// All but the parser.
const WIDE: u8 = STARTS | DISCOVERY;
const STARTS: u8 = REST | KEEPER | RUNTIMES | FETCHER | LOGS | PODS;
const FILES: u8 = REST | KEEPER | FETCHER;
/// Who finds files, and writes none.
const FINDS: u8 = FILES | LOGS | PODS;
const FOLDERS: u8 = FINDS | DISCOVERY;
const SOCKETS: u8 = REST | RUNTIMES | FETCHER | PODS;

/// What a call's arguments must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    /// Anything.
    Any,
    /// `clone`: a thread, not a process.
    Threads,
    /// `mmap`, `mprotect`: memory that no code runs from, but where debug files are fetched: glibc loads what looks up
    /// names of hosts.
    NoCode,
    /// `ioctl`: perf events, whether a file is a terminal, whether a descriptor blocks; for the fetcher, how long an
    /// answer is.
    Requests,
    /// `socket`: between processes of this host, and for the fetcher to the network.
    Families,
    /// `kill`: signal 0, which asks whether a process is there.
    Asking,
    /// `prctl`: names of threads and of memory, `no_new_privs`.
    Names,
    /// Of this process: its first argument is 0.
    Own,
}

/// A system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    symbol: &'static str,
    pub(super) number: c_long,
    pub(super) why: &'static str,
    pub(super) who: u8,
    pub(super) only: Only,
}

impl Call {
    /// As strace and seccomp profiles call it.
    pub(super) fn name(&self) -> &'static str {
        self.symbol.trim_start_matches("SYS_")
    }
}

macro_rules! calls {
    ($($why:literal, $who:expr, $only:ident: $($(#[$cfg:meta])? $name:ident)*;)*) => {
        &[$($($(#[$cfg])? Call {
            symbol: stringify!($name),
            number: libc::$name,
            why: $why,
            who: $who,
            only: Only::$only,
        },)*)*]
    };
}

/// All of them. What only x86-64 has are older forms of others.
pub(super) const CALLS: &[Call] = calls! {
    "memory of the program itself", ALL, Any:
        SYS_brk SYS_madvise SYS_mremap SYS_munmap;
    "memory of the program itself, rings of perf events; never to run code from", ALL, NoCode:
        SYS_mmap SYS_mprotect;
    "threads: to start one, not a process", STARTS, Threads:
        SYS_clone;
    "threads: answered as unknown, so that `clone` is asked, whose flags a filter can see", WIDE, Any:
        SYS_clone3;
    "threads: locks, ends, names of their own, where they run", ALL, Any:
        SYS_exit SYS_exit_group SYS_futex SYS_getpid SYS_gettid SYS_rseq SYS_sched_getaffinity SYS_sched_yield SYS_set_robust_list SYS_set_tid_address SYS_tgkill;
    "threads and memory are named", ALL, Names:
        SYS_prctl;
    "signals: SIGTERM, SIGHUP, a guard page below each stack", ALL, Any:
        SYS_restart_syscall SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack;
    "a signal comes to any thread, which tells the one that waits for it", ALL, Any:
        SYS_sendto;
    "is a process still there: signal 0 alone", REST, Asking:
        SYS_kill;
    "the time, and to wait for it", ALL, Any:
        SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep;
    "random numbers for tables and names of files", ALL, Any:
        SYS_getrandom;
    "what this process is, may use and has used", WIDE, Any:
        SYS_getegid SYS_geteuid SYS_getgid SYS_getppid SYS_getrusage SYS_getuid SYS_sysinfo SYS_uname;
    "its own limits", WIDE, Own:
        SYS_prlimit64;
    "each thread gives up what it does not need; filters are only ever added", ALL, Any:
        SYS_capget SYS_capset SYS_seccomp;
    "priority of its threads: ahead of what is watched, behind it, as it was", WIDE, Any:
        SYS_getpriority SYS_ioprio_set SYS_sched_getparam SYS_sched_getscheduler SYS_sched_setscheduler SYS_setpriority;
    "one reader on each CPU", REST, Any:
        SYS_sched_setaffinity;
    "perf events of CPUs that come, and of cgroups", REST, Any:
        SYS_perf_event_open;
    "perf events: start, stop, count; is a file a terminal; descriptors that do not block", WIDE, Requests:
        SYS_ioctl;
    "to wait for rings, sockets and other threads", WIDE, Any:
        SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_ppoll SYS_pselect6
        #[cfg(target_arch = "x86_64")] SYS_epoll_wait
        #[cfg(target_arch = "x86_64")] SYS_poll
        #[cfg(target_arch = "x86_64")] SYS_select;
    "new cgroups, where events are attached to each; sockets of runtimes that are not there yet; lines of platforms' logs, where some are configured", REST | RUNTIMES | LOGS, Any:
        SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch;
    "files of containers, of /proc and of cgroups are found and read; the store's as well", ALL, Any:
        SYS_close SYS_fstat SYS_openat SYS_pread64 SYS_statx;
    "files of containers, of /proc and of cgroups are found and read; the store's as well", WIDE, Any:
        SYS_dup SYS_dup3 SYS_fcntl SYS_lseek SYS_newfstatat SYS_read SYS_readlinkat SYS_readv
        #[cfg(target_arch = "x86_64")] SYS_access
        #[cfg(target_arch = "x86_64")] SYS_dup2
        #[cfg(target_arch = "x86_64")] SYS_lstat
        #[cfg(target_arch = "x86_64")] SYS_open
        #[cfg(target_arch = "x86_64")] SYS_readlink
        #[cfg(target_arch = "x86_64")] SYS_stat;
    "files of containers, of /proc and of cgroups are found and read; the store's as well", FINDS, Any:
        SYS_close_range SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fstatfs SYS_getcwd SYS_preadv SYS_preadv2 SYS_statfs;
    "files of containers, of /proc and of cgroups are found and read; the store's as well", FILES, Any:
        SYS_openat2;
    "folders of the host and of the store are listed", FOLDERS, Any:
        SYS_getdents64;
    "the log, the store's files, and to wake threads", ALL, Any:
        SYS_write SYS_writev;
    "the store: written, synced, renamed, dropped", FILES, Any:
        SYS_copy_file_range SYS_fallocate SYS_fchmod SYS_fchmodat SYS_fdatasync SYS_flock SYS_fsync SYS_ftruncate SYS_linkat SYS_mkdirat SYS_pwrite64 SYS_pwritev
        SYS_renameat SYS_renameat2 SYS_sendfile SYS_symlinkat SYS_sync_file_range SYS_syncfs SYS_truncate SYS_unlinkat SYS_utimensat
        #[cfg(target_arch = "x86_64")] SYS_chmod
        #[cfg(target_arch = "x86_64")] SYS_link
        #[cfg(target_arch = "x86_64")] SYS_mkdir
        #[cfg(target_arch = "x86_64")] SYS_rename
        #[cfg(target_arch = "x86_64")] SYS_rmdir
        #[cfg(target_arch = "x86_64")] SYS_symlink
        #[cfg(target_arch = "x86_64")] SYS_unlink;
    "sockets: an engine's, the service manager's; to debuginfod and Kubernetes where they are configured", SOCKETS, Families:
        SYS_socket;
    "sockets: an engine's, the service manager's; to debuginfod and Kubernetes where they are configured", SOCKETS, Any:
        SYS_bind SYS_connect SYS_getpeername SYS_getsockname SYS_getsockopt SYS_recvfrom SYS_recvmsg SYS_sendmmsg SYS_sendmsg SYS_setsockopt SYS_shutdown
        SYS_socketpair;
    "health is asked for: the listener was bound before", REST, Any:
        SYS_accept SYS_accept4;
    "pipes between its own parts", SOCKETS, Any:
        SYS_pipe2;
};
