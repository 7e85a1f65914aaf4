//! Which CPUs are online.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// Highest CPU number that is believed: the kernel's own limit is 8192.
const MAX_CPU: u32 = 8191;

/// Most bytes of the list that are read: the kernel writes a page at most.
const MAX_LIST_BYTES: usize = 4096;

/// The kernel's list of online CPUs, held open: it is looked at again and again, and opening costs more than reading.
pub(super) struct Online {
    list: File,
}

impl Online {
    /// # Errors
    /// That of opening `/sys/devices/system/cpu/online`.
    pub(super) fn open() -> io::Result<Online> {
        Ok(Online { list: File::open("/sys/devices/system/cpu/online")? })
    }

    /// The CPUs that are online now.
    ///
    /// # Errors
    /// That of reading, or invalid data.
    pub(super) fn read(&self) -> io::Result<BTreeSet<u32>> {
        let mut bytes = [0; MAX_LIST_BYTES];
        let len = self.list.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
        parse_cpu_list(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no cpu list: {text:?}")))
    }
}

/// Which coming of `cpu` this is: another number each time that it comes online (the kernel makes this folder anew).
/// 0 where that cannot be read.
pub(super) fn coming(cpu: u32) -> u64 {
    std::fs::metadata(format!("/sys/devices/system/cpu/cpu{cpu}/topology")).map_or(0, |folder| folder.ino())
}

/// How many CPUs are online, whatever this process itself may run on; 1 where that cannot be read.
pub fn online_cpus() -> usize {
    Online::open().and_then(|online| online.read()).map_or(1, |cpus| cpus.len().max(1))
}

/// Reads the kernel's list format (`0-3,8`); none if it is not one or names a CPU above the kernel's limit.
pub fn parse_cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        for (text, expected) in [
            ("0-1\n", Some(vec![0, 1])),
            ("0,2-4,7", Some(vec![0, 2, 3, 4, 7])),
            ("", Some(vec![])),
            ("3-1", None),
            ("0-4294967295", None),
            ("a", None),
        ] {
            assert_eq!(parse_cpu_list(text).map(|c| c.into_iter().collect()), expected, "{text}");
        }
    }

    #[test]
    fn the_list_is_read_again_and_again() {
        let online = Online::open().unwrap();
        let first = online.read().unwrap();
        assert!(!first.is_empty());
        assert_eq!(online.read().unwrap(), first, "from its beginning each time");
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_none(text in "[0-9,\\-a]{0,20}") {
            let _ = parse_cpu_list(&text);
        }
    }
}
