//! Walks over files made here: every form of rule, every limit, and any bytes at all.

use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::stack::apart::Parser;
use crate::stack::file::{Handle, MappedFile};
use crate::stack::space::{Mapped, Mapping};

/// Where the made file is mapped, and its code in the file.
const BASE: u64 = 0x7f00_0000_0000;
const CODE: u64 = 0x100;
const STACK: u64 = 0x7ffc_0000_1000;

/// A file whose code from `CODE` on, 256 bytes, has the unwind entries `frames`; nothing but program headers tells of them.
fn elf(frames: &[u8]) -> Vec<u8> {
    let header_at = CODE + 256;
    let frames_at = header_at + 8;
    let total = frames_at + frames.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(18, 0);
    file.extend(if cfg!(target_arch = "aarch64") { 183_u16 } else { 62 }.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend([0x9000_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    for (kind, flags, offset, bytes) in [(1_u32, 5_u32, 0, total), (0x6474_e550, 4, header_at, 8)] {
        file.extend([kind, flags].iter().flat_map(|word| word.to_le_bytes()));
        file.extend([offset, offset, offset, bytes, bytes, 8].iter().flat_map(|word| word.to_le_bytes()));
    }
    file.resize(usize::try_from(CODE).unwrap(), 0);
    file.extend(std::iter::repeat_n([0x90, 0xff, 0xd0, 0x90], 64).flatten()); // nop; call rax; nop
    file.extend([1, 0x1b, 0xff, 0xff, 4, 0, 0, 0]);
    file.extend(frames);
    file
}

/// Entries for the code: common instructions, then those of one function.
fn entries(augmentation: &[u8], common: &[u8], own: &[u8]) -> Vec<u8> {
    let entry = |body: Vec<u8>| {
        let mut body = body;
        body.resize(body.len().next_multiple_of(4), 0);
        [(body.len() as u32).to_le_bytes().to_vec(), body].concat()
    };
    let mut cie = vec![0, 0, 0, 0, 1];
    cie.extend(augmentation);
    cie.extend([1, 0x78, 16]); // factors 1 and -8, return address 16
    if augmentation.first() == Some(&b'z') {
        cie.extend([1, 0x00]);
    }
    cie.extend(common);
    let cie = entry(cie);
    let mut fde = (cie.len() as u32 + 4).to_le_bytes().to_vec();
    fde.extend(CODE.to_le_bytes());
    fde.extend(256_u64.to_le_bytes());
    if augmentation.first() == Some(&b'z') {
        fde.push(0);
    }
    fde.extend(own);
    [cie, entry(fde), vec![0; 4]].concat()
}

/// What compilers say of every function: CFA = rsp + 8, the return address below it.
const COMMON: &[u8] = &[0x0c, 7, 8, 0x80 | 16, 1];

fn mapped(id: u64, bytes: &[u8]) -> Arc<MappedFile> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(MappedFile::new(id, "made".into(), None, Some(file.into())))
}

fn mapping(file: &Arc<MappedFile>, start: u64, bytes: usize) -> Mapping {
    Mapping { start, end: start + bytes as u64, file_offset: 0, what: Mapped::File(file.clone()) }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

struct Made {
    mappings: Vec<Mapping>,
    file: Arc<MappedFile>,
    unwinder: Unwinder,
    frames: Vec<Frame>,
}

impl Made {
    fn new(frames: &[u8]) -> Made {
        let bytes = elf(frames);
        let file = mapped(1, &bytes);
        let mappings = vec![mapping(&file, BASE, bytes.len())];
        Made { mappings, file, unwinder: Unwinder::default(), frames: Vec::new() }
    }

    fn walk(&mut self, ip: u64, fp: u64, stack: &[u64]) -> (End, Vec<(u64, bool)>) {
        let registers = registers(ip, fp);
        let stack = words(stack);
        let snapshot = Snapshot { registers: &registers, stack: &stack };
        let end = self.unwinder.unwind(&self.mappings, snapshot, &mut self.frames);
        (end, self.frames.iter().map(|frame| (frame.address, frame.guessed)).collect())
    }
}

fn registers(ip: u64, fp: u64) -> Registers {
    let mut values = [0; Registers::COUNT];
    (values[Registers::IP], values[Registers::SP], values[Registers::FP]) = (ip, STACK, fp);
    Registers { values }
}

/// Return addresses behind a call.
const A: u64 = BASE + CODE + 3;
const B: u64 = BASE + CODE + 43;

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn every_form_of_rule_leads_to_the_caller() {
    // rbp - 16 holds the frame's address, as in a function that aligns its stack.
    let drap = &[0x0f, 3, 0x76, 0x70, 0x06, 0x80 | 16, 1][..];
    // The row of the address alone: later ones ask for a register nobody knows.
    let later = &[0x0a, 0x0e, 16, 0x40 | 32, 0x0b, 0x44, 0x0c, 60, 8][..];
    let fp_at = STACK + 32;
    for (name, own, fp, stack, expected) in [
        ("plain", &[][..], 0, &[A, 0][..], vec![A]),
        ("a remembered row", later, 0, &[A, 0], vec![A]),
        ("by rbp", &[0x0c, 6, 16][..], STACK + 8, &[7, 8, A, 0], vec![A]),
        ("by an expression", drap, fp_at, &[1, A, STACK + 16, STACK + 16, 0, 0], vec![A]),
        ("a return address in a register", &[0x09, 16, 6], B, &[0, 0], vec![B]),
        ("no return address", &[0x07, 16], 0, &[A, 0], vec![]),
    ] {
        let mut made = Made::new(&entries(b"\0", COMMON, own));
        let (end, frames) = made.walk(BASE + CODE + 34, fp, stack);
        let mut addresses = vec![BASE + CODE + 34];
        addresses.extend(expected);
        let found: Vec<u64> = frames.iter().map(|frame| frame.0).take(addresses.len()).collect();
        assert_eq!(found, addresses, "{name}");
        assert!(frames.iter().all(|frame| !frame.1), "{name}: nothing is guessed");
        assert!(addresses.len() > 1 || end == End::Root, "{name}: {end:?}");
    }
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn what_a_signal_interrupted_is_given_as_the_address_behind() {
    // rsp and rip are saved at rsp + 0 and rsp + 8.
    let own = &[0x0f, 3, 0x77, 0x00, 0x06, 0x10, 16, 2, 0x77, 8][..];
    let mut made = Made::new(&entries(b"zRS\0", &[], own));
    let (_, frames) = made.walk(BASE + CODE, 0, &[STACK + 24, BASE + CODE + 200, 0, 0]);
    assert_eq!(frames.get(1), Some(&(BASE + CODE + 201, false)));
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn a_thread_in_the_system_call_that_ends_a_signal_stands_where_the_signal_came() {
    // No entries. The trampoline's last instruction is the call: the thread goes on behind it.
    let mut bytes = elf(&[0; 4]);
    let code = usize::try_from(CODE).unwrap();
    bytes[code + 0x40..code + 0x49].copy_from_slice(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5]);
    let file = mapped(1, &bytes);
    let mappings = [mapping(&file, BASE, bytes.len())];
    // A `ucontext` at the stack pointer, which holds rsp, rip and what rip was called from.
    let mut context = [0; 26];
    (context[5 + 15], context[5 + 16], context[24]) = (STACK + 24 * 8, BASE + CODE + 200, A);
    let (mut unwinder, mut frames) = (Unwinder::default(), Vec::new());
    for at in [0x40, 0x47, 0x49] {
        let here = registers(BASE + CODE + at, 0);
        unwinder.unwind(&mappings, Snapshot { registers: &here, stack: &words(&context) }, &mut frames);
        let found = frames.get(1).map(|frame| (frame.address, frame.guessed));
        assert_eq!(found, Some((BASE + CODE + 201, false)), "at {at:x}");
    }
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn a_function_is_not_the_handler_of_the_signal_that_is_about_to_interrupt_it() {
    let mut bytes = elf(&entries(b"\0", COMMON, &[]));
    let (code, leaf) = (usize::try_from(CODE).unwrap(), BASE + CODE + 200);
    bytes[code + 0x40..code + 0x49].copy_from_slice(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5]);
    let file = mapped(1, &bytes);
    let mappings = [mapping(&file, BASE, bytes.len())];
    let walk = |interrupted: u64| {
        // The handler's frame: where it returns to, then a `ucontext`, then what rip was called from.
        let mut stack = [0; 28];
        stack[0] = BASE + CODE + 0x40;
        (stack[1 + 5 + 15], stack[1 + 5 + 16], stack[25]) = (STACK + 25 * 8, interrupted, A);
        let (mut unwinder, mut frames) = (Unwinder::default(), Vec::new());
        let snapshot = Snapshot { registers: &registers(leaf, 0), stack: &words(&stack) };
        let end = unwinder.unwind(&mappings, snapshot, &mut frames);
        (end, frames.iter().map(|frame| frame.address).collect::<Vec<_>>())
    };
    assert_eq!(walk(leaf), (End::Root, vec![leaf, A]), "its stack pointer is the handler's already");
    let handler = vec![leaf, BASE + CODE + 0x41, leaf + 5, A];
    assert_eq!(walk(leaf + 4), (End::Root, handler), "it is one");
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn ends_are_told_apart() {
    let mut made = Made::new(&entries(b"\0", COMMON, &[]));
    let here = BASE + CODE;
    for (stack, expected, count) in [
        (&[A, B, 0][..], End::Root, 3),
        (&[A, B], End::Truncated, 3),
        (&[A, 0x1234, 0], End::Short, 2),
        (&[], End::Truncated, 1),
    ] {
        let (end, frames) = made.walk(here, 0, stack);
        assert_eq!((end, frames.len()), (expected, count), "{stack:x?}");
    }
    let deep = vec![A; 5_000];
    let (end, frames) = made.walk(here, 0, &deep);
    assert_eq!((end, frames.len()), (End::Truncated, 512));
    let stats = made.unwinder.stats();
    assert_eq!((stats.walks, stats.roots, stats.short, stats.truncated), (5, 1, 1, 3));
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn what_is_known_of_a_file_outlives_it() {
    let mut made = Made::new(&entries(b"\0", COMMON, &[]));
    let first = made.walk(BASE + CODE, 0, &[A, B, 0]);
    made.file.close();
    assert_eq!(made.walk(BASE + CODE, 0, &[A, B, 0]), first);
    let snapshot = Snapshot { registers: &registers(BASE + CODE, 0), stack: &words(&[B]) };
    assert_eq!(made.unwinder.first_caller(&made.mappings, snapshot), Some(B));
    // A process that was closed before it was looked at: nothing is known, and nothing is remembered of that.
    let bytes = elf(&entries(b"\0", COMMON, &[]));
    let file = mapped(2, &bytes);
    let again = Handle::new(file.fd().unwrap().try_clone().unwrap()).unwrap();
    file.close();
    made.mappings = vec![mapping(&file, BASE, bytes.len())];
    assert_eq!(made.walk(BASE + CODE, 0, &[A, B, 0]).0, End::Short);
    file.hold(again);
    assert_eq!(made.walk(BASE + CODE, 0, &[A, B, 0]), first);
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn a_program_of_too_many_steps_is_given_up_and_counted() {
    let mut made = Made::new(&entries(b"\0", COMMON, &[0; 6_000]));
    made.walk(BASE + CODE + 255, 0, &[0, 0]);
    assert_eq!(made.unwinder.stats().rules_limited, 1);
    // An entry larger than any compiler writes.
    let mut made = Made::new(&entries(b"\0", COMMON, &[0; 70_000]));
    made.walk(BASE + CODE, 0, &[0, 0]);
    assert_eq!(made.unwinder.stats().rules_limited, 1);
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn tables_stay_within_their_budget_and_are_read_again() {
    let bytes = elf(&entries(b"\0", COMMON, &[]));
    let mut unwinder = Unwinder::default();
    let mut frames = Vec::new();
    let files: Vec<_> = (1..=8)
        .map(|id| {
            let file = mapped(id, &bytes);
            // Behind the entries stands nothing, twelve million times, in each a little more: copies would share a table.
            let grown = (12 << 20) + 8 * id;
            std::fs::File::from(file.fd().unwrap().try_clone().unwrap()).set_len(grown).unwrap();
            let handle = std::fs::File::from(file.fd().unwrap().try_clone().unwrap());
            for at in [64 + 32, 64 + 40] {
                std::os::unix::fs::FileExt::write_all_at(&handle, &grown.to_le_bytes(), at).unwrap();
            }
            file
        })
        .collect();
    for round in 0..2 {
        for (at, file) in files.iter().enumerate() {
            let mappings = [mapping(file, BASE, bytes.len())];
            let here = registers(BASE + CODE + round * 8 + at as u64 % 4, 0);
            let end = unwinder.unwind(
                &mappings,
                Snapshot { registers: &here, stack: &words(&[A, 0]) },
                &mut frames,
            );
            assert_eq!(end, End::Root, "file {at}");
            assert!(unwinder.stats().table_bytes < 49 << 20, "{:?}", unwinder.stats());
        }
    }
    assert!(unwinder.stats().tables_dropped > 4, "{:?}", unwinder.stats());
}

#[test]
fn code_without_rules_is_passed_by_guesses_that_reach_a_root() {
    if cfg!(target_arch = "aarch64") {
        return; // roots are told by x86-64 code
    }
    // No entries. At 0x40: a call of 0x80, then what ends a thread; at 0x80 a function.
    let mut bytes = elf(&[0; 4]);
    let code = usize::try_from(CODE).unwrap();
    bytes[code..code + 256].fill(0x90);
    bytes[code + 0x40..code + 0x45].copy_from_slice(&[0xe8, 0x3b, 0, 0, 0]);
    bytes[code + 0x45..code + 0x4d].copy_from_slice(&[0x89, 0xc7, 0x31, 0xc0, 0xb0, 60, 0x0f, 5]);
    bytes[code + 0x20..code + 0x22].copy_from_slice(&[0xff, 0xd0]);
    let file = mapped(1, &bytes);
    let mappings = [mapping(&file, BASE, bytes.len())];
    let (decoy, root) = (BASE + CODE + 0x22, BASE + CODE + 0x45);
    let mut frames = Vec::new();
    for (scan, stack, expected) in [
        (true, vec![1, 2, root, 3], (End::Root, vec![root])),
        // A word of code that no call ends before, and none that leads nowhere.
        (true, vec![BASE + CODE + 0x30, 7, root], (End::Root, vec![root])),
        (true, vec![decoy, 9], (End::Short, vec![])),
        (false, vec![1, 2, root, 3], (End::Short, vec![])),
    ] {
        let mut unwinder = Unwinder::new(UnwindOptions { scan }, Parser::here());
        let here = registers(BASE + CODE + 0x84, 0);
        let end =
            unwinder.unwind(&mappings, Snapshot { registers: &here, stack: &words(&stack) }, &mut frames);
        let guessed: Vec<u64> =
            frames.iter().filter(|frame| frame.guessed).map(|frame| frame.address).collect();
        assert_eq!((end, guessed), expected, "scan {scan}, {stack:x?}");
    }
}

#[test]
fn a_stack_full_of_candidates_takes_bounded_time() {
    let mut bytes = elf(&[0; 4]);
    let code = usize::try_from(CODE).unwrap();
    bytes[code..code + 256].copy_from_slice(&[0xff, 0xd0].repeat(128));
    let file = mapped(1, &bytes);
    let mappings = [mapping(&file, BASE, bytes.len())];
    let stack: Vec<u64> = (0..4_096).map(|n| BASE + CODE + 2 + n % 100 * 2).collect();
    let mut unwinder = Unwinder::default();
    let (mut frames, here) = (Vec::new(), registers(BASE + CODE, STACK));
    let begin = std::time::Instant::now();
    for _ in 0..10 {
        let end =
            unwinder.unwind(&mappings, Snapshot { registers: &here, stack: &words(&stack) }, &mut frames);
        assert_eq!((end, frames.len()), (End::Short, 1));
    }
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

proptest! {
    #[test]
    fn any_program_and_any_stack_are_survived(
        augmentation in prop::sample::select(vec![&b"\0"[..], b"zR\0", b"zRS\0", b"zPLR\0", b"eh\0"]),
        common in prop::collection::vec(any::<u8>(), 0..24),
        own in prop::collection::vec(any::<u8>(), 0..120),
        expression in prop::collection::vec(any::<u8>(), 0..100),
        near in prop::collection::vec((0_u64..3, 0_u64..300), 0..80),
        fp in 0_u64..600,
    ) {
        let own = [&[0x0f, u8::try_from(expression.len()).unwrap()][..], &expression, &own].concat();
        for common in [COMMON, &common] {
            let mut made = Made::new(&entries(augmentation, common, &own));
            let stack: Vec<u64> = near.iter().map(|(kind, n)| match kind {
                0 => BASE + CODE + n,
                1 => STACK + n * 8,
                _ => *n,
            }).collect();
            for ip in [BASE + CODE, BASE + CODE + 130, BASE + 1] {
                let cold = made.walk(ip, STACK + fp, &stack);
                prop_assert!(cold.1.len() <= 512);
                prop_assert_eq!(&made.walk(ip, STACK + fp, &stack), &cold, "what is remembered says the same");
                for (address, _) in cold.1.iter().skip(1) {
                    prop_assert!(place::Where::find(&made.mappings, address - 1).is_some());
                }
            }
        }
    }

    #[test]
    fn any_entries_any_registers_and_any_mappings_are_survived(
        entries in prop::collection::vec(any::<u8>(), 0..300),
        values: [u64; Registers::COUNT],
        stack in prop::collection::vec(any::<u8>(), 0..300),
        places in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..5),
        at in 0_u64..600,
    ) {
        let bytes = elf(&entries);
        let file = mapped(1, &bytes);
        let mut registers = Registers { values };
        // The file lies where the instruction pointer is, and in odd places at odd offsets.
        let start = values[Registers::IP].saturating_sub(at);
        let mut mappings = vec![mapping(&file, start.min(u64::MAX - 1000), bytes.len().min(900))];
        mappings.extend(places.into_iter().map(|(start, end, file_offset)| {
            Mapping { start, end, file_offset, what: Mapped::File(file.clone()) }
        }));
        mappings.sort_by_key(|mapping| mapping.start);
        let mut unwinder = Unwinder::default();
        let mut frames = Vec::new();
        for sp in [values[Registers::SP], u64::MAX - 100, 0, u64::MAX] {
            registers.values[Registers::SP] = sp;
            unwinder.unwind(&mappings, Snapshot { registers: &registers, stack: &stack }, &mut frames);
            unwinder.first_caller(&mappings, Snapshot { registers: &registers, stack: &stack });
        }
    }
}
