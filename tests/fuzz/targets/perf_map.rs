//! Any bytes in place of a perf map, in any pieces: what has a name is bounded, and so is the name.
#![no_main]

use fnscope::model::{Frame, FrameKind};
use fnscope::stack::PerfMap;
use fnscope::stack::perf_map::shown;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<Vec<u8>>, Vec<u64>)| {
    let (pieces, addresses) = input;
    let (mut whole, mut map) = (PerfMap::default(), PerfMap::default());
    whole.feed(&pieces.concat());
    for piece in &pieces {
        map.feed(piece);
    }
    assert_eq!((whole.len(), whole.skipped()), (map.len(), map.skipped()), "pieces make no difference");
    assert!(map.len() <= pieces.iter().map(Vec::len).sum::<usize>());
    // Addresses that the lines are likely to be about, and any others.
    let near = (0..64).map(|at| at * 7);
    for address in addresses.into_iter().chain(near) {
        let Some(name) = map.name(address) else { continue };
        assert_eq!(whole.name(address).as_deref(), Some(&*name));
        assert!(!name.is_empty() && name.len() <= 1024, "{name:?}");
        let frame = Frame::symbol(&name, "jit", FrameKind::Jit).format();
        assert_eq!(Frame::parse(&frame).kind, FrameKind::Jit, "{frame:?}");
    }
    for piece in &pieces {
        let _ = shown(&String::from_utf8_lossy(piece));
    }
});
