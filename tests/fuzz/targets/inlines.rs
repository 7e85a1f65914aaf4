//! Debug information of any bytes tells inlined functions, or nothing, in bounded time.
#![no_main]

use fnscope::stack::inlines::names_in;
use fnscope_fuzz::elf::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, [&[u8]; 6])| {
    let (packed, [info, abbrev, strings, addresses, ranges, offsets]) = input;
    let bytes = file(
        62,
        &[
            (if packed { ".zdebug_info" } else { ".debug_info" }, 1, 0, info),
            (".debug_abbrev", 1, 0, abbrev),
            (".debug_str", 1, 0, strings),
            (".debug_line_str", 1, 0, strings),
            (".debug_addr", 1, 0, addresses),
            (".debug_rnglists", 1, 0, ranges),
            (".debug_ranges", 1, 0, ranges),
            (".debug_str_offsets", 1, 0, offsets),
        ],
    );
    check(&bytes);
    check(info); // a whole file
});

fn check(bytes: &[u8]) {
    let addresses: Vec<u64> = (0x1000..0x1400).step_by(7).chain([0, 1, 0x40_1000, u64::MAX]).collect();
    for names in names_in(bytes, &addresses) {
        assert!(names.len() <= 48 && names.iter().all(|name| !name.is_empty()));
    }
}
