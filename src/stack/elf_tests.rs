//! Real ELF files, and what becomes of them in a tenant's hands.

use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;

use super::elf::{Elf, Section};
use super::plan::Plan;
use super::source::{Fields, Pinned, Source};
use super::table::SymbolTable;

/// Where `address` of this process lies: the file that is mapped there and the offset in it.
pub(super) fn mapped(address: u64) -> (String, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let (begin, end) = words.next()?.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let range: Range<u64> = number(begin)..number(end);
            let offset = number(words.nth(1)?);
            let path = words.nth(2)?;
            range.contains(&address).then(|| (path.to_string(), address - range.start + offset))
        })
        .expect("every function is mapped")
}

#[inline(never)]
pub(super) fn a_function_of_our_own(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

pub(super) fn own_place() -> (String, u64) {
    let (path, offset) = mapped(a_function_of_our_own as fn(u64) -> u64 as usize as u64);
    (path, offset + 1)
}

fn table_of(path: &str) -> SymbolTable {
    let fd: std::os::fd::OwnedFd = std::fs::File::open(path).unwrap().into();
    Plan::new(Source::file(fd.into()).unwrap(), None).unwrap().build().unwrap()
}

fn name_at(table: &SymbolTable, offset: u64) -> Option<String> {
    let (name, _) = table.lookup(table.address(offset)?)?;
    Some(super::demangle::demangle(&name))
}

/// A program of about 16 KB with everything in it that is looked for: sections, symbols, a build id.
pub(super) fn small() -> Vec<u8> {
    elf(&[(0x1000, 0x20, 0x12, "main"), (0x1020, 0x10, 0x02, "helper"), (0x1040, 0, 0x10, "_start")])
}

/// An ELF file with `symbols` (address from 0x400000, size, info, name) in `.symtab`.
pub(super) fn elf(symbols: &[(u64, u64, u8, &str)]) -> Vec<u8> {
    let mut strings = vec![0u8];
    let mut records = vec![0u8; 24];
    for (address, size, info, name) in symbols {
        records.extend_from_slice(&(strings.len() as u32).to_le_bytes());
        records.extend_from_slice(&[*info, 0, 1, 0]);
        records.extend_from_slice(&(0x40_0000 + address).to_le_bytes());
        records.extend_from_slice(&size.to_le_bytes());
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    with_sections(&[(".symtab", 2, records), (".strtab", 3, strings)])
}

/// An ELF file with one executable segment at offset 0x1000, mapped at 0x401000, a build id, and `sections` (name,
/// type, bytes) from number 2 on; each links to the next one.
pub(super) fn with_sections(sections: &[(&str, u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0; 0x2000];
    let mut names = b"\0.text\0".to_vec();
    // name, type, flags, address, offset, size, link, entry size
    let mut headers = vec![[0; 8], [1, 1, 6, 0x40_1000, 0x1000, 0x800, 0, 0]];
    let mut add = |name: &str, kind: u64, bytes: &[u8], headers: &mut Vec<[u64; 8]>| {
        let (name_at, at) = (names.len() as u64, file.len() as u64);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        file.extend_from_slice(bytes);
        file.resize(file.len().next_multiple_of(8), 0);
        let entry = if kind == 2 || kind == 11 { 24 } else { 0 };
        headers.push([
            name_at,
            kind,
            2,
            0x40_0000 + at,
            at,
            bytes.len() as u64,
            headers.len() as u64 + 1,
            entry,
        ]);
        names.clone()
    };
    for (name, kind, bytes) in sections {
        add(name, *kind, bytes, &mut headers);
    }
    let names = add(".shstrtab", 3, &[0; 200], &mut headers);
    let names_at = file.len() - 200;
    file[names_at..names_at + names.len()].copy_from_slice(&names);
    let sections_at = file.len() as u64;
    for [name, kind, flags, address, offset, size, link, entry] in &headers {
        for (number, bytes) in [
            (name, 4),
            (kind, 4),
            (flags, 8),
            (address, 8),
            (offset, 8),
            (size, 8),
            (link, 4),
            (&0, 4),
            (&1, 8),
            (entry, 8),
        ] {
            file.extend_from_slice(&number.to_le_bytes()[..bytes]);
        }
    }
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, number: u64, bytes: usize| {
        file[at..at + bytes].copy_from_slice(&number.to_le_bytes()[..bytes]);
    };
    put(16, 2, 2);
    put(18, 62, 2);
    put(32, 64, 8);
    put(40, sections_at, 8);
    let count = headers.len() as u64;
    for (at, number) in [(52, 64), (54, 56), (56, 2), (58, 64), (60, count), (62, count - 1)] {
        put(at, number, 2);
    }
    // PT_LOAD, read and execute.
    put(64, 1, 4);
    put(68, 5, 4);
    put(72, 0x1000, 8);
    put(80, 0x40_1000, 8);
    put(96, 0x900, 8);
    put(104, 0x900, 8);
    // PT_NOTE with a build id.
    put(120, 4, 4);
    put(128, 0x1800, 8);
    put(152, 24, 8);
    file[0x1800..0x1818].copy_from_slice(b"\x04\0\0\0\x08\0\0\0\x03\0\0\0GNU\0buildid!");
    file
}

/// A table of Go 1.26: its functions begin where the module data says.
fn go_table() -> Vec<u8> {
    let mut table = super::gopclntab::tests::table(
        20,
        true,
        0x40_1000,
        &[(0x40_1000, "main.main"), (0x40_1040, "main.leaf")],
        0x40_1080,
    );
    table[24..32].fill(0);
    table
}

fn module_data(text: u64) -> Vec<u8> {
    let mut data = vec![0; 8 * 30];
    data[8 * 22..8 * 23].copy_from_slice(&text.to_le_bytes());
    data
}

#[test]
fn stripped_go_programs_are_named() {
    let relocation = |address: u64, to: u64| [address, 8, to].map(u64::to_le_bytes).concat();
    let searched = [vec![0; 64], go_table()].concat();
    for (case, sections) in [
        ("own section", vec![(".gopclntab", 1, go_table()), (".go.module", 1, module_data(0x40_1000))]),
        (
            "searched",
            vec![
                (".rodata", 1, searched),
                (".go.buildinfo", 1, vec![0; 8]),
                (".go.module", 1, module_data(0x40_1000)),
            ],
        ),
        (
            "relocated",
            vec![
                (".go.module", 1, module_data(0)),
                (".data.rel.ro.gopclntab", 1, go_table()),
                (".rela.dyn", 4, [relocation(1, 2), relocation(0x40_2000 + 8 * 22, 0x40_1000)].concat()),
            ],
        ),
    ] {
        let table = SymbolTable::from_elf_bytes(&with_sections(&sections)).unwrap();
        assert_eq!(name_at(&table, 0x1044).as_deref(), Some("main.leaf"), "{case}");
        assert_eq!(name_at(&table, 0x1000).as_deref(), Some("main.main"), "{case}");
        assert_eq!(name_at(&table, 0x1080), None, "{case}");
    }
    let nowhere = with_sections(&[(".gopclntab", 1, go_table())]);
    let table = SymbolTable::from_elf_bytes(&nowhere).unwrap();
    assert!(table.is_empty(), "where the code begins is not guessed");
}

#[test]
fn a_function_of_this_test_is_found_by_its_address() {
    let (path, offset) = own_place();
    let table = table_of(&path);
    let name = name_at(&table, offset).unwrap();
    assert!(name.ends_with("elf_tests::a_function_of_our_own"), "{name}");
}

#[test]
fn exported_functions_of_a_stripped_library_are_found() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.split_whitespace().find(|word| word.contains("/libc.so.6") || word.contains("/libc-2")).unwrap();
    let table = table_of(libc);
    let names: std::collections::HashSet<String> = (0..std::fs::metadata(libc).unwrap().len())
        .step_by(16)
        .filter_map(|offset| name_at(&table, offset))
        .collect();
    for name in ["malloc", "write", "qsort", "printf"] {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn a_small_file_tells_what_was_put_in() {
    let bytes = small();
    let table = SymbolTable::from_elf_bytes(&bytes).unwrap();
    for (offset, name) in [
        (0xfff, None),
        (0x1000, Some("main")),
        (0x101f, Some("main")),
        (0x1020, Some("helper")),
        (0x1030, None),
        (0x1040, Some("_start")),
        (0x17ff, Some("_start")),
        (0x1800, None),
        (0x1900, None),
    ] {
        assert_eq!(name_at(&table, offset).as_deref(), name, "{offset:x}");
    }
    let elf = Elf::read(&mut Pinned::new(Source::Bytes(&bytes))).unwrap();
    assert_eq!(elf.build_id.map(|id| id.as_bytes().to_vec()), Some(b"buildid!".to_vec()));
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_a_table() {
    let bytes = small();
    for length in 0..bytes.len() {
        let _ = SymbolTable::from_elf_bytes(&bytes[..length]);
    }
    let real = std::fs::read("/proc/self/exe").unwrap();
    for length in (0..real.len()).step_by(real.len() / 50) {
        let cut = SymbolTable::from_elf_bytes(&real[..length]);
        assert!(cut.is_err(), "the section headers at the end are gone at {length}");
    }
}

#[test]
fn sections_that_lie_are_refused_without_being_believed() {
    let bytes = small();
    let sections_at = Fields(&bytes).u64(40).unwrap() as usize;
    let (offset, size, link, entry) = (24, 32, 40, 56);
    for (section, field, number) in [
        (2, size, u64::MAX),
        (2, size, 24_000_000_000),
        (2, offset, u64::MAX - 5),
        (2, offset, 1 << 40),
        (2, entry, 0),
        (2, entry, 1),
        (2, link, 99),
        (2, link, 2),
        (3, size, 4 << 30),
        (3, offset, u64::MAX),
    ] {
        let mut bent = bytes.clone();
        let at = sections_at + section * 64 + field;
        let width = if field == link { 4 } else { 8 };
        bent[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        assert!(SymbolTable::from_elf_bytes(&bent).is_err(), "section {section}, field {field}, {number:x}");
    }
}

#[test]
fn sparse_files_of_terabytes_are_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = small();
    let sections_at = Fields(&bytes).u64(40).unwrap() as usize;
    bytes[sections_at + 2 * 64 + 32..][..8].copy_from_slice(&(24u64 << 36).to_le_bytes());
    std::fs::write(file.path(), &bytes).unwrap();
    file.as_file().set_len(1 << 42).unwrap();
    let fd: std::os::fd::OwnedFd = std::fs::File::open(file.path()).unwrap().into();
    let error = Plan::new(Source::file(fd.into()).unwrap(), None).err().unwrap();
    assert_eq!(error.to_string(), "read symbols: the symbol section is larger than the limit");
}

#[test]
fn a_stripped_file_still_tells_functions_apart() {
    // Without .symtab, as `strip` leaves it: the type of the section no longer says that it holds symbols.
    let (path, offset) = own_place();
    let mut bytes = std::fs::read(path).unwrap();
    let full = SymbolTable::from_elf_bytes(&bytes).unwrap();
    let (_, start) = full.lookup(full.address(offset).unwrap()).unwrap();
    let (at, count) = (Fields(&bytes).u64(40).unwrap() as usize, Fields(&bytes).u16(60).unwrap() as usize);
    let symtab =
        (0..count).map(|n| at + n * 64).find(|at| Fields(&bytes).u32(at + 4) == Some(Section::SYMTAB));
    bytes[symtab.unwrap() + 4] = 1;
    let stripped = SymbolTable::from_elf_bytes(&bytes).unwrap();
    assert_eq!(name_at(&stripped, offset), None);
    let piece = stripped.piece(stripped.address(offset).unwrap()).unwrap();
    assert_eq!(piece.start, start, "the function's start is known from .eh_frame_hdr");
}

#[test]
fn the_key_changes_with_the_names() {
    let key = |bytes: &[u8]| Plan::new(Source::Bytes(bytes), None).unwrap().key();
    let ours = elf(&[(0x1000, 0x20, 0x12, "main")]);
    let theirs = elf(&[(0x1000, 0x20, 0x12, "evil")]);
    assert_eq!(key(&ours), key(&ours));
    assert_ne!(key(&ours), key(&theirs), "the same build id, another content");
}

#[test]
fn every_file_in_the_libraries_folder_is_read() {
    let mut read = 0;
    for folder in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(150) {
            let small = entry.metadata().is_ok_and(|about| about.is_file() && about.len() < 4 << 20);
            let Some(bytes) = Some(entry.path()).filter(|_| small).and_then(|path| std::fs::read(path).ok())
            else {
                continue;
            };
            if bytes.starts_with(b"\x7fELF\x02\x01") {
                let table = SymbolTable::from_elf_bytes(&bytes).map_err(|e| (entry.path(), e)).unwrap();
                assert_eq!(SymbolTable::from_bytes(&table.to_bytes()).unwrap(), table);
                read += 1;
            }
        }
    }
    assert!(read > 0 || !Path::new("/usr/bin").exists());
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SymbolTable::from_elf_bytes(&bytes);
        let _ = SymbolTable::from_elf_bytes(&[b"\x7fELF\x02\x01".to_vec(), bytes].concat());
    }

    #[test]
    fn flipped_bits_do_no_harm(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..8)) {
        let mut bytes = small();
        let sections_at = Fields(&bytes).u64(40).unwrap() as usize;
        // Where headers and symbols are; flips in the code between show nothing.
        let places: Vec<usize> = (0..176).chain(0x1800..0x1818).chain(0x2000..bytes.len()).collect();
        for (at, bit) in flips {
            bytes[places[at.index(places.len())]] ^= 1 << bit;
        }
        if let Ok(table) = SymbolTable::from_elf_bytes(&bytes) {
            for offset in (0..0x3000).step_by(0x31) {
                let _ = name_at(&table, offset);
            }
        }
        prop_assert!(sections_at < bytes.len());
    }
}

proptest! {
    #[test]
    fn unwind_tables_and_stubs_of_any_bytes_do_no_harm(
        frames in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec((0u32..40, 0u32..60, any::<[u8; 24]>()), 0..12),
        stubs in prop::collection::vec(any::<u8>(), 0..64),
        slots in prop::collection::vec(any::<u8>(), 0..96),
    ) {
        // Records whose lengths lead somewhere.
        let records: Vec<u8> = lengths
            .iter()
            .flat_map(|(length, id, rest)| {
                [&length.to_le_bytes()[..], &id.to_le_bytes(), b"\x01zR\0", rest].concat()
            })
            .collect();
        for frames in [frames, records] {
            let head = [&b"\x01\x1b\x03\x3b"[..], &frames].concat();
            let bytes = with_sections(&[
                (".dynsym", 11, [0; 24].repeat(3)),
                (".dynstr", 3, b"\0a\0".to_vec()),
                (".plt", 1, stubs.clone()),
                (".plt.got", 1, stubs.clone()),
                (".rela.plt", 4, slots.clone()),
                (".rela.dyn", 4, slots.clone()),
                (".eh_frame", 1, frames),
                (".eh_frame_hdr", 1, head),
            ]);
            if let Ok(table) = SymbolTable::from_elf_bytes(&bytes) {
                prop_assert_eq!(SymbolTable::from_bytes(&table.to_bytes()).unwrap(), table);
            }
        }
    }
}
