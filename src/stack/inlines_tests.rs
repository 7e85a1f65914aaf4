//! Debug information that lies.

use proptest::prelude::*;

use super::elf_tests::with_sections;
use super::inlines::names_in;

/// Abbreviations: 1 a unit with code, 2 a function with code, 3 an inlined call with code, 4 a name, 5 a reference.
const ABBREV: &[u8] = b"\x01\x11\x01\x11\x01\x12\x07\0\0\x02\x2e\x01\x11\x01\x12\x07\0\0\x03\x1d\x01\x31\x13\x11\x01\x12\x07\0\0\
    \x04\x2e\0\x03\x08\0\0\x05\x2e\0\x31\x13\0\0\0";

/// A unit that covers 0x401000 to 0x401100, with `entries` in it, which begin at byte 28 of it.
fn unit(entries: &[u8]) -> Vec<u8> {
    let mut unit = b"\x04\0\0\0\0\0\x08\x01".to_vec();
    unit.extend_from_slice(&code());
    unit.extend_from_slice(entries);
    [&(unit.len() as u32).to_le_bytes()[..], &unit].concat()
}

/// Begin and length of the unit's code.
fn code() -> Vec<u8> {
    [0x40_1000u64.to_le_bytes(), 0x100u64.to_le_bytes()].concat()
}

fn call(origin: u32) -> Vec<u8> {
    [&[3][..], &origin.to_le_bytes(), &code()].concat()
}

fn names(info: Vec<u8>, abbrev: &[u8]) -> Vec<String> {
    let bytes = with_sections(&[(".debug_info", 1, info), (".debug_abbrev", 1, abbrev.to_vec())]);
    names_in(&bytes, &[0x40_1004]).pop().unwrap_or_default()
}

#[test]
fn names_are_told_through_references() {
    let function = [&[2][..], &code()].concat();
    // The name at 28, a reference to it at 34, then the function with one call in another.
    let origins = [b"\x04leaf\0\x05".to_vec(), 28u32.to_le_bytes().to_vec(), b"\x04mid\0".to_vec()].concat();
    let entries = [origins, function, call(39), call(34), vec![0, 0, 0, 0]].concat();
    assert_eq!(names(unit(&entries), ABBREV), ["leaf", "mid"]);
}

#[test]
fn references_in_a_circle_and_out_of_the_file_are_no_names() {
    let function = [&[2][..], &code()].concat();
    for to in [28u32, 33, 0, 11, 27, 5000, u32::MAX] {
        let circle = [b"\x05".to_vec(), to.to_le_bytes().to_vec()].concat();
        let entries = [circle, function.clone(), call(28), vec![0, 0, 0]].concat();
        assert_eq!(names(unit(&entries), ABBREV), [""; 0], "{to}");
    }
}

#[test]
fn calls_inlined_without_end_are_cut() {
    let function = [&[2][..], &code()].concat();
    let calls = call(28).repeat(5000);
    let entries = [b"\x04f\0".to_vec(), function, calls].concat();
    assert_eq!(names(unit(&entries), ABBREV).len(), 48);
}

#[test]
fn many_units_that_name_one_long_table_cost_bounded_work() {
    // A megabyte of abbreviations for each of 20,000 units, each at another begin so that none is kept.
    let mut abbrev = b"\x01\x11\0\0\0".repeat(200_000);
    abbrev.push(0);
    let info: Vec<u8> = (0..20_000u32)
        .flat_map(|number| {
            [&8u32.to_le_bytes()[..], b"\x04\0", &(number * 5).to_le_bytes(), b"\x08\x01"].concat()
        })
        .collect();
    let begin = std::time::Instant::now();
    assert_eq!(names(info, &abbrev), [""; 0]);
    assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{:?}", begin.elapsed());
}

proptest! {
    #[test]
    fn any_bytes_are_some_names_or_none(
        info in prop::collection::vec(any::<u8>(), 0..120),
        entries in prop::collection::vec(0u8..8, 0..120),
        abbrev in prop::collection::vec(any::<u8>(), 0..80),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let _ = names(info, &abbrev);
        let function = [&[2][..], &code()].concat();
        let mut sound = unit(&[b"\x04leaf\0".to_vec(), function, call(28), entries].concat());
        for (at, byte) in flips {
            let at = at.index(sound.len());
            sound[at] = byte;
        }
        let _ = names(sound.clone(), ABBREV);
        let _ = names(sound, &abbrev);
    }
}
