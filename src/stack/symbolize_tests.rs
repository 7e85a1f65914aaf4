//! Places of this very process and of files made here, through the door of the room.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::chain::Chain;
use super::elf_tests::{elf, own_place};
use super::file::{MappedFile, Place};
use super::kernel::KernelSymbols;
use super::space::{AddressSpace, Mapped, Mapping};
use super::symbolize::{SymbolStats, Symbolizer};
use crate::model::{BuildId, Frame, FrameKind, Quality, Stack};

fn open(path: impl AsRef<Path>) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

fn file(id: u64, name: &str, bytes: &[u8]) -> Arc<MappedFile> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(MappedFile::new(id, name.into(), BuildId::new(b"same"), Some(file.into())))
}

fn place(file: &Arc<MappedFile>, offset: u64) -> Place {
    Place::File { file: Arc::clone(file), offset }
}

fn lines(stack: &Stack) -> Vec<&str> {
    stack.frames().iter().map(|frame| &**frame).collect()
}

fn program(leaf: &str) -> Vec<u8> {
    elf(&[(0x1000, 0x20, 0x12, "main"), (0x1020, 0x20, 0x12, leaf), (0x1040, 0x20, 0x12, "next")])
}

#[test]
fn our_own_function_has_its_name_and_module() {
    let (path, offset) = own_place();
    let file = Arc::new(MappedFile::new(1, format!("{path} (deleted)"), None, Some(open("/proc/self/exe"))));
    let frame = Symbolizer::new(None).frame(&place(&file, offset), true);
    let module = path.rsplit('/').next().unwrap();
    assert_eq!(frame.module, module);
    assert!(frame.format().contains("elf_tests::a_function_of_our_own ["), "{}", frame.format());
}

#[test]
fn return_addresses_are_looked_up_at_their_call() {
    let mut symbols = Symbolizer::new(None);
    let pi = file(1, "/usr/bin/pi", &program("leaf"));
    // The leaf at its first instruction; its caller's call was the last instruction of `main`.
    let stack = symbols.stack(&[place(&pi, 0x1040), place(&pi, 0x1040), place(&pi, 0x1020)]);
    assert_eq!(lines(&stack), ["[unwound short]", "main [pi]", "leaf [pi]", "next [pi]"]);
    assert_eq!(stack.quality(), Quality::SHORT);
}

#[test]
fn the_instruction_that_entered_the_kernel_is_no_return_address() {
    let mut symbols = Symbolizer::new(None);
    let pi = file(1, "pi", &program("leaf"));
    let stack = symbols.stack(&[Place::Kernel(u64::MAX), place(&pi, 0x1040), place(&pi, 0x1020)]);
    assert_eq!(lines(&stack)[1..3], ["main [pi]", "next [pi]"]);
}

#[test]
fn kernel_frames_are_named_or_one_marker() {
    let text = "ffffffff81000000 T schedule\nffffffff81000100 t do_idle\nffffffffc0000000 t nft_do_chain\t[nf_tables]\n";
    let places = [
        Place::Kernel(0xffff_ffff_8100_0100),
        Place::Kernel(0xffff_ffff_8100_0100),
        Place::Kernel(0xffff_ffff_c000_0008),
        Place::Kernel(16),
    ];
    let mut readable = Symbolizer::with_kernel(None, KernelSymbols::parse(text.as_bytes()));
    let stack = readable.stack(&places);
    let expected =
        ["[kernel]+0x0_[k]", "nft_do_chain [nf_tables]_[k]", "schedule [kernel]_[k]", "do_idle [kernel]_[k]"];
    assert_eq!(lines(&stack), expected);
    assert!(stack.quality().has(Quality::UNSYMBOLIZED));
    let mut hidden = Symbolizer::with_kernel(None, KernelSymbols::default());
    let stack = hidden.stack(&places);
    assert_eq!((lines(&stack), stack.quality()), (vec!["[kernel]"], Quality::COMPLETE));
}

#[test]
fn this_kernels_own_names_are_read_where_they_can_be() {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (address, name) = line.split_once(" T ")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        (name == "schedule" && address != 0).then_some(address)
    });
    let mut symbols = Symbolizer::new(None);
    assert_eq!(symbols.reads_kernel(), found.is_some());
    let frame = symbols.frame(&Place::Kernel(found.unwrap_or(1)), true).format();
    assert_eq!(frame, if found.is_some() { "schedule [kernel]_[k]" } else { "[kernel]" });
}

#[test]
fn what_cannot_be_named_says_so() {
    let mut symbols = Symbolizer::new(None);
    let gone = Arc::new(MappedFile::new(1, "/opt/gone".into(), None, None));
    let text = file(2, "/memfd:jit code (deleted)", b"#!/bin/sh\n");
    let device = Arc::new(MappedFile::new(3, String::new(), None, Some(open("/dev/zero"))));
    let pi = file(4, "pi", &program("leaf"));
    for (place, frame, kind) in [
        (place(&gone, 0x1234), "[gone]+0x1234", FrameKind::Native),
        (place(&text, 0x40), "[memfd:jit code]+0x40", FrameKind::Native),
        (place(&device, 7), "[unknown]+0x7", FrameKind::Native),
        (place(&pi, 0x1060), "[pi]+0x1060", FrameKind::Native),
        (place(&pi, u64::MAX), "[pi]+0xffffffffffffffff", FrameKind::Native),
        (Place::Anonymous(0x7f00_1234), "[anon]+0x0", FrameKind::Native),
        (Place::Unknown(0x55), "[unknown]+0x0", FrameKind::Native),
        (Place::Jit { name: "price (shop.js)".into() }, "price (shop.js) [jit]_[j]", FrameKind::Jit),
        (
            Place::Jit { name: "forged [kernel]_[k];x".into() },
            "forged \\x5bkernel]_\\x5bk]\\x3bx [jit]_[j]",
            FrameKind::Jit,
        ),
        (Place::Truncated, "[truncated]", FrameKind::Marker),
    ] {
        let got = symbols.frame(&place, true);
        assert_eq!((got.format().as_str(), got.kind), (frame, kind));
        assert_eq!(Frame::parse(frame), got);
    }
    assert_eq!(symbols.stats().files_unreadable, 3);
}

#[test]
fn ends_and_gaps_of_stacks_are_told() {
    let mut symbols = Symbolizer::new(None);
    let pi = file(1, "pi", &program("leaf"));
    let (jit, other) = (Place::Anonymous(1), Place::Anonymous(2));
    let stack = symbols.stack(&[place(&pi, 0x1000), jit, other, place(&pi, 0x1030), Place::Truncated]);
    assert_eq!(lines(&stack), ["[truncated]", "leaf [pi]", "[anon]+0x0", "main [pi]"]);
    assert_eq!(stack.quality(), Quality::TRUNCATED.with(Quality::UNSYMBOLIZED));
    assert_eq!(symbols.stack(&[]).frames().len(), 0);
    let stack = symbols.stack(&[place(&pi, 0x1000), place(&pi, 0x1030), Place::Root]);
    assert_eq!((lines(&stack), stack.quality()), (vec!["leaf [pi]", "main [pi]"], Quality::COMPLETE));
    let guessed = Place::Guessed { file: Arc::clone(&pi), offset: 0x1030 };
    let stack = symbols.stack(&[place(&pi, 0x1000), guessed, Place::Short]);
    assert_eq!(lines(&stack), ["[unwound short]", "leaf [pi]_[g]", "main [pi]"]);
    assert_eq!(stack.quality(), Quality::SHORT.with(Quality::GUESSED));
}

#[test]
fn the_same_stack_is_made_once() {
    let mut symbols = Symbolizer::new(None);
    let pi = file(1, "pi", &program("leaf"));
    let first = symbols.stack(&[place(&pi, 0x1025), Place::Anonymous(1)]);
    let again = symbols.stack(&[place(&pi, 0x1025), Place::Anonymous(2)]);
    assert!(Arc::ptr_eq(&first, &again));
    let another_way = symbols.stack(&[place(&pi, 0x1028), Place::Anonymous(3)]);
    assert!(Arc::ptr_eq(&first, &another_way), "another place of the same function");
    for end in [Place::Truncated, Place::Short, Place::Root] {
        let ended = symbols.stack(&[place(&pi, 0x1025), Place::Anonymous(1), end.clone()]);
        let same = symbols.stack(&[place(&pi, 0x1028), Place::Anonymous(2), end]);
        assert!(Arc::ptr_eq(&ended, &same) && !Arc::ptr_eq(&ended, &first), "{:?}", ended.quality());
    }
    let elsewhere = symbols.stack(&[place(&pi, 0x102a)]);
    assert!(Arc::ptr_eq(&first.frames()[2], &elsewhere.frames()[1]), "one text for a function's places");
}

#[test]
fn the_vdso_is_a_module() {
    let mut symbols = Symbolizer::new(None);
    let names: Vec<String> =
        (0..8192).step_by(16).map(|offset| symbols.frame(&Place::Vdso(offset), true).format()).collect();
    assert!(names.iter().any(|name| name.contains("clock_gettime [vdso]")), "{names:?}");
}

#[test]
fn names_outlive_the_file_and_the_agent() {
    let cache = tempfile::tempdir().unwrap();
    let stats = |symbols: &Symbolizer| {
        let SymbolStats { tables_built, tables_from_cache, .. } = symbols.stats();
        (tables_built, tables_from_cache)
    };
    for (round, counts) in [(1, (1, 0)), (2, (0, 1))] {
        let mut symbols = Symbolizer::new(Some(cache.path()));
        let pi = file(round, "pi", &program("leaf"));
        assert_eq!(symbols.frame(&place(&pi, 0x1020), true).format(), "leaf [pi]");
        assert!(pi.close());
        assert_eq!(symbols.frame(&place(&pi, 0x1000), true).format(), "main [pi]");
        assert_eq!(stats(&symbols), counts);
    }
}

#[test]
fn one_tenant_does_not_rename_anothers_frames_by_its_build_id() {
    let cache = tempfile::tempdir().unwrap();
    let mut symbols = Symbolizer::new(Some(cache.path()));
    let (theirs, ours) = (file(1, "pi", &program("evil")), file(2, "pi", &program("leaf")));
    assert_eq!(symbols.frame(&place(&theirs, 0x1020), true).format(), "evil [pi]");
    assert_eq!(symbols.frame(&place(&ours, 0x1020), true).format(), "leaf [pi]");
}

#[test]
fn a_hostile_symbol_is_no_kernel_frame() {
    let pi = file(1, "a]_[k];b", &program("x [kernel]_[k];\u{202e}"));
    let text = Symbolizer::new(None).frame(&place(&pi, 0x1020), true).format();
    assert_eq!(Frame::parse(&text).kind, FrameKind::Native);
    assert!(!text.contains([';', '\u{202e}']), "{text}");
}

#[test]
fn memory_stays_bounded_whatever_comes() {
    let cache = tempfile::tempdir().unwrap();
    let mut symbols = Symbolizer::new(Some(cache.path()));
    let name = "n".repeat(900);
    for id in 0..1200 {
        let hostile = file(id, &format!("{name}{id}"), &program(&format!("{name}{id}")));
        let places: Vec<Place> = (0..20).map(|n| place(&hostile, 0x1000 + n * 0x101 + id)).collect();
        symbols.stack(&places);
    }
    assert!(symbols.memory_bytes() < 28 << 20, "{}", symbols.memory_bytes());
    assert!(symbols.stats().tables_built == 1200);
}

proptest::proptest! {
    #[test]
    fn a_chain_is_named_as_its_places_are(
        chains in proptest::collection::vec(
            (proptest::collection::vec(0..0x70u64, 0..12), 0..4usize, 0..2usize, 0..16u8),
            1..40,
        ),
        kernel_is_readable: bool,
    ) {
        let kallsyms = if kernel_is_readable { "ffffffff81000000 T a\nffffffff81000020 T b\n" } else { "" };
        let symbolizer = || Symbolizer::with_kernel(None, KernelSymbols::parse(kallsyms.as_bytes()));
        let mapping = |start, what| Mapping { start, end: start + 0x10, file_offset: 0x1000 + start, what };
        let spaces = [0, 1].map(|id| {
            let code = Mapped::File(file(id, "/pi", &program(&format!("leaf{id}"))));
            let what = [code.clone(), Mapped::Vdso, code.clone(), Mapped::Anonymous, code];
            let sorted = (1..).map(|n| n * 0x10).zip(what).map(|(at, what)| mapping(at, what)).collect();
            Arc::new(AddressSpace::new(id + 1, sorted))
        });
        let mut symbols = symbolizer();
        for (mut addresses, in_kernel, space, choice) in chains {
            let in_kernel = in_kernel.min(addresses.len());
            addresses[..in_kernel].iter_mut().for_each(|address| *address |= 0xffff_ffff_8100_0000);
            // Words that a program writes to its stack: nearly an address that is known.
            addresses.iter_mut().take(usize::from(choice / 4)).for_each(|address| *address ^= 1 << 63);
            let chain = Chain::new(addresses, in_kernel, spaces[space].clone(), choice % 2 == 0);
            let named = symbols.stack_of(&chain);
            proptest::prop_assert!(Arc::ptr_eq(&named, &symbols.stack(&chain.places())), "{chain:?}");
            let known = [symbols.known_stack_of(&chain), symbols.known_stack(&chain.places())];
            for known in known.iter().flatten() {
                proptest::prop_assert!(Arc::ptr_eq(&named, known), "{chain:?}");
            }
            let afresh = symbolizer().stack(&chain.places());
            proptest::prop_assert_eq!((named.frames(), named.quality()), (afresh.frames(), afresh.quality()));
        }
    }
}

#[test]
fn what_is_at_hand_is_named_without_a_look_until_it_grows_old() {
    let mut symbols = Symbolizer::new(None);
    let what = Mapped::File(file(1, "/pi", &program("leaf")));
    let mapping = Mapping { start: 0x5000, end: 0x6000, file_offset: 0x1000, what };
    let space = Arc::new(AddressSpace::new(1, vec![mapping]));
    let chain = |addresses: &[u64]| Chain::new(addresses.to_vec(), 0, space.clone(), false);
    let first = chain(&[0x5000, 0x5028]);
    assert_eq!(symbols.known_stack_of(&first), None);
    assert_eq!(symbols.known_stack(&first.places()), None);
    let named = symbols.stack_of(&first);
    assert_eq!(lines(&named), ["[unwound short]", "leaf [pi]", "main [pi]"]);
    let looked_up = symbols.stats().looked_up;
    assert_eq!(symbols.known_stack(&first.places()).as_ref(), Some(&named));
    assert_eq!(symbols.known_stack_of(&first), Some(named));
    // The same two addresses, but the second ran itself; the first was a call.
    assert_eq!(symbols.known_stack_of(&chain(&[0x5028, 0x5000])), None);
    assert_eq!(symbols.stats().looked_up, looked_up);
    let grow_old = |symbols: &mut Symbolizer| (0..2).for_each(|_| symbols.age());
    for forget in [grow_old, |symbols: &mut Symbolizer| symbols.keep_less(true)] {
        symbols.stack_of(&first);
        symbols.age();
        assert!(symbols.known_stack_of(&first).is_some(), "it was asked for lately");
        forget(&mut symbols);
        assert_eq!(symbols.known_stack_of(&first), None);
    }
}
