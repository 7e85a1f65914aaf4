//! Any file, and any unwind entries, are walked through or refused.
#![no_main]

use fnscope::stack::unwind::{Registers, Unwinder};
use fnscope_fuzz::unwinding::{BASE, STACK, elf, mapped, mapping, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // A whole file, or what stands where entries are looked for.
    let bytes = if input.starts_with(b"\x7fELF") { input.to_vec() } else { elf(input) };
    let file = mapped(1, &bytes);
    let mappings = [mapping(&file, BASE, bytes.len())];
    let mut unwinder = Unwinder::default();
    let places = [0x40, 0x101, 0x400, 0x803, 0x1000, 0x1003, 0x1043, 0x1103, 0x1133];
    let word = |n: u64| match n % 4 {
        0 | 3 => BASE + places[n as usize / 2 % places.len()],
        1 => STACK + 8 * (n + 3),
        _ => n,
    };
    let stack: Vec<u8> = (0..96).flat_map(|n| word(n).to_le_bytes()).collect();
    for place in places {
        let mut values = std::array::from_fn(|n| STACK + 8 * n as u64);
        (values[Registers::IP], values[Registers::SP]) = (BASE + place, STACK);
        walk(&mut unwinder, &mappings, &Registers { values }, &stack);
    }
});
