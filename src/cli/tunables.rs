//! What the C library reads as a program starts, and never again: the daemon starts itself once more with it.
//!
//! Each thread of glibc keeps of each of 64 sizes the last seven blocks that it freed (tcache), a quarter of a MiB. They
//! lie wherever they were used, are neither given back nor put together with what is free beside them, and each holds a
//! page: where threads live for weeks and containers for a second, pages add up that hold nothing else. No call empties
//! these caches, and none turns them off in a program that runs.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Names the variable of the environment (ld.so(8)).
const TUNABLES: &str = "GLIBC_TUNABLES";
/// The tunable, and the value that turns thread caches off (GNU C Library, "Memory Allocation Tunables").
const THREAD_CACHES: (&str, &str) = ("glibc.malloc.tcache_count", "0");
/// Says that the program was started again: the C library takes tunables away from a program with capabilities of its
/// file, which would start again for ever.
const STARTED_AGAIN: &str = "_FNSCOPE_STARTED_AGAIN";

/// Starts this program again without thread caches: the same process, arguments and files. Returns where that was done,
/// where whoever started it has set them, and where it cannot be done; that costs a MiB or two of memory and nothing else.
pub(super) fn turn_off_thread_caches() {
    if !cfg!(target_env = "gnu") || std::env::var_os(STARTED_AGAIN).is_some() {
        return;
    }
    let Some(tunables) = with_thread_caches_off(std::env::var_os(TUNABLES).as_deref()) else { return };
    // By its path, not by /proc/self/exe: it would be called `exe` by ps.
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).env(TUNABLES, tunables).env(STARTED_AGAIN, "1");
    // Comes back only where it failed.
    let _ = command.exec();
}

/// What `told` becomes; none where it says how large thread caches are to be.
fn with_thread_caches_off(told: Option<&OsStr>) -> Option<OsString> {
    let (name, value) = THREAD_CACHES;
    let mut tunables = told.unwrap_or_default().to_os_string();
    let of_them = |tunable: &str| tunable.split('=').next() == Some(name);
    if tunables.to_string_lossy().split(':').any(of_them) {
        return None;
    }
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(format!("{name}={value}"));
    Some(tunables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_whoever_started_it_has_set_stays() {
        let with = |told: &str| with_thread_caches_off(Some(OsStr::new(told)));
        assert_eq!(with_thread_caches_off(None).unwrap(), "glibc.malloc.tcache_count=0");
        assert_eq!(with("").unwrap(), "glibc.malloc.tcache_count=0");
        assert_eq!(
            with("glibc.malloc.arena_max=1").unwrap(),
            "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0"
        );
        assert_eq!(with("glibc.malloc.arena_max=1:glibc.malloc.tcache_count=7"), None);
        assert_eq!(with("glibc.malloc.tcache_count=0"), None);
    }
}
