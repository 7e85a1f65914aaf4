//! Waiting for files without a thread.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime of the calling task tell when there is something to read of `fd`, which must be one that does not block.
///
/// # Errors
/// That of `epoll_ctl(2)`: a file that cannot be waited for, for one.
///
/// # Panics
/// Outside of a runtime that waits for files.
pub fn wait_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same one, until it is dropped; it is moved in, and lent out again by shared
    // reference alone.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
