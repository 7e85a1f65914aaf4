//! Any bytes in place of a perf map, whole and in pieces as long as the first byte says: what has a name is bounded, and
//! so is the name.
#![no_main]

use fnscope::model::{Frame, FrameKind};
use fnscope::stack::PerfMap;
use fnscope::stack::perf_map::shown;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, text)) = bytes.split_first() else { return };
    let (mut whole, mut map) = (PerfMap::default(), PerfMap::default());
    whole.feed(text);
    for piece in text.chunks(usize::from(*piece).max(1)) {
        map.feed(piece);
    }
    assert_eq!((whole.len(), whole.skipped()), (map.len(), map.skipped()), "pieces make no difference");
    assert!(map.len() <= text.len());
    let lines = String::from_utf8_lossy(text);
    for line in lines.lines() {
        let start = line.split_ascii_whitespace().next().unwrap_or_default();
        let Ok(address) = u64::from_str_radix(start.trim_start_matches("0x"), 16) else { continue };
        let _ = shown(line);
        let Some(name) = map.name(address) else { continue };
        assert_eq!(whole.name(address).as_deref(), Some(&*name));
        assert!(!name.is_empty() && name.len() <= 1024, "{name:?}");
        let frame = Frame::symbol(&name, "jit", FrameKind::Jit).format();
        assert_eq!(Frame::parse(&frame).kind, FrameKind::Jit, "{frame:?}");
    }
});
