//! Opening perf events, and the memory of their rings.
//!
//! What it promises: safe functions over owned descriptors; a ring is unmapped when it is dropped; bytes that the
//! kernel may still write are never handed out. What the bytes mean is `perf`'s business.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::ioctls;

use perf_bindings::{PERF_FLAG_FD_CLOEXEC, PERF_FLAG_PID_CGROUP, perf_event_attr, perf_event_mmap_page};
pub use perf_event_open_sys::bindings as perf_bindings;

/// Size of `perf_event_attr` with everything up to `aux_sample_size`, which kernels from 5.5 on know.
const ATTR_SIZE_VER6: u32 = 120;

/// Whose events are counted.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// Every process on a CPU.
    Cpu(u32),
    /// Processes of a cgroup, and of those below it, on a CPU.
    Cgroup {
        /// Its directory, open.
        dir: BorrowedFd<'a>,
        /// The CPU.
        cpu: u32,
    },
}

/// Opens `attr` for `target`.
///
/// A kernel that knows a smaller `perf_event_attr` than our bindings answers E2BIG; then it is asked again with the
/// size of 5.5, whose fields are all that fnscope uses.
///
/// # Errors
/// Whatever `perf_event_open(2)` answers; `perf::event` turns it into words.
pub fn perf_event_open(attr: &perf_event_attr, target: Target<'_>) -> io::Result<OwnedFd> {
    let (whose, cpu, flags) = match target {
        Target::Cpu(cpu) => (-1, cpu, PERF_FLAG_FD_CLOEXEC),
        Target::Cgroup { dir, cpu } => (dir.as_raw_fd(), cpu, PERF_FLAG_FD_CLOEXEC | PERF_FLAG_PID_CGROUP),
    };
    let cpu = i32::try_from(cpu).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut attr = *attr;
    let full =
        u32::try_from(std::mem::size_of::<perf_event_attr>()).expect("the attribute is some 144 bytes");
    for size in [full, ATTR_SIZE_VER6] {
        attr.size = size;
        // SAFETY: `attr` lives through the call and is at least `attr.size` bytes long; `whose` is -1 or, with the flag
        // that says so, a descriptor that is open for the call; no group. The kernel only reads `attr`
        // (kernel/events/core.c, perf_copy_attr), except `size` on E2BIG.
        let fd = unsafe { perf_event_open_sys::perf_event_open(&mut attr, whose, cpu, -1, flags.into()) };
        if fd >= 0 {
            // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(rustix::io::Errno::TOOBIG.raw_os_error()) {
            return Err(error);
        }
    }
    Err(rustix::io::Errno::TOOBIG.into())
}

/// Lets `event` write into the ring of `ring`, which is mapped already.
///
/// # Errors
/// `ioctl(2)`'s: EINVAL for a ring of another CPU or clock, or one that is not mapped.
pub fn perf_event_redirect(event: BorrowedFd<'_>, ring: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open for the call; the request takes a descriptor as an integer, no pointer.
    let done = unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), ring.as_raw_fd()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number that the samples of an event carry as their identifier.
///
/// # Errors
/// `ioctl(2)`'s.
pub fn perf_event_id(event: BorrowedFd<'_>) -> io::Result<u64> {
    let mut id = 0;
    // SAFETY: the descriptor is open for the call; the kernel writes one u64 to the pointer (perf_event_ioctl,
    // PERF_EVENT_IOC_ID), which is to a live one.
    let done = unsafe { ioctls::ID(event.as_raw_fd(), &raw mut id) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// Starts or stops an event without closing it.
///
/// # Errors
/// `ioctl(2)`'s.
pub fn perf_event_enable(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let request = if on { ioctls::ENABLE } else { ioctls::DISABLE };
    // SAFETY: `fd` is open for the call; both requests take an integer (0: this event alone), no pointer.
    let done = unsafe { request(fd.as_raw_fd(), 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread the lowest real-time priority (SCHED_FIFO).
///
/// # Errors
/// `sched_setscheduler(2)`'s: EPERM without CAP_SYS_NICE, and in a cgroup without real-time share.
pub fn set_realtime() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a value that lives through the call and is only read; 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The ring of an event: a page the kernel keeps its position in, and data behind it.
pub struct RingMemory {
    base: NonNull<u8>,
    mapped_bytes: usize,
    data_offset: usize,
    data_bytes: u64,
    tail: u64,
}

// SAFETY: the mapping belongs to this value alone and does not depend on the thread that made it.
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// Maps the ring of `event` with `data_bytes` of data, rounded up to a power of two of pages.
    ///
    /// # Errors
    /// `mmap(2)`'s: EPERM past the limit on locked memory, ENOMEM.
    pub fn map(event: BorrowedFd<'_>, data_bytes: usize) -> io::Result<RingMemory> {
        let page = rustix::param::page_size();
        let data_bytes = data_bytes.div_ceil(page).next_power_of_two() * page;
        let mapped_bytes = page + data_bytes;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing existing is touched.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                event,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(RingMemory { base, mapped_bytes, data_offset: page, data_bytes: data_bytes as u64, tail: 0 })
    }

    /// Position up to which the kernel has written, counted from the beginning of time.
    pub fn head(&self) -> u64 {
        let page = self.base.cast::<perf_event_mmap_page>();
        // SAFETY: the first page of the mapping is a `perf_event_mmap_page`, aligned to a page, alive as long as
        // `self`; `data_head` is a u64 that the kernel writes atomically (perf_output_put_handle), so it may be read
        // as an atomic.
        let head = unsafe { AtomicU64::from_ptr(&raw mut (*page.as_ptr()).data_head) };
        // Pairs with the kernel's barrier between data and head: what lies before the head is written.
        head.load(Ordering::Acquire)
    }

    /// Position up to which we have read.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Size of the data area in bytes.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Copies the bytes at `position` into `into`; false, with nothing copied, unless all of them lie between tail
    /// and head, where the kernel does not write.
    pub fn read(&self, position: u64, into: &mut [u8]) -> bool {
        let wanted = into.len() as u64;
        let (Some(from), Some(end)) = (position.checked_sub(self.tail), position.checked_add(wanted)) else {
            return false;
        };
        let head = self.head();
        if end > head || wanted > self.data_bytes || from > self.data_bytes {
            return false;
        }
        // Below data_bytes, which came from a usize.
        let start = (position % self.data_bytes) as usize;
        let first = into.len().min(self.data_bytes as usize - start);
        let (before, after) = into.split_at_mut(first);
        // SAFETY: `start + first <= data_bytes`, so the source lies in the data area of the mapping; the kernel leaves
        // the bytes between tail and head alone until `release` (perf_output_begin checks data_tail); the destination
        // is an exclusive slice of that length.
        unsafe {
            let source = self.base.as_ptr().add(self.data_offset + start);
            std::ptr::copy_nonoverlapping(source, before.as_mut_ptr(), before.len());
        }
        // SAFETY: as above: what is left begins at the data area's first byte and is shorter than it.
        unsafe {
            let source = self.base.as_ptr().add(self.data_offset);
            std::ptr::copy_nonoverlapping(source, after.as_mut_ptr(), after.len());
        }
        true
    }

    /// Gives the bytes before `position` back to the kernel.
    pub fn release(&mut self, position: u64) {
        self.tail = position;
        let page = self.base.cast::<perf_event_mmap_page>();
        // SAFETY: as in `head`; `data_tail` is ours to write and the kernel reads it atomically.
        let tail = unsafe { AtomicU64::from_ptr(&raw mut (*page.as_ptr()).data_tail) };
        // Our reads come before the kernel's writes to the same bytes.
        tail.store(position, Ordering::Release);
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `map`; no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}
