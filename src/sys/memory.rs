//! What the allocator keeps of memory that was freed.

/// Blocks that are mapped by themselves, and so are gone when they are freed: tables of files while they are read.
const MAPPED_BYTES: i32 = 256 << 10;
/// What may lie unused at the end of a heap.
const UNUSED_BYTES: i32 = 512 << 10;
/// Heaps of all threads together: one for each thread that runs all the time on a usual host, and a bound on what many
/// CPUs' threads keep. With fewer, what a thread holds for a moment (a sample) lies between what another holds for minutes
/// (a stack's names), and the holes add up for a quarter of an hour.
const HEAPS: i32 = 12;

/// Has the allocator keep little of what is freed. Left to itself it takes the largest block that was ever freed for the
/// usual size, and has eight heaps for each CPU.
pub fn keep_little_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
        (libc::M_TRIM_THRESHOLD, UNUSED_BYTES),
        (libc::M_ARENA_MAX, HEAPS),
    ] {
        // SAFETY: takes no pointer; the allocator is made before `main` and allows it at any time (mallopt(3)). Refused,
        // it changes nothing.
        let _ = unsafe { libc::mallopt(option, value) };
    }
}

/// Gives memory that was freed back to the system, where the allocator keeps it: of what was dropped to save memory
/// nothing else would show.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes no pointer, may be called by any thread at any time (malloc_trim(3): MT-Safe).
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Resident memory of this process that no file is behind, in KiB.
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("read our own status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux 4.5 or newer");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn freed_memory_between_what_is_used_is_given_back() {
        // 64 MiB in blocks of 1 KiB, of which every 64th stays: no block at the end of a heap, where any trim begins.
        let mut blocks: Vec<Vec<u8>> = (0..65_536).map(|_| vec![1; 1024]).collect();
        let mut n = 0;
        blocks.retain(|_| {
            n += 1;
            n % 64 == 0
        });
        let before = resident_kib();
        release_freed_memory();
        let after = resident_kib();
        // One page of 4 KiB of sixteen holds a block that stays, or two.
        assert!(after + 40 * 1024 < before, "{before} KiB, then {after}: 56 MiB lie between blocks");
        assert_eq!(blocks.iter().map(Vec::len).sum::<usize>(), 1 << 20);
    }
}
