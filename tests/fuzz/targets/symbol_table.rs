//! A cached symbol table that somebody wrote to: an error, or a table that answers and is written as it was read.
#![no_main]

use fnscope::stack::SymbolTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SymbolTable::from_bytes(bytes);
    // Under a checksum that fits, what a forger would write.
    let forged = [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat();
    if let Ok(table) = SymbolTable::from_bytes(&forged) {
        assert_eq!(table.to_bytes(), forged);
        fnscope_fuzz::symbols::ask(&table);
    }
});
