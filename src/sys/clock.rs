//! What the kernel knows of its clock.

/// Whether the clock is set by others, as whoever sets it has told the kernel; none where the kernel does not say.
pub fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: `timex` is plain integers, for which zero is a value; modes 0 asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value that lives through the call and that the kernel fills (kernel/time/ntp.c).
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some(timex.status & libc::STA_UNSYNC == 0)
}
