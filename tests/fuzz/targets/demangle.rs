//! Any name has a bounded form, and that form is one frame.
#![no_main]

use fnscope::model::{Frame, FrameKind};
use fnscope::stack::demangle::demangle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &[u8]| {
    let plain = demangle(name);
    // 2 KiB and the mark of a cut, and a suffix of a C++ name that is no longer than a name.
    assert!(plain.len() <= 2048 + 3 + 4096, "{}", plain.len());
    let frame = Frame::symbol(&plain, "module", FrameKind::Native).format();
    assert_eq!(Frame::parse(&frame).kind, FrameKind::Native, "{frame:?}");
    assert!(!frame.contains([';', '\n']), "{frame:?} would be two frames");
});
