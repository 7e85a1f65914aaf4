//! Go's table of functions, wherever its code is said to begin (the first 8 bytes).
#![no_main]

use fnscope::stack::gopclntab;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((text, table)) = input.split_first_chunk() else { return };
    if let Ok(table) = gopclntab::parse(table, u64::from_le_bytes(*text)) {
        fnscope_fuzz::symbols::ask(&table);
    }
});
