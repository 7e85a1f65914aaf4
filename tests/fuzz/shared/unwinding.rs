//! What holds for any walk, and a file to walk through.

use std::io::Write;
use std::sync::Arc;

use fnscope::stack::apart::Parser;
use fnscope::stack::unwind::{Frame, Registers, Snapshot, UnwindOptions, Unwinder};
use fnscope::stack::{Mapped, MappedFile, Mapping};

/// Where files are mapped.
pub const BASE: u64 = 0x5555_5555_4000;
/// Where the copy of the stack begins.
pub const STACK: u64 = 0x7ffd_1234_0000;

/// `bytes` as a file that a process has mapped.
pub fn mapped(id: u64, bytes: &[u8]) -> Arc<MappedFile> {
    let mut file = tempfile::tempfile().expect("a file in the temporary folder");
    file.write_all(bytes).expect("it is written");
    Arc::new(MappedFile::new(id, "fuzzed".into(), None, Some(file.into())))
}

/// `file` mapped whole at `start`.
pub fn mapping(file: &Arc<MappedFile>, start: u64, bytes: usize) -> Mapping {
    Mapping {
        start,
        end: start.saturating_add(bytes as u64),
        file_offset: 0,
        what: Mapped::File(file.clone()),
    }
}

/// A file whose header says that its first 4 KiB are code, with `frames` as its unwind entries.
pub fn elf(frames: &[u8]) -> Vec<u8> {
    const HEADER_AT: u64 = 0x1000;
    let total = HEADER_AT + 8 + frames.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(18, 0);
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend([0x800_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    for (kind, flags, offset, bytes) in [(1_u32, 5_u32, 0, total), (0x6474_e550, 4, HEADER_AT, 8)] {
        file.extend([kind, flags].iter().flat_map(|word| word.to_le_bytes()));
        file.extend([offset, offset, offset, bytes, bytes, 8].iter().flat_map(|word| word.to_le_bytes()));
    }
    // nop; call rax; nop
    file.extend([0x90, 0xff, 0xd0, 0x90].iter().cycle().take(HEADER_AT as usize - file.len()));
    file.extend([1, 0x1b, 0xff, 0xff, 4, 0, 0, 0]);
    file.extend(frames);
    file
}

/// Walks twice and once without guesses.
pub fn walk(unwinder: &mut Unwinder, mappings: &[Mapping], registers: &Registers, stack: &[u8]) {
    let snapshot = Snapshot { registers, stack };
    let (mut frames, mut again) = (Vec::new(), Vec::new());
    let end = unwinder.unwind(mappings, snapshot, &mut frames);
    let leaf = Frame { address: registers.values[Registers::IP], guessed: false };
    assert_eq!(frames.first(), Some(&leaf));
    assert!(frames.len() <= 512);
    for frame in frames.iter().skip(1) {
        let place = frame.address.wrapping_sub(1);
        assert!(mappings.iter().any(|m| (m.start..m.end).contains(&place)), "{frame:x?} is nowhere");
    }
    // What is remembered says the same, where no budget was in the way.
    if stack.len() <= 1024 {
        assert_eq!((unwinder.unwind(mappings, snapshot, &mut again), &again), (end, &frames));
    }
    unwinder.first_caller(mappings, snapshot);
    let mut plain = Unwinder::new(UnwindOptions { scan: false }, Parser::here());
    plain.unwind(mappings, snapshot, &mut again);
}
