//! PLT stubs, relocations, imports and unwind tables of any bytes, in an ELF file that is sound around them.
#![no_main]

use fnscope::stack::SymbolTable;
use fnscope_fuzz::elf::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, u8, [&[u8]; 7])| {
    let (arm, step, got_step, [plt, got, slots, addresses, symbols, names, frames]) = input;
    let head = [&[1, 0x1b, 0x03, 0x3b][..], frames].concat();
    let bytes = file(
        if arm { 183 } else { 62 },
        &[
            (".dynstr", 3, 0, names),
            (".dynsym", 11, 24, symbols),
            (".plt", 1, step.into(), plt),
            (".plt.got", 1, got_step.into(), got),
            (".rela.plt", 4, 24, slots),
            (".rela.dyn", 4, 24, addresses),
            (".eh_frame", 1, 0, frames),
            (".eh_frame_hdr", 1, 0, &head),
        ],
    );
    let table = SymbolTable::from_elf_bytes(&bytes).expect("it is sound around what was made up");
    fnscope_fuzz::symbols::ask(&table);
});
