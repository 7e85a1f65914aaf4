//! Any registers and any stack over any mappings of a real program.
#![no_main]

use fnscope::stack::unwind::{Registers, Unwinder};
use fnscope_fuzz::unwinding::{BASE, STACK, mapped, mapping, walk};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// A number that means something, mostly.
#[derive(Debug, Arbitrary)]
enum Word {
    Code(u16),
    Stack(i16),
    Small(u8),
    Any(u64),
}

impl Word {
    fn value(&self) -> u64 {
        match self {
            Word::Code(at) => BASE + u64::from(*at),
            Word::Stack(at) => STACK.wrapping_add_signed(i64::from(*at)),
            Word::Small(value) => u64::from(*value),
            Word::Any(value) => *value,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Input {
    registers: [Word; 17],
    mappings: Vec<(Word, u16, u16)>,
    stack: Vec<Word>,
}

const PROGRAM: &[u8] = include_bytes!("../seeds/unwind_tables/gcc_static");

fuzz_target!(|input: Input| {
    let file = mapped(1, PROGRAM);
    let mut mappings = vec![mapping(&file, BASE, PROGRAM.len())];
    for (start, bytes, file_offset) in input.mappings.iter().take(8) {
        let mut other = mapping(&file, start.value(), usize::from(*bytes));
        other.file_offset = u64::from(*file_offset);
        if mappings.iter().all(|known| other.end <= known.start || known.end <= other.start) {
            mappings.push(other);
        }
    }
    mappings.sort_by_key(|mapping| mapping.start);
    let mut registers = Registers { values: [0; Registers::COUNT] };
    registers.values.iter_mut().zip(&input.registers).for_each(|(to, word)| *to = word.value());
    let stack: Vec<u8> = input.stack.iter().flat_map(|word| word.value().to_le_bytes()).collect();
    walk(&mut Unwinder::default(), &mappings, &registers, &stack);
});
