//! Any file is a symbol table or an error, and any table answers.
#![no_main]

use fnscope::stack::SymbolTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(table) = SymbolTable::from_elf_bytes(file) {
        fnscope_fuzz::symbols::ask(&table);
    }
});
