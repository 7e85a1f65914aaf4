//! Symbols of the vdso: the same image in every process of the machine, so our own is read.

use std::os::unix::fs::FileExt;

use super::table::SymbolTable;

/// Largest vdso read in bytes; it has two or three pages.
const MAX_BYTES: u64 = 1 << 20;

/// The vdso's table, where this process has one and may read its own memory.
pub fn read() -> Option<SymbolTable> {
    SymbolTable::from_elf_bytes(&image()?).ok()
}

/// The vdso's image, an ELF file.
pub fn image() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let (begin, end) = range(&maps)?;
    let length = end.checked_sub(begin).filter(|length| *length <= MAX_BYTES)?;
    let mut image = vec![0; usize::try_from(length).ok()?];
    std::fs::File::open("/proc/self/mem").ok()?.read_exact_at(&mut image, begin).ok()?;
    Some(image)
}

fn range(maps: &str) -> Option<(u64, u64)> {
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (begin, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_vdso_names_its_functions() {
        let table = read().unwrap();
        let names: Vec<String> = (0..8192)
            .filter_map(|offset| table.lookup(table.address(offset)?))
            .map(|(name, _)| String::from_utf8(name).unwrap())
            .collect();
        assert!(names.iter().any(|name| name.contains("clock_gettime")), "{names:?}");
    }

    #[test]
    fn a_process_without_vdso_has_no_table() {
        assert_eq!(range("00400000-00401000 r-xp 00000000 00:00 0 /bin/true\n"), None);
        assert_eq!(range("zz-1 r-xp [vdso]"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_vdso_or_none(text in "(.|\n){0,80}|([0-9a-fx-]{0,40} .{0,9}\\[vdso\\]\n){0,3}") {
            let _ = range(&text);
        }
    }
}
