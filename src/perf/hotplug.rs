//! News of CPUs that come and go, told by the kernel (uevents): each is followed when it happens, not at the next look.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::sys::keep_datagrams;

/// Whom the kernel itself tells; 2 is udev's.
const KERNEL: u32 = 1;

/// A socket that is told when a CPU (or memory) goes online or offline.
pub struct Hotplug {
    socket: OwnedFd,
}

impl Hotplug {
    /// Begins to listen.
    ///
    /// # Errors
    /// No socket of that family: a filter of system calls, or `RestrictAddressFamilies` without `AF_NETLINK`.
    pub fn open() -> io::Result<Hotplug> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::KOBJECT_UEVENT))?;
        // Before it is bound. A container that starts makes a dozen messages, of its network: nobody is woken by those.
        keep_datagrams(socket.as_fd(), &[*b"onli", *b"offl"])?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(Hotplug { socket })
    }

    /// Whether anything was told since the last call.
    pub fn take(&self) -> bool {
        let mut told = false;
        loop {
            // What it says in detail is looked up; it need not fit.
            match rustix::io::read(&self.socket, &mut [0; 64]) {
                Ok(_) => told = true,
                Err(rustix::io::Errno::INTR) => {}
                // So much that some was thrown away.
                Err(rustix::io::Errno::NOBUFS) => told = true,
                Err(_) => return told,
            }
        }
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
