//! Installing a filter of system calls. Which calls it lets pass is `privilege`'s business.

use std::io;

/// Lets the calling thread, and those that it starts from now on, make no system call but those that `program` lets
/// pass. Nothing takes it back. Needs `no_new_privs`, or CAP_SYS_ADMIN.
///
/// # Errors
/// `seccomp(2)`'s: EINVAL or ENOSYS in a kernel without filters, EACCES without `no_new_privs`.
pub fn install_filter(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // The filter is no defence against what is read out of this very process: the processor's guesses may stay fast.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies `filter.len` instructions from the slice, which lives through the call, checks them,
    // and writes nothing (kernel/seccomp.c, seccomp_prepare_user_filter).
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
