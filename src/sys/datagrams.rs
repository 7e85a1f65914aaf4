//! Which datagrams a socket is handed.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};

/// Lets `socket` receive no datagrams but those that begin with one of `beginnings`; the kernel drops the others before
/// anybody is woken.
///
/// # Errors
/// `setsockopt(2)`'s (SO_ATTACH_FILTER); too many beginnings (254 at most).
pub fn keep_datagrams(socket: BorrowedFd<'_>, beginnings: &[[u8; 4]]) -> io::Result<()> {
    let too_many = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // A code fits 16 bits by definition (linux/bpf_common.h).
    let step = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let mut program = vec![step(BPF_LD | BPF_W | BPF_ABS, 0, 0)];
    for (at, beginning) in beginnings.iter().enumerate() {
        // Over the other comparisons and over the end that drops.
        let over = u8::try_from(beginnings.len() - at).map_err(too_many)?;
        program.push(step(BPF_JMP | BPF_JEQ | BPF_K, over, u32::from_be_bytes(*beginning)));
    }
    program.extend([step(BPF_RET | BPF_K, 0, 0), step(BPF_RET | BPF_K, 0, u32::MAX)]);
    let len = u16::try_from(program.len()).map_err(too_many)?;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let size = size_of_val(&filter) as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of `filter` and `len` instructions of the vector, both of which live through
    // the call, checks them, and writes nothing (net/core/filter.c, sk_attach_filter).
    let done = unsafe {
        let option = (&raw const filter).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, option, size)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
